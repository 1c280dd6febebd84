//! Requests between ours and the original package of npm, both ways.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nossock::wire::Body;
use nossock::{Config, Connector, Json, Raw, Reject, RequestError, Router, Socket, State};
use serde_json::{Value, json};
use tests::{Node, Ours, in_time, with_original};
use tokio::sync::Notify;

/// Answers with what it was asked with, at once and after a while.
fn echo() -> Router {
    Router::new().on_request("echo", async |Json(value): Json<Value>| value).on_request(
        "later",
        async |Json(value): Json<Value>| {
            tokio::time::sleep(Duration::from_millis(1)).await;
            value
        },
    )
}

/// What handlers of requests may give back, in JSON.
fn values() -> [Value; 6] {
    [json!(null), json!(false), json!(0), json!("日本"), json!([1, [2]]), json!({"a": {"b": null}})]
}

/// What both sides take for an error.
fn errors() -> [Value; 6] {
    [
        json!("no"),
        json!(7),
        json!(true),
        json!({"code": "no_money", "message": "0 left"}),
        json!([]),
        json!({}),
    ]
}

async fn dial(port: u16) -> Socket {
    Connector::new(format!("tcp://127.0.0.1:{port}")).unwrap().connect().await.unwrap()
}

async fn ask(theirs: &mut Node, name: &str, body: &Value) -> Value {
    theirs.ask(json!({"do": "ask", "name": name, "json": body}), "answer").await
}

fn rejected(result: Result<Value, RequestError>) -> Reject {
    match result {
        Err(RequestError::Rejected { reject, .. }) => reject,
        other => panic!("not rejected: {other:?}"),
    }
}

