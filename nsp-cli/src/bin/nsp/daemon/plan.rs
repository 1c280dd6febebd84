//! What is to run: command line and configuration in one, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nsp::carrier::{Address, Scheme};
use nsp_auth::password::Cost;
use nsp_auth::policy::Policies;
use serde_json::{Value, json};

use nsp_cli::exit::{Failure, chain};
use nsp_cli::{output, text};

use crate::place::Data;
use crate::script::{Bounds, Found, Function, command_for};

use super::config::{Config, FunctionFile, Limits};
use super::log;
use super::metrics;
use super::options::Options;
use super::services::Script;

/// Where a daemon listens that was not told where.
const DEFAULT_LISTEN: [&str; 2] = ["nsps://127.0.0.1:43580", "ws://127.0.0.1:43582"];

/// One address.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) address: Address,
    /// Whether the original's clients are let in.
    pub(super) legacy: bool,
}

/// What is to run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) data: Data,
    pub(super) listen: Vec<Place>,
    pub(super) plaintext: bool,
    pub(super) legacy_secrets: bool,
    pub(super) origins: Vec<String>,
    pub(super) names: Vec<String>,
    /// Certificate and key, where they are not to be made.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
    pub(super) scripts: Vec<Script>,
    pub(super) services: PathBuf,
    pub(super) grace: Duration,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) log: String,
    pub(super) policy: Option<PathBuf>,
    pub(super) open_registration: Option<u32>,
    pub(super) limits: Limits,
    pub(super) cost: Cost,
    pub(super) minimum_length: Option<usize>,
    pub(super) token_lifetime: Option<Duration>,
}

impl Plan {
    pub(super) fn new(options: &Options) -> Result<Self, Failure> {
        let data = Data::new(options.data.as_deref())?;
        let config = match &options.config {
            Some(path) => Config::read(path)?,
            None => {
                let path = data.file("nsp.toml");
                if path.exists() { Config::read(&path)? } else { Config::default() }
            }
        };
        let file = &config.file;
        let plaintext = options.plaintext || file.plaintext.unwrap_or_default();
        let listen = addresses(options, &config)?;
        let certificate = match (&options.cert, &options.key, &file.tls.certificate, &file.tls.key) {
            (Some(cert), Some(key), _, _) => Some((cert.clone(), key.clone())),
            (_, _, Some(cert), Some(key)) => Some((config.path(cert), config.path(key))),
            (_, _, None, None) => None,
            _ => return Err(Failure::Usage("tls: certificate and key go together".to_owned())),
        };
        let mut names = [options.names.clone(), file.tls.names.clone()].concat();
        for place in &listen {
            // Nobody connects to an address that stands for all.
            let host = place.address.host().filter(|host| !matches!(*host, "0.0.0.0" | "::"));
            names.extend(host.map(str::to_owned));
        }
        let level = options.log.clone().or_else(|| file.log.clone());
        let level = level.unwrap_or_else(|| log::DEFAULT.to_owned());
        log::check(&level)?;
        let metrics = options.metrics.as_deref().or(file.metrics.as_deref());
        let metrics = metrics.map(metrics::address).transpose()?;
        let cost = Cost {
            memory_kib: kib(file
                .passwords
                .memory
                .map_or(u64::from(Cost::default().memory_kib) * 1024, |size| size.0)),
            passes: file.passwords.passes.map_or(Cost::default().passes, |count| count.0),
        };
        Ok(Self {
            listen,
            plaintext,
            legacy_secrets: options.legacy_secrets || file.legacy_secrets.unwrap_or_default(),
            origins: if options.origins.is_empty() { file.origins.clone() } else { options.origins.clone() },
            names,
            certificate,
            scripts: scripts(options, &config)?,
            services: options
                .services
                .clone()
                .or_else(|| file.services.as_deref().map(|path| config.path(path)))
                .unwrap_or_else(|| data.file("services")),
            grace: options.grace.or(file.grace.map(|time| time.0)).unwrap_or(Duration::from_secs(10)),
            metrics,
            log: level,
            policy: options.policy.clone().or_else(|| file.policy.as_deref().map(|path| config.path(path))),
            open_registration: options.open_registration.or(file.open_registration.map(|count| count.0)),
            limits: Limits::of(&file.limits),
            cost,
            minimum_length: file.passwords.minimum_length.map(|count| count.0 as usize),
            token_lifetime: file.tokens.lifetime.map(|time| time.0),
            data,
        })
    }

    /// The policy; one that permits everything where there is none.
    pub(super) fn policies(&self) -> Result<Policies, Failure> {
        match &self.policy {
            Some(path) => Policies::open(path).map_err(|error| Failure::Usage(chain(&error))),
            None => Ok(Policies::none()),
        }
    }

    /// Shows it, for who wants to see before it runs.
    pub(super) fn show(&self, as_json: bool) -> Result<(), Failure> {
        let (found, wrong) = Found::all(&self.services);
        if let Some(first) = wrong.first() {
            return Err(Failure::Usage(first.clone()));
        }
        drop(self.policies()?);
        let functions: Vec<String> =
            self.scripts.iter().map(|script| format!("{}.{}", script.service, script.name)).collect();
        let services: Vec<&str> = found.iter().map(|found| found.manifest.name.as_str()).collect();
        let listen: Vec<String> = self.listen.iter().map(|place| place.address.to_string()).collect();
        if as_json {
            let limits: serde_json::Map<String, Value> = self
                .limits
                .lines()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect();
            return output::json(&json!({
                "data": self.data.folder(), "listen": listen, "functions": functions, "services": services,
                "grace": text::shown_time(self.grace), "metrics": self.metrics, "log": self.log, "limits": limits,
            }));
        }
        output::line(&format!("data       {}", self.data.folder().display()))?;
        for address in listen {
            output::line(&format!("listen     {address}"))?;
        }
        for function in functions {
            output::line(&format!("function   {function}"))?;
        }
        for service in services {
            output::line(&format!("service    {service}"))?;
        }
        output::line(&format!("grace      {}", text::shown_time(self.grace)))?;
        output::line(&format!(
            "metrics    {}",
            self.metrics.map_or_else(|| "off".to_owned(), |address| address.to_string())
        ))?;
        output::line(&format!("log        {}", self.log))?;
        for (name, value) in self.limits.lines() {
            output::line(&format!("limit      {name} = {value}"))?;
        }
        Ok(())
    }
}

fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes / 1024).unwrap_or(u32::MAX)
}

fn addresses(options: &Options, config: &Config) -> Result<Vec<Place>, Failure> {
    let file = &config.file;
    let listen = match (&options.listen[..], &file.listen) {
        ([], Some(listen)) => listen.clone(),
        ([], None) => DEFAULT_LISTEN.map(str::to_owned).to_vec(),
        (listen, _) => listen.to_vec(),
    };
    let legacy =
        if options.legacy_clients.is_empty() { &file.legacy_clients } else { &options.legacy_clients };
    let all = listen.iter().map(|url| (url, false)).chain(legacy.iter().map(|url| (url, true)));
    let mut places = Vec::new();
    for (url, legacy) in all {
        let address: Address = url
            .parse()
            .map_err(|error| Failure::Usage(format!("listen `{}`: {error}", url.escape_debug())))?;
        if legacy && !matches!(address.scheme(), Scheme::NoService | Scheme::Ws) {
            return Err(Failure::Usage(format!(
                "{address}: clients of the original come by noservice:// or ws://"
            )));
        }
        places.push(Place { address, legacy });
    }
    if places.is_empty() {
        return Err(Failure::Usage("there is nowhere to listen".to_owned()));
    }
    Ok(places)
}

fn scripts(options: &Options, config: &Config) -> Result<Vec<Script>, Failure> {
    let mut defaults = Bounds::default();
    if let Some(timeout) = options.function_timeout {
        defaults.timeout = timeout;
    }
    if let Some(parallel) = options.function_parallel {
        defaults.parallel = usize::from(parallel);
    }
    let mut scripts = Vec::new();
    for function in &config.file.functions {
        scripts.push(configured(config, function, defaults)?);
    }
    for text in &options.functions {
        let wrong = |what: &str| Failure::Usage(format!("--function {}: {what}", text.escape_debug()));
        let (name, file) = text.split_once('=').ok_or_else(|| wrong("write SERVICE.FUNCTION=FILE"))?;
        let (service, name) = split(name).map_err(|error| wrong(&error))?;
        let command = command_for(file.as_ref()).map_err(|error| wrong(&error))?;
        let folder = folder_of(&command);
        let function = Function::new(service, name, command, folder, defaults);
        scripts.push(Script {
            service: service.to_owned(),
            name: name.to_owned(),
            description: String::new(),
            secure: false,
            login: options.function_login,
            function,
        });
    }
    let mut seen = std::collections::HashSet::new();
    for script in &scripts {
        if !seen.insert((&script.service, &script.name)) {
            return Err(Failure::Usage(format!("{}.{} is there twice", script.service, script.name)));
        }
    }
    Ok(scripts)
}

fn configured(config: &Config, file: &FunctionFile, defaults: Bounds) -> Result<Script, Failure> {
    let (service, name) =
        split(file.name.get_ref()).map_err(|error| config.wrong(&file.name.span(), &error))?;
    let words = &file.command.get_ref().0;
    let command = match words.as_slice() {
        // One word is a file; several are a command, whose first word may be found on the path.
        [one] => command_for(&config.path(one.as_ref())),
        [program, arguments @ ..] => {
            let program = if program.contains(std::path::MAIN_SEPARATOR) {
                config.path(program.as_ref())
            } else {
                PathBuf::from(program)
            };
            Ok(std::iter::once(program).chain(arguments.iter().map(PathBuf::from)).collect())
        }
        [] => Err("the list is empty".to_owned()),
    };
    let command = command.map_err(|error| config.wrong(&file.command.span(), &error))?;
    let folder = if words.len() > 1 {
        std::path::absolute(config.folder()).map_err(|error| Failure::file(config.folder(), &error))?
    } else {
        folder_of(&command)
    };
    let bounds = Bounds {
        timeout: file.timeout.map_or(defaults.timeout, |time| time.0),
        memory: file.memory.map_or(defaults.memory, |size| size.0),
        output: file.output.map_or(defaults.output, |size| size.0),
        parallel: file.parallel.map_or(defaults.parallel, |count| count.0 as usize),
        waiting: file.waiting.map_or(defaults.waiting, |count| count.0 as usize),
    };
    Ok(Script {
        service: service.to_owned(),
        name: name.to_owned(),
        description: file.description.clone(),
        secure: file.secure,
        login: file.login,
        function: Function::new(service, name, command, folder, bounds),
    })
}

/// Where a script lies, which is where it runs.
fn folder_of(command: &[PathBuf]) -> PathBuf {
    command.last().and_then(|file| file.parent()).map_or_else(PathBuf::new, ToOwned::to_owned)
}

fn split(name: &str) -> Result<(&str, &str), String> {
    match name.rsplit_once('.') {
        Some((service, function)) if !service.is_empty() && !function.is_empty() => Ok((service, function)),
        _ => Err(format!("`{}` is not SERVICE.FUNCTION", name.escape_debug())),
    }
}
