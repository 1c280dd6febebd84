//! Every public future, polled so many times and then dropped, before and after what it waits for has happened: nothing is lost,
//! nothing comes twice, and what it held is free again.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[path = "../common/certs.rs"]
mod certs;
mod connecting;
#[path = "../common/dropping.rs"]
mod dropping;
mod serving;
mod socket;

use dropping::Covered;

/// Polls of one future; each of the operations below is over after fewer.
const POLLS: usize = 10;

const COVERED: &[Covered] = &[
    ("client::Client::close", "futures_of_a_client_that_are_dropped_leave_it_as_it_was"),
    ("client::Client::request", "futures_of_a_client_that_are_dropped_leave_it_as_it_was"),
    ("client::Client::send", "futures_of_a_client_that_are_dropped_leave_it_as_it_was"),
    ("client::Client::send_raw", "futures_of_a_client_that_are_dropped_leave_it_as_it_was"),
    ("client::Client::socket", "futures_of_a_client_that_are_dropped_leave_it_as_it_was"),
    ("connect::Connector::connect", "connecting_that_is_dropped_leaves_no_connection_behind"),
    ("connect::Connector::connect_over", "connecting_that_is_dropped_leaves_no_connection_behind"),
    ("connect::Connector::connect_routed", "connecting_that_is_dropped_leaves_no_connection_behind"),
    ("connect::Connector::connect_routed_over", "connecting_that_is_dropped_leaves_no_connection_behind"),
    ("connect::connect", "connecting_that_is_dropped_leaves_no_connection_behind"),
    (
        "introduction::exchange::Exchange::receive",
        "receiving_that_is_dropped_in_an_introduction_loses_nothing",
    ),
    ("introduction::exchange::Exchange::send", "sending_that_is_dropped_in_an_introduction_ends_it"),
    ("server::Server::serve", "serving_that_is_dropped_cuts_its_connections"),
    ("server::Server::serve_until", "serving_that_is_dropped_cuts_its_connections"),
    ("server::ServerBuilder::listen", "listening_that_is_dropped_leaves_the_address_free"),
    ("server::ServerBuilder::serve_until", "serving_that_is_dropped_cuts_its_connections"),
    ("socket::receive::Messages", "receiving_that_is_dropped_loses_nothing"),
    ("socket::receive::Socket::recv", "receiving_that_is_dropped_loses_nothing"),
    ("socket::request::Socket::request", "requests_that_are_dropped_free_their_slots_on_both_sides"),
    ("socket::request::Socket::request_raw", "requests_that_are_dropped_free_their_slots_on_both_sides"),
    ("socket::request::Socket::request_within", "requests_that_are_dropped_free_their_slots_on_both_sides"),
    ("socket::send::Socket::close", "closing_goes_on_when_nobody_waits_for_it"),
    ("socket::send::Socket::closed", "closing_goes_on_when_nobody_waits_for_it"),
    ("socket::send::Socket::flush", "sends_that_are_dropped_send_nothing_and_others_everything"),
    ("socket::send::Socket::reserve", "sends_that_are_dropped_send_nothing_and_others_everything"),
    ("socket::send::Socket::send", "sends_that_are_dropped_send_nothing_and_others_everything"),
    ("socket::send::Socket::send_encoded", "sends_that_are_dropped_send_nothing_and_others_everything"),
    ("socket::send::Socket::send_raw", "sends_that_are_dropped_send_nothing_and_others_everything"),
    ("transport::tcp::connect", "connecting_that_is_dropped_leaves_no_connection_behind"),
    ("transport::tcp::listen", "listening_that_is_dropped_leaves_the_address_free"),
    ("transport::tls::client::ClientTls::connect", "handshakes_that_are_dropped_drop_the_connection"),
    ("transport::tls::client::ClientTls::connect_over", "handshakes_that_are_dropped_drop_the_connection"),
    ("transport::tls::server::ServerTls::accept", "handshakes_that_are_dropped_drop_the_connection"),
    ("transport::unix::Listener::accept", "accepting_that_is_dropped_loses_no_connection"),
    ("transport::unix::connect", "connecting_that_is_dropped_leaves_no_connection_behind"),
];

#[test]
fn no_public_future_is_left_out() {
    let files = [include_str!("socket.rs"), include_str!("connecting.rs"), include_str!("serving.rs")];
    dropping::assert_all_are_dropped(env!("CARGO_MANIFEST_DIR"), COVERED, &files);
}
