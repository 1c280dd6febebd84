//! `nsp shell`

mod complete;
mod editor;
mod line;

use std::collections::HashMap;
use std::io::{BufRead, IsTerminal};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nsp::client::{Activity, ActivityState, EventError, Happening};
use nsp::daemon::{DISCOVERY, Manifest};
use nsp::proto::{Data, RawJson};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::task::AbortHandle;

use nsp_cli::exit::Failure;
use nsp_cli::output::{self, printable};

use crate::client::call::pretty;
use crate::client::listen;
use crate::client::login::who;
use crate::client::reach::{Reach, Session, Stay, not_open};
use crate::client::services;
use crate::client::tokens::{Held, KeepOptions, Tokens};
use crate::daemon::admin;

use complete::Catalogue;
use editor::{Printer, Reader, Typed};
use line::{COMMANDS, Line};

/// Services whose functions are asked for at the start, to be completed.
const DESCRIBED: usize = 64;

/// Talk to a daemon line by line: call, send, and see what services send.
///
/// Lines are edited and completed: services, functions, and the fields of their arguments, as the daemon says that they are. Lines are
/// remembered, but for those with secrets in them or a space in front. Without a terminal each line of standard input is a command. The status of
/// the program is that of the last command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  nsp shell
  nsp shell Chat
  echo 'call Chat Hello \"me\"' | nsp shell")]
pub(crate) struct Args {
    /// The service to use.
    service: Option<String>,

    #[command(flatten)]
    keep: KeepOptions,

    #[command(flatten)]
    reach: Reach,
}

/// What a shell keeps.
struct Shell {
    reach: Reach,
    keep: KeepOptions,
    session: Session,
    activities: HashMap<String, Activity>,
    watched: HashMap<String, AbortHandle>,
    catalogue: Arc<Mutex<Catalogue>>,
    printer: Option<Printer>,
    status: u8,
}

/// Whether there is more to come.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    Nothing,
    Leave,
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let session = args.reach.connect(Stay::Reconnect).await?;
    let history = args.reach.home.history()?;
    let mut shell = Shell {
        reach: args.reach,
        keep: args.keep,
        session,
        activities: HashMap::new(),
        watched: HashMap::new(),
        catalogue: Arc::default(),
        printer: None,
        status: 0,
    };
    let look_around = async {
        shell.look_around().await;
        Ok(())
    };
    shell.session.at_first(look_around).await?;
    if let Some(service) = args.service {
        shell.enter(service).await?;
    }
    let last = if std::io::stdin().is_terminal() && output::is_terminal() {
        let reader = Reader::start(history, Arc::clone(&shell.catalogue))?;
        shell.printer = Some(reader.printer.clone());
        shell.converse(reader).await
    } else {
        shell.read_input().await
    };
    shell.session.close().await;
    last
}

impl Shell {
    fn catalogue(&self) -> MutexGuard<'_, Catalogue> {
        self.catalogue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the daemon what it offers, for completion. One that does not say is as good.
    async fn look_around(&self) {
        let Ok(discovery) = self.session.open(DISCOVERY).await else { return };
        let Ok(listed) = services::list(&discovery).await else { return };
        let mut found: Vec<(String, Option<Manifest>)> = Vec::new();
        for service in listed {
            let manifest = if found.len() < DESCRIBED {
                services::describe(&discovery, &service.name).await.ok()
            } else {
                None
            };
            found.push((service.name, manifest));
        }
        self.catalogue().services = found.into_iter().collect();
    }

    async fn converse(&mut self, mut reader: Reader) -> Result<(), Failure> {
        let greeting = format!("{}; help shows the commands, Tab completes", self.session.target.address);
        output::line(&greeting)?;
        loop {
            match reader.line(self.prompt()).await {
                Typed::Line(text) => {
                    let result = self.obey(&text).await;
                    match result {
                        Ok(Then::GoOn) => self.status = 0,
                        Ok(Then::Nothing) => {}
                        Ok(Then::Leave) => return self.last(),
                        Err(Failure::OutputClosed) => return Err(Failure::OutputClosed),
                        Err(failure) => {
                            self.status = failure.status();
                            nsp_cli::note!("{failure}");
                        }
                    }
                }
                Typed::Interrupted => {}
                Typed::End => return self.last(),
            }
        }
    }

