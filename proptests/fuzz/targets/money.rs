//! See `millstream_fuzz::money`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_fuzz::{money, read_examples};

fuzz_target!(init: read_examples("money", money::check), |data: &[u8]| {
    money::check(data);
});
