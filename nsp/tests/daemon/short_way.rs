//! Calls in their usual form are served where they stand in what was read; all others, and those that were packed, go a longer way. Nobody
//! can tell the two apart by what comes of them.

use std::time::Duration;

use nsp::daemon::{Daemon, DaemonHandle, Data, Entity, Fail, Json, Limits, Listen, Service, State};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::raw::{Raw, frame};
use crate::testing;

/// Most bytes of a message.
const MESSAGE: usize = 64 * 1024;

struct Served {
    address: String,
    handle: DaemonHandle,
    serving: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn served() -> Served {
    let service = Service::with_state("Echo", 7)
        .function("echo", async |Json(value): Json<Value>| value)
        .function("number", async |Json(n): Json<i64>| n)
        .function("nothing", async || {})
        .function("as it is", async |data: Data| data)
        .function("state", async |State(seven): State<i32>| seven)
        .function("fails", async || -> Result<(), Fail> { Err(Fail::new("no", "not today")) })
        .function("panics", async || -> Result<(), Fail> { panic!("at /srv/echo.rs") })
        .function("waits", async |Json(value): Json<Value>| {
            tokio::time::sleep(Duration::from_millis(1)).await;
            value
        })
        .function("tells", async |entity: Entity| -> Result<&'static str, Fail> {
            entity.emit("told", &1).await?;
            entity.send(&2).await?;
            Ok("after")
        })
        .function("large", async || "x".repeat(2 * MESSAGE))
        .function("closes", async |entity: Entity| {
            entity.close();
            "closed"
        });
    let mut limits = Limits { connections_per_address: 100, accept_burst: 1000, ..Limits::default() };
    limits.connection.message = MESSAGE;
    limits.connection.faults = u32::MAX;
    let builder = Daemon::builder().service(service).limits(limits).listen(Listen::on("nsp://127.0.0.1:0"));
    let daemon = builder.bind().await.unwrap();
    let address = daemon.addresses()[0].to_string();
    Served { address, handle: daemon.handle(), serving: tokio::spawn(daemon.serve()) }
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Short,
    Long,
}

impl Way {
    /// A call as JSON: alone, as it can be served where it stands, or packed.
    fn frame(self, json: &str) -> Vec<u8> {
        match self {
            Self::Short => frame(b'j', b"CSrq", json.as_bytes()),
            Self::Long => frame(b'b', b"CSrq", format!("{:016}{json}", json.len()).as_bytes()),
        }
    }
}

/// What the daemon says because of a call. What is random is left out.
async fn outcome(served: &Served, way: Way, json: &str) -> Vec<String> {
    let mut raw = Raw::to(&served.address).await;
    let entity = raw.open("Echo", "ann").await;
    let other = raw.open("Echo", "ann").await;
    raw.write(&way.frame(&json.replace("ENTITY", &entity))).await;
    let mut said = Vec::new();
    // What comes later than at once is waited for.
    let last = match json {
        _ if json.contains("waits") => "CSrs",
        _ if json.contains("closes") => "CArq",
        _ => "",
    };
    while !last.is_empty() && !said.last().is_some_and(|said: &String| said.starts_with(last)) {
        said.push(hear(&mut raw, &entity).await);
    }
    // Data is answered in its turn: whatever the call has come to stands before that.
    raw.write(&Way::Long.frame(&json!({"m":"SS","d":{"i":other,"d":0}}).to_string())).await;
    loop {
        let message = hear(&mut raw, &entity).await;
        if message.starts_with("CSrs") && message.contains(r#""m":"SS""#) {
            return said;
        }
        said.push(message);
    }
}

async fn hear(raw: &mut Raw, entity: &str) -> String {
    let message = String::from_utf8(raw.hear().await.unwrap()).unwrap().replace(entity, "ENTITY");
    let (letters, text) = message.split_at(4);
    let mut value: Value = serde_json::from_str(&text[text.find('{').unwrap()..]).unwrap();
    if let Some(failure) = value["d"].get_mut("e").and_then(Value::as_object_mut) {
        failure.remove("id");
    }
    format!("{letters}{value}")
}

