//! SP, trust, and what does not travel in clear.

use std::sync::Arc;
use std::task::{Context, Poll};

use nossock::Peer as Who;
use nossock::transport::tls::{Identity, ServerTls};
use nsp::carrier::{Carrier, CarrierEnd, CarrierKind, Farewell, ListenOptions};
use nsp::client::{
    CallError, Client, DownReason, KeyKind, KnownHosts, Login, Offered, OpenError, Trust, TrustError,
};
use nsp::machine::{Incoming, Outgoing, SpError, SpMode, daemon};
use nsp::proto::EncodeError;
use nsp::secure::ServerKey;
use tokio::time::Instant;

use crate::peer::{Server, in_memory, secured, server_key, with_key};

/// A carrier whose other end is far away, with everybody listening.
#[derive(Debug)]
struct Far {
    inner: Box<dyn Carrier>,
    peer: Who,
}

fn far(inner: Box<dyn Carrier>) -> Box<dyn Carrier> {
    let mut peer = Who::default();
    peer.address = Some("192.0.2.1:43583".parse().unwrap());
    Box::new(Far { inner, peer })
}

impl Carrier for Far {
    fn kind(&self) -> CarrierKind {
        self.inner.kind()
    }
    fn peer(&self) -> &Who {
        &self.peer
    }
    fn is_confidential(&self) -> bool {
        false
    }
    fn limit_message(&mut self, bytes: usize) {
        self.inner.limit_message(bytes);
    }
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, CarrierEnd>> {
        self.inner.poll_receive(cx)
    }
    fn start_send(&mut self, message: Outgoing) -> Result<(), EncodeError> {
        self.inner.start_send(message)
    }
    fn queued(&self) -> usize {
        self.inner.queued()
    }
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierEnd>> {
        self.inner.poll_flush(cx)
    }
    fn poll_close(&mut self, cx: &mut Context<'_>, reason: &Farewell) -> Poll<()> {
        self.inner.poll_close(cx, reason)
    }
}

#[tokio::test(start_paused = true)]
async fn beyond_loopback_nothing_is_said_in_clear_unless_somebody_says_plaintext() {
    for mode in [None, Some(SpMode::WhenAsked), Some(SpMode::Preferred)] {
        let (carrier, seen) = in_memory(daemon::Config::default());
        let mut connector = Client::connect("noservice://far:1");
        if let Some(mode) = mode {
            connector = connector.sp(mode);
        }
        let start = Instant::now();
        let client = connector.over(far(carrier));
        let error = client.activity("Test").owner("ann").open().await.unwrap_err();
        let OpenError::NotConnected(Some(DownReason::NotSecured(SpError::NotOffered { .. }))) = error else {
            panic!("{error}")
        };
        assert_eq!(start.elapsed().as_secs(), 5);
        assert!(!seen.all().iter().any(|seen| seen.starts_with("create")), "{:?}", seen.all());
    }

    let (carrier, _) = in_memory(daemon::Config::default());
    let login = Login::new("ann").token("t");
    let client = Client::connect("noservice://far:1").credentials(login).plaintext().over(far(carrier));
    let test = client.activity("Test").owner("ann").open().await.unwrap();
    assert_eq!(test.call::<u8>("Echo", &1).await.unwrap(), 1);
    // Secrets stay here all the same.
    assert!(matches!(client.token("ann", "right").await, Err(CallError::WouldLeak)));
    assert_eq!(test.call::<String>("Ask", &()).await.unwrap(), "declined");
    let error = client.activity("Test").daemon_key("WHATAKEY").open().await.unwrap_err();
    assert!(matches!(error, OpenError::WouldLeak), "{error}");
}

#[tokio::test]
async fn under_sp_secrets_travel_to_a_daemon_that_is_trusted() {
    let (carrier, seen) = in_memory(secured());
    let login = Login::new("ann").token("t");
    let trust = Trust::pinned([server_key().fingerprint()]);
    let client = Client::connect("noservice://far:1").credentials(login).trust(trust).over(far(carrier));
    let test = client.activity("Test").owner("ann").open().await.unwrap();
    assert_eq!(test.call::<String>("Ask", &()).await.unwrap(), "t");
    client.token("ann", "right").await.unwrap();
    assert!(seen.has("secured: Strong"), "{:?}", seen.all());

    let refused = |trust: Trust| async {
        let (carrier, seen) = in_memory(secured());
        let client = Client::connect("noservice://far:1").trust(trust).over(far(carrier));
        let error = client.activity("Test").open().await.unwrap_err();
        assert!(!seen.all().iter().any(|seen| seen.starts_with("secured")), "{:?}", seen.all());
        let OpenError::NotConnected(Some(DownReason::NotTrusted(error))) = error else { panic!("{error}") };
        error
    };
    let error = refused(Trust::default()).await;
    assert!(matches!(error, TrustError::Unknown { .. }), "{error}");
    let other = ServerKey::generate().unwrap();
    let error = refused(Trust::pinned([other.fingerprint()])).await;
    assert!(matches!(error, TrustError::NotPinned { .. }), "{error}");
}

