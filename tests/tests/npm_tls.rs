//! TLS between ours and the original package of npm: both versions, certificates on both sides, and what is refused.
//!
//! The options in the lines that Node is told are those of the package, which are those of Node.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::path::Path;
use std::time::Duration;

use nossock::transport::tls::{
    ClientCertificates, ClientTls, ClientTlsBuilder, Identity, Passphrase, ServerTls, TlsError, TlsVersion,
};
use nossock::wire::Body;
use nossock::{CloseReason, Config, ConnectError, Connector, Json, Limits, Router, Socket};
use serde_json::{Value, json};
use tests::{Certificates, Node, Original, Ours, PASSPHRASE, in_time, pattern, sha256, with_original};

const VERSIONS: [(TlsVersion, &str); 2] = [(TlsVersion::Tls12, "TLSv1.2"), (TlsVersion::Tls13, "TLSv1.3")];

fn large() -> Config {
    Config { limits: Limits { max_body: 8 * 1024 * 1024, ..Limits::default() }, ..Config::default() }
}

fn our_tls(certificates: &Certificates, clients: ClientCertificates) -> ServerTls {
    let builder = ServerTls::builder(certificates.server().identity());
    builder.client_certificates(clients).ca_file(certificates.ca()).build().unwrap()
}

/// A server of ours that answers `echo`.
async fn our_server(tls: ServerTls) -> Ours {
    let router = Router::new().on_request("echo", async |Json(value): Json<Value>| value);
    Ours::listen(Some(tls), large(), router).await
}

/// A server of the original that answers `echo`, with options beside its certificate.
async fn their_server(original: Original, certificates: &Certificates, more: Value) -> (Node, u16) {
    let files = certificates.server();
    let options = merged(json!({"cert": files.cert, "key": files.key, "ca": certificates.ca()}), more);
    let mut node = original.start().await;
    let requests = json!([{"name": "echo", "how": "echo"}]);
    node.tell(json!({"do": "listen", "type": "tls", "options": options, "requests": requests})).await;
    let port = node.port().await;
    (node, port)
}

/// A client of the original that was told to connect.
async fn their_client(original: Original, port: u16, options: Value) -> Node {
    let mut node = original.start().await;
    let options = merged(json!({"port": port}), options);
    node.tell(json!({"do": "connect", "type": "tls", "options": options})).await;
    node
}

/// The options by which a client of the original presents itself.
fn as_ada(certificates: &Certificates) -> Value {
    let files = certificates.ada();
    json!({"cert": files.cert, "key": files.key, "ca": certificates.ca()})
}

fn merged(mut options: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("options are an object") };
    options.as_object_mut().unwrap().extend(more);
    options
}

fn only(version: &str) -> Value {
    json!({"minVersion": version, "maxVersion": version})
}

async fn dial(port: u16, tls: ClientTlsBuilder) -> Result<Socket, ConnectError> {
    let connector = Connector::new(format!("tls://127.0.0.1:{port}")).unwrap();
    connector.tls(tls.build().unwrap()).config(large()).connect().await
}

fn common_name(socket: &Socket) -> Option<String> {
    socket.peer().certificates().and_then(nossock::transport::tls::PeerCertificates::common_name)
}

#[tokio::test]
async fn their_client_with_a_certificate_talks_to_our_server() {
    with_original(async |original| {
        let certificates = Certificates::new();
        let mut ours = our_server(our_tls(&certificates, ClientCertificates::Require)).await;
        for (version, name) in VERSIONS {
            let options = merged(as_ada(&certificates), only(name));
            let mut theirs = their_client(original, ours.port(), options).await;
            let connected = theirs.hear("connected").await;
            assert_eq!((&connected["version"], &connected["authorized"]), (&json!(name), &json!(true)));
            assert_eq!(connected["subject"], "server");
            let socket = ours.socket().await;
            let tls = socket.peer().tls.clone().unwrap();
            assert_eq!((tls.version, &tls.alpn), (version, &None), "the original names no protocol");
            assert_eq!(common_name(&socket).as_deref(), Some("ada"));

            let answer = theirs.ask(json!({"do": "ask", "name": "echo", "json": "日本"}), "answer").await;
            assert_eq!(answer["value"], "日本");
            let sent = theirs.ask(json!({"do": "sendBytes", "name": "file", "size": 5 << 20}), "sent").await;
            let Body::Raw(bytes) = ours.message().await.body else { panic!("not a buffer") };
            assert_eq!(sent["sha256"], sha256(&bytes));
            socket.send("bye", &"Ada").await.unwrap();
            in_time("closing", socket.close()).await.unwrap();
            theirs.hear("message").await; // the answer
            assert_eq!(theirs.hear("message").await["json"], "Ada");
            theirs.hear("close").await;
        }
    })
    .await;
}

