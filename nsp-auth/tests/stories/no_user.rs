//! The service for clients of the original, over a carrier in memory.

use std::future::poll_fn;
use std::time::Duration;

use nsp::carrier::Carrier;
use nsp::daemon::{Daemon, DaemonHandle};
use nsp::machine::{Incoming, Outgoing};
use nsp::proto::cs::{Answer, Create, Mode, Request};
use nsp::proto::{Data, EntityId, Method, Packet, RawJson, RequestId, au};
use nsp_auth::Authority;
use nsp_auth::no_user::NoUser;
use nsp_auth::store::Memory;
use nsp_auth::user::UserId;
use serde_json::{Value, json};

use crate::common::{PASSWORD, builder, login, name, with_superuser, with_user};

/// A client that shows what it has when it is asked.
struct Client {
    carrier: Box<dyn Carrier>,
    entity: EntityId,
    n: u64,
    token: String,
    password: String,
}

impl Client {
    async fn of(daemon: &DaemonHandle, owner: Option<&str>, token: &str, password: &str) -> Self {
        let carrier = daemon.connect_local();
        let entity = EntityId::from_bits([0; 16]);
        let mut this = Self { carrier, entity, n: 0, token: token.into(), password: password.into() };
        let create = Create {
            id: RequestId::numbered(0),
            owner: owner.map(str::to_owned),
            mode: Mode::Normal,
            service: "NoUser".into(),
            owner_domain: None,
            key: None,
            description: None,
        };
        this.say(Request::Create(Box::new(create)).encode()).await;
        let Answer::Created { result, .. } = this.answer().await.unwrap() else { panic!("no CE") };
        this.entity = result.unwrap();
        this.say(Request::Verify { entity: this.entity.clone() }.encode()).await;
        assert!(matches!(this.answer().await, Some(Answer::Verified { .. })));
        this
    }

    async fn say(&mut self, packet: Packet) {
        self.carrier.start_send(Outgoing::Packet(packet)).unwrap();
        poll_fn(|cx| self.carrier.poll_flush(cx)).await.unwrap();
    }

    /// The next answer, showing token and password on the way; `None` when the connection has ended.
    async fn answer(&mut self) -> Option<Answer> {
        loop {
            let next = poll_fn(|cx| self.carrier.poll_receive(cx));
            let next = tokio::time::timeout(Duration::from_secs(60), next).await.expect("something comes");
            let Ok(Incoming::Packet(packet)) = next else { return None };
            match packet.method {
                Method::Cs => return Some(Answer::decode(&packet).unwrap()),
                Method::Au => {
                    let au::Request::Ask { question, id, .. } = au::Request::decode(&packet).unwrap() else {
                        continue;
                    };
                    let secret = if question == au::Question::Token { &self.token } else { &self.password };
                    let value = Some(secret.as_str().into());
                    self.say(au::Answer { question, id, value }.encode()).await;
                }
                // That the service has closed the entity; the end of the connection follows.
                _ => {}
            }
        }
    }

    async fn call(&mut self, function: &str, argument: Value) -> Result<Value, String> {
        self.n += 1;
        let data = Data::Json(RawJson::of(&argument).unwrap());
        let (entity, id) = (self.entity.clone(), RequestId::numbered(self.n));
        self.say(Request::Call { entity, function: function.into(), id, data }.encode()).await;
        let Some(Answer::Returned { status, data, .. }) = self.answer().await else { panic!("no answer") };
        match status.into_result() {
            Ok(()) => Ok(data.into_json().unwrap().to().unwrap()),
            Err(failure) => Err(failure.text.unwrap()),
        }
    }
}

async fn daemon(open: bool) -> (Authority, Daemon, DaemonHandle) {
    let authority = builder().open_store(Memory::new()).await.unwrap();
    with_superuser(&authority, "admin").await;
    let mut no_user = NoUser::new(authority.users());
    if open {
        no_user = no_user.open_registration(3);
    }
    let daemon =
        Daemon::builder().authority(authority.clone()).service(no_user.into_service()).bind().await.unwrap();
    let handle = daemon.handle();
    (authority, daemon, handle)
}

fn registration(user: &str) -> Value {
    json!({"un": user, "dn": "Shown", "pw": PASSWORD, "cp": PASSWORD, "dt": "detail", "fn": "First", "ln": "Last"})
}

