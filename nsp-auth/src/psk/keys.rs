use std::collections::HashMap;

use super::key::{Key, KeyError};
use super::label::Label;

/// Keys of one peer at once: the one in use, the one to come, and some to spare.
pub(super) const MAX_KEYS: usize = 8;

/// The name of this side, and the keys by which it knows others.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    name: Label,
    peers: HashMap<Box<str>, Vec<Key>>,
    anyone: Vec<Key>,
    /// What is computed with where there is no key, so that it takes as long. Nobody has it.
    nobody: Key,
}

impl Keys {
    pub(super) fn new(name: &str) -> Result<Self, KeyError> {
        Ok(Self {
            name: Label::new(name)?,
            peers: HashMap::new(),
            anyone: Vec::new(),
            nobody: Key::generate("nobody")?,
        })
    }

    pub(super) const fn name(&self) -> &Label {
        &self.name
    }

    pub(super) const fn nobody(&self) -> &Key {
        &self.nobody
    }

    /// Adds a key for one peer, or for all of them.
    pub(super) fn add(&mut self, peer: Option<&str>, key: Key) -> Result<(), KeyError> {
        let keys = match peer {
            Some(peer) => self.peers.entry(String::from(Label::new(peer)?).into()).or_default(),
            None => &mut self.anyone,
        };
        if keys.iter().any(|other| other.id() == key.id()) {
            return Err(KeyError::Twice { id: key.id().to_owned() });
        }
        if keys.len() >= MAX_KEYS {
            return Err(KeyError::TooMany);
        }
        keys.push(key);
        Ok(())
    }

    /// The keys by which this peer may be known, its own first.
    pub(super) fn of(&self, peer: &Label) -> impl Iterator<Item = &Key> {
        let own = self.peers.get(peer.as_str()).map_or(&[][..], Vec::as_slice);
        own.iter().chain(self.anyone.iter().filter(|key| own.iter().all(|own| own.id() != key.id())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Key {
        Key::new(id, [7; 16]).unwrap()
    }

    #[test]
    fn keys_of_a_peer_come_before_those_of_anyone() {
        let mut keys = Keys::new("hub").unwrap();
        keys.add(None, key("group")).unwrap();
        keys.add(Some("alice"), key("new")).unwrap();
        keys.add(Some("alice"), key("old")).unwrap();
        let of = |peer| keys.of(&Label::new(peer).unwrap()).map(Key::id).collect::<Vec<_>>();
        assert_eq!(of("alice"), ["new", "old", "group"]);
        assert_eq!(of("bob"), ["group"]);
    }

    #[test]
    fn keys_of_a_peer_are_few_and_each_has_its_own_id() {
        let mut keys = Keys::new("hub").unwrap();
        for n in 0..MAX_KEYS {
            keys.add(Some("alice"), key(&n.to_string())).unwrap();
        }
        assert!(matches!(keys.add(Some("alice"), key("x")), Err(KeyError::TooMany)));
        assert!(matches!(keys.add(Some("alice"), key("0")), Err(KeyError::Twice { .. })));
        keys.add(Some("bob"), key("0")).unwrap();
    }
}
