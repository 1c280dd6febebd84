#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nossock_fuzz::nsp::carrier::run(data));
