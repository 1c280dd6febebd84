use std::sync::Arc;

use nsp::authority::{Access, Action, Permission, Shows};

use super::attributes::{AttributeList, Attributes};
use super::model::{Effect, Policy, RoleSet, Rule};
use super::verb::{Kind, Verb};

/// The function by which patterns know the data that is sent to a service.
pub const SEND: &str = "@send";

/// The function by which patterns know the opening of a service.
pub const OPEN: &str = "@open";

/// Who wants something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subject<'a> {
    /// Who it is.
    pub actor: Actor<'a>,
    /// Roles that they have beside those in the policy, from a store of users for one. Roles that the policy does not know grant
    /// nothing.
    pub roles: &'a [&'a str],
}

/// A user, a service, or nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is nobody else")]
pub enum Actor<'a> {
    /// Nobody was proved: the role `anonymous`.
    Anonymous,
    /// A user that was proved: the role `user`, and those that the policy gives.
    User(&'a str),
    /// A service of this daemon, which the daemon has seen to be that: the roles that the policy gives, and no other.
    Service(&'a str),
}

impl<'a> Subject<'a> {
    /// The user of an access, the service that calls, or nobody; with these roles too.
    #[must_use]
    pub const fn of(access: &Access<'a>, roles: &'a [&'a str]) -> Self {
        let actor = match (access.user, access.calling_service) {
            (Some(user), _) => Actor::User(user),
            (None, Some(service)) => Actor::Service(service),
            (None, None) => Actor::Anonymous,
        };
        Self { actor, roles }
    }

    /// A service of this daemon.
    #[must_use]
    pub const fn service(name: &'a str) -> Self {
        Self { actor: Actor::Service(name), roles: &[] }
    }
}

/// What a policy says to an access.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Decision {
    /// Whether it may be.
    pub permission: Permission,
    /// The rule that decided; without one, nothing grants it.
    pub rule: Option<RuleId>,
}

/// A grant or a denial of one policy, by its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleId(pub(super) usize);

impl Decision {
    /// Whether it may be.
    #[must_use]
    pub const fn is_granted(&self) -> bool {
        matches!(self.permission, Permission::Granted { .. })
    }
}

/// An access in the words of policies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) verb: Verb,
    pub(super) service: &'a str,
    pub(super) function: &'a str,
    /// It concerns what is the subject's own.
    pub(super) own: bool,
    /// It is no more than opening.
    pub(super) opens: bool,
}

impl<'a> Request<'a> {
    pub(super) fn of(policy: &Policy, actor: Actor<'_>, access: &Access<'a>) -> Self {
        let (function, opens) = match access.action {
            Action::Open => (OPEN, true),
            Action::Send => (access.name.unwrap_or(SEND), false),
            // A call without a name is that of a function whose name is empty; what is unknown is no less.
            _ => (access.name.unwrap_or_default(), false),
        };
        let kind = policy.kinds.of(access.service, function);
        Self {
            verb: if opens { Verb::Read } else { kind.verb },
            service: access.service,
            function,
            own: is_own(actor, access.owner, kind),
            opens,
        }
    }
}

/// What a service has said of the owner counts before what the policy says of the function.
pub(super) fn is_own(actor: Actor<'_>, owner: Option<&str>, kind: Kind) -> bool {
    match (actor, owner) {
        (Actor::User(user), Some(owner)) => user == owner,
        (Actor::User(_), None) => kind.own,
        _ => false,
    }
}

/// The roles of a subject, with all that they inherit.
pub(super) fn roles_of(policy: &Policy, subject: &Subject<'_>) -> RoleSet {
    let (assigned, standing) = match subject.actor {
        Actor::Anonymous => (None, Some("anonymous")),
        Actor::User(user) => (policy.users.get(user), Some("user")),
        Actor::Service(service) => (policy.services.get(service), None),
    };
    let named = subject.roles.iter().copied().chain(standing);
    let named = named.filter_map(|name| policy.role_ids.get(name).copied());
    let mut roles = RoleSet::default();
    for id in assigned.into_iter().flatten().copied().chain(named) {
        if let Some(role) = policy.roles.get(id) {
            roles.add_all(&role.closure);
        }
    }
    roles
}

/// Whether a subject may do something, and by which rule. Depends on nothing but its arguments.
///
/// The first denial that applies decides; without one, the first grant. What several grants show of an answer adds up.
#[must_use]
pub fn decide(policy: &Policy, subject: &Subject<'_>, access: &Access<'_>) -> Decision {
    let request = Request::of(policy, subject.actor, access);
    let roles = roles_of(policy, subject);
    let mut granted: Option<usize> = None;
    let mut denied: Option<usize> = None;
    let mut shown = Shown::default();
    for (id, rule) in policy.rules_about(request.service) {
        if !roles.has(rule.role) || !applies(rule, &request) {
            continue;
        }
        let first = match rule.effect {
            Effect::Deny => &mut denied,
            Effect::Grant => {
                shown.add(rule);
                &mut granted
            }
        };
        // Rules about one service come before those about several; the first is the first in the policy.
        *first = Some(first.map_or(id, |first| first.min(id)));
    }
    let permission = match (denied, granted) {
        (None, Some(_)) => Permission::Granted { shows: shown.into_shows() },
        _ => Permission::Denied,
    };
    Decision { permission, rule: denied.or(granted).map(RuleId) }
}

fn applies(rule: &Rule, request: &Request<'_>) -> bool {
    if !rule.is_about(request.service) {
        return false;
    }
    match (request.opens, rule.effect) {
        // Whoever may do anything there may open it. What they may do there is asked again when they do it.
        (true, Effect::Grant) => true,
        (true, Effect::Deny) => rule.verbs.is_everything() && rule.names(OPEN),
        (false, _) => rule.verbs.covers(request.verb, request.own) && rule.names(request.function),
    }
}

/// What the grants together show.
#[derive(Default)]
struct Shown<'p> {
    all: bool,
    lists: Vec<&'p Arc<Attributes>>,
}

impl<'p> Shown<'p> {
    fn add(&mut self, rule: &'p Rule) {
        match &rule.shows {
            None => self.all = true,
            Some(shows) => self.lists.push(shows),
        }
    }

    fn into_shows(self) -> Option<Arc<dyn Shows>> {
        match &*self.lists {
            _ if self.all => None,
            [] => None,
            [only] => Some(Arc::<Attributes>::clone(only)),
            several => {
                let lists: Vec<Arc<AttributeList>> =
                    several.iter().flat_map(|shows| shows.lists()).cloned().collect();
                Some(Arc::new(Attributes::new(lists)))
            }
        }
    }
}
