//! Somebody who sends and receives text, by hand: in NoService chunks, or in frames of WebSocket.

use std::time::Duration;

use aes::Aes256;
use aes::cipher::{Block, BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) struct Peer {
    stream: TcpStream,
    is_web: bool,
    key: Option<[u8; 32]>,
}

impl Peer {
    /// Dials `noservice://` or `ws://`.
    pub(crate) async fn to(address: &str) -> Self {
        let (scheme, host) = address.split_once("://").unwrap();
        let mut stream = TcpStream::connect(host.trim_end_matches('/')).await.unwrap();
        let is_web = scheme == "ws";
        if is_web {
            let ask = format!(
                "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            );
            stream.write_all(ask.as_bytes()).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            assert!(head.starts_with(b"HTTP/1.1 101"));
        }
        Self { stream, is_web, key: None }
    }

    pub(crate) const fn over(stream: TcpStream) -> Self {
        Self { stream, is_web: false, key: None }
    }

    /// From now on all is encrypted, but the heartbeat.
    pub(crate) const fn secure(&mut self, key: [u8; 32]) {
        self.key = Some(key);
    }

    pub(crate) async fn says(&mut self, text: &str) {
        let message = match &self.key {
            Some(key) => encrypted(key, text),
            None => text.to_owned(),
        };
        self.says_in_clear(&message).await;
    }

    pub(crate) async fn says_in_clear(&mut self, message: &str) {
        let mut out = Vec::new();
        if self.is_web {
            out.extend([0x81, 0x80 | 126]);
            out.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
            out.extend([0; 4]); // a mask that changes nothing
        } else {
            out.extend(format!("{:016}", message.len()).into_bytes());
        }
        out.extend(message.as_bytes());
        self.stream.write_all(&out).await.unwrap();
    }

    pub(crate) async fn hears(&mut self) -> String {
        let message = tokio::time::timeout(Duration::from_secs(100), self.receive()).await.unwrap().unwrap();
        match &self.key {
            Some(key) if !message.starts_with('{') => decrypted(key, &message),
            Some(_) => panic!("in clear: {message}"),
            None => message,
        }
    }

    pub(crate) async fn receive(&mut self) -> std::io::Result<String> {
        let length = if self.is_web {
            assert_eq!(self.stream.read_u8().await?, 0x81, "a text message, whole");
            match self.stream.read_u8().await? {
                126 => usize::from(self.stream.read_u16().await?),
                length => usize::from(length),
            }
        } else {
            let mut length = [0; 16];
            self.stream.read_exact(&mut length).await?;
            std::str::from_utf8(&length).unwrap().parse().unwrap()
        };
        let mut message = vec![0; length];
        self.stream.read_exact(&mut message).await?;
        Ok(String::from_utf8(message).unwrap())
    }

    /// What it hears next, as JSON.
    pub(crate) async fn hears_json(&mut self) -> serde_json::Value {
        serde_json::from_str(&self.hears().await).unwrap()
    }

    pub(crate) async fn is_closed(&mut self) -> bool {
        let gone = self.stream.read_u8();
        !matches!(tokio::time::timeout(Duration::from_secs(100), gone).await.unwrap(), Ok(byte) if byte != 0x88)
    }
}

/// The encrypted form, from nothing but the block cipher: `base64(IV) base64(cipher text)`, no salt.
pub(crate) fn encrypted(key: &[u8; 32], text: &str) -> String {
    let aes = Aes256::new(key.into());
    let iv = *b"0123456789abcdef";
    let padding = 16 - text.len() % 16;
    let mut plain = text.as_bytes().to_vec();
    plain.extend(vec![u8::try_from(padding).unwrap(); padding]);
    let (mut previous, mut sealed) = (iv, Vec::new());
    for block in plain.chunks(16) {
        let mixed: Vec<u8> = block.iter().zip(previous).map(|(a, b)| a ^ b).collect();
        let mut state = Block::<Aes256>::try_from(&mixed[..]).unwrap();
        aes.encrypt_block(&mut state);
        previous = state.into();
        sealed.extend(previous);
    }
    STANDARD.encode(iv) + &STANDARD.encode(sealed)
}

/// Its reverse.
pub(crate) fn decrypted(key: &[u8; 32], message: &str) -> String {
    let aes = Aes256::new(key.into());
    let (iv, sealed) = message.split_at(24);
    let mut all = STANDARD.decode(iv).unwrap();
    all.extend(STANDARD.decode(sealed).unwrap());
    let mut plain = Vec::new();
    for (previous, block) in all.chunks(16).zip(all.chunks(16).skip(1)) {
        let mut state = Block::<Aes256>::try_from(block).unwrap();
        aes.decrypt_block(&mut state);
        plain.extend(state.iter().zip(previous).map(|(a, b)| a ^ b));
    }
    let padding = usize::from(*plain.last().unwrap());
    plain.truncate(plain.len() - padding);
    String::from_utf8(plain).unwrap()
}
