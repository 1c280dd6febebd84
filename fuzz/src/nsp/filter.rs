//! A query to a filter, compared with a reader of the plainest kind.

use nsp::machine::entities::{ConnectionId, Filter, Record};
use nsp::proto::EntityId;
use nsp::proto::cs::Mode;

pub fn run(data: &[u8]) {
    let Ok(query) = std::str::from_utf8(data) else { return };
    let parsed = query.parse::<Filter>();
    let terms: Option<Vec<_>> = query.split(',').map(|term| term.split_once('=')).collect();
    let keys = ["id", "mode", "service", "owner", "ownerdomain", "spawndomain", "connectiontype"];
    let known = terms.filter(|terms| terms.iter().all(|(key, _)| keys.contains(key)));
    assert_eq!(parsed.is_ok(), query.is_empty() || known.is_some(), "{query:?}");
    match parsed {
        Ok(filter) => {
            for record in records() {
                let meant = known.iter().flatten().all(|(key, value)| value_of(&record, key) == Some(*value));
                assert_eq!(filter.matches(&record), meant, "{query:?} of {record:?}");
                assert_ne!(filter.clone().not().matches(&record), meant);
            }
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control)),
    }
}

fn value_of<'a>(record: &'a Record, key: &str) -> Option<&'a str> {
    match key {
        "id" => Some(record.id.as_str()),
        "mode" => Some(record.mode.as_str()),
        "service" => Some(&record.service),
        "owner" => record.owner.as_deref(),
        "ownerdomain" => record.owner_domain.as_deref(),
        "spawndomain" => Some("127.0.0.1"),
        _ => Some(record.carrier),
    }
}

fn records() -> [Record; 2] {
    let record = Record {
        id: EntityId::new("_a").unwrap(),
        connection: ConnectionId(1),
        mode: Mode::Normal,
        service: "Chat".into(),
        owner: Some("ann".into()),
        owner_domain: None,
        address: Some([127, 0, 0, 1].into()),
        carrier: "TCP/IP",
        description: None,
        trusted_daemon: false,
    };
    let bare = Record { owner: None, service: String::new(), mode: Mode::Daemon, ..record.clone() };
    [record, bare]
}
