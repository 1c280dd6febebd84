//! A policy in TOML or JSON, and what it decides: it is read or refused in words, and deciding and explaining say the same.
//!
//! ```text
//! data = [language u8: odd is JSON] policy [0 user 0 service 0 function]
//! ```

use nsp::authority::{Access, Action};
use nsp_auth::policy::{Policy, PolicyError, Subject, decide, explain};

pub fn run(data: &[u8]) {
    let Some((language, rest)) = data.split_first() else { return };
    let parts: Option<Vec<&str>> =
        rest.split(|byte| *byte == 0).map(|part| std::str::from_utf8(part).ok()).collect();
    let Some(parts) = parts else { return };
    let part = |at: usize| parts.get(at).copied().unwrap_or_default();
    let text = part(0);
    let read = if language % 2 == 1 { Policy::from_json(text) } else { Policy::from_toml(text) };
    let policy = match read {
        Ok(policy) => policy,
        Err(error) => {
            let says = error.to_string();
            assert!(!says.contains(char::is_control), "{says:?}");
            let PolicyError::Invalid { line, .. } = error else { panic!("{says}: there was no file") };
            assert!((1..=text.split('\n').count()).contains(&line), "{says}");
            return;
        }
    };
    let (service, function) = (part(2), part(3));
    for user in [None, Some(part(1))] {
        for action in [Action::Open, Action::Call, Action::Send] {
            let access = Access::new(user, action, service).name(function);
            let nobody = Subject::of(&access, &[]);
            let decision = decide(&policy, &nobody, &access);
            assert_eq!(decision.is_granted(), explain(&policy, &nobody, &access).granted, "{access:?}");
            // A role that the policy does not know grants nothing.
            let stranger = Subject::of(&access, &["a role\nof nobody"]);
            assert_eq!(decide(&policy, &stranger, &access).is_granted(), decision.is_granted());
            if policy.rule_count() == 0 {
                assert!(!decision.is_granted(), "what nothing grants is denied");
            }
        }
    }
}