#[tokio::test]
async fn keys_are_remembered_and_a_changed_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("known_hosts");
    for known in [KnownHosts::open(&path), KnownHosts::open(folder.path().join("hidden")).hashed()] {
        let connect = |server: &Server, trust: Trust| {
            Client::connect(&server.address).sp(SpMode::Required).trust(trust).into_future()
        };
        let first = Server::start("ws://127.0.0.1:0", secured(), ListenOptions::default()).await;
        let host = format!("127.0.0.1:{}", first.address.port().unwrap());
        let error = connect(&first, Trust::strict(known.clone())).await.unwrap_err().to_string();
        let key = server_key().fingerprint();
        assert!(
            error.starts_with(&format!("the nsp-rsa key of {host} is not known: {key}; add it")),
            "{error}"
        );
        let no = Trust::ask(known.clone(), async |_: Offered| false);
        let error = connect(&first, no).await.unwrap_err().to_string();
        assert!(error.ends_with("was not accepted"), "{error}");
        assert_eq!(known.entries().unwrap(), []);
        let yes = Trust::ask(known.clone(), async |offered: Offered| offered.kind == KeyKind::Rsa);
        connect(&first, yes).await.unwrap().close().await;
        let entries = known.entries().unwrap();
        assert_eq!(entries.len(), 1);
        assert!(entries[0].host.is(&host) && entries[0].fingerprint == key && entries[0].line == 1);
        // Known from now on, to everybody.
        for trust in [Trust::strict(known.clone()), Trust::accept_new(known.clone())] {
            connect(&first, trust).await.unwrap().close().await;
        }
        assert_eq!(known.entries().unwrap().len(), 1);

        let address = first.address.to_string();
        first.end().await;
        let other = Arc::new(ServerKey::generate().unwrap());
        let (offered, second) = (other.fingerprint(), listen_again(&address, with_key(other)).await);
        let anybody =
            Trust::ask(known.clone(), async |_: Offered| panic!("nobody is asked about a changed key"));
        for trust in [Trust::accept_new(known.clone()), anybody] {
            let error = connect(&second, trust).await.unwrap_err();
            assert!(error.is_permanent());
            let text = error.to_string();
            for part in [key.to_string(), offered.to_string(), format!("{}:1", known.path().display())] {
                assert!(text.contains(&part), "{text}");
            }
        }
        assert_eq!(known.remove(&host).unwrap(), 1);
        connect(&second, Trust::accept_new(known)).await.unwrap().close().await;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let hidden = std::fs::read_to_string(folder.path().join("hidden")).unwrap();
    assert!(hidden.starts_with("|1|") && !hidden.contains("127.0.0.1"), "{hidden}");
}

async fn listen_again(address: &str, config: daemon::Config) -> Server {
    Server::start(address, config, ListenOptions::default()).await
}

#[tokio::test]
async fn certificates_are_remembered_by_their_keys() {
    let serve = async |address: &str| {
        let made = rcgen::generate_simple_self_signed(["somewhere.else".to_owned()]).unwrap();
        let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem()).unwrap();
        let options =
            ListenOptions { tls: Some(ServerTls::new(identity).unwrap()), ..ListenOptions::default() };
        Server::start(address, daemon::Config::default(), options).await
    };
    let folder = tempfile::tempdir().unwrap();
    let known = KnownHosts::open(folder.path().join("known_hosts"));
    let first = serve("nsps://127.0.0.1:0").await;
    let error = Client::connect(&first.address).await.unwrap_err();
    assert!(matches!(error, DownReason::NotConnected(_)), "{error}");
    let connect = |server: &Server| {
        Client::connect(&server.address)
            .trust(Trust::accept_new(known.clone()))
            .trust_certificates()
            .into_future()
    };
    for _ in 0..2 {
        let client = connect(&first).await.unwrap();
        client.activity("Test").open().await.unwrap();
        client.close().await;
    }
    let entries = known.entries().unwrap();
    assert_eq!((entries.len(), entries[0].kind), (1, KeyKind::Tls));
    let address = first.address.to_string();
    first.end().await;
    let second = serve(&address).await;
    let error = connect(&second).await.unwrap_err();
    assert!(matches!(error, DownReason::NotTrusted(TrustError::Changed { .. })), "{error}");
    // It heard nothing of us but the handshake.
    assert!(!second.seen.all().iter().any(|seen| seen.starts_with("create")));
}

#[test]
fn damaged_file_is_an_error_that_names_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("known_hosts");
    let known = KnownHosts::open(&path);
    for (text, says) in [
        ("# fine\n\nhost:1 nsp-rsa\n", ":3: a host, a kind of key and a key are needed"),
        ("host:1 ssh-rsa SHA256:x\n", ":1: the kind of key is neither nsp-rsa nor tls"),
        ("host:1 tls MD5:x\n", ":1: the key is not SHA256: and base64"),
        ("|2|x|y tls SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\n", ":1: the hidden host is not"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = known.entries().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    std::fs::write(&path, "[::1]:1 tls SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU a comment")
        .unwrap();
    let key = server_key().fingerprint();
    known.add("Host:2", KeyKind::Rsa, key).unwrap();
    assert!(known.add("two words", KeyKind::Rsa, key).is_err());
    let entries = known.entries().unwrap();
    assert_eq!(entries.len(), 2);
    assert!(entries[0].host.is("[::1]:1") && entries[1].host.is("host:2") && !entries[1].host.is("host:1"));
    assert_eq!(known.remove("host:2").unwrap() + known.remove("nobody").unwrap(), 1);
    assert_eq!(known.entries().unwrap().len(), 1);
}
