//! See `millstream_fuzz::meter`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_fuzz::{meter, read_examples};

fuzz_target!(init: read_examples("meter", meter::check), |data: &[u8]| {
    meter::check(data);
});