    fn prompt(&self) -> String {
        let user = self.session.target.user.as_deref().unwrap_or("nobody");
        let service =
            self.catalogue().service.clone().map(|service| format!(" {service}")).unwrap_or_default();
        let status = if self.status == 0 { String::new() } else { format!("[{}] ", self.status) };
        printable(&format!("{status}{user}@{}{service}> ", self.session.target.daemon))
    }

    /// Each line of standard input, until one of them fails to be read.
    async fn read_input(&mut self) -> Result<(), Failure> {
        let (tell, mut lines) = tokio::sync::mpsc::channel(16);
        // Reading blocks; the thread ends with the input, or with the program.
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                if tell.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        while let Some(line) = lines.recv().await {
            let line = line.map_err(|error| Failure::Usage(format!("standard input: {error}")))?;
            match self.obey(&line).await {
                Ok(Then::Leave) => break,
                Ok(Then::GoOn) => self.status = 0,
                Ok(Then::Nothing) => {}
                Err(Failure::OutputClosed) => return Err(Failure::OutputClosed),
                Err(failure) => {
                    self.status = failure.status();
                    nsp_cli::note!("nsp: {failure}");
                }
            }
        }
        self.last()
    }

    /// The status of the program is that of its last command.
    const fn last(&self) -> Result<(), Failure> {
        match self.status {
            0 => Ok(()),
            status => Err(Failure::Said { status }),
        }
    }

    async fn obey(&mut self, text: &str) -> Result<Then, Failure> {
        let service = self.catalogue().service.clone();
        match Line::parse(text, service.as_deref()).map_err(Failure::Usage)? {
            // It was no command, so the last one is another.
            Line::Empty => return Ok(Then::Nothing),
            Line::Exit => return Ok(Then::Leave),
            Line::Help => {
                for (name, takes, does) in COMMANDS {
                    output::line(&format!("{:30}  {does}", format!("{name} {takes}")))?;
                }
                output::line(&format!("{:30}  run a command of this machine", "!COMMAND"))?;
            }
            Line::Services(name) => self.services(name.as_deref()).await?,
            Line::Use(None) => self.catalogue().service = None,
            Line::Use(Some(service)) => self.enter(service).await?,
            Line::Call { service, function, argument } => {
                // Ctrl-C gives this call up, and not the shell.
                tokio::select! {
                    result = self.call(&service, &function, argument) => result?,
                    _ = tokio::signal::ctrl_c() => return Err(Failure::Other("given up".to_owned())),
                }
            }
            Line::Send { service, data } => {
                let activity = self.activity(&service).await?;
                let data: &RawValue = data.read().map_err(|error| Failure::Usage(error.to_string()))?;
                activity.send(data).await?;
            }
            Line::Watch { service, event } => self.watch(service, event).await?,
            Line::Unwatch(service) => match self.watched.remove(&service) {
                Some(watch) => watch.abort(),
                None => return Err(Failure::Usage(format!("{} is not watched", printable(&service)))),
            },
            Line::Login(name) => self.login(name.to_ascii_lowercase()).await?,
            Line::Whoami => {
                let admin = self.activity(admin::NAME).await?;
                let user: Value = admin.call("whoami", &Value::Null).await?;
                output::line(&who(&user, &self.session.target.address))?;
            }
            Line::Status => output::line(&self.status.to_string())?,
            Line::Local(command) => local(&command).await?,
        }
        Ok(Then::GoOn)
    }

    /// Calls functions of a service by their names alone from now on, if there is one of that name.
    async fn enter(&mut self, service: String) -> Result<(), Failure> {
        self.activity(&service).await?;
        self.catalogue().service = Some(service);
        Ok(())
    }

    async fn activity(&mut self, service: &str) -> Result<Activity, Failure> {
        if let Some(activity) = self.activities.get(service).filter(|activity| !is_over(activity)) {
            return Ok(activity.clone());
        }
        let activity = self.session.open(service).await?;
        self.activities.insert(service.to_owned(), activity.clone());
        Ok(activity)
    }

