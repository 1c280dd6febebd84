use std::fmt;

use nsp::authority::{Access, Action, Permission};
use serde::Serialize;

use super::decide::{Actor, Decision, Request, Subject, decide, roles_of};
use super::model::{Effect, Policy};
use super::verb::Verb;

/// Why somebody may do something, or may not.
///
/// `Display` says it in a sentence or two, `Serialize` for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// Who wants it: a user, `service NAME`, or `anonymous`.
    pub subject: String,
    /// The roles that they have, with all that those inherit.
    pub roles: Vec<String>,
    /// `open`, `call` or `send`.
    pub action: &'static str,
    /// Of which service.
    pub service: String,
    /// The function or event, where there is one.
    pub name: Option<String>,
    /// What it counts as; opening counts as nothing.
    pub verb: Option<Verb>,
    /// Whether it concerns what is their own.
    pub own: bool,
    /// Whether they may.
    pub granted: bool,
    /// The rule that decided.
    pub rule: Option<DecidingRule>,
    /// Lists of what they see of the answer, of which one has to show it; without any, all of it.
    pub shows: Vec<Vec<String>>,
    /// It would be granted if it concerned what is their own.
    pub granted_for_own: bool,
}

/// A rule, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DecidingRule {
    /// The role that it belongs to.
    pub role: String,
    /// `grants[0]`, `denies[3]`
    pub field: String,
    /// In which line of the policy, from 1.
    pub line: usize,
    /// What it is about.
    pub text: String,
}

/// Says why a policy decides as it does.
#[must_use]
pub fn explain(policy: &Policy, subject: &Subject<'_>, access: &Access<'_>) -> Explanation {
    let Decision { permission, rule } = decide(policy, subject, access);
    let request = Request::of(policy, subject.actor, access);
    let roles = roles_of(policy, subject);
    let names = policy.roles.iter().enumerate().filter(|(id, _)| roles.has(*id));
    let granted = matches!(permission, Permission::Granted { .. });
    // The lists of all grants, by which it was decided.
    let mut shows = Vec::new();
    let mut whole = false;
    let mut granted_for_own = false;
    for (_, rule) in policy.rules_about(request.service) {
        if rule.effect != Effect::Grant || !roles.has(rule.role) || !rule.is_about(request.service) {
            continue;
        }
        let named = request.opens || rule.names(request.function);
        if named && (request.opens || rule.verbs.covers(request.verb, request.own)) {
            match &rule.shows {
                Some(list) => shows.extend(list.texts()),
                None => whole = true,
            }
        }
        granted_for_own |= named && rule.verbs.covers_own(request.verb);
    }
    Explanation {
        subject: match subject.actor {
            Actor::Anonymous => "anonymous".to_owned(),
            Actor::User(name) => name.to_owned(),
            Actor::Service(name) => format!("service {name}"),
        },
        roles: names.map(|(_, role)| role.name.clone().into()).collect(),
        action: match access.action {
            Action::Open => "open",
            Action::Send => "send",
            _ => "call",
        },
        service: access.service.to_owned(),
        name: access.name.map(str::to_owned),
        verb: (!request.opens).then_some(request.verb),
        own: request.own,
        granted,
        rule: rule.and_then(|id| {
            let rule = policy.rules.get(id.0)?;
            let list = if rule.effect == Effect::Grant { "grants" } else { "denies" };
            Some(DecidingRule {
                role: policy.roles.get(rule.role)?.name.clone().into(),
                field: format!("{list}[{}]", rule.index),
                line: rule.line,
                text: rule.to_string(),
            })
        }),
        shows: if whole || !granted { Vec::new() } else { shows },
        granted_for_own: !granted
            && rule.is_none()
            && !request.opens
            && matches!(subject.actor, Actor::User(_))
            && granted_for_own,
    }
}

/// `alice may call Notes.list: it counts as read, and the role reader grants read:any on Notes (grants[0], line 12)`
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let may = if self.granted { "may" } else { "may not" };
        let action = if self.action == "send" { "send to" } else { self.action };
        write!(f, "{} {may} {action} {}", self.subject.escape_debug(), self.service.escape_debug())?;
        if let Some(name) = &self.name {
            write!(f, ".{}", name.escape_debug())?;
        }
        f.write_str(": ")?;
        if let Some(verb) = self.verb {
            write!(f, "it counts as {verb}{}, and ", if self.own { " of their own" } else { "" })?;
        }
        match &self.rule {
            Some(DecidingRule { role, field, line, text }) => {
                let does = if self.granted { "grants" } else { "denies" };
                write!(f, "the role {} {does} {text} ({field}, line {line})", role.escape_debug())?;
            }
            None if self.roles.is_empty() => f.write_str("they have no role")?,
            None => write!(f, "none of their roles grants it ({})", self.roles.join(", ").escape_debug())?,
        }
        if self.granted_for_own {
            f.write_str("; on what is their own it would be granted")?;
        }
        for (n, list) in self.shows.iter().enumerate() {
            write!(
                f,
                "{}{}",
                if n == 0 { "; of the answer they see " } else { ", and " },
                list.join(", ").escape_debug()
            )?;
        }
        Ok(())
    }
}
