//! Which daemon, as whom, trusting whom: what every command that talks to a daemon has.

use std::io::BufRead;
use std::path::PathBuf;
use std::time::Duration;

use nossock::transport::tls::{ALPN, ClientTls, ClientTlsBuilder, Identity, TlsError, TlsSetupError};
use nsp::authority::Answer;
use nsp::carrier::{Address, CarrierKind, ConnectError, Limits, Meter, WEB_ALPN};
use nsp::client::{
    Activity, Client, ClientState, Connector, Credentials, DownReason, KnownHosts, Offered, OpenError, Told,
    Trust,
};
use nsp::machine::SpMode;
use nsp::proto::au::Notice;
use nsp::secure::Fingerprint;
use nsp::{Password, Token};
use serde_json::Value;

use nsp_cli::exit::Failure;
use nsp_cli::text::{duration, size};

use crate::daemon::admin;
use crate::keyring::Account;
use crate::place::Home;
use crate::secret::{self, PasswordOptions};

use super::context::Contexts;
use super::tokens::{Held, Tokens};

/// How to reach a daemon.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Reach {
    /// The daemon: nsp://, nsps://, noservice://, ws:// or wss:// with HOST:PORT, or nsp+unix:PATH. Without it, that of the context.
    #[arg(long, value_name = "URL", env = "NSP_URL", help_heading = "Daemon")]
    pub(crate) url: Option<String>,

    /// The profile to take URL, user and CA from, if not the current one.
    #[arg(long, value_name = "NAME", env = "NSP_CONTEXT", help_heading = "Daemon")]
    context: Option<String>,

    /// As whom.
    #[arg(long, value_name = "NAME", env = "NSP_USER", help_heading = "Daemon")]
    user: Option<String>,

    /// How long an answer may take: 500ms, 2s, 1m.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration, env = "NSP_TIMEOUT", help_heading = "Daemon")]
    pub(crate) timeout: Duration,

    /// The largest message to send or accept, in bytes or as 2MiB. The daemon has a limit of its own.
    #[arg(long, value_name = "SIZE", default_value = "1088KiB", value_parser = size, env = "NSP_MAX_MESSAGE", help_heading = "Daemon")]
    max_message: u64,

    /// A file whose first line is the token to show, instead of the one that nsp login has kept. NSP_TOKEN holds the token itself.
    #[arg(long, value_name = "FILE", env = "NSP_TOKEN_FILE", help_heading = "Login")]
    token_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) password: PasswordOptions,

    /// Trust this CA (PEM) and no other.
    #[arg(long, value_name = "FILE", env = "NSP_CA", help_heading = "Trust")]
    ca: Option<PathBuf>,

    /// Trust the daemon with this key, SHA256:… as `nsp trust` and the daemon show it, and no other; whatever --ca says.
    #[arg(long, value_name = "KEY", env = "NSP_PIN", help_heading = "Trust")]
    pin: Option<String>,

    /// What to do about a daemon that is met for the first time, and that nobody vouches for. One whose key has changed is refused whatever this says.
    #[arg(long, value_enum, default_value_t, env = "NSP_TRUST", help_heading = "Trust")]
    trust: Meeting,

    /// Accept any key. Whoever sits in between reads and changes everything.
    #[arg(long, env = "NSP_INSECURE", help_heading = "Trust")]
    insecure: bool,

    /// The name that the certificate has to carry, if not that of the URL.
    #[arg(long, value_name = "NAME", env = "NSP_SNI", help_heading = "Trust")]
    sni: Option<String>,

    /// The certificate chain to present (PEM).
    #[arg(
        long,
        value_name = "FILE",
        env = "NSP_CLIENT_CERT",
        requires = "client_key",
        help_heading = "Trust"
    )]
    client_cert: Option<PathBuf>,

    /// Its private key (PEM).
    #[arg(
        long,
        value_name = "FILE",
        env = "NSP_CLIENT_KEY",
        requires = "client_cert",
        help_heading = "Trust"
    )]
    client_key: Option<PathBuf>,

    /// Go beyond this machine without any encryption. Tokens and passwords stay here all the same.
    #[arg(long, env = "NSP_PLAINTEXT", help_heading = "Trust")]
    plaintext: bool,

    #[command(flatten)]
    pub(crate) home: Home,
}

/// What to do about a daemon that is met for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Meeting {
    /// Ask on a terminal; refuse without one.
    #[default]
    Ask,
    /// Remember its key.
    AcceptNew,
    /// Refuse.
    Strict,
}

