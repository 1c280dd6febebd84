#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nsp_auth::psk::hostile::run(data));
