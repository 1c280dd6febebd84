//! `nsp daemon`

mod activity;
pub(crate) mod admin;
mod config;
mod identity;
mod log;
mod metrics;
mod noshell;
mod options;
mod plan;
mod services;
mod systemd;

use std::sync::Arc;

use nossock::transport::tls::{ALPN, ServerTls};
use nsp::carrier::{Address, WEB_ALPN};
use nsp::daemon::{BindError, Daemon, DaemonHandle, Drained, Limits, Listen, Manifest, Service, WeakUse};
use nsp::secure::ServerKey;
use nsp::{DaemonKey, Password};
use nsp_auth::Authority;
use nsp_auth::no_user::NoUser;
use nsp_auth::token::Lifetime;
use nsp_auth::user::{SUPERUSER, Username};
use nsp_auth::users::NewUser;
use tokio::sync::watch;
use tokio::task::JoinSet;

use nsp_cli::exit::{Failure, chain};
use nsp_cli::files;
use nsp_cli::process::stopped;

use crate::script::{Found, Pace};
use crate::secret;

use identity::Certificate;
use log::Log;
use options::{Action, Options};
use plan::{Place, Plan};

pub(crate) use options::Args;

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    match args.action {
        Some(Action::Check { json, options }) => Plan::new(&options)?.show(json),
        None => {
            let plan = Plan::new(&args.options)?;
            let log = Log::start(&plan.log, args.options.log_format)?;
            let result = serve(plan, &args.options, &log).await;
            // What was logged on the way to a failure is not lost.
            log.open();
            result
        }
    }
}

async fn serve(plan: Plan, options: &Options, log: &Log) -> Result<(), Failure> {
    files::private_folder(plan.data.folder())?;
    let lock = plan.data.file("lock");
    let Some(_alone) = files::Lock::try_take(&lock)? else {
        let folder = plan.data.folder().display();
        return Err(Failure::Usage(format!(
            "another daemon uses {folder}: stop it, or give this one another --data"
        )));
    };
    let certificate = certificate(&plan)?;
    let key = identity::sp_key(&plan.data)?;
    let authority = authority(&plan, options).await?;

    let mut builder = Daemon::builder()
        .authority(authority.clone())
        .limits(limits(&plan))
        .first_entity_time(plan.limits.login_within)
        .request_time(plan.limits.request_timeout)
        .service(activity::service())
        .service(admin::service(authority.clone()))
        .service(noshell::service(authority.clone()))
        .service(no_user(&plan, &authority));
    for service in services::of_scripts(&plan.scripts) {
        builder = builder.service(service);
    }
    let (found, wrong) = Found::all(&plan.services);
    for error in wrong {
        tracing::error!(%error, "a service was left out");
    }
    let mut programs = Vec::new();
    for found in found {
        let (service, program) = services::of_program(found, Pace::default());
        builder = builder.service(service);
        programs.push(program);
    }
    let tls = ServerTls::builder(certificate.identity.clone()).alpn([ALPN, WEB_ALPN]).build()?;
    for place in &plan.listen {
        builder = builder.listen(listen(&plan, place, &tls, &key));
    }
    let daemon = builder.bind().await.map_err(not_bound)?;
    let metrics = match plan.metrics {
        Some(address) => Some(metrics::bind(address).await?),
        None => None,
    };
    // When nothing can fail any more before its password is shown, which happens only once. Nobody is let in yet.
    let password = first_admin(&authority, options).await?;

    // Whoever reads that it is there may send a signal the next moment.
    let (stop_signal, hangup) = (stopped(), Hangup::register());
    greet(&plan, &daemon, &certificate, password.as_ref());
    log.open();
    tell_limits(&plan);
    for (_, address) in plan.listen.iter().zip(daemon.addresses()).filter(|(place, _)| place.legacy) {
        tracing::warn!(
            address = shown(&address),
            "open to clients of the original, whose encryption hides nothing from who tries"
        );
    }
    if let Some(listener) = metrics {
        match listener.local_addr() {
            Ok(address) => tracing::info!(url = format!("http://{address}/metrics"), "metrics"),
            Err(error) => tracing::warn!(%error, "metrics"),
        }
        tokio::spawn(metrics::serve(listener, daemon.handle()));
    }
    let (stop, stopping) = watch::channel(false);
    let mut running = JoinSet::new();
    for program in programs {
        running.spawn(program.keep_running(stopping.clone()));
    }
    systemd::notify("READY=1");
    let reloading = tokio::spawn(reload_on_hangup(
        hangup,
        options.clone(),
        daemon.handle(),
        authority.clone(),
        log.clone(),
    ));

    let drained = daemon
        .serve_until(async {
            stop_signal.await;
            systemd::notify("STOPPING=1");
        })
        .await;
    reloading.abort();
    stop.send_replace(true);
    while running.join_next().await.is_some() {}
    if let Err(error) = authority.close().await {
        tracing::error!(%error, "the database of users was not closed");
    }
    summary(drained)
}

