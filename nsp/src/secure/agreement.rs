//! How the two sides come to the same key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use super::{KeyError, PublicKey, Random, Seed, ServerKey, SessionKey, Strength};
use crate::proto::sp;

/// What the daemon has after SP.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Agreed {
    /// The key that both sides have now.
    pub key: SessionKey,
    /// What the key is worth.
    pub strength: Strength,
}

/// The answer to SP is not accepted. Which of the many reasons it was is not told to anybody: each would be an answer to a question of an attacker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer to SP is not accepted")]
#[non_exhaustive]
pub struct Refused;

/// What to do with a client whose seed can be found by trying: all original clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(clippy::exhaustive_enums, reason = "they are let in or not")]
pub enum WeakSeeds {
    /// They are refused like a wrong answer.
    #[default]
    Refuse,
    /// They are let in; [`Agreed::strength`] says so, and it is for the daemon to keep secrets off the connection.
    Allow,
}

/// Answers an SP request: draws a seed, and seals it for the daemon together with the key that follows from it.
///
/// Whether it is the right daemon's key, the caller has checked before: [`PublicKey::fingerprint`].
///
/// # Errors
/// A [`KeyError`] when the key cannot encrypt that much.
pub fn answer(public_key: &PublicKey, random: &mut dyn Random) -> Result<(sp::Answer, SessionKey), KeyError> {
    let seed = Seed::strong(random);
    let key = SessionKey::derive(public_key.pem(), &seed);
    // Hex digits and base64 need no escapes.
    let plain = Zeroizing::new(format!(r#"{{"r":"{}","a":"{}"}}"#, seed.text(), key.as_str()));
    let sealed = STANDARD.encode(public_key.encrypt(plain.as_bytes())?);
    Ok((sp::Answer { sealed }, key))
}

/// Opens the answer to our SP request, and checks that the client has come to the same key.
///
/// It costs one RSA decryption, about a millisecond. Whatever is wrong, all of it is done: base64 that is none is replaced by a text that decrypts to nothing,
/// and that by a seed that leads to another key.
///
/// # Errors
/// [`Refused`], whatever the reason.
pub fn accept(key: &ServerKey, answer: &sp::Answer, weak: WeakSeeds) -> Result<Agreed, Refused> {
    let nothing = vec![0; key.sealed_length()];
    let decoded = STANDARD.decode(&answer.sealed);
    let mut valid = Choice::from(u8::from(decoded.is_ok()));

    let opened = key.decrypt(decoded.as_deref().unwrap_or(&nothing));
    valid &= Choice::from(u8::from(opened.is_some()));

    let stand_in: &[u8] =
        br#"{"r":"0000000000000000000000000000000000000000000000000000000000000000","a":""}"#;
    let plain = opened.as_ref().map_or(stand_in, |opened| opened);
    let read = Claim::read(plain);
    valid &= Choice::from(u8::from(read.is_some()));

    let claim = read.or_else(|| Claim::read(stand_in)).ok_or(Refused)?;
    let session = SessionKey::derive(key.public_pem(), &claim.seed);
    valid &= session.is(claim.key.as_bytes());

    let strength = claim.seed.strength();
    let weak_one = u8::from(strength == Strength::Weak && weak == WeakSeeds::Refuse);
    valid &= weak_one.ct_eq(&0);

    if valid.into() { Ok(Agreed { key: session, strength }) } else { Err(Refused) }
}

/// What a client has sealed: `{"r":…,"a":"…"}`, more keys or another order notwithstanding.
struct Claim {
    seed: Seed,
    key: Zeroizing<String>,
}

impl Claim {
    fn read(plain: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Sealed<'a> {
            #[serde(borrow, default, deserialize_with = "even_null")]
            r: Option<&'a RawValue>,
            a: String,
        }
        let sealed: Sealed<'_> = serde_json::from_slice(plain).ok()?;
        Some(Self { seed: Seed::from_json(sealed.r)?, key: Zeroizing::new(sealed.a) })
    }
}

/// Keeps `null` apart from a missing key: one is hashed as `null`, the other as `undefined`.
fn even_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Leg, Method};
    use crate::secure::SystemRandom;
    use crate::testing::{self, Flow};

    fn server_key() -> ServerKey {
        let flow = testing::flow("handshake-int.secure-tcp");
        ServerKey::from_pem(&flow.rsa_private_pem.unwrap()).unwrap()
    }

    fn recorded_answer(flow: &Flow) -> sp::Answer {
        let packet = testing::packets(flow, Method::Sp).find(|packet| packet.leg == Leg::Answer).unwrap();
        sp::Answer::decode(&packet).unwrap()
    }

    /// Seals a text of our choice, as a peer may.
    fn sealed(key: &ServerKey, plain: &str) -> sp::Answer {
        let public = PublicKey::from_pem(key.public_pem()).unwrap();
        sp::Answer { sealed: STANDARD.encode(public.encrypt(plain.as_bytes()).unwrap()) }
    }

    #[test]
    fn recorded_answers_lead_to_the_recorded_keys() {
        let mut strengths = Vec::new();
        for flow in testing::flows().iter().filter(|flow| flow.secure) {
            let key = ServerKey::from_pem(flow.rsa_private_pem.as_ref().unwrap()).unwrap();
            let agreed = accept(&key, &recorded_answer(flow), WeakSeeds::Allow);
            match &flow.aes_key {
                Some(expected) => {
                    let agreed = agreed.unwrap();
                    assert_eq!(agreed.key.as_str(), expected, "{}", flow.name);
                    strengths.push(agreed.strength);
                }
                None => assert_eq!(agreed.unwrap_err(), Refused, "{}", flow.name),
            }
        }
        assert!(strengths.contains(&Strength::Weak) && strengths.contains(&Strength::Strong));
    }

    #[test]
    fn integers_of_original_clients_are_refused_unless_allowed() {
        let flow = testing::flow("handshake-int.secure-tcp");
        let (key, answer) = (server_key(), recorded_answer(&flow));
        assert_eq!(accept(&key, &answer, WeakSeeds::Refuse).unwrap_err(), Refused);
        assert_eq!(accept(&key, &answer, WeakSeeds::Allow).unwrap().strength, Strength::Weak);
        let strong = recorded_answer(&testing::flow("handshake-string.secure-tcp"));
        assert_eq!(accept(&key, &strong, WeakSeeds::Refuse).unwrap().strength, Strength::Strong);
    }

    #[test]
    fn our_own_answer_is_accepted_as_strong() {
        let key = server_key();
        let public = PublicKey::from_pem(key.public_pem()).unwrap();
        let (answer, ours) = answer(&public, &mut SystemRandom).unwrap();
        let agreed = accept(&key, &answer, WeakSeeds::Refuse).unwrap();
        assert_eq!(agreed.key.as_str(), ours.as_str());
        assert_eq!(agreed.strength, Strength::Strong);
    }

    #[test]
    fn our_answer_holds_what_the_specification_says() {
        let key = server_key();
        let public = PublicKey::from_pem(key.public_pem()).unwrap();
        let (answer, session) = answer(&public, &mut crate::secure::random::Counting::default()).unwrap();
        let plain = key.decrypt(&STANDARD.decode(&answer.sealed).unwrap()).unwrap();
        let expected = format!(
            r#"{{"r":"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f","a":"{}"}}"#,
            session.as_str()
        );
        assert_eq!(String::from_utf8(plain.to_vec()).unwrap(), expected);
    }

    #[test]
    fn every_kind_of_seed_that_the_original_takes_is_taken() {
        let key = server_key();
        for r in ["0", "99998", "9007199254740991", "1e21", "1.5", "null", "\"\"", "\"x\"", "true"] {
            let raw = RawValue::from_string(r.into()).unwrap();
            let session = SessionKey::derive(key.public_pem(), &Seed::from_json(Some(&raw)).unwrap());
            let answer = sealed(&key, &format!(r#"{{"x":1,"a":"{}","r":{r}}}"#, session.as_str()));
            assert!(accept(&key, &answer, WeakSeeds::Allow).is_ok(), "{r}");
        }
        let session = SessionKey::derive(key.public_pem(), &Seed::from_json(None).unwrap());
        let answer = sealed(&key, &format!(r#"{{"a":"{}"}}"#, session.as_str()));
        assert!(accept(&key, &answer, WeakSeeds::Allow).is_ok());
    }

    #[test]
    fn everything_wrong_is_refused_alike() {
        let key = server_key();
        for plain in [
            r#"{"r":76543,"a":"wrong"}"#,
            r#"{"r":76543,"a":"zDABZD3Sk8NSEt9USGnWD5tWMBjoj2P"}"#,
            r#"{"r":76543}"#,
            r#"{"r":[1],"a":"zDABZD3Sk8NSEt9USGnWD5tWMBjoj2P2"}"#,
            r#"{"r":76543,"a":5}"#,
            "not json",
            "",
        ] {
            assert_eq!(accept(&key, &sealed(&key, plain), WeakSeeds::Allow).unwrap_err(), Refused, "{plain}");
        }
        let other_key = ServerKey::generate().unwrap();
        let flow = testing::flow("handshake-string.secure-tcp");
        for sealed in [String::new(), "not base64!".into(), "AAAA".into(), STANDARD.encode([7; 256])] {
            assert_eq!(accept(&key, &sp::Answer { sealed }, WeakSeeds::Allow).unwrap_err(), Refused);
        }
        assert!(accept(&other_key, &recorded_answer(&flow), WeakSeeds::Allow).is_err());
    }
}
