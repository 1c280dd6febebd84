//! A client that says exactly what a test wants it to say.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use nossock::Peer;
use nsp::carrier::{Carrier, CarrierEnd, CarrierKind, Farewell, Memory, memory};
use nsp::daemon::DaemonHandle;
use nsp::machine::{Incoming, Outgoing};
use nsp::proto::cs::{Answer, Create, Mode, Request};
use nsp::proto::{Data, EncodeError, EntityId, Method, Packet, RawJson, RequestId, au};
use serde_json::Value;

pub(crate) struct Wire {
    carrier: Box<dyn Carrier>,
    /// Shown whenever a token is asked for.
    pub(crate) token: Option<&'static str>,
    /// How often one was.
    pub(crate) asked: usize,
    n: u64,
}

impl Wire {
    pub(crate) fn to(daemon: &DaemonHandle, token: Option<&'static str>) -> Self {
        Self { carrier: daemon.connect_local(), token, asked: 0, n: 0 }
    }

    /// By a connection that comes from 127.0.0.1.
    pub(crate) fn from_loopback(daemon: &DaemonHandle) -> Self {
        let (near, inner) = memory();
        let mut peer = Peer::default();
        peer.address = Some(([127, 0, 0, 1], 1).into());
        assert!(daemon.accept(Placed { inner, peer }));
        Self { carrier: Box::new(near), token: None, asked: 0, n: 0 }
    }

    async fn say(&mut self, packet: Packet) {
        self.carrier.start_send(Outgoing::Packet(packet)).unwrap();
        poll_fn(|cx| self.carrier.poll_flush(cx)).await.unwrap();
    }

    /// The next answer; questions are answered on the way.
    async fn answer(&mut self) -> Answer {
        loop {
            let next = poll_fn(|cx| self.carrier.poll_receive(cx));
            let next = tokio::time::timeout(Duration::from_secs(600), next).await.expect("something comes");
            let Incoming::Packet(packet) = next.unwrap() else { panic!("no packet") };
            match packet.method {
                Method::Cs => return Answer::decode(&packet).unwrap(),
                Method::Au => {
                    let asked = au::Request::decode(&packet).unwrap();
                    let au::Request::Ask { question, id, .. } = asked else { continue };
                    self.asked += 1;
                    let value = self.token.map(Into::into);
                    self.say(au::Answer { question, id, value }.encode()).await;
                }
                _ => {}
            }
        }
    }

    fn id(&mut self) -> RequestId {
        self.n += 1;
        RequestId::numbered(self.n)
    }

    /// An entity, or the code with which it is not let in.
    pub(crate) async fn open(&mut self, service: &str, owner: Option<&str>) -> Result<EntityId, String> {
        self.open_as(service, owner, Mode::Normal, None).await
    }

    pub(crate) async fn open_as(
        &mut self,
        service: &str,
        owner: Option<&str>,
        mode: Mode,
        key: Option<&str>,
    ) -> Result<EntityId, String> {
        let create = Create {
            id: self.id(),
            owner: owner.map(str::to_owned),
            mode,
            service: service.into(),
            owner_domain: None,
            key: key.map(Into::into),
            description: None,
        };
        self.say(Request::Create(Box::new(create)).encode()).await;
        let Answer::Created { result, .. } = self.answer().await else { panic!("no CE") };
        let entity = result.map_err(|failure| failure.code.unwrap())?;
        self.say(Request::Verify { entity: entity.clone() }.encode()).await;
        let Answer::Verified { status, .. } = self.answer().await else { panic!("no VE") };
        status.into_result().map_err(|failure| failure.code.unwrap())?;
        Ok(entity)
    }

    /// What a function gives, or its code.
    pub(crate) async fn call(&mut self, entity: &EntityId, function: &str) -> Result<Value, String> {
        self.call_with(entity, function, &Value::Null).await
    }

    /// As [`call`](Self::call), with an argument.
    pub(crate) async fn call_with(
        &mut self,
        entity: &EntityId,
        function: &str,
        argument: &Value,
    ) -> Result<Value, String> {
        let id = self.id();
        let data = Data::Json(RawJson::of(argument).unwrap());
        let request =
            Request::Call { entity: entity.clone(), function: function.into(), id: id.clone(), data };
        self.say(request.encode()).await;
        match self.answer().await {
            Answer::Returned { id: of, status, data, .. } => {
                assert_eq!(of, id);
                status.into_result().map_err(|failure| failure.code.unwrap())?;
                Ok(data.into_json().unwrap().to().unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    /// What a blob function says about its blob, or its code.
    pub(crate) async fn call_blob(&mut self, entity: &EntityId, function: &str) -> Result<Value, String> {
        let (id, data) = (self.id(), Data::Blob(b"?".as_slice().into()));
        let (entity, function) = (entity.clone(), function.into());
        self.say(Request::CallBlob { entity, function, id, meta: None, data }.encode()).await;
        let Answer::ReturnedBlob { status, meta, data, .. } = self.answer().await else { panic!("no BS") };
        status.into_result().map_err(|failure| failure.code.unwrap())?;
        assert!(matches!(data, Data::Blob(blob) if &blob[..] == b"photo"));
        Ok(meta.unwrap().to().unwrap())
    }
}

/// A connection inside the process that has an address.
#[derive(Debug)]
struct Placed {
    inner: Memory,
    peer: Peer,
}

impl Carrier for Placed {
    fn kind(&self) -> CarrierKind {
        self.inner.kind()
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn is_confidential(&self) -> bool {
        self.inner.is_confidential()
    }

    fn limit_message(&mut self, bytes: usize) {
        self.inner.limit_message(bytes);
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, CarrierEnd>> {
        self.inner.poll_receive(cx)
    }

    fn start_send(&mut self, message: Outgoing) -> Result<(), EncodeError> {
        self.inner.start_send(message)
    }

    fn queued(&self) -> usize {
        self.inner.queued()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierEnd>> {
        self.inner.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, reason: &Farewell) -> Poll<()> {
        self.inner.poll_close(cx, reason)
    }
}
