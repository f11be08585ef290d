#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_response_cache::fuzzing;

fuzz_target!(|data: &[u8]| fuzzing::exchanges(data));
