//! From a tree to a [`Policy`], with errors that name the line and the field.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use super::attributes::{AttributeList, Attributes};
use super::error::PolicyError;
use super::model::{Effect, Policy, Role, RoleSet, Rule};
use super::pattern::Pattern;
use super::tree::{self, Node, Value};
use super::verb::{Kind, Verbs};

/// Bytes of a policy: about 10,000 rules, and no more than a mistake of the operator may cost.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

/// Roles of a policy.
const MAX_ROLES: usize = 1024;

type Result<T> = std::result::Result<T, PolicyError>;

impl Policy {
    /// Reads a policy that is written in TOML.
    ///
    /// # Errors
    /// When it is not TOML or no policy; the error names the line and the field.
    pub fn from_toml(text: &str) -> Result<Self> {
        check_size(text)?;
        Reader::default().read(&tree::from_toml(text)?)
    }

    /// Reads a policy that is written in JSON.
    ///
    /// # Errors
    /// When it is not JSON or no policy; the error names the line and the field.
    pub fn from_json(text: &str) -> Result<Self> {
        check_size(text)?;
        Reader::default().read(&tree::from_json(text)?)
    }
}

/// Reads TOML.
impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self> {
        Self::from_toml(text)
    }
}

fn check_size(text: &str) -> Result<()> {
    if text.len() <= MAX_BYTES {
        return Ok(());
    }
    Err(PolicyError::invalid(
        1,
        "",
        format!("a policy has at most {MAX_BYTES} bytes, this has {}", text.len()),
    ))
}

/// What is read already.
#[derive(Default)]
struct Reader {
    policy: Policy,
    /// For each role, from which it inherits: the number, the line, and the name as it is written.
    parents: Vec<Vec<usize>>,
    lines: Vec<usize>,
}

impl Reader {
    fn read(mut self, root: &Node) -> Result<Policy> {
        let [roles, users, services, functions] =
            fields(root, "", ["roles", "users", "services", "functions"])?;
        if let Some(roles) = roles {
            self.roles(roles)?;
        }
        self.inherit()?;
        self.policy.users = match users {
            Some(users) => self.members(users, "users", check_user)?,
            None => HashMap::new(),
        };
        self.policy.services = match services {
            Some(services) => self.members(services, "services", |_| Ok(()))?,
            None => HashMap::new(),
        };
        if let Some(functions) = functions {
            self.functions(functions)?;
        }
        self.policy.index();
        Ok(self.policy)
    }

    fn roles(&mut self, node: &Node) -> Result<()> {
        let roles = table(node, "roles")?;
        if roles.len() > MAX_ROLES {
            return Err(PolicyError::invalid(node.line, "roles", format!("there are more than {MAX_ROLES}")));
        }
        // All names first: roles may inherit from later ones.
        for (name, role) in roles {
            self.policy.role_ids.insert(name.as_str().into(), self.policy.roles.len());
            self.policy.roles.push(Role { name: name.as_str().into(), closure: RoleSet::default() });
            self.lines.push(role.line);
        }
        for (id, (name, role)) in roles.iter().enumerate() {
            let field = format!("roles.{name}");
            let [inherits, grants, denies] = fields(role, &field, ["inherits", "grants", "denies"])?;
            let parents = match inherits {
                Some(node) => self.role_list(node, &format!("{field}.inherits"))?,
                None => Vec::new(),
            };
            self.parents.push(parents);
            for (key, node, effect) in [("grants", grants, Effect::Grant), ("denies", denies, Effect::Deny)] {
                let Some(node) = node else { continue };
                let field = format!("{field}.{key}");
                for (index, rule) in list(node, &field)?.iter().enumerate() {
                    let rule = self::rule(rule, &format!("{field}[{index}]"), id, effect, index)?;
                    self.policy.rules.push(rule);
                }
            }
        }
        Ok(())
    }