#[tokio::test]
async fn whatever_is_called_comes_to_the_same() {
    let served = served().await;
    let call = |function: &str, rest: &str| {
        format!(r#"{{"m":"SF","d":{{"i":"ENTITY","n":"{function}","t":"_1"{rest}}}}}"#)
    };
    let mut calls: Vec<String> = [
        "echo", "number", "nothing", "as it is", "state", "fails", "panics", "waits", "tells", "large",
        "closes", "none",
    ]
    .iter()
    .flat_map(|function| [call(function, ""), call(function, r#","d":{"x":1}"#), call(function, r#","d":5"#)])
    .collect();
    for data in [
        r#""text""#,
        r#""with \"escape\"""#,
        "null",
        "true",
        "-1.5e3",
        "[]",
        "{}",
        r#"[{"a":[1,{}]},"}}"]"#,
        r#"{"a":{"b":"}"}}"#,
        r#"{"x":1},"more":{"y":2}"#,
        r#"{"x":1},"d":{"y":2}"#,
        r#"{"x":1},"t":"_2""#,
        r#""x","n":"number""#,
        r#"1,"n":"none""#,
        r#"{"x":1},"i":"_nobody""#,
        "\"\u{e9}\u{1f600}\"",
    ] {
        calls.push(call("echo", &format!(r#","d":{data}"#)));
    }
    calls.extend([
        r#"{"m":"SF","d":{"i":"_nobody","n":"echo","t":"_1","d":1}}"#.to_owned(),
        r#"{"m":"SF","d":{"i":"ENTITY","n":"echo","t":"","d":1}}"#.to_owned(),
        r#"{"m":"SF","d":{"i":"ENTITY","n":"echo","t":7,"d":1}}"#.to_owned(),
        r#"{"m":"SF","d":{"i":"ENTITY","n":"echo","t":"é","d":1}}"#.to_owned(),
        r#"{"m":"SF","d":{"i":"ENTITY","n":"echo","d":1}}"#.to_owned(),
        r#"{"m":"SF","d":{"d":1,"t":"_1","n":"echo","i":"ENTITY"}}"#.to_owned(),
        r#"{ "m": "SF", "d": {"i":"ENTITY","n":"echo","t":"_1","d":1} }"#.to_owned(),
        r#"{"m":"SF","d":{"i":"ENTITY","n":"ech\u006f","t":"_1","d":1}}"#.to_owned(),
        r#"{"m":"BS","d":{"i":"ENTITY","n":"echo","t":"_1","d":1}}"#.to_owned(),
        format!(r#"{{"m":"SF","d":{{"i":"ENTITY","n":"echo","t":"{}","d":1}}}}"#, "t".repeat(253)),
        format!(r#"{{"m":"SF","d":{{"i":"ENTITY","n":"echo","t":"{}","d":1}}}}"#, "t".repeat(254)),
    ]);
    let mut answered = 0;
    for json in &calls {
        let (short, long) =
            (outcome(&served, Way::Short, json).await, outcome(&served, Way::Long, json).await);
        assert_eq!(short, long, "{json}");
        answered += usize::from(!short.is_empty());
    }
    assert!(answered + 4 > calls.len(), "{answered} of {}", calls.len());
    let stats = served.handle.stats();
    assert_eq!((stats.calls % 2, stats.failed % 2, stats.calls_running), (0, 0, 0), "{stats:?}");
}

#[tokio::test]
async fn what_a_function_has_sent_comes_before_its_answer() {
    let served = served().await;
    let json = r#"{"m":"SF","d":{"i":"ENTITY","n":"tells","t":"_1"}}"#;
    let said = outcome(&served, Way::Short, json).await;
    let operations: Vec<_> = said.iter().map(|said| (&said[..4], said.contains("after"))).collect();
    assert_eq!(operations, [("CArq", false), ("CArq", false), ("CSrs", true)], "{said:?}");
}

#[tokio::test]
async fn argument_that_is_no_json_is_the_fault_of_its_call() {
    let served = served().await;
    let mut raw = Raw::to(&served.address).await;
    let entity = raw.open("Echo", "ann").await;
    // More than the faults that are let pass: none of them is one.
    for n in 0..300 {
        let json = format!(r#"{{"m":"SF","d":{{"i":"{entity}","n":"echo","t":"_{n}","d":{{"x":tru}}}}}}"#);
        raw.write(&Way::Short.frame(&json)).await;
        let answer = raw.hear_operation("CSrs", "SF").await;
        assert_eq!((&answer["t"], &answer["e"]["code"]), (&json!(format!("_{n}")), &json!("bad_argument")));
    }
    assert!(raw.echoes(&entity).await);
    // Who takes it as it is gets none that is not JSON.
    let json = format!(r#"{{"m":"SF","d":{{"i":"{entity}","n":"as it is","t":"_a","d":{{"x":tru}}}}}}"#);
    raw.write(&Way::Short.frame(&json)).await;
    assert!(raw.echoes(&entity).await);
    assert!(!raw.heard.contains("\"_a\""));
    assert_eq!(served.handle.stats().ignored, 1);
}

#[tokio::test]
async fn many_in_one_write_are_all_answered_each_once() {
    let served = served().await;
    let mut raw = Raw::to(&served.address).await;
    let entities = [raw.open("Echo", "ann").await, raw.open("Echo", "ann").await];
    let functions = ["echo", "waits", "as it is", "none", "fails", "panics", "state"];
    let mut bytes = Vec::new();
    for n in 0..600 {
        let (entity, function) = (&entities[n % 2], functions[n % functions.len()]);
        let json = format!(r#"{{"m":"SF","d":{{"i":"{entity}","n":"{function}","t":"_{n}","d":{n}}}}}"#);
        bytes.extend(Way::Short.frame(&json));
    }
    raw.write(&bytes).await;
    let mut seen = vec![0; 600];
    for _ in 0..600 {
        let answer = raw.hear_operation("CSrs", "SF").await;
        let n: usize = answer["t"].as_str().unwrap()[1..].parse().unwrap();
        seen[n] += 1;
        assert_eq!(answer["i"], entities[n % 2]);
        match functions[n % functions.len()] {
            "echo" | "waits" | "as it is" => {
                assert_eq!((&answer["s"], &answer["d"]), (&json!("OK"), &json!(n)));
            }
            "state" => assert_eq!(answer["d"], 7),
            _ => assert_ne!(answer["s"], "OK"),
        }
    }
    assert!(seen.iter().all(|times| *times == 1));
    assert_eq!(served.handle.stats().calls, 600);
}

/// One connection on which calls are made in one way.
struct Caller {
    raw: Raw,
    way: Way,
    entity: String,
    marker: String,
}

impl Caller {
    async fn to(served: &Served, way: Way) -> Self {
        let mut raw = Raw::to(&served.address).await;
        let (entity, marker) = (raw.open("Echo", "ann").await, raw.open("Echo", "ann").await);
        Self { raw, way, entity, marker }
    }

    async fn outcome(&mut self, json: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(json).replace("ENTITY", &self.entity);
        let whole = if std::str::from_utf8(json).is_ok() { text.into_bytes() } else { json.to_vec() };
        let bytes = match self.way {
            Way::Short => frame(b'j', b"CSrq", &whole),
            Way::Long => frame(b'b', b"CSrq", &[format!("{:016}", whole.len()).as_bytes(), &whole].concat()),
        };
        self.raw.write(&bytes).await;
        self.raw.write(&Way::Long.frame(&json!({"m":"SS","d":{"i":self.marker,"d":0}}).to_string())).await;
        let mut said = Vec::new();
        loop {
            let message = String::from_utf8(self.raw.hear().await.unwrap()).unwrap();
            if message.starts_with("CSrs") && message.contains(&self.marker) {
                return said;
            }
            said.push(message.replace(&self.entity, "ENTITY").split(r#","id":"#).next().unwrap().to_owned());
        }
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_a_call_comes_to_the_same() {
    let served = served().await;
    let (mut short, mut long) = (Caller::to(&served, Way::Short).await, Caller::to(&served, Way::Long).await);
    let (mut same, mut not_json) = (0, 0);
    for json in testing::spoilt(
        &[
            br#"{"m":"SF","d":{"i":"ENTITY","n":"echo","t":"_1","d":{"x":1,"y":"z"}}}"#,
            br#"{"m":"SF","d":{"i":"ENTITY","n":"number","t":"_1","d":12}}"#,
            br#"{"m":"SF","d":{"i":"ENTITY","n":"echo","t":"_1","d":["a",{"b":{}}],"d":"c"}}"#,
        ],
        4000,
    ) {
        let (short, long) = (short.outcome(&json).await, long.outcome(&json).await);
        if short == long {
            same += 1;
        } else {
            // The one difference: an argument that is no JSON is answered, where the whole message would be passed over.
            let text = String::from_utf8_lossy(&json).into_owned();
            assert!(
                long.is_empty() && short.len() == 1 && short[0].contains("bad_argument"),
                "{text}: {short:?} {long:?}"
            );
            assert!(serde_json::from_slice::<Value>(&json).is_err(), "{text}");
            not_json += 1;
        }
    }
    assert!(same > 1000 && not_json > 10, "{same} were the same, {not_json} were not JSON");
}
