//! Dialogues of the two machines, with somebody in between.

use nossock::wire::Frame;

use super::*;

const CLIENT_NONCE: [u8; 32] = [0xc1; 32];
const SERVER_NONCE: [u8; 32] = [0x5e; 32];

fn key(id: &str, byte: u8) -> Key {
    Key::new(id, [byte; 16]).unwrap()
}

fn keys(name: &str, peers: &[(&str, Key)]) -> Arc<Keys> {
    let mut psk = Psk::new(name).unwrap();
    for (peer, key) in peers {
        psk = psk.peer(peer, key.clone()).unwrap();
    }
    psk.keys()
}

/// The keys of a pair that knows each other.
fn pair() -> (Arc<Keys>, Arc<Keys>) {
    (keys("alice", &[("hub", key("k", 1))]), keys("hub", &[("alice", key("k", 1))]))
}

type Introductions = (Result<Introduced, PskError>, Result<Introduced, PskError>);

/// The frames of a whole introduction, and what both sides have of it.
fn talk(client: &Keys, server: &Keys) -> Introductions {
    talk_over(client, None, server, None)
}

fn talk_over(
    client: &Keys,
    client_binding: Option<[u8; 32]>,
    server: &Keys,
    server_binding: Option<[u8; 32]>,
) -> Introductions {
    let (offer, client) = Client::offer(client, CLIENT_NONCE, client_binding);
    let (challenge, server) = Server::challenge(server, &offer, SERVER_NONCE, server_binding).unwrap();
    let (proof, client) = client.challenged(&challenge).unwrap();
    match server.proved(&proof) {
        Ok((accept, at_server)) => (client.accepted(&accept), Ok(at_server)),
        // The client hears that it was refused.
        Err(error) => (Err(error.clone()), Err(error)),
    }
}

fn introduced(peer: &str, key: &str) -> Result<Introduced, PskError> {
    Ok(Introduced { peer: Label::new(peer).unwrap(), key: Label::new(key).unwrap() })
}

fn wrong(name: &str) -> PskError {
    PskError::Wrong { name: name.to_owned() }
}

#[test]
fn pair_with_a_key_is_introduced_to_each_other() {
    let (alice, hub) = pair();
    assert_eq!(talk(&alice, &hub), (introduced("hub", "k"), introduced("alice", "k")));
    let binding = Some([9; 32]);
    let over_tls = talk_over(&alice, binding, &hub, binding);
    assert_eq!(over_tls, (introduced("hub", "k"), introduced("alice", "k")));
}

