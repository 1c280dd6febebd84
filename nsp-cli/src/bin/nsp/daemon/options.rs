//! What the command line says about the daemon.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use nsp_cli::text::duration;

use super::log::Format;

/// Serve: users, services and scripts.
///
/// Without any argument everything that is needed is made: a folder of data, a CA and a certificate, an RSA key, a database of users with a
/// first one, admin, whose password is shown once. It listens at nsps://127.0.0.1:43580 and ws://127.0.0.1:43582, and prints the
/// command that calls it.
///
/// The first lines on standard error are `listening URL`, one for each, with the port that it is in truth. After them comes the log. SIGTERM or
/// SIGINT ends it in peace, a second SIGINT at once; SIGHUP reads certificates, policy and log level again.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  nsp daemon
  nsp daemon --listen nsps://0.0.0.0:43580 --name chat.example.org
  nsp daemon --function Chat.Hello=./hello.py
  nsp daemon check --config nsp.toml

A script reads JSON on standard input and writes JSON to standard output. A folder services/NAME with a manifest.json and a
program entry.* is a service that runs beside the daemon."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(super) action: Option<Action>,

    #[command(flatten)]
    pub(super) options: Options,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Action {
    /// Say what would run, with all limits, and start nothing.
    Check {
        /// One JSON object.
        #[arg(long, env = "NSP_JSON")]
        json: bool,

        #[command(flatten)]
        options: Box<Options>,
    },
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// The folder of the daemon's files, if not the platform's.
    #[arg(long, value_name = "DIR", env = "NSP_DATA")]
    pub(super) data: Option<PathBuf>,

    /// The configuration, if not nsp.toml in that folder.
    #[arg(long, value_name = "FILE", env = "NSP_CONFIG")]
    pub(super) config: Option<PathBuf>,

    /// Where to listen: nsp://, nsps://, noservice://, ws:// or wss:// with HOST:PORT, or nsp+unix:PATH. Port 0 lets the system choose.
    #[arg(short, long, value_name = "URL", env = "NSP_LISTEN", value_delimiter = ',')]
    pub(super) listen: Vec<String>,

    /// Listen here as well, for clients of the original daemon, whose encryption does not hide anything from who tries: noservice:// or ws://.
    #[arg(long, value_name = "URL", env = "NSP_LEGACY_CLIENTS", value_delimiter = ',')]
    pub(super) legacy_clients: Vec<String>,

    /// Let clients of the original send passwords and call what is for superusers, although whoever listens can read along.
    #[arg(long, env = "NSP_LEGACY_SECRETS")]
    pub(super) legacy_secrets: bool,

    /// Let in browsers that show a page of this origin, as in https://chat.example.org; * are all. Without it no page gets in by ws:// or wss://.
    #[arg(long = "origin", value_name = "ORIGIN", env = "NSP_ORIGINS", value_delimiter = ',')]
    pub(super) origins: Vec<String>,

    /// Allow listening beyond this machine without any encryption.
    #[arg(long, env = "NSP_PLAINTEXT")]
    pub(super) plaintext: bool,

    /// A name or address of this machine, for the certificate that is made.
    #[arg(
        long = "name",
        value_name = "NAME",
        env = "NSP_NAMES",
        value_delimiter = ',',
        help_heading = "TLS"
    )]
    pub(super) names: Vec<String>,

    /// The certificate (PEM), in place of one that is made.
    #[arg(long, value_name = "FILE", env = "NSP_CERT", requires = "key", help_heading = "TLS")]
    pub(super) cert: Option<PathBuf>,

    /// Its private key (PEM).
    #[arg(long, value_name = "FILE", env = "NSP_KEY", requires = "cert", help_heading = "TLS")]
    pub(super) key: Option<PathBuf>,

    /// Answer SERVICE.FUNCTION with a script.
    #[arg(
        long = "function",
        value_name = "SERVICE.FUNCTION=FILE",
        env = "NSP_FUNCTIONS",
        value_delimiter = ',',
        help_heading = "Services"
    )]
    pub(super) functions: Vec<String>,

    /// Have these scripts answer only users who have logged in; their names are in NSP_USER.
    #[arg(long, env = "NSP_FUNCTION_LOGIN", help_heading = "Services")]
    pub(super) function_login: bool,

    /// How long a script may take.
    #[arg(long, value_name = "TIME", value_parser = duration, env = "NSP_FUNCTION_TIMEOUT", help_heading = "Services")]
    pub(super) function_timeout: Option<Duration>,

    /// Calls of one script at once; the next ones wait.
    #[arg(long, value_name = "N", env = "NSP_FUNCTION_PARALLEL", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Services")]
    pub(super) function_parallel: Option<u16>,

    /// The folder with services, if not services/ in the folder of data.
    #[arg(long, value_name = "DIR", env = "NSP_SERVICES", help_heading = "Services")]
    pub(super) services: Option<PathBuf>,

    /// A file whose first line is the password of the first user, admin, instead of one that is made up.
    #[arg(long, value_name = "FILE", env = "NSP_ADMIN_PASSWORD_FILE", help_heading = "Users")]
    pub(super) admin_password_file: Option<PathBuf>,

    /// Trust daemons of this address, if they have the key in NSP_DAEMON_KEY_FILE.
    #[arg(long, value_name = "IP", env = "NSP_TRUST_DAEMONS", value_delimiter = ',', help_heading = "Users")]
    pub(super) trust_daemon: Vec<IpAddr>,

    /// A file whose first line is the key of daemons that are trusted.
    #[arg(long, value_name = "FILE", env = "NSP_DAEMON_KEY_FILE", help_heading = "Users")]
    pub(super) daemon_key_file: Option<PathBuf>,

    /// Who may do what: a policy, TOML or JSON. What it does not grant is denied, to superusers as well, so it has to grant the role
    /// `superuser` what administration needs. SIGHUP reads it again.
    #[arg(long, value_name = "FILE", env = "NSP_POLICY", help_heading = "Users")]
    pub(super) policy: Option<PathBuf>,

    /// Let anybody make a user by NoUser.createUser, so many in an hour. Nobody can otherwise.
    #[arg(long, value_name = "PER_HOUR", env = "NSP_OPEN_REGISTRATION", help_heading = "Users")]
    pub(super) open_registration: Option<u32>,

    /// How long what runs may take to end, when the daemon is to.
    #[arg(long, value_name = "TIME", value_parser = duration, env = "NSP_GRACE")]
    pub(super) grace: Option<Duration>,

    /// Show numbers for Prometheus at http://ADDRESS/metrics, on loopback only.
    #[arg(long, value_name = "ADDRESS", env = "NSP_METRICS")]
    pub(super) metrics: Option<String>,

    /// What to log: error, warn, info, debug, trace, or per part, as in info,nsp=debug.
    #[arg(long, value_name = "LEVEL", env = "NSP_LOG")]
    pub(super) log: Option<String>,

    /// How the log looks.
    #[arg(long, value_enum, default_value_t, env = "NSP_LOG_FORMAT")]
    pub(super) log_format: Format,
}
