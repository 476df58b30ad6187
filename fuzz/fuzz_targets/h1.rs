#![no_main]

#[path = "../codec_checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::h1(input));
