//! An NSP daemon that writes down what it gets, and clients that write down what they were told of it: whatever the network between them
//! does, the two books agree.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use nossock::transport::tls::{ClientTls, ServerTls};
use nsp::carrier::Limits;
use nsp::client::{Activity, CallError, Client, EventError, Events, OpenError, Reconnect};
use nsp::daemon::{Blob, Daemon, DaemonHandle, Entity, Fail, Json, Listen, Meta, Service, State};

use crate::Chance;

/// Numbers that were seen, a bit each.
#[derive(Debug, Default)]
pub struct Marks(Vec<u64>);

impl Marks {
    /// Marks a number; says whether it was not marked before.
    pub fn mark(&mut self, n: u64) -> bool {
        let (word, bit) = (usize::try_from(n / 64).unwrap(), 1 << (n % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let word = self.0.get_mut(word).unwrap();
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// How many are marked here and not there.
    #[must_use]
    pub fn missing_in(&self, there: &Self) -> u64 {
        let words = there.0.iter().copied().chain(std::iter::repeat(0));
        self.0.iter().zip(words).map(|(here, there)| u64::from((here & !there).count_ones())).sum()
    }

    /// How many are marked.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.missing_in(&Self::default())
    }
}

/// What became of everything.
#[derive(Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "a story reads all of it")]
pub struct Figures {
    /// Messages and calls that clients have begun.
    pub sent: AtomicU64,
    /// Those of which they were told that the service has them, or has done them.
    pub acknowledged: AtomicU64,
    /// Those that ended in an error.
    pub failed: AtomicU64,
    /// Events that clients got.
    pub events: AtomicU64,
    /// Events of which clients were told that they had missed some.
    pub gaps: AtomicU64,
    /// Clients that were given up because nothing came any more, and made anew.
    pub renewed: AtomicU64,
}

fn add(to: &AtomicU64) {
    to.fetch_add(1, Ordering::Relaxed);
}

/// The book of one client, kept by the daemon and by itself.
#[derive(Debug, Default)]
struct Book {
    received: Marks,
    acknowledged: Marks,
    twice: u64,
}

/// Both books of all clients.
#[derive(Debug, Default)]
pub struct Ledger {
    books: Mutex<Vec<Book>>,
    /// What became of everything.
    pub figures: Figures,
}

/// How long a client waits for one thing.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::exhaustive_structs, reason = "made to be written as a literal")]
pub struct Patience {
    /// For an answer.
    pub answer: Duration,
    /// Between one message and the next, at most.
    pub pause: Duration,
}

/// Who talks, and where to.
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_structs, reason = "made to be written as a literal")]
pub struct Caller {
    /// Its number, from 0.
    pub who: usize,
    /// Where the daemon is.
    pub address: String,
    /// How it uses TLS.
    pub tls: Option<ClientTls>,
    /// How long it waits.
    pub patience: Patience,
}

