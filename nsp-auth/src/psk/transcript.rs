use aws_lc_rs::hmac;
use nossock::Side;

use super::hex::Bytes32;
use super::key::Key;
use super::label::Label;

/// All that was said until now, which each proof covers; see the [module](super) for the order of its bytes.
#[derive(Debug, Clone)]
pub(super) struct Transcript {
    pub(super) client_nonce: Bytes32,
    pub(super) server_nonce: Bytes32,
    /// What the two ends of this connection know and nobody else does; `None` without TLS.
    pub(super) binding: Option<[u8; 32]>,
    pub(super) client: Label,
    pub(super) server: Label,
    /// The ids of the keys that the client offered, in its order.
    pub(super) offered: Vec<Label>,
}

impl Transcript {
    /// The proof that this side has the key.
    pub(super) fn prove(&self, side: Side, key: &Key) -> Bytes32 {
        let tag = hmac::sign(&hmac_key(key), &self.input(side, key.label()));
        let mut mac = [0; 32];
        // SHA-256 is 32 bytes long: nothing is cut here.
        for (to, from) in mac.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        Bytes32(mac)
    }

    /// Whether a side has the key of this id, in constant time.
    pub(super) fn is_proved(&self, side: Side, id: &Label, key: &Key, mac: Bytes32) -> bool {
        hmac::verify(&hmac_key(key), &self.input(side, id), &mac.0).is_ok()
    }

    /// What the MAC is computed over. Every part has a fixed length or says its own, so no two transcripts give the same bytes.
    fn input(&self, side: Side, id: &Label) -> Vec<u8> {
        let mut input = Vec::with_capacity(512);
        input.extend_from_slice(b"nossock psk 1");
        input.push(match side {
            Side::Client => b'c',
            Side::Server => b's',
        });
        input.extend_from_slice(&self.client_nonce.0);
        input.extend_from_slice(&self.server_nonce.0);
        put(&mut input, self.binding.as_ref().map_or(&[], |binding| binding));
        put(&mut input, self.client.as_str().as_bytes());
        put(&mut input, self.server.as_str().as_bytes());
        put(&mut input, id.as_str().as_bytes());
        input.push(short(self.offered.len()));
        for id in &self.offered {
            put(&mut input, id.as_str().as_bytes());
        }
        input
    }
}

fn hmac_key(key: &Key) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.secret())
}

fn put(input: &mut Vec<u8>, part: &[u8]) {
    input.push(short(part.len()));
    input.extend_from_slice(part);
}

fn short(len: usize) -> u8 {
    u8::try_from(len).expect("labels, bindings and offers are short")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &str) -> Label {
        Label::new(text).unwrap()
    }

    fn transcript() -> Transcript {
        Transcript {
            client_nonce: Bytes32([0xc1; 32]),
            server_nonce: Bytes32([0x5e; 32]),
            binding: None,
            client: label("sensor-7"),
            server: label("hub"),
            offered: vec![label("2026-11")],
        }
    }

    fn key(id: &str) -> Key {
        Key::from_hex(id, "000102030405060708090a0b0c0d0e0f").unwrap()
    }

    /// The example in the documentation of the module; the MACs were computed with Python's `hmac`.
    #[test]
    fn example_is_as_it_is_documented() {
        let input = transcript().input(Side::Client, &label("2026-11"));
        let text: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        let documented = include_str!("mod.rs")
            .lines()
            .skip_while(|line| !line.contains("MAC input, client"))
            .skip(1)
            .take_while(|line| !line.contains("MAC,"));
        // Digits, then in words what they are.
        let documented: String = documented.filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(text, documented);
        for side in [Side::Client, Side::Server] {
            let mac = transcript().prove(side, &key("2026-11")).to_string();
            assert!(include_str!("mod.rs").contains(&mac), "{side}: {mac}");
        }
    }

    #[test]
    fn every_part_counts() {
        let proof = transcript().prove(Side::Client, &key("2026-11"));
        let holds = |change: fn(&mut Transcript), side, id: &str| {
            let mut other = transcript();
            change(&mut other);
            other.is_proved(side, &label(id), &key("x"), proof)
        };
        assert!(holds(|_| {}, Side::Client, "2026-11"));
        assert!(!holds(|_| {}, Side::Server, "2026-11"), "the role");
        assert!(!holds(|_| {}, Side::Client, "2026-12"), "the key's id");
        assert!(!holds(|t| t.client_nonce.0[31] ^= 1, Side::Client, "2026-11"));
        assert!(!holds(|t| t.server_nonce.0[0] ^= 1, Side::Client, "2026-11"));
        assert!(!holds(
            |t| std::mem::swap(&mut t.client_nonce, &mut t.server_nonce),
            Side::Client,
            "2026-11"
        ));
        assert!(!holds(|t| std::mem::swap(&mut t.client, &mut t.server), Side::Client, "2026-11"));
        assert!(!holds(|t| t.binding = Some([0; 32]), Side::Client, "2026-11"));
        assert!(!holds(|t| t.client = label("sensor-8"), Side::Client, "2026-11"));
        assert!(!holds(|t| t.server = label("hub2"), Side::Client, "2026-11"));
        assert!(!holds(|t| t.offered.push(label("old")), Side::Client, "2026-11"));
        assert!(!holds(|t| t.offered.clear(), Side::Client, "2026-11"));
    }

    #[test]
    fn parts_cannot_be_moved_over_their_borders() {
        let of = |client: &str, server: &str| {
            Transcript { client: label(client), server: label(server), ..transcript() }
                .input(Side::Client, &label("k"))
        };
        assert_ne!(of("ab", "c"), of("a", "bc"));
    }
}
