//! What a producer wrote, as an event.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weft::fuzz::event(bytes));
