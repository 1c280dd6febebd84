//! Activities from their opening to their end.

use futures_util::StreamExt as _;
use nossock::transport::tls::{ClientTls, Identity, ServerTls};
use nsp::carrier::{ListenOptions, WEB_ALPN, connect};
use nsp::client::{ActivityEnd, ActivityState, CallError, Client, ClientState, OpenError};
use nsp::machine::daemon;

use crate::peer::{Server, in_memory, secured};

#[tokio::test]
async fn everything_works_over_every_carrier_in_clear_and_under_sp() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem()).unwrap();
    let tls = ServerTls::builder(identity).alpn([nossock::transport::tls::ALPN, WEB_ALPN]).build().unwrap();
    let client_tls = ClientTls::builder().ca(made.cert.pem()).alpn([WEB_ALPN]).build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let unix = format!("nsp+unix:{}", folder.path().join("nsp.sock").display());
    for address in [
        "nsp://127.0.0.1:0",
        "nsps://127.0.0.1:0",
        &unix,
        "noservice://127.0.0.1:0",
        "ws://127.0.0.1:0",
        "wss://127.0.0.1:0",
    ] {
        for config in [daemon::Config::default(), secured()] {
            let options = ListenOptions { tls: Some(tls.clone()), ..ListenOptions::default() };
            let under_sp = matches!(config.sp, nsp::machine::SpPolicy::Required { .. });
            let server = Server::start(address, config, options).await;
            let client = Client::connect(&server.address).tls(client_tls.clone()).await.unwrap();
            use_everything(&client).await;
            client.close().await;
            assert_eq!(server.seen.has("secured: Strong"), under_sp, "{address}: {:?}", server.seen.all());
            server.end().await;
        }
    }
}

async fn use_everything(client: &Client) {
    let test = client.activity("Test").owner("ann").open().await.unwrap();
    let mut data = test.data::<Vec<u8>>();
    let echoed: Vec<u8> = test.call("Echo", &[1, 2, 3]).await.unwrap();
    assert_eq!(echoed, [1, 2, 3]);
    let blob = vec![7; 200_000];
    let (back, meta) = test.call_blob("Any", blob.clone(), &"about it").await.unwrap();
    assert!(back.into_blob().unwrap() == blob);
    assert_eq!(meta.to::<String>().unwrap(), "about it");
    test.send(&[4, 5]).await.unwrap();
    assert_eq!(data.next().await.unwrap().unwrap(), [4, 5]);
    let token = client.token("ann", "right").await.unwrap();
    assert_eq!(token.reveal(), "t0ken");
    assert!(matches!(client.token("ann", "wrong").await, Err(CallError::SignIn)));
    test.close().await;
}

#[tokio::test]
async fn carrier_that_is_there_already_serves_the_same_activities() {
    let (carrier, seen) = in_memory(daemon::Config::default());
    let client = Client::over(carrier);
    use_everything(&client).await;
    client.close().await;
    assert!(seen.has("closed") && seen.has("create Test Some(\"ann\")"), "{:?}", seen.all());
}

#[tokio::test]
async fn who_refuses_is_named() {
    let (carrier, _) = in_memory(daemon::Config::default());
    let client = Client::over(carrier);
    let error = client.activity("Nowhere").open().await.unwrap_err();
    let OpenError::NotCreated(failure) = &error else { panic!("{error}") };
    assert_eq!(failure.code.as_deref(), Some("no_service"));
    let error = client.activity("Test").owner("mallory").open().await.unwrap_err();
    let OpenError::Refused(failure) = &error else { panic!("{error}") };
    assert_eq!(failure.to_string(), "not you");
    // The connection goes on.
    let test = client.activity("Test").open().await.unwrap();
    let answer: String = test.call("Echo", "still here").await.unwrap();
    assert_eq!(answer, "still here");
}

