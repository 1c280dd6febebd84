//! What a client gives: calls, data, tokens, packets, streams, and trust.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use nsp::authority::{Anonymous, Authority as _, Origin};
use nsp::client::{
    Activity, Ask, CallError, Client, ClientState, Confirm, Credentials, Happening, KeyKind, KnownHosts,
    Login, Offered, Trust,
};
use nsp::daemon::{Daemon, Emitter, Limits, Listen};
use nsp::machine::SpMode;
use nsp::proto::{Leg, Packet, RawJson};
use nsp::secure::{Fingerprint, ServerKey};
use nsp::{Password, Token};

use crate::POLLS;
use crate::dropping::{drop_after, drops, settle};
use crate::world::{echo, world};

async fn calls(call: impl AsyncFn(&Activity, u64) -> Result<(), CallError>) {
    let world = world(Limits::default()).await;
    let client = world.client();
    let activity = client.activity("Test").open().await.unwrap();
    let (mut n, mut dropped, mut ended) = (0, 0, 0);
    for drop in drops(POLLS) {
        for busy in [false, true] {
            // Two others take all there is, so that the third waits for room.
            let others: Vec<_> = (0..if busy { 2 } else { 0 })
                .map(|other| {
                    let (activity, n) = (activity.clone(), 1_000_000 + 10 * n + other);
                    tokio::spawn(
                        async move { assert_eq!(activity.call::<u64>("slow", &n).await.unwrap(), n) },
                    )
                })
                .collect();
            settle().await;
            n += 1;
            match drop_after(call(&activity, n), drop, settle).await {
                Some(result) => {
                    result.unwrap();
                    assert_eq!(world.done.lock().unwrap().get(&n), Some(&1), "{drop:?}");
                    ended += 1;
                }
                None => dropped += 1,
            }
            // The next one has its own answer, late as the other's may be, and both places are free.
            n += 1;
            assert_eq!(activity.call::<u64>("slow", &n).await.unwrap(), n, "{drop:?}");
            for other in others {
                other.await.unwrap();
            }
            let (one, two) =
                tokio::join!(activity.call::<bool>("meet", &()), activity.call::<bool>("meet", &()));
            assert!(one.unwrap() && two.unwrap(), "{drop:?}");
        }
    }
    assert!(world.done.lock().unwrap().values().all(|times| *times == 1), "nothing is done twice");
    assert!(dropped > 0 && ended > 0, "{dropped} were dropped, {ended} ended");
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_dropped_free_their_places_and_leave_no_answer_to_others() {
    calls(async |activity, n| {
        assert_eq!(activity.call::<u64>("slow", &n).await?, n);
        Ok(())
    })
    .await;
    calls(async |activity, n| activity.call_raw("slow", RawJson::of(&n).unwrap()).await.map(drop)).await;
    calls(async |activity, n| {
        let (blob, meta) = activity.call_blob("blob", n.to_string(), &n).await?;
        assert_eq!((blob.into_blob().unwrap(), meta.to::<u64>().unwrap()), (Bytes::from(n.to_string()), n));
        Ok(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn sends_that_are_dropped_are_sent_once_or_not_at_all_and_in_order() {
    let world = world(Limits::default()).await;
    let client = world.client();
    let activity = client.activity("Test").open().await.unwrap();
    let (mut dropped, mut sent) = (0, Vec::new());
    for (n, drop) in drops(POLLS).enumerate() {
        let n = n as u64 * 2;
        match drop_after(activity.send(&n), drop, settle).await {
            Some(result) => sent.push(result.map(|()| n).unwrap()),
            None => dropped += 1,
        }
        // What was given up keeps its place until it is acknowledged, and counts so long.
        settle().await;
        let _ = drop_after(activity.send_blob(&b"no number"[..]), drop, settle).await;
        settle().await;
        activity.send(&(n + 1)).await.unwrap();
        sent.push(n + 1);
    }
    settle().await;
    let done = world.done.lock().unwrap();
    assert!(sent.iter().all(|n| done.get(n) == Some(&1)) && done.values().all(|times| *times == 1));
    assert!(dropped > 0 && sent.len() > POLLS * 2, "{dropped} {}", sent.len());
}

#[tokio::test(start_paused = true)]
async fn tokens_go_to_who_asked_though_the_one_before_has_gone() {
    let world = world(Limits::default()).await;
    let client = world.client();
    let _kept = client.activity("Test").open().await.unwrap();
    let mut dropped = 0;
    for drop in drops(POLLS) {
        dropped +=
            u32::from(drop_after(client.token("ann", "password of ann"), drop, settle).await.is_none());
        let bobs = client.token("bob", "password of bob").await.unwrap();
        assert_eq!(bobs.reveal(), "token of bob", "{drop:?}");
    }
    assert!(dropped > 0);
}

#[tokio::test(start_paused = true)]
async fn opening_and_closing_that_are_dropped_leave_nothing_open() {
    let world = world(Limits::default()).await;
    let mut dropped = 0;
    for drop in drops(POLLS) {
        let client = world.client();
        let opened = drop_after(client.activity("Test").open(), drop, settle).await;
        dropped += u32::from(opened.is_none());
        std::mem::drop(opened);
        settle().await;
        settle().await;
        assert_eq!(world.handle.stats().entities, 0, "{drop:?}");
        // The client is as it was.
        let activity = client.activity("Test").open().await.unwrap();
        assert_eq!(world.handle.stats().entities, 1);
        let _ = drop_after(activity.close(), drop, settle).await;
        settle().await;
        assert_eq!(world.handle.stats().entities, 0, "it closes all the same");
        let mut state = client.state();
        let _ = drop_after(client.close(), drop, settle).await;
        state.wait_for(|state| matches!(state, ClientState::Closed { .. })).await.unwrap();
        settle().await;
        assert_eq!(world.handle.stats().connections, 0, "{drop:?}");
    }
    assert!(dropped > 0);
}

#[tokio::test(start_paused = true)]
async fn packets_that_are_dropped_are_sent_once_or_not_at_all_and_in_order() {
    let world = world(Limits::default()).await;
    let number = |packet: &Packet| std::str::from_utf8(&packet.payload.json).unwrap().parse().unwrap();
    let (mut n, mut dropped) = (0_u64, 0);
    for drop in drops(POLLS) {
        // A new one has no connection at first, so that it has to be waited for.
        let client = world.client();
        let mut packets = client.packets();
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            n += 1;
            let packet = Packet::new(echo(), Leg::Request, Bytes::from(n.to_string()));
            match drop_after(client.send_packet(packet), drop, settle).await {
                Some(result) => sent.push(result.map(|()| n).unwrap()),
                None => dropped += 1,
            }
            got.extend(drop_after(packets.next(), drop, settle).await.map(|packet| number(&packet.unwrap())));
        }
        n += 1;
        let last = Packet::new(echo(), Leg::Request, Bytes::from(n.to_string()));
        client.send_packet(last).await.unwrap();
        sent.push(n);
        while got.last() != Some(&n) {
            got.push(number(&packets.next().await.unwrap()));
        }
        assert_eq!(got, sent, "{drop:?}");
        client.close().await;
    }
    assert!(world.done.lock().unwrap().values().all(|times| *times == 1), "nothing is done twice");
    assert!(dropped > 0);
}

/// Reads a stream, dropping the futures of its next messages.
async fn listening<S, T>(
    open: impl Fn(&Activity) -> S,
    emit: impl AsyncFn(&Emitter, u64),
    number: impl Fn(T) -> u64,
) where
    S: Stream<Item = T> + Unpin,
{
    let world = world(Limits::default()).await;
    let client = world.client();
    let activity = client.activity("Test").open().await.unwrap();
    let mut stream = open(&activity);
    let (mut next, mut got) = (0, Vec::new());
    for drop in drops(POLLS) {
        for _ in 0..3 {
            let come = async || {
                if next % 2 == 0 {
                    settle().await; // nothing comes yet
                }
                emit(&world.emitter, next).await;
                next += 1;
                settle().await;
            };
            got.extend(drop_after(stream.next(), drop, come).await.map(|item| number(item.unwrap())));
        }
    }
    client.close().await;
    while let Some(item) = stream.next().await {
        got.push(number(item));
    }
    assert_eq!(got, (0..next).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn listening_that_is_dropped_loses_no_event() {
    let event =
        async |emitter: &Emitter, n| assert_eq!(emitter.to_all().emit("e", &n).await.unwrap().sent, 1);
    listening(|activity| activity.events::<u64>("e"), event, Result::unwrap).await;
    let happened = |happening| match happening {
        Ok(Happening::Event { data, .. }) => data.into_json().unwrap().to().unwrap(),
        other => panic!("{other:?}"),
    };
    listening(Activity::happenings, event, happened).await;
    let data = async |emitter: &Emitter, n| assert_eq!(emitter.to_all().send(&n).await.unwrap().sent, 1);
    listening(Activity::data::<u64>, data, Result::unwrap).await;
    let blob = async |emitter: &Emitter, n| {
        assert_eq!(emitter.to_all().emit_blob("b", "blob", &n).await.unwrap().sent, 1);
    };
    let meta = |event: Result<nsp::client::BlobEvent, _>| event.unwrap().meta.to().unwrap();
    listening(|activity| activity.blob_events("b"), blob, meta).await;
}

#[tokio::test(start_paused = true)]
async fn questions_that_are_dropped_are_asked_anew() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let ask = Ask::new(move |_, user: Option<String>| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            settle().await;
            user.map(|user| format!("secret of {user}").into())
        }
    });
    let mut times = 0;
    for drop in drops(3) {
        let token = drop_after(ask.token(Some("ann")), drop, settle).await;
        assert!(token.is_none_or(|token| token.unwrap() == Token::new("secret of ann")));
        let password = drop_after(ask.password(Some("ann")), drop, settle).await;
        assert!(password.is_none_or(|password| password.unwrap() == Password::new("secret of ann")));
        assert_eq!(ask.token(Some("bob")).await.unwrap(), Token::new("secret of bob"));
        times += 3;
        assert_eq!(asked.load(Ordering::Relaxed), times, "each is asked once, and answered for itself");
    }
}

#[tokio::test]
async fn what_is_known_at_once_is_there_at_the_first_poll() {
    let at_once = drops(1).next().unwrap();
    let never = async || panic!("it waits");
    let (token, password) = (Token::new("t"), Password::new("p"));
    let login: &dyn Credentials = &Login::new("ann").token(token.clone()).password(password.clone());
    assert_eq!(drop_after(login.token(Some("ann")), at_once, never).await, Some(Some(token.clone())));
    assert_eq!(drop_after(login.password(Some("bob")), at_once, never).await, Some(None));
    let origin = Origin::default();
    assert!(drop_after(Anonymous.sign_in("ann", None, origin), at_once, never).await.is_some());
    assert!(drop_after(Anonymous.judge_token("ann", &token, origin), at_once, never).await.is_some());
    assert!(drop_after(Anonymous.judge_password("ann", &password, origin), at_once, never).await.is_some());
    assert!(drop_after(Anonymous.privilege("ann"), at_once, never).await.is_some());
}

/// What a daemon offers that nobody knows yet.
async fn offered() -> Offered {
    let key = Arc::new(ServerKey::generate().unwrap());
    let daemon =
        Daemon::builder().listen(Listen::on("noservice://127.0.0.1:0").sp(key)).bind().await.unwrap();
    let address = daemon.addresses()[0].to_string();
    let serving = tokio::spawn(daemon.serve());
    let seen = Arc::new(std::sync::Mutex::new(None));
    let see = Arc::clone(&seen);
    let folder = tempfile::tempdir().unwrap();
    let trust = Trust::ask(KnownHosts::open(folder.path().join("known")), move |offered: Offered| {
        *see.lock().unwrap() = Some(offered);
        std::future::ready(false)
    });
    let connector = Client::connect(address).sp(SpMode::Required).trust(trust).no_reconnect();
    connector.connect().await.unwrap_err();
    serving.abort();
    seen.lock().unwrap().take().unwrap()
}

#[tokio::test]
async fn judging_that_is_dropped_leaves_the_file_whole() {
    let offered = offered().await;
    let mut dropped = 0;
    for drop in drops(POLLS) {
        for is_asked in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let hosts = KnownHosts::open(folder.path().join("known"));
            hosts.add("other.example.org:1", KeyKind::Rsa, Fingerprint::from_sha256([7; 32])).unwrap();
            let confirm = |_: Offered| async {
                settle().await;
                true
            };
            let trust = match is_asked {
                true => Trust::ask(hosts.clone(), confirm),
                false => Trust::accept_new(hosts.clone()),
            };
            let judged = drop_after(trust.judge(offered.clone()), drop, settle).await;
            dropped += u32::from(judged.is_none());
            assert!(judged.is_none_or(|judged| judged.is_ok()));
            // What was under way is done elsewhere, wholly or not at all.
            let before = hosts.entries().unwrap().len();
            assert!((1..=2).contains(&before), "{before} {drop:?}");
            trust.judge(offered.clone()).await.unwrap();
            Trust::strict(hosts.clone()).judge(offered.clone()).await.unwrap();
            assert_eq!(hosts.entries().unwrap().len(), 2, "{drop:?}");
            assert!(drop_after(confirm.confirm(&offered), drop, settle).await.is_none_or(|is_it| is_it));
        }
    }
    assert!(dropped > 0);
}
