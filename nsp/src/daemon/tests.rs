//! Connections from elsewhere, of which no test can make real ones: how safe secrets are on them.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use nossock::Peer;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::driver::Terms;
use super::seats::Seat;
use super::{Daemon, Demand, Entity, Fail, Service, WeakUse};
use crate::authority::{Answer, Authority, Denied, Origin, Proved};
use crate::carrier::{Carrier, CarrierEnd, CarrierKind, Farewell, Memory, memory};
use crate::machine::{Incoming, Outgoing, SpPolicy};
use crate::proto::{EncodeError, Leg, Method, Methods, Packet, sp};
use crate::secret::{DaemonKey, Password, Token};
use crate::secure::{Cipher, Seed, ServerKey, SessionKey, SystemRandom, WeakSeeds};

/// A carrier in memory that says it comes from another machine.
#[derive(Debug)]
struct Elsewhere {
    memory: Memory,
    peer: Peer,
    /// When it is to fall over.
    panics: Arc<AtomicBool>,
}

impl Carrier for Elsewhere {
    fn kind(&self) -> CarrierKind {
        CarrierKind::Chunks
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn is_confidential(&self) -> bool {
        false
    }

    fn limit_message(&mut self, _: usize) {}

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, CarrierEnd>> {
        assert!(!self.panics.load(Ordering::Relaxed), "at the carrier");
        self.memory.poll_receive(cx)
    }

    fn start_send(&mut self, message: Outgoing) -> Result<(), EncodeError> {
        self.memory.start_send(message)
    }

    fn queued(&self) -> usize {
        self.memory.queued()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierEnd>> {
        self.memory.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, reason: &Farewell) -> Poll<()> {
        self.memory.poll_close(cx, reason)
    }
}

/// Everybody is a superuser, and every secret is right.
#[derive(Debug)]
struct Yes;

impl Authority for Yes {
    fn sign_in<'a>(
        &'a self,
        _: &'a str,
        _: Option<Password>,
        _: Origin,
    ) -> Answer<'a, Result<Token, Denied>> {
        Answer::now(Ok(Token::new("t")))
    }

    fn judge_token<'a>(&'a self, _: &'a str, _: &'a Token, _: Origin) -> Answer<'a, Result<Proved, Denied>> {
        Answer::now(Ok(Proved { rely_for: Duration::from_secs(60) }))
    }

    fn judge_password<'a>(
        &'a self,
        _: &'a str,
        _: &'a Password,
        _: Origin,
    ) -> Answer<'a, Result<Proved, Denied>> {
        Answer::now(Ok(Proved { rely_for: Duration::from_secs(60) }))
    }

    fn privilege<'a>(&'a self, _: &'a str) -> Answer<'a, Result<Option<i64>, Denied>> {
        Answer::now(Ok(Some(0)))
    }

    fn trusts(&self, address: std::net::IpAddr) -> bool {
        address.is_loopback()
    }

    fn is_daemon_key(&self, key: &DaemonKey) -> bool {
        *key == DaemonKey::new("the key")
    }
}

/// The other end, by hand.
struct Client {
    memory: Memory,
    cipher: Option<Cipher>,
    panics: Arc<AtomicBool>,
}

impl Client {
    async fn at(daemon: &Daemon, address: [u8; 4], terms: Terms) -> Self {
        let (theirs, memory) = memory();
        let mut peer = Peer::default();
        peer.address = Some((address, 4711).into());
        let seat = Seat::take(&daemon.shared, None, None).unwrap();
        let panics = Arc::new(AtomicBool::new(false));
        let carrier = Elsewhere { memory, peer, panics: Arc::clone(&panics) };
        daemon.shared.serve(Box::new(carrier), terms, seat);
        Self { memory: theirs, cipher: None, panics }
    }