#[tokio::test]
async fn registration_is_closed_unless_it_is_opened_and_then_it_is_bounded() {
    let (authority, _daemon, handle) = daemon(false).await;
    let mut anybody = Client::of(&handle, None, "", "").await;
    let closed = json!({"s": "Error: Registration is closed.", "e": true});
    assert_eq!(anybody.call("createUser", registration("alice")).await, Ok(closed));
    assert_eq!(authority.users().find(name("alice")).await.unwrap(), None);

    let (authority, _daemon, handle) = daemon(true).await;
    let mut anybody = Client::of(&handle, None, "", "").await;
    let created = json!({"s": "Succeessfully created."});
    assert_eq!(anybody.call("createUser", registration("Alice")).await, Ok(created.clone()));
    let alice = authority.users().find(name("alice")).await.unwrap().unwrap();
    assert_eq!((alice.privilege, alice.first_name.as_str(), alice.detail.as_str()), (1, "First", "detail"));
    let error = |text: &str| Ok(json!({"s": format!("Error: {text}"), "e": true}));
    assert_eq!(anybody.call("createUser", registration("alice")).await, error("User existed."));
    assert_eq!(anybody.call("createUser", registration("adm%")).await, error("Username invalid."));
    let short = json!({"un": "bobby", "pw": "short", "cp": "short"});
    assert_eq!(anybody.call("createUser", short).await, error("a password has at least 15 characters"));
    let differ = json!({"un": "bobby", "pw": PASSWORD, "cp": "other"});
    assert_eq!(anybody.call("createUser", differ).await, error("The passwords differ."));
    // What ended the original's process: names that are missing, and values that are no texts.
    for wrong in [json!(null), json!({}), json!([]), json!({"un": 1, "pw": {}, "cp": null}), json!("x")] {
        let refused = anybody.call("createUser", wrong).await.unwrap_err();
        assert!(refused.starts_with("the argument cannot be read: "), "{refused}");
    }
    let bare = json!({"un": "carol", "pw": PASSWORD, "cp": PASSWORD});
    assert_eq!(anybody.call("createUser", bare).await, error("Too many have registered. Try again later."));
}

#[tokio::test]
async fn users_see_themselves_and_others_without_secrets() {
    let (authority, _daemon, handle) = daemon(false).await;
    let alice = with_user(&authority, "alice").await;
    let token = login(&authority, "alice", PASSWORD).await.unwrap();
    for n in 0..12 {
        with_user(&authority, &format!("user{n:02}")).await;
    }
    let mut client = Client::of(&handle, Some("alice"), token.reveal(), PASSWORD).await;
    let me = client.call("returnUserMeta", json!(null)).await.unwrap();
    assert_eq!(me, client.call("returnUserMeta", json!({})).await.unwrap());
    let created = alice.created.to_string().replace('T', " ").replace('Z', "");
    let expected = json!({
        "username": "alice", "userid": alice.id.to_string(), "displayname": "alice", "firstname": "", "lastname": "",
        "detail": "", "createdate": created, "modifydate": created, "email": "", "gender": "", "phonenumber": "",
        "birthday": "", "country": "", "address": "", "aboutme": "",
    });
    assert_eq!(me, expected);
    let admin = authority.users().find(name("admin")).await.unwrap().unwrap();
    let other = client.call("getUserMetaByUserId", json!({"i": admin.id.to_string()})).await.unwrap();
    assert_eq!(other["username"], "admin");
    for secret in ["privilege", "pwdhash", "password", "token", "detail", "createdate"] {
        assert_eq!(other.get(secret), None, "{secret}");
    }
    let nobody = json!({"s": "Error: User not exist.", "e": true});
    for id in [UserId::random().to_string(), "%".into(), "\0".into()] {
        assert_eq!(client.call("getUserMetaByUserId", json!({"i": id})).await, Ok(nobody.clone()));
    }
    let found = client.call("searchUsersByUsername", json!({"n": "user"})).await.unwrap();
    assert_eq!((&found["e"], found["r"].as_array().unwrap().len()), (&json!(null), 10));
    assert_eq!(found["r"][0].as_object().unwrap().len(), 5);
    for text in ["%", "user_", "_____"] {
        let found = client.call("searchUsersByUsername", json!({"n": text})).await;
        assert_eq!(found, Ok(json!({"e": null, "r": []})), "{text}");
    }
}

