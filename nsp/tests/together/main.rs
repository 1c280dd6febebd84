//! Our client and our daemon, together, over every carrier.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[allow(dead_code, reason = "each story uses its own part of it")]
#[path = "../daemon/book.rs"]
mod book;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use nossock::transport::tls::{ALPN, ClientTls, Identity, ServerTls};
use nsp::carrier::{Address, WEB_ALPN};
use nsp::client::{ActivityState, CallError, Client, ClientState, Login, OpenError, Reconnect, Trust};
use nsp::daemon::{
    Blob, Daemon, DaemonHandle, Drained, Emitter, Entity, Fail, Json, Listen, Meta, Service, State,
};
use nsp::machine::SpMode;
use nsp::proto::EncodeError;
use nsp::secure::ServerKey;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::book::Book;

fn key() -> Arc<ServerKey> {
    static KEY: LazyLock<Arc<ServerKey>> = LazyLock::new(|| Arc::new(ServerKey::generate().unwrap()));
    Arc::clone(&KEY)
}

/// A chat in which everybody is in one room, and a superuser may empty it.
fn chat() -> Service {
    Service::new("Chat")
        .on_connect(async |entity: Entity| -> Result<(), Fail> {
            if entity.claimed_owner().is_some_and(|owner| owner.unproved() == "mallory") {
                return Err(Fail::new("banned", "not you"));
            }
            entity.join("room")?;
            entity.emit("welcome", &"hi").await?;
            Ok(())
        })
        .function("Say", async |chat: Emitter, Json(text): Json<String>| -> Result<usize, Fail> {
            Ok(chat.to_groups(["room"]).emit("message", &text).await?.sent)
        })
        .function("Fail", async || -> Result<(), Fail> { Err(Fail::new("sour", "the milk is sour")) })
        .function("Never", async || std::future::pending::<()>().await)
        .secure_function("Empty", async |chat: Emitter, boss: Entity| {
            chat.to_groups(["room"]).except(&boss).close()
        })
        .blob_function(
            "Show",
            async |chat: Emitter,
                   Meta(meta): Meta<serde_json::Value>,
                   Blob(blob): Blob|
                   -> Result<(Blob, Meta<serde_json::Value>), Fail> {
                chat.to_groups(["room"]).emit_blob("picture", blob.clone(), &meta).await?;
                Ok((Blob(blob), Meta(meta)))
            },
        )
        .on_data(async |entity: Entity, Json(data): Json<serde_json::Value>| -> Result<(), Fail> {
            entity.send(&data).await?;
            Ok(())
        })
}

/// A daemon that serves until it is told to stop.
struct Served {
    addresses: Vec<Address>,
    handle: DaemonHandle,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Drained>,
}

async fn serve(listens: Vec<Listen>) -> Served {
    let mut builder =
        Daemon::builder().service(chat()).shared_authority(Book::of(&[("root", 0), ("ann", 1)]));
    for listen in listens {
        builder = builder.listen(listen);
    }
    let daemon = builder.bind().await.unwrap();
    let (addresses, handle) = (daemon.addresses(), daemon.handle());
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(daemon.serve_until(async { drop(stopped.await) }));
    Served { addresses, handle, stop, serving }
}

impl Served {
    async fn stop(self) -> Drained {
        drop(self.stop);
        self.serving.await.unwrap()
    }
}

