//! Messages under the session key.
//!
//! ```text
//!  0                16               32                                        
//!  +----------------+---------------- ... ----------------- ... --------------+
//!  | IV             | AES-256-CBC of                                          |
//!  | 16 random      |   salt (64 random) | packet | padding 1 to 16 (PKCS#7)   |
//!  +----------------+---------------- ... ----------------- ... --------------+
//! ```
//!
//! So the shortest has 96 bytes and all are multiples of 16. NSP 0.4 has no salt and writes `base64(IV) base64(cipher text)`.
//!
//! There is no authentication code: who changes the IV or the salt is not noticed, and a message can be sent twice. What cannot be read is one error, whatever the
//! reason, and the padding is checked in a time that depends on the length alone.

use std::fmt;

use aes::Aes256;
use aes::cipher::{Block, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use subtle::{Choice, ConstantTimeEq as _};

use super::{Random, SessionKey};

/// Length of a block, and of the IV, in bytes.
const BLOCK: usize = 16;

/// Length of the salt in front of each packet, in bytes.
const SALT: usize = 64;

/// The message cannot be read: cut, changed, or not under this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message cannot be decrypted")]
#[non_exhaustive]
pub struct Unreadable;

/// Encrypts and decrypts the messages of one connection.
#[derive(Clone)]
pub struct Cipher {
    aes: Aes256,
}

impl Cipher {
    /// Prepares the key.
    #[must_use]
    pub fn new(key: &SessionKey) -> Self {
        Self { aes: Aes256::new(key.as_bytes().into()) }
    }

    /// Length of what becomes of a packet of `plain` bytes.
    #[must_use]
    pub const fn sealed_length(plain: usize) -> usize {
        BLOCK + padded(SALT + plain)
    }

    /// Appends the encrypted form of whatever `write` appends.
    ///
    /// The packet is written into `out` at once and encrypted there, so it is never anywhere in clear that outlives the call.
    ///
    /// # Errors
    /// What `write` returns; `out` is as it was then.
    pub fn seal<E>(
        &self,
        random: &mut dyn Random,
        out: &mut BytesMut,
        write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        self.encrypt::<SALT, E>(random, out, write)
    }

    /// Decrypts a message. It happens in place when nobody else holds it.
    ///
    /// # Errors
    /// [`Unreadable`] when it is too short, not a multiple of 16, or its padding is wrong.
    pub fn open(&self, message: Bytes) -> Result<Bytes, Unreadable> {
        self.decrypt::<SALT>(message)
    }

    /// Encrypts a message of NSP 0.4 as text.
    pub fn seal_text(&self, random: &mut dyn Random, message: &[u8]) -> String {
        let mut sealed = BytesMut::with_capacity(BLOCK + padded(message.len()));
        let written = self.encrypt::<0, std::convert::Infallible>(random, &mut sealed, |out| {
            out.put_slice(message);
            Ok(())
        });
        let Ok(()) = written;
        let (iv, text) = sealed.split_at(BLOCK);
        STANDARD.encode(iv) + &STANDARD.encode(text)
    }

    /// Length of what becomes of a message of NSP 0.4 of `plain` bytes.
    #[must_use]
    pub const fn sealed_text_length(plain: usize) -> usize {
        BLOCK.div_ceil(3) * 4 + padded(plain).div_ceil(3) * 4
    }

    /// Decrypts a message of NSP 0.4.
    ///
    /// # Errors
    /// [`Unreadable`] when it is not two pieces of base64, too short, or its padding is wrong.
    pub fn open_text(&self, message: &[u8]) -> Result<Bytes, Unreadable> {
        /// Length of the IV as base64.
        const IV: usize = 24;
        let (iv, text) = message.split_at_checked(IV).ok_or(Unreadable)?;
        let mut sealed = STANDARD.decode(iv).map_err(|_| Unreadable)?;
        STANDARD.decode_vec(text, &mut sealed).map_err(|_| Unreadable)?;
        self.decrypt::<0>(sealed.into())
    }

    fn encrypt<const SALTED: usize, E>(
        &self,
        random: &mut dyn Random,
        out: &mut BytesMut,
        write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = out.len();
        let mut drawn = [0; BLOCK + SALT];
        let (drawn, _) = drawn.split_at_mut(BLOCK + SALTED);
        random.fill_message(drawn);
        out.put_slice(drawn);
        if let Err(error) = write(out) {
            out.truncate(start);
            return Err(error);
        }
        let sealed = start + BLOCK;
        let missing = padded(out.len() - sealed) - (out.len() - sealed);
        out.put_bytes(u8::try_from(missing).unwrap_or_default(), missing);

        let (front, plain) = out.split_at_mut(sealed);
        let iv: &[u8; BLOCK] = front.last_chunk().expect("the IV was put there");
        let mut mode: cbc::Encryptor<&Aes256> = cbc::Encryptor::inner_iv_init(&self.aes, iv.into());
        let (blocks, rest) = Block::<Aes256>::slice_as_chunks_mut(plain);
        debug_assert!(rest.is_empty());
        mode.encrypt_blocks(blocks);
        Ok(())
    }

    fn decrypt<const SALTED: usize>(&self, message: Bytes) -> Result<Bytes, Unreadable> {
        if message.len() < BLOCK + padded(SALTED) || !message.len().is_multiple_of(BLOCK) {
            return Err(Unreadable);
        }
        let mut message = message.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let Some((iv, text)) = message.split_first_chunk_mut::<BLOCK>() else { return Err(Unreadable) };
        let (blocks, _) = Block::<Aes256>::slice_as_chunks_mut(text);
        let mut mode: cbc::Decryptor<&Aes256> = cbc::Decryptor::inner_iv_init(&self.aes, (&*iv).into());
        mode.decrypt_blocks(blocks);

        let padding = padding(text).ok_or(Unreadable)?;
        let plain = text.len().checked_sub(padding).filter(|&plain| plain >= SALTED).ok_or(Unreadable)?;
        message.truncate(BLOCK + plain);
        message.advance(BLOCK + SALTED);
        Ok(message.freeze())
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(..)")
    }
}

/// The next multiple of the block: padding always adds at least one byte.
const fn padded(length: usize) -> usize {
    (length / BLOCK + 1) * BLOCK
}

/// How many bytes of padding a text ends in, if they are all right. The last block is looked at as one number, all of it in any case.
fn padding(text: &[u8]) -> Option<usize> {
    const ONES: u128 = u128::from_ne_bytes([1; BLOCK]);
    let last = text.last_chunk::<BLOCK>()?;
    let [.., count] = *last;
    let is_count = Choice::from(u8::from(count.wrapping_sub(1) < 16));
    // The low bytes of the number, as many as they say themselves; a count of more than there are is wrong anyway.
    let bits = 8 * (u32::from(count) & 15);
    let all = u128::MAX.wrapping_mul(u128::from((count >> 4) & 1));
    let looked_at = ((1_u128 << bits) - 1) | all;
    let differing = (u128::from_be_bytes(*last) ^ ONES.wrapping_mul(u128::from(count))) & looked_at;
    bool::from(differing.ct_eq(&0) & is_count).then_some(usize::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secure::random::Counting;
    use crate::secure::{Seed, SystemRandom};
    use crate::testing;

    fn key(text: &str) -> SessionKey {
        SessionKey::from_text(text).unwrap()
    }

    fn some_key() -> SessionKey {
        SessionKey::derive("PEM", &Seed::strong(&mut Counting::default()))
    }

    fn sealed(key: &SessionKey, plain: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        let write = |out: &mut BytesMut| {
            out.put_slice(plain);
            Ok::<_, ()>(())
        };
        Cipher::new(key).seal(&mut SystemRandom, &mut out, write).unwrap();
        out.freeze()
    }

    #[test]
    fn recorded_messages_open_with_the_recorded_keys() {
        let mut opened = 0;
        for flow in testing::flows().iter().filter(|flow| flow.carrier == "tcp") {
            let Some(text) = &flow.aes_key else { continue };
            let cipher = Cipher::new(&key(text));
            for message in &flow.messages {
                let (Some(wire), Some(plain)) = (&message.wire, &message.plain) else { continue };
                let body = wire.slice(16..);
                if body != plain {
                    assert_eq!(cipher.open(body).as_ref(), Ok(plain), "{}", flow.name);
                    opened += 1;
                }
            }
        }
        assert!(opened > 60, "only {opened}");
    }

    #[test]
    fn recorded_cut_messages_are_unreadable() {
        let flow = testing::flow("encrypted-garbage.secure-tcp");
        let cipher = Cipher::new(&key(flow.aes_key.as_ref().unwrap()));
        let cut = flow.messages.iter().find(|m| m.note == "truncated cipher text").unwrap();
        assert_eq!(cipher.open(cut.wire.as_ref().unwrap().slice(16..)), Err(Unreadable));
    }

    /// Reads an encrypted message by nothing but the specification and the bare block cipher.
    fn by_the_book(key: &SessionKey, message: &[u8]) -> Vec<u8> {
        use aes::cipher::BlockCipherDecrypt as _;
        let aes = Aes256::new(key.as_bytes().into());
        let mut plain = Vec::new();
        for (previous, block) in message.chunks(16).zip(message.chunks(16).skip(1)) {
            let mut state = Block::<Aes256>::try_from(block).unwrap();
            aes.decrypt_block(&mut state);
            plain.extend(state.iter().zip(previous).map(|(a, b)| a ^ b));
        }
        let padding = *plain.last().unwrap();
        assert!((1..=16).contains(&padding));
        for _ in 0..padding {
            assert_eq!(plain.pop(), Some(padding));
        }
        plain.split_off(64)
    }

    #[test]
    fn what_we_encrypt_is_read_by_the_specification_alone() {
        let key = some_key();
        for length in 0..70 {
            let plain: Vec<u8> = (0..length).collect();
            let message = sealed(&key, &plain);
            assert_eq!(message.len(), Cipher::sealed_length(plain.len()));
            assert_eq!(by_the_book(&key, &message), plain);
            assert_eq!(Cipher::new(&key).open(message).unwrap(), plain);
        }
    }

    #[test]
    fn iv_and_salt_are_fresh_for_each_message() {
        let key = some_key();
        let (a, b) = (sealed(&key, b"same"), sealed(&key, b"same"));
        assert_ne!(a[..16], b[..16]);
        assert_ne!(a[16..], b[16..]);
    }

    #[test]
    fn every_wrong_padding_and_length_is_the_same_error() {
        let key = some_key();
        let cipher = Cipher::new(&key);
        let message = sealed(&key, b"0123456789");
        for length in 0..message.len() {
            assert_eq!(cipher.open(message.slice(..length)), Err(Unreadable), "{length}");
        }
        // The last byte of the text depends on the last byte of the block before: all 255 wrong paddings.
        let at = message.len() - 17;
        let mut refused = 0;
        for change in 1..=255 {
            let mut changed = BytesMut::from(&message[..]);
            changed[at] ^= change;
            refused += usize::from(cipher.open(changed.freeze()).is_err());
        }
        // The one that is left makes a padding of a single 1.
        assert_eq!(refused, 254);
    }

    #[test]
    fn failed_write_leaves_nothing_behind() {
        let mut out = BytesMut::from(&b"before"[..]);
        let result = Cipher::new(&some_key()).seal(&mut Counting::default(), &mut out, |out| {
            out.put_slice(b"secret");
            Err("no")
        });
        assert_eq!((result, &out[..]), (Err("no"), &b"before"[..]));
    }

    #[test]
    fn text_of_nsp_0_4_is_read_back() {
        let cipher = Cipher::new(&some_key());
        let message = br#"{"m":"GT","s":"rs","d":{"s":"Fail"}}"#;
        let sealed = cipher.seal_text(&mut SystemRandom, message);
        assert_eq!(sealed.find("=="), Some(22));
        assert_eq!(sealed.len(), Cipher::sealed_text_length(message.len()));
        assert_eq!(cipher.open_text(sealed.as_bytes()).unwrap(), &message[..]);
        assert!(cipher.open_text(b"short").is_err());
        assert!(cipher.open_text(&sealed.as_bytes()[..30]).is_err());
        assert!(cipher.open_text(&[b'!'; 64]).is_err());
    }

    #[test]
    fn padding_of_1_to_16_equal_bytes_is_right() {
        for count in 1..=16_u8 {
            let mut text = [0xaa; 16];
            text[16 - usize::from(count)..].fill(count);
            assert_eq!(padding(&text), Some(count.into()));
            text[15] ^= 0x40;
            assert_eq!(padding(&text), None);
        }
        assert_eq!(padding(&[0; 16]), None);
        assert_eq!(padding(&[17; 32]), None);
    }
}
