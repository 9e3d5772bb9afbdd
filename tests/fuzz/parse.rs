//! Feeds a parser, the one that the target is named after, whatever the fuzzer thinks of.
//!
//! A panic, a leap in memory (`-malloc_limit_mb`) or a message that is no single line is a finding;
//! `tests/it/parsers.rs` holds the parsers to closer bounds on fewer files.

#![no_main]

use smash_engine::parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let name = env!("CARGO_BIN_NAME");
    let parser = parsers::find(name).unwrap_or_else(|| panic!("no parser is called {name}"));
    if let Err(error) = (parser.check)(bytes) {
        let message = error.to_string();
        assert!(matches!(error.exit_code(), 2 | 3 | 5), "not the fault of a file: {message:?}");
        assert!(!message.contains(char::is_control), "{message:?}");
    }
});
