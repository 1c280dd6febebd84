//! The TLS transport alone: who is believed, who is not, and what either side is told.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

#[path = "common/certs.rs"]
mod certs;
#[path = "common/tls.rs"]
mod common;

use std::io;
use std::sync::Arc;

use nossock::Side;
use nossock::transport::memory;
use nossock::transport::tls::{
    ClientCertificates, ClientTls, LooksLike, Negotiated, ServerTls, TlsError, TlsSetupError, TlsVersion,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use certs::{Authority, self_signed};
use common::{handshake, handshake_with, server, talk, tcp_pair, trusting};

#[tokio::test]
async fn both_versions_of_tls_settle_the_same_things() {
    let authority = Authority::new("dev");
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let server = server(&authority).build().unwrap();
        let client = trusting(&authority).versions([version]).build().unwrap();
        let (near, far) = handshake(&client, &server).await;
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        talk(&mut near, &mut far).await;

        let (at_client, at_server) = (Negotiated::of(&near), Negotiated::of(&far));
        assert_eq!((at_client.version, at_server.version), (version, version));
        assert_eq!(at_client.alpn.as_deref(), Some("nossock/1"));
        assert_eq!(at_server.alpn, at_client.alpn);
        assert_eq!(at_server.cipher_suite, at_client.cipher_suite);
        assert!(at_client.cipher_suite.is_some_and(|suite| suite.starts_with("TLS")));
        assert_eq!(at_server.server_name.as_deref(), Some("localhost"));
        assert_eq!(at_client.peer.unwrap().dns_names(), ["localhost"]);
        assert!(at_server.peer.is_none());
        assert_eq!(at_client.channel_binding, at_server.channel_binding);
        assert_eq!(at_client.channel_binding.is_some(), version == TlsVersion::Tls13);
        assert!(near.is_write_vectored() && far.is_write_vectored());
    }
}

#[tokio::test]
async fn the_channel_binding_is_another_on_every_connection() {
    let authority = Authority::new("dev");
    let (client, server) = (trusting(&authority).build().unwrap(), server(&authority).build().unwrap());
    let first = Negotiated::of(&handshake(&client, &server).await.0.unwrap()).channel_binding;
    let second = Negotiated::of(&handshake(&client, &server).await.0.unwrap()).channel_binding;
    assert_ne!(first, second);
}

#[tokio::test]
async fn versions_without_overlap_are_refused_on_both_sides() {
    let authority = Authority::new("dev");
    for (ours, theirs) in [(TlsVersion::Tls12, TlsVersion::Tls13), (TlsVersion::Tls13, TlsVersion::Tls12)] {
        let client = trusting(&authority).versions([ours]).build().unwrap();
        let server = server(&authority).versions([theirs]).build().unwrap();
        let (near, far) = handshake(&client, &server).await;
        assert!(matches!(near.unwrap_err(), TlsError::Incompatible { .. }));
        assert!(matches!(far.unwrap_err(), TlsError::Incompatible { .. }));
    }
}

