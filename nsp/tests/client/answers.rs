//! Answers of all forms, as they come over a carrier that lends them and over one that does not.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::StreamExt as _;
use nsp::client::{Activity, CallError, Client, Events};
use nsp::proto::{Data, RawJson};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How the frames of a daemon travel.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scheme {
    /// As frames, in which answers are lent.
    Nsp,
    /// As chunks, in which they are not.
    NoService,
}

/// A daemon of ours, written by hand, with one client that has opened one activity.
struct Script {
    stream: TcpStream,
    scheme: Scheme,
    /// What is said next.
    out: Vec<u8>,
}

impl Script {
    /// The next packet of CS: its JSON.
    async fn hears(&mut self) -> Value {
        let body = match self.scheme {
            Scheme::Nsp => loop {
                let kind = self.stream.read_u8().await.unwrap();
                let mut name = vec![0; self.stream.read_u8().await.unwrap().into()];
                self.stream.read_exact(&mut name).await.unwrap();
                let mut body = vec![0; self.stream.read_u32().await.unwrap().try_into().unwrap()];
                self.stream.read_exact(&mut body).await.unwrap();
                if kind == b'j' {
                    break body;
                }
            },
            Scheme::NoService => {
                let mut length = [0; 16];
                self.stream.read_exact(&mut length).await.unwrap();
                let length = std::str::from_utf8(&length).unwrap().parse().unwrap();
                let mut chunk = vec![0; length];
                self.stream.read_exact(&mut chunk).await.unwrap();
                // Four letters, and the length of the JSON, behind which there is no blob.
                chunk.split_off(20)
            }
        };
        serde_json::from_slice(&body).unwrap()
    }

    fn says(&mut self, letters: &str, json: &[u8]) {
        match self.scheme {
            Scheme::Nsp => {
                self.out.extend_from_slice(b"j\x04");
                self.out.extend_from_slice(letters.as_bytes());
                self.out.extend_from_slice(&u32::try_from(json.len()).unwrap().to_be_bytes());
            }
            Scheme::NoService => {
                let head = format!("{:016}{letters}{:016}", 20 + json.len(), json.len());
                self.out.extend_from_slice(head.as_bytes());
            }
        }
        self.out.extend_from_slice(json);
    }

    /// Says it in as many pieces as are asked for.
    async fn flush(&mut self, pieces: usize) {
        let out = std::mem::take(&mut self.out);
        for piece in out.chunks(out.len().div_ceil(pieces).max(1)) {
            self.stream.write_all(piece).await.unwrap();
            self.stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
    }
}

/// Connects a client to a daemon that does as `script` says once the activity is open.
async fn meet<F, S>(scheme: Scheme, script: S) -> (Client, Activity, JoinHandle<()>)
where
    S: FnOnce(Script) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheme_name = if scheme == Scheme::Nsp { "nsp" } else { "noservice" };
    let address = format!("{scheme_name}://{}", listener.local_addr().unwrap());
    let daemon = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut peer = Script { stream, scheme, out: Vec::new() };
        let create = peer.hears().await;
        let created = json!({"m": "CE", "d": {"t": create["d"]["t"], "i": "_a", "e": false}});
        peer.says("CSrs", created.to_string().as_bytes());
        peer.flush(1).await;
        peer.hears().await;
        peer.says("CSrs", br#"{"m":"VE","d":{"i":"_a","s":"OK"}}"#);
        peer.flush(1).await;
        script(peer).await;
    });
    let client = Client::connect(&*address).sp(nsp::machine::SpMode::WhenAsked).await.unwrap();
    let activity = client.activity("Test").open().await.unwrap();
    (client, activity, daemon)
}

/// Answers each call with what its argument says, `T` standing for its id, until there is one that says nothing.
async fn as_asked(mut peer: Script) {
    loop {
        let call = peer.hears().await;
        let Some(answers) = call["d"]["d"].as_array() else { return };
        for answer in answers {
            let answer = answer.as_str().unwrap().replace("$T", call["d"]["t"].as_str().unwrap());
            // A byte that is of no text cannot come in a string.
            let bytes: Vec<u8> = answer.bytes().map(|byte| if byte == b'~' { 0xff } else { byte }).collect();
            peer.says("CSrs", &bytes);
        }
        let over = json!({"m": "SF", "d": {"t": call["d"]["t"], "i": "_a", "s": "OK", "d": "over"}});
        peer.says("CSrs", over.to_string().as_bytes());
        peer.flush(1).await;
    }
}

