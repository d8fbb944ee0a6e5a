//! See `millstream_fuzz::x402`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_fuzz::{read_examples, x402};

fuzz_target!(init: read_examples("x402", x402::check), |data: &[u8]| {
    x402::check(data);
});
