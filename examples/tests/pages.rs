//! The pages that show examples: their commands are typed, and what they print is what the page says.

use tests::has_terminal;
use tests::page::Typist;

#[test]
fn daemon_and_client_print_what_the_page_of_nsp_says() {
    if has_terminal() {
        // All examples lie beside each other.
        let mut typist = Typist::new(env!("CARGO_BIN_EXE_08_nsp_daemon"), &[]);
        assert_eq!(typist.type_page("nsp/README.md"), 2);
    }
}
