//! Our client and our daemon, both speaking NSP 0.4.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use nsp::client::{CallError, Client, Login, Trust};
use nsp::daemon::{Blob, Daemon, Demand, Entity, Fail, Json, Listen, Service};
use nsp::machine::SpMode;
use nsp::proto::text::Dialect;
use nsp::secure::ServerKey;
use serde_json::{Value, json};

use crate::book::Book;

/// The service that answered when the older conversation was heard.
pub(crate) fn test_service() -> Service {
    Service::new("NspTest")
        .on_data(async |entity: Entity, Json(data): Json<Value>| -> Result<(), Fail> {
            entity.send(&json!({"echo": data})).await?;
            Ok(())
        })
        .function("Echo", async |Json(value): Json<Value>| json!({"got": value}))
        .function("Tick", async |entity: Entity| -> Result<Value, Fail> {
            let sent = entity.emit("Tick", &json!({"n": 1})).await?.sent;
            let blob = entity.audience().emit_blob("Pic", Bytes::from_static(&[1]), &()).await?;
            Ok(json!({"sent": sent + blob.sent, "dropped": blob.dropped}))
        })
        .function("Blob", async || Blob(Bytes::from_static(&[1, 2])))
        .function("Large", async |Json(n): Json<usize>| "\"".repeat(n))
        .function("Secret", async |entity: Entity| -> Result<&'static str, Fail> {
            entity.prove(Demand::Token).await?;
            Ok("told")
        })
}

#[tokio::test]
async fn every_dialect_is_spoken_on_every_carrier_of_messages() {
    let key = Arc::new(ServerKey::generate().unwrap());
    for dialect in [Dialect::V0_4_0, Dialect::V0_4_1, Dialect::V0_4_2] {
        let mut builder = Daemon::builder().service(test_service()).shared_authority(Book::of(&[("ann", 1)]));
        for address in ["noservice://127.0.0.1:0", "ws://127.0.0.1:0"] {
            builder = builder
                .listen(Listen::on(address).nsp_04(dialect))
                .listen(Listen::on(address).nsp_04(dialect).sp(Arc::clone(&key)));
        }
        let daemon = builder.bind().await.unwrap();
        let addresses = daemon.addresses();
        let serving = tokio::spawn(daemon.serve());
        for (n, address) in addresses.iter().enumerate() {
            let mut connector = Client::connect(address)
                .dialect(dialect)
                .credentials(Login::new("ann").token("token of ann").password("password of ann"));
            if n % 2 == 1 {
                connector = connector.sp(SpMode::Required).trust(Trust::pinned([key.fingerprint()]));
            }
            let client = connector.await.unwrap();
            let test = client.activity("NspTest").owner("ann").open().await.unwrap();
            let (mut data, mut ticks) = (test.data::<Value>(), test.events::<Value>("Tick"));
            for value in [json!({"a": "\"b\"\n"}), json!(null), json!([1, {"j": "r", "d": 1}]), json!("é")] {
                let got: Value = test.call("Echo", &value).await.unwrap();
                assert_eq!(got, json!({"got": value}), "{dialect:?} {address}");
            }
            test.send(&json!({"x": 1})).await.unwrap();
            assert_eq!(data.next().await.unwrap().unwrap(), json!({"echo": {"x": 1}}));
            let told: Value = test.call("Tick", &()).await.unwrap();
            assert_eq!(told, json!({"sent": 1, "dropped": 1}));
            assert_eq!(ticks.next().await.unwrap().unwrap(), json!({"n": 1}));
            assert_eq!(test.call::<String>("Secret", &()).await.unwrap(), "told");
            let error = test.call::<Value>("Blob", &()).await.unwrap_err();
            assert_eq!(error.code(), Some("internal"));
            assert!(matches!(test.call_blob("Any", vec![1], &()).await, Err(CallError::Encode(_))));
            // As text it is longer than it was when it was looked at: said all the same, and not lost.
            let error = test.call::<Value>("Large", &(500 * 1024)).await;
            if dialect == Dialect::V0_4_0 {
                assert_eq!(error.unwrap_err().code(), Some("internal"));
            }
            let too_large = "\"".repeat(600 * 1024);
            assert!(matches!(test.call::<Value>("Echo", &too_large).await, Err(CallError::Encode(_))));
            assert_eq!(client.token("ann", "password of ann").await.unwrap().reveal(), "token of ann");
            client.close().await;
        }
        serving.abort();
    }
}
