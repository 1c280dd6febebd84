//! TLS on both sides: the server shows a certificate, and so does the client.
//!
//! `tls://` is TLS or nothing. `nossock cert new DIR` writes such certificates as files; here they are made on the spot,
//! by an authority that both sides trust.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;

use nossock::transport::tls::{ClientCertificates, ClientTls, Identity, ServerTls};
use nossock::{Connector, Peer, Router, Server};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Result<Authority, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "example authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// A certificate for somebody, with its key.
fn identity(authority: &Authority, name: &str) -> Result<Identity, Box<dyn Error>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.signed_by(&key, authority)?;
    Ok(Identity::from_pem(certificate.pem(), key.serialize_pem())?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let authority = authority()?;

    // The server demands a certificate, and a handler sees whose it was.
    let tls = ServerTls::builder(identity(&authority, "localhost")?)
        .client_certificates(ClientCertificates::Require)
        .ca(authority.pem())
        .build()?;
    let router = Router::new().on_request("who am I", async |peer: Peer| {
        peer.certificates().and_then(nossock::transport::tls::PeerCertificates::common_name)
    });
    let server = Server::bind("tls://localhost:0")?.tls(tls).listen().await?;
    let address = server.address().clone();
    tokio::spawn(server.serve(router));

    // Somebody with a certificate.
    let alice = ClientTls::builder().ca(authority.pem()).identity(identity(&authority, "alice")?).build()?;
    let socket = Connector::new(address.clone())?.tls(alice).connect().await?;
    let name: Option<String> = socket.request("who am I", &()).await?;
    println!("the server knows me as {}", name.unwrap_or_default());
    socket.close().await?;

    // Somebody without one. Under TLS 1.3 the refusal comes after the handshake: whoever waits on the socket learns of it.
    let nobody = ClientTls::builder().ca(authority.pem()).build()?;
    let socket = Connector::new(address.clone())?.tls(nobody).connect().await?;
    println!("without a certificate: {}", socket.closed().await);

    // Somebody who does not trust the server's authority.
    let stranger = ClientTls::new()?;
    let refused = Connector::new(address)?.tls(stranger).connect().await.err();
    println!("without trust: {}", refused.map_or_else(String::new, |error| error.to_string()));
    Ok(())
}
