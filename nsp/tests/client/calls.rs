//! Calls: what comes back, how long they take, and what they leave behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use nossock::Peer as Who;
use nsp::authority::Answer;
use nsp::carrier::{Carrier, CarrierEnd, CarrierKind, Farewell};
use nsp::client::{Ask, CallError, Client, Credentials, Login, Told};
use nsp::machine::{Incoming, Outgoing, client as machine, daemon};
use nsp::proto::{Asker, CustomMethod, EncodeError, Form, Leg, Method, Methods, Packet, Rule, au::Question};
use nsp::{Proof, Token};
use tokio::time::Instant;

use crate::peer::{Seen, in_memory};

#[tokio::test]
async fn failure_of_a_service_comes_with_code_text_and_id() {
    let (carrier, _) = in_memory(daemon::Config::default());
    let test = Client::over(carrier).activity("Test").open().await.unwrap();
    let error = test.call::<()>("Fail", &()).await.unwrap_err();
    assert_eq!((error.code(), error.id()), (Some("sour"), Some("f-1")));
    assert_eq!(error.to_string(), "the milk is sour");
    assert!(!error.may_be_done());
    let error = test.call::<u8>("Echo", "text").await.unwrap_err();
    assert!(matches!(error, CallError::Answer(_)), "{error}");
    test.call::<()>("Nothing", &()).await.unwrap();
    let (json, meta) = test.call_blob("Json", vec![1], &()).await.unwrap();
    assert_eq!((json.into_blob().unwrap_err().as_str(), meta.as_str()), ("1", "null"));
}

#[tokio::test(start_paused = true)]
async fn call_without_an_answer_ends_at_its_deadline_and_leaves_nothing() {
    let (carrier, _) = in_memory(daemon::Config::default());
    let client = Client::over(carrier);
    let test = client.activity("Test").open().await.unwrap();
    let start = Instant::now();
    let error = test.call::<()>("Never", &()).await.unwrap_err();
    assert_eq!(error.to_string(), "no answer within 10s");
    assert_eq!(start.elapsed().as_secs(), 10);
    let error = test.within(Duration::from_secs(1)).call::<()>("Never", &()).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout(after) if after.as_secs() == 1));
    assert_eq!(start.elapsed().as_secs(), 11);
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_limit_wait_inside_their_deadlines() {
    let (carrier, seen) = in_memory(daemon::Config::default());
    let mut limits = machine::Limits::default();
    limits.calls = 2;
    let client = Client::connect("nsp://unused:1").most(limits).over(carrier);
    let test = client.activity("Test").open().await.unwrap();
    let never = |seconds: u64| {
        let test = test.within(Duration::from_secs(seconds));
        tokio::spawn(async move { test.call::<()>("Never", &()).await })
    };
    let start = Instant::now();
    let (first, second) = (never(5), never(8));
    tokio::task::yield_now().await;
    let third = never(20);
    let error = test.within(Duration::from_secs(2)).call::<()>("Never", &()).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout(_)) && start.elapsed().as_secs() == 2, "{error}");
    first.await.unwrap().unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 5);
    third.await.unwrap().unwrap_err();
    // It waited for five seconds, and what was left of its time was fifteen.
    assert_eq!(start.elapsed().as_secs(), 20);
    second.await.unwrap().unwrap_err();
    assert_eq!(seen.all().iter().filter(|seen| *seen == "call Never").count(), 3);
}

