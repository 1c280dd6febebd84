//! Functions by which users end their own access, over sockets: the answer arrives, then comes the cut, and the log sees no fault in it. A program of
//! its own, because what one test logs, another one may have silenced.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io;
use std::sync::{Arc, Mutex};

use nsp::client::{Client, ClientState, Login};
use nsp::daemon::{Daemon, Fail, Json, Service, State};
use nsp_auth::Authority;
use nsp_auth::extract::Owner;
use nsp_auth::password::Cost;
use nsp_auth::token::TokenHash;
use nsp_auth::user::Username;
use nsp_auth::users::NewUser;
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

type Of = State<Authority>;

fn account(authority: &Authority) -> Service<Authority> {
    Service::with_state("Account", authority.clone())
        .function(
            "logout",
            async |me: Owner, Json(token): Json<String>, State(of): Of| -> Result<&str, Fail> {
                of.users().revoke_token(name(me.name()), TokenHash::of(&token.into()).id()).await?;
                Ok("done")
            },
        )
        .function(
            "password",
            async |me: Owner, Json(new): Json<String>, State(of): Of| -> Result<&str, Fail> {
                of.users().set_password(name(me.name()), new.into()).await?;
                Ok("done")
            },
        )
        .function("lock", async |me: Owner, State(of): Of| -> Result<&str, Fail> {
            of.users().lock(name(me.name())).await?;
            Ok("done")
        })
        .function("delete", async |me: Owner, State(of): Of| -> Result<&str, Fail> {
            of.users().delete(name(me.name())).await?;
            Ok("done")
        })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_ends_their_own_access_is_answered_then_cut_and_it_is_no_error() {
    let written = Written::default();
    let writer = written.clone();
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false);
    tracing::subscriber::set_global_default(log.with_writer(move || writer.clone()).finish()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cheap = Cost { memory_kib: 8, passes: 1 };
    let authority = Authority::builder().cost(cheap).open(folder.path().join("users.db")).await.unwrap();
    let builder = Daemon::builder().authority(authority.clone()).service(account(&authority));
    let daemon = builder.listen("nsp://127.0.0.1:0").listen("noservice://127.0.0.1:0").bind().await.unwrap();
    let addresses: Vec<_> = daemon.addresses().iter().map(ToString::to_string).collect();
    let handle = daemon.handle();
    tokio::spawn(daemon.serve());

    // Again and again: between the end of the access and the answer lies a race.
    for round in 0..20 {
        let address = addresses.iter().cycle().nth(round).unwrap();
        for function in ["logout", "password", "lock", "delete"] {
            let user = format!("{function}{round}");
            authority.users().create(NewUser::new(name(&user), PASSWORD.into())).await.unwrap();
            let (token, _) = authority.users().issue_token(name(&user), "test").await.unwrap();
            let argument = match function {
                "logout" => json!(token.reveal()),
                "password" => json!("another horse battery"),
                _ => Value::Null,
            };
            let login = Login::new(&*user).token(token);
            let client = Client::connect(&**address).credentials(login).no_reconnect().await.unwrap();
            let account = client.activity("Account").owner(&*user).open().await.unwrap();
            let answer: String = account.call(function, &argument).await.unwrap();
            assert_eq!(answer, "done");
            let mut state = client.state();
            state.wait_for(|state| matches!(state, ClientState::Closed { .. })).await.unwrap();
        }
    }
    let stats = handle.stats();
    assert_eq!((stats.calls, stats.failed), (80, 0));
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let faults: Vec<_> =
        text.lines().filter(|line| line.contains("ERROR") || line.contains("WARN")).collect();
    assert_eq!(faults, [""; 0]);
    let closings = text.lines().filter(|line| line.contains("DEBUG") && line.contains("closing"));
    assert_eq!(closings.filter(|line| line.contains("the access of the user was revoked")).count(), 80);
}
