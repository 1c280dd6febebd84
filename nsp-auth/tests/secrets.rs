//! A whole session of a daemon with users, over each carrier and over SP, with all that any crate says to `tracing` and `log` written down: wrong and
//! right passwords, tokens, a question for a password, revocations, a daemon key, pre-shared keys. None of the secrets is in it, nor in any error
//! or `Debug`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[path = "../../nossock/tests/common/log.rs"]
mod kept;

use std::sync::Arc;

use nossock::{Connector, Router, Server};
use nsp::authority::{Authority as _, Origin};
use nsp::client::{Client, Login, Trust};
use nsp::daemon::{Daemon, Demand, Entity, Fail, Listen, Service};
use nsp::machine::SpMode;
use nsp::secure::ServerKey;
use nsp::{DaemonKey, Password};
use nsp_auth::Authority;
use nsp_auth::password::{Cost, PasswordHash};
use nsp_auth::psk::{Key, Psk};
use nsp_auth::user::Username;
use nsp_auth::users::NewUser;

use kept::Log;

const PASSWORD: &str = "correct horse battery 9d1f";
const WRONG: &str = "wrong horse battery 47aa";
const NEXT: &str = "another horse battery c05e";
const DAEMON_KEY: &str = "key of daemons 61b8";
const PSK: &str = "000102030405060708090a0b0c0d0e0f";
const OTHER_PSK: &str = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

/// What rustls and others say.
impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.says(format_args!("log: {} {}", record.target(), record.args()));
    }

    fn flush(&self) {}
}

fn vault() -> Service {
    Service::new("Vault").secure_function("open", async || "opened").function(
        "ask",
        async |entity: Entity| -> Result<String, Fail> {
            let passed = entity.prove(Demand::Password).await?;
            Ok(passed.user.map(|user| user.to_string()).unwrap_or_default())
        },
    )
}