/// What is left when everything was looked up.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: Address,
    /// Under which name tokens and keys are kept.
    pub(crate) daemon: String,
    pub(crate) user: Option<String>,
    pub(crate) token: Option<Held>,
    pub(crate) ca: Option<PathBuf>,
}

impl Target {
    /// Whose token and password they are.
    pub(crate) fn account(&self) -> Account {
        Account { user: self.user.clone().unwrap_or_else(|| "?".to_owned()), daemon: self.daemon.clone() }
    }
}

/// A connection, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) target: Target,
    /// Counts the bytes of the connection.
    pub(crate) meter: Meter,
}

impl Session {
    /// Opens an activity of a service.
    pub(crate) async fn open(&self, service: &str) -> Result<Activity, Failure> {
        let mut opening = self.client.activity(service);
        if let Some(user) = &self.target.user {
            opening = opening.owner(user);
        }
        match opening.open().await {
            Ok(activity) => Ok(activity),
            Err(error) => Err(self.with_reason(not_open(service, error)).await),
        }
    }

    /// The failure with the reason why the connection has ended, where it has: whoever waited for an answer learns that none comes
    /// a moment before it is known why.
    pub(crate) async fn with_reason(&self, failure: Failure) -> Failure {
        if !matches!(failure, Failure::Disconnected(_)) {
            return failure;
        }
        let mut state = self.client.state();
        let ended = state.wait_for(|state| matches!(state, ClientState::Closed { .. }));
        // One that comes back is not closed.
        let ended = tokio::time::timeout(Duration::from_secs(1), ended).await;
        if let Ok(Ok(state)) = &ended
            && let ClientState::Closed { reason: Some(reason) } = &**state
        {
            return reason.into();
        }
        failure
    }

    /// Does what is done first over a connection that comes back by itself. If it is lost meanwhile, that is the end: a peer that is no
    /// daemon would be tried again and again.
    pub(crate) async fn at_first<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut state = self.client.state();
        let lost = async {
            loop {
                match &*state.borrow_and_update() {
                    ClientState::Down { reason, .. } | ClientState::Closed { reason: Some(reason) } => {
                        return Failure::from(reason);
                    }
                    _ => {}
                }
                if state.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            failure = lost => Err(failure),
        }
    }

    /// Leaves in peace, but not for ever.
    pub(crate) async fn close(self) {
        drop(tokio::time::timeout(Duration::from_secs(5), self.client.close()).await);
    }
}

/// Why there is no activity of a service, with the service's name where it is about that.
pub(crate) fn not_open(service: &str, error: OpenError) -> Failure {
    match Failure::from(error) {
        Failure::NoHandler(_) => no_service(service),
        failure => failure,
    }
}

/// There is no service of that name.
pub(crate) fn no_service(service: &str) -> Failure {
    Failure::NoHandler(format!(
        "there is no service `{}`: nsp services shows those there are",
        service.escape_debug()
    ))
}

/// Whether the connection is to come back by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stay {
    Once,
    Reconnect,
}

