//! A daemon that counts what it does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nsp::client::Client;
use nsp::daemon::{
    Blob, CustomCall, Daemon, DaemonHandle, Demand, Emitter, Entity, Fail, Json, Limits, Meta, Overflow,
    Service, State,
};
use nsp::machine::client as machine;
use nsp::proto::{Asker, CustomMethod, Form, Method, Methods, Rule};
use tokio::sync::Barrier;

use crate::book::Book;
use crate::dropping::{Moment, drop_after, settle};

/// How often each number was done.
pub(crate) type Done = Arc<Mutex<HashMap<u64, u32>>>;

fn note(done: &Done, n: u64) {
    *done.lock().unwrap().entry(n).or_default() += 1;
}

pub(crate) struct World {
    _daemon: Daemon,
    pub(crate) handle: DaemonHandle,
    pub(crate) done: Done,
    pub(crate) emitter: Emitter,
}

/// A method of the test's own, which either side may ask.
pub(crate) fn echo() -> Method {
    Method::Custom(CustomMethod::new("WX").unwrap())
}

fn rule() -> Rule {
    Rule { method: echo(), asker: Asker::Either, request: Form::Bare, answer: Form::Bare }
}

pub(crate) async fn world(limits: Limits) -> World {
    let (done, together) = (Done::default(), Arc::new(Barrier::new(2)));
    let kept: Arc<Mutex<Option<Emitter>>> = Arc::default();
    let keeper = Arc::clone(&kept);
    let seen = Arc::clone(&done);
    let service = Service::with_state("Test", Arc::clone(&done))
        .overflow(Overflow::Wait)
        .on_start(move |emitter| *keeper.lock().unwrap() = Some(emitter))
        .on_data(async |Json(n): Json<u64>, State(done): State<Done>| -> Result<(), Fail> {
            note(&done, n);
            Ok(())
        })
        .function("slow", async |Json(n): Json<u64>, State(done): State<Done>| {
            note(&done, n);
            tokio::time::sleep(Duration::from_millis(3)).await;
            n
        })
        .function("meet", move || {
            let together = Arc::clone(&together);
            async move {
                together.wait().await;
                true
            }
        })
        // Asks for a proof, gives up at any moment, and asks again.
        .function("prove", async |entity: Entity, Json(polls): Json<usize>| -> Result<String, Fail> {
            let drop = (polls, Moment::Woken);
            let _ = drop_after(entity.prove(Demand::Token), drop, settle).await;
            Ok(entity.prove(Demand::Token).await?.user.unwrap().to_string())
        })
        .blob_function("blob", async |Blob(blob): Blob, Meta(n): Meta<u64>, State(done): State<Done>| {
            note(&done, n);
            tokio::time::sleep(Duration::from_millis(3)).await;
            (Blob(blob), Meta(n))
        });
    let book = Book::of(&[("ann", 1), ("bob", 1)]);
    let builder = Daemon::builder().shared_authority(book).service(service).limits(limits);
    let builder = builder.method(rule(), move |call: CustomCall| {
        let json = call.packet.payload.json;
        note(&seen, std::str::from_utf8(&json).unwrap().parse().unwrap());
        std::future::ready(Ok(Some(json.into())))
    });
    let daemon = builder.bind().await.unwrap();
    let emitter = kept.lock().unwrap().take().unwrap();
    World { handle: daemon.handle(), _daemon: daemon, done, emitter }
}

impl World {
    /// A client that may have two calls at once.
    pub(crate) fn client(&self) -> Client {
        let mut limits = machine::Limits::default();
        limits.calls = 2;
        let connector = Client::connect("nsp://127.0.0.1:1").most(limits);
        connector.methods(Methods::default().with(rule())).over(self.handle.connect_local())
    }
}