async fn use_everything(ann: &Client, root: &Client) {
    let opening = ann.activity("Chat").owner("ann");
    let mut welcome = opening.events::<String>("welcome");
    let chat = opening.open().await.unwrap();
    assert_eq!(welcome.next().await.unwrap().unwrap(), "hi");
    let boss = root.activity("Chat").owner("root").open().await.unwrap();
    let (mut heard, mut also) = (chat.events::<String>("message"), boss.events::<String>("message"));
    let mut pictures = boss.blob_events("picture");
    let mut data = chat.data::<serde_json::Value>();

    let sent: usize = chat.call("Say", "hello").await.unwrap();
    assert_eq!(sent, 2);
    assert_eq!(
        (heard.next().await.unwrap().unwrap(), also.next().await.unwrap().unwrap()),
        ("hello".into(), "hello".into())
    );

    let blob = Bytes::from(vec![7; 200_000]);
    let (back, meta) = chat.call_blob("Show", blob.clone(), &json!({"w": 64})).await.unwrap();
    assert!(back.into_blob().unwrap() == blob && meta.as_str() == r#"{"w":64}"#);
    let picture = pictures.next().await.unwrap().unwrap();
    assert!(picture.blob == blob && picture.meta.as_str() == r#"{"w":64}"#);

    chat.send(&json!({"typing": true})).await.unwrap();
    assert_eq!(data.next().await.unwrap().unwrap(), json!({"typing": true}));

    let error = chat.call::<()>("Fail", &()).await.unwrap_err();
    assert_eq!((error.code(), error.to_string()), (Some("sour"), "the milk is sour".into()));
    let error = chat.call::<()>("Nowhere", &()).await.unwrap_err();
    assert!(error.code().is_some(), "{error:?}");
    // Ann is asked for her token, has it, and is no superuser; root is.
    let error = chat.call::<usize>("Empty", &()).await.unwrap_err();
    assert!(matches!(error, CallError::Failed(_)), "{error}");
    assert_eq!(boss.call::<usize>("Empty", &()).await.unwrap(), 1);
    while heard.next().await.is_some() {}
    assert!(matches!(&*chat.state().borrow(), ActivityState::Closed(_)));

    let error = ann.activity("Chat").owner("mallory").open().await.unwrap_err();
    assert!(
        matches!(&error, OpenError::Refused(failure) if failure.code.as_deref() == Some("banned")),
        "{error}"
    );
    let error = ann.activity("Nowhere").open().await.unwrap_err();
    assert!(matches!(error, OpenError::NotCreated(_)), "{error}");
}

fn login(user: &str) -> Login {
    Login::new(user).token(format!("token of {user}")).password(format!("password of {user}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_and_daemon_understand_each_other_over_every_carrier() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem()).unwrap();
    let tls = ServerTls::builder(identity).alpn([ALPN, WEB_ALPN]).build().unwrap();
    let client_tls = ClientTls::builder().ca(made.cert.pem()).alpn([WEB_ALPN]).build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let unix = format!("nsp+unix:{}", folder.path().join("nsp.sock").display());
    let clear = ["nsp://127.0.0.1:0", "noservice://127.0.0.1:0", "ws://127.0.0.1:0", &unix];
    let mut listens: Vec<_> = clear.iter().map(|address| Listen::on(*address)).collect();
    listens.extend(
        ["nsps://127.0.0.1:0", "wss://127.0.0.1:0"].map(|address| Listen::on(address).tls(tls.clone())),
    );
    let in_clear = listens.len();
    listens.extend(
        ["nsp://127.0.0.1:0", "noservice://127.0.0.1:0", "ws://127.0.0.1:0"]
            .map(|address| Listen::on(address).sp(key())),
    );
    let served = serve(listens).await;
    for (n, address) in served.addresses.iter().enumerate() {
        let connect = async |user: &str| {
            let mut connector = Client::connect(address).tls(client_tls.clone()).credentials(login(user));
            if n >= in_clear {
                // As if the daemon were far away.
                connector = connector.sp(SpMode::Required).trust(Trust::pinned([key().fingerprint()]));
            }
            connector.await.unwrap()
        };
        let (ann, root) = (connect("ann").await, connect("root").await);
        use_everything(&ann, &root).await;
        ann.close().await;
        root.close().await;
    }
    let drained = served.stop().await;
    assert_eq!(drained.aborted, 0);
}

#[tokio::test]
async fn token_is_given_for_a_password_and_answers_questions() {
    let served = serve(vec![Listen::on("nsp://127.0.0.1:0")]).await;
    let client = Client::connect(&served.addresses[0]).await.unwrap();
    assert!(matches!(client.token("root", "wrong").await, Err(CallError::SignIn)));
    let token = client.token("root", "password of root").await.unwrap();
    let login = Login::new("root").token(token);
    let client = Client::connect(&served.addresses[0]).credentials(login).await.unwrap();
    let boss = client.activity("Chat").owner("root").open().await.unwrap();
    assert_eq!(boss.call::<usize>("Empty", &()).await.unwrap(), 0);
}

#[tokio::test]
async fn service_calls_another_service_of_its_daemon_through_an_activity() {
    let (give, take) = tokio::sync::watch::channel::<Option<Client>>(None);
    let relay = Service::with_state("Relay", take).function(
        "Relay",
        async |State(client): State<tokio::sync::watch::Receiver<Option<Client>>>,
               Json(text): Json<String>|
               -> Result<usize, Fail> {
            let client = client.borrow().clone().ok_or_else(|| Fail::new("early", "not yet"))?;
            let chat = client.activity("Chat").open().await.map_err(Fail::internal)?;
            chat.call("Say", &text).await.map_err(Fail::internal)
        },
    );
    let daemon =
        Daemon::builder().service(chat()).service(relay).listen("ws://127.0.0.1:0").bind().await.unwrap();
    let (address, handle) = (daemon.addresses()[0].clone(), daemon.handle());
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(daemon.serve_until(async { drop(stopped.await) }));
    give.send_replace(Some(Client::over(handle.connect_local())));

    let client = Client::connect(&address).await.unwrap();
    let chat = client.activity("Chat").open().await.unwrap();
    let mut messages = chat.events::<String>("message");
    let relay = client.activity("Relay").open().await.unwrap();
    assert_eq!(relay.call::<usize>("Relay", "through").await.unwrap(), 2);
    assert_eq!(messages.next().await.unwrap().unwrap(), "through");
    client.close().await;
    drop((stop, give));
    serving.await.unwrap();
}

#[tokio::test]
async fn message_beyond_the_limit_is_refused_here_and_the_connection_lives() {
    let listens = ["nsp://127.0.0.1:0", "noservice://127.0.0.1:0", "ws://127.0.0.1:0"].map(Listen::on);
    let served = serve(listens.into()).await;
    for address in &served.addresses {
        let client = Client::connect(address).await.unwrap();
        let chat = client.activity("Chat").open().await.unwrap();
        let error = chat.call_blob("Show", vec![0; 2 << 20], &()).await.unwrap_err();
        assert!(matches!(error, CallError::Encode(EncodeError::TooLarge { .. })), "{error}");
        assert_eq!(chat.call::<usize>("Say", "small").await.unwrap(), 1);
        client.close().await;
    }
}

#[tokio::test]
async fn daemon_that_stops_says_so_and_one_that_comes_back_is_found() {
    let served = serve(vec![Listen::on("nsp://127.0.0.1:0")]).await;
    let address = served.addresses[0].clone();
    let soon = Reconnect { first_delay: Duration::from_millis(5), last_delay: Duration::from_millis(50) };
    let client = Client::connect(&address).reconnect(soon).await.unwrap();
    let chat = client.activity("Chat").open().await.unwrap();
    let mut messages = chat.events::<String>("message");
    let mut state = client.state();

    // Who is sent away is told that its entities are closed, and those do not come back by themselves.
    let connection = served.handle.connections()[0].id;
    assert!(served.handle.kick(connection, "go away"));
    assert!(messages.next().await.is_none());
    let chat = client.activity("Chat").open().await.unwrap();
    let mut messages = chat.events::<String>("message");
    assert_eq!(chat.call::<usize>("Say", "back").await.unwrap(), 1);
    assert_eq!(messages.next().await.unwrap().unwrap(), "back");

    // So it is with a daemon that stops.
    assert_eq!(served.stop().await.aborted, 0);
    assert!(messages.next().await.is_none());
    state.wait_for(|state| !matches!(state, ClientState::Up)).await.unwrap();
    let again = serve(vec![Listen::on(address.to_string())]).await;
    let chat = client.activity("Chat").open().await.unwrap();
    assert_eq!(chat.call::<usize>("Say", "again").await.unwrap(), 1);
    drop(again);
}

#[tokio::test]
async fn calls_go_on_after_an_answer_that_is_larger_than_what_may_wait() {
    let listens = ["nsp://127.0.0.1:0", "noservice://127.0.0.1:0", "ws://127.0.0.1:0"].map(Listen::on);
    let served = serve(listens.into()).await;
    for address in &served.addresses {
        let client = Client::connect(address).await.unwrap();
        let chat = client.activity("Chat").open().await.unwrap().within(Duration::from_secs(2));
        for _ in 0..5 {
            let (back, _) = chat.call_blob("Show", vec![7; 1 << 20], &()).await.unwrap();
            assert_eq!(back.len(), 1 << 20);
        }
        let call = async |n: u8| chat.call_blob("Show", vec![n; 1 << 20], &n).await;
        for answer in futures_util::future::join_all((0..16).map(call)).await {
            answer.unwrap();
        }
        client.close().await;
    }
}