fn certificate(plan: &Plan) -> Result<Certificate, Failure> {
    match &plan.certificate {
        Some((certificate, key)) => Certificate::read(certificate, key),
        None => Certificate::generated(&plan.data, &plan.names),
    }
}

async fn authority(plan: &Plan, options: &Options) -> Result<Authority, Failure> {
    let mut builder = Authority::builder().cost(plan.cost).policies(plan.policies()?);
    if let Some(characters) = plan.minimum_length {
        builder = builder.min_password_characters(characters);
    }
    if let Some(lifetime) = plan.token_lifetime {
        builder = builder.token_lifetime(Lifetime { absolute: lifetime, idle: lifetime });
    }
    for address in &options.trust_daemon {
        builder = builder.trust(*address);
    }
    if let Some(path) = &options.daemon_key_file {
        let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, &error))?;
        builder = builder.daemon_key(DaemonKey::new(text.lines().next().unwrap_or_default()));
    }
    let path = plan.data.file("nsp.db");
    let opened = builder.open(&path).await;
    opened.map_err(|error| Failure::Other(format!("{}: {}", path.display(), chain(&error))))
}

/// Makes the first user, where there is none. Returns the password if it was made up.
async fn first_admin(authority: &Authority, options: &Options) -> Result<Option<Password>, Failure> {
    let users = authority.users().by("daemon");
    let failed =
        |error: nsp_auth::users::UserError| Failure::Usage(format!("the first user, admin: {error}"));
    let Some(path) = &options.admin_password_file else {
        return Ok(users.first_admin().await.map_err(failed)?.map(|(_, password)| password));
    };
    let password = secret::of_file(path)?;
    let page = users.search("", None, 1).await.map_err(|error| failed(error.into()))?;
    if page.users.is_empty() {
        let name = Username::parse("admin").map_err(|error| failed(error.into()))?;
        users.create(NewUser::new(name, password).privilege(SUPERUSER)).await.map_err(failed)?;
    }
    Ok(None)
}

fn no_user(plan: &Plan, authority: &Authority) -> Service<NoUser> {
    let no_user = NoUser::new(authority.users());
    match plan.open_registration {
        Some(per_hour) => no_user.open_registration(per_hour),
        None => no_user,
    }
    .into_service()
    .manifest(
        Manifest::new("NoUser")
            .description("What users say of themselves, and registration where it is open"),
    )
}

fn limits(plan: &Plan) -> Limits {
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    let mut limits = Limits {
        connections: plan.limits.connections,
        connections_per_address: plan.limits.connections_per_address,
        grace: plan.grace,
        ..Limits::default()
    };
    limits.fresh_per_address = limits.fresh_per_address.min(plan.limits.connections_per_address);
    limits.connection.message = bytes(plan.limits.message);
    // Room for one that is worked on and the next: the largest message alone is no crowd.
    let two = limits.connection.message.saturating_mul(2);
    limits.connection.request_bytes = limits.connection.request_bytes.max(two);
    limits.connection.first_message = bytes(plan.limits.message_before_login);
    limits.connection.entities = plan.limits.entities;
    limits.connection.requests = plan.limits.requests;
    limits
}

fn listen(plan: &Plan, place: &Place, tls: &ServerTls, key: &Arc<ServerKey>) -> Listen {
    let address = &place.address;
    let mut listen = Listen::on(address.to_string()).origins(plan.origins.iter().cloned());
    if address.is_tls() {
        return listen.tls(tls.clone());
    }
    if place.legacy {
        let weak = if plan.legacy_secrets { WeakUse::Everything } else { WeakUse::NoSecrets };
        return listen.sp(Arc::clone(key)).legacy_clients().weak_use(weak);
    }
    if plan.plaintext {
        listen = listen.plaintext();
    } else if !address.is_loopback() {
        listen = listen.sp(Arc::clone(key));
    }
    listen
}

