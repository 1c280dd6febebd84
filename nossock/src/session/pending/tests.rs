//! Slots and ids, without a session around them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::collections::HashSet;
use std::time::Duration;

use super::*;

fn reply() -> Answer {
    Answer::Reply(Reply(Ok(Outcome::Raw(bytes::Bytes::new()))))
}

#[test]
fn late_reply_does_not_reach_the_next_request_in_the_slot() {
    let now = Instant::now();
    let mut pending = Pending::<u32>::default();
    let first = pending.insert(Due::At(now), None).unwrap();
    let text = first.text();
    assert!(pending.abandon(first));
    let second = pending.insert(Due::At(now), None).unwrap();
    assert_eq!(first.index(), second.index());
    assert_eq!(pending.waits(text.as_str().as_bytes()), None);
    assert_eq!(pending.waits(second.text().as_str().as_bytes()), Some(second));
    pending.finish(second, reply());
    assert_eq!(
        pending.waits(second.text().as_str().as_bytes()),
        None,
        "the second answer to one request is dropped"
    );
    assert!(matches!(pending.poll(second, |_| 1), Some(Answer::Reply(_))));
    assert!(pending.is_empty());
}

#[test]
fn deadline_ends_only_what_is_due() {
    let start = Instant::now();
    let at = |secs| start + Duration::from_secs(secs);
    let mut pending = Pending::<u32>::default();
    let early = pending.insert(Due::At(at(1)), None).unwrap();
    let late = pending.insert(Due::At(at(5)), None).unwrap();
    assert!(pending.poll(early, |_| 1).is_none());
    assert!(pending.poll(late, |_| 2).is_none());
    assert!(pending.expire(at(0), |_| panic!("nothing is due")).is_empty());
    let mut ended = Vec::new();
    assert_eq!(pending.expire(at(1), |id| ended.push(id)), [1]);
    assert_eq!(ended, [early]);
    assert!(matches!(pending.poll(early, |_| 1), Some(Answer::TimedOut)));
    assert_eq!(pending.next_deadline(), Some(at(5)));
    assert_eq!(pending.close(), [2]);
    assert!(matches!(pending.poll(late, |_| 1), Some(Answer::Closed)));
    assert!(pending.is_empty());
}

#[test]
fn time_of_a_request_runs_from_its_stamp() {
    let start = Instant::now();
    let mut pending = Pending::<u32>::default();
    let id = pending.insert(Due::After(Duration::from_secs(5)), Some(7)).unwrap();
    assert!(pending.wants_stamp() && pending.next_deadline().is_none());
    pending.stamp(start);
    assert_eq!(pending.next_deadline(), Some(start + Duration::from_secs(5)));
    assert_eq!(pending.expire(start + Duration::from_secs(5), |_| {}), [7]);
    assert!(matches!(pending.poll(id, |_| 1), Some(Answer::TimedOut)));
}

#[test]
fn ids_are_words_and_come_back() {
    let mut pending = Pending::<u32>::default();
    for _ in 0..if cfg!(miri) { 500 } else { 70_000 } {
        let id = pending.insert(Due::After(Duration::ZERO), None).unwrap();
        let text = id.text();
        assert!(text.as_str().bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!(RequestId::parse(text.as_str().as_bytes()), Some(id));
        pending.abandon(id);
        pending.stamp(Instant::now());
    }
    for odd in ["", "-1", "xyz", "fffffffffffffffff", "_"] {
        assert_eq!(pending.waits(odd.as_bytes()), None, "{odd}");
    }
}

/// The first slot whose ids are of the long form.
const LONG: usize = 128;

fn due() -> Due {
    Due::After(Duration::ZERO)
}

fn text(id: RequestId) -> String {
    id.text().as_str().to_owned()
}

#[test]
fn late_answers_find_nobody_on_either_side_of_the_two_forms_of_ids() {
    let mut pending = Pending::<u32>::default();
    let mut ever = HashSet::new();
    let mut old: Vec<RequestId> = Vec::new();
    for round in 0..4 {
        let now: Vec<_> = (0..LONG + 3).map(|_| pending.insert(due(), None).unwrap()).collect();
        for id in &now {
            assert!(ever.insert(text(*id)), "{} is given twice", text(*id));
            assert_eq!(usize::from(id.index()) >= LONG, id.0 & 1 == 1, "{id:?}");
        }
        for late in &old {
            let name = format!("resp:name:{}", text(*late));
            assert_eq!(pending.waits(text(*late).as_bytes()), None, "{late:?}");
            assert_eq!(pending.waits_for(name.as_bytes()), None, "{late:?}");
            assert_eq!(pending.finish(*late, reply()), None);
            assert!(pending.finish_short(*late, b"1").is_none());
            assert!(pending.poll(*late, |_| 1).is_none() && !pending.abandon(*late));
        }
        assert_eq!(pending.len(), now.len(), "nobody's slot was freed by that");
        for (n, id) in now.iter().enumerate() {
            assert_eq!(pending.waits_for(format!("resp:name:{}", text(*id)).as_bytes()), Some(*id));
            match (n + round) % 3 {
                0 => assert!(pending.abandon(*id)),
                1 => {
                    assert!(pending.finish_short(*id, b"7").is_some());
                    assert!(pending.poll(*id, |_| 1).is_some());
                }
                _ => {
                    pending.finish(*id, reply());
                    assert!(pending.poll(*id, |_| 1).is_some());
                }
            }
            // Whoever has got an answer gets no other one.
            assert!(pending.poll(*id, |_| 1).is_none() && !pending.abandon(*id));
        }
        assert!(pending.is_empty());
        old.extend(now);
    }
}

#[test]
fn every_slot_has_ids_of_its_own_and_there_is_an_end_of_slots() {
    let all = if cfg!(miri) { 300 } else { 65_536 };
    let mut pending = Pending::<u32>::default();
    let mut ids = HashSet::new();
    for slot in 0..all {
        let id = pending.insert(due(), None).unwrap();
        assert_eq!(usize::from(id.index()), slot);
        assert!(ids.insert(id.0));
    }
    if all == 65_536 {
        assert!(pending.insert(due(), None).is_none());
    }
}

#[test]
fn ids_go_round_without_leaving_their_slots() {
    for index in [0, 1, 127, 128, 129, 255, 256, 65_535] {
        let first = RequestId::before(index);
        assert_eq!(first.index(), index);
        // The last before the counter begins anew.
        let last = if index < 128 { RequestId(first.0 | !0xff) } else { RequestId(first.0 | !0x1_ffff) };
        assert_eq!((last.index(), last.next().index()), (index, index));
        assert_eq!(last.next(), first, "all other ids of the slot have been before it comes back");
        assert_ne!(first.next(), first);
    }
}

#[test]
fn id_is_written_as_its_hexadecimal_digits() {
    let shifted = (0..64).flat_map(|bits| [1_u64 << bits, (1_u64 << bits) - 1, !0 << bits]);
    for number in shifted.chain([0, 0xdead_beef, 0x0123_4567_89ab_cdef]) {
        let id = RequestId(number);
        assert_eq!(text(id), format!("{number:x}"));
        assert_eq!(RequestId::parse(text(id).as_bytes()), Some(id));
    }
}
