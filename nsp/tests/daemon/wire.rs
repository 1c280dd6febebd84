//! A client that says exactly what a test wants it to say.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::time::Duration;

use nsp::carrier::{Carrier, CarrierEnd};
use nsp::daemon::{Daemon, DaemonBuilder, DaemonHandle};
use nsp::machine::{Incoming, Outgoing};
use nsp::proto::cs::{Answer, Create, Mode, Request};
use nsp::proto::{Data, EntityId, Failure, Method, Methods, Packet, RawJson, RequestId, Status, au, ca};
use serde_json::Value;

/// Begins a daemon that is never told to stop.
pub(crate) async fn daemon(builder: DaemonBuilder) -> (Daemon, DaemonHandle) {
    let daemon = builder.bind().await.unwrap();
    let handle = daemon.handle();
    (daemon, handle)
}

/// One end of a connection.
pub(crate) struct Wire {
    pub(crate) carrier: Box<dyn Carrier>,
    /// What came while something else was waited for.
    pub(crate) heard: VecDeque<Packet>,
    n: u64,
}

impl Wire {
    pub(crate) fn to(daemon: &DaemonHandle) -> Self {
        Self::over(daemon.connect_local())
    }

    pub(crate) fn over(carrier: Box<dyn Carrier>) -> Self {
        Self { carrier, heard: VecDeque::new(), n: 0 }
    }

    pub(crate) async fn say(&mut self, packet: Packet) {
        self.carrier.start_send(Outgoing::Packet(packet)).unwrap();
        poll_fn(|cx| self.carrier.poll_flush(cx)).await.unwrap();
    }

    pub(crate) async fn ask(&mut self, request: Request) {
        self.say(request.encode()).await;
    }

    /// The next packet, or why there is none. Whatever is to come, comes within ten minutes.
    pub(crate) async fn next(&mut self) -> Result<Packet, CarrierEnd> {
        if let Some(packet) = self.heard.pop_front() {
            return Ok(packet);
        }
        self.receive().await
    }

    async fn receive(&mut self) -> Result<Packet, CarrierEnd> {
        let next = poll_fn(|cx| self.carrier.poll_receive(cx));
        match tokio::time::timeout(Duration::from_secs(600), next).await.expect("something comes")? {
            Incoming::Packet(packet) => Ok(packet),
            Incoming::Message(message) => Ok(Packet::decode(message, &Methods::default()).unwrap()),
            other @ Incoming::Sealed(_) => panic!("{other:?}"),
        }
    }

    /// The next packet of a method; others are kept.
    pub(crate) async fn next_of(&mut self, method: Method) -> Packet {
        if let Some(at) = self.heard.iter().position(|packet| packet.method == method) {
            return self.heard.remove(at).unwrap();
        }
        loop {
            let packet = self.receive().await.unwrap();
            if packet.method == method {
                return packet;
            }
            self.heard.push_back(packet);
        }
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        Answer::decode(&self.next_of(Method::Cs).await).unwrap()
    }

    /// The next event, or data, or close.
    pub(crate) async fn event(&mut self) -> ca::Request {
        ca::Request::decode(&self.next_of(Method::Ca).await).unwrap()
    }

    /// The next question, or notice.
    pub(crate) async fn question(&mut self) -> au::Request {
        au::Request::decode(&self.next_of(Method::Au).await).unwrap()
    }

    /// Answers the next question.
    pub(crate) async fn show(&mut self, secret: &str) {
        let au::Request::Ask { question, id, .. } = self.question().await else { panic!("no question") };
        let answer = au::Answer { question, id, value: Some(secret.into()) };
        self.say(answer.encode()).await;
    }

    pub(crate) async fn end(&mut self) -> CarrierEnd {
        loop {
            match self.receive().await {
                Ok(packet) => self.heard.push_back(packet),
                Err(end) => return end,
            }
        }
    }

    pub(crate) fn id(&mut self) -> RequestId {
        self.n += 1;
        RequestId::numbered(self.n)
    }

    pub(crate) async fn create(&mut self, create: Create) -> Result<EntityId, Box<Failure>> {
        self.ask(Request::Create(Box::new(create))).await;
        let Answer::Created { result, .. } = self.answer().await else { panic!("no CE") };
        result
    }