#[tokio::test]
async fn several_activities_share_a_connection_and_close_one_by_one() {
    let server =
        Server::start("nsp://127.0.0.1:0", daemon::Config::default(), ListenOptions::default()).await;
    let client = Client::connect(&server.address).await.unwrap();
    let one = client.activity("Test").open().await.unwrap();
    let other = client.activity("Test").open().await.unwrap();
    assert_ne!(one.entity().unwrap(), other.entity().unwrap());
    let same = one.clone();
    one.close().await;
    assert!(matches!(same.call::<()>("Echo", &1).await, Err(CallError::Closed)));
    assert!(matches!(&*same.state().borrow(), ActivityState::Closed(ActivityEnd::Local)));
    other.call::<u8>("Echo", &1).await.unwrap();

    // The last handle closes the last activity, and then the connection.
    let mut state = client.state();
    drop((other, same, client));
    state.wait_for(|state| matches!(state, ClientState::Closed { reason: None })).await.unwrap();
    let seen = server.seen.all();
    assert_eq!(seen.iter().filter(|seen| *seen == "connected").count(), 1);
    assert_eq!(seen.iter().filter(|seen| *seen == "closed").count(), 2, "{seen:?}");
}

#[tokio::test]
async fn service_may_close_an_activity() {
    let (carrier, _) = in_memory(daemon::Config::default());
    let client = Client::over(carrier);
    let test = client.activity("Test").open().await.unwrap();
    let mut ticks = test.events::<u8>("tick");
    let error = test.call::<()>("Close", &()).await.unwrap_err();
    assert!(matches!(error, CallError::Closed) && error.may_be_done(), "{error}");
    assert!(matches!(&*test.state().borrow(), ActivityState::Closed(ActivityEnd::Service)));
    assert!(ticks.next().await.is_none());
    assert!(matches!(test.send(&1).await, Err(CallError::Closed)));
}

#[tokio::test]
async fn dropped_opening_leaves_nothing_behind() {
    let (carrier, seen) = in_memory(daemon::Config::default());
    let client = Client::over(carrier);
    {
        let opening = client.activity("Test").owner("slow").open();
        let waited = tokio::time::timeout(std::time::Duration::from_millis(20), opening).await;
        assert!(waited.is_err(), "{waited:?}");
    }
    let test = client.activity("Test").open().await.unwrap();
    // The daemon verifies the first one now, and hears that nobody wants it.
    test.call::<()>("Verify", &()).await.unwrap();
    test.call::<()>("Nothing", &()).await.unwrap();
    assert!(seen.has("closed"), "{:?}", seen.all());
}

#[tokio::test(start_paused = true)]
async fn opening_has_a_deadline_with_and_without_a_connection() {
    let (carrier, _) = in_memory(daemon::Config::default());
    let client = Client::over(carrier);
    let start = tokio::time::Instant::now();
    let error = client.activity("Test").owner("slow").open().await.unwrap_err();
    assert!(matches!(error, OpenError::Timeout), "{error}");
    assert_eq!(start.elapsed().as_secs(), 30);

    // Nobody listens there any more.
    let address = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("nsp://{}", listener.local_addr().unwrap())
    };
    let client = Client::connect(address).lazy().unwrap();
    let start = tokio::time::Instant::now();
    let error = client.activity("Test").open().await.unwrap_err();
    assert!(matches!(error, OpenError::Timeout), "{error}");
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn connection_is_made_when_it_is_needed_and_not_kept_without_need() {
    let server =
        Server::start("nsp://127.0.0.1:0", daemon::Config::default(), ListenOptions::default()).await;
    let client = Client::connect(&server.address).lazy().unwrap();
    assert!(matches!(&*client.state().borrow(), ClientState::Idle));
    assert!(server.seen.all().is_empty());
    client.token("ann", "right").await.unwrap();
    assert!(server.seen.has("connected"));
    server.cut();
    let mut state = client.state();
    state.wait_for(|state| matches!(state, ClientState::Idle)).await.unwrap();
    let test = client.activity("Test").open().await.unwrap();
    test.call::<u8>("Echo", &1).await.unwrap();
    client.close().await;
    assert!(matches!(test.call::<u8>("Echo", &1).await, Err(CallError::NotConnected(None))));
}

#[tokio::test]
async fn failure_of_the_first_connection_is_told_at_once() {
    let error = Client::connect("nsp://127.0.0.1").await.unwrap_err();
    assert!(error.is_permanent() && error.to_string().starts_with("no port in"), "{error}");
    let address = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("nsp://{}", listener.local_addr().unwrap())
    };
    let error = Client::connect(address).await.unwrap_err();
    assert!(!error.is_permanent() && error.to_string().starts_with("cannot connect to"), "{error}");

    // A daemon that hangs up before it has said anything.
    let server = Server::start("nsp://127.0.0.1:0", secured(), ListenOptions::default()).await;
    let carrier = connect(&server.address, &nsp::carrier::ConnectOptions::default()).await.unwrap();
    drop(carrier);
}
