//! Who is there: all entities of all connections, with their groups.
//!
//! A connection knows only its own entities; this knows everybody's, and who is meant by "all of that service", "that user", "in any of these groups", "in all of
//! these groups", or a [`Filter`]. It sends nothing: it says which entity is on which connection.
//!
//! Groups belong to a service: two services may both have a group `admins` and never meet.

mod filter;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

pub use filter::{Field, Filter, FilterError};

use crate::proto::cs::Mode;
use crate::proto::json::Writer;
use crate::proto::{EntityId, RawJson};
use crate::secret::Token;

/// A connection of the daemon. Whoever has many numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a number, chosen by the user of this module")]
pub struct ConnectionId(pub u64);

/// One entity, as everybody may know it.
#[derive(Debug, Clone)]
#[expect(clippy::exhaustive_structs, reason = "whoever accepts entities fills this in")]
pub struct Record {
    /// What it is called.
    pub id: EntityId,
    /// The connection it came by, and the only one that may speak for it.
    pub connection: ConnectionId,
    /// On whose behalf it acts.
    pub mode: Mode,
    /// Its service.
    pub service: String,
    /// The owner that it claims.
    pub owner: Option<String>,
    /// The domain of the owner, as it claims.
    pub owner_domain: Option<String>,
    /// Where it really comes from.
    pub address: Option<IpAddr>,
    /// By what it is connected, as the original says it: `TCP/IP`, `WebSocket`, `WebSocketSecure`, `Local`, or ours.
    pub carrier: &'static str,
    /// What it says about itself.
    pub description: Option<RawJson>,
    /// Whether it had the daemon's key and a trusted address.
    pub trusted_daemon: bool,
}

/// The part of a record that changes.
#[derive(Debug, Clone)]
struct Entry {
    record: Record,
    groups: BTreeSet<String>,
    /// The user whose token or password was seen, and the token if it was one.
    proved: Option<(String, Option<Token>)>,
}

/// Where to send something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "an address has these two parts")]
pub struct Address {
    /// By which connection.
    pub connection: ConnectionId,
    /// To which entity.
    pub entity: EntityId,
}

/// All entities of a daemon.
#[derive(Debug, Default)]
pub struct Entities {
    entries: HashMap<EntityId, Entry>,
    services: HashMap<String, HashSet<EntityId>>,
    /// By service, then by group.
    groups: HashMap<String, HashMap<String, HashSet<EntityId>>>,
    connections: HashMap<ConnectionId, HashSet<EntityId>>,
    /// By service, then by user: those who have proved it.
    users: HashMap<String, HashMap<String, HashSet<EntityId>>>,
}

impl Entities {
    /// Most groups of one entity.
    pub const MOST_GROUPS: usize = 1024;

    /// Adds an entity. One of the same id is replaced, which 128 random bits do not let happen.
    pub fn insert(&mut self, record: Record) {
        self.remove(&record.id);
        let id = record.id.clone();
        self.services.entry(record.service.clone()).or_default().insert(id.clone());
        self.connections.entry(record.connection).or_default().insert(id.clone());
        self.entries.insert(id, Entry { record, groups: BTreeSet::new(), proved: None });
    }

    /// Takes an entity out of everything.
    pub fn remove(&mut self, id: &EntityId) -> Option<Record> {
        self.clear_groups(id);
        self.forget_proof(id);
        let Entry { record, .. } = self.entries.remove(id)?;
        take_out(&mut self.services, &record.service, id);
        take_out(&mut self.connections, &record.connection, id);
        Some(record)
    }

    /// Takes out all entities of a connection that has ended.
    pub fn remove_connection(&mut self, connection: ConnectionId) -> Vec<Record> {
        let ids = self.connections.get(&connection).cloned().unwrap_or_default();
        ids.iter().filter_map(|id| self.remove(id)).collect()
    }

