//! Examples, to be read in order. There are none yet but the one of the page below, which is run as a test.
#![doc = ""]
#![doc = include_str!("../../README.md")]
