//! A client and a daemon with a wire between them.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use nsp::machine::client::{self, ActivityKey, Open};
use nsp::machine::daemon::{self, Offence, RequestKey};
use nsp::machine::{Client, Daemon, Incoming, Outgoing, SpError};
use nsp::proto::frame::{PacketFrame, Received, SEALED};
use nsp::proto::{Data, EntityId, Methods, RawJson};
use nsp::secure::SystemRandom;

/// How packets travel between the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// As messages of a binary carrier.
    Messages,
    /// As named frames.
    Frames,
}

pub(crate) struct Pair {
    pub(crate) client: Client,
    pub(crate) daemon: Daemon,
    pub(crate) now: Instant,
    pub(crate) wire: Wire,
    /// Everything that was sent, as text, with `>` from the client and `<` from the daemon.
    pub(crate) spoken: Vec<String>,
    pub(crate) client_error: Option<SpError>,
    pub(crate) offence: Option<Offence>,
}

impl Pair {
    pub(crate) fn new(client: client::Config, daemon: daemon::Config) -> Self {
        let now = Instant::now();
        Self {
            client: Client::new(client, Box::new(SystemRandom), now),
            daemon: Daemon::new(daemon, Box::new(SystemRandom), now),
            now,
            wire: Wire::Messages,
            spoken: Vec::new(),
            client_error: None,
            offence: None,
        }
    }

    /// Without SP, and with secrets allowed.
    pub(crate) fn clear() -> Self {
        Self::new(clear_client(), daemon::Config::default())
    }

    /// Carries everything both sides have to say, until both are silent.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut silent = true;
            while let Some(outgoing) = self.client.poll_outgoing() {
                silent = false;
                let incoming = self.carry('>', &outgoing);
                if let Err(offence) = self.daemon.receive(incoming, self.now) {
                    self.offence.get_or_insert(offence);
                }
            }
            while let Some(outgoing) = self.daemon.poll_outgoing() {
                silent = false;
                let incoming = self.carry('<', &outgoing);
                if let Err(error) = self.client.receive(incoming, self.now) {
                    self.client_error.get_or_insert(error);
                }
            }
            if silent {
                return;
            }
        }
    }

    pub(crate) fn carry(&mut self, side: char, outgoing: &Outgoing) -> Incoming {
        let mut message = BytesMut::new();
        outgoing.encode(&Methods::default(), &mut message).unwrap();
        self.spoken.push(format!("{side}{}", String::from_utf8_lossy(&message)));
        if self.wire == Wire::Messages {
            return Incoming::Message(message.freeze());
        }
        match outgoing {
            Outgoing::Packet(packet) => {
                let frame = PacketFrame::from(packet);
                let body: Vec<u8> = frame.head.iter().chain(frame.blob.iter().flatten()).copied().collect();
                Received::from_frame(frame.name(), frame.kind, body.into()).unwrap().into()
            }
            Outgoing::Sealed(body) => {
                let kind = nsp::proto::frame::Kind::Bytes;
                Received::from_frame(SEALED, kind, body.clone()).unwrap().into()
            }
            Outgoing::Heartbeat | Outgoing::Text(_) => panic!("frames have neither"),
        }
    }

    /// Lets time pass for both.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        if let Err(error) = self.client.handle_timeout(self.now) {
            self.client_error.get_or_insert(error);
        }
        if let Err(offence) = self.daemon.handle_timeout(self.now) {
            self.offence.get_or_insert(offence);
        }
        self.settle();
    }

    pub(crate) fn client_events(&mut self) -> Vec<client::Event> {
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }

    pub(crate) fn daemon_events(&mut self) -> Vec<daemon::Event> {
        std::iter::from_fn(|| self.daemon.poll_event()).collect()
    }

    pub(crate) fn client_event(&mut self) -> client::Event {
        self.client.poll_event().expect("the client has learned something")
    }

    pub(crate) fn daemon_event(&mut self) -> daemon::Event {
        self.daemon.poll_event().expect("the daemon has learned something")
    }

    /// Begins an activity, up to the point where the service is to look at it.
    pub(crate) fn create(&mut self) -> (ActivityKey, EntityId, RequestKey) {
        let activity = self.client.open(Open::new("Chat"), self.now).unwrap();
        self.settle();
        let daemon::Event::Create { key, create } = self.daemon_event() else { panic!() };
        assert_eq!(create.service, "Chat");
        let entity = self.daemon.create(key, Ok(())).unwrap();
        self.settle();
        let daemon::Event::Verify { key, entity: seen } = self.daemon_event() else { panic!() };
        assert_eq!(seen, entity);
        (activity, entity, key)
    }

    /// Opens an activity.
    pub(crate) fn open(&mut self) -> (ActivityKey, EntityId) {
        let (activity, entity, key) = self.create();
        self.daemon.verify(key, Ok(()), self.now);
        self.settle();
        assert!(
            matches!(self.client_event(), client::Event::Opened { activity: opened, .. } if opened == activity)
        );
        (activity, entity)
    }
}

pub(crate) fn clear_client() -> client::Config {
    let mut config = client::Config::default();
    config.sp = nsp::machine::SpMode::WhenAsked;
    config.secrets = client::Secrets::Anywhere;
    config
}

pub(crate) fn json(text: &'static str) -> Data {
    Data::Json(RawJson::new(text).unwrap())
}

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
