//! Both sides of a TLS handshake over TCP, in one test.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]
#![allow(dead_code, unreachable_pub, reason = "each test file includes this and uses what it needs")]

use nossock::transport::tcp;
use nossock::transport::tls::{
    ClientTls, ClientTlsBuilder, ServerTls, ServerTlsBuilder, TlsError, TlsStream, explain,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::certs::Authority;

/// What a side has of a handshake.
pub type Handshake = Result<TlsStream<TcpStream>, TlsError>;

/// Two ends of a TCP connection, the client's first.
pub async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = tcp::listen("127.0.0.1", 0, 1).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = tcp::connect("127.0.0.1", port, &tcp::TcpOptions::default()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

/// Both sides' outcome of a handshake in which the client calls the server `localhost`.
pub async fn handshake(client: &ClientTls, server: &ServerTls) -> (Handshake, Handshake) {
    handshake_with("localhost", client, server).await
}

pub async fn handshake_with(host: &str, client: &ClientTls, server: &ServerTls) -> (Handshake, Handshake) {
    let (near, far) = tcp_pair().await;
    tokio::join!(client.connect(near, host), server.accept(far))
}

/// A message each way, after which the client holds what a later connection may resume.
pub async fn talk(client: &mut TlsStream<TcpStream>, server: &mut TlsStream<TcpStream>) {
    tell(client, server).await;
    tell(server, client).await;
}

pub async fn tell(from: &mut TlsStream<TcpStream>, to: &mut TlsStream<TcpStream>) {
    from.write_all(b"hello").await.unwrap();
    from.flush().await.unwrap();
    let mut read = [0; 5];
    to.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"hello");
}

pub fn trusting(authority: &Authority) -> ClientTlsBuilder {
    ClientTls::builder().ca(authority.pem())
}

pub fn server(authority: &Authority) -> ServerTlsBuilder {
    ServerTls::builder(authority.server(&["localhost"]).identity())
}

/// What the client learns of a refusal, at once or from its first read; and what the server says.
pub async fn refusal(client: ClientTls, server: ServerTls) -> (TlsError, TlsError) {
    let (near, far) = tcp_pair().await;
    let client = tokio::spawn(async move {
        match client.connect(near, "localhost").await {
            Ok(mut stream) => {
                // More than the server will read: what it leaves must not reset the connection under its alert.
                let _ = stream.write_all(&[b'x'; 20_000]).await;
                let error = stream.read(&mut [0]).await.unwrap_err();
                explain(&error).unwrap_or_else(|| panic!("{error:?} is no error of TLS"))
            }
            Err(error) => error,
        }
    });
    let at_server = server.accept(far).await.unwrap_err();
    (client.await.unwrap(), at_server)
}
