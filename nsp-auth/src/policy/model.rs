use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::attributes::Attributes;
use super::pattern::Pattern;
use super::verb::{Kind, Verbs};

/// Who may do what: roles, what they grant and deny, and who has them.
///
/// A value that does not change; see [`decide`](super::decide) for what follows from it, and the [module](super) for how it is
/// written.
#[derive(Debug, Default)]
pub struct Policy {
    pub(super) roles: Vec<Role>,
    pub(super) role_ids: HashMap<Box<str>, usize>,
    pub(super) users: HashMap<Box<str>, Vec<usize>>,
    pub(super) services: HashMap<Box<str>, Vec<usize>>,
    pub(super) rules: Vec<Rule>,
    /// Rules by the one service that they are about.
    pub(super) by_service: HashMap<Box<str>, Vec<usize>>,
    /// Rules about services with a `*`.
    pub(super) by_pattern: Vec<usize>,
    pub(super) kinds: Kinds,
}

impl Policy {
    /// Whether it has a role `superuser`. Without one, superusers may what every user may and no more, secure functions included: usually
    /// somebody has forgotten it, so it is said in the log when such a policy is put in place.
    #[must_use]
    pub fn names_superusers(&self) -> bool {
        self.role_ids.contains_key("superuser")
    }
}

#[derive(Debug)]
pub(super) struct Role {
    pub(super) name: Box<str>,
    /// The role itself and all that it inherits from.
    pub(super) closure: RoleSet,
}

/// A grant or a denial.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) role: usize,
    pub(super) effect: Effect,
    /// Which of its role's grants, or denials, from 0.
    pub(super) index: usize,
    pub(super) line: usize,
    pub(super) verbs: Verbs,
    pub(super) services: Vec<Pattern>,
    pub(super) functions: Vec<Pattern>,
    pub(super) shows: Option<Arc<Attributes>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Grant,
    Deny,
}

/// Roles, as bits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RoleSet(Vec<u64>);

impl RoleSet {
    pub(super) fn add(&mut self, role: usize) {
        let word = role / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << (role % 64);
        }
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    pub(super) fn has(&self, role: usize) -> bool {
        self.0.get(role / 64).is_some_and(|word| word & (1 << (role % 64)) != 0)
    }
}

/// What functions do, as far as somebody has said it.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    exact: HashMap<Box<str>, HashMap<Box<str>, Kind>>,
    /// The ones with more to say first.
    patterns: Vec<(Pattern, Pattern, Kind)>,
}

impl Kinds {
    pub(super) fn add(&mut self, service: Pattern, function: Pattern, kind: Kind) {
        if service.is_literal() && function.is_literal() {
            self.exact.entry(service.as_str().into()).or_default().insert(function.as_str().into(), kind);
        } else {
            self.patterns.push((service, function, kind));
        }
    }

    /// Puts the patterns in order: a service without `*` before one with it, then the function, then the one of more letters.
    pub(super) fn sort(&mut self) {
        self.patterns.sort_by_key(|(service, function, _)| {
            let order = (service.is_literal(), function.is_literal(), service.weight() + function.weight());
            (
                std::cmp::Reverse(order),
                Box::<str>::from(service.as_str()),
                Box::<str>::from(function.as_str()),
            )
        });
    }

    pub(super) fn of(&self, service: &str, function: &str) -> Kind {
        if let Some(kind) = self.exact.get(service).and_then(|functions| functions.get(function)) {
            return *kind;
        }
        let matching = |(s, f, _): &&(Pattern, Pattern, Kind)| s.matches(service) && f.matches(function);
        self.patterns.iter().find(matching).map_or(Kind::UNKNOWN, |(.., kind)| *kind)
    }
}

impl Policy {
    /// How many grants and denials it has.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// Puts the rules where they are found.
    pub(super) fn index(&mut self) {
        for (id, rule) in self.rules.iter().enumerate() {
            if rule.services.iter().all(Pattern::is_literal) {
                for service in &rule.services {
                    self.by_service.entry(service.as_str().into()).or_default().push(id);
                }
            } else {
                self.by_pattern.push(id);
            }
        }
    }

    /// The rules that may be about this service, each with its number.
    pub(super) fn rules_about(&self, service: &str) -> impl Iterator<Item = (usize, &Rule)> {
        let own = self.by_service.get(service).map_or(&[][..], Vec::as_slice);
        own.iter().chain(&self.by_pattern).filter_map(|id| Some((*id, self.rules.get(*id)?)))
    }
}

impl Rule {
    pub(super) fn is_about(&self, service: &str) -> bool {
        self.services.iter().any(|pattern| pattern.matches(service))
    }

    pub(super) fn names(&self, function: &str) -> bool {
        self.functions.iter().any(|pattern| pattern.matches(function))
    }
}

/// `read:any on Notes, functions list*, get`
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on ", self.verbs)?;
        list(f, &self.services)?;
        if !self.functions.iter().any(|pattern| pattern.as_str() == "*") {
            f.write_str(", functions ")?;
            list(f, &self.functions)?;
        }
        Ok(())
    }
}

fn list(f: &mut fmt::Formatter<'_>, patterns: &[Pattern]) -> fmt::Result {
    for (n, pattern) in patterns.iter().enumerate() {
        write!(f, "{}{pattern}", if n == 0 { "" } else { ", " })?;
    }
    Ok(())
}
