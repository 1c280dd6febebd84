//! A daemon as small as can be: the machine of the daemon's side over any carrier, and one service that does what tests need.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use nsp::Token;
use nsp::carrier::{Address, Carrier, CarrierEnd, Farewell, ListenOptions, Listener, memory};
use nsp::machine::daemon::{self, Event, Gift, QuestionKey, RequestKey};
use nsp::machine::{Daemon, Incoming, SpPolicy};
use nsp::proto::{Data, EntityId, Failure, RawJson, au, ca};
use nsp::secure::{ServerKey, SystemRandom, WeakSeeds};
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) fn server_key() -> Arc<ServerKey> {
    static KEY: LazyLock<Arc<ServerKey>> = LazyLock::new(|| Arc::new(ServerKey::generate().unwrap()));
    Arc::clone(&KEY)
}

/// With SP, as a daemon wants it.
pub(crate) fn secured() -> daemon::Config {
    with_key(server_key())
}

pub(crate) fn with_key(key: Arc<ServerKey>) -> daemon::Config {
    let mut config = daemon::Config::default();
    config.sp = SpPolicy::Required { key, weak: WeakSeeds::Refuse, timeout: Duration::from_secs(5) };
    config
}

pub(crate) fn json(text: &str) -> Data {
    Data::Json(RawJson::new(text.to_owned()).unwrap())
}

/// What a peer has seen, for tests to look at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn has(&self, what: &str) -> bool {
        self.all().iter().any(|seen| seen == what)
    }
}

/// One connection of the daemon.
pub(crate) struct Peer {
    carrier: Box<dyn Carrier>,
    daemon: Daemon,
    owners: HashMap<EntityId, Option<String>>,
    asked: HashMap<QuestionKey, RequestKey>,
    verifying: Option<RequestKey>,
    pub(crate) seen: Seen,
}

impl Peer {
    pub(crate) fn new(carrier: Box<dyn Carrier>, config: daemon::Config, seen: Seen) -> Self {
        let daemon = Daemon::new(config, Box::new(SystemRandom), Instant::now().into_std());
        Self { carrier, daemon, owners: HashMap::new(), asked: HashMap::new(), verifying: None, seen }
    }

    /// Serves until the client goes, or `stop` says so.
    pub(crate) async fn serve(mut self, mut stop: watch::Receiver<u32>) -> CarrierEnd {
        loop {
            while let Some(outgoing) = self.daemon.poll_outgoing() {
                self.carrier.start_send(outgoing).unwrap();
            }
            if let Err(end) = poll_fn(|cx| self.carrier.poll_flush(cx)).await {
                return end;
            }
            let due = self.daemon.poll_timeout();
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            let incoming: Option<Incoming> = tokio::select! {
                incoming = poll_fn(|cx| self.carrier.poll_receive(cx)) => match incoming {
                    Ok(incoming) => Some(incoming),
                    Err(end) => {
                        self.seen.note("gone");
                        poll_fn(|cx| self.carrier.poll_close(cx, &Farewell::Normal)).await;
                        return end;
                    }
                },
                () = timer => None,
                Ok(()) = stop.changed() => return CarrierEnd::Peer,
            };
            let now = Instant::now().into_std();
            let result = match incoming {
                Some(incoming) => self.daemon.receive(incoming, now),
                None => self.daemon.handle_timeout(now),
            };
            if let Err(offence) = result {
                self.seen.note(format!("offence: {offence}"));
                poll_fn(|cx| self.carrier.poll_close(cx, &Farewell::Refused(offence.to_string()))).await;
                return CarrierEnd::Peer;
            }
            while let Some(event) = self.daemon.poll_event() {
                self.event(event, now);
            }
        }
    }