impl Reach {
    /// Looks up what was not said: in the environment, the context, and the file of tokens, in this order.
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        let contexts = Contexts::read(&self.home)?;
        let (_, context) = contexts.pick(self.context.as_deref())?;
        let url = self.url.as_deref().unwrap_or(&context.url);
        let address: Address = url.parse().map_err(|error| {
            Failure::Usage(format!("`{}` is no URL of a daemon: {error}", url.escape_debug()))
        })?;
        let is_of_context = self.url.as_deref().is_none_or(|url| url == context.url);
        let daemon = daemon_name(&address);
        let tokens = Tokens::read(self.home.tokens()?)?;
        let user = self
            .user
            .clone()
            .or_else(|| context.user.clone().filter(|_| is_of_context))
            .or_else(|| tokens.only_user(&daemon).map(str::to_owned))
            .map(|user| user.to_ascii_lowercase());
        let token = match (self.given_token()?, &user) {
            (Some(token), _) => Some(Held::Here(token)),
            (None, Some(user)) => tokens.find(&Account { user: user.clone(), daemon: daemon.clone() }),
            (None, None) => None,
        };
        let ca = self.ca.clone().or_else(|| context.ca.clone().filter(|_| is_of_context));
        Ok(Target { address, daemon, user, token, ca })
    }

    fn given_token(&self) -> Result<Option<Token>, Failure> {
        if let Some(path) = &self.token_file {
            return Ok(Some(Token::new(secret::of_file(path)?.reveal())));
        }
        Ok(std::env::var("NSP_TOKEN").ok().map(Token::new))
    }

    /// Connects.
    pub(crate) async fn connect(&self, stay: Stay) -> Result<Session, Failure> {
        let target = self.target()?;
        self.connect_to(target, stay).await
    }

    pub(crate) async fn connect_to(&self, target: Target, stay: Stay) -> Result<Session, Failure> {
        let meter = Meter::default();
        let result = self.connector(&target, stay, false)?.meter(meter.clone()).await;
        let client = match result {
            Err(DownReason::NotConnected(error)) if self.may_meet(&target) && is_unknown_issuer(&error) => {
                // Nobody vouches for the certificate, so the key is looked at, as ssh does.
                self.connector(&target, stay, true)?
                    .meter(meter.clone())
                    .await
                    .map_err(|reason| explain(&target.address, reason))?
            }
            result => result.map_err(|reason| explain(&target.address, reason))?,
        };
        Ok(Session { client, target, meter })
    }

    /// Connects only to see the key, and to remember it if it is confirmed.
    pub(crate) async fn meet(&self, is_confirmed: bool) -> Result<(), Failure> {
        let mut target = self.target()?;
        target.ca = None;
        let reach =
            if is_confirmed { Self { trust: Meeting::AcceptNew, ..self.clone() } } else { self.clone() };
        let mut connector = reach.connector(&target, Stay::Once, true)?;
        if !target.address.is_tls() {
            // On this machine it would go without, and no key would be seen.
            connector = connector.sp(SpMode::Required);
        }
        let client = connector.await.map_err(|reason| explain(&target.address, reason))?;
        client.close().await;
        Ok(())
    }

    /// Who the daemon says this is.
    pub(crate) async fn who_am_i(&self) -> Result<Value, Failure> {
        let session = self.connect(Stay::Once).await?;
        let user = async { Ok(session.open(admin::NAME).await?.call("whoami", &Value::Null).await?) };
        let user = user.await;
        session.close().await;
        user
    }

    /// Whether a daemon may be known by its key instead of by a certificate.
    const fn may_meet(&self, target: &Target) -> bool {
        self.pin.is_none() && target.ca.is_none() && !self.insecure
    }

    pub(crate) fn known(&self) -> Result<KnownHosts, Failure> {
        Ok(KnownHosts::open(self.home.known_daemons()?))
    }

    fn connector(&self, target: &Target, stay: Stay, by_key: bool) -> Result<Connector, Failure> {
        let credentials = Kept { target: target.clone(), password: self.password.clone() };
        let mut connector = Client::connect(target.address.clone())
            .timeout(self.timeout)
            .open_timeout(self.timeout)
            .limits(Limits {
                message: usize::try_from(self.max_message).unwrap_or(usize::MAX),
                connect: self.timeout,
                ..Limits::default()
            })
            .credentials(credentials)
            .trust(self.policy()?);
        if stay == Stay::Once {
            connector = connector.no_reconnect();
        }
        if self.plaintext {
            connector = connector.plaintext();
        }
        if !target.address.is_tls() {
            return Ok(connector);
        }
        let known = self.known()?.entries()?;
        let is_known = known.iter().any(|known| known.host.is(&target.daemon));
        if by_key || self.pin.is_some() || self.insecure || (is_known && target.ca.is_none()) {
            if self.client_cert.is_some() {
                return Err(Failure::Usage(
                    "--client-cert needs a daemon whose CA is known: give --ca".to_owned(),
                ));
            }
            return Ok(connector.trust_certificates());
        }
        match self.tls(target)?.build() {
            // Where the system trusts nobody, nobody can vouch for a certificate.
            Err(TlsSetupError::PlatformRoots { .. }) if self.may_meet(target) => {
                Ok(connector.trust_certificates())
            }
            tls => Ok(connector.tls(tls?)),
        }
    }

    fn tls(&self, target: &Target) -> Result<ClientTlsBuilder, Failure> {
        let mut tls = match target.address.carrier() {
            CarrierKind::WebSocket => ClientTls::builder().alpn([WEB_ALPN]),
            _ => ClientTls::builder().alpn([ALPN]),
        };
        if let Some(ca) = &target.ca {
            tls = tls.ca_file(ca);
        }
        if let Some(name) = &self.sni {
            tls = tls.server_name(name);
        }
        if let (Some(cert), Some(key)) = (&self.client_cert, &self.client_key) {
            tls = tls.identity(Identity::from_pem_files(cert, key)?);
        }
        Ok(tls)
    }

    fn policy(&self) -> Result<Trust, Failure> {
        if self.insecure {
            nsp_cli::note!(
                "nsp: warning: --insecure accepts any key; anyone in between can read and change everything"
            );
            return Ok(Trust::danger_anyone());
        }
        if let Some(pin) = &self.pin {
            let pin = Fingerprint::parse(pin)
                .ok_or_else(|| Failure::Usage("--pin: a key is written SHA256: and 43 letters".to_owned()))?;
            return Ok(Trust::pinned([pin]));
        }
        let known = self.known()?;
        Ok(match self.trust {
            Meeting::AcceptNew => Trust::accept_new(known),
            Meeting::Ask if secret::can_ask() => Trust::ask(known, confirm),
            Meeting::Ask | Meeting::Strict => Trust::strict(known),
        })
    }
}