#[tokio::test(start_paused = true)]
async fn room_for_calls_is_neither_lost_nor_made_however_they_end() {
    let (carrier, seen) = in_memory(daemon::Config::default());
    let mut limits = machine::Limits::default();
    limits.calls = 2;
    let client = Client::connect("nsp://unused:1").most(limits).over(carrier);
    let test = client.activity("Test").open().await.unwrap();
    for round in 0..200_usize {
        let calls: Vec<_> = (0..5)
            .map(|number| {
                let test = test.within(Duration::from_millis(50));
                let function = if (round + number) % 7 == 0 { "Never" } else { "Echo" };
                tokio::spawn(async move { test.call::<usize>(function, &number).await })
            })
            .collect();
        // Some are dropped before they begin, while they wait for room, while they are under way, or when they are answered already.
        for _ in 0..round % 4 {
            tokio::task::yield_now().await;
        }
        for (at, call) in calls.into_iter().enumerate() {
            if (round / 4 + at) % 3 == 0 {
                call.abort();
            }
            let _ = call.await;
        }
    }
    let before = seen.all().len();
    let never = || {
        let test = test.within(Duration::from_secs(5));
        tokio::spawn(async move { test.call::<()>("Never", &()).await })
    };
    let calls = [never(), never(), never()];
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(seen.all().len() - before, 2);
    for call in calls {
        assert!(matches!(call.await.unwrap(), Err(CallError::Timeout(_))));
    }
    assert_eq!(test.call::<usize>("Echo", &1).await.unwrap(), 1);
}