    /// One entity.
    #[must_use]
    pub fn get(&self, id: &EntityId) -> Option<&Record> {
        self.entries.get(id).map(|entry| &entry.record)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The user that an entity has proved to be, not the one that it claims.
    #[must_use]
    pub fn proved_user(&self, id: &EntityId) -> Option<&str> {
        self.entries.get(id)?.proved.as_ref().map(|(user, _)| &**user)
    }

    /// The token with which it has proved it.
    #[must_use]
    pub fn remembered_token(&self, id: &EntityId) -> Option<&Token> {
        self.entries.get(id)?.proved.as_ref()?.1.as_ref()
    }

    /// Notes that an entity has proved to be a user.
    pub fn prove(&mut self, id: &EntityId, user: &str, token: Option<Token>) {
        self.forget_proof(id);
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.proved = Some((user.to_owned(), token));
        let users = self.users.entry(entry.record.service.clone()).or_default();
        users.entry(user.to_owned()).or_default().insert(id.clone());
    }

    /// Forgets what an entity has proved, as when its token was revoked.
    pub fn forget_proof(&mut self, id: &EntityId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if let Some((user, _)) = entry.proved.take() {
            take_out_of(&mut self.users, &entry.record.service, &user, id);
        }
    }

    /// Puts an entity into a group.
    ///
    /// `false` when there is no such entity, or it is in [`MOST_GROUPS`](Self::MOST_GROUPS) already.
    pub fn join(&mut self, id: &EntityId, group: &str) -> bool {
        let Some(entry) = self.entries.get_mut(id) else { return false };
        if entry.groups.contains(group) {
            return true;
        }
        if entry.groups.len() >= Self::MOST_GROUPS {
            return false;
        }
        entry.groups.insert(group.to_owned());
        let groups = self.groups.entry(entry.record.service.clone()).or_default();
        groups.entry(group.to_owned()).or_default().insert(id.clone());
        true
    }

    /// Takes an entity out of a group.
    pub fn leave(&mut self, id: &EntityId, group: &str) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if entry.groups.remove(group) {
            take_out_of(&mut self.groups, &entry.record.service, group, id);
        }
    }

    /// Takes an entity out of all groups.
    pub fn clear_groups(&mut self, id: &EntityId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        for group in std::mem::take(&mut entry.groups) {
            take_out_of(&mut self.groups, &entry.record.service, &group, id);
        }
    }

    /// The groups of an entity.
    pub fn groups_of(&self, id: &EntityId) -> impl Iterator<Item = &str> {
        self.entries.get(id).into_iter().flat_map(|entry| entry.groups.iter().map(String::as_str))
    }

    /// All entities of a service.
    #[must_use]
    pub fn of_service(&self, service: &str) -> Vec<Address> {
        self.services.get(service).map(|ids| self.addresses(ids)).unwrap_or_default()
    }

    /// The entities of a service that have proved to be a user.
    #[must_use]
    pub fn of_user(&self, service: &str, user: &str) -> Vec<Address> {
        let ids = self.users.get(service).and_then(|users| users.get(user));
        ids.map(|ids| self.addresses(ids)).unwrap_or_default()
    }

    /// The entities that have proved to be a user, whatever their service.
    #[must_use]
    pub fn of_user_anywhere(&self, user: &str) -> Vec<Address> {
        let ids = self.users.values().filter_map(|users| users.get(user)).flatten();
        self.addresses(ids)
    }

    /// The entities of a connection.
    #[must_use]
    pub fn of_connection(&self, connection: ConnectionId) -> Vec<EntityId> {
        self.connections.get(&connection).map_or_else(Vec::new, |ids| ids.iter().cloned().collect())
    }

    /// The entities of a service that are in any of the groups, each once.
    #[must_use]
    pub fn in_any<G: AsRef<str>>(&self, service: &str, groups: &[G]) -> Vec<Address> {
        let Some(of_service) = self.groups.get(service) else { return Vec::new() };
        let ids: HashSet<_> =
            groups.iter().filter_map(|group| of_service.get(group.as_ref())).flatten().collect();
        self.addresses(ids)
    }

