//! See `millstream_fuzz::mpp`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_fuzz::{mpp, read_examples};

fuzz_target!(init: read_examples("mpp", mpp::check), |data: &[u8]| {
    mpp::check(data);
});