/// Asks whether a key is the daemon's.
async fn confirm(offered: Offered) -> bool {
    let asked = tokio::task::spawn_blocking(move || {
        nsp_cli::note_part!(
            "{} is met for the first time. Its {} key is\n  {}\nCompare it with what the daemon says. Is it the same? (yes/no) ",
            offered.host.escape_debug(),
            offered.kind,
            offered.fingerprint
        );
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).is_ok() && line.trim().eq_ignore_ascii_case("yes")
    });
    asked.await.unwrap_or(false)
}

fn is_unknown_issuer(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Tls(TlsError::UnknownIssuer { .. }))
}

/// One line that says what to do about it, where there is something.
fn explain(address: &Address, reason: DownReason) -> Failure {
    use nsp::client::TrustError;
    let failure = Failure::from(&reason);
    match (&reason, &failure) {
        (DownReason::NotTrusted(TrustError::Unknown { .. }), Failure::Trust(_)) => {
            failure.and("nsp trust add URL, or --trust accept-new")
        }
        (_, Failure::Connect(_)) if address.is_loopback() => failure.and("`nsp daemon` starts one here"),
        _ => failure,
    }
}

/// Host and port, as tokens and keys are kept under it.
pub(crate) fn daemon_name(address: &Address) -> String {
    match (address.host(), address.port()) {
        (Some(host), Some(port)) if host.contains(':') => format!("[{host}]:{port}"),
        (Some(host), Some(port)) => format!("{}:{port}", host.to_ascii_lowercase()),
        _ => address.to_string(),
    }
}

/// Answers the daemon's questions with what there is: the token that was kept, and a password if somebody knows it.
#[derive(Debug)]
struct Kept {
    target: Target,
    password: PasswordOptions,
}

impl Kept {
    fn is_about(&self, user: Option<&str>) -> bool {
        match (user, &self.target.user) {
            (Some(asked), Some(ours)) => asked.eq_ignore_ascii_case(ours),
            _ => true,
        }
    }
}

impl Credentials for Kept {
    fn token<'a>(&'a self, user: Option<&'a str>) -> Answer<'a, Option<Token>> {
        match self.target.token.clone().filter(|_| self.is_about(user)) {
            None => Answer::now(None),
            Some(Held::Here(token)) => Answer::now(Some(token)),
            Some(held) => Answer::later(async move { told(move || held.token()).await }),
        }
    }

    fn password<'a>(&'a self, user: Option<&'a str>) -> Answer<'a, Option<Password>> {
        if !self.is_about(user) {
            return Answer::now(None);
        }
        let (options, account) = (self.password.clone(), self.target.account());
        Answer::later(async move {
            let asked = move || match options.given(&account)? {
                None if !secret::can_ask() => Ok(None),
                None => options.read(&account).map(Some),
                given => Ok(given),
            };
            told(asked).await.flatten()
        })
    }

    fn notice(&self, told: Told<'_>) {
        let text = match told.notice {
            Notice::TokenFailed => "the login is not valid any more",
            Notice::PasswordFailed => "the password is wrong",
            Notice::SignIn => "this needs a login",
        };
        tracing::debug!(service = told.service, "{text}");
    }
}

/// What comes of asking a person or a keyring, which blocks. Why nothing does is said here: the daemon only learns that there is none.
async fn told<T: Send + 'static>(ask: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Option<T> {
    let asked = tokio::task::spawn_blocking(ask).await;
    let failure = match asked {
        Ok(Ok(answer)) => return Some(answer),
        Ok(Err(failure)) => failure,
        Err(error) => Failure::Other(error.to_string()),
    };
    if !failure.is_quiet() {
        nsp_cli::note!("nsp: {failure}");
    }
    None
}