#[tokio::test]
async fn thousand_calls_at_once_are_all_answered() {
    let (carrier, _) = in_memory(daemon::Config::default());
    let test = Client::over(carrier).activity("Test").open().await.unwrap();
    let calls: Vec<_> = (0..1000_u32)
        .map(|n| {
            let test = test.clone();
            tokio::spawn(async move { assert_eq!(test.call::<u32>("Echo", &n).await.unwrap(), n) })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_call_is_given_up_and_its_room_is_free() {
    let (carrier, _) = in_memory(daemon::Config::default());
    let mut limits = machine::Limits::default();
    limits.calls = 1;
    let client = Client::connect("nsp://unused:1").most(limits).over(carrier);
    let test = client.activity("Test").open().await.unwrap();
    for _ in 0..5 {
        let mut call = Box::pin(test.call::<()>("Never", &()));
        assert!(futures_util::poll!(&mut call).is_pending());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let start = Instant::now();
    assert_eq!(test.call::<u8>("Echo", &1).await.unwrap(), 1);
    // One that is dropped while its answer is on the way: it finds nobody, and the next one gets its own.
    let mut call = Box::pin(test.call::<u8>("Echo", &2));
    assert!(futures_util::poll!(&mut call).is_pending());
    drop(call);
    assert_eq!(test.call::<u8>("Echo", &3).await.unwrap(), 3);
    assert_eq!(client.ignored(), 1);
    assert!(start.elapsed().is_zero());
}

#[derive(Default)]
struct Hears(Seen);

impl Credentials for Hears {
    fn token<'a>(&'a self, user: Option<&'a str>) -> Answer<'a, Option<Token>> {
        self.0.note(format!("asked for the token of {user:?}"));
        Answer::now(Some("secret".into()))
    }

    fn notice(&self, told: Told<'_>) {
        self.0.note(format!("{:?} {:?} {:?}", told.notice, told.service, told.owner));
    }
}

#[tokio::test]
async fn questions_are_answered_by_credentials_and_notices_heard() {
    let open = async |connector: nsp::client::Connector| {
        let (carrier, _) = in_memory(daemon::Config::default());
        connector.over(carrier).activity("Test").owner("ann").open().await.unwrap()
    };
    let test = open(Client::connect("nsp://unused:1")).await;
    assert_eq!(test.call::<String>("Ask", &()).await.unwrap(), "declined");

    let seen = Seen::default();
    let test = open(Client::connect("nsp://unused:1").credentials(Hears(seen.clone()))).await;
    assert_eq!(test.call::<String>("Ask", &()).await.unwrap(), "secret");
    assert_eq!(test.call::<String>("AskPassword", &()).await.unwrap(), "declined");
    test.call::<()>("Tell", &()).await.unwrap();
    assert_eq!(
        seen.all(),
        ["asked for the token of Some(\"ann\")", "TokenFailed Some(\"Test\") Some(\"ann\")"]
    );

    let login = Login::new("ann").token("tok").password("pass");
    let test = open(Client::connect("nsp://unused:1").credentials(login)).await;
    assert_eq!(test.call::<String>("Ask", &()).await.unwrap(), "tok");
    assert_eq!(test.call::<String>("AskPassword", &()).await.unwrap(), "pass");
    let somebody_else = Login::new("bob").token("tok");
    let test = open(Client::connect("nsp://unused:1").credentials(somebody_else)).await;
    assert_eq!(test.call::<String>("Ask", &()).await.unwrap(), "declined");

    let ask = Ask::new(async |question, user: Option<String>| {
        tokio::task::yield_now().await;
        (question == Question::Password).then(|| Proof::new(user.unwrap()))
    });
    let test = open(Client::connect("nsp://unused:1").credentials(ask)).await;
    assert_eq!(test.call::<String>("AskPassword", &()).await.unwrap(), "ann");
    assert_eq!(test.call::<String>("Ask", &()).await.unwrap(), "declined");
}

/// Counts what passes.
#[derive(Debug)]
struct Counted {
    inner: Box<dyn Carrier>,
    sent: Arc<AtomicUsize>,
    flushes: Arc<AtomicUsize>,
    largest: usize,
}

impl Carrier for Counted {
    fn kind(&self) -> CarrierKind {
        self.inner.kind()
    }
    fn peer(&self) -> &Who {
        self.inner.peer()
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
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.inner.start_send(message)
    }
    fn queued(&self) -> usize {
        self.inner.queued()
    }
    fn largest_send(&self) -> usize {
        self.largest
    }
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierEnd>> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.inner.poll_flush(cx)
    }
    fn poll_close(&mut self, cx: &mut Context<'_>, reason: &Farewell) -> Poll<()> {
        self.inner.poll_close(cx, reason)
    }
}

#[tokio::test]
async fn many_calls_in_one_turn_cost_one_flush() {
    let (inner, _) = in_memory(daemon::Config::default());
    let (sent, flushes) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let carrier = Counted { inner, sent: Arc::clone(&sent), flushes: Arc::clone(&flushes), largest: 10_000 };
    let client = Client::over(Box::new(carrier));
    let test = client.activity("Test").open().await.unwrap();
    sent.store(0, Ordering::Relaxed);
    flushes.store(0, Ordering::Relaxed);
    let calls = (0..64).map(|n| test.call::<u8>("Echo", if n < 0 { &0 } else { &1 }));
    futures_util::future::join_all(calls).await;
    let (sent, flushes) = (sent.load(Ordering::Relaxed), flushes.load(Ordering::Relaxed));
    assert_eq!(sent, 64);
    assert!(flushes <= 3, "{flushes} flushes");

    let error = test.call_blob("Any", vec![0; 10_000], &()).await.unwrap_err();
    assert!(matches!(error, CallError::Encode(EncodeError::TooLarge { .. })), "{error}");
    assert!(!error.may_be_done());
}

#[tokio::test]
async fn methods_of_the_users_own_travel_both_ways() {
    use futures_util::StreamExt as _;

    let method = Method::Custom(CustomMethod::new("WX").unwrap());
    let rule = Rule { method, asker: Asker::Either, request: Form::Bare, answer: Form::Bare };
    let methods = Methods::default().with(rule);
    let mut config = daemon::Config::default();
    config.methods = methods.clone();
    let (carrier, _) = in_memory(config);
    let client = Client::connect("nsp://unused:1").methods(methods).over(carrier);
    let mut packets = client.packets();
    let packet = Packet::new(method, Leg::Request, bytes::Bytes::from_static(b"1"));
    client.send_packet(packet.clone()).await.unwrap();
    assert_eq!(packets.next().await, Some(packet));
    client.close().await;
    assert_eq!(packets.next().await, None);
}

#[tokio::test]
async fn large_calls_side_by_side_are_all_answered() {
    // More than both directions hold: who waits to write has to read all the same.
    let (carrier, _) = in_memory(daemon::Config::default());
    let test = Client::over(carrier).activity("Test").open().await.unwrap();
    let test = test.within(Duration::from_secs(2));
    let call = async |n: u8| test.call_blob("Any", vec![n; 1 << 20], &n).await;
    let calls = (0..4).map(call);
    for (n, answer) in (0..).zip(futures_util::future::join_all(calls).await) {
        assert_eq!(answer.unwrap().1.to::<u8>().unwrap(), n);
    }
}

/// Counts prompts that are open.
struct Prompts(Arc<AtomicUsize>);

struct Prompt(Arc<AtomicUsize>);

impl Drop for Prompt {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Credentials for Prompts {
    fn token<'a>(&'a self, _: Option<&'a str>) -> Answer<'a, Option<Token>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let prompt = Prompt(Arc::clone(&self.0));
        Answer::later(async move {
            let _open = prompt;
            std::future::pending().await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn prompt_that_nobody_answers_is_closed_with_its_question() {
    let open = Arc::<AtomicUsize>::default();
    let (carrier, _) = in_memory(daemon::Config::default());
    let client = Client::connect("nsp://unused:1").credentials(Prompts(Arc::clone(&open))).over(carrier);
    let test = client.activity("Test").owner("ann").open().await.unwrap();
    let test = test.within(Duration::from_secs(1000));
    for _ in 0..3 {
        let answer: String = test.call("Ask", &()).await.unwrap();
        assert_eq!(answer, "declined");
        assert_eq!(open.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn sends_wait_for_those_that_were_given_up_to_be_acknowledged() {
    let (carrier, _) = in_memory(daemon::Config::default());
    let held = Arc::<AtomicUsize>::default();
    let carrier = Held { inner: carrier, held: Arc::clone(&held), kept: Vec::new() };
    let mut limits = machine::Limits::default();
    limits.calls = 3;
    let client = Client::connect("nsp://unused:1").most(limits).over(Box::new(carrier));
    let test = client.activity("Test").open().await.unwrap();
    test.send(&0).await.unwrap();

    held.store(1, Ordering::Relaxed);
    for n in 0..3 {
        let error = test.within(Duration::from_secs(1)).send(&n).await.unwrap_err();
        assert!(matches!(error, CallError::Timeout(_)), "{error}");
    }
    // None has been acknowledged: the next one waits, and no longer than it may.
    let start = Instant::now();
    let error = test.within(Duration::from_secs(2)).send(&3).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout(after) if after.as_secs() == 2), "{error}");
    assert_eq!(start.elapsed().as_secs(), 2);
    assert_eq!(test.call::<u8>("Echo", &4).await.unwrap(), 4, "calls have ids, and need not wait");

    let waiting = tokio::spawn({
        let test = test.clone();
        async move { test.send(&5).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    held.store(0, Ordering::Relaxed);
    assert_eq!(test.call::<u8>("Echo", &6).await.unwrap(), 6);
    waiting.await.unwrap().unwrap();
}

/// Keeps acknowledgements of sends back for a while.
#[derive(Debug)]
struct Held {
    inner: Box<dyn Carrier>,
    held: Arc<AtomicUsize>,
    kept: Vec<Incoming>,
}

impl Carrier for Held {
    fn kind(&self) -> CarrierKind {
        self.inner.kind()
    }
    fn peer(&self) -> &Who {
        self.inner.peer()
    }
    fn is_confidential(&self) -> bool {
        self.inner.is_confidential()
    }
    fn limit_message(&mut self, bytes: usize) {
        self.inner.limit_message(bytes);
    }
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, CarrierEnd>> {
        let held = self.held.load(Ordering::Relaxed) > 0;
        if !held && !self.kept.is_empty() {
            return Poll::Ready(Ok(self.kept.remove(0)));
        }
        loop {
            let incoming = std::task::ready!(self.inner.poll_receive(cx))?;
            let is_sent = matches!(&incoming, Incoming::Packet(packet) if packet.payload.json.windows(4).any(|at| at == b"\"SS\""));
            if !(held && is_sent) {
                return Poll::Ready(Ok(incoming));
            }
            self.kept.push(incoming);
        }
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