#[test]
fn exchange_is_the_documented_one() {
    let secret = Key::from_hex("2026-11", "000102030405060708090a0b0c0d0e0f").unwrap();
    let sensor = keys("sensor-7", &[("hub", secret.clone())]);
    let hub = keys("hub", &[("sensor-7", secret)]);
    let (offer, client) = Client::offer(&sensor, CLIENT_NONCE, None);
    let (challenge, server) = Server::challenge(&hub, &offer, SERVER_NONCE, None).unwrap();
    let (proof, client) = client.challenged(&challenge).unwrap();
    let (accept, _) = server.proved(&proof).unwrap();
    client.accepted(&accept).unwrap();
    let said = |frame: &Frame| format!("{} {}", frame.name, String::from_utf8_lossy(frame.body.as_bytes()));
    let (c1, s5) = ("c1".repeat(32), "5e".repeat(32));
    assert_eq!(said(&offer), format!(r#"psk:offer {{"psk":1,"name":"sensor-7","nonce":"{c1}"}}"#));
    assert_eq!(said(&challenge), format!(r#"psk:challenge {{"psk":1,"name":"hub","nonce":"{s5}"}}"#));
    assert_eq!(
        said(&proof),
        r#"psk:proof {"keys":[{"id":"2026-11","mac":"5be9ba94ee663568c9ec9813b8427af64ec24190d5c199b7edde289a1098edd1"}]}"#
    );
    assert_eq!(
        said(&accept),
        r#"psk:accept {"id":"2026-11","mac":"639e747886e5a4f9519172ca3073c1148cc63ecba814ab77f2b811fa22b75d08"}"#
    );
}

#[test]
fn keys_are_rotated_one_side_after_the_other() {
    let (old, new) = (key("old", 1), key("new", 2));
    let alice =
        |mine: &[&Key]| keys("alice", &mine.iter().map(|key| ("hub", (*key).clone())).collect::<Vec<_>>());
    let hub = keys("hub", &[("alice", new.clone()), ("alice", old.clone())]);
    assert_eq!(talk(&alice(&[&old]), &hub).1, introduced("alice", "old"));
    assert_eq!(talk(&alice(&[&new, &old]), &hub), (introduced("hub", "new"), introduced("alice", "new")));
    assert_eq!(talk(&alice(&[&new]), &hub).1, introduced("alice", "new"));
    let later = keys("hub", &[("alice", new.clone())]);
    assert_eq!(talk(&alice(&[&old]), &later).1, Err(wrong("alice")));
    assert_eq!(talk(&alice(&[&old, &new]), &later).1, introduced("alice", "new"));
}

#[test]
fn no_common_id_and_a_wrong_secret_and_an_unknown_name_are_one() {
    let hub = keys("hub", &[("alice", key("k", 1))]);
    let answers = [
        keys("alice", &[("hub", key("k", 2))]),
        keys("alice", &[("hub", key("other", 1))]),
        keys("mallory", &[("hub", key("k", 1))]),
    ]
    .map(|client| {
        let (offer, client) = Client::offer(&client, CLIENT_NONCE, None);
        let (challenge, server) = Server::challenge(&hub, &offer, SERVER_NONCE, None).unwrap();
        let (proof, _) = client.challenged(&challenge).unwrap();
        assert!(matches!(server.proved(&proof), Err(PskError::Wrong { .. })));
        challenge.encode()
    });
    assert!(answers.iter().all(|challenge| *challenge == answers[0]), "until then all hear the same");
}

#[test]
fn whoever_has_a_key_is_its_peer_and_nobody_else() {
    let hub = keys("hub", &[("alice", key("a", 1)), ("bob", key("b", 2))]);
    let mallory = keys("alice", &[("hub", key("b", 2))]);
    assert_eq!(talk(&mallory, &hub).1, Err(wrong("alice")), "bob's key does not make an alice");
    let group = Psk::new("hub").unwrap().anyone(key("g", 3)).unwrap().keys();
    for name in ["carol", "dave"] {
        let member = keys(name, &[("hub", key("g", 3))]);
        assert_eq!(talk(&member, &group).1, introduced(name, "g"));
    }
}

#[test]
fn server_without_the_key_is_refused_too() {
    let (alice, _) = pair();
    let (offer, client) = Client::offer(&alice, CLIENT_NONCE, None);
    let impostor = keys("hub", &[("alice", key("k", 9))]);
    let (challenge, _) = Server::challenge(&impostor, &offer, SERVER_NONCE, None).unwrap();
    let (proof, client) = client.challenged(&challenge).unwrap();
    // It cannot check the proof; it can only send something.
    for accept in [
        format!(r#"{{"id":"k","mac":"{}"}}"#, "00".repeat(32)),
        format!(r#"{{"id":"other","mac":"{}"}}"#, "00".repeat(32)),
        // The client's own proof, sent back.
        String::from_utf8_lossy(proof.body.as_bytes())
            .trim_start_matches(r#"{"keys":["#)
            .trim_end_matches("]}")
            .to_owned(),
    ] {
        let value: serde_json::Value = serde_json::from_str(&accept).unwrap();
        let (_, again) = Client::offer(&alice, CLIENT_NONCE, None).1.challenged(&challenge).unwrap();
        assert_eq!(
            again.accepted(&Frame::json("psk:accept", &value).unwrap()),
            Err(wrong("hub")),
            "{accept}"
        );
    }
    drop(client);
    let nobody = keys("elsewhere", &[("alice", key("k", 1))]);
    let (offer, client) = Client::offer(&alice, CLIENT_NONCE, None);
    let (challenge, _) = Server::challenge(&nobody, &offer, SERVER_NONCE, None).unwrap();
    assert_eq!(
        client.challenged(&challenge).unwrap_err(),
        PskError::UnknownPeer { name: "elsewhere".into() },
        "a key for hub is not shown to others"
    );
}

#[test]
fn peer_that_reflects_us_is_refused() {
    // One that both connects and listens, with one key for its whole group.
    let node = Psk::new("node").unwrap().anyone(key("g", 1)).unwrap().keys();
    let (offer, client) = Client::offer(&node, CLIENT_NONCE, None);
    assert_eq!(Server::challenge(&node, &offer, SERVER_NONCE, None).unwrap_err(), PskError::Reflected);
    let mirrored: serde_json::Value = offer.body.parse().unwrap();
    let challenge = Frame::json("psk:challenge", &mirrored).unwrap();
    assert_eq!(client.challenged(&challenge).unwrap_err(), PskError::Reflected);
    // Another name with our nonce.
    let mut renamed = mirrored;
    renamed["name"] = "other".into();
    let (_, client) = Client::offer(&node, CLIENT_NONCE, None);
    let challenge = Frame::json("psk:challenge", &renamed).unwrap();
    assert_eq!(client.challenged(&challenge).unwrap_err(), PskError::Reflected);
}

#[test]
fn roles_cannot_be_swapped() {
    // Two nodes that each connect to the other: what one proves as a client is worth nothing as a server.
    let a = keys("a", &[("b", key("k", 1))]);
    let b = keys("b", &[("a", key("k", 1))]);
    let (offer, at_a) = Client::offer(&a, CLIENT_NONCE, None);
    let (challenge, _) = Server::challenge(&b, &offer, SERVER_NONCE, None).unwrap();
    let (proof, _) = at_a.challenged(&challenge).unwrap();
    // The other way round, with the nonces the other way round.
    let (_, at_b) = Client::offer(&b, SERVER_NONCE, None);
    let challenge = Frame::json("psk:challenge", &offer.body.parse::<serde_json::Value>().unwrap()).unwrap();
    let (_, at_b) = at_b.challenged(&challenge).unwrap();
    let proof: serde_json::Value = proof.body.parse().unwrap();
    let accept = Frame::json("psk:accept", &proof["keys"][0]).unwrap();
    assert_eq!(at_b.accepted(&accept), Err(wrong("a")));
}

#[test]
fn recorded_introduction_cannot_be_played_again() {
    let (alice, hub) = pair();
    let (offer, client) = Client::offer(&alice, CLIENT_NONCE, None);
    let (challenge, server) = Server::challenge(&hub, &offer, SERVER_NONCE, None).unwrap();
    let (proof, _) = client.challenged(&challenge).unwrap();
    let (accept, _) = server.proved(&proof).unwrap();
    // To the server, as the client.
    let (_, server) = Server::challenge(&hub, &offer, [0x77; 32], None).unwrap();
    assert_eq!(server.proved(&proof).unwrap_err(), wrong("alice"));
    // To the client, as the server.
    let (_, client) = Client::offer(&alice, [0x77; 32], None);
    let (_, client) = client.challenged(&challenge).unwrap();
    assert_eq!(client.accepted(&accept), Err(wrong("hub")));
}

#[test]
fn proof_that_is_relayed_to_another_tls_connection_is_void() {
    let (alice, hub) = pair();
    for (client, server) in [(Some([1; 32]), Some([2; 32])), (Some([1; 32]), None), (None, Some([2; 32]))] {
        assert_eq!(talk_over(&alice, client, &hub, server).1, Err(wrong("alice")));
    }
}

#[test]
fn list_of_keys_that_was_shortened_on_its_way_is_void() {
    let (old, new) = (key("old", 1), key("new", 2));
    let alice = keys("alice", &[("hub", new.clone()), ("hub", old.clone())]);
    let hub = keys("hub", &[("alice", new), ("alice", old)]);
    let (offer, client) = Client::offer(&alice, CLIENT_NONCE, None);
    let (challenge, server) = Server::challenge(&hub, &offer, SERVER_NONCE, None).unwrap();
    let (proof, _) = client.challenged(&challenge).unwrap();
    let mut proof: serde_json::Value = proof.body.parse().unwrap();
    proof["keys"].as_array_mut().unwrap().remove(0);
    assert_eq!(server.proved(&Frame::json("psk:proof", &proof).unwrap()).unwrap_err(), wrong("alice"));
}

#[test]
fn other_version_and_too_many_keys_are_refused() {
    let (alice, hub) = pair();
    let (offer, client) = Client::offer(&alice, CLIENT_NONCE, None);
    let mut later: serde_json::Value = offer.body.parse().unwrap();
    later["psk"] = 2.into();
    let error = Server::challenge(&hub, &Frame::json("psk:offer", &later).unwrap(), SERVER_NONCE, None);
    assert_eq!(error.unwrap_err(), PskError::Version { version: 2 });
    later["name"] = "hub".into();
    let error = client.challenged(&Frame::json("psk:challenge", &later).unwrap()).unwrap_err();
    assert_eq!(error, PskError::Version { version: 2 });

    let one = serde_json::json!({"id": "k", "mac": "00".repeat(32)});
    for (count, error) in [(0, wrong("alice")), (16, wrong("alice")), (17, PskError::TooMany)] {
        let (_, server) = Server::challenge(&hub, &offer, SERVER_NONCE, None).unwrap();
        let proof = serde_json::json!({"keys": vec![one.clone(); count]});
        let refused = server.proved(&Frame::json("psk:proof", &proof).unwrap()).unwrap_err();
        assert_eq!(refused, error, "{count}");
    }
}

#[test]
fn frame_out_of_turn_is_refused_everywhere() {
    let (alice, hub) = pair();
    let frames = || {
        let (offer, client) = Client::offer(&alice, CLIENT_NONCE, None);
        let (challenge, server) = Server::challenge(&hub, &offer, SERVER_NONCE, None).unwrap();
        let (proof, client) = client.challenged(&challenge).unwrap();
        let (accept, _) = server.proved(&proof).unwrap();
        ([offer, challenge, proof, accept, Frame::json("hello", "world").unwrap()], client)
    };
    let unexpected = |error: PskError| matches!(error, PskError::Unexpected { .. });
    let (all, _) = frames();
    for (at, frame) in all.iter().enumerate() {
        if at != 0 {
            assert!(unexpected(Server::challenge(&hub, frame, SERVER_NONCE, None).unwrap_err()));
        }
        if at != 1 {
            let (_, client) = Client::offer(&alice, CLIENT_NONCE, None);
            assert!(unexpected(client.challenged(frame).unwrap_err()));
        }
        if at != 2 {
            let (_, server) = Server::challenge(&hub, &all[0], SERVER_NONCE, None).unwrap();
            assert!(unexpected(server.proved(frame).unwrap_err()));
        }
        if at != 3 {
            assert!(unexpected(frames().1.accepted(frame).unwrap_err()));
        }
    }
}

#[test]
fn replaced_keys_hold_for_every_clone_from_then_on() {
    let psk = Psk::new("hub").unwrap().peer("alice", key("k", 1)).unwrap();
    let clone = psk.clone();
    let (alice, _) = pair();
    assert!(talk(&alice, &clone.keys()).1.is_ok());
    psk.replace(&Psk::new("hub").unwrap().peer("bob", key("k", 1)).unwrap());
    assert_eq!(talk(&alice, &clone.keys()).1, Err(wrong("alice")));
}

#[test]
fn debug_shows_no_secret() {
    let psk =
        Psk::new("hub").unwrap().peer("alice", Key::new("k", *b"correct horse battery").unwrap()).unwrap();
    let text = format!("{psk:?}");
    assert!(text.contains("alice") && !text.contains("correct"), "{text}");
    assert!(!text.contains("99, 111, 114"), "{text}");
}

/// What comes of an introduction in which somebody changes one byte of one frame; `None` where a side refuses.
fn talk_changed(at: usize, byte: usize, change: u8) -> Option<(Introduced, Introduced)> {
    let changed = |n: usize, frame: Frame| {
        let mut body = frame.body.as_bytes().to_vec();
        if n == at
            && let Some(byte) = body.get_mut(byte)
        {
            *byte ^= change;
        }
        Frame { name: frame.name, body: nossock::wire::Body::Json(body.into()) }
    };
    let (alice, hub) = pair();
    let (offer, client) = Client::offer(&alice, CLIENT_NONCE, None);
    let (challenge, server) = Server::challenge(&hub, &changed(0, offer), SERVER_NONCE, None).ok()?;
    let (proof, client) = client.challenged(&changed(1, challenge)).ok()?;
    let (accept, at_server) = server.proved(&changed(2, proof)).ok()?;
    let at_client = client.accepted(&changed(3, accept)).ok()?;
    Some((at_client, at_server))
}

#[test]
fn no_byte_of_an_introduction_can_be_changed() {
    let whole = (introduced("hub", "k").unwrap(), introduced("alice", "k").unwrap());
    let mut passed = 0;
    for at in 0..4 {
        for byte in 0..120 {
            for change in [0x01, 0x20, 0x80] {
                match talk_changed(at, byte, change) {
                    None => {}
                    Some(introduced) => {
                        assert_eq!(introduced, whole, "frame {at}, byte {byte} ^ {change:#x}");
                        passed += 1;
                    }
                }
            }
        }
    }
    // Beyond the end of a frame there is nothing to change, and digits may be of either case.
    assert!(passed < 4 * 120 * 3 / 2, "{passed} changes made no difference");
}

/// The seeds of the fuzz target `auth_psk`, and bytes that nobody chose.
mod in_between {
    use proptest::prelude::*;

    #[test]
    fn seeds_pass() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/auth_psk");
        let mut count = 0;
        for seed in std::fs::read_dir(folder).unwrap() {
            super::super::hostile::run(&std::fs::read(seed.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count >= 5, "{count} seeds");
    }

    proptest! {
        #[test]
        fn nobody_in_between_is_introduced(steps in proptest::collection::vec((any::<[u8; 3]>(), ".{0,40}"), 0..4)) {
            let steps: Vec<u8> = steps.into_iter().flat_map(|([what, at, with], text)| {
                [&[what, at, with], text.as_bytes()].concat()
            }).collect();
            super::super::hostile::run(&steps);
        }
    }
}
