//! The pages with commands of the two programs, typed as they are printed there, in an empty home folder.

use tests::has_terminal;
use tests::page::Typist;

#[test]
fn tour_of_the_first_page_prints_what_it_says() {
    if has_terminal() {
        let mut typist = Typist::new(env!("CARGO_BIN_EXE_nsp"), &["examples", "LICENSE"]);
        assert!(typist.type_page("README.md") > 10);
    }
}

#[test]
fn first_ten_minutes_print_what_their_page_says() {
    if has_terminal() {
        let mut typist = Typist::new(env!("CARGO_BIN_EXE_nsp"), &["nsp-cli/examples", "LICENSE"]);
        assert!(typist.type_page("nsp-cli/README.md") > 20);
    }
}
