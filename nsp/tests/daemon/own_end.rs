//! Functions that end the access of who has called them.

use std::sync::Arc;
use std::time::Duration;

use nsp::carrier::CarrierEnd;
use nsp::daemon::{Daemon, DaemonHandle, Demand, Emitter, Entity, Fail, Service, State, in_this_call};
use nsp::proto::{EntityId, Method, ca};
use serde_json::json;
use tokio::time::Instant;

use crate::book::Book;
use crate::wire::{Wire, code, daemon};

type OfBook = State<Arc<Book>>;

/// Revokes Ann, as an authority does it: in a task of its own.
async fn revoke(book: Arc<Book>) -> Result<(), Fail> {
    tokio::spawn(in_this_call(async move { book.revoke_user("ann") })).await?;
    Ok(())
}

fn account(book: &Arc<Book>) -> Service<Arc<Book>> {
    Service::with_state("Account", Arc::clone(book))
        .function("token", async |entity: Entity| -> Result<(), Fail> {
            entity.prove(Demand::Token).await?;
            Ok(())
        })
        .function("sleep", async || tokio::time::sleep(Duration::from_secs(60)).await)
        .function("leave", async |State(book): OfBook| -> Result<&str, Fail> {
            revoke(book).await?;
            Ok("left")
        })
        .function("fail", async |State(book): OfBook| -> Result<(), Fail> {
            revoke(book).await?;
            Err(Fail::new("late", "too late"))
        })
        .function("leave late", async |State(book): OfBook, all: Emitter| -> Result<&str, Fail> {
            revoke(book).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            all.to_all().emit("heard", &()).await?;
            Ok("left")
        })
        .function("never", async |State(book): OfBook| -> Result<(), Fail> {
            revoke(book).await?;
            std::future::pending().await
        })
        .function("ask", async |State(book): OfBook, entity: Entity| -> Result<(), Fail> {
            revoke(book).await?;
            entity.prove(Demand::Token).await?;
            Ok(())
        })
        .function("somebody else", async |State(book): OfBook| -> Result<&str, Fail> {
            tokio::spawn(async move { book.revoke_user("ann") }).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok("left")
        })
}

async fn of_ann() -> (Daemon, DaemonHandle) {
    let book = Book::of(&[("ann", 1)]);
    daemon(Daemon::builder().shared_authority(book.clone()).service(account(&book))).await
}

/// A connection on which Ann has proved to be herself.
async fn ann(handle: &DaemonHandle) -> (Wire, EntityId) {
    let mut wire = Wire::to(handle);
    let entity = wire.open_as("Account", Some("ann")).await;
    wire.begin(&entity, "token", json!(null)).await;
    wire.show("token of ann").await;
    assert_eq!(wire.returned().await.1, Ok(json!(null)));
    (wire, entity)
}

fn is_revoked(end: &CarrierEnd) -> bool {
    matches!(end, CarrierEnd::PeerSaid(why) if why == "the access of the user was revoked")
}

#[tokio::test(start_paused = true)]
async fn function_that_ends_the_access_of_its_caller_is_answered_before_the_cut() {
    let (_daemon, handle) = of_ann().await;
    let (mut wire, entity) = ann(&handle).await;
    wire.begin(&entity, "sleep", json!(null)).await;
    let asked = wire.begin(&entity, "leave", json!(null)).await;
    let begun = Instant::now();
    assert_eq!(wire.returned().await, (asked, Ok(json!("left"))));
    assert_eq!(wire.event().await, ca::Request::Close { entity });
    assert!(is_revoked(&wire.end().await));
    assert!(wire.heard.iter().all(|packet| packet.method != Method::Cs), "what slept is stopped");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(handle.stats().calls_running, 0);

    let (_daemon, handle) = of_ann().await;
    let (mut wire, entity) = ann(&handle).await;
    assert_eq!(code(wire.call(&entity, "fail", json!(null)).await), "late");
    assert!(is_revoked(&wire.end().await));
}

#[tokio::test(start_paused = true)]
async fn until_it_is_answered_nothing_else_is_served_and_nobody_else_waits() {
    let (_daemon, handle) = of_ann().await;
    let (mut wire, entity) = ann(&handle).await;
    // Another activity of the same connection, and another connection of the same user.
    let second = wire.open_as("Account", Some("ann")).await;
    let (mut elsewhere, _) = ann(&handle).await;
    let asked = wire.begin(&entity, "leave late", json!(null)).await;
    let begun = Instant::now();
    assert!(is_revoked(&elsewhere.end().await));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    for function in ["token", "sleep"] {
        wire.begin(&second, function, json!(null)).await;
    }
    assert_eq!(wire.returned().await, (asked, Ok(json!("left"))));
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    assert!(is_revoked(&wire.end().await));
    let heard = wire.heard.iter().filter(|packet| packet.method != Method::Ca).count();
    assert_eq!((heard, wire.heard.len()), (0, 2), "that both are closed, and no event");
}

#[tokio::test(start_paused = true)]
async fn function_that_does_not_end_is_not_waited_for() {
    for function in ["never", "ask"] {
        let (_daemon, handle) = of_ann().await;
        let (mut wire, entity) = ann(&handle).await;
        wire.begin(&entity, function, json!(null)).await;
        let begun = Instant::now();
        assert!(is_revoked(&wire.end().await), "{function}");
        assert_eq!(begun.elapsed(), Duration::from_secs(2), "{function}");
        assert_eq!(handle.stats().calls_running, 0, "{function}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_revocation_meanwhile_cuts_at_once() {
    let book = Book::of(&[("ann", 1), ("bob", 1)]);
    let (_daemon, handle) =
        daemon(Daemon::builder().shared_authority(book.clone()).service(account(&book))).await;
    let (mut wire, entity) = ann(&handle).await;
    let bobs = wire.open_as("Account", Some("bob")).await;
    wire.begin(&bobs, "token", json!(null)).await;
    wire.show("token of bob").await;
    assert_eq!(wire.returned().await.1, Ok(json!(null)));
    wire.begin(&entity, "never", json!(null)).await;
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_millis(1)).await;
    book.revoke_user("bob");
    assert!(is_revoked(&wire.end().await));
    assert_eq!(begun.elapsed(), Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn task_that_is_not_said_to_be_of_the_call_is_somebody_else() {
    let (_daemon, handle) = of_ann().await;
    let (mut wire, entity) = ann(&handle).await;
    wire.begin(&entity, "somebody else", json!(null)).await;
    let begun = Instant::now();
    assert!(is_revoked(&wire.end().await));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(wire.heard.iter().all(|packet| packet.method != Method::Cs));
}
