//! A connection that is lost, and comes back.

use std::time::Duration;

use futures_util::StreamExt as _;
use nsp::carrier::ListenOptions;
use nsp::client::{
    ActivityEnd, ActivityState, CallError, Client, ClientState, DownReason, EventError, Reconnect,
};
use nsp::machine::daemon;

use crate::peer::{Server, in_memory};

const SOON: Reconnect =
    Reconnect { first_delay: Duration::from_millis(5), last_delay: Duration::from_millis(50) };

#[tokio::test]
async fn activities_are_opened_again_and_what_was_lost_is_said() {
    let server =
        Server::start("nsp://127.0.0.1:0", daemon::Config::default(), ListenOptions::default()).await;
    let client = Client::connect(&server.address).reconnect(SOON).await.unwrap();
    let test = client.activity("Test").owner("ann").open().await.unwrap();
    let mut ticks = test.events::<u32>("tick");
    let entity = test.entity().unwrap();
    let mut state = test.state();
    state.borrow_and_update();

    let under_way = tokio::spawn({
        let test = test.clone();
        async move { test.call::<()>("Never", &()).await }
    });
    while !server.seen.has("call Never") {
        tokio::task::yield_now().await;
    }
    server.cut();
    let error = under_way.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Disconnected) && error.may_be_done(), "{error}");
    // This one is begun while there is no connection, and waits.
    test.call::<()>("Emit", &1).await.unwrap();
    let state = state.borrow_and_update().clone();
    assert!(matches!(state, ActivityState::Open { entity: now } if now != entity));
    assert!(matches!(ticks.next().await, Some(Err(EventError::Gap))));
    assert_eq!(ticks.next().await.unwrap().unwrap(), 0);
    let seen = server.seen.all();
    assert_eq!(seen.iter().filter(|seen| *seen == "create Test Some(\"ann\")").count(), 2, "{seen:?}");
}

#[tokio::test]
async fn client_says_how_it_is_while_the_daemon_is_away() {
    let server =
        Server::start("nsp://127.0.0.1:0", daemon::Config::default(), ListenOptions::default()).await;
    let client = Client::connect(&server.address).reconnect(SOON).await.unwrap();
    let test = client.activity("Test").open().await.unwrap();
    let (address, mut state) = (server.address.to_string(), client.state());
    server.end().await;
    state.wait_for(|state| matches!(state, ClientState::Down { .. })).await.unwrap();
    assert!(matches!(&*test.state().borrow(), ActivityState::Reopening));
    let error = test.within(Duration::from_millis(20)).call::<()>("Echo", &()).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout(_)), "{error}");

    let server = Server::start(&address, daemon::Config::default(), ListenOptions::default()).await;
    state.wait_for(|state| matches!(state, ClientState::Up)).await.unwrap();
    assert_eq!(test.call::<u8>("Echo", &1).await.unwrap(), 1);
    drop(server);
    client.close().await;
    assert!(matches!(&*state.borrow(), ClientState::Closed { reason: None }));
}

#[tokio::test]
async fn without_coming_back_everything_ends_with_the_reason() {
    let server =
        Server::start("nsp://127.0.0.1:0", daemon::Config::default(), ListenOptions::default()).await;
    let client = Client::connect(&server.address).no_reconnect().await.unwrap();
    let test = client.activity("Test").open().await.unwrap();
    let mut ticks = test.events::<u32>("tick");
    drop(server);
    assert!(ticks.next().await.is_none());
    let ActivityState::Closed(ActivityEnd::Disconnected(Some(reason))) = test.state().borrow().clone() else {
        panic!("{:?}", test.state())
    };
    assert!(matches!(reason, DownReason::Ended(_)), "{reason}");
    let error = test.call::<()>("Echo", &()).await.unwrap_err();
    assert!(matches!(error, CallError::NotConnected(Some(_))) && !error.may_be_done(), "{error}");
    assert!(client.activity("Test").open().await.is_err());
    assert!(matches!(client.token("ann", "right").await, Err(CallError::NotConnected(Some(_)))));
}

#[tokio::test]
async fn carrier_that_ends_ends_the_client() {
    let (carrier, _) = in_memory(daemon::Config::default());
    let client = Client::over(carrier);
    let test = client.activity("Test").open().await.unwrap();
    let never = test.call::<()>("Never", &());
    let ending = async {
        tokio::task::yield_now().await;
        client.clone().close().await;
    };
    let (never, ()) = tokio::join!(never, ending);
    assert!(matches!(never, Err(CallError::Disconnected)), "{never:?}");
}

#[test]
fn runtime_that_stops_leaves_nobody_waiting() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let test = runtime.block_on(async {
        let (carrier, _) = in_memory(daemon::Config::default());
        Client::over(carrier).activity("Test").open().await.unwrap()
    });
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let error = other.block_on(test.call::<()>("Echo", &())).unwrap_err();
    assert!(matches!(error, CallError::NotConnected(Some(_))), "{error}");
}
