//! What makes no sense: each line of it, and what the connection is after it.

use bytes::Bytes;
use nsp::carrier::CarrierEnd;
use nsp::daemon::{Daemon, Json, Service};
use nsp::machine::Outgoing;
use nsp::proto::{Leg, Method, Packet, RequestId, au, cs};
use serde_json::{Value, json};

use crate::wire::{Wire, code, daemon};

fn echo() -> Service {
    Service::new("Echo").function("echo", async |Json(value): Json<Value>| value)
}

fn packet(method: Method, leg: Leg, json: &'static str) -> Packet {
    Packet::new(method, leg, Bytes::from_static(json.as_bytes()))
}

/// What is ignored, each for another reason.
pub(crate) fn nonsense() -> Vec<Packet> {
    use Leg::{Answer, Request};
    vec![
        packet(Method::Cs, Request, "not json"),
        packet(Method::Cs, Request, ""),
        packet(Method::Cs, Request, r#"{"m":"XX","d":{}}"#),
        packet(Method::Cs, Request, r#"{"m":"SF"}"#),
        packet(Method::Cs, Request, r#"{"m":"SF","d":{"i":5}}"#),
        packet(Method::Cs, Request, r#"{"m":"CE","d":{"t":"x"}}"#),
        packet(Method::Cs, Answer, r#"{"m":"VE","d":{"i":"_x","s":"OK"}}"#),
        packet(Method::Gt, Answer, r#"{"t":"x"}"#),
        packet(Method::Gt, Request, r"[]"),
        packet(Method::Au, Request, r#"{"m":"TF","i":"_x"}"#),
        packet(Method::Au, Answer, r#"{"m":"TK"}"#),
        packet(Method::Ca, Request, r#"{"m":"CS","d":{"i":"_x"}}"#),
        packet(Method::Ca, Answer, r#"{"m":"XX","d":{}}"#),
        packet(Method::Sp, Request, r#"{"p":"x"}"#),
        packet(Method::Sp, Answer, r#""AAAA""#),
    ]
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_counted_and_the_connection_goes_on() {
    let (_daemon, handle) = daemon(Daemon::builder().service(echo())).await;
    let mut wire = Wire::to(&handle);
    for (n, packet) in nonsense().into_iter().enumerate() {
        wire.say(packet).await;
        assert!(wire.is_silent().await, "{n} is answered");
        assert_eq!(handle.stats().ignored, n as u64 + 1, "{n}");
    }
    wire.carrier.start_send(Outgoing::Sealed(Bytes::from_static(&[7; 96]))).unwrap();
    wire.carrier.start_send(Outgoing::Heartbeat).unwrap();
    let entity = wire.open("Echo").await;
    assert_eq!(wire.call(&entity, "echo", json!(1)).await, Ok(json!(1)));
}

#[tokio::test(start_paused = true)]
async fn too_much_nonsense_ends_the_connection_with_the_reason() {
    let (_daemon, handle) = daemon(Daemon::builder().service(echo())).await;
    let mut wire = Wire::to(&handle);
    wire.open("Echo").await;
    for _ in 0..101 {
        wire.say(packet(Method::Cs, Leg::Request, "{")).await;
    }
    let CarrierEnd::PeerSaid(why) = wire.end().await else { panic!() };
    assert!(why.starts_with("101 messages made no sense"), "{why}");
    assert!(!why.contains('/'), "{why}");
    assert_eq!(handle.closed()[0].reason.to_string(), why);
}

#[tokio::test(start_paused = true)]
async fn unknown_entities_are_answered_and_are_no_fault() {
    let (_daemon, handle) = daemon(Daemon::builder().service(echo())).await;
    let mut wire = Wire::to(&handle);
    wire.open("Echo").await;
    let nobody = nsp::proto::EntityId::new("_nobody").unwrap();
    for _ in 0..200 {
        assert_eq!(code(wire.call(&nobody, "echo", json!(1)).await), "no_entity");
    }
    assert!(wire.verify(&nobody).await.is_err());
    wire.ask(cs::Request::Close { entity: nobody }).await;
    let answer =
        au::Answer { question: au::Question::Token, id: RequestId::numbered(1), value: Some("t".into()) };
    wire.say(answer.encode()).await;
    assert!(wire.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn token_without_password_is_a_wrong_password() {
    let (_daemon, handle) = daemon(Daemon::builder().service(echo())).await;
    let mut wire = Wire::to(&handle);
    for ask in [r#"{"u":"admin"}"#, r#"{"u":"admin","p":5}"#, r#"{"u":"admin","p":null}"#] {
        wire.say(packet(Method::Gt, Leg::Request, ask)).await;
        let answer = wire.next_of(Method::Gt).await;
        assert_eq!(&answer.payload.json[..], br#"{"u":"admin","s":"Fail"}"#);
    }
}

#[tokio::test(start_paused = true)]
async fn deeply_nested_argument_is_a_bad_argument() {
    let (_daemon, handle) = daemon(Daemon::builder().service(echo())).await;
    let mut wire = Wire::to(&handle);
    let entity = wire.open("Echo").await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let text = format!(r#"{{"m":"SF","d":{{"i":"{entity}","n":"echo","t":"1","d":{deep}}}}}"#);
    wire.say(Packet::new(Method::Cs, Leg::Request, Bytes::from(text))).await;
    if let Ok(packet) = tokio::time::timeout(std::time::Duration::from_secs(1), wire.next()).await {
        let cs::Answer::Returned { status, .. } = cs::Answer::decode(&packet.unwrap()).unwrap() else {
            panic!()
        };
        assert_eq!(status.into_result().unwrap_err().code.as_deref(), Some("bad_argument"));
    }
    assert_eq!(wire.call(&entity, "echo", json!(1)).await, Ok(json!(1)));
}
