//! What a WASI program prints, as its answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weft::fuzz::answer(bytes));
