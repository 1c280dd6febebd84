//! SP and what follows from it: whatever comes is refused or opened, and what was sealed is opened as it was.
//!
//! ```text
//! data = [what u8] [bytes …]
//! ```

use std::sync::LazyLock;

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use nsp::proto::sp;
use nsp::secure::{Cipher, Fingerprint, PublicKey, Random, Seed, ServerKey, SessionKey, WeakSeeds, accept};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;

static KEY: LazyLock<ServerKey> = LazyLock::new(|| {
    let recorded = include_str!("../../../nsp/tests/vectors/session.secure-tcp.json");
    let recorded: serde_json::Value = serde_json::from_str(recorded).unwrap();
    ServerKey::from_pem(recorded["rsa_private_pem"].as_str().unwrap()).unwrap()
});

static CIPHER: LazyLock<Cipher> = LazyLock::new(|| {
    let seed = Seed::strong(&mut Counting(0));
    Cipher::new(&SessionKey::derive(KEY.public_pem(), &seed))
});

/// Bytes that count up.
#[derive(Debug)]
struct Counting(u8);

impl Random for Counting {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
    }
}

pub fn run(data: &[u8]) {
    let [what, bytes @ ..] = data else { return };
    match what % 7 {
        0 => public_key(bytes),
        1 => answer(&String::from_utf8_lossy(bytes)),
        2 => claim(bytes),
        3 => open(bytes),
        4 => sealed_and_opened(bytes),
        5 => fingerprint(bytes),
        _ => {
            let _ = CIPHER.open_text(bytes);
        }
    }
}

fn public_key(bytes: &[u8]) {
    let Ok(pem) = std::str::from_utf8(bytes) else { return };
    match PublicKey::from_pem(pem) {
        Ok(key) => {
            assert_eq!(key.pem(), pem, "the session key depends on every byte");
            assert_eq!(Fingerprint::parse(&key.fingerprint().to_string()), Some(key.fingerprint()));
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control)),
    }
}

fn fingerprint(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(fingerprint) = Fingerprint::parse(text) {
        assert_eq!(Fingerprint::parse(&fingerprint.to_string()), Some(fingerprint));
    }
}

/// An answer to SP as it comes: a client that is let in has shown that it knows the session key.
fn answer(sealed: &str) {
    let _ = accept(&KEY, &sp::Answer { sealed: sealed.to_owned() }, WeakSeeds::Allow);
}

/// The same, with whatever a client may have sealed.
fn claim(plain: &[u8]) {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(KEY.public_pem().as_bytes()).unwrap();
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&der).unwrap()).unwrap();
    let mut sealed = vec![0; key.ciphertext_size()];
    // OAEP has room for 214 bytes under a key of 2048 bits.
    let plain = plain.get(..plain.len().min(key.max_plaintext_size(&OAEP_SHA1_MGF1SHA1))).unwrap();
    let sealed = key.encrypt(&OAEP_SHA1_MGF1SHA1, plain, &mut sealed, None).unwrap();
    let answer = sp::Answer { sealed: STANDARD.encode(sealed) };
    if accept(&KEY, &answer, WeakSeeds::Refuse).is_ok() {
        // Who may come in where weak seeds are refused may come in where they are not.
        assert!(accept(&KEY, &answer, WeakSeeds::Allow).is_ok());
    }
}

fn open(message: &[u8]) {
    if let Ok(plain) = CIPHER.open(Bytes::copy_from_slice(message)) {
        assert!(Cipher::sealed_length(plain.len()) == message.len());
    }
}

fn sealed_and_opened(plain: &[u8]) {
    let mut sealed = BytesMut::new();
    let written = CIPHER.seal(&mut Counting(plain.first().copied().unwrap_or(0)), &mut sealed, |out| {
        out.extend_from_slice(plain);
        Ok::<_, std::convert::Infallible>(())
    });
    let Ok(()) = written;
    assert_eq!(sealed.len(), Cipher::sealed_length(plain.len()));
    assert_eq!(CIPHER.open(sealed.freeze()).unwrap(), plain);
    let text = CIPHER.seal_text(&mut Counting(1), plain);
    assert_eq!(CIPHER.open_text(text.as_bytes()).unwrap(), plain);
}