    /// Gives every role all that it inherits, and refuses circles.
    fn inherit(&mut self) -> Result<()> {
        /// How far a role is.
        #[derive(Clone, Copy, PartialEq)]
        enum State {
            New,
            /// On the path that is being followed.
            Open,
            Done,
        }
        let count = self.policy.roles.len();
        let mut states = vec![State::New; count];
        let mut closures = vec![RoleSet::default(); count];
        for start in 0..count {
            // A path from `start`; each role with how many of its parents were seen.
            let mut path = vec![(start, 0)];
            while let Some((role, seen)) = path.last_mut() {
                let role = *role;
                let parent = self.parents.get(role).and_then(|parents| parents.get(*seen)).copied();
                *seen += 1;
                match (state(&states, role), parent) {
                    (State::Done, _) => {
                        path.pop();
                    }
                    (_, Some(parent)) => {
                        set(&mut states, role, State::Open);
                        match state(&states, parent) {
                            State::New => path.push((parent, 0)),
                            State::Open => return Err(self.circle(&path, parent)),
                            State::Done => {}
                        }
                    }
                    (_, None) => {
                        let mut closure = RoleSet::default();
                        closure.add(role);
                        for parent in self.parents.get(role).into_iter().flatten() {
                            if let Some(parent) = closures.get(*parent) {
                                closure.add_all(parent);
                            }
                        }
                        if let Some(place) = closures.get_mut(role) {
                            *place = closure;
                        }
                        set(&mut states, role, State::Done);
                        path.pop();
                    }
                }
            }
        }
        for (role, closure) in self.policy.roles.iter_mut().zip(closures) {
            role.closure = closure;
        }
        return Ok(());

        fn state(states: &[State], role: usize) -> State {
            states.get(role).copied().unwrap_or(State::Done)
        }

        fn set(states: &mut [State], role: usize, state: State) {
            if let Some(place) = states.get_mut(role) {
                *place = state;
            }
        }
    }

    fn circle(&self, path: &[(usize, usize)], back_to: usize) -> PolicyError {
        let name = |role: usize| self.policy.roles.get(role).map_or("", |role| &*role.name);
        let circle = path.iter().map(|(role, _)| *role).skip_while(|role| *role != back_to);
        let names: Vec<&str> = circle.chain([back_to]).map(name).collect();
        let line = self.lines.get(back_to).copied().unwrap_or(1);
        let what = format!("the role inherits from itself: {}", names.join(" → ").escape_debug());
        PolicyError::invalid(line, format!("roles.{}.inherits", name(back_to)), what)
    }

    /// Roles by their names.
    fn role_list(&self, node: &Node, field: &str) -> Result<Vec<usize>> {
        let id = |(name, line): (&str, usize)| {
            let unknown =
                || PolicyError::invalid(line, field, format!("there is no role `{}`", name.escape_debug()));
            self.policy.role_ids.get(name).copied().ok_or_else(unknown)
        };
        texts(node, field)?.into_iter().map(id).collect()
    }

    /// Who has which roles.
    fn members(
        &self,
        node: &Node,
        field: &str,
        check: fn(&str) -> std::result::Result<(), String>,
    ) -> Result<HashMap<Box<str>, Vec<usize>>> {
        let mut members = HashMap::new();
        for (name, roles) in table(node, field)? {
            let field = format!("{field}.{name}");
            check(name).map_err(|what| PolicyError::invalid(roles.line, field.as_str(), what))?;
            members.insert(name.as_str().into(), self.role_list(roles, &field)?);
        }
        Ok(members)
    }

    /// What functions do.
    fn functions(&mut self, node: &Node) -> Result<()> {
        for (service, functions) in table(node, "functions")? {
            let field = format!("functions.{service}");
            let wrong = |line, field: &str, what: String| PolicyError::invalid(line, field, what);
            let service = Pattern::new(service).map_err(|what| wrong(functions.line, &field, what))?;
            for (function, kind) in table(functions, &field)? {
                let field = format!("{field}.{function}");
                let function = Pattern::new(function).map_err(|what| wrong(kind.line, &field, what))?;
                let parsed = Kind::parse(text(kind, &field)?);
                let parsed = parsed.map_err(|what| wrong(kind.line, &field, what))?;
                self.policy.kinds.add(service.clone(), function, parsed);
            }
        }
        self.policy.kinds.sort();
        Ok(())
    }
}

fn check_user(name: &str) -> std::result::Result<(), String> {
    if name.chars().any(char::is_uppercase) {
        return Err("names of users are lower case, and this would be nobody".to_owned());
    }
    Ok(())
}

