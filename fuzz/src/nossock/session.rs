//! Two sessions that talk to each other, and a model of what each caller must see.
//!
//! A run is a list of steps: calls, bytes that arrive, time that passes. Whatever their order, each request ends
//! exactly once (answered, out of time, with the connection, or given up by its caller), its caller is woken when it
//! ends and not before, and the value it gets is its own.

use std::collections::HashSet;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use nossock::session::{Answer, CloseReason, Control, Due, Outbox, Phase, RequestId, RequestName, Session};
use nossock::wire::{Body, Decoder, Frame, Kind, Name, Next};
use nossock::{Config, Limits};

/// Something that happens to side 0 or 1.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// It asks, with this much time.
    Ask { side: usize, millis: u8, stamped: bool },
    /// It sends a message.
    Say { side: usize },
    /// It answers one of the requests that it has been sent, and keeps it to answer again.
    Reply { side: usize, which: u8, how: How, keep: bool },
    /// It answers what nobody asked.
    Invent { side: usize, id: u8 },
    /// The caller of one of its requests goes away.
    Cancel { side: usize, which: u8 },
    /// The caller of one of its requests looks for the answer.
    Poll { side: usize, which: u8 },
    /// It writes; at most this many bytes arrive at the other.
    Write { side: usize, bytes: u8 },
    /// The other side sends control frame number so and so.
    Control { side: usize, number: u8 },
    /// Time passes on both sides.
    Wait { millis: u8 },
    /// It begins to close.
    Close { side: usize },
    /// What ran has ended: its last bytes may leave.
    Flush { side: usize },
    /// Its transport fails.
    Cut { side: usize },
    /// It answers a request with the value of another one, which the model must notice. Never made from bytes.
    Lie { side: usize },
}

/// What an answer consists of.
#[derive(Debug, Clone, Copy)]
pub enum How {
    Value,
    Error,
    Raw,
    Garbage,
}

/// Reads steps from bytes, three each.
pub fn run(data: &[u8]) {
    let steps: Vec<Step> =
        data.chunks_exact(3).take(400).map(|step| Step::read(step[0], step[1], step[2])).collect();
    check(&steps);
}

impl Step {
    fn read(what: u8, a: u8, b: u8) -> Self {
        let side = usize::from(what & 1);
        match what >> 1 {
            0..=25 => Self::Ask { side, millis: a, stamped: b & 1 == 0 },
            26..=30 => Self::Say { side },
            31..=55 => Self::Reply {
                side,
                which: a,
                how: [How::Value, How::Error, How::Raw, How::Garbage][usize::from(b >> 1) % 4],
                keep: b & 1 == 1,
            },
            56..=59 => Self::Invent { side, id: a },
            60..=69 => Self::Cancel { side, which: a },
            70..=85 => Self::Poll { side, which: a },
            86..=109 => Self::Write { side, bytes: a },
            110..=114 => Self::Control { side, number: a },
            115..=122 => Self::Wait { millis: a },
            123..=124 => Self::Close { side },
            125..=126 => Self::Flush { side },
            _ => Self::Cut { side },
        }
    }
}

/// A caller of a request, as it is and as the session must see it.
struct Caller {
    id: RequestId,
    token: u32,
    ended: bool,
    /// It has looked, found nothing, and is to be woken.
    sleeps: bool,
    gone: bool,
    asked: Instant,
    time: Duration,
}

struct Side {
    session: Session<u32>,
    decoder: Decoder,
    input: BytesMut,
    taken: Outbox,
    callers: Vec<Caller>,
    /// Requests of the other side: name and id.
    asked: Vec<(String, String)>,
    /// Of those, ids that the other side has cancelled.
    cancelled: HashSet<String>,
    messages: u32,
}

struct Conversation {
    config: Config,
    now: Instant,
    sides: [Side; 2],
    tokens: u32,
    said: [u32; 2],
}

/// Runs the steps, then ends both sides and looks after every caller.
pub fn check(steps: &[Step]) {
    let mut talk = Conversation::new();
    for step in steps {
        talk.step(*step);
        talk.compare();
    }
    for side in 0..2 {
        talk.cut(side);
        for which in 0..talk.sides[side].callers.len() {
            talk.poll(side, which);
        }
        let side = &mut talk.sides[side];
        assert!(side.session.pending().is_empty(), "every request has ended");
        assert!(side.callers.iter().all(|caller| caller.gone), "and its caller has learned of it");
    }
}

