//! Tokens, passwords, and who is asked for them.

use nsp::machine::client::{CallError, Declined, Event, Open, OpenError, RequestError, Secrets};
use nsp::machine::daemon::{self, PushError};
use nsp::machine::{Ignored, Incoming};
use nsp::proto::au::{Notice, Question};
use nsp::proto::gt;
use nsp::{DaemonKey, Password, Proof, Token};

use crate::pair::{Pair, clear_client, seconds};

#[test]
fn question_goes_to_the_client_and_its_answer_to_who_asked() {
    let mut pair = Pair::clear();
    let (activity, entity) = pair.open();
    let asked = pair.daemon.ask(Question::Token, "ann", pair.now).unwrap();
    pair.settle();
    let Event::Question { key, question: Question::Token, user } = pair.client_event() else { panic!() };
    assert_eq!(user.as_deref(), Some("ann"));
    pair.client.answer(key, Some(Proof::new("t0ken")));
    pair.client.answer(key, Some(Proof::new("twice")));
    pair.settle();
    let daemon::Event::Answer { key, value } = pair.daemon_event() else { panic!() };
    assert_eq!((key, value.unwrap().reveal()), (asked, "t0ken"));
    assert!(pair.daemon_events().is_empty());

    pair.daemon.tell(Notice::TokenFailed, &entity).unwrap();
    pair.settle();
    let Event::Notice { notice: Notice::TokenFailed, activity: concerned } = pair.client_event() else {
        panic!()
    };
    assert_eq!(concerned, Some(activity));
}

#[test]
fn answers_of_another_connection_do_not_count() {
    let (mut mine, mut theirs) = (Pair::clear(), Pair::clear());
    mine.open();
    theirs.open();
    mine.daemon.ask(Question::Password, "ann", mine.now).unwrap();
    mine.settle();
    let Event::Question { key, .. } = mine.client_event() else { panic!() };
    mine.client.answer(key, Some(Proof::new("secret")));
    let stolen = mine.client.poll_outgoing().unwrap();
    let stolen = theirs.carry('>', &stolen);
    theirs.daemon.receive(stolen, theirs.now).unwrap();
    assert!(matches!(theirs.daemon_event(), daemon::Event::Ignored(Ignored::Unasked { .. })));
    assert!(mine.daemon_events().is_empty());
}

#[test]
fn question_that_nobody_answers_is_declined_before_the_daemon_gives_up() {
    let mut pair = Pair::clear();
    pair.open();
    pair.daemon.ask(Question::Token, "ann", pair.now).unwrap();
    pair.settle();
    let Event::Question { key, .. } = pair.client_event() else { panic!() };
    pair.pass(clear_client().question_timeout);
    assert!(matches!(pair.client_event(), Event::QuestionExpired { key: expired } if expired == key));
    assert!(matches!(pair.daemon_event(), daemon::Event::Answer { value: None, .. }));
    pair.client.answer(key, Some(Proof::new("late")));
    assert!(pair.client.poll_outgoing().is_none());
}

#[test]
fn daemon_gives_up_a_question_by_itself() {
    let mut pair = Pair::clear();
    pair.open();
    let asked = pair.daemon.ask(Question::Token, "ann", pair.now).unwrap();
    let lost = pair.daemon.poll_outgoing();
    assert!(lost.is_some());
    pair.pass(daemon::Config::default().question_timeout);
    assert!(matches!(pair.daemon_event(), daemon::Event::Answer { key, value: None } if key == asked));
}

#[test]
fn questions_are_limited_on_both_sides() {
    let mut config = clear_client();
    config.limits.questions = 1;
    let mut pair = Pair::new(config, daemon::Config::default());
    pair.open();
    for _ in 0..16 {
        pair.daemon.ask(Question::Token, "ann", pair.now).unwrap();
    }
    let refused = pair.daemon.ask(Question::Token, "ann", pair.now);
    assert_eq!(refused, Err(PushError::TooManyQuestions { limit: 16 }));
    pair.settle();
    let events = pair.client_events();
    assert!(matches!(events[0], Event::Question { .. }));
    let too_many = |event: &&Event| {
        matches!(event, Event::QuestionDeclined { reason: Declined::TooMany, question: Question::Token })
    };
    assert_eq!(events.iter().filter(too_many).count(), 15);
    let declined = pair.daemon_events();
    assert_eq!(declined.len(), 15);
    assert!(declined.iter().all(|event| matches!(event, daemon::Event::Answer { value: None, .. })));
}

#[test]
fn secrets_do_not_go_over_a_connection_in_clear() {
    let mut config = clear_client();
    config.secrets = Secrets::OnlySecured;
    let mut pair = Pair::new(config, daemon::Config::default());
    pair.open();
    let token = pair.client.token("ann", Password::new("hunter2"), seconds(5), pair.now);
    assert_eq!(token, Err(RequestError::WouldLeak));
    let mut open = Open::new("Chat");
    open.key = Some(DaemonKey::new("hunter2"));
    assert_eq!(pair.client.open(open, pair.now), Err(RequestError::WouldLeak));
    pair.daemon.ask(Question::Password, "ann", pair.now).unwrap();
    pair.settle();
    let Event::QuestionDeclined { reason: Declined::WouldLeak, .. } = pair.client_event() else { panic!() };
    assert!(matches!(pair.daemon_event(), daemon::Event::Answer { value: None, .. }));
    assert!(!pair.spoken.iter().any(|message| message.contains("hunter2")));
}

