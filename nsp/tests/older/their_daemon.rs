//! Our client with a daemon of NSP 0.4.

use futures_util::StreamExt as _;
use nsp::carrier::ConnectError;
use nsp::client::{CallError, Client, DownReason, Login};
use nsp::proto::text::Dialect;
use serde_json::json;
use tokio::net::TcpListener;

use crate::peer::Peer;

#[tokio::test]
async fn original_daemon_is_understood_to_the_word() {
    const ENTITY: &str = "_i6u9gt5xc";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("noservice://{}", listener.local_addr().unwrap());
    let daemon = tokio::spawn(async move {
        let mut daemon = Peer::over(listener.accept().await.unwrap().0);
        let create = daemon.hears_json().await;
        assert_eq!(
            (&create["m"], &create["s"], &create["d"]["m"]),
            (&json!("CS"), &json!("rq"), &json!("CE"))
        );
        assert_eq!((&create["d"]["d"]["o"], &create["d"]["d"]["s"]), (&json!("admin"), &json!("NspTest")));
        let t = &create["d"]["d"]["t"];
        daemon.says(r#"{m:"HB"}"#).await;
        daemon
            .says(&format!(
                r#"{{"m":"CS","s":"rs","d":{{"m":"CE","d":{{"t":{t},"i":"{ENTITY}","e":false}}}}}}"#
            ))
            .await;
        assert_eq!(
            daemon.hears().await,
            format!(r#"{{"m":"CS","s":"rq","d":{{"m":"VE","d":{{"i":"{ENTITY}"}}}}}}"#)
        );
        daemon
            .says(&format!(r#"{{"m":"CS","s":"rs","d":{{"m":"VE","d":{{"i":"{ENTITY}","s":"OK"}}}}}}"#))
            .await;

        let call = daemon.hears_json().await;
        let t = call["d"]["d"]["t"].clone();
        assert_eq!(call["d"], json!({"m":"SF","d":{"i":ENTITY,"n":"Echo","j":{"a":1},"t":t}}));
        daemon
            .says(&format!(r#"{{"m":"CS","s":"rs","d":{{"m":"SF","d":{{"t":{t},"i":"{ENTITY}","s":"OK","r":{{"got":{{"a":1}}}}}}}}}}"#))
            .await;

        daemon
            .says(&format!(
                r#"{{"m":"CA","s":"rq","d":{{"m":"EV","d":{{"i":"{ENTITY}","n":"Tick","d":{{"n":1}}}}}}}}"#
            ))
            .await;
        let acknowledged =
            format!(r#"{{"m":"CA","s":"rs","d":{{"m":"EV","d":{{"i":"{ENTITY}","s":"OK"}}}}}}"#);
        assert_eq!(daemon.hears().await, acknowledged);

        // It does not say whose token it wants, nor for which entity it was wrong.
        let t = daemon.hears_json().await["d"]["d"]["t"].clone();
        daemon.says(r#"{"m":"AU","s":"rq","d":{"m":"TK","d":{"t":"0c1f"}}}"#).await;
        assert_eq!(daemon.hears().await, r#"{"m":"AU","s":"rs","d":{"m":"TK","d":{"t":"0c1f","v":"mine"}}}"#);
        daemon.says(r#"{"m":"AU","s":"rq","d":{"m":"TF"}}"#).await;
        daemon
            .says(&format!(r#"{{"m":"CS","s":"rs","d":{{"m":"SF","d":{{"t":{t},"i":"{ENTITY}","s":"Error: no\n    at /srv/x.js:1:2"}}}}}}"#))
            .await;

        assert_eq!(daemon.hears().await, r#"{"m":"GT","s":"rq","d":{"u":"admin","p":"admin"}}"#);
        daemon.says(r#"{"m":"GT","s":"rs","d":{"t":"11111111-2222-4333-8444-555555555555","s":"OK"}}"#).await;
        assert_eq!(daemon.hears().await, r#"{"m":"GT","s":"rq","d":{"u":"admin","p":"wrong"}}"#);
        daemon.says(r#"{"m":"GT","s":"rs","d":{"s":"Fail"}}"#).await;
        assert_eq!(
            daemon.hears().await,
            format!(r#"{{"m":"CS","s":"rq","d":{{"m":"CS","d":{{"i":"{ENTITY}"}}}}}}"#)
        );
    });

    let client = Client::connect(&address)
        .dialect(Dialect::V0_4_2)
        .credentials(Login::new("admin").token("mine"))
        .await
        .unwrap();
    let test = client.activity("NspTest").owner("admin").open().await.unwrap();
    let mut ticks = test.events::<serde_json::Value>("Tick");
    let got: serde_json::Value = test.call("Echo", &json!({"a": 1})).await.unwrap();
    assert_eq!(got, json!({"got": {"a": 1}}));
    assert_eq!(ticks.next().await.unwrap().unwrap(), json!({"n": 1}));
    let error = test.call::<()>("Secret", &()).await.unwrap_err();
    assert_eq!(error.to_string(), "Error: no");
    assert!(matches!(test.call_blob("Any", vec![1], &()).await, Err(CallError::Encode(_))));
    assert_eq!(
        client.token("admin", "admin").await.unwrap().reveal(),
        "11111111-2222-4333-8444-555555555555"
    );
    assert!(matches!(client.token("admin", "wrong").await, Err(CallError::SignIn)));
    drop(ticks);
    test.close().await;
    client.close().await;
    daemon.await.unwrap();
}

#[tokio::test]
async fn frames_have_no_text() {
    for address in ["nsp://127.0.0.1:1", "nsps://127.0.0.1:1"] {
        let refused = Client::connect(address).dialect(Dialect::V0_4_2).await.unwrap_err();
        let DownReason::NotConnected(why) = &refused else { panic!("{refused:?}") };
        assert!(matches!(**why, ConnectError::NoText { .. }), "{refused}");
        assert!(refused.is_permanent(), "{refused}");
    }
}
