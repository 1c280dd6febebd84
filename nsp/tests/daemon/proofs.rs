//! Who somebody is, and what they may.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nsp::Password;
use nsp::authority::{Action, Permission};
use nsp::carrier::CarrierEnd;
use nsp::daemon::{Daemon, DaemonHandle, Demand, Entity, Fail, Json, Service};
use nsp::proto::au::{Notice, Question, Request as Au};
use nsp::proto::{Data, Method, cs, gt};
use serde_json::{Value, json};

use crate::book::{Book, Only, granted};
use crate::wire::{Wire, code, daemon};

fn safe() -> Service {
    Service::new("Safe")
        .function("token", async |entity: Entity| -> Result<Option<String>, Fail> {
            Ok(entity.prove(Demand::Token).await?.user.map(|user| user.to_string()))
        })
        .function("password", async |entity: Entity| -> Result<Option<String>, Fail> {
            Ok(entity.prove(Demand::Password).await?.user.map(|user| user.to_string()))
        })
        .function("who", async |entity: Entity| entity.proved_user().map(|user| user.to_string()))
        .function("echo", async |Json(value): Json<Value>| value)
        .function("sleep", async || tokio::time::sleep(Duration::from_secs(60)).await)
        .secure_function("reset", async || "done")
        .secure_blob_function("restore", async || "done")
        .on_data(async |entity: Entity| -> Result<(), Fail> {
            entity.prove(Demand::Token).await?;
            entity.emit("heard", &()).await?;
            Ok(())
        })
}

async fn safe_daemon(book: &Arc<Book>) -> (Daemon, DaemonHandle) {
    let authority = Arc::clone(book);
    daemon(Daemon::builder().shared_authority(authority).service(safe())).await
}

#[tokio::test(start_paused = true)]
async fn token_is_asked_for_once_and_remembered() {
    let book = Book::of(&[("ann", 1)]);
    let (_daemon, handle) = safe_daemon(&book).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open_as("Safe", Some("ann")).await;
    assert_eq!(wire.call(&entity, "who", json!(null)).await, Ok(json!(null)), "a claim proves nothing");
    let id = wire.begin(&entity, "token", json!(null)).await;
    wire.show("token of ann").await;
    assert_eq!(wire.returned().await, (id, Ok(json!("ann"))));
    assert_eq!(book.asked(), 1);
    for _ in 0..3 {
        assert_eq!(wire.call(&entity, "token", json!(null)).await, Ok(json!("ann")));
    }
    assert_eq!(book.asked(), 0, "it is relied upon");
    assert_eq!(wire.call(&entity, "who", json!(null)).await, Ok(json!("ann")));

    book.next_epoch();
    assert_eq!(wire.call(&entity, "who", json!(null)).await, Ok(json!(null)), "it may have been revoked");
    assert_eq!(
        wire.call(&entity, "token", json!(null)).await,
        Ok(json!("ann")),
        "it was judged again, not asked for"
    );
    assert_eq!(book.asked(), 1);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(wire.call(&entity, "token", json!(null)).await, Ok(json!("ann")));
    assert_eq!(book.asked(), 1, "one may not rely on it for ever");
}

#[tokio::test(start_paused = true)]
async fn revocations_of_others_without_end_keep_nobody_out() {
    let book = Book::of(&[("ann", 1)]);
    book.is_restless.store(true, Ordering::Relaxed);
    let (_daemon, handle) = safe_daemon(&book).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open_as("Safe", Some("ann")).await;
    let id = wire.begin(&entity, "token", json!(null)).await;
    wire.show("token of ann").await;
    assert_eq!(wire.returned().await, (id, Ok(json!("ann"))), "asked for once");
    assert_eq!(book.asked(), 3, "judged until it has to be enough");
    assert_eq!(wire.call(&entity, "who", json!(null)).await, Ok(json!(null)), "for that once");
    let id = wire.begin(&entity, "password", json!(null)).await;
    wire.show("password of ann").await;
    assert_eq!(wire.returned().await, (id, Ok(json!("ann"))), "asked for once");
    book.is_restless.store(false, Ordering::Relaxed);
    let id = wire.begin(&entity, "token", json!(null)).await;
    wire.show("token of ann").await;
    assert_eq!(wire.returned().await, (id, Ok(json!("ann"))));
    assert_eq!(wire.call(&entity, "who", json!(null)).await, Ok(json!("ann")));
}