/// Logs in by one address in all ways, and adds to the secrets what it got.
async fn session(
    log: &Log,
    authority: &Authority,
    connect: &dyn Fn() -> nsp::client::Connector,
    secrets: &mut Vec<String>,
) {
    let nobody = log.shows(connect().no_reconnect().await.unwrap());
    log.fails(nobody.token("admin", WRONG).await.unwrap_err());
    let token = nobody.token("admin", PASSWORD).await.unwrap();
    secrets.push(token.reveal().to_owned());
    nobody.close().await;

    let login = log.shows(Login::new("admin").token(token).password(PASSWORD));
    let client = connect().credentials(login).no_reconnect().await.unwrap();
    let activity = log.shows(client.activity("Vault").owner("admin").open().await.unwrap());
    assert_eq!(activity.call::<String>("open", &()).await.unwrap(), "opened");
    assert_eq!(activity.call::<String>("ask", &()).await.unwrap(), "admin");
    // What is shown and wrong.
    let login = Login::new("admin").token(WRONG).password(WRONG);
    let liar = connect().credentials(login).no_reconnect().await.unwrap();
    let lies = liar.activity("Vault").owner("admin").open().await.unwrap();
    log.fails(lies.call::<String>("open", &()).await.unwrap_err());
    log.fails(lies.call::<String>("ask", &()).await.unwrap_err());
    // A daemon that claims to be one, from a place that nobody trusts.
    match liar.activity("Vault").daemon_key(WRONG).open().await {
        Ok(activity) => drop(log.shows(activity)),
        Err(error) => log.fails(error),
    }
    log.shows(authority.users().tokens(Username::parse("admin").unwrap()).await.unwrap());
    authority.users().revoke_tokens(Username::parse("admin").unwrap()).await.unwrap();
    if let Err(error) = activity.call::<String>("open", &()).await {
        log.fails(error);
    }
    log.shows((&client, &liar, &lies));
    liar.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_of_a_session_with_users_is_said_anywhere() {
    let log = Log::of_everything();
    log::set_logger(Box::leak(Box::new(log.clone()))).unwrap();
    log::set_max_level(log::LevelFilter::Trace);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    // Four sessions with their wrong passwords are not to wait.
    let mut patient = nsp_auth::throttle::Settings::default();
    patient.free = 100;
    let cheap = Cost { memory_kib: 8, passes: 1 };
    let builder = Authority::builder().cost(cheap).throttle(patient).daemon_key(DaemonKey::new(DAEMON_KEY));
    let authority = log.shows(builder).open(&path).await.unwrap();
    let mut secrets: Vec<String> =
        [PASSWORD, WRONG, NEXT, DAEMON_KEY, PSK, OTHER_PSK].map(str::to_owned).into();
    let admin = Username::parse("admin").unwrap();
    let new = NewUser::new(admin.clone(), PASSWORD.into()).privilege(0);
    log.shows(&new);
    log.shows(authority.users().create(new).await.unwrap());
    log.fails(authority.users().create(NewUser::new(admin.clone(), WRONG.into())).await.unwrap_err());
    let short = "short 7f";
    secrets.push(short.into());
    log.fails(
        authority
            .users()
            .create(NewUser::new(Username::parse("bobby").unwrap(), short.into()))
            .await
            .unwrap_err(),
    );

    let key = Arc::new(ServerKey::generate().unwrap());
    secrets.extend(key.to_pem().unwrap().lines().filter(|line| line.len() == 64).map(str::to_owned));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let private = made.signing_key.serialize_pem();
    secrets.extend(private.lines().filter(|line| line.len() == 64).map(str::to_owned));
    let identity = nossock::transport::tls::Identity::from_pem(made.cert.pem(), private).unwrap();
    let tls = nossock::transport::tls::ServerTls::new(identity).unwrap();
    let client_tls = nossock::transport::tls::ClientTls::builder().ca(made.cert.pem()).build().unwrap();
    let daemon = Daemon::builder()
        .authority(authority.clone())
        .service(vault())
        .listen("nsp://127.0.0.1:0")
        .listen("noservice://127.0.0.1:0")
        .listen(Listen::on("noservice://127.0.0.1:0").sp(Arc::clone(&key)))
        .listen(Listen::on("nsps://127.0.0.1:0").tls(tls));
    let daemon = daemon.bind().await.unwrap();
    log.shows((&daemon, daemon.handle()));
    let addresses: Vec<_> = daemon
        .addresses()
        .iter()
        .map(|address| address.to_string().replace("s://127.0.0.1", "s://localhost"))
        .collect();
    let serving = tokio::spawn(daemon.serve());
    for (n, address) in addresses.iter().enumerate() {
        let address = if n == 1 { address.replace("localhost", "127.0.0.1") } else { address.clone() };
        let connect = || {
            let connector = Client::connect(address.as_str()).tls(client_tls.clone());
            match n {
                2 => connector.sp(SpMode::Required).trust(Trust::pinned([key.fingerprint()])),
                _ => connector,
            }
        };
        session(&log, &authority, &connect, &mut secrets).await;
    }

    // Users change, and what they may show does.
    let users = authority.users();
    log.shows(users.set_password(admin.clone(), NEXT.into()).await.unwrap());
    let (token, record) = users.issue_token(admin.clone(), "a program").await.unwrap();
    secrets.push(token.reveal().to_owned());
    log.shows((&token, &record));
    let (user, one_time) = users.reset_password(admin.clone()).await.unwrap();
    secrets.push(one_time.reveal().to_owned());
    log.shows((&user, &one_time));
    let denied = authority.judge_password("admin", &Password::new(NEXT), Origin::default()).await;
    log.shows(denied.unwrap_err());
    serving.abort();
    authority.close().await.unwrap();
    log.fails(authority.users().find(admin).await.unwrap_err());
    log.fails(PasswordHash::parse(&format!("$argon2id${PASSWORD}")).unwrap_err());

    introductions(&log).await;
    log.holds_none_of(&secrets, &["nsp::", "nsp_auth::", "nossock::", "log: rustls"]);
}

/// Pre-shared keys: a right one, a wrong one, and one that cannot be read.
async fn introductions(log: &Log) {
    let key = |text: &str| log.shows(Key::from_hex("k", text).unwrap());
    let hub = log.shows(Psk::new("hub").unwrap().peer("sensor", key(PSK)).unwrap());
    let server = Server::bind("tcp://127.0.0.1:0").unwrap().introduction(hub).listen().await.unwrap();
    let address = server.address().to_string();
    let serving = tokio::spawn(server.serve(Router::new()));
    for (secret, fits) in [(PSK, true), (OTHER_PSK, false)] {
        let psk = log.shows(Psk::new("sensor").unwrap().peer("hub", key(secret)).unwrap());
        match Connector::new(address.as_str()).unwrap().introduction(psk).connect().await {
            Ok(socket) => {
                assert!(fits);
                log.shows(&socket);
                socket.close().await.unwrap();
            }
            Err(error) => {
                assert!(!fits);
                log.fails(error);
            }
        }
    }
    log.fails(Key::from_hex("k", &format!("{PSK}x")).unwrap_err());
    serving.abort();
}