#[tokio::test]
async fn their_client_asks_our_server() {
    with_original(async |original| {
        let ours = Ours::listen(None, Config::default(), echo()).await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        for value in values() {
            for name in ["echo", "later"] {
                let answer = ask(&mut theirs, name, &value).await;
                assert_eq!((&answer["error"], &answer["value"]), (&Value::Null, &value));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn our_client_asks_their_server() {
    with_original(async |original| {
        let requests = json!([{"name": "echo", "how": "echo"}, {"name": "later", "how": "later"}]);
        let (_theirs, port) = original.listen(requests).await;
        let socket = dial(port).await;
        for value in values() {
            for name in ["echo", "later"] {
                let answer: Value = socket.request(name, &value).await.unwrap();
                assert_eq!(answer, value);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn their_server_asks_our_client() {
    with_original(async |original| {
        let (mut theirs, port) = original.listen(json!([])).await;
        let connector = Connector::new(format!("tcp://127.0.0.1:{port}")).unwrap();
        let _socket = connector.connect_routed(echo()).await.unwrap();
        theirs.hear("connection").await;
        for value in values() {
            let answer = ask(&mut theirs, "echo", &value).await;
            assert_eq!((&answer["error"], &answer["value"]), (&Value::Null, &value));
        }
    })
    .await;
}

#[tokio::test]
async fn our_server_asks_their_client() {
    with_original(async |original| {
        let mut ours = Ours::listen(None, Config::default(), Router::new()).await;
        let _theirs = original.connect(ours.port(), json!([{"name": "echo", "how": "echo"}])).await;
        let socket = ours.socket().await;
        for value in values() {
            let answer: Value = socket.request("echo", &value).await.unwrap();
            assert_eq!(answer, value);
        }
    })
    .await;
}

#[tokio::test]
async fn all_of_300_requests_of_theirs_are_answered_hyphens_or_not() {
    with_original(async |original| {
        let ours = Ours::listen(None, Config::default(), echo()).await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        for name in ["echo", "later"] {
            let all = theirs.ask(json!({"do": "askMany", "name": name, "count": 300}), "answers").await;
            assert_eq!((&all["right"], &all["wrong"]), (&json!(300), &json!([])), "{name}");
            assert!(all["hyphens"].as_u64().unwrap() > 0, "no id has a hyphen: this says nothing");
        }
    })
    .await;
}

#[tokio::test]
async fn the_original_itself_never_answers_ids_with_hyphens() {
    with_original(async |original| {
        let (_server, port) = original.listen(json!([{"name": "echo", "how": "echo"}])).await;
        let mut client = original.connect(port, json!([])).await;
        let all = client.ask(json!({"do": "askMany", "name": "echo", "count": 300}), "answers").await;
        let hyphens = all["hyphens"].as_u64().unwrap();
        assert!(hyphens > 0 && all["right"] == 300 - hyphens && all["failedHyphens"] == hyphens, "{all}");
    })
    .await;
}

#[tokio::test]
async fn their_server_answers_all_of_300_requests_of_ours() {
    with_original(async |original| {
        let (_theirs, port) = original.listen(json!([{"name": "later", "how": "later"}])).await;
        let socket = dial(port).await;
        let asking: Vec<_> = (0..300)
            .map(|n| {
                let socket = socket.clone();
                tokio::spawn(async move { (n, socket.request::<u32, _>("later", &n).await) })
            })
            .collect();
        for asked in asking {
            let (n, answer) = asked.await.unwrap();
            assert_eq!(answer.unwrap(), n);
        }
    })
    .await;
}

#[tokio::test]
async fn name_of_a_request_may_have_colons_and_reach_the_limit() {
    with_original(async |original| {
        let long = format!("{}:{}", "a:b".repeat(30), "n".repeat(233 - 91));
        let router = Router::new().on_request(&long, async |Json(value): Json<Value>| value);
        let ours = Ours::listen(None, Config::default(), router).await;
        let mut client = original.connect(ours.port(), json!([])).await;
        assert_eq!(ask(&mut client, &long, &json!(1)).await["value"], 1);

        let (_server, port) = original.listen(json!([{"name": long, "how": "echo"}])).await;
        assert_eq!(dial(port).await.request::<u8, _>(&long, &2).await.unwrap(), 2);
    })
    .await;
}

#[tokio::test]
async fn errors_of_our_handlers_reach_their_callback() {
    with_original(async |original| {
        let router = Router::new()
            .on_request("fail", async |Json(error): Json<Value>| -> Result<(), Reject> {
                Err(Reject::value(&error))
            });
        let ours = Ours::listen(None, Config::default(), router).await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        for error in errors() {
            assert_eq!(ask(&mut theirs, "fail", &error).await["error"], error);
        }
        let answer = ask(&mut theirs, "fail", &json!(false)).await;
        assert_eq!(answer["error"]["code"], "internal", "an error that says success is none of theirs");
    })
    .await;
}

#[tokio::test]
async fn errors_of_their_handlers_reach_our_caller() {
    with_original(async |original| {
        let requests: Vec<_> = errors()
            .iter()
            .enumerate()
            .map(|(n, error)| json!({"name": n.to_string(), "how": "error", "error": error}))
            .chain([json!({"name": "Error", "how": "Error", "message": "lost on the way"})])
            .collect();
        let (_theirs, port) = original.listen(json!(requests)).await;
        let socket = dial(port).await;
        for (n, error) in errors().iter().enumerate() {
            assert_eq!(rejected(socket.request(&n.to_string(), &()).await).as_value(), error);
        }
        let reject = rejected(socket.request("Error", &()).await);
        assert_eq!(reject.as_value(), &json!({}), "what JSON makes of an `Error` in JavaScript");
    })
    .await;
}

#[tokio::test]
async fn request_that_nobody_handles_is_answered_to_them_at_once() {
    with_original(async |original| {
        let ours = Ours::listen(None, Config::default(), Router::new()).await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        let answer = ask(&mut theirs, "nobody", &json!(1)).await;
        assert_eq!(answer["error"], json!({"code": "no_handler", "message": "nobody handles `nobody` here"}));
        assert!(answer["ms"].as_u64().unwrap() < 4_000, "before their own timeout: {answer}");
    })
    .await;
}

#[tokio::test]
async fn request_with_a_bad_body_is_answered_to_them_at_once() {
    with_original(async |original| {
        let router = Router::new().on_request("sum", async |Json(n): Json<Vec<i64>>| n.iter().sum::<i64>());
        let ours = Ours::listen(None, Config::default(), router).await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        for bad in [json!("text"), json!([1, "2"]), json!(null)] {
            assert_eq!(ask(&mut theirs, "sum", &bad).await["error"]["code"], "bad_body");
        }
        assert_eq!(ask(&mut theirs, "sum", &json!([1, 2])).await["value"], 3);
    })
    .await;
}

#[tokio::test]
async fn their_callback_gets_its_timeout_when_we_never_answer() {
    with_original(async |original| {
        let router = Router::new().on_request("never", std::future::pending::<()>);
        let ours = Ours::listen(None, Config::default(), router).await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        let answer = ask(&mut theirs, "never", &json!(1)).await;
        assert_eq!(answer["error"], json!({"thrown": "Timeout"}));
        assert!(answer["ms"].as_u64().unwrap() >= 4_900, "{answer}");
    })
    .await;
}

#[tokio::test]
async fn our_caller_gets_its_timeout_when_they_never_answer_and_a_late_answer_is_dropped() {
    with_original(async |original| {
        let requests = json!([{"name": "held", "how": "whenTold"}, {"name": "echo", "how": "echo"}]);
        let (mut theirs, port) = original.listen(requests).await;
        let socket = dial(port).await;
        let begun = Instant::now();
        let error = socket.request::<Value, _>("held", &1).await.unwrap_err();
        assert_eq!(error.to_string(), "`held` got no answer within 5s");
        assert!(begun.elapsed() >= Duration::from_secs(5));

        theirs.hear("asked").await;
        theirs.tell(json!({"do": "answer", "json": "late"})).await;
        let next: String = socket.request("echo", &"next").await.unwrap();
        assert_eq!(next, "next", "the late answer is nobody else's");
        assert_eq!(socket.stats().stray_answers, 1);
    })
    .await;
}

#[tokio::test]
async fn lost_connection_fails_our_request_at_once() {
    with_original(async |original| {
        let (mut theirs, port) = original.listen(json!([{"name": "held", "how": "whenTold"}])).await;
        let socket = dial(port).await;
        let begun = Instant::now();
        let leaving = async {
            theirs.hear("asked").await;
            theirs.tell(json!({"do": "call", "method": "end"})).await;
        };
        let (answer, ()) = tokio::join!(socket.request::<Value, _>("held", &1), leaving);
        assert_eq!(answer.unwrap_err().to_string(), "`held` got no answer: closed by the peer");
        assert!(begun.elapsed() < Duration::from_secs(5), "not by the timeout");
    })
    .await;
}

#[tokio::test]
async fn the_original_itself_learns_of_a_lost_connection_by_its_timeout() {
    with_original(async |original| {
        let (mut server, port) = original.listen(json!([])).await;
        let mut client = original.connect(port, json!([])).await;
        client.tell(json!({"do": "ask", "name": "held", "json": 1})).await;
        server.hear("message").await; // a handler would not hear of an id with a hyphen
        server.tell(json!({"do": "call", "method": "end"})).await;
        client.hear("close").await;
        let answer = client.hear("answer").await;
        assert_eq!(answer["error"], json!({"thrown": "Timeout"}));
        assert!(answer["ms"].as_u64().unwrap() >= 4_900, "{answer}");
    })
    .await;
}

#[tokio::test]
async fn what_runs_when_we_close_is_answered_to_them_first() {
    with_original(async |original| {
        let begun = Arc::new(Notify::new());
        let go = Arc::new(Notify::new());
        let router = Router::with_state((Arc::clone(&begun), Arc::clone(&go))).on_request("slow", slow);
        let (mut theirs, port) = original.listen(json!([])).await;
        let connector = Connector::new(format!("tcp://127.0.0.1:{port}")).unwrap();
        let socket = connector.connect_routed(router).await.unwrap();
        theirs.hear("connection").await;
        theirs.tell(json!({"do": "ask", "name": "slow", "json": 1})).await;
        in_time("the request", begun.notified()).await;
        let closing = socket.close();
        let releasing = async {
            go.notify_one();
            theirs.hear("answer").await
        };
        let (closed, answer) = tokio::join!(closing, releasing);
        closed.unwrap();
        assert_eq!((&answer["error"], &answer["value"]), (&Value::Null, &json!("done")));
        theirs.hear("close").await;
    })
    .await;
}

/// Ends when it is let go.
async fn slow(State((begun, go)): State<(Arc<Notify>, Arc<Notify>)>) -> &'static str {
    begun.notify_one();
    go.notified().await;
    "done"
}

#[tokio::test]
async fn buffers_are_asked_with_and_answered_by_json() {
    with_original(async |original| {
        let router = Router::new().on_request("size", async |bytes: Bytes| bytes.len());
        let ours = Ours::listen(None, Config::default(), router).await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        theirs.tell(json!({"do": "sendBytes", "name": "req:size:by-hand", "size": 1000})).await;
        let answer = theirs.hear("message").await;
        assert_eq!((&answer["name"], &answer["json"]), (&json!("resp:size:by-hand"), &json!([null, 1000])));
    })
    .await;
}

/// A deviation: the original looks into an answer as if it were `[error, value]`, and takes the first byte of a raw
/// one for the error and the second for the value.
#[tokio::test]
async fn raw_answer_cannot_be_read_by_the_original() {
    with_original(async |original| {
        let router = Router::new().on_request("file", async || Raw(Bytes::from_static(b"\x07\x2a and more")));
        let ours = Ours::listen(None, Config::default(), router).await;
        let mut theirs = original.connect(ours.port(), json!([])).await;
        let answer = ask(&mut theirs, "file", &json!(1)).await;
        assert_eq!((&answer["error"], &answer["value"]), (&json!(7), &json!(42)));

        let socket = dial(ours.port()).await;
        let body = Body::Json(Bytes::from_static(b"1"));
        let value =
            in_time("an answer", socket.request_raw(Duration::from_secs(5), "file", body)).await.unwrap();
        assert_eq!(value.into_body(), Body::Raw(Bytes::from_static(b"\x07\x2a and more")), "by ours it can");
    })
    .await;
}
