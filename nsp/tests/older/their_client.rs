//! A client of NSP 0.4 with our daemon.

use std::sync::Arc;

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nsp::daemon::{BindError, Daemon, Listen, WeakUse};
use nsp::proto::text::Dialect;
use nsp::secure::ServerKey;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;

use crate::book::Book;
use crate::ours::test_service;
use crate::peer::Peer;

async fn serve(listens: impl IntoIterator<Item = Listen>) -> (Vec<String>, JoinHandle<()>) {
    let mut builder = Daemon::builder().service(test_service()).shared_authority(Book::of(&[("admin", 0)]));
    for listen in listens {
        builder = builder.listen(listen);
    }
    let daemon = builder.bind().await.unwrap();
    let addresses = daemon.addresses().iter().map(ToString::to_string).collect();
    (addresses, tokio::spawn(daemon.serve()))
}

/// The conversation with a daemon 0.5.8, as it was heard; what the daemon chooses is put in.
async fn converse(peer: &mut Peer) {
    peer.says(r#"{"m":"CS","s":"rq","d":{"m":"CE","d":{"t":"tmp1","o":"admin","m":"normal","s":"NspTest","od":"127.0.0.1"}}}"#)
        .await;
    let created = peer.hears_json().await;
    let i = created["d"]["d"]["i"].as_str().unwrap().to_owned();
    let expected = json!({"m":"CS","s":"rs","d":{"m":"CE","d":{"t":"tmp1","i":i,"e":false}}});
    assert_eq!(created, expected);

    peer.says(&format!(r#"{{"m":"CS","s":"rq","d":{{"m":"VE","d":{{"i":"{i}"}}}}}}"#)).await;
    assert_eq!(
        peer.hears().await,
        format!(r#"{{"m":"CS","s":"rs","d":{{"m":"VE","d":{{"i":"{i}","s":"OK"}}}}}}"#)
    );

    peer.says(&format!(r#"{{"m":"CS","s":"rq","d":{{"m":"SS","d":{{"i":"{i}","d":{{"x":1}}}}}}}}"#)).await;
    let mut heard = [peer.hears().await, peer.hears().await];
    heard.sort();
    assert_eq!(
        heard,
        [
            format!(r#"{{"m":"CA","s":"rq","d":{{"m":"AS","d":{{"i":"{i}","d":{{"echo":{{"x":1}}}}}}}}}}"#),
            format!(r#"{{"m":"CS","s":"rs","d":{{"m":"SS","d":{{"i":"{i}","s":"OK"}}}}}}"#),
        ]
    );
    peer.says(&format!(r#"{{"m":"CA","s":"rs","d":{{"m":"AS","d":{{"i":"{i}","s":"OK"}}}}}}"#)).await;

    peer.says(&format!(
        r#"{{"m":"CS","s":"rq","d":{{"m":"SF","d":{{"i":"{i}","n":"Echo","j":{{"a":1}},"t":"_t1"}}}}}}"#
    ))
    .await;
    assert_eq!(
        peer.hears().await,
        format!(
            r#"{{"m":"CS","s":"rs","d":{{"m":"SF","d":{{"t":"_t1","i":"{i}","s":"OK","r":{{"got":{{"a":1}}}}}}}}}}"#
        )
    );

    peer.says(&format!(
        r#"{{"m":"CS","s":"rq","d":{{"m":"SF","d":{{"i":"{i}","n":"Tick","j":null,"t":"_t2"}}}}}}"#
    ))
    .await;
    assert_eq!(
        peer.hears().await,
        format!(r#"{{"m":"CA","s":"rq","d":{{"m":"EV","d":{{"i":"{i}","n":"Tick","d":{{"n":1}}}}}}}}"#)
    );
    // Of the event and the blob event one could leave.
    assert_eq!(peer.hears_json().await["d"]["d"]["r"], json!({"sent": 1, "dropped": 1}));

    peer.says(&format!(
        r#"{{"m":"CS","s":"rq","d":{{"m":"SF","d":{{"i":"{i}","n":"Blob","j":null,"t":"_t3"}}}}}}"#
    ))
    .await;
    let refused = &peer.hears_json().await["d"]["d"];
    assert_eq!((&refused["t"], &refused["e"]["code"]), (&json!("_t3"), &json!("internal")), "{refused}");
    assert_eq!(refused["s"], "Error: text form of CSrs: there are no blobs before NSP 0.5");

    // A token is asked for, without saying whose; a wrong one is not good enough.
    for (token, outcome) in [("token of nobody", "AuthFailed"), ("token of admin", "OK")] {
        peer.says(&format!(
            r#"{{"m":"CS","s":"rq","d":{{"m":"SF","d":{{"i":"{i}","n":"Secret","j":null,"t":"_t4"}}}}}}"#
        ))
        .await;
        let question = peer.hears_json().await;
        let t = question["d"]["d"]["t"].as_str().unwrap().to_owned();
        assert_eq!(question, json!({"m":"AU","s":"rq","d":{"m":"TK","d":{"t":t}}}));
        peer.says(&format!(r#"{{"m":"AU","s":"rs","d":{{"m":"TK","d":{{"t":"{t}","v":"{token}"}}}}}}"#))
            .await;
        if outcome != "OK" {
            assert_eq!(peer.hears().await, r#"{"m":"AU","s":"rq","d":{"m":"TF"}}"#);
        }
        let answer = peer.hears_json().await;
        let said = answer["d"]["d"]["s"].as_str().unwrap();
        assert_eq!(said == "OK", outcome == "OK", "{answer}");
    }

    peer.says(r#"{"m":"GT","s":"rq","d":{"u":"admin","p":"password of admin"}}"#).await;
    assert_eq!(peer.hears().await, r#"{"m":"GT","s":"rs","d":{"t":"token of admin","s":"OK"}}"#);
    peer.says(r#"{"m":"GT","s":"rq","d":{"u":"admin","p":"wrong"}}"#).await;
    assert_eq!(peer.hears().await, r#"{"m":"GT","s":"rs","d":{"s":"Fail"}}"#);
    peer.says(&format!(r#"{{"m":"CS","s":"rq","d":{{"m":"CS","d":{{"i":"{i}"}}}}}}"#)).await;

    // What makes no sense is passed over, and what comes after it is served.
    for nonsense in
        ["{", "{}", "CSrq", "", r#"{"m":"XX","s":"rq"}"#, r#"{m:"HB"}"#, r#"{"m":"CS","s":"rs","d":1}"#]
    {
        peer.says(nonsense).await;
    }
    peer.says(r#"{"m":"CS","s":"rq","d":{"m":"CE","d":{"t":"tmp2","s":"Nope"}}}"#).await;
    let refused = peer.hears_json().await;
    assert_eq!(
        (&refused["d"]["d"]["t"], refused["d"]["d"]["i"].as_str()),
        (&json!("tmp2"), None),
        "{refused}"
    );
}

#[tokio::test]
async fn conversation_with_the_original_daemon_is_had_with_ours() {
    let addresses = ["noservice://127.0.0.1:0", "ws://127.0.0.1:0"];
    let listens = addresses.map(|address| Listen::on(address).nsp_04(Dialect::V0_4_2));
    let (addresses, serving) = serve(listens).await;
    for address in addresses {
        converse(&mut Peer::to(&address).await).await;
    }
    serving.abort();
}

/// What a client of NSP 0.4 makes of the daemon's key: an answer, and the key that follows from it.
fn agree(pem: &str, r: &str) -> (String, [u8; 32]) {
    let hash = STANDARD.encode(Sha256::digest(format!("{pem}{}", r.trim_matches('"'))));
    let key = &hash[..32];
    let public = rustls_pki_types::SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).unwrap();
    let public = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&public).unwrap()).unwrap();
    let plain = format!(r#"{{"r":{r},"a":"{key}"}}"#);
    let mut sealed = vec![0; public.ciphertext_size()];
    public.encrypt(&OAEP_SHA1_MGF1SHA1, plain.as_bytes(), &mut sealed, None).unwrap();
    (
        format!(r#"{{"m":"SP","s":"rs","d":"{}"}}"#, STANDARD.encode(sealed)),
        key.as_bytes().try_into().unwrap(),
    )
}

#[tokio::test]
async fn secured_conversation_is_encrypted_text() {
    let key = Arc::new(ServerKey::generate().unwrap());
    let listen = |address| {
        Listen::on(address)
            .sp(Arc::clone(&key))
            .nsp_04(Dialect::V0_4_2)
            .legacy_clients()
            .weak_use(WeakUse::Everything)
    };
    let (addresses, serving) = serve(["noservice://127.0.0.1:0", "ws://127.0.0.1:0"].map(listen)).await;
    for (address, r) in addresses.iter().zip(["76543", "\"text\""]) {
        let mut peer = Peer::to(address).await;
        peer.says(r#"{"m":"GT","s":"rs","d":{}}"#).await;
        let request = peer.hears_json().await;
        let pem = request["d"]["p"].as_str().unwrap();
        assert_eq!(request, json!({"m":"SP","s":"rq","d":{"p":pem}}));
        let (answer, key) = agree(pem, r);
        peer.says(&answer).await;
        peer.secure(key);
        converse(&mut peer).await;
        // In clear nothing is taken any more.
        peer.says_in_clear(r#"{"m":"GT","s":"rq","d":{"u":"admin","p":"wrong"}}"#).await;
        peer.says(r#"{"m":"GT","s":"rq","d":{"u":"admin","p":"password of admin"}}"#).await;
        assert_eq!(peer.hears_json().await["d"]["s"], "OK");
    }
    serving.abort();
}

#[tokio::test]
async fn weak_seed_and_wrong_answer_are_refused_alike() {
    let key = Arc::new(ServerKey::generate().unwrap());
    let listen = Listen::on("noservice://127.0.0.1:0").sp(key).nsp_04(Dialect::V0_4_2);
    let (addresses, serving) = serve([listen]).await;
    for is_wrong in [false, true] {
        let mut peer = Peer::to(&addresses[0]).await;
        peer.says(r#"{"m":"GT","s":"rs","d":{}}"#).await;
        let request = peer.hears_json().await;
        let (answer, _) = agree(request["d"]["p"].as_str().unwrap(), "76543");
        peer.says(if is_wrong { r#"{"m":"SP","s":"rs","d":"AAAA"}"# } else { &answer }).await;
        assert!(peer.is_closed().await);
    }
    serving.abort();
}

#[tokio::test]
async fn older_calls_are_answered_in_their_own_form() {
    for (dialect, argument, result) in [
        (Dialect::V0_4_0, json!(r#"{"a":1}"#), json!(r#"{"got":{"a":1}}"#)),
        (Dialect::V0_4_1, json!({"a": 1}), json!({"got": {"a": 1}})),
    ] {
        let (addresses, serving) = serve([Listen::on("noservice://127.0.0.1:0").nsp_04(dialect)]).await;
        let mut peer = Peer::to(&addresses[0]).await;
        peer.says(r#"{"m":"CS","s":"rq","d":{"m":"CE","d":{"t":"1","s":"NspTest"}}}"#).await;
        let created = peer.hears_json().await["d"]["d"].clone();
        let i = created["i"].as_str().unwrap();
        assert_eq!(created.get("e").is_some(), dialect == Dialect::V0_4_1, "{created}");
        peer.says(&json!({"m":"CS","s":"rq","d":{"m":"VE","d":{"i":i}}}).to_string()).await;
        assert_eq!(peer.hears_json().await["d"]["d"]["s"], "OK");
        let call = json!({"m":"CS","s":"rq","d":{"m":"JF","d":{"i":i,"n":"Echo","j":argument,"t":"2"}}});
        peer.says(&call.to_string()).await;
        let answer = peer.hears_json().await;
        assert_eq!((&answer["d"]["m"], &answer["d"]["d"]["r"]), (&json!("JF"), &result), "{answer}");
        serving.abort();
    }
}

#[tokio::test]
async fn nobody_speaks_it_unless_the_listener_says_so() {
    let (addresses, serving) = serve([
        Listen::on("noservice://127.0.0.1:0"),
        Listen::on("noservice://127.0.0.1:0").nsp_04(Dialect::V0_4_2),
    ])
    .await;
    // Without, it is nonsense, as it is to an original daemon of NSP 0.5.
    let mut peer = Peer::to(&addresses[0]).await;
    peer.says(r#"{"m":"GT","s":"rq","d":{"u":"admin","p":"password of admin"}}"#).await;
    peer.says(r#"GTrq{"u":"admin","p":"wrong"}"#).await;
    assert_eq!(peer.hears().await, r#"GTrs{"u":"admin","s":"Fail"}"#);
    // With it, those of NSP 0.5 are served as ever, and nobody changes in between.
    let mut peer = Peer::to(&addresses[1]).await;
    peer.says(r#"GTrq{"u":"admin","p":"wrong"}"#).await;
    assert_eq!(peer.hears().await, r#"GTrs{"u":"admin","s":"Fail"}"#);
    peer.says(r#"{"m":"GT","s":"rq","d":{"u":"admin","p":"wrong"}}"#).await;
    peer.says(r#"GTrq{"u":"admin","p":"password of admin"}"#).await;
    let heard: Value = serde_json::from_str(peer.hears().await.strip_prefix("GTrs").unwrap()).unwrap();
    assert_eq!(heard["s"], "OK");
    serving.abort();

    let refused =
        Daemon::builder().listen(Listen::on("nsp://127.0.0.1:0").nsp_04(Dialect::V0_4_2)).bind().await;
    assert!(matches!(refused, Err(BindError::NoText { .. })));
}

#[tokio::test(start_paused = true)]
async fn heartbeat_is_the_one_of_its_time() {
    let (addresses, serving) = serve([Listen::on("noservice://127.0.0.1:0").nsp_04(Dialect::V0_4_2)]).await;
    let mut peer = Peer::to(&addresses[0]).await;
    peer.says(r#"{"m":"CS","s":"rq","d":{"m":"CE","d":{"t":"1","s":"NspTest"}}}"#).await;
    assert_eq!(peer.hears_json().await["d"]["m"], "CE");
    assert_eq!(peer.hears().await, r#"{m:"HB"}"#);
    serving.abort();
}