    async fn say(&mut self, text: &str) {
        let (letters, json) = text.split_at(4);
        let (method, leg) = (&letters.as_bytes()[..2], &letters.as_bytes()[2..]);
        let method = Method::from_letters(method.try_into().unwrap()).unwrap();
        let leg = Leg::from_letters(leg.try_into().unwrap()).unwrap();
        let packet = Packet::new(method, leg, Bytes::copy_from_slice(json.as_bytes()));
        let outgoing = match &self.cipher {
            None => Outgoing::Packet(packet),
            Some(cipher) => {
                let mut sealed = BytesMut::new();
                let write = |out: &mut BytesMut| packet.encode(&Methods::default(), out);
                cipher.seal(&mut SystemRandom, &mut sealed, write).unwrap();
                Outgoing::Sealed(sealed.freeze())
            }
        };
        self.memory.start_send(outgoing).unwrap();
        poll_fn(|cx| self.memory.poll_flush(cx)).await.unwrap();
    }

    async fn hear(&mut self) -> Packet {
        match poll_fn(|cx| self.memory.poll_receive(cx)).await.unwrap() {
            Incoming::Packet(packet) => packet,
            Incoming::Message(message) | Incoming::Sealed(message) => {
                let plain = self.cipher.as_ref().unwrap().open(message).unwrap();
                Packet::decode(plain, &Methods::default()).unwrap()
            }
        }
    }

    async fn hear_text(&mut self) -> String {
        let packet = self.hear().await;
        format!("{}{}{}", packet.method, packet.leg, String::from_utf8_lossy(&packet.payload.json))
    }

