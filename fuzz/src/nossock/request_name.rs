//! The name of a frame: taken apart it has no part too many, and put together it is the same.

use nossock::session::RequestName;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let again = match RequestName::parse(text) {
        Some(RequestName::Request { name, id }) => check(name, id, "req"),
        Some(RequestName::Answer { name, id }) => check(name, id, "resp"),
        None => {
            let prefixed = text.strip_prefix("req:").or_else(|| text.strip_prefix("resp:"));
            let parts = prefixed.and_then(|rest| rest.rsplit_once(':'));
            assert!(!parts.is_some_and(|(name, id)| !name.is_empty() && is_id(id)), "{text:?}");
            return;
        }
    };
    assert_eq!(again, text);
}

fn check(name: &str, id: &str, prefix: &str) -> String {
    assert!(!name.is_empty() && is_id(id));
    format!("{prefix}:{name}:{id}")
}

/// `[A-Za-z0-9_-]+`
fn is_id(id: &str) -> bool {
    !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}
