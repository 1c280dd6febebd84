mod decisions;
mod loading;
mod oracle;
mod swapping;

use nsp::authority::{Access, Action};

use super::*;

/// The example of the documentation.
fn documented() -> String {
    let lines = include_str!("../mod.rs").lines().skip_while(|line| *line != "//! ```toml").skip(1);
    let lines = lines.take_while(|line| *line != "//! ```");
    lines.map(|line| format!("{}\n", line.trim_start_matches("//!").trim_start())).collect()
}

fn call<'a>(user: Option<&'a str>, service: &'a str, name: &'a str) -> Access<'a> {
    Access::new(user, Action::Call, service).name(name)
}

fn granted(policy: &Policy, access: &Access<'_>) -> bool {
    decide(policy, &Subject::of(access, &[]), access).is_granted()
}
