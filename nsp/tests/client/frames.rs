//! A daemon of ours, written by hand: nossock frames, and what the client says over them.

use futures_util::StreamExt as _;
use nsp::client::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The next frame that is no control frame: its name and its body.
async fn heard(stream: &mut TcpStream) -> (String, serde_json::Value) {
    loop {
        let (kind, length) = (stream.read_u8().await.unwrap(), stream.read_u8().await.unwrap());
        let mut name = vec![0; length.into()];
        stream.read_exact(&mut name).await.unwrap();
        let mut body = vec![0; stream.read_u32().await.unwrap().try_into().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        if kind == b'j' {
            return (String::from_utf8(name).unwrap(), serde_json::from_slice(&body).unwrap());
        }
    }
}

async fn says(stream: &mut TcpStream, name: &str, body: serde_json::Value) {
    let body = body.to_string();
    let mut frame = vec![b'j', u8::try_from(name.len()).unwrap()];
    frame.extend_from_slice(name.as_bytes());
    frame.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(body.as_bytes());
    stream.write_all(&frame).await.unwrap();
}

#[tokio::test]
async fn events_over_frames_are_not_acknowledged() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("nsp://{}", listener.local_addr().unwrap());
    let daemon = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let (_, create) = heard(&mut client).await;
        let created = serde_json::json!({"t": create["d"]["t"], "i": "_a", "e": false});
        says(&mut client, "CSrs", serde_json::json!({"m": "CE", "d": created})).await;
        let (_, verify) = heard(&mut client).await;
        assert_eq!(verify, serde_json::json!({"m": "VE", "d": {"i": "_a"}}));
        says(&mut client, "CSrs", serde_json::json!({"m": "VE", "d": {"i": "_a", "s": "OK"}})).await;
        says(&mut client, "CArq", serde_json::json!({"m": "EV", "d": {"i": "_a", "n": "tick", "d": 1}}))
            .await;
        says(&mut client, "CArq", serde_json::json!({"m": "AS", "d": {"i": "_a", "d": 2}})).await;
        // What comes next is the call, and nothing before it.
        let (name, call) = heard(&mut client).await;
        assert_eq!((&*name, &call["m"]), ("CSrq", &"SF".into()));
        let returned = serde_json::json!({"t": call["d"]["t"], "i": "_a", "s": "OK", "d": 3});
        says(&mut client, "CSrs", serde_json::json!({"m": "SF", "d": returned})).await;
        client
    });
    let client = Client::connect(&*address).await.unwrap();
    let opening = client.activity("Test");
    let (mut ticks, mut data) = (opening.events::<u8>("tick"), opening.data::<u8>());
    let activity = opening.open().await.unwrap();
    assert_eq!(ticks.next().await.unwrap().unwrap(), 1);
    assert_eq!(data.next().await.unwrap().unwrap(), 2);
    assert_eq!(activity.call::<u8>("three", &()).await.unwrap(), 3);
    drop(daemon.await.unwrap());
}
