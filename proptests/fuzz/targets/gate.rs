//! See `millstream_fuzz::gate`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_fuzz::{gate, read_examples};

fuzz_target!(init: read_examples("gate", gate::check), |data: &[u8]| {
    gate::check(data);
});