fn rule(node: &Node, field: &str, role: usize, effect: Effect, index: usize) -> Result<Rule> {
    let [may, on, functions, shows] = fields(node, field, ["may", "on", "functions", "shows"])?;
    let missing = |key: &str| PolicyError::invalid(node.line, field, format!("it has no `{key}`"));
    let mut verbs = Verbs::default();
    let place = format!("{field}.may");
    for (word, line) in some_texts(may.ok_or_else(|| missing("may"))?, &place)? {
        verbs.add(word).map_err(|what| PolicyError::invalid(line, place.as_str(), what))?;
    }
    let services = patterns(on.ok_or_else(|| missing("on"))?, &format!("{field}.on"))?;
    let functions = match functions {
        Some(functions) => patterns(functions, &format!("{field}.functions"))?,
        None => vec![Pattern::new("*").map_err(|what| PolicyError::invalid(node.line, field, what))?],
    };
    let shows = match (shows, effect) {
        (None, _) => None,
        (Some(shows), Effect::Deny) => {
            let what = "what is denied shows nothing anyway";
            return Err(PolicyError::invalid(shows.line, format!("{field}.shows"), what));
        }
        (Some(shows), Effect::Grant) => {
            let place = format!("{field}.shows");
            let texts: Vec<&str> = texts(shows, &place)?.into_iter().map(|(text, _)| text).collect();
            let list =
                AttributeList::new(&texts).map_err(|what| PolicyError::invalid(shows.line, place, what))?;
            Some(Arc::new(Attributes::new(vec![Arc::new(list)])))
        }
    };
    Ok(Rule { role, effect, index, line: node.line, verbs, services, functions, shows })
}

fn patterns(node: &Node, field: &str) -> Result<Vec<Pattern>> {
    let pattern = |(text, line): (&str, usize)| {
        Pattern::new(text).map_err(|what| PolicyError::invalid(line, field, what))
    };
    some_texts(node, field)?.into_iter().map(pattern).collect()
}

/// The fields of a table, in the order of their names here. All others are refused.
fn fields<'n, const N: usize>(
    node: &'n Node,
    field: &str,
    names: [&str; N],
) -> Result<[Option<&'n Node>; N]> {
    let mut found = [None; N];
    for (key, value) in table(node, field)? {
        let place = names.iter().zip(&mut found).find(|(name, _)| *name == key);
        let Some((_, place)) = place else {
            let known = names.map(|name| format!("`{name}`")).join(", ");
            let what = format!("there is no `{}` here; there are {known}", key.escape_debug());
            return Err(PolicyError::invalid(value.line, field, what));
        };
        *place = Some(value);
    }
    Ok(found)
}

fn table<'n>(node: &'n Node, field: &str) -> Result<&'n [(String, Node)]> {
    match &node.value {
        Value::Table(members) => Ok(members),
        other => Err(expected("a table", other, node.line, field)),
    }
}

fn list<'n>(node: &'n Node, field: &str) -> Result<&'n [Node]> {
    match &node.value {
        Value::List(elements) => Ok(elements),
        other => Err(expected("a list", other, node.line, field)),
    }
}

fn text<'n>(node: &'n Node, field: &str) -> Result<&'n str> {
    match &node.value {
        Value::Text(text) => Ok(text),
        other => Err(expected("a text", other, node.line, field)),
    }
}

/// A text, or a list of them; each with its line.
fn texts<'n>(node: &'n Node, field: &str) -> Result<Vec<(&'n str, usize)>> {
    match &node.value {
        Value::Text(text) => Ok(vec![(text, node.line)]),
        Value::List(elements) => {
            elements.iter().map(|element| Ok((text(element, field)?, element.line))).collect()
        }
        other => Err(expected("a text or a list of texts", other, node.line, field)),
    }
}

/// As [`texts`], and at least one.
fn some_texts<'n>(node: &'n Node, field: &str) -> Result<Vec<(&'n str, usize)>> {
    match texts(node, field)? {
        none if none.is_empty() => Err(PolicyError::invalid(node.line, field, "it is empty")),
        some => Ok(some),
    }
}

fn expected(what: &str, found: &Value, line: usize, field: &str) -> PolicyError {
    PolicyError::invalid(line, field, format!("{what} belongs here, and this is {}", found.type_name()))
}