#[tokio::test]
async fn who_proves_nothing_sees_nothing() {
    let (authority, _daemon, handle) = daemon(false).await;
    with_user(&authority, "alice").await;
    for (owner, token) in [(None, ""), (Some("alice"), ""), (Some("alice"), "wrong"), (Some("al%"), "wrong")]
    {
        let mut client = Client::of(&handle, owner, token, "wrong").await;
        for (function, argument) in [
            ("returnUserMeta", json!(null)),
            ("updateUser", json!({"email": "a@b.example"})),
            ("getUserMetaByUserId", json!({"i": UserId::random().to_string()})),
            ("searchUsersByUsername", json!({"n": "a"})),
        ] {
            let refused = client.call(function, argument).await.unwrap_err();
            assert!(refused.starts_with("AuthFailed: "), "{owner:?} {function}: {refused}");
        }
        // The throttle counts these as well; it is not what this is about.
        authority.users().unlock(name("alice")).await.unwrap();
    }
}

#[tokio::test]
async fn an_update_asks_for_the_password_and_a_new_one_ends_the_other_connections() {
    let (authority, _daemon, handle) = daemon(false).await;
    with_user(&authority, "alice").await;
    let token = login(&authority, "alice", PASSWORD).await.unwrap();
    let mut here = Client::of(&handle, Some("alice"), token.reveal(), PASSWORD).await;
    let mut there = Client::of(&handle, Some("alice"), token.reveal(), PASSWORD).await;
    there.call("returnUserMeta", json!(null)).await.unwrap();
    let updated = json!({"s": "Succeessfully updated."});
    let update =
        json!({"firstname": "Alice", "email": "alice@example.org", "gender": "other", "address": "1\n2"});
    assert_eq!(here.call("updateUser", update).await, Ok(updated.clone()));
    let alice = authority.users().find(name("alice")).await.unwrap().unwrap();
    assert_eq!((alice.first_name.as_str(), alice.profile.email.as_str()), ("Alice", "alice@example.org"));
    for (update, text) in [
        (json!({"email": "nobody"}), "Error: Email invalid."),
        (json!({"gender": "x"}), "Error: Gender invalid."),
        (json!({"pw": "a new pass phrase", "cp": "another"}), "Error: The passwords differ."),
        (
            json!({"firstname": "Bella", "pw": "short", "cp": "short"}),
            "Error: a password has at least 15 characters",
        ),
        (json!({"country": "a\u{1b}[2J"}), "Error: the country has a control character"),
    ] {
        assert_eq!(here.call("updateUser", update).await, Ok(json!({"s": text, "e": true})));
    }
    let alice = authority.users().find(name("alice")).await.unwrap().unwrap();
    assert_eq!(alice.first_name, "Alice", "what is refused changes nothing, not even a part of it");
    let new = "a new pass phrase";
    assert_eq!(here.call("updateUser", json!({"pw": new, "cp": new})).await, Ok(updated));
    assert!(there.answer().await.is_none(), "it was cut off");
    let refused = here.call("returnUserMeta", json!(null)).await.unwrap_err();
    assert!(refused.starts_with("AuthFailed: "), "the old token is void: {refused}");
    let token = login(&authority, "alice", new).await.unwrap();
    here.token = token.reveal().into();
    assert_eq!(here.call("returnUserMeta", json!(null)).await.unwrap()["firstname"], "Alice");
}

#[tokio::test]
async fn whoever_is_revoked_is_cut_off_from_a_live_daemon() {
    let (authority, _daemon, handle) = daemon(false).await;
    with_user(&authority, "alice").await;
    with_user(&authority, "bobby").await;
    let (first, second) = (
        login(&authority, "alice", PASSWORD).await.unwrap(),
        login(&authority, "alice", PASSWORD).await.unwrap(),
    );
    let bobbys = login(&authority, "bobby", PASSWORD).await.unwrap();
    let mut clients = Vec::new();
    for (user, token) in [("alice", &first), ("alice", &second), ("bobby", &bobbys)] {
        let mut client = Client::of(&handle, Some(user), token.reveal(), PASSWORD).await;
        client.call("returnUserMeta", json!(null)).await.unwrap();
        clients.push(client);
    }
    let id = nsp_auth::token::TokenHash::of(&first).id();
    authority.users().revoke_token(name("alice"), id).await.unwrap();
    assert!(clients[0].answer().await.is_none());
    clients[1].call("returnUserMeta", json!(null)).await.unwrap();
    authority.users().lock(name("alice")).await.unwrap();
    assert!(clients[1].answer().await.is_none());
    clients[2].call("returnUserMeta", json!(null)).await.unwrap();
}