    async fn call(&mut self, service: &str, function: &str, argument: RawJson) -> Result<(), Failure> {
        let activity = self.activity(service).await?;
        match activity.call_raw(function, argument).await? {
            Data::None => output::line("null"),
            Data::Json(json) => {
                let value: &RawValue = json.read().map_err(|error| Failure::Protocol(error.to_string()))?;
                output::line(&pretty(value))
            }
            Data::Blob(blob) => output::line(&format!("<{} bytes>", blob.len())),
        }
    }

    async fn services(&mut self, name: Option<&str>) -> Result<(), Failure> {
        self.look_around().await;
        let discovery = self.activity(DISCOVERY).await?;
        match name {
            Some(name) => services::show(&services::describe(&discovery, name).await?),
            None => services::show_list(&services::list(&discovery).await?),
        }
    }

    /// Shows what a service sends, above the prompt, from now on.
    async fn watch(&mut self, service: String, event: Option<String>) -> Result<(), Failure> {
        // The activity that calls are made by, so that what they join is heard of.
        let open = match self.activities.get(&service) {
            Some(activity) if !is_over(activity) => Some(activity.clone()),
            _ => None,
        };
        let (activity, mut happenings) = match open {
            Some(activity) => (activity.clone(), activity.happenings()),
            None => {
                let mut opening = self.session.client.activity(&*service);
                if let Some(user) = &self.session.target.user {
                    opening = opening.owner(user);
                }
                let happenings = opening.happenings();
                (opening.open().await.map_err(|error| not_open(&service, error))?, happenings)
            }
        };
        self.activities.insert(service.clone(), activity.clone());
        let (printer, name) = (self.printer.clone(), service.clone());
        let task = tokio::spawn(async move {
            // It lives as long as somebody watches.
            let _activity = activity;
            while let Some(happening) = listen::next(&mut happenings).await {
                let text = match happening {
                    Ok(Happening::Reopened) => "the connection was lost and is back".to_owned(),
                    Ok(happening) => match shown(&happening, event.as_deref()) {
                        Some(text) => text,
                        None => continue,
                    },
                    Err(EventError::Missed(missed)) => format!("{missed} were not read in time"),
                    Err(error) => error.to_string(),
                };
                let line = format!("{} {text}", printable(&name));
                match &printer {
                    Some(printer) => printer.print(&line),
                    None => drop(output::line(&line)),
                }
            }
        });
        if let Some(before) = self.watched.insert(service, task.abort_handle()) {
            before.abort();
        }
        Ok(())
    }

    /// Logs in, keeps the token, and goes on as that user.
    async fn login(&mut self, name: String) -> Result<(), Failure> {
        let mut target = self.session.target.clone();
        target.user = Some(name.clone());
        target.token = None;
        let account = target.account();
        let tokens = self.reach.home.tokens()?;
        let keyring = self.keep.keyring(&Tokens::read(tokens.clone())?, &account)?;
        let (options, whose) = (self.reach.password.clone(), account.clone());
        let password = tokio::task::spawn_blocking(move || options.read(&whose)).await;
        let password = password.map_err(|error| Failure::Other(error.to_string()))??;
        let token = self.session.client.token(&name, password).await?;
        Tokens::keep(tokens, &account, &token, keyring.as_ref())?;
        target.token = Some(Held::Here(token));
        let session = self.reach.connect_to(target, Stay::Reconnect).await?;
        self.activities.clear();
        self.watched.drain().for_each(|(_, watch)| watch.abort());
        std::mem::replace(&mut self.session, session).close().await;
        output::line(&format!("logged in as {} at {}", printable(&name), self.session.target.address))
    }
}

fn is_over(activity: &Activity) -> bool {
    matches!(&*activity.state().borrow(), ActivityState::Closed(_))
}

fn shown(happening: &Happening, wanted: Option<&str>) -> Option<String> {
    let (event, data) = match happening {
        Happening::Data(data) => (None, data),
        Happening::Event { event, data } | Happening::BlobEvent { event, data, .. } => {
            (Some(event.as_str()), data)
        }
        _ => return None,
    };
    (wanted.is_none() || wanted == event).then(|| listen::line(event, data))
}

/// Runs a command of the local machine, on this terminal.
async fn local(command: &str) -> Result<(), Failure> {
    let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let status = tokio::process::Command::new(shell).args([flag, command]).status().await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Other(format!("the command ended: {status}"))),
        Err(error) => Err(Failure::Other(format!("the command cannot be run: {error}"))),
    }
}