#[test]
fn opening_waits_for_somebody_who_types_a_password() {
    let mut pair = Pair::clear();
    let (_, _, key) = pair.create();
    pair.daemon.ask(Question::Password, "ann", pair.now).unwrap();
    pair.settle();
    let Event::Question { key: question, .. } = pair.client_event() else { panic!() };
    pair.pass(seconds(100));
    assert!(pair.client_events().is_empty());
    pair.client.answer(question, Some(Proof::new("x")));
    pair.settle();
    pair.daemon.verify(key, Ok(()), pair.now);
    pair.settle();
    assert!(matches!(pair.client_event(), Event::Opened { .. }));
}

#[test]
fn daemon_that_asks_again_and_again_does_not_hold_an_opening_for_ever() {
    let limit = seconds(40);
    let mut client = clear_client();
    (client.open_timeout, client.open_limit) = (seconds(3), limit);
    let mut pair = Pair::new(client, daemon::Config::default());
    let (activity, _, _) = pair.create();
    let mut passed = seconds(0);
    loop {
        pair.daemon.ask(Question::Token, "ann", pair.now).unwrap();
        pair.settle();
        let mut events = pair.client_events();
        if let Some(Event::Question { key, .. }) = events.pop() {
            pair.client.answer(key, None);
            pair.settle();
        }
        pair.pass(seconds(2));
        passed += seconds(2);
        let events = pair.client_events();
        if let Some(Event::NotOpened { activity: ended, error }) = events.first() {
            assert_eq!(*ended, activity);
            assert!(matches!(error, OpenError::Timeout), "{error}");
            break;
        }
        assert!(passed <= limit, "it is still being opened after {passed:?}: {events:?}");
    }
    assert!(passed >= limit);
}

#[test]
fn tokens_are_asked_for_one_at_a_time() {
    let mut pair = Pair::clear();
    let first = pair.client.token("ann", Password::new("a"), seconds(5), pair.now).unwrap();
    let second = pair.client.token("bob", Password::new("b"), seconds(5), pair.now).unwrap();
    pair.settle();
    let daemon::Event::Token { key, user, password } = pair.daemon_event() else { panic!() };
    assert_eq!((&*user, password.unwrap().reveal()), ("ann", "a"));
    assert!(pair.daemon_events().is_empty(), "the second one waits");
    pair.daemon.token(key, Some(Token::new("ta")));
    pair.settle();
    let Event::Token { call, result } = pair.client_event() else { panic!() };
    assert_eq!((call, result), (first, Ok(Some(Token::new("ta")))));
    let daemon::Event::Token { key, .. } = pair.daemon_event() else { panic!() };
    pair.daemon.token(key, None);
    pair.settle();
    assert!(matches!(pair.client_event(), Event::Token { call, result: Ok(None) } if call == second));
}

#[test]
fn late_token_is_not_given_to_the_next_who_asks() {
    let mut pair = Pair::clear();
    let first = pair.client.token("ann", Password::new("a"), seconds(5), pair.now).unwrap();
    pair.settle();
    let daemon::Event::Token { key: late, .. } = pair.daemon_event() else { panic!() };
    pair.pass(seconds(5));
    let Event::Token { call, result } = pair.client_event() else { panic!() };
    assert_eq!((call, result), (first, Err(CallError::Timeout)));

    // The same user again, so that only the order tells the answers apart.
    let second = pair.client.token("ann", Password::new("wrong"), seconds(5), pair.now).unwrap();
    pair.settle();
    let daemon::Event::Token { key, .. } = pair.daemon_event() else { panic!() };
    pair.daemon.token(late, Some(Token::new("ta")));
    pair.settle();
    assert!(pair.client_events().is_empty());
    pair.daemon.token(key, None);
    pair.settle();
    assert!(matches!(pair.client_event(), Event::Token { call, result: Ok(None) } if call == second));
}

#[test]
fn queued_token_that_is_given_up_is_never_sent() {
    let mut pair = Pair::clear();
    pair.client.token("ann", Password::new("a"), seconds(5), pair.now).unwrap();
    let second = pair.client.token("bob", Password::new("b"), seconds(5), pair.now).unwrap();
    pair.client.give_up(second);
    pair.settle();
    let daemon::Event::Token { key, .. } = pair.daemon_event() else { panic!() };
    pair.daemon.token(key, None);
    pair.settle();
    assert!(pair.daemon_events().is_empty());
    assert!(!pair.spoken.iter().any(|message| message.contains("bob")));
}

#[test]
fn token_of_another_user_is_nobody_s() {
    let mut pair = Pair::clear();
    pair.client.token("ann", Password::new("a"), seconds(5), pair.now).unwrap();
    let answer = gt::Answer { user: Some("bob".into()), token: Some(Token::new("tb")) };
    pair.client.receive(Incoming::Packet(answer.encode()), pair.now).unwrap();
    assert!(matches!(pair.client_event(), Event::Ignored(Ignored::Unasked { .. })));
}
