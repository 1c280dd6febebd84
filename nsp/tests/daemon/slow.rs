//! Peers that are slow, or gone: who is cut off, for which reason, and who still waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use nossock::Peer;
use nsp::carrier::{Carrier, CarrierEnd, CarrierKind, Farewell, Memory, memory};
use nsp::daemon::{Daemon, Demand, EndReason, Entity, ProveError, Service, State};
use nsp::machine::{Incoming, Outgoing};
use nsp::proto::EncodeError;
use tokio::sync::mpsc;
use tokio::time::{Interval, interval, timeout};

use crate::wire::{Wire, daemon};

/// A carrier of which ten thousand bytes leave a second, until it breaks.
#[derive(Debug)]
struct Dripping {
    memory: Memory,
    queued: usize,
    drops: Interval,
    is_broken: Arc<AtomicBool>,
}

const DROP: usize = 10_000;

impl Dripping {
    fn new(memory: Memory) -> (Self, Arc<AtomicBool>) {
        let is_broken = Arc::<AtomicBool>::default();
        let drops = interval(Duration::from_secs(1));
        (Self { memory, queued: 0, drops, is_broken: Arc::clone(&is_broken) }, is_broken)
    }
}

impl Carrier for Dripping {
    fn kind(&self) -> CarrierKind {
        CarrierKind::Memory
    }

    fn peer(&self) -> &Peer {
        self.memory.peer()
    }

    fn is_confidential(&self) -> bool {
        true
    }

    fn limit_message(&mut self, _: usize) {}

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, CarrierEnd>> {
        self.memory.poll_receive(cx)
    }

    fn start_send(&mut self, message: Outgoing) -> Result<(), EncodeError> {
        let before = self.memory.queued();
        self.memory.start_send(message)?;
        self.queued += self.memory.queued() - before;
        Ok(())
    }

    fn queued(&self) -> usize {
        self.queued
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierEnd>> {
        if self.is_broken.load(Ordering::Relaxed) {
            return Poll::Ready(Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()));
        }
        // What leaves is with the peer at once; it is counted as if it took its time.
        let _ = self.memory.poll_flush(cx)?;
        while self.queued > 0 {
            if self.drops.poll_tick(cx).is_pending() {
                return Poll::Pending;
            }
            self.queued = self.queued.saturating_sub(DROP);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, reason: &Farewell) -> Poll<()> {
        self.memory.poll_close(cx, reason)
    }
}

fn events() -> Service {
    Service::new("Events").on_connect(async |entity: Entity| {
        tokio::spawn(async move {
            let event = "x".repeat(4000);
            while entity.emit("event", &event).await.is_ok_and(|reached| reached.gone == 0) {}
        });
    })
}

#[tokio::test(start_paused = true)]
async fn peer_that_reads_slowly_and_always_is_not_cut_off() {
    let (daemon, handle) = daemon(Daemon::builder().service(events())).await;
    let (ours, theirs) = memory();
    let (carrier, _) = Dripping::new(ours);
    assert!(handle.accept(carrier));
    let mut wire = Wire::over(Box::new(theirs));
    wire.open("Events").await;
    let reading = tokio::spawn(async move { wire.end().await });
    tokio::time::sleep(Duration::from_secs(120)).await;
    let closed = handle.closed();
    assert!(closed.is_empty(), "{}", closed[0].reason);
    drop((daemon, reading));
}

#[tokio::test(start_paused = true)]
async fn peer_that_is_sent_away_and_cannot_be_told_was_sent_away() {
    let (_daemon, handle) = daemon(Daemon::builder().service(events())).await;
    let (ours, theirs) = memory();
    let (carrier, is_broken) = Dripping::new(ours);
    assert!(handle.accept(carrier));
    let mut wire = Wire::over(Box::new(theirs));
    wire.open("Events").await;
    is_broken.store(true, Ordering::Relaxed);
    assert!(handle.kick(handle.connections()[0].id, "too loud"));
    while handle.closed().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let reason = handle.closed()[0].reason.clone();
    assert!(matches!(&reason, EndReason::Kicked(why) if why == "too loud"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn proof_of_who_is_gone_is_not_waited_for() {
    type Entities = mpsc::UnboundedSender<Entity>;
    let (sender, mut entities) = mpsc::unbounded_channel();
    let service = Service::with_state("Keeps", sender).on_connect(
        async |entity: Entity, State(kept): State<Entities>| {
            let _ = kept.send(entity);
        },
    );
    let (_daemon, handle) = daemon(Daemon::builder().service(service)).await;
    let mut wire = Wire::to(&handle);
    wire.open_as("Keeps", Some("ann")).await;
    let entity = entities.recv().await.unwrap();
    drop(wire);
    while handle.closed().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for demand in [Demand::Token, Demand::Password] {
        let proved = timeout(Duration::from_secs(3600), entity.prove(demand)).await;
        assert_eq!(proved.expect("nobody will answer"), Err(ProveError::Gone));
    }
}