impl Conversation {
    fn new() -> Self {
        let limits = Limits {
            max_body: 4096,
            requests_out: 5,
            close_grace: Duration::from_millis(60),
            ping_after: Duration::from_millis(300),
            ping_wait: Duration::from_millis(200),
            ..Limits::default()
        };
        let config = Config { limits, ..Config::default() };
        let now = Instant::now();
        let sides = [true, false].map(|connects| Side {
            session: Session::new(&config, connects, now),
            decoder: Decoder::new(&config.limits),
            input: BytesMut::new(),
            taken: Outbox::default(),
            callers: Vec::new(),
            asked: Vec::new(),
            cancelled: HashSet::new(),
            messages: 0,
        });
        Self { config, now, sides, tokens: 0, said: [0, 0] }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Ask { side, millis, stamped } => self.ask(side, millis, stamped),
            Step::Say { side } => {
                let frame = Frame::json("m", &self.said[side]).unwrap();
                let sent = self.sides[side].session.send(frame).is_ok();
                assert_eq!(sent, self.sides[side].session.phase() <= Phase::Draining);
                self.said[side] += u32::from(sent);
            }
            Step::Reply { side, which, how, keep } => self.reply(side, which, how, keep),
            Step::Invent { side, id } => {
                let frame = Frame::json(&format!("resp:q:{id:x}fffff"), &[(), ()]).unwrap();
                let _ = self.sides[side].session.send(frame);
            }
            Step::Cancel { side, which } => {
                let caller = pick(&mut self.sides[side].callers, which).filter(|caller| !caller.gone);
                if let Some(caller) = caller {
                    let (id, ended) = (caller.id, caller.ended);
                    (caller.gone, caller.ended) = (true, true);
                    let told = self.sides[side].session.cancel(id);
                    assert!(!(told && ended), "nobody is told to stop what has ended");
                }
            }
            Step::Poll { side, which } => {
                let n = self.sides[side].callers.len();
                if n > 0 {
                    self.poll(side, usize::from(which) % n);
                }
            }
            Step::Write { side, bytes } => self.write(side, usize::from(bytes) + 1),
            Step::Control { side, number } => self.control(side, number),
            Step::Wait { millis } => {
                self.now += Duration::from_millis(u64::from(millis));
                for side in 0..2 {
                    self.timeouts(side);
                }
            }
            Step::Close { side } => {
                let (until, session) =
                    (self.now + self.config.limits.close_grace, &mut self.sides[side].session);
                let was_open = session.phase() == Phase::Open;
                assert_eq!(session.begin_close(CloseReason::Local, until), was_open);
                assert!(session.reason().is_some());
            }
            Step::Flush { side } => {
                self.sides[side].session.begin_flush();
                self.close_callers_if_over(side);
            }
            Step::Cut { side } => self.cut(side),
            Step::Lie { side } => {
                for (_, value) in &mut self.sides[side].asked {
                    value.push('0');
                }
                self.reply(side, 0, How::Value, false);
            }
        }
    }

    fn ask(&mut self, side: usize, millis: u8, stamped: bool) {
        let Side { session, callers, .. } = &mut self.sides[side];
        if session.phase() != Phase::Open {
            return;
        }
        let time = Duration::from_millis(u64::from(millis));
        let due = if stamped { Due::At(self.now + time) } else { Due::After(time) };
        let under_way = session.pending().len();
        let limit = self.config.limits.requests_out;
        let Some(id) = session.request(due, None, limit) else {
            assert_eq!(under_way, limit, "a slot is refused only when all are taken");
            return;
        };
        assert!(under_way < limit);
        self.tokens += 1;
        let token = self.tokens;
        let name = format!("req:q:{}", id.text().as_str());
        session.send(Frame::json(&name, &token).unwrap()).unwrap();
        session.pending().stamp(self.now);
        let asked = self.now;
        callers.push(Caller { id, token, ended: false, sleeps: false, gone: false, asked, time });
    }

    fn reply(&mut self, side: usize, which: u8, how: How, keep: bool) {
        let Side { session, asked, .. } = &mut self.sides[side];
        if asked.is_empty() {
            return;
        }
        let at = usize::from(which) % asked.len();
        let (id, token) = if keep { asked[at].clone() } else { asked.swap_remove(at) };
        let name = Name::new(&format!("resp:q:{id}")).unwrap();
        let body = match how {
            How::Value => Body::Json(format!("[null,{token}]").into()),
            How::Error => Body::Json(format!("[{{\"code\":\"{token}\"}}]").into()),
            How::Raw => Body::Raw(token.into()),
            How::Garbage => Body::Json(Bytes::from_static(b"[nul")),
        };
        let _ = session.send(Frame { name, body });
    }

    /// A caller looks: it finds its own answer if its request has ended, and nothing otherwise.
    fn poll(&mut self, side: usize, which: usize) {
        let Side { session, callers, .. } = &mut self.sides[side];
        let caller = &mut callers[which];
        let token = caller.token;
        let answer = session.pending().poll(caller.id, |_| token);
        let Some(answer) = answer else {
            assert!(caller.gone || !caller.ended, "what has ended is told");
            caller.sleeps = !caller.gone;
            return;
        };
        assert!(caller.ended && !caller.gone, "a request ends once");
        caller.gone = true;
        match answer {
            Answer::Reply(reply) => {
                let own = token.to_string();
                match reply.read() {
                    Ok(Ok(body)) => assert_eq!(body.as_bytes(), own.as_bytes(), "ids never cross"),
                    Ok(Err(reject)) => assert_eq!(reject.code(), Some(own.as_str()), "ids never cross"),
                    Err(_) => {} // garbage was sent
                }
            }
            Answer::TimedOut => assert!(self.now >= caller.asked + caller.time, "not before its time"),
            Answer::Closed => assert!(session.phase() > Phase::Draining || session.reason().is_some()),
            other => panic!("{other:?}"),
        }
    }

    /// The session named somebody to be woken: a caller that sleeps, and whose request has just ended.
    fn woken(&mut self, side: usize, tokens: impl IntoIterator<Item = u32>) {
        for token in tokens {
            let caller = self.sides[side].callers.iter_mut().find(|caller| caller.token == token).unwrap();
            assert!(caller.sleeps && !caller.gone && !caller.ended, "nobody is woken twice");
            caller.sleeps = false;
            caller.ended = true;
        }
    }

    /// Notes which requests a step has ended although nobody slept on them.
    fn compare(&mut self) {
        for Side { session, callers, .. } in &mut self.sides {
            let mut held = 0;
            for caller in callers.iter_mut().filter(|caller| !caller.gone) {
                held += 1;
                let waits = session.pending().waits(caller.id.text().as_str().as_bytes());
                if waits.is_none() {
                    assert!(!caller.sleeps, "who sleeps is woken");
                    caller.ended = true;
                } else {
                    assert!(!caller.ended, "what has ended does not begin again");
                }
            }
            assert_eq!(session.pending().len(), held, "a slot is held by each caller and nobody else");
            let ids: HashSet<_> = callers.iter().map(|c| c.id.text().as_str().to_owned()).collect();
            assert_eq!(ids.len(), callers.len(), "ids are never used again");
        }
    }

    fn write(&mut self, side: usize, most: usize) {
        let Side { session, taken, .. } = &mut self.sides[side];
        if taken.is_empty() {
            taken.clear(64);
            session.take(taken);
        }
        let mut slices = [IoSlice::new(&[]); 4];
        let used = taken.chunks(&mut slices);
        let bytes: Vec<u8> =
            slices[..used].iter().flat_map(|slice| slice.iter().copied()).take(most).collect();
        taken.advance(bytes.len());
        session.wrote(bytes.len());
        if session.queue_len() == 0 {
            session.flushed();
            let (queued, flushed) = session.progress();
            assert_eq!(queued, flushed);
        }
        let other = 1 - side;
        if bytes.is_empty() || self.sides[other].session.phase() == Phase::Closed {
            return;
        }
        self.sides[other].input.extend_from_slice(&bytes);
        self.read(other);
    }

    /// Does what a driver does with the frames that have come.
    fn read(&mut self, side: usize) {
        self.sides[side].session.heard(self.now);
        loop {
            let Side { session, decoder, input, .. } = &mut self.sides[side];
            let head = match decoder.next(input) {
                Ok(Next::Frame(head)) => head,
                Ok(Next::Incomplete) => break,
                other => panic!("a session writes frames within the limits: {other:?}"),
            };
            if head.kind() == Kind::Control {
                let frame = input.split_to(head.frame_len());
                let cancelled = session.control_received(&frame[head.body_at()..], &self.config, self.now);
                if let Some(id) = cancelled {
                    self.cancelled(side, id);
                }
                continue;
            }
            let Frame { name, body } = Frame::split(input, &head).unwrap();
            match RequestName::parse(&name) {
                Some(RequestName::Request { id, .. }) => {
                    session.asked_by_peer(1);
                    self.sides[side].asked.push((id.to_owned(), body.parse::<u32>().unwrap().to_string()));
                }
                Some(RequestName::Answer { id, .. }) => {
                    let woken = session
                        .pending()
                        .waits(id.as_bytes())
                        .and_then(|id| session.answered(id, body.kind(), body.into_bytes()));
                    self.woken(side, woken);
                }
                None => {
                    let side = &mut self.sides[side];
                    assert_eq!(body.parse::<u32>().unwrap(), side.messages, "messages stay in order");
                    side.messages += 1;
                }
            }
        }
    }

    /// The other side has cancelled a request: one whose caller does not wait any more, and once.
    fn cancelled(&mut self, side: usize, id: String) {
        let callers = &self.sides[1 - side].callers;
        let caller = callers.iter().find(|caller| caller.id.text().as_str() == id).unwrap();
        let late = self.now >= caller.asked + caller.time;
        assert!(caller.ended && (caller.gone || late), "only what is not waited for is cancelled");
        assert!(self.sides[side].cancelled.insert(id), "and once");
    }

    fn control(&mut self, side: usize, number: u8) {
        let controls = [
            r#"{"hello":{"version":1,"max_body":4096,"max_in_flight":256}}"#,
            r#"{"hello":{"version":9,"max_body":4096,"max_in_flight":256,"more":[]}}"#,
            r#"{"ping":18446744073709551615}"#,
            r#"{"pong":0}"#,
            r#"{"cancel":"1"}"#,
            r#"{"credit":{}}"#,
            "[",
            "",
        ];
        let body = controls[usize::from(number) % controls.len()];
        let cancelled = self.sides[side].session.control_received(body.as_bytes(), &self.config, self.now);
        assert_eq!(
            cancelled,
            matches!(Control::parse(body.as_bytes()), Some(Control::Cancel(_))).then(|| "1".into())
        );
    }

    fn timeouts(&mut self, side: usize) {
        let session = &mut self.sides[side].session;
        let due = session.next_timeout(&self.config).is_some_and(|at| at <= self.now);
        let (held, queued) = (session.pending().len(), session.queue_len());
        let woken = session.timed_out(&self.config, self.now);
        let told = session.peer().is_some() && session.phase() <= Phase::Draining;
        assert_eq!(session.pending().len(), held, "slots are given back by their callers");
        assert!(!told || woken.is_empty() || session.queue_len() > queued, "who waits no longer says so");
        assert!(due || woken.is_empty(), "it said when it had to be called");
        self.woken(side, woken);
        self.close_callers_if_over(side);
        let late = |caller: &Caller| !caller.gone && self.now >= caller.asked + caller.time;
        let Side { session, callers, .. } = &mut self.sides[side];
        for caller in callers.iter().filter(|caller| late(caller)) {
            assert!(
                session.pending().waits(caller.id.text().as_str().as_bytes()).is_none(),
                "nobody waits too long"
            );
        }
    }

    fn close_callers_if_over(&mut self, side: usize) {
        let session = &mut self.sides[side].session;
        if session.phase() > Phase::Draining {
            let woken = session.pending().close();
            self.woken(side, woken);
        }
    }

    fn cut(&mut self, side: usize) {
        self.sides[side].session.end(CloseReason::Peer);
        let woken = self.sides[side].session.pending().close();
        self.woken(side, woken);
        self.compare();
    }
}

fn pick(callers: &mut [Caller], which: u8) -> Option<&mut Caller> {
    let n = callers.len();
    callers.get_mut(usize::from(which).checked_rem(n)?)
}