#[tokio::test]
async fn a_peer_without_alpn_is_taken_and_one_with_others_is_not() {
    let authority = Authority::new("dev");
    let ours = server(&authority).build().unwrap();
    let silent = server(&authority).alpn([""; 0]).build().unwrap();

    let client = trusting(&authority).alpn([""; 0]).build().unwrap();
    let (near, far) = handshake(&client, &ours).await;
    assert_eq!(Negotiated::of(&near.unwrap()).alpn, None);
    assert_eq!(Negotiated::of(&far.unwrap()).alpn, None);
    let (near, _) = handshake(&trusting(&authority).build().unwrap(), &silent).await;
    assert_eq!(Negotiated::of(&near.unwrap()).alpn, None);

    let client = trusting(&authority).alpn(["h2", "http/1.1"]).build().unwrap();
    let (near, far) = handshake(&client, &ours).await;
    let (near, far) = (near.unwrap_err(), far.unwrap_err());
    assert!(matches!(near, TlsError::NoCommonProtocol { .. }), "{near}");
    assert!(matches!(far, TlsError::NoCommonProtocol { .. }), "{far}");
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused_and_learns_it() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let client = trusting(&ours).build().unwrap();
    let (near, far) = handshake(&client, &server(&other).build().unwrap()).await;
    let (near, far) = (near.unwrap_err(), far.unwrap_err());
    assert!(matches!(near, TlsError::UnknownIssuer { whose: Side::Server, .. }), "{near}");
    assert!(matches!(far, TlsError::OurCertificateRefused { .. }), "{far}");
    assert!(far.to_string().ends_with("it does not trust who issued it"), "{far}");

    // Both are trusted when both are given.
    let client = trusting(&ours).ca(other.pem()).build().unwrap();
    handshake(&client, &server(&other).build().unwrap()).await.0.unwrap();
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_refused_with_the_date() {
    let authority = Authority::new("dev");
    let client = trusting(&authority).build().unwrap();

    let server = ServerTls::new(authority.expired_server(&["localhost"]).identity()).unwrap();
    let error = handshake(&client, &server).await.0.unwrap_err();
    assert!(matches!(error, TlsError::Expired { whose: Side::Server, .. }), "{error}");
    assert!(error.to_string().contains("expired on 2020-12-31 00:00 UTC"), "{error}");

    let server = ServerTls::new(authority.future_server(&["localhost"]).identity()).unwrap();
    let error = handshake(&client, &server).await.0.unwrap_err();
    assert!(matches!(error, TlsError::NotYetValid { whose: Side::Server, .. }), "{error}");
    assert!(error.to_string().contains("but from 3000-01-01 00:00 UTC"), "{error}");
}

#[tokio::test]
async fn the_name_must_be_one_in_the_certificate() {
    let authority = Authority::new("dev");
    let names = ["a.example", "*.b.example", "127.0.0.1", "::1"];
    let server = ServerTls::new(authority.server(&names).identity()).unwrap();
    let client = trusting(&authority).build().unwrap();

    for good in ["a.example", "x.b.example", "127.0.0.1", "::1"] {
        let (near, far) = handshake_with(good, &client, &server).await;
        near.unwrap();
        let is_address = good.parse::<std::net::IpAddr>().is_ok();
        let called = Negotiated::of(&far.unwrap()).server_name;
        assert_eq!(called.as_deref(), (!is_address).then_some(good));
    }
    for wrong in ["c.example", "b.example", "127.0.0.2"] {
        let error = handshake_with(wrong, &client, &server).await.0.unwrap_err();
        let TlsError::WrongName { wanted, presented, .. } = &error else { panic!("{error}") };
        assert_eq!(wanted, wrong);
        assert_eq!(*presented, names);
    }

    let client = trusting(&authority).server_name("a.example").build().unwrap();
    handshake_with("10.0.0.1", &client, &server).await.0.unwrap();
    let client = trusting(&authority).build().unwrap();
    let error = handshake_with("not a name", &client, &server).await.0.unwrap_err();
    assert!(matches!(error, TlsError::ServerName { .. }), "{error}");
}

#[tokio::test]
async fn a_self_signed_ca_certificate_needs_to_be_pinned() {
    let leaf = self_signed(&["localhost"]);
    let server = ServerTls::new(leaf.identity()).unwrap();

    let client = ClientTls::builder().ca(&leaf.certificate).build().unwrap();
    let error = handshake(&client, &server).await.0.unwrap_err();
    assert!(matches!(error, TlsError::CaUsedAsEndEntity { whose: Side::Server, .. }), "{error}");

    let client = ClientTls::builder().danger_accept_any_certificate().build().unwrap();
    let stream = handshake_with("whatever.example", &client, &server).await.0.unwrap();
    let fingerprint = Negotiated::of(&stream).peer.unwrap().sha256_fingerprint();

    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let client = ClientTls::builder().pin(fingerprint).versions([version]).build().unwrap();
        handshake(&client, &server).await.0.unwrap();
        let other = ServerTls::new(self_signed(&["localhost"]).identity()).unwrap();
        let error = handshake(&client, &other).await.0.unwrap_err();
        let TlsError::WrongPin { presented } = error else { panic!("{error}") };
        assert_ne!(presented, fingerprint);
    }
}

#[tokio::test]
async fn a_stolen_certificate_without_its_key_is_no_use_even_without_verification() {
    let authority = Authority::new("dev");
    let (victim, thief) = (authority.server(&["localhost"]), authority.server(&["localhost"]));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = PrivateKeyDer::from_pem_slice(thief.key.as_bytes()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(victim.certificate.as_bytes()).unwrap()];
    let mixed = CertifiedKey::new(chain, provider.key_provider.load_private_key(key).unwrap());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(mixed)));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));

    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let client = ClientTls::builder().danger_accept_any_certificate().versions([version]);
        let client = client.build().unwrap();
        let (near, far) = tcp_pair().await;
        let (near, far) = tokio::join!(client.connect(near, "localhost"), acceptor.accept(far));
        let error = near.unwrap_err();
        assert!(matches!(error, TlsError::BadCertificate { .. }), "{version}: {error}");
        assert!(far.is_err());
    }
}

#[tokio::test]
async fn plain_bytes_on_a_tls_port_are_recognised_and_answered_with_an_alert() {
    let server = server(&Authority::new("dev")).build().unwrap();
    for (bytes, expected) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], LooksLike::Http),
        (b"j\x05hello\0\0\0\x07\"world\"", LooksLike::Nossock),
        (b"c\0\0\0\0\x0c{\"hello\":{}}", LooksLike::Nossock),
        (b"SSH-2.0-x\r\n", LooksLike::Ssh),
        (b"0000000000000002{}", LooksLike::Unknown),
    ] {
        let (mut near, far) = tcp_pair().await;
        let client = tokio::spawn(async move {
            near.write_all(bytes).await.unwrap();
            // Unread by the server, and yet no reason for a reset.
            near.write_all(&[0; 20_000]).await.unwrap();
            let mut answer = Vec::new();
            near.read_to_end(&mut answer).await.map(|_| answer)
        });
        let error = server.accept(far).await.unwrap_err();
        let TlsError::NotTls { looks_like } = error else { panic!("{error}") };
        assert_eq!(looks_like, expected);
        // A record of one fatal alert, unexpected_message.
        assert_eq!(client.await.unwrap().unwrap(), [0x15, 3, 3, 0, 2, 2, 10]);
    }
}

