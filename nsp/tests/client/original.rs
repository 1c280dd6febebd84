//! The original daemon, as recordings show it: its answers word for word, its heartbeats, its stack traces.

use futures_util::StreamExt as _;
use nsp::client::{CallError, Client, Login, OpenError};
use nsp::machine::SpMode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// One connection to a daemon that follows a script.
struct Script {
    stream: TcpStream,
}

impl Script {
    async fn heard(&mut self) -> String {
        let mut length = [0; 16];
        self.stream.read_exact(&mut length).await.unwrap();
        let length: usize = std::str::from_utf8(&length).unwrap().parse().unwrap();
        let mut message = vec![0; length];
        self.stream.read_exact(&mut message).await.unwrap();
        String::from_utf8(message).unwrap()
    }

    async fn says(&mut self, message: &str) {
        let chunk = format!("{:016}{message}", message.len());
        // In two pieces, as a network may deliver it.
        let (begin, rest) = chunk.split_at(9);
        self.stream.write_all(begin.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
        tokio::task::yield_now().await;
        self.stream.write_all(rest.as_bytes()).await.unwrap();
    }

    async fn says_packed(&mut self, letters: &str, json: &str) {
        self.says(&format!("{letters}{:016}{json}", json.len())).await;
    }

    /// What the client says next, without what a carrier and a packed body add; checked to begin so.
    async fn hears(&mut self, letters: &str, operation: &str) -> serde_json::Value {
        let message = self.heard().await;
        let json = message.strip_prefix(letters).unwrap_or_else(|| panic!("{message}"));
        let json = json.trim_start_matches(|c: char| c.is_ascii_digit());
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(value["m"], operation, "{message}");
        value["d"].clone()
    }
}

const ENTITY: &str = "_6n5pnfzls";

async fn script() -> (String, tokio::task::JoinHandle<Script>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("noservice://{}", listener.local_addr().unwrap());
    let accepting = tokio::spawn(async move { Script { stream: listener.accept().await.unwrap().0 } });
    (address, accepting)
}

#[tokio::test]
async fn original_daemon_is_understood_to_the_word() {
    let (address, accepting) = script().await;
    let daemon = tokio::spawn(async move {
        let mut daemon = accepting.await.unwrap();
        let create = daemon.hears("CSrq", "CE").await;
        assert_eq!(create["o"], "admin");
        assert_eq!(create["k"], false);
        let t = create["t"].as_str().unwrap();
        daemon.says("HB").await;
        daemon
            .says_packed("CSrs", &format!(r#"{{"m":"CE","d":{{"t":"{t}","i":"{ENTITY}","e":false}}}}"#))
            .await;
        assert_eq!(daemon.hears("CSrq", "VE").await["i"], ENTITY);
        // NoShell greets before it has agreed.
        daemon
            .says_packed("CArq", &format!(r#"{{"m":"EV","d":{{"i":"{ENTITY}","n":"welcome","d":"hi"}}}}"#))
            .await;
        daemon.says_packed("CSrs", &format!(r#"{{"m":"VE","d":{{"i":"{ENTITY}","s":"OK"}}}}"#)).await;
        assert_eq!(daemon.heard().await, format!(r#"CArs{{"m":"EV","d":{{"i":"{ENTITY}","s":"OK"}}}}"#));

        let call = daemon.hears("CSrq", "SF").await;
        let t = call["t"].as_str().unwrap();
        assert_eq!((&call["n"], &call["d"]), (&"Hello".into(), &serde_json::json!({"d": "I am client."})));
        daemon
            .says_packed(
                "CSrs",
                &format!(r#"{{"m":"SF","d":{{"t":"{t}","i":"{ENTITY}","s":"OK","d":"Hello!"}}}}"#),
            )
            .await;
        let t = daemon.hears("CSrq", "SF").await["t"].as_str().unwrap().to_owned();
        let stack = "Error: ServiceFunction Nope not exist\\n    at /srv/NoService/service.js:1:2";
        daemon
            .says_packed("CSrs", &format!(r#"{{"m":"SF","d":{{"t":"{t}","i":"{ENTITY}","s":"{stack}"}}}}"#))
            .await;

        // A function that needs a token, and a wrong one.
        let t = daemon.hears("CSrq", "SF").await["t"].as_str().unwrap().to_owned();
        daemon.says(r#"AUrq{"m":"TK","d":{"t":"0c1f9b76-0000-4000-8000-000000000000","u":"admin"}}"#).await;
        let answer = daemon.hears("AUrs", "TK").await;
        assert_eq!(answer, serde_json::json!({"t": "0c1f9b76-0000-4000-8000-000000000000", "v": "t"}));
        daemon.says(&format!(r#"AUrq{{"m":"TF","i":"{ENTITY}"}}"#)).await;
        daemon
            .says_packed(
                "CSrs",
                &format!(r#"{{"m":"SF","d":{{"t":"{t}","i":"{ENTITY}","s":"OK","d":null}}}}"#),
            )
            .await;

        assert_eq!(daemon.heard().await, r#"GTrq{"u":"admin","p":"admin"}"#);
        daemon.says(r#"GTrs{"t":"11111111-2222-4333-8444-555555555555","u":"admin","s":"OK"}"#).await;
        assert_eq!(daemon.heard().await, r#"GTrq{"u":"admin","p":"wrong"}"#);
        daemon.says(r#"GTrs{"u":"admin","s":"Fail"}"#).await;

        let t = daemon.hears("CSrq", "CE").await["t"].as_str().unwrap().to_owned();
        daemon.says_packed("CSrs", &format!(r#"{{"m":"CE","d":{{"t":"{t}","e":{{}}}}}}"#)).await;
        assert_eq!(daemon.hears("CSrq", "CS").await["i"], ENTITY);
        assert_eq!(daemon.stream.read(&mut [0]).await.unwrap(), 0);
    });

    let login = Login::new("admin").token("t");
    let client = Client::connect(&address).credentials(login).await.unwrap();
    let test = client.activity("NspTest").owner("admin").open().await.unwrap();
    let mut welcome = test.events::<String>("welcome");
    assert_eq!(welcome.next().await.unwrap().unwrap(), "hi");
    let answer: String = test.call("Hello", &serde_json::json!({"d": "I am client."})).await.unwrap();
    assert_eq!(answer, "Hello!");
    let error = test.call::<()>("Nope", &()).await.unwrap_err();
    assert!(matches!(error, CallError::Failed(_)));
    // The text without the stack, which has paths of the daemon's machine.
    assert_eq!(error.to_string(), "Error: ServiceFunction Nope not exist");
    test.call::<()>("Secret", &()).await.unwrap();
    let token = client.token("admin", "admin").await.unwrap();
    assert_eq!(token.reveal(), "11111111-2222-4333-8444-555555555555");
    assert!(matches!(client.token("admin", "wrong").await, Err(CallError::SignIn)));
    let error = client.activity("Nope").open().await.unwrap_err();
    assert!(matches!(error, OpenError::NotCreated(_)), "{error}");
    drop(welcome);
    test.close().await;
    client.close().await;
    daemon.await.unwrap();
}

#[tokio::test]
async fn probe_that_wakes_sp_is_harmless_and_nothing_else_goes_out_before_the_key() {
    let (address, accepting) = script().await;
    let connecting = tokio::spawn(Client::connect(&address).sp(SpMode::Required).connect());
    let mut daemon = accepting.await.unwrap();
    assert_eq!(daemon.heard().await, "GTrs");
    daemon.says(r#"SPrq{"p":"no key at all"}"#).await;
    let error = connecting.await.unwrap().unwrap_err();
    assert!(error.is_permanent() && error.to_string().starts_with("the key of the daemon: "), "{error}");
    let mut rest = Vec::new();
    daemon.stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}");
}
