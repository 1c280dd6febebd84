//! What services send without being asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::StreamExt as _;
use nsp::carrier::{Carrier, CarrierEnd, CarrierKind, Farewell};
use nsp::client::{Client, EventError, Happening};
use nsp::machine::{Incoming, Outgoing, daemon};
use nsp::proto::{Data, EncodeError, EntityId, ca};

use crate::peer::in_memory;

#[tokio::test]
async fn greeting_before_the_activity_is_open_is_not_lost() {
    let (carrier, _) = in_memory(daemon::Config::default());
    let client = Client::over(carrier);
    let opening = client.activity("Test");
    let mut early = opening.events::<String>("welcome");
    let test = opening.open().await.unwrap();
    assert_eq!(early.next().await.unwrap().unwrap(), "hi");

    let test_again = client.activity("Test").open().await.unwrap();
    let mut late = test_again.events::<String>("welcome");
    assert_eq!(late.next().await.unwrap().unwrap(), "hi");
    drop(test);
}

#[tokio::test]
async fn each_stream_gets_what_it_wants_in_order() {
    let (carrier, _) = in_memory(daemon::Config::default());
    let test = Client::over(carrier).activity("Test").open().await.unwrap();
    let (ticks, more) = (test.events::<u32>("tick"), test.events::<u32>("tick"));
    let mut all = test.happenings();
    let mut blobs = test.blob_events("blob");
    let mut wrong = test.events::<String>("tick");
    test.call::<()>("Emit", &3).await.unwrap();
    test.call_blob("Any", vec![1, 2], &"m").await.unwrap();
    for ticks in [ticks, more] {
        let seen: Vec<_> = ticks.take(3).map(Result::unwrap).collect().await;
        assert_eq!(seen, [0, 1, 2]);
    }
    let blob = blobs.next().await.unwrap().unwrap();
    assert_eq!((&blob.blob[..], blob.meta.as_str()), (&[1, 2][..], "\"m\""));
    assert!(matches!(wrong.next().await, Some(Err(EventError::Unreadable(_)))));
    let names: Vec<_> = (&mut all)
        .take(5)
        .map(|happening| match happening.unwrap() {
            Happening::Event { event, .. } | Happening::BlobEvent { event, .. } => event,
            other => panic!("{other:?}"),
        })
        .collect()
        .await;
    assert_eq!(names, ["welcome", "tick", "tick", "tick", "blob"]);
}

#[tokio::test]
async fn slow_reader_is_told_what_it_missed_and_holds_nobody_up() {
    let (carrier, _) = in_memory(daemon::Config::default());
    let test = Client::over(carrier).activity("Test").open().await.unwrap();
    let mut slow = test.events::<u32>("tick");
    test.call::<()>("Emit", &1000).await.unwrap();
    let Some(Err(EventError::Missed(missed))) = slow.next().await else { panic!() };
    assert_eq!(missed, 744);
    assert_eq!(slow.next().await.unwrap().unwrap(), 744);
    let rest: Vec<_> = slow.take(255).map(Result::unwrap).collect().await;
    assert_eq!(rest.last(), Some(&999));
}

#[tokio::test]
async fn stream_keeps_its_activity_alive_and_ends_with_it() {
    let (carrier, seen) = in_memory(daemon::Config::default());
    let client = Client::over(carrier);
    let test = client.activity("Test").open().await.unwrap();
    let mut ticks = test.events::<u32>("tick");
    test.call::<()>("Emit", &1).await.unwrap();
    drop(test);
    assert_eq!(ticks.next().await.unwrap().unwrap(), 0);
    assert!(!seen.has("closed"));
    client.close().await;
    assert!(ticks.next().await.is_none());
}

/// A daemon that lets an activity in, then sends events without end, and reads nothing any more.
#[derive(Debug)]
struct Flood {
    inner: Box<dyn Carrier>,
    entity: Option<EntityId>,
    received: Arc<AtomicUsize>,
    queued: usize,
}

impl Carrier for Flood {
    fn kind(&self) -> CarrierKind {
        self.inner.kind()
    }
    fn peer(&self) -> &nossock::Peer {
        self.inner.peer()
    }
    fn is_confidential(&self) -> bool {
        true
    }
    fn limit_message(&mut self, _: usize) {}
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, CarrierEnd>> {
        let Some(entity) = &self.entity else {
            let received = self.inner.poll_receive(cx);
            if let Poll::Ready(Ok(Incoming::Packet(packet))) = &received
                && let Ok(ca::Request::Event { entity, .. }) = ca::Request::decode(packet)
            {
                self.entity = Some(entity);
            }
            return received;
        };
        self.received.fetch_add(1, Ordering::Relaxed);
        let (entity, event) = (entity.clone(), "tick".to_owned());
        Poll::Ready(Ok(Incoming::Packet(ca::Request::Event { entity, event, data: Data::None }.encode())))
    }
    fn start_send(&mut self, message: Outgoing) -> Result<(), EncodeError> {
        if self.entity.is_none() {
            return self.inner.start_send(message);
        }
        let Outgoing::Packet(packet) = message else { return Ok(()) };
        self.queued += packet.payload.len();
        Ok(())
    }
    fn queued(&self) -> usize {
        self.queued.max(self.inner.queued())
    }
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierEnd>> {
        if self.queued == 0 { self.inner.poll_flush(cx) } else { Poll::Pending }
    }
    fn poll_close(&mut self, _: &mut Context<'_>, _: &Farewell) -> Poll<()> {
        Poll::Ready(())
    }
}

#[tokio::test]
async fn daemon_that_floods_and_does_not_read_is_read_no_further() {
    let (inner, _) = in_memory(daemon::Config::default());
    let received = Arc::<AtomicUsize>::default();
    let flood = Flood { inner, entity: None, received: Arc::clone(&received), queued: 0 };
    let client = Client::over(Box::new(flood));
    let opening = tokio::spawn(client.activity("Test").open());
    let mut before = 0;
    loop {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let now = received.load(Ordering::Relaxed);
        if now > 0 && now == before {
            break;
        }
        before = now;
    }
    // What fits into the carrier, a quarter of a mebibyte, and what may wait behind it.
    assert!((1024..10_000).contains(&before), "{before} events");
    opening.abort();
}