#[tokio::test]
async fn a_server_that_answers_in_the_clear_is_recognised() {
    let client = trusting(&Authority::new("dev")).build().unwrap();
    for (answer, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], LooksLike::Http),
        (b"c\0\0\0\0\x02{}", LooksLike::Nossock),
        (b"SSH-2.0-x\r\n", LooksLike::Ssh),
        (b"\0", LooksLike::Unknown),
    ] {
        let (near, mut far) = tcp_pair().await;
        far.write_all(answer).await.unwrap();
        let error = client.connect(near, "localhost").await.unwrap_err();
        let TlsError::NotTls { looks_like } = error else { panic!("{error}") };
        assert_eq!(looks_like, expected);
    }
}

#[tokio::test]
async fn a_handshake_cut_off_is_not_called_an_error_of_tls() {
    let authority = Authority::new("dev");
    let client = trusting(&authority).build().unwrap();
    let (near, far) = tcp_pair().await;
    let (near, ()) = tokio::join!(client.connect(near, "localhost"), async { drop(far) });
    let error = near.unwrap_err();
    assert!(matches!(error, TlsError::CutOff { .. }), "{error:?}");

    let server = server(&authority).build().unwrap();
    for sent in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let (mut near, far) = tcp_pair().await;
        near.write_all(sent).await.unwrap();
        drop(near);
        let error = server.accept(far).await.unwrap_err();
        match error {
            TlsError::CutOff { source } => assert_eq!(source.kind(), io::ErrorKind::UnexpectedEof),
            error => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_handshake_works_however_its_bytes_arrive() {
    let authority = Authority::new("dev");
    let (client, server) = (trusting(&authority).build().unwrap(), server(&authority).build().unwrap());
    // Rustls does not read while it has handshake messages to write: the two sides need room for the shortest of them,
    // which is a record of six bytes.
    for buffer in [6, 64 * 1024] {
        let (near, relay_near) = memory::pair(buffer);
        let (relay_far, far) = memory::pair(buffer);
        let (from_client, to_client) = tokio::io::split(relay_near);
        let (from_server, to_server) = tokio::io::split(relay_far);
        let upstream = tokio::spawn(drip(from_client, to_server));
        let downstream = tokio::spawn(drip(from_server, to_client));
        let client = async {
            let mut near = client.connect_over(near, "localhost").await.unwrap();
            // Reads first: a server's handshake ends with session tickets, which do not fit into six bytes.
            let mut read = [0; 7];
            near.read_exact(&mut read).await.unwrap();
            near.write_all(&read).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let server = async {
            let mut far = server.accept(far).await.unwrap();
            far.write_all(b"welcome").await.unwrap();
            far.flush().await.unwrap();
            let mut text = String::new();
            far.read_to_string(&mut text).await.unwrap();
            text
        };
        let ((), echoed) = tokio::join!(client, server);
        assert_eq!(echoed, "welcome");
        upstream.abort();
        downstream.abort();
    }
}

/// Carries bytes one at a time, letting whoever reads them read each alone.
async fn drip<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(mut from: R, mut to: W) {
    while let Ok(byte) = from.read_u8().await {
        if to.write_u8(byte).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn what_cannot_be_set_up_is_refused_before_the_first_peer() {
    let authority = Authority::new("dev");
    let error = server(&authority).client_certificates(ClientCertificates::Ask).build().unwrap_err();
    assert!(matches!(error, TlsSetupError::NoClientCa));
    assert!(matches!(ClientTls::builder().ca("").build().unwrap_err(), TlsSetupError::NoCa { .. }));
    let key_instead = ClientTls::builder().ca(authority.client("x").key).build().unwrap_err();
    assert!(matches!(key_instead, TlsSetupError::NoCa { .. }));
    assert!(matches!(trusting(&authority).versions([]).build().unwrap_err(), TlsSetupError::NoVersion));
    let missing = ClientTls::builder().ca_file("/nowhere/ca.pem").build().unwrap_err();
    assert_eq!(missing.to_string(), "cannot read the CA file `/nowhere/ca.pem`");
}

#[cfg(feature = "encrypted-keys")]
#[tokio::test]
async fn an_encrypted_key_serves_as_well_as_any() {
    use nossock::transport::tls::{Fingerprint, Identity, Passphrase};

    let certificate = include_str!("fixtures/tls/ec.cert.pem");
    let key = include_str!("fixtures/tls/aes256.key.pem");
    let identity = Identity::from_encrypted_pem(certificate, key, &Passphrase::from("correct horse"));
    let server = ServerTls::new(identity.unwrap()).unwrap();
    let fingerprint = Fingerprint::of(&CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap());
    let client = ClientTls::builder().pin(fingerprint).build().unwrap();
    let (near, far) = handshake(&client, &server).await;
    talk(&mut near.unwrap(), &mut far.unwrap()).await;
}