    async fn secure(&mut self, seed: &str) {
        self.say("GTrs{}").await;
        let pem = sp::Request::decode(&self.hear().await).unwrap().public_key;
        let raw = RawValue::from_string(seed.to_owned()).unwrap();
        let key = SessionKey::derive(&pem, &Seed::from_json(Some(&raw)).unwrap());
        let text = STANDARD.encode(Sha256::digest(format!("{pem}{}", seed.trim_matches('"'))));
        let plain = format!(r#"{{"r":{seed},"a":"{}"}}"#, &text[..32]);
        self.say(&format!("SPrs\"{}\"", STANDARD.encode(encrypt(&pem, plain.as_bytes())))).await;
        self.cipher = Some(Cipher::new(&key));
    }

    async fn open(&mut self, rest: &str) -> String {
        self.say(&format!(r#"CSrq{{"m":"CE","d":{{"t":1,"o":"ann","s":"Safe"{rest}}}}}"#)).await;
        let created = self.hear_text().await;
        let entity = created.split("\"i\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        self.say(&format!(r#"CSrq{{"m":"VE","d":{{"i":"{entity}"}}}}"#)).await;
        assert!(self.hear_text().await.contains("OK"));
        entity
    }

    /// Calls a function; what is heard next, a question or the answer.
    async fn call(&mut self, entity: &str, function: &str) -> String {
        self.say(&format!(r#"CSrq{{"m":"SF","d":{{"i":"{entity}","n":"{function}","t":2}}}}"#)).await;
        self.hear_text().await
    }
}

fn encrypt(pem: &str, plain: &[u8]) -> Vec<u8> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).unwrap();
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&der).unwrap()).unwrap();
    let mut sealed = vec![0; key.ciphertext_size()];
    key.encrypt(&OAEP_SHA1_MGF1SHA1, plain, &mut sealed, None).unwrap();
    sealed
}

async fn daemon() -> Daemon {
    let safe = Service::new("Safe")
        .function("token", async |entity: Entity| -> Result<bool, Fail> {
            Ok(entity.prove(Demand::Token).await?.user.is_some())
        })
        .function("password", async |entity: Entity| -> Result<bool, Fail> {
            Ok(entity.prove(Demand::Password).await?.user.is_some())
        })
        .secure_function("reset", async || "done");
    Daemon::builder().authority(Yes).service(safe).bind().await.unwrap()
}

fn terms(weak_use: WeakUse) -> Terms {
    let key = Arc::new(ServerKey::generate().unwrap());
    let sp = SpPolicy::Required { key, weak: WeakSeeds::Allow, timeout: Duration::from_secs(10) };
    Terms { sp, weak_use, ..Terms::default() }
}

const FAR: [u8; 4] = [192, 0, 2, 7];
const STRONG: &str = r#""5f0c3e7b1d9a48265f0c3e7b1d9a48265f0c3e7b1d9a48265f0c3e7b1d9a4826""#;

#[tokio::test]
async fn nothing_secret_is_asked_for_in_clear_but_on_this_machine() {
    let daemon = daemon().await;
    let mut far = Client::at(&daemon, FAR, Terms::default()).await;
    let entity = far.open("").await;
    for function in ["token", "password", "reset"] {
        assert!(far.call(&entity, function).await.contains(r#""code":"insecure""#), "{function}");
    }
    far.say(r#"GTrq{"u":"ann","p":"right"}"#).await;
    assert_eq!(far.hear_text().await, r#"GTrs{"u":"ann","s":"Fail"}"#);

    for function in ["token", "password", "reset"] {
        let mut near = Client::at(&daemon, [127, 0, 0, 1], Terms::default()).await;
        let entity = near.open("").await;
        assert!(near.call(&entity, function).await.starts_with("AUrq"), "{function}");
    }
    let mut near = Client::at(&daemon, [127, 0, 0, 1], Terms::default()).await;
    near.say(r#"GTrq{"u":"ann","p":"right"}"#).await;
    assert_eq!(near.hear_text().await, r#"GTrs{"t":"t","u":"ann","s":"OK"}"#);
}

#[tokio::test]
async fn over_a_key_that_can_be_guessed_go_no_passwords_and_no_secure_functions_unless_allowed() {
    let daemon = daemon().await;
    for (seed, weak_use, is_let) in [
        (STRONG, WeakUse::NoSecrets, true),
        ("31337", WeakUse::NoSecrets, false),
        ("31337", WeakUse::Everything, true),
    ] {
        let terms = terms(weak_use);
        for (function, is_asked) in [("token", true), ("password", is_let), ("reset", is_let)] {
            let mut client = Client::at(&daemon, FAR, terms.clone()).await;
            client.secure(seed).await;
            let entity = client.open("").await;
            let heard = client.call(&entity, function).await;
            assert_eq!(heard.starts_with("AUrq"), is_asked, "{function} {seed} {heard}");
            assert_eq!(heard.contains("insecure"), !is_asked, "{function} {seed} {heard}");
        }
    }
}

#[tokio::test]
async fn daemons_are_trusted_by_address_and_key() {
    let daemon = daemon().await;
    for (address, key, is_trusted) in [
        ([127, 0, 0, 1], r#","m":"daemon","k":"the key""#, true),
        ([127, 0, 0, 1], r#","m":"daemon","k":"another""#, false),
        ([127, 0, 0, 1], r#","m":"daemon","k":false"#, false),
    ] {
        let mut client = Client::at(&daemon, address, Terms::default()).await;
        let entity = client.open(key).await;
        let heard = client.call(&entity, "reset").await;
        assert_eq!(heard.contains(r#""d":"done""#), is_trusted, "{heard}");
        assert_eq!(heard.contains("not a trusted daemon"), !is_trusted, "{heard}");
    }
    let mut far = Client::at(&daemon, FAR, terms(WeakUse::NoSecrets)).await;
    far.secure(STRONG).await;
    let entity = far.open(r#","m":"daemon","k":"the key""#).await;
    assert!(far.call(&entity, "reset").await.contains("not a trusted daemon"));
}

#[tokio::test]
async fn carrier_that_panics_leaves_no_entities_behind() {
    let daemon = daemon().await;
    let mut client = Client::at(&daemon, [127, 0, 0, 1], Terms::default()).await;
    client.open("").await;
    client.panics.store(true, Ordering::Relaxed);
    client.say("GTrs{}").await;
    while daemon.handle().stats().connections > 0 {
        tokio::task::yield_now().await;
    }
    let (stats, closed) = (daemon.handle().stats(), daemon.handle().closed());
    assert_eq!((stats.entities, stats.cut), (0, 1));
    assert_eq!(closed[0].reason.to_string(), "internal error");
}
