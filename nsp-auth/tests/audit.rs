//! What is written down, and what is not. A program of its own: whether an event is of interest to anybody is remembered for the
//! whole process, and other tests have no interest in any.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io;
use std::sync::{Arc, Mutex};

use nsp::Password;
use nsp::authority::{Authority as _, Origin};
use nsp_auth::password::Cost;
use nsp_auth::store::Memory;
use nsp_auth::user::Username;
use nsp_auth::users::NewUser;
use nsp_auth::{Authority, audit};
use tracing_subscriber::fmt::MakeWriter;

const PASSWORD: &str = "correct horse battery";

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

fn from(address: &str) -> Origin {
    Origin { address: Some(address.parse().unwrap()) }
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Written {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn every_login_refusal_and_change_is_written_down_without_a_secret() {
    let written = Written::default();
    let everything = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(written.clone())
        .with_ansi(false)
        .without_time()
        .finish();
    let guard = tracing::subscriber::set_default(everything);
    let cheap = Cost { memory_kib: 8, passes: 1 };
    let authority = Authority::builder().cost(cheap).open_store(Memory::new()).await.unwrap();
    authority.users().create(NewUser::new(name("alice"), PASSWORD.into())).await.unwrap();
    let users = authority.users().by("chief\nadmin");
    let sign_in = async |user: &str, password: &str| {
        authority.sign_in(user, Some(Password::new(password)), from("::ffff:192.0.2.1")).await
    };
    let token = sign_in("alice", PASSWORD).await.unwrap();
    authority.judge_password("alice", &PASSWORD.into(), from("192.0.2.1")).await.unwrap();
    sign_in("alice", "a wrong guess").await.unwrap_err();
    sign_in("no\u{1b}[31mbody", "a wrong guess").await.unwrap_err();
    authority.judge_token("alice", &"a wrong token".into(), from("2001:db8::1")).await.unwrap_err();
    users.lock(name("alice")).await.unwrap();
    sign_in("alice", PASSWORD).await.unwrap_err();
    users.unlock(name("alice")).await.unwrap();
    let (issued, record) = users.issue_token(name("alice"), "backup").await.unwrap();
    users.revoke_token(name("alice"), record.id()).await.unwrap();
    let (_, one_time) = users.reset_password(name("alice")).await.unwrap();
    for _ in 0..2 {
        sign_in("alice", "a wrong guess").await.unwrap_err();
    }
    sign_in("alice", PASSWORD).await.unwrap_err();
    users.delete(name("alice")).await.unwrap();
    drop(guard);

    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let target = format!(" {}: ", audit::TARGET);
    let lines: Vec<_> =
        text.lines().filter_map(|line| line.split_once(&target)).map(|(_, fields)| fields).collect();
    let expected = [
        r#"event="user" user=alice actor=local change="created""#,
        r#"event="login" user=alice address=192.0.2.1 token="#,
        r#"event="proof" user=alice address=192.0.2.1"#,
        r#"event="refused" user=alice address=192.0.2.1 reason="password""#,
        r#"event="refused" user=no\u{1b}[31mbody address=192.0.2.1 reason="unknown""#,
        r#"event="refused" user=alice address=2001:db8::1 reason="token""#,
        r#"event="user" user=alice actor=chief\nadmin change="locked""#,
        r#"event="refused" user=alice address=192.0.2.1 reason="locked""#,
        r#"event="user" user=alice actor=chief\nadmin change="unlocked""#,
        r#"event="user" user=alice actor=chief\nadmin change="token""#,
        r#"event="revoked" user=alice actor=chief\nadmin count=1"#,
        r#"event="user" user=alice actor=chief\nadmin change="password""#,
        r#"event="refused" user=alice address=192.0.2.1 reason="password""#,
        r#"event="refused" user=alice address=192.0.2.1 reason="password""#,
        r#"event="throttled" user=alice address=192.0.2.1 retry_after="#,
        r#"event="user" user=alice actor=chief\nadmin change="removed""#,
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line} is not {expected}");
    }
    for secret in [
        PASSWORD,
        "a wrong guess",
        "a wrong token",
        token.reveal(),
        issued.reveal(),
        one_time.reveal(),
        "argon2id",
    ] {
        assert!(!text.contains(secret), "{secret}");
    }
}
