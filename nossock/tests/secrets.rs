//! What is secret is in no log at any level, in no error and in no `Debug`.
#![cfg(feature = "encrypted-keys")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "common/log.rs"]
mod log;

use nossock::transport::tls::{ClientTls, Fingerprint, Identity, Passphrase, ServerTls};
use nossock::{Client, Connector, Json, Reject, Router, Server, Socket};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use log::Log;

const PASSPHRASE: &str = "correct horse";
const WRONG: &str = "battery-staple-9";
/// What users send is theirs: none of it is for a log.
const BODY: &str = "the-body-of-a-message-77";
const ANSWER: &str = "the-body-of-an-answer-78";
const BAD_BODY: &str = "the-body-that-is-no-number-79";

#[tokio::test]
async fn no_secret_of_a_session_over_tls_is_shown_anywhere() {
    let log = Log::of_everything();

    let certificate = include_str!("fixtures/tls/ec.cert.pem");
    let key = include_str!("fixtures/tls/aes256.key.pem");
    let passphrase = Passphrase::from(PASSPHRASE);
    let wrong = Identity::from_encrypted_pem(certificate, key, &Passphrase::from(WRONG)).unwrap_err();
    log.shows(&wrong);
    log.shows(&wrong.to_string());
    let identity = Identity::from_encrypted_pem(certificate, key, &passphrase).unwrap();
    let builder = ServerTls::builder(identity.clone());
    log.shows(&(&passphrase, &identity, &builder));
    let server_tls = builder.build().unwrap();
    let fingerprint = Fingerprint::of(&CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap());
    let client_tls = ClientTls::builder().pin(fingerprint).identity(identity);
    log.shows(&client_tls);
    let client_tls = client_tls.build().unwrap();

    let router = Router::new()
        .on("note", async |Json(_): Json<String>| {})
        .on("number", async |Json(_): Json<u64>| {})
        .on("fails", async |Json(_): Json<String>| Err::<(), _>(Reject::new("no", "it fails")))
        .on_request("ask", async |Json(_): Json<String>| ANSWER);
    let builder = Server::bind("tls://127.0.0.1:0").unwrap().tls(server_tls.clone());
    log.shows(&(&server_tls, &builder, &client_tls));
    let server = builder.listen().await.unwrap();
    log.shows(&server);
    let address = server.address().clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve_until(router, async { stopped.await.unwrap_or_default() }));

    let connector = Connector::new(address).unwrap().tls(client_tls);
    log.shows(&connector);
    let socket: Socket = connector.connect().await.unwrap();
    for name in ["note", "fails", "nobody"] {
        socket.send(name, BODY).await.unwrap();
    }
    socket.send("number", BAD_BODY).await.unwrap();
    log.shows(&socket); // with what is queued
    let answer: String = socket.request("ask", BODY).await.unwrap();
    assert_eq!(answer, ANSWER);
    log.shows(&socket.request::<u64, _>("ask", BODY).await.unwrap_err().to_string()); // it got a text
    log.shows(&socket.request::<u64, _>("nobody", BODY).await.unwrap_err());
    log.shows(&(socket.peer(), socket.stats(), socket.peer_hello()));
    // Somebody who speaks no TLS, and somebody who hangs up.
    drop(tokio::net::TcpStream::connect(("127.0.0.1", port(&connector))).await.unwrap());
    socket.close().await.unwrap();
    let client = Client::start(connector, Router::new());
    let _: String = client.request("ask", BODY).await.unwrap();
    log.shows(&client);
    client.close().await;
    // One that has no connection, and keeps what it is to send.
    let nowhere = Connector::new("tcp://127.0.0.1:9").unwrap();
    let client = Client::start(nowhere, Router::new());
    client.send("note", BODY).await.unwrap();
    log.shows(&client);
    drop(client);
    stop.send(()).unwrap();
    log.shows(&serving.await.unwrap());

    let mut secrets = vec![PASSPHRASE, WRONG, BODY, BAD_BODY, ANSWER];
    secrets.extend(key.lines().filter(|line| !line.starts_with('-')));
    log.holds_none_of(&secrets, &["connection closed", "127.0.0.1", "nobody handles"]);
}

fn port(connector: &Connector) -> u16 {
    connector.address().to_string().rsplit(':').next().unwrap().parse().unwrap()
}
