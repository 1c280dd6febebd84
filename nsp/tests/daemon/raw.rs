//! A peer that writes the bytes of a carrier by hand: what it sends need not be a packet, nor even of that carrier.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nsp::secure::{Cipher, PublicKey, SystemRandom};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Frames,
    Chunks,
    Web,
}

pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    pub(crate) way: Way,
    cipher: Option<Cipher>,
    /// All that was received, decrypted.
    pub(crate) heard: String,
    n: u64,
}

impl Raw {
    pub(crate) async fn to(address: &str) -> Self {
        let (scheme, host) = address.split_once("://").unwrap();
        let host = host.trim_end_matches('/');
        let mut stream = TcpStream::connect(host).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let way = match scheme {
            "nsp" => Way::Frames,
            "noservice" => Way::Chunks,
            _ => Way::Web,
        };
        if way == Way::Web {
            let ask = format!(
                "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            );
            stream.write_all(ask.as_bytes()).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
        }
        Self { stream, way, cipher: None, heard: String::new(), n: 0 }
    }

    /// Agrees on a key, after a first message. What the daemon sends from then on is encrypted.
    pub(crate) async fn secure(&mut self, first: &[u8]) {
        self.say(first).await;
        self.answer_sp().await;
    }

    /// Answers to SP.
    pub(crate) async fn answer_sp(&mut self) {
        let request = self.hear().await.unwrap();
        let request: Value = serde_json::from_slice(request.strip_prefix(b"SPrq").unwrap()).unwrap();
        let key = PublicKey::from_pem(request["p"].as_str().unwrap()).unwrap();
        let (answer, session) = nsp::secure::answer(&key, &mut SystemRandom).unwrap();
        self.say(format!("SPrs\"{}\"", answer.sealed).as_bytes()).await;
        self.cipher = Some(Cipher::new(&session));
    }

    /// Sends a message, whatever it is: encrypted, if there is a key.
    pub(crate) async fn say(&mut self, message: &[u8]) {
        match &self.cipher {
            Some(cipher) => {
                let mut sealed = BytesMut::new();
                let write = |out: &mut BytesMut| {
                    out.extend_from_slice(message);
                    Ok::<_, ()>(())
                };
                cipher.seal(&mut SystemRandom, &mut sealed, write).unwrap();
                self.say_sealed(&sealed).await;
            }
            None => self.say_in_clear(message).await,
        }
    }

    pub(crate) async fn say_sealed(&mut self, sealed: &[u8]) {
        match self.way {
            Way::Frames => self.write(&frame(b'b', b"NSPS", sealed)).await,
            _ => self.say_in_clear(sealed).await,
        }
    }

    pub(crate) async fn say_in_clear(&mut self, message: &[u8]) {
        let bytes = match self.way {
            Way::Frames => {
                // With lengths inside or not: that is what kinds are for.
                let (name, body) = message.split_at(message.len().min(4));
                let is_packed = matches!(name, b"CSrq" | b"CSrs" | b"CArq");
                frame(if is_packed { b'b' } else { b'j' }, name, body)
            }
            Way::Chunks => [format!("{:016}", message.len()).as_bytes(), message].concat(),
            Way::Web => web(0x82, message),
        };
        self.write(&bytes).await;
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        // Who is cut off already sees it when it reads.
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next message; `None` when the connection is at its end.
    pub(crate) async fn hear(&mut self) -> Option<Vec<u8>> {
        let next = tokio::time::timeout(Duration::from_secs(20), self.receive());
        let (message, sealed) = next.await.expect("something comes, if only the end").ok()?;
        let message = match (&self.cipher, sealed) {
            (Some(cipher), true) => cipher.open(Bytes::from(message)).unwrap().to_vec(),
            (Some(_), false) => panic!("in clear"),
            (None, _) => message,
        };
        self.heard.push_str(&String::from_utf8_lossy(&message));
        Some(message)
    }

    async fn receive(&mut self) -> std::io::Result<(Vec<u8>, bool)> {
        loop {
            match self.way {
                Way::Frames => {
                    let kind = self.stream.read_u8().await?;
                    let length = self.stream.read_u8().await?;
                    let name = self.exactly(length.into()).await?;
                    let length = self.stream.read_u32().await?;
                    let body = self.exactly(length as usize).await?;
                    if kind == b'c' {
                        self.heard.push_str(&String::from_utf8_lossy(&body));
                    } else if name == b"NSPS" {
                        return Ok((body, true));
                    } else {
                        return Ok(([name, body].concat(), false));
                    }
                }
                Way::Chunks => {
                    let length = String::from_utf8(self.exactly(16).await?).unwrap();
                    return Ok((self.exactly(length.parse().unwrap()).await?, self.cipher.is_some()));
                }
                Way::Web => {
                    let first = self.stream.read_u8().await?;
                    let length = match self.stream.read_u8().await? {
                        126 => usize::from(self.stream.read_u16().await?),
                        length => usize::from(length),
                    };
                    let body = self.exactly(length).await?;
                    if first == 0x82 {
                        return Ok((body, self.cipher.is_some()));
                    }
                    self.heard.push_str(&String::from_utf8_lossy(&body));
                }
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    /// The `d` of the next message of a method, leg and operation.
    pub(crate) async fn hear_operation(&mut self, letters: &str, operation: &str) -> Value {
        loop {
            let message = self.hear().await.unwrap_or_else(|| panic!("no {letters} {operation}"));
            let Some(json) = message.strip_prefix(letters.as_bytes()) else { continue };
            // Lengths inside: two of sixteen digits, and a blob behind the second.
            let at = json.iter().position(|&byte| byte == b'{').unwrap();
            let value: Value =
                serde_json::Deserializer::from_slice(&json[at..]).into_iter().next().unwrap().unwrap();
            if value["m"] == operation {
                return value["d"].clone();
            }
        }
    }

    pub(crate) fn id(&mut self) -> String {
        self.n += 1;
        format!("t{}", self.n)
    }

    /// An entity, verified.
    pub(crate) async fn open(&mut self, service: &str, owner: &str) -> String {
        let t = self.id();
        self.say(&packed(&json!({"m":"CE","d":{"t":t,"o":owner,"m":"normal","s":service}}))).await;
        let created = self.hear_operation("CSrs", "CE").await;
        assert_eq!(created["t"], t.as_str());
        let entity = created["i"].as_str().unwrap().to_owned();
        self.say(&packed(&json!({"m":"VE","d":{"i":entity}}))).await;
        assert_eq!(self.hear_operation("CSrs", "VE").await["s"], "OK");
        entity
    }

    /// Calls a function and gives the whole answer.
    pub(crate) async fn call(&mut self, entity: &str, function: &str, argument: &Value) -> Value {
        let t = self.begin(entity, function, argument).await;
        let answer = self.hear_operation("CSrs", "SF").await;
        assert_eq!(answer["t"], t.as_str());
        answer
    }

    pub(crate) async fn begin(&mut self, entity: &str, function: &str, argument: &Value) -> String {
        let t = self.id();
        self.say(&packed(&json!({"m":"SF","d":{"i":entity,"n":function,"t":t,"d":argument}}))).await;
        t
    }

    pub(crate) async fn echoes(&mut self, entity: &str) -> bool {
        self.call(entity, "echo", &json!("here")).await["d"] == "here"
    }

    /// Whether it is cut off; what it is told before counts as heard.
    pub(crate) async fn is_closed(&mut self) -> bool {
        while self.hear().await.is_some() {}
        true
    }
}

/// A request of CS with its length, as it stands on all carriers.
pub(crate) fn packed(json: &Value) -> Vec<u8> {
    let json = json.to_string();
    format!("CSrq{:016}{json}", json.len()).into_bytes()
}

pub(crate) fn frame(kind: u8, name: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, u8::try_from(name.len()).unwrap()];
    out.extend(name);
    out.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    out.extend(body);
    out
}

/// A whole frame of WebSocket, under a mask that changes nothing.
pub(crate) fn web(first: u8, message: &[u8]) -> Vec<u8> {
    let mut out = vec![first, 0x80 | 126];
    out.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
    out.extend([0; 4]);
    out.extend(message);
    out
}
