#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nossock_fuzz::auth::policy::run(data));
