//! TLS that knows its clients: certificates asked for and required, replaced while the server runs.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

#[path = "common/certs.rs"]
mod certs;
#[path = "common/tls.rs"]
mod common;

use nossock::Side;
use nossock::transport::tls::{
    ClientCertificates, Negotiated, ServerTls, TlsError, TlsSetupError, TlsVersion,
};

use certs::Authority;
use common::{handshake, refusal, server, talk, trusting};

#[tokio::test]
async fn a_required_client_certificate_that_is_missing_is_named_on_both_sides() {
    let authority = Authority::new("dev");
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let server = server(&authority)
            .client_certificates(ClientCertificates::Require)
            .ca(authority.pem())
            .build()
            .unwrap();
        let client = trusting(&authority).versions([version]).build().unwrap();
        let (at_client, at_server) = refusal(client, server).await;
        assert!(matches!(at_client, TlsError::ClientCertificateRequired { .. }), "{version}: {at_client:?}");
        assert!(matches!(at_server, TlsError::ClientCertificateMissing { .. }), "{version}: {at_server:?}");
    }
}

#[tokio::test]
async fn a_client_certificate_that_is_asked_for_may_be_missing_but_not_wrong() {
    let authority = Authority::new("dev");
    let clients = Authority::new("clients");
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        for asked in [ClientCertificates::Ask, ClientCertificates::Require] {
            let server = server(&authority).client_certificates(asked).ca(clients.pem()).build().unwrap();
            let client = || trusting(&authority).versions([version]);

            if asked == ClientCertificates::Ask {
                let (_, far) = handshake(&client().build().unwrap(), &server).await;
                assert!(Negotiated::of(&far.unwrap()).peer.is_none());
            }
            let good = client().identity(clients.client("alice").identity()).build().unwrap();
            let (near, far) = handshake(&good, &server).await;
            let (mut near, mut far) = (near.unwrap(), far.unwrap());
            assert_eq!(Negotiated::of(&far).peer.unwrap().common_name().as_deref(), Some("alice"));
            talk(&mut near, &mut far).await;

            let stranger = client().identity(authority.client("alice").identity()).build().unwrap();
            let (at_client, at_server) = refusal(stranger, server.clone()).await;
            assert!(matches!(at_client, TlsError::OurCertificateRefused { .. }), "{at_client:?}");
            assert!(
                matches!(at_server, TlsError::UnknownIssuer { whose: Side::Client, .. }),
                "{at_server:?}"
            );

            let late = client().identity(clients.expired_client("alice").identity()).build().unwrap();
            let (at_client, at_server) = refusal(late, server.clone()).await;
            assert!(matches!(at_client, TlsError::OurCertificateRefused { .. }), "{at_client:?}");
            assert!(matches!(at_server, TlsError::Expired { whose: Side::Client, .. }), "{at_server:?}");

            let misused = client().identity(clients.server(&["alice"]).identity()).build().unwrap();
            let (_, at_server) = refusal(misused, server).await;
            assert!(matches!(at_server, TlsError::WrongPurpose { whose: Side::Client, .. }), "{at_server:?}");
        }
    }
}

#[tokio::test]
async fn certificates_are_replaced_while_connections_live() {
    let authority = Authority::new("dev");
    let client = trusting(&authority).build().unwrap();
    let (old, new) = (authority.server(&["localhost"]), authority.server(&["localhost", "new.example"]));
    let server = ServerTls::new(old.identity()).unwrap();
    let handle = server.clone();

    let (near, far) = handshake(&client, &server).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    assert_eq!(Negotiated::of(&near).peer.unwrap().dns_names(), ["localhost"]);
    talk(&mut near, &mut far).await;

    handle.reload(new.identity()).unwrap();
    talk(&mut near, &mut far).await;
    let stream = handshake(&client, &server).await.0.unwrap();
    assert_eq!(Negotiated::of(&stream).peer.unwrap().dns_names(), ["localhost", "new.example"]);
    assert!(!Negotiated::of(&stream).resumed);
}

#[tokio::test]
async fn a_reload_that_fails_changes_nothing() {
    let authority = Authority::new("dev");
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("clients.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let server =
        server(&authority).client_certificates(ClientCertificates::Require).ca_file(&ca).build().unwrap();
    let alice = authority.client("alice").identity();
    let client = trusting(&authority).identity(alice).build().unwrap();
    let before = Negotiated::of(&handshake(&client, &server).await.0.unwrap()).peer;

    let new = || authority.server(&["new.example"]).identity();
    std::fs::write(&ca, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
    assert!(matches!(server.reload(new()).unwrap_err(), TlsSetupError::CaPem { .. }));
    std::fs::remove_file(&ca).unwrap();
    let error = server.reload(new()).unwrap_err();
    assert!(matches!(error, TlsSetupError::CaUnreadable { .. }));
    assert_eq!(error.to_string(), format!("cannot read the CA file `{}`", ca.display()));
    assert!(matches!(server.reload_ca("nothing").unwrap_err(), TlsSetupError::NoCa { .. }));
    let settings = ServerTls::builder(new()).client_certificates(ClientCertificates::Ask);
    assert!(matches!(server.replace(settings).unwrap_err(), TlsSetupError::NoClientCa));

    let (near, far) = handshake(&client, &server).await;
    assert_eq!(Negotiated::of(&near.unwrap()).peer, before);
    assert_eq!(Negotiated::of(&far.unwrap()).peer.unwrap().common_name().as_deref(), Some("alice"));
}

#[tokio::test]
async fn who_was_let_in_by_the_old_ca_does_not_come_in_by_resuming() {
    let (authority, successor) = (Authority::new("old"), Authority::new("new"));
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let server = server(&authority)
            .client_certificates(ClientCertificates::Require)
            .ca(authority.pem())
            .build()
            .unwrap();
        let alice = authority.client("alice").identity();
        let client = trusting(&authority).identity(alice).versions([version]).build().unwrap();

        let mut resumed = Vec::new();
        for _ in 0..2 {
            let (near, far) = handshake(&client, &server).await;
            let (mut near, mut far) = (near.unwrap(), far.unwrap());
            talk(&mut near, &mut far).await;
            resumed.push((Negotiated::of(&near).resumed, Negotiated::of(&far).peer.is_some()));
        }
        assert_eq!(resumed, [(false, true), (true, true)], "{version}");

        server.reload_ca(successor.pem()).unwrap();
        let (at_client, at_server) = refusal(client, server).await;
        assert!(matches!(at_client, TlsError::OurCertificateRefused { .. }), "{version}: {at_client:?}");
        assert!(matches!(at_server, TlsError::UnknownIssuer { .. }), "{version}: {at_server:?}");
    }
}
