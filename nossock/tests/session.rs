//! Two sessions and a model: requests, answers, cancels, deadlines and closes, in any order.

#[path = "../../fuzz/src/nossock/session.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the fuzz target of the same name")]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "the model fails by panicking")]
mod model;

use proptest::prelude::*;

use model::{How, Step};

fn any_step() -> impl Strategy<Value = Step> {
    let side = || 0_usize..2;
    let how = prop_oneof![Just(How::Value), Just(How::Error), Just(How::Raw), Just(How::Garbage)];
    prop_oneof![
        6 => (side(), any::<u8>(), any::<bool>())
            .prop_map(|(side, millis, stamped)| Step::Ask { side, millis, stamped }),
        2 => side().prop_map(|side| Step::Say { side }),
        6 => (side(), any::<u8>(), how, any::<bool>())
            .prop_map(|(side, which, how, keep)| Step::Reply { side, which, how, keep }),
        1 => (side(), any::<u8>()).prop_map(|(side, id)| Step::Invent { side, id }),
        2 => (side(), any::<u8>()).prop_map(|(side, which)| Step::Cancel { side, which }),
        5 => (side(), any::<u8>()).prop_map(|(side, which)| Step::Poll { side, which }),
        8 => (side(), any::<u8>()).prop_map(|(side, bytes)| Step::Write { side, bytes }),
        1 => (side(), any::<u8>()).prop_map(|(side, number)| Step::Control { side, number }),
        2 => (0_u8..80).prop_map(|millis| Step::Wait { millis }),
    ]
}

/// How a conversation ends, if it does.
fn any_end() -> impl Strategy<Value = Step> {
    let side = || 0_usize..2;
    prop_oneof![
        side().prop_map(|side| Step::Close { side }),
        side().prop_map(|side| Step::Flush { side }),
        side().prop_map(|side| Step::Cut { side }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_request_ends_exactly_once_and_ids_never_cross(
        mut steps in proptest::collection::vec(any_step(), 0..120),
        ends in proptest::collection::vec((any_end(), any::<prop::sample::Index>()), 0..3),
    ) {
        for (end, at) in ends {
            let at = at.index(steps.len() + 1);
            steps.insert(at, end);
        }
        model::check(&steps);
    }
}