    fn event(&mut self, event: Event, now: std::time::Instant) {
        match event {
            Event::Create { key, create } => {
                let known = create.service == "Test";
                self.seen.note(format!("create {} {:?}", create.service, create.owner));
                let result =
                    if known { Ok(()) } else { Err(Box::new(Failure::new("no_service", "no such service"))) };
                if let Some(entity) = self.daemon.create(key, result) {
                    self.owners.insert(entity, create.owner);
                }
            }
            Event::Verify { key, entity } => {
                self.push_event(&entity, "welcome", json("\"hi\""));
                match self.owners.get(&entity).and_then(|owner| owner.as_deref()) {
                    Some("mallory") => {
                        self.daemon.verify(key, Err(Box::new(Failure::new("banned", "not you"))), now);
                    }
                    Some("slow") => self.verifying = Some(key),
                    _ => self.daemon.verify(key, Ok(()), now),
                }
            }
            Event::Data { entity, data } => {
                self.seen.note(format!("data {data:?}"));
                self.daemon.push(&ca::Request::Data { entity, data }).unwrap();
            }
            Event::Call { key, entity, function, data } => self.call(key, &entity, &function, data, now),
            Event::CallBlob { key, entity, function, meta, data } => match &*function {
                "Json" => self.daemon.give(key, Ok(Gift { meta: None, data: json("1") })),
                _ => {
                    let event = "blob".to_owned();
                    let push =
                        ca::Request::BlobEvent { entity, event, meta: meta.clone(), data: data.clone() };
                    self.daemon.push(&push).unwrap();
                    self.daemon.give(key, Ok(Gift { meta, data }));
                }
            },
            Event::Closed { .. } => self.seen.note("closed"),
            Event::Token { key, user, password } => {
                let right = user == "ann" && password.is_some_and(|password| password.reveal() == "right");
                self.daemon.token(key, right.then(|| Token::from("t0ken")));
            }
            Event::Answer { key, value } => {
                if let Some(request) = self.asked.remove(&key) {
                    let text = value.map_or("declined".into(), |value| value.reveal().to_owned());
                    self.daemon.give(request, Ok(json(&format!("\"{text}\"")).into()));
                }
            }
            Event::Custom(packet) => self.daemon.send_custom(packet).unwrap(),
            Event::Ignored(ignored) => self.seen.note(format!("ignored: {ignored}")),
            Event::Secured(strength) => self.seen.note(format!("secured: {strength:?}")),
            Event::Expired { .. } => self.seen.note("expired"),
            _ => {}
        }
    }

    fn call(
        &mut self,
        key: RequestKey,
        entity: &EntityId,
        function: &str,
        data: Data,
        now: std::time::Instant,
    ) {
        self.seen.note(format!("call {function}"));
        match function {
            "Echo" => self.daemon.give(key, Ok(data.into())),
            "Nothing" => self.daemon.give(key, Ok(Data::None.into())),
            "Fail" => {
                let failure = Failure { id: Some("f-1".into()), ..Failure::new("sour", "the milk is sour") };
                self.daemon.give(key, Err(Box::new(failure)));
            }
            "Never" => {}
            "Emit" => {
                let count: u32 = data.into_json().unwrap().to().unwrap();
                for n in 0..count {
                    self.push_event(entity, "tick", json(&n.to_string()));
                }
                self.daemon.give(key, Ok(Data::None.into()));
            }
            "Ask" | "AskPassword" => {
                let question = if function == "Ask" { au::Question::Token } else { au::Question::Password };
                let owner = self.owners.get(entity).cloned().flatten().unwrap_or_default();
                let question = self.daemon.ask(question, &owner, now).unwrap();
                self.asked.insert(question, key);
            }
            "Tell" => {
                self.daemon.tell(au::Notice::TokenFailed, entity).unwrap();
                self.daemon.give(key, Ok(Data::None.into()));
            }
            "Close" => self.daemon.push(&ca::Request::Close { entity: entity.clone() }).unwrap(),
            "Verify" => {
                if let Some(key) = self.verifying.take() {
                    self.daemon.verify(key, Ok(()), now);
                }
                self.daemon.give(key, Ok(Data::None.into()));
            }
            _ => self.daemon.give(key, Err(Box::new(Failure::new("no_function", "no such function")))),
        }
    }

    fn push_event(&mut self, entity: &EntityId, event: &str, data: Data) {
        let push = ca::Request::Event { entity: entity.clone(), event: event.to_owned(), data };
        self.daemon.push(&push).unwrap();
    }
}

/// A peer in memory; its end is for a client. The task ends with the client.
pub(crate) fn in_memory(config: daemon::Config) -> (Box<dyn Carrier>, Seen) {
    let (ours, theirs) = memory();
    let seen = Seen::default();
    let peer = Peer::new(Box::new(ours), config, seen.clone());
    tokio::spawn(peer.serve(watch::channel(0).1));
    (Box::new(theirs), seen)
}

/// Peers at an address, as many as come.
pub(crate) struct Server {
    pub(crate) address: Address,
    pub(crate) seen: Seen,
    pub(crate) stop: watch::Sender<u32>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(address: &str, config: daemon::Config, options: ListenOptions) -> Self {
        let listener = Listener::bind(&address.parse().unwrap(), &options).await.unwrap();
        let address = listener.address().clone();
        let (seen, stop) = (Seen::default(), watch::Sender::new(0));
        let (noted, stopped) = (seen.clone(), stop.subscribe());
        let task = tokio::spawn(async move {
            loop {
                let arriving = listener.accept().await;
                let (config, noted, mut stopped) = (config.clone(), noted.clone(), stopped.clone());
                stopped.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(carrier) = arriving.handshake().await else { return };
                    noted.note("connected");
                    Peer::new(carrier, config, noted).serve(stopped).await;
                });
            }
        });
        Self { address, seen, stop, task }
    }

    /// Cuts its connections, and gives its address free.
    pub(crate) async fn end(mut self) {
        self.cut();
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// Cuts its connections, and goes on listening.
    pub(crate) fn cut(&self) {
        let generation = *self.stop.borrow() + 1;
        self.stop.send_replace(generation);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}