#[tokio::test(start_paused = true)]
async fn many_calls_at_once_ask_for_one_token() {
    let book = Book::of(&[("ann", 1)]);
    book.is_slow.store(true, Ordering::Relaxed);
    let (_daemon, handle) = safe_daemon(&book).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open_as("Safe", Some("ann")).await;
    for _ in 0..20 {
        wire.begin(&entity, "token", json!(null)).await;
    }
    wire.show("token of ann").await;
    for _ in 0..20 {
        assert_eq!(wire.returned().await.1, Ok(json!("ann")));
    }
    assert_eq!(book.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn wrong_missing_and_unclaimed_are_refused_with_their_notices() {
    let book = Book::of(&[("ann", 1)]);
    let (_daemon, handle) = safe_daemon(&book).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open_as("Safe", Some("ann")).await;
    for (function, notice) in [("token", Notice::TokenFailed), ("password", Notice::PasswordFailed)] {
        wire.begin(&entity, function, json!(null)).await;
        wire.show("wrong").await;
        let Au::Tell { notice: told, entity: of } = wire.question().await else { panic!() };
        assert_eq!((told, of.as_ref()), (notice, Some(&entity)));
        assert_eq!(code(wire.returned().await.1), "auth_failed");
    }
    wire.begin(&entity, "token", json!(null)).await;
    let Au::Ask { question, id, user } = wire.question().await else { panic!() };
    assert_eq!((question, user.as_deref()), (Question::Token, Some("ann")));
    wire.say(nsp::proto::au::Answer { question, id, value: None }.encode()).await;
    assert_eq!(code(wire.returned().await.1), "auth_failed");

    let nobody = wire.open("Safe").await;
    wire.begin(&nobody, "token", json!(null)).await;
    assert!(matches!(wire.question().await, Au::Tell { notice: Notice::SignIn, .. }));
    assert_eq!(code(wire.returned().await.1), "auth_failed");

    book.is_throttled.store(true, Ordering::Relaxed);
    wire.begin(&entity, "token", json!(null)).await;
    wire.show("token of ann").await;
    let failure = wire.returned().await.1.unwrap_err();
    assert_eq!(failure.code.as_deref(), Some("throttled"));
    assert_eq!(failure.text.as_deref(), Some("AuthFailed: too many failures; try again in 9 s"));
}

#[tokio::test(start_paused = true)]
async fn question_that_is_never_answered_ends_the_call() {
    let book = Book::of(&[("ann", 1)]);
    let (_daemon, handle) = safe_daemon(&book).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open_as("Safe", Some("ann")).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(code(wire.call(&entity, "token", json!(null)).await), "auth_failed");
    assert_eq!(begun.elapsed().as_secs(), 180);
}

#[tokio::test(start_paused = true)]
async fn password_is_asked_for_each_time() {
    let book = Book::of(&[("ann", 1)]);
    let (_daemon, handle) = safe_daemon(&book).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open_as("Safe", Some("ann")).await;
    for _ in 0..2 {
        wire.begin(&entity, "password", json!(null)).await;
        wire.show("password of ann").await;
        assert_eq!(wire.returned().await.1, Ok(json!("ann")));
    }
    assert_eq!(wire.call(&entity, "who", json!(null)).await, Ok(json!("ann")));
    wire.begin(&entity, "token", json!(null)).await;
    wire.show("token of ann").await;
    assert_eq!(wire.returned().await.1, Ok(json!("ann")), "a password is no token");
}

#[tokio::test(start_paused = true)]
async fn secure_function_is_for_superusers_with_a_token() {
    let book = Book::of(&[("root", 0), ("ann", 1)]);
    let (_daemon, handle) = safe_daemon(&book).await;
    let mut wire = Wire::to(&handle);
    let nobody = wire.open("Safe").await;
    assert_eq!(code(wire.call(&nobody, "reset", json!(null)).await), "auth_failed");
    assert!(matches!(wire.question().await, Au::Tell { notice: Notice::SignIn, .. }));
    let ann = wire.open_as("Safe", Some("ann")).await;
    wire.begin(&ann, "reset", json!(null)).await;
    wire.show("token of ann").await;
    let failure = wire.returned().await.1.unwrap_err();
    assert_eq!(failure.code.as_deref(), Some("forbidden"));
    assert!(failure.text.unwrap().starts_with("AuthFailed"));
    let root = wire.open_as("Safe", Some("root")).await;
    wire.begin(&root, "reset", json!(null)).await;
    wire.show("token of root").await;
    assert_eq!(wire.returned().await.1, Ok(json!("done")));
    book.asked();
    assert_eq!(wire.call(&root, "reset", json!(null)).await, Ok(json!("done")));
    assert_eq!(book.asked(), 0, "the rank is remembered like the token");
    // So it is with a blob.
    for (entity, may) in [(&nobody, false), (&ann, false), (&root, true)] {
        let (id, entity) = (wire.id(), entity.clone());
        let data = Data::Blob(vec![1, 2, 3].into());
        wire.ask(cs::Request::CallBlob { entity, function: "restore".into(), id, meta: None, data }).await;
        let cs::Answer::ReturnedBlob { status, data, .. } = wire.answer().await else { panic!("no BS") };
        assert_eq!(status.into_result().is_ok(), may);
        assert_eq!(data != Data::None, may);
    }
}

#[tokio::test(start_paused = true)]
async fn revoked_user_is_cut_at_once_and_nobody_else() {
    let book = Book::of(&[("ann", 1), ("bob", 1)]);
    let (_daemon, handle) = safe_daemon(&book).await;
    let (mut ann, mut bob) = (Wire::to(&handle), Wire::to(&handle));
    for (wire, name) in [(&mut ann, "ann"), (&mut bob, "bob")] {
        let entity = wire.open_as("Safe", Some(name)).await;
        wire.begin(&entity, "token", json!(null)).await;
        wire.show(&format!("token of {name}")).await;
        assert_eq!(wire.returned().await.1, Ok(json!(name)));
        wire.begin(&entity, "sleep", json!(null)).await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    book.revoke_user("ann");
    assert!(
        matches!(ann.end().await, CarrierEnd::PeerSaid(why) if why == "the access of the user was revoked")
    );
    assert_eq!(handle.stats().calls_running, 1);
    assert_eq!(bob.returned().await.1, Ok(json!(null)));
}

#[tokio::test(start_paused = true)]
async fn revoked_token_cuts_those_who_have_shown_it() {
    let book = Book::of(&[("ann", 1)]);
    let (_daemon, handle) = safe_daemon(&book).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open_as("Safe", Some("ann")).await;
    wire.begin(&entity, "token", json!(null)).await;
    wire.show("token of ann").await;
    assert_eq!(wire.returned().await.1, Ok(json!("ann")));
    book.revoke_token("ann", "another token");
    assert_eq!(wire.call(&entity, "echo", json!(1)).await, Ok(json!(1)));
    book.revoke_token("ann", "token of ann");
    assert!(matches!(wire.end().await, CarrierEnd::PeerSaid(_)));
}

#[tokio::test(start_paused = true)]
async fn data_may_need_a_proof_while_more_data_comes() {
    let book = Book::of(&[("ann", 1)]);
    let (_daemon, handle) = safe_daemon(&book).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open_as("Safe", Some("ann")).await;
    let large = "x".repeat(10_000);
    for _ in 0..50 {
        wire.send(&entity, json!(large)).await;
    }
    wire.show("token of ann").await;
    for _ in 0..50 {
        wire.event().await;
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_are_handed_out_in_the_order_in_which_they_were_asked_for() {
    let book = Book::of(&[("ann", 1)]);
    let (_daemon, handle) = safe_daemon(&book).await;
    let mut wire = Wire::to(&handle);
    for (slow, password) in [(true, "password of ann"), (false, "wrong")] {
        book.is_slow.store(slow, Ordering::Relaxed);
        let request = gt::Request { user: "ann".into(), password: Some(Password::new(password)) };
        wire.say(request.encode()).await;
        tokio::task::yield_now().await;
    }
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let answer = gt::Answer::decode(&wire.next_of(Method::Gt).await).unwrap();
        tokens.push(answer.token.map(|token| token.reveal().to_owned()));
    }
    assert_eq!(tokens, [Some("token of ann".to_owned()), None]);
}

#[tokio::test(start_paused = true)]
async fn policy_is_asked_at_open_call_and_send() {
    let book =
        Book::of(&[("ann", 1), ("bob", 1)]).with_rules(|user, action, name| match (user, action, name) {
            (Some("ann"), Action::Call, Some("echo")) => {
                Permission::Granted { shows: Some(Arc::new(Only("a part"))) }
            }
            (Some("ann"), _, _) => granted(),
            _ => Permission::Denied,
        });
    let (_daemon, handle) = safe_daemon(&book).await;
    let mut wire = Wire::to(&handle);

    let create = wire.wanting("Safe", None);
    let nobody = wire.create(create).await.unwrap();
    let refused = wire.verify(&nobody).await.unwrap_err();
    assert_eq!(refused.code.as_deref(), Some("forbidden"));

    for (name, admitted) in [("bob", false), ("ann", true)] {
        let create = wire.wanting("Safe", Some(name));
        let entity = wire.create(create).await.unwrap();
        wire.ask(nsp::proto::cs::Request::Verify { entity: entity.clone() }).await;
        wire.show(&format!("token of {name}")).await;
        assert_eq!(wire.verified().await.is_ok(), admitted, "{name}");
        if admitted {
            assert_eq!(wire.call(&entity, "echo", json!("all")).await, Ok(json!("a part")));
            assert_eq!(wire.call(&entity, "who", json!(null)).await, Ok(json!("ann")));
            book.rules.lock().unwrap().replace(|_, _, _| Permission::Denied);
            assert_eq!(code(wire.call(&entity, "who", json!(null)).await), "forbidden");
        }
    }
}
