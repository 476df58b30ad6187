#![no_main]

#[path = "../bridge_checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::h2_bridge(input));
