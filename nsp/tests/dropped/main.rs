//! Every public future of the client, of the daemon and of the carriers, polled so many times and then dropped, before and after what it waits
//! for has happened: nothing is lost, nothing comes twice, no answer goes to the next one, and what it held is free again.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[allow(dead_code, reason = "made for the stories of the daemon")]
#[path = "../daemon/book.rs"]
mod book;
mod carriers;
mod client;
mod daemon;
#[path = "../../../nossock/tests/common/dropping.rs"]
mod dropping;
#[allow(dead_code, reason = "made for the stories of the daemon")]
#[path = "../daemon/wire.rs"]
mod wire;
mod world;

use dropping::Covered;

/// Polls of one future; each of the operations below is over after fewer.
const POLLS: usize = 8;

const COVERED: &[Covered] = &[
    ("authority::Anonymous::judge_password", "what_is_known_at_once_is_there_at_the_first_poll"),
    ("authority::Anonymous::judge_token", "what_is_known_at_once_is_there_at_the_first_poll"),
    ("authority::Anonymous::privilege", "what_is_known_at_once_is_there_at_the_first_poll"),
    ("authority::Anonymous::sign_in", "what_is_known_at_once_is_there_at_the_first_poll"),
    ("carrier::connect::connect", "connecting_that_is_dropped_leaves_no_connection_behind"),
    ("carrier::listen::Arriving::handshake", "handshakes_that_are_dropped_drop_the_connection"),
    ("carrier::listen::Arriving::speaks", "accepting_that_is_dropped_loses_no_connection"),
    ("carrier::listen::Listener::accept", "accepting_that_is_dropped_loses_no_connection"),
    ("carrier::listen::Listener::bind", "listening_that_is_dropped_leaves_the_address_free"),
    ("client::Client::close", "opening_and_closing_that_are_dropped_leave_nothing_open"),
    ("client::Client::send_packet", "packets_that_are_dropped_are_sent_once_or_not_at_all_and_in_order"),
    ("client::Client::token", "tokens_go_to_who_asked_though_the_one_before_has_gone"),
    ("client::Packets", "packets_that_are_dropped_are_sent_once_or_not_at_all_and_in_order"),
    (
        "client::activity::Activity::call",
        "calls_that_are_dropped_free_their_places_and_leave_no_answer_to_others",
    ),
    (
        "client::activity::Activity::call_blob",
        "calls_that_are_dropped_free_their_places_and_leave_no_answer_to_others",
    ),
    (
        "client::activity::Activity::call_raw",
        "calls_that_are_dropped_free_their_places_and_leave_no_answer_to_others",
    ),
    ("client::activity::Activity::close", "opening_and_closing_that_are_dropped_leave_nothing_open"),
    ("client::activity::Activity::send", "sends_that_are_dropped_are_sent_once_or_not_at_all_and_in_order"),
    (
        "client::activity::Activity::send_blob",
        "sends_that_are_dropped_are_sent_once_or_not_at_all_and_in_order",
    ),
    ("client::activity::Opening::open", "opening_and_closing_that_are_dropped_leave_nothing_open"),
    ("client::connector::Connector::connect", "connecting_that_is_dropped_leaves_no_connection_behind"),
    ("client::credentials::Ask::password", "questions_that_are_dropped_are_asked_anew"),
    ("client::credentials::Ask::token", "questions_that_are_dropped_are_asked_anew"),
    ("client::credentials::Login::password", "what_is_known_at_once_is_there_at_the_first_poll"),
    ("client::credentials::Login::token", "what_is_known_at_once_is_there_at_the_first_poll"),
    ("client::stream::$name", "listening_that_is_dropped_loses_no_event"),
    ("client::trust::F::confirm", "judging_that_is_dropped_leaves_the_file_whole"),
    ("client::trust::Trust::judge", "judging_that_is_dropped_leaves_the_file_whole"),
    ("daemon::builder::Daemon::serve", "serving_that_is_dropped_leaves_those_who_are_there"),
    ("daemon::builder::Daemon::serve_until", "serving_that_is_dropped_leaves_those_who_are_there"),
    ("daemon::builder::DaemonBuilder::bind", "binding_and_serving_that_are_dropped_leave_nobody_at_the_door"),
    (
        "daemon::builder::DaemonBuilder::serve_until",
        "binding_and_serving_that_are_dropped_leave_nobody_at_the_door",
    ),
    ("daemon::call::in_this_call", "future_that_goes_on_with_a_call_is_dropped_with_it"),
    ("daemon::emit::Audience::emit", "emitting_that_is_dropped_reaches_everybody_once_or_not_at_all"),
    ("daemon::emit::Audience::emit_blob", "emitting_that_is_dropped_reaches_everybody_once_or_not_at_all"),
    ("daemon::emit::Audience::send", "emitting_that_is_dropped_reaches_everybody_once_or_not_at_all"),
    ("daemon::emit::Audience::send_blob", "emitting_that_is_dropped_reaches_everybody_once_or_not_at_all"),
    ("daemon::entity::Entity::emit", "emitting_that_is_dropped_reaches_everybody_once_or_not_at_all"),
    ("daemon::entity::Entity::send", "emitting_that_is_dropped_reaches_everybody_once_or_not_at_all"),
    ("daemon::proof::Entity::prove", "proof_that_is_given_up_is_asked_for_again"),
];

#[test]
fn no_public_future_is_left_out() {
    let files = [include_str!("client.rs"), include_str!("daemon.rs"), include_str!("carriers.rs")];
    dropping::assert_all_are_dropped(env!("CARGO_MANIFEST_DIR"), COVERED, &files);
}
