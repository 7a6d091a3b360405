//! What a stream or the retry schedule holds, as a delivery.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weft::fuzz::entry(bytes));