/// What came of a call in words; which of the two ways an answer took is not to be seen.
fn told(result: Result<String, CallError>) -> String {
    match result {
        Ok(value) => value,
        Err(CallError::Answer(_)) => "no such value".into(),
        Err(error) => error.to_string(),
    }
}

fn data_told(result: Result<Data, CallError>) -> String {
    told(result.map(|data| match data {
        Data::Json(json) => json.as_str().to_owned(),
        other => format!("{other:?}"),
    }))
}

#[tokio::test]
async fn answer_is_the_same_whether_it_was_lent_or_not() {
    let rest = r#""i":"_a","s":"OK""#;
    let ok = |data: &str| format!(r#"{{"m":"SF","d":{{"t":"$T",{rest},"d":{data}}}}}"#);
    let long = format!("{:?}", "x".repeat(5000));
    let nested = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let over = "\"over\"".to_owned();
    let cases = [
        (ok("7"), "7".to_owned()),
        (ok("-1.5e3"), "-1.5e3".into()),
        (ok("null"), "null".into()),
        (ok("true"), "true".into()),
        (ok(r#""text""#), r#""text""#.into()),
        (ok(r#""a\"}}\u00e9é""#), r#""a\"}}\u00e9é""#.into()),
        (ok(r#"{"a":1}"#), r#"{"a":1}"#.into()),
        (ok(r#"{"a":{"b":[{},"}"]}}"#), r#"{"a":{"b":[{},"}"]}}"#.into()),
        (ok(&nested), nested.clone()),
        (ok(&long), long.clone()),
        (ok(" 1 "), "1".into()),
        (format!(r#"{{"m":"SF","d":{{"t":"$T",{rest}}}}}"#), "None".into()),
        // Keys in another order, twice, or more of them.
        (format!(r#"{{"m":"SF","d":{{{rest},"t":"$T","d":1}}}}"#), "1".into()),
        (format!(r#"{{"d":{{"t":"$T",{rest},"d":1}},"m":"SF"}}"#), "1".into()),
        (format!(r#"{{"m":"SF","d":{{"t":"$T",{rest},"d":{{"a":1}},"x":{{"b":2}}}}}}"#), r#"{"a":1}"#.into()),
        (format!(r#"{{"m":"SF","d":{{"t":"$T",{rest},"d":1,"s":"Fail"}}}}"#), "Fail".into()),
        (format!(r#"{{"m":"SF","d":{{"t":"$T",{rest},"d":1}},"x":{{}}}}"#), "1".into()),
        // It failed.
        (r#"{"m":"SF","d":{"t":"$T","i":"_a","s":"sour","e":{"code":"c"}}}"#.into(), "sour".into()),
        (r#"{"m":"SF","d":{"t":"$T","i":"_a","d":1}}"#.into(), "no reason given".into()),
        // It is for somebody else, or of another kind, and what ends the call comes after it.
        (r#"{"m":"SF","d":{"t":"$T","i":"_b","s":"OK","d":1}}"#.into(), over.clone()),
        (r#"{"m":"SF","d":{"t":"_zzz","i":"_a","s":"OK","d":1}}"#.into(), over.clone()),
        (r#"{"m":"BS","d":{"t":"$T","i":"_a","s":"OK","d":1}}"#.into(), over.clone()),
        (r#"{"m":"SS","d":{"i":"_a","s":"OK"}}"#.into(), over.clone()),
        // It is nothing at all.
        (r#"{"m":"SF","d":{"t":"$T","i":"_a","s":"OK","d":}}"#.into(), over.clone()),
        (r#"{"m":"SF","d":{"t":"$T","i":"_a","s":"OK"#.into(), over),
    ];
    for scheme in [Scheme::Nsp, Scheme::NoService] {
        let (client, activity, daemon) = meet(scheme, as_asked).await;
        for (answer, expected) in &cases {
            let raw = activity.call_raw("any", RawJson::of(&[answer]).unwrap()).await;
            assert_eq!(data_told(raw), *expected, "{scheme:?} {answer}");
            let value = told(activity.call::<Value>("any", &[answer]).await.map(|value| value.to_string()));
            // As a type of the caller's, nothing is `null`, and the text is read.
            let expected = if expected == "None" { "null" } else { expected };
            let read = serde_json::from_str(expected).map_or(expected.to_owned(), |it: Value| it.to_string());
            assert_eq!(value, read, "{scheme:?} {answer}");
        }
        drop((activity, client));
        daemon.abort();
    }
}

#[tokio::test]
async fn value_that_is_no_json_fails_its_call_alone() {
    let (client, activity, daemon) = meet(Scheme::Nsp, as_asked).await;
    for bad in [r#"{"a"}"#, "{]}", "{,}", r#""~""#, r#"{"a":"~"}"#, r#"{"a":01}"#] {
        let answer = [format!(r#"{{"m":"SF","d":{{"t":"$T","i":"_a","s":"OK","d":{bad}}}}}"#)];
        let error = activity.call::<Value>("bad", &answer).await.unwrap_err();
        assert!(matches!(error, CallError::Answer(_)), "{bad}: {error}");
        let error = activity.call_raw("bad", RawJson::of(&answer).unwrap()).await.unwrap_err();
        assert!(matches!(error, CallError::Answer(_)), "{bad}: {error}");
        assert_eq!(activity.call::<String>("good", &[(); 0]).await.unwrap(), "over");
    }
    assert!(activity.entity().is_some());
    drop((activity, client));
    daemon.abort();
}

/// Looks, each time that an answer wakes it, for the event that came before.
struct Look {
    events: Mutex<Events<usize>>,
    seen: Mutex<Vec<Option<usize>>>,
}

impl Wake for Look {
    fn wake(self: Arc<Self>) {
        let mut cx = Context::from_waker(Waker::noop());
        let event = match self.events.lock().unwrap().poll_next_unpin(&mut cx) {
            Poll::Ready(Some(event)) => Some(event.unwrap()),
            _ => None,
        };
        self.seen.lock().unwrap().push(event);
    }
}

#[tokio::test]
async fn events_and_answers_keep_their_order_however_they_are_cut() {
    const CALLS: usize = 200;
    for pieces in [1, 7, 1000] {
        for scheme in [Scheme::Nsp, Scheme::NoService] {
            let script = move |mut peer: Script| async move {
                for _ in 0..=CALLS {
                    let call = peer.hears().await;
                    let (id, number) = (call["d"]["t"].as_str().unwrap(), &call["d"]["d"]);
                    let event = json!({"m": "EV", "d": {"i": "_a", "n": "next", "d": number}});
                    peer.says("CArq", event.to_string().as_bytes());
                    let answer = format!(r#"{{"m":"SF","d":{{"t":"{id}","i":"_a","s":"OK","d":{number}}}}}"#);
                    peer.says("CSrs", answer.as_bytes());
                }
                peer.flush(pieces).await;
                let _ = peer.stream.read(&mut [0; 1024]).await;
            };
            let (client, activity, daemon) = meet(scheme, script).await;
            let events = Mutex::new(activity.events::<usize>("next"));
            let look = Arc::new(Look { events, seen: Mutex::default() });
            let waker = Waker::from(Arc::clone(&look));
            let mut cx = Context::from_waker(&waker);
            let numbers: Vec<usize> = (0..CALLS).collect();
            let mut calls: Vec<_> =
                numbers.iter().map(|number| Box::pin(activity.call::<usize>("echo", number))).collect();
            assert!(calls.iter_mut().all(|call| call.as_mut().poll(&mut cx).is_pending()));
            assert_eq!(activity.call::<usize>("echo", &CALLS).await.unwrap(), CALLS);
            let expected: Vec<_> = numbers.iter().copied().map(Some).collect();
            assert_eq!(*look.seen.lock().unwrap(), expected, "{scheme:?} in {pieces}");
            for (number, call) in calls.iter_mut().enumerate() {
                assert!(matches!(call.as_mut().poll(&mut cx), Poll::Ready(Ok(answer)) if answer == number));
            }
            drop((calls, look));
            drop((activity, client));
            daemon.abort();
        }
    }
}

#[tokio::test]
async fn one_call_after_the_other_is_answered_in_pieces() {
    let script = |mut peer: Script| async move {
        for pieces in 1..200 {
            let call = peer.hears().await;
            let id = call["d"]["t"].as_str().unwrap();
            let value = "x".repeat(pieces);
            let answer = format!(r#"{{"m":"SF","d":{{"t":"{id}","i":"_a","s":"OK","d":"{value}"}}}}"#);
            peer.says("CSrs", answer.as_bytes());
            peer.flush(pieces % 5 + 1).await;
        }
    };
    let (client, activity, daemon) = meet(Scheme::Nsp, script).await;
    for length in 1..200 {
        assert_eq!(activity.call::<String>("next", &()).await.unwrap().len(), length);
    }
    daemon.await.unwrap();
    drop((activity, client));
}