fn not_bound(error: BindError) -> Failure {
    let text = chain(&error);
    match error {
        BindError::Listen(_) => Failure::Connect(text),
        _ => Failure::Usage(text),
    }
}

/// What is said at the start, to be read by people and programs: where it listens, and how to call it.
fn greet(plan: &Plan, daemon: &Daemon, certificate: &Certificate, password: Option<&Password>) {
    let addresses = daemon.addresses();
    for address in &addresses {
        nsp_cli::note!("listening {}", shown(address));
    }
    if let (Some(key), true) = (certificate.key, addresses.iter().any(Address::is_tls)) {
        nsp_cli::note!("key {key}");
    }
    if let Some(password) = password {
        nsp_cli::note!(
            "user admin, password {} (shown this once; change it: nsp user passwd admin)",
            password.reveal()
        );
    }
    let Some(first) = addresses.first() else { return };
    // The default is found without being told.
    let mut flags = String::new();
    let first_shown = shown(first);
    if first_shown != crate::client::context::LOCAL_URL || !plan.data.is_default() {
        flags.push_str(&format!(" --url {first_shown}"));
        if first.is_tls() && plan.certificate.is_none() {
            flags.push_str(&format!(" --ca {}", quoted(&plan.data.file("ca.pem").display().to_string())));
        }
    }
    match plan.scripts.first() {
        Some(script) => nsp_cli::note!("call it: nsp call {} {}{flags}", script.service, script.name),
        None => nsp_cli::note!("call it: nsp services{flags}"),
    }
    nsp_cli::note!("log in:  nsp login admin{flags}");
}

/// An address as people write it: the path of a WebSocket goes without saying when there is none.
fn shown(address: &Address) -> String {
    address.to_string().trim_end_matches('/').to_owned()
}

/// A word as a shell takes it.
fn quoted(text: &str) -> String {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+:@,=".contains(c));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn tell_limits(plan: &Plan) {
    let limits: Vec<String> =
        plan.limits.lines().into_iter().map(|(name, value)| format!("{name} = {value}")).collect();
    tracing::info!(limits = limits.join(", "), grace = ?plan.grace, "limits");
}

fn summary(drained: Drained) -> Result<(), Failure> {
    if drained.aborted > 0 {
        return Err(Failure::Partial(format!(
            "{} connections ended in peace, {} had to be cut",
            drained.drained, drained.aborted
        )));
    }
    nsp_cli::note!("nsp: {} connections ended in peace", drained.drained);
    Ok(())
}

/// SIGHUP, where there is one. From when it is made on it does not end the program.
#[cfg(unix)]
struct Hangup(Option<tokio::signal::unix::Signal>);

#[cfg(not(unix))]
struct Hangup;

impl Hangup {
    #[cfg(unix)]
    fn register() -> Self {
        Self(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok())
    }

    #[cfg(not(unix))]
    fn register() -> Self {
        Self
    }

    async fn recv(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.0
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

/// Reads certificate, policy and level of the log again at each SIGHUP. What cannot be used leaves everything as it was.
async fn reload_on_hangup(
    mut hangup: Hangup,
    options: Options,
    daemon: DaemonHandle,
    authority: Authority,
    log: Log,
) {
    loop {
        hangup.recv().await;
        systemd::notify("RELOADING=1");
        match reload(&options, &daemon, &authority, &log).await {
            Ok(()) => tracing::info!("reloaded: new connections get the certificate as it is now"),
            Err(failure) => tracing::error!(%failure, "not reloaded: everything stays as it was"),
        }
        systemd::notify("READY=1");
    }
}

async fn reload(
    options: &Options,
    daemon: &DaemonHandle,
    authority: &Authority,
    log: &Log,
) -> Result<(), Failure> {
    let plan = Plan::new(options)?;
    let certificate = certificate(&plan)?;
    if plan.policy.is_some() {
        authority.reload_policy("SIGHUP").await.map_err(|error| Failure::Usage(chain(&error)))?;
    }
    daemon.reload_tls(&certificate.identity)?;
    log.set_level(&plan.log)
}