    pub(crate) fn wanting(&mut self, service: &str, owner: Option<&str>) -> Create {
        Create {
            id: self.id(),
            owner: owner.map(str::to_owned),
            mode: Mode::Normal,
            service: service.into(),
            owner_domain: None,
            key: None,
            description: None,
        }
    }

    pub(crate) async fn open(&mut self, service: &str) -> EntityId {
        self.open_as(service, None).await
    }

    pub(crate) async fn open_as(&mut self, service: &str, owner: Option<&str>) -> EntityId {
        let create = self.wanting(service, owner);
        let entity = self.create(create).await.unwrap();
        assert_eq!(self.verify(&entity).await, Ok(()));
        entity
    }

    /// As [`open`](Self::open), on a connection that may be at its end.
    pub(crate) async fn try_open(&mut self, service: &str) -> Result<EntityId, CarrierEnd> {
        let create = self.wanting(service, None);
        let packet = Request::Create(Box::new(create)).encode();
        self.carrier.start_send(Outgoing::Packet(packet)).unwrap();
        poll_fn(|cx| self.carrier.poll_flush(cx)).await?;
        let Answer::Created { result, .. } = Answer::decode(&self.receive().await?).unwrap() else {
            panic!()
        };
        Ok(result.unwrap())
    }

    /// Whether the connection is closed before it can be used.
    pub(crate) async fn is_refused(&mut self) -> bool {
        self.try_open("Echo").await.is_err()
    }

    /// Calls a function that gives back what it takes, on a new entity.
    pub(crate) async fn call_echo(&mut self) {
        let entity = self.open("Echo").await;
        assert_eq!(self.call(&entity, "echo", Value::from(1)).await, Ok(Value::from(1)));
    }

    pub(crate) async fn verify(&mut self, entity: &EntityId) -> Result<(), Box<Failure>> {
        self.ask(Request::Verify { entity: entity.clone() }).await;
        self.verified().await
    }

    pub(crate) async fn verified(&mut self) -> Result<(), Box<Failure>> {
        let Answer::Verified { status, .. } = self.answer().await else { panic!("no VE") };
        status.into_result()
    }

    /// Calls a function, and does not wait for the answer.
    pub(crate) async fn begin(&mut self, entity: &EntityId, function: &str, argument: Value) -> RequestId {
        let id = self.id();
        let data = Data::Json(RawJson::of(&argument).unwrap());
        let entity = entity.clone();
        self.ask(Request::Call { entity, function: function.into(), id: id.clone(), data }).await;
        id
    }

    pub(crate) async fn returned(&mut self) -> (RequestId, Result<Value, Box<Failure>>) {
        match self.answer().await {
            Answer::Returned { id, status, data, .. } => (id, result(status, data)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn call(
        &mut self,
        entity: &EntityId,
        function: &str,
        argument: Value,
    ) -> Result<Value, Box<Failure>> {
        let asked = self.begin(entity, function, argument).await;
        let (id, result) = self.returned().await;
        assert_eq!(id, asked);
        result
    }

    pub(crate) async fn send(&mut self, entity: &EntityId, data: Value) {
        let data = Data::Json(RawJson::of(&data).unwrap());
        self.ask(Request::Send { entity: entity.clone(), data }).await;
    }

    pub(crate) async fn sent(&mut self) -> Result<(), Box<Failure>> {
        let Answer::Sent { status, .. } = self.answer().await else { panic!("no SS") };
        status.into_result()
    }

    /// Whether the daemon has nothing to say now. Time has to be stopped: then it stands still until everybody has done what they can.
    pub(crate) async fn is_silent(&mut self) -> bool {
        let next = poll_fn(|cx| self.carrier.poll_receive(cx));
        self.heard.is_empty() && tokio::time::timeout(Duration::from_millis(1), next).await.is_err()
    }
}

fn result(status: Status, data: Data) -> Result<Value, Box<Failure>> {
    status.into_result()?;
    Ok(data.into_json().unwrap().to().unwrap())
}

pub(crate) fn code(result: Result<Value, Box<Failure>>) -> String {
    result.unwrap_err().code.unwrap()
}