    /// The entities of a service that are in all of the groups; nobody, if there are none.
    #[must_use]
    pub fn in_all<G: AsRef<str>>(&self, service: &str, groups: &[G]) -> Vec<Address> {
        let Some(of_service) = self.groups.get(service) else { return Vec::new() };
        let sets: Option<Vec<_>> = groups.iter().map(|group| of_service.get(group.as_ref())).collect();
        let Some(sets) = sets else { return Vec::new() };
        // The smallest group says who can be meant at all.
        let Some(smallest) = sets.iter().min_by_key(|set| set.len()) else { return Vec::new() };
        self.addresses(smallest.iter().filter(|id| sets.iter().all(|set| set.contains(*id))))
    }

    /// The entities that a filter lets through.
    #[must_use]
    pub fn select(&self, filter: &Filter) -> Vec<&Record> {
        let records = self.entries.values().map(|entry| &entry.record);
        records.filter(|record| filter.matches(record)).collect()
    }

    /// What is known about an entity, as the original shows it, but without the daemon's key. Groups are a list, where the original shows `{}`.
    #[must_use]
    pub fn metadata(&self, id: &EntityId) -> Option<RawJson> {
        let Entry { record, groups, .. } = self.entries.get(id)?;
        let mut writer = Writer::object(256);
        writer.text("id", record.id.as_str()).text("mode", record.mode.as_str());
        writer.text("service", &record.service).text("type", "Activity");
        let address = record.address.map(|address| address.to_string());
        for (key, value) in [
            ("spawndomain", address.as_deref()),
            ("owner", record.owner.as_deref()),
            ("ownerdomain", record.owner_domain.as_deref()),
        ] {
            match value {
                Some(value) => writer.text(key, value),
                None => writer.literal(key, b"null"),
            };
        }
        writer.text("connectiontype", record.carrier);
        if let Some(description) = &record.description {
            writer.raw("description", description);
        }
        writer.raw("groups", &RawJson::of(groups).ok()?);
        RawJson::new(writer.finish()).ok()
    }

    fn addresses<'a>(&self, ids: impl IntoIterator<Item = &'a EntityId>) -> Vec<Address> {
        let address = |id: &EntityId| {
            let connection = self.entries.get(id)?.record.connection;
            Some(Address { connection, entity: id.clone() })
        };
        ids.into_iter().filter_map(address).collect()
    }
}

/// Takes an id out of the set of a key, and the set out when it is empty: names come and go, and must leave nothing behind.
fn take_out<K: Eq + std::hash::Hash>(sets: &mut HashMap<K, HashSet<EntityId>>, key: &K, id: &EntityId) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(id);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

