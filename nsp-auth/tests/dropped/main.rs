//! Every public future of users and of their authority, polled so many times and then dropped: a change was made wholly or not at all, what was
//! made is announced and written down although nobody waits for it, and what was asked is answered the next time.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod asking;
mod changing;
#[path = "../../../nossock/tests/common/dropping.rs"]
mod dropping;

use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use nsp::authority::Origin;
use nsp_auth::Authority;
use nsp_auth::authority::Builder;
use nsp_auth::password::Cost;
use nsp_auth::user::Username;
use tracing_subscriber::fmt::MakeWriter;

use dropping::Covered;

const PASSWORD: &str = "correct horse battery";

const NOBODY: Origin = Origin { address: None };

/// Hashes that cost next to nothing.
fn builder() -> Builder {
    Authority::builder().cost(Cost { memory_kib: 8, passes: 1 })
}

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

/// What is written down, of all tests of this program: each looks for users of its own.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

static WRITTEN: LazyLock<Written> = LazyLock::new(|| {
    let written = Written::default();
    let info = tracing_subscriber::fmt().with_writer(written.clone()).with_ansi(false).finish();
    tracing::subscriber::set_global_default(info).unwrap();
    written
});

impl Written {
    /// How many lines have all of these in them.
    fn count(&self, parts: &[&str]) -> usize {
        let text = self.0.lock().unwrap();
        let text = std::str::from_utf8(&text).unwrap();
        text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Written {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

const CHANGES: &str = "changes_that_are_dropped_are_made_wholly_or_not_at_all_and_written_down";
const ASKED: &str = "questions_that_are_dropped_are_answered_the_next_time";
const STORE: &str = "futures_of_a_store_that_are_dropped_leave_it_as_it_was";

const COVERED: &[Covered] = &[
    ("authority::Authority::close", "opening_and_closing_that_are_dropped_leave_the_file_free"),
    ("authority::Authority::explain", ASKED),
    ("authority::Authority::judge_password", ASKED),
    ("authority::Authority::judge_token", ASKED),
    ("authority::Authority::open", "opening_and_closing_that_are_dropped_leave_the_file_free"),
    ("authority::Authority::permits", ASKED),
    ("authority::Authority::privilege", ASKED),
    ("authority::Authority::reload_policy", "policy_that_is_read_again_is_written_down_though_nobody_waits"),
    ("authority::Authority::sign_in", CHANGES),
    ("authority::builder::Builder::open", "opening_and_closing_that_are_dropped_leave_the_file_free"),
    ("authority::builder::Builder::open_store", "opening_and_closing_that_are_dropped_leave_the_file_free"),
    ("import::Users::import", "import_that_is_dropped_has_imported_everybody_or_nobody"),
    ("store::memory::Memory::account", STORE),
    ("store::memory::Memory::change", STORE),
    ("store::memory::Memory::close", STORE),
    ("store::memory::Memory::counted", STORE),
    ("store::memory::Memory::search", STORE),
    ("store::memory::Memory::token", STORE),
    ("store::memory::Memory::tokens", STORE),
    ("store::sqlite::Sqlite::account", STORE),
    ("store::sqlite::Sqlite::change", STORE),
    ("store::sqlite::Sqlite::close", STORE),
    ("store::sqlite::Sqlite::counted", STORE),
    ("store::sqlite::Sqlite::open", STORE),
    ("store::sqlite::Sqlite::search", STORE),
    ("store::sqlite::Sqlite::token", STORE),
    ("store::sqlite::Sqlite::tokens", STORE),
    ("users::Users::create", CHANGES),
    ("users::Users::delete", CHANGES),
    ("users::Users::find", ASKED),
    ("users::Users::first_admin", "first_admin_that_nobody_waited_for_can_be_helped"),
    ("users::Users::issue_token", CHANGES),
    ("users::Users::lock", CHANGES),
    ("users::Users::rename", CHANGES),
    ("users::Users::reset_password", CHANGES),
    ("users::Users::revoke_token", CHANGES),
    ("users::Users::revoke_tokens", CHANGES),
    ("users::Users::search", ASKED),
    ("users::Users::set_names", CHANGES),
    ("users::Users::set_password", CHANGES),
    ("users::Users::set_privilege", CHANGES),
    ("users::Users::set_profile", CHANGES),
    ("users::Users::set_roles", CHANGES),
    ("users::Users::tokens", ASKED),
    ("users::Users::unlock", CHANGES),
];

#[test]
fn no_public_future_is_left_out() {
    let files = [include_str!("changing.rs"), include_str!("asking.rs")];
    dropping::assert_all_are_dropped(env!("CARGO_MANIFEST_DIR"), COVERED, &files);
}