impl Ledger {
    /// A daemon that writes into this, at a free port of each of `nsp`, `ws` and `noservice`, and with TLS of `nsps` and `wss`; and where
    /// these are.
    ///
    /// # Cancel safety
    /// Dropped, it has served nobody.
    pub async fn serve(self: &Arc<Self>, tls: Option<ServerTls>) -> (DaemonHandle, Vec<(&'static str, u16)>) {
        let service = Service::with_state("Ledger", Arc::clone(self))
            .on_data(
                async |entity: Entity,
                       Json((who, n)): Json<(usize, u64)>,
                       State(ledger): State<Arc<Self>>|
                       -> Result<(), Fail> {
                    ledger.received(who, n);
                    entity.emit("got", &(who, n)).await?;
                    Ok(())
                },
            )
            .function("Note", async |Json((who, n)): Json<(usize, u64)>, State(ledger): State<Arc<Self>>| {
                ledger.received(who, n);
                (who, n)
            })
            .blob_function(
                "Back",
                async |Blob(blob): Blob,
                       Meta((who, n)): Meta<(usize, u64)>,
                       State(ledger): State<Arc<Self>>| {
                    ledger.received(who, n);
                    (Blob(blob), Meta((who, n)))
                },
            );
        let schemes: &[_] = if tls.is_some() {
            &["nsp", "ws", "noservice", "nsps", "wss"]
        } else {
            &["nsp", "ws", "noservice"]
        };
        let mut builder = Daemon::builder().service(service);
        for scheme in schemes {
            let listen = Listen::on(format!("{scheme}://127.0.0.1:0"));
            builder = builder.listen(match &tls {
                Some(tls) => listen.tls(tls.clone()),
                None => listen,
            });
        }
        let daemon = builder.bind().await.unwrap();
        let ports = daemon.addresses().into_iter().map(|address| address.port().unwrap());
        let places = schemes.iter().copied().zip(ports).collect();
        let handle = daemon.handle();
        tokio::spawn(daemon.serve());
        (handle, places)
    }

    fn book<T>(&self, who: usize, read: impl FnOnce(&mut Book) -> T) -> T {
        let mut books = self.books.lock().unwrap();
        if books.len() <= who {
            books.resize_with(who + 1, Book::default);
        }
        read(books.get_mut(who).unwrap())
    }

    fn received(&self, who: usize, n: u64) {
        self.book(who, |book| {
            if !book.received.mark(n) {
                book.twice += 1;
            }
        });
    }

    /// Received, received twice, and acknowledged but not received.
    #[must_use]
    pub fn balance(&self) -> (u64, u64, u64) {
        let books = self.books.lock().unwrap();
        books.iter().fold((0, 0, 0), |(received, twice, lost), book| {
            let missing = book.acknowledged.missing_in(&book.received);
            (received + book.received.count(), twice + book.twice, lost + missing)
        })
    }

    /// A client that sends, calls and listens until it is told to stop; what it gets is its own, and no more than once.
    ///
    /// # Cancel safety
    /// Dropped, it has closed its connection.
    pub async fn converse(self: Arc<Self>, caller: Caller, stop: Arc<AtomicBool>) {
        let Caller { who, address, tls, patience } = caller;
        let mut chance = Chance(who as u64);
        let mut n = 0;
        while !stop.load(Ordering::Relaxed) {
            let limits = Limits {
                ping_after: patience.answer,
                ping_wait: patience.answer,
                connect: patience.answer,
                ..Limits::default()
            };
            let soon =
                Reconnect { first_delay: Duration::from_millis(20), last_delay: Duration::from_millis(500) };
            let mut connector = Client::connect(address.as_str()).limits(limits).reconnect(soon);
            if let Some(tls) = &tls {
                connector = connector.tls(tls.clone());
            }
            let client = connector.open_timeout(patience.answer).timeout(patience.answer).lazy().unwrap();
            let opening = client.activity("Ledger");
            let mut got = opening.events::<(usize, u64)>("got");
            match opening.open().await {
                Ok(activity) => {
                    let listening = self.listen(&mut got, who);
                    let talking = self.talk(&activity, who, &mut n, &mut chance, patience, &stop);
                    tokio::select! {
                        () = talking => {}
                        () = listening => {}
                    }
                }
                Err(error) => assert!(
                    matches!(
                        error,
                        OpenError::Timeout | OpenError::Disconnected | OpenError::NotConnected(_)
                    ),
                    "{error:?}"
                ),
            }
            drop(got);
            client.close().await;
            if !stop.load(Ordering::Relaxed) {
                add(&self.figures.renewed);
            }
        }
    }

    /// Sends and calls, one after the other and three at a time, until nothing was answered for some turns.
    async fn talk(
        &self,
        activity: &Activity,
        who: usize,
        n: &mut u64,
        chance: &mut Chance,
        patience: Patience,
        stop: &AtomicBool,
    ) {
        let mut in_vain = 0;
        while in_vain < 3 && !stop.load(Ordering::Relaxed) {
            let [send, call, blob] = [*n, *n + 1, *n + 2];
            *n += 3;
            self.figures.sent.fetch_add(3, Ordering::Relaxed);
            let bytes = crate::pattern(chance.below(3000));
            let ids = [(who, send), (who, call), (who, blob)];
            let results = tokio::join!(
                activity.send(&ids[0]),
                activity.call::<(usize, u64)>("Note", &ids[1]),
                activity.call_blob("Back", bytes.clone(), &ids[2]),
            );
            let back = results.2.map(|(data, meta)| {
                assert!(data.into_blob().unwrap()[..] == bytes[..], "another one's blob");
                meta.to::<(usize, u64)>().unwrap()
            });
            let ended = [(send, results.0.map(|()| (who, send))), (call, results.1), (blob, back)];
            let mut answered = false;
            for (number, result) in ended {
                answered |= result.is_ok();
                self.end(who, number, result);
            }
            in_vain = if answered { 0 } else { in_vain + 1 };
            let micros = usize::try_from(patience.pause.as_micros()).unwrap();
            tokio::time::sleep(Duration::from_micros(chance.below(micros) as u64)).await;
        }
    }

    fn end(&self, who: usize, n: u64, result: Result<(usize, u64), CallError>) {
        match result {
            Ok(answer) => {
                assert_eq!(answer, (who, n), "another one's answer");
                add(&self.figures.acknowledged);
                assert!(self.book(who, |book| book.acknowledged.mark(n)), "{n} of {who} ended twice");
            }
            Err(error) => {
                let is_clean = matches!(
                    error,
                    CallError::Timeout(_)
                        | CallError::Disconnected
                        | CallError::Closed
                        | CallError::NotConnected(_)
                );
                assert!(is_clean, "{error:?}");
                add(&self.figures.failed);
            }
        }
    }

    /// Takes events: in order, its own, none twice.
    async fn listen(&self, got: &mut Events<(usize, u64)>, who: usize) {
        let mut last = None;
        while let Some(event) = got.next().await {
            match event {
                Ok((of, n)) => {
                    assert_eq!(of, who, "another one's event");
                    assert!(last.is_none_or(|last| last < n), "event {n} after {last:?}");
                    last = Some(n);
                    add(&self.figures.events);
                }
                Err(EventError::Gap) => add(&self.figures.gaps),
                Err(error) => panic!("{error}"),
            }
        }
    }
}