fn take_out_of(
    sets: &mut HashMap<String, HashMap<String, HashSet<EntityId>>>,
    service: &str,
    key: &str,
    id: &EntityId,
) {
    if let Some(of_service) = sets.get_mut(service) {
        take_out(of_service, &key.to_owned(), id);
        if of_service.is_empty() {
            sets.remove(service);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(id: &str, connection: u64, service: &str) -> Record {
        Record {
            id: EntityId::new(id).unwrap(),
            connection: ConnectionId(connection),
            mode: Mode::Normal,
            service: service.into(),
            owner: Some("ann".into()),
            owner_domain: None,
            address: Some([127, 0, 0, 1].into()),
            carrier: "TCP/IP",
            description: None,
            trusted_daemon: false,
        }
    }

    fn id(id: &str) -> EntityId {
        EntityId::new(id).unwrap()
    }

    fn names(mut addresses: Vec<Address>) -> Vec<String> {
        addresses.sort();
        addresses.iter().map(|address| address.entity.as_str().to_owned()).collect()
    }

    fn three() -> Entities {
        let mut entities = Entities::default();
        for (name, connection, service) in [("_a", 1, "Chat"), ("_b", 1, "Chat"), ("_c", 2, "Other")] {
            entities.insert(record(name, connection, service));
        }
        entities
    }

    #[test]
    fn any_and_all_of_groups_reach_whom_they_say() {
        let mut entities = three();
        assert!(entities.join(&id("_a"), "x") && entities.join(&id("_a"), "y"));
        assert!(entities.join(&id("_b"), "x") && entities.join(&id("_b"), "x"));
        assert!(entities.join(&id("_c"), "x"));
        assert_eq!(names(entities.in_any("Chat", &["x", "y", "none"])), ["_a", "_b"]);
        assert_eq!(names(entities.in_all("Chat", &["x", "y"])), ["_a"]);
        assert_eq!(names(entities.in_all("Chat", &["x", "none"])), [""; 0]);
        assert_eq!(names(entities.in_all::<&str>("Chat", &[])), [""; 0]);
        assert_eq!(names(entities.in_any("Other", &["x"])), ["_c"]);
        entities.leave(&id("_a"), "x");
        assert_eq!(names(entities.in_any("Chat", &["x"])), ["_b"]);
        assert_eq!(entities.groups_of(&id("_a")).collect::<Vec<_>>(), ["y"]);
    }

    #[test]
    fn user_is_reached_only_where_it_was_proved() {
        let mut entities = three();
        assert_eq!(entities.of_user("Chat", "ann"), []);
        entities.prove(&id("_a"), "ann", Some(Token::new("t")));
        assert_eq!(names(entities.of_user("Chat", "ann")), ["_a"]);
        assert_eq!(entities.of_user("Other", "ann"), []);
        entities.prove(&id("_c"), "ann", None);
        assert_eq!(names(entities.of_user_anywhere("ann")), ["_a", "_c"]);
        assert_eq!(entities.of_connection(ConnectionId(1)).len(), 2);
        assert_eq!(entities.remembered_token(&id("_a")), Some(&Token::new("t")));
        entities.prove(&id("_a"), "bob", None);
        assert_eq!(entities.of_user("Chat", "ann"), []);
        entities.forget_proof(&id("_a"));
        assert_eq!(entities.proved_user(&id("_a")), None);
        assert_eq!(entities.of_user("Chat", "bob"), []);
    }

    #[test]
    fn those_who_leave_leave_nothing_behind() {
        let mut entities = three();
        entities.join(&id("_a"), "x");
        entities.prove(&id("_a"), "ann", None);
        assert_eq!(entities.remove_connection(ConnectionId(1)).len(), 2);
        assert_eq!(names(entities.of_service("Chat")), [""; 0]);
        assert!(entities.remove(&id("_c")).is_some() && entities.remove(&id("_c")).is_none());
        assert!(entities.is_empty());
        assert!(entities.services.is_empty() && entities.groups.is_empty());
        assert!(entities.connections.is_empty() && entities.users.is_empty());
    }

    #[test]
    fn groups_of_one_entity_are_limited() {
        let mut entities = three();
        for n in 0..Entities::MOST_GROUPS {
            assert!(entities.join(&id("_a"), &n.to_string()));
        }
        assert!(!entities.join(&id("_a"), "one more"));
        assert!(!entities.join(&id("_nobody"), "x"));
    }

    #[test]
    fn metadata_is_the_original_s_without_the_key() {
        let mut entities = three();
        entities.join(&id("_a"), "g");
        assert_eq!(
            entities.metadata(&id("_a")).unwrap().as_str(),
            r#"{"id":"_a","mode":"normal","service":"Chat","type":"Activity","spawndomain":"127.0.0.1","owner":"ann","ownerdomain":null,"connectiontype":"TCP/IP","groups":["g"]}"#
        );
        assert!(entities.metadata(&id("_nobody")).is_none());
    }
}