#[tokio::test]
async fn our_client_with_a_certificate_talks_to_their_server() {
    with_original(async |original| {
        let certificates = Certificates::new();
        let ada = || ClientTls::builder().ca_file(certificates.ca()).identity(certificates.ada().identity());
        for (version, name) in VERSIONS {
            let options = merged(json!({"requestCert": true, "rejectUnauthorized": true}), only(name));
            let (mut theirs, port) = their_server(original, &certificates, options).await;
            let socket = dial(port, ada()).await.unwrap();
            assert_eq!(socket.peer().tls.as_ref().unwrap().version, version);
            assert_eq!(common_name(&socket).as_deref(), Some("server"));
            let connection = theirs.hear("connection").await;
            assert_eq!((&connection["version"], &connection["authorized"]), (&json!(name), &json!(true)));
            assert_eq!(connection["subject"], "ada");

            let answer: String = socket.request("echo", "日本").await.unwrap();
            assert_eq!(answer, "日本");
            let bytes = pattern(5 << 20);
            socket.send_raw("file", bytes.clone()).await.unwrap();
            in_time("closing", socket.close()).await.unwrap();
            let message = loop {
                let message = theirs.hear("message").await;
                if message["name"] == "file" {
                    break message;
                }
            };
            assert_eq!(message["sha256"], sha256(&bytes));
            theirs.hear("close").await;
        }
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_messages_arrive_in_order_under_tls() {
    with_original(async |original| {
        let certificates = Certificates::new();
        let mut ours = our_server(our_tls(&certificates, ClientCertificates::None)).await;
        let mut theirs = their_client(original, ours.port(), json!({"ca": certificates.ca()})).await;
        theirs.hear("connected").await;
        let socket = ours.socket().await;
        theirs.tell(json!({"do": "sendMany", "name": "number", "count": 10_000})).await;
        for n in 0..10_000 {
            socket.send("number", &n).await.unwrap();
        }
        for n in 0..10_000 {
            assert_eq!(ours.message().await.body.parse::<u32>().unwrap(), n);
            assert_eq!(theirs.hear("message").await["json"], n);
        }
    })
    .await;
}

#[tokio::test]
async fn all_of_300_requests_are_answered_both_ways_under_tls() {
    with_original(async |original| {
        let certificates = Certificates::new();
        let ours = our_server(our_tls(&certificates, ClientCertificates::None)).await;
        let mut client = their_client(original, ours.port(), json!({"ca": certificates.ca()})).await;
        client.hear("connected").await;
        let all = client.ask(json!({"do": "askMany", "name": "echo", "count": 300}), "answers").await;
        assert_eq!(all["right"], 300, "{all}");

        let (_server, port) = their_server(original, &certificates, json!({})).await;
        let socket = dial(port, ClientTls::builder().ca_file(certificates.ca())).await.unwrap();
        let asking: Vec<_> = (0..300)
            .map(|n| {
                let socket = socket.clone();
                tokio::spawn(async move { (n, socket.request::<u32, _>("echo", &n).await) })
            })
            .collect();
        for asked in asking {
            let (n, answer) = asked.await.unwrap();
            assert_eq!(answer.unwrap(), n);
        }
    })
    .await;
}

#[tokio::test]
async fn their_end_under_tls_is_a_clean_close_and_loses_nothing_and_their_destroy_is_not() {
    with_original(async |original| {
        let certificates = Certificates::new();
        let mut ours = our_server(our_tls(&certificates, ClientCertificates::None)).await;
        for (_, name) in VERSIONS {
            let options = merged(json!({"ca": certificates.ca()}), only(name));
            let mut theirs = their_client(original, ours.port(), options.clone()).await;
            theirs.hear("connected").await;
            let socket = ours.socket().await;
            theirs.tell(json!({"do": "sendMany", "name": "last", "count": 1000, "then": "end"})).await;
            for n in 0..1000 {
                assert_eq!(ours.message().await.body.parse::<u32>().unwrap(), n);
            }
            let reason = in_time("the close", socket.closed()).await;
            assert!(reason.is_clean(), "{name}: {reason}");
            theirs.hear("close").await;

            let mut theirs = their_client(original, ours.port(), options).await;
            theirs.hear("connected").await;
            let socket = ours.socket().await;
            theirs.tell(json!({"do": "call", "method": "destroy"})).await;
            let reason = in_time("the close", socket.closed()).await;
            // Whoever can cut the connection could cut off its end: TLS tells that from a close.
            assert!(!reason.is_clean(), "{name}: {reason}");
        }
    })
    .await;
}

#[tokio::test]
async fn end_of_their_server_under_tls_is_a_clean_close_for_our_client() {
    with_original(async |original| {
        let certificates = Certificates::new();
        for (_, name) in VERSIONS {
            let (mut theirs, port) = their_server(original, &certificates, only(name)).await;
            let socket = dial(port, ClientTls::builder().ca_file(certificates.ca())).await.unwrap();
            theirs.hear("connection").await;
            theirs.tell(json!({"do": "sendMany", "name": "last", "count": 1000, "then": "end"})).await;
            for n in 0..1000 {
                let message = in_time("a message", socket.recv()).await.unwrap().unwrap();
                assert_eq!(message.json::<u32>().unwrap(), n);
            }
            assert!(in_time("the end", socket.recv()).await.unwrap().is_none(), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn encrypted_key_opens_with_its_passphrase_on_both_sides() {
    with_original(async |original| {
        let certificates = Certificates::new();
        let encrypted = |name: &str| certificates.directory().join(format!("{name}.encrypted.pem"));
        original.encrypt(&certificates.ada().key, &encrypted("ada"), PASSPHRASE).await;
        original.encrypt(&certificates.server().key, &encrypted("server"), PASSPHRASE).await;
        let identity = |cert: &Path, key: &Path| {
            Identity::from_encrypted_pem_files(cert, key, &Passphrase::from(PASSPHRASE)).unwrap()
        };

        let tls = ServerTls::builder(identity(&certificates.server().cert, &encrypted("server")))
            .client_certificates(ClientCertificates::Require)
            .ca_file(certificates.ca());
        let mut ours = our_server(tls.build().unwrap()).await;
        let options = merged(as_ada(&certificates), json!({"key": encrypted("ada"), "passphrase": PASSPHRASE}));
        let mut client = their_client(original, ours.port(), options).await;
        client.hear("connected").await;
        assert_eq!(common_name(&ours.socket().await).as_deref(), Some("ada"));

        let options = json!({
            "key": encrypted("server"), "passphrase": PASSPHRASE, "requestCert": true, "rejectUnauthorized": true,
        });
        let (mut server, port) = their_server(original, &certificates, options).await;
        let ada = identity(&certificates.ada().cert, &encrypted("ada"));
        let socket = dial(port, ClientTls::builder().ca_file(certificates.ca()).identity(ada)).await.unwrap();
        assert_eq!(server.hear("connection").await["subject"], "ada");
        assert_eq!(socket.request::<u8, _>("echo", &1).await.unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn their_client_calls_our_server_by_name() {
    with_original(async |original| {
        let certificates = Certificates::new();
        let mut ours = our_server(our_tls(&certificates, ClientCertificates::None)).await;
        let options = json!({"ca": certificates.ca(), "servername": "localhost"});
        let mut theirs = their_client(original, ours.port(), options).await;
        theirs.hear("connected").await;
        let socket = ours.socket().await;
        assert_eq!(socket.peer().tls.as_ref().unwrap().server_name.as_deref(), Some("localhost"));
        assert_eq!(common_name(&socket), None, "it was not asked for a certificate");
    })
    .await;
}

#[tokio::test]
async fn their_client_without_a_certificate_or_with_a_strangers_is_refused_by_our_server() {
    with_original(async |original| {
        let certificates = Certificates::new();
        let mut ours = our_server(our_tls(&certificates, ClientCertificates::Require)).await;
        let stranger = certificates.stranger();
        for (_, name) in VERSIONS {
            for (options, alert) in [
                (json!({}), "CERTIFICATE_REQUIRED"),
                (json!({"cert": stranger.cert, "key": stranger.key}), "UNKNOWN_CA"),
            ] {
                let options = merged(merged(json!({"ca": certificates.ca()}), only(name)), options);
                let mut theirs = their_client(original, ours.port(), options).await;
                let error = theirs.hear("error").await;
                assert!(error["code"].as_str().unwrap().contains(alert), "{name}: {error}, not {alert}");
                theirs.hear("close").await;
            }
        }
        let mut theirs = their_client(original, ours.port(), as_ada(&certificates)).await;
        theirs.hear("connected").await;
        assert_eq!(common_name(&ours.socket().await).as_deref(), Some("ada"), "the first that got in");
    })
    .await;
}

#[tokio::test]
async fn our_server_may_ask_for_a_certificate_without_requiring_one() {
    with_original(async |original| {
        let certificates = Certificates::new();
        let mut ours = our_server(our_tls(&certificates, ClientCertificates::Ask)).await;
        for (options, expected) in
            [(json!({"ca": certificates.ca()}), None), (as_ada(&certificates), Some("ada".to_owned()))]
        {
            let mut theirs = their_client(original, ours.port(), options).await;
            theirs.hear("connected").await;
            assert_eq!(common_name(&ours.socket().await), expected);
        }
    })
    .await;
}

#[tokio::test]
async fn our_client_learns_that_their_server_wants_a_certificate() {
    with_original(async |original| {
        let certificates = Certificates::new();
        let trusting = || ClientTls::builder().ca_file(certificates.ca());
        for (_, name) in VERSIONS {
            let options = merged(json!({"requestCert": true, "rejectUnauthorized": true}), only(name));
            let (mut theirs, port) = their_server(original, &certificates, options).await;
            // Under TLS 1.2 the refusal comes in the handshake, under 1.3 after our side of it.
            match dial(port, trusting()).await {
                Ok(socket) => {
                    let reason = in_time("the close", socket.closed()).await;
                    let CloseReason::Tls(error) = &reason else { panic!("{reason:?}") };
                    assert!(matches!(**error, TlsError::ClientCertificateRequired { .. }), "{reason:?}");
                }
                Err(error) => {
                    assert!(matches!(error, ConnectError::Tls(TlsError::Refused { .. })), "{error:?}");
                    assert!(error.to_string().contains("client certificate"), "{error}");
                }
            }
            // A stranger's certificate Node takes in, and then hangs up without a word to tell from.
            match dial(port, trusting().identity(certificates.stranger().identity())).await {
                Ok(socket) => assert!(!in_time("the close", socket.closed()).await.is_clean()),
                Err(error) => {
                    assert!(matches!(error, ConnectError::Tls(TlsError::CutOff { .. })), "{error:?}");
                }
            }
            let socket = dial(port, trusting().identity(certificates.ada().identity())).await.unwrap();
            assert_eq!(theirs.hear("connection").await["on"], 0, "the first that got in");
            assert_eq!(socket.request::<u8, _>("echo", &1).await.unwrap(), 1);
        }
    })
    .await;
}

#[tokio::test]
async fn their_server_may_let_our_client_in_unauthorized() {
    with_original(async |original| {
        let certificates = Certificates::new();
        let options = json!({"requestCert": true, "rejectUnauthorized": false});
        let (mut theirs, port) = their_server(original, &certificates, options).await;
        for identity in [None, Some(certificates.stranger().identity())] {
            let tls = ClientTls::builder().ca_file(certificates.ca());
            let tls = identity.into_iter().fold(tls, ClientTlsBuilder::identity);
            let socket = dial(port, tls).await.unwrap();
            assert_eq!(theirs.hear("connection").await["authorized"], false);
            assert_eq!(socket.request::<u8, _>("echo", &1).await.unwrap(), 1);
        }
    })
    .await;
}

#[tokio::test]
async fn server_that_is_not_trusted_is_refused_by_either_client_unless_told_otherwise() {
    with_original(async |original| {
        let certificates = Certificates::new();
        let mut ours = our_server(our_tls(&certificates, ClientCertificates::None)).await;
        let mut theirs =
            their_client(original, ours.port(), json!({"ca": certificates.strangers_ca()})).await;
        let error = theirs.hear("error").await;
        assert_eq!(error["code"], "UNABLE_TO_VERIFY_LEAF_SIGNATURE", "{error}");
        let mut theirs = their_client(original, ours.port(), json!({"rejectUnauthorized": false})).await;
        assert_eq!(theirs.hear("connected").await["authorized"], false);
        ours.socket().await;

        let (_theirs, port) = their_server(original, &certificates, json!({})).await;
        let error = dial(port, ClientTls::builder().ca_file(certificates.strangers_ca())).await.unwrap_err();
        assert!(matches!(error, ConnectError::Tls(TlsError::UnknownIssuer { .. })), "{error:?}");
        dial(port, ClientTls::builder().danger_accept_any_certificate()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn plain_and_tls_taken_for_each_other_are_named() {
    with_original(async |original| {
        let certificates = Certificates::new();
        let mut ours = Ours::listen(None, Config::default(), Router::new()).await;
        let mut theirs = their_client(original, ours.port(), json!({"ca": certificates.ca()})).await;
        let reason = in_time("the close", ours.socket().await.closed()).await.to_string();
        assert!(reason.contains("this looks like TLS"), "{reason}");
        theirs.hear("close").await;

        let mut ours = our_server(our_tls(&certificates, ClientCertificates::None)).await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        theirs.tell(json!({"do": "send", "name": "plain", "json": 1})).await;
        theirs.hear("close").await;
        let mut theirs = their_client(original, ours.port(), json!({"ca": certificates.ca()})).await;
        theirs.hear("connected").await;
        ours.socket().await;

        // The original takes our first bytes for a frame whose body is still to come, and says nothing.
        let (_theirs, port) = original.listen(json!([])).await;
        let config = Config {
            limits: Limits { connect: Duration::from_millis(500), ..Limits::default() },
            ..Config::default()
        };
        let tls = ClientTls::builder().ca_file(certificates.ca()).build().unwrap();
        let connector = Connector::new(format!("tls://127.0.0.1:{port}")).unwrap().tls(tls).config(config);
        let error = connector.connect().await.unwrap_err();
        assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
    })
    .await;
}
