//! The seeds of the fuzz target `auth_policy`, and texts that nobody chose, on whatever toolchain there is. Those of `auth_psk` are read
//! by the unit tests of `psk`.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "../../nossock/tests/common/seeds.rs"]
mod seeds;
#[path = "../../fuzz/src/auth/mod.rs"]
mod targets;

use proptest::prelude::*;

#[test]
fn every_seed_passes_its_target() {
    seeds::pass(&[("auth_policy", targets::policy::run)]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Pieces of policies in any order: most are refused, and some are read.
    #[test]
    fn any_pieces_are_read_or_refused_in_words(language in 0..2_u8, pieces in proptest::collection::vec(piece(), 0..12)) {
        targets::policy::run(&[&[language], pieces.concat().as_bytes()].concat());
    }
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => proptest::sample::select(&[
            "[roles.user]\n", "[roles.b]\n", "inherits = \"user\"\n", "inherits = [\"b\"]\n", "[users]\n", "a = \"b\"\n",
            "grants = [{ may = \"*\", on = \"*\" }]\n", "denies = [{ may = \"read\", on = \"A*\" }]\n", "[functions.A]\n",
            "\"f*\" = \"update:own\"\n", "{\"roles\":", "{\"user\":", "{\"grants\":", "[{\"may\":\"*\",\"on\":\"*\"}", "]", "}", ",",
            "\0a\0A\0f", "\n",
        ][..]).prop_map(str::to_owned),
        1 => ".{0,9}",
    ]
}
