//! Flags that several commands have.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use nossock::transport::Address;
use nossock::transport::tls::{ClientCertificates, ClientTls, Fingerprint, Identity, Passphrase, ServerTls};
use nossock::{Config, Connector, Limits, Server, ServerBuilder, Socket};

use nsp_cli::exit::Failure;

/// How to connect.
#[derive(Debug, Args)]
pub(crate) struct ConnectOptions {
    /// Where: tcp://HOST:PORT, tls://HOST:PORT, unix:/PATH, or HOST:PORT.
    #[arg(env = "NOSSOCK_URL")]
    pub(crate) url: String,

    /// Trust this CA (PEM) and no other.
    #[arg(long, value_name = "FILE", env = "NOSSOCK_CA", help_heading = "TLS")]
    ca: Option<PathBuf>,

    /// The name that the server's certificate has to carry, if not that of the URL.
    #[arg(long, value_name = "NAME", env = "NOSSOCK_SNI", help_heading = "TLS")]
    sni: Option<String>,

    /// Trust the certificate with this SHA-256 fingerprint and no other.
    #[arg(long, value_name = "SHA256", env = "NOSSOCK_PIN", help_heading = "TLS")]
    pin: Option<String>,

    /// Accept any certificate. Whoever sits in between reads and changes everything.
    #[arg(long, env = "NOSSOCK_INSECURE", help_heading = "TLS")]
    insecure: bool,

    #[command(flatten)]
    identity: IdentityOptions,

    #[command(flatten)]
    limits: LimitOptions,
}

/// Whom to be.
#[derive(Debug, Args)]
pub(crate) struct IdentityOptions {
    /// The certificate chain to present (PEM).
    #[arg(long, value_name = "FILE", env = "NOSSOCK_CERT", requires = "key", help_heading = "TLS")]
    cert: Option<PathBuf>,

    /// Its private key (PEM).
    #[arg(long, value_name = "FILE", env = "NOSSOCK_KEY", requires = "cert", help_heading = "TLS")]
    key: Option<PathBuf>,

    /// A file whose first line is the passphrase of the key.
    #[arg(
        long,
        value_name = "FILE",
        env = "NOSSOCK_PASSPHRASE_FILE",
        requires = "key",
        help_heading = "TLS"
    )]
    passphrase_file: Option<PathBuf>,
}

/// Bounds.
#[derive(Debug, Args)]
pub(crate) struct LimitOptions {
    /// The largest body to send or accept, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024, env = "NOSSOCK_MAX_BODY")]
    pub(crate) max_body: u32,

    /// Do not say hello: speak plain nossock, as the npm package does.
    #[arg(long, env = "NOSSOCK_PLAIN")]
    plain: bool,
}

/// How to listen.
#[derive(Debug, Args)]
pub(crate) struct ListenOptions {
    /// Where: tcp://HOST:PORT, tls://HOST:PORT, unix:/PATH, or HOST:PORT. Port 0 lets the system choose; the real one
    /// is in the first line on standard error, `listening URL`.
    #[arg(env = "NOSSOCK_URL")]
    url: String,

    /// The CA (PEM) that issues the certificates of clients; they may then present one.
    #[arg(long, value_name = "FILE", env = "NOSSOCK_CLIENT_CA", help_heading = "TLS")]
    client_ca: Option<PathBuf>,

    /// Refuse clients without a certificate of that CA.
    #[arg(long, env = "NOSSOCK_REQUIRE_CLIENT_CERT", requires = "client_ca", help_heading = "TLS")]
    require_client_cert: bool,

    #[command(flatten)]
    identity: IdentityOptions,

    #[command(flatten)]
    limits: LimitOptions,
}

impl LimitOptions {
    fn config(&self) -> Config {
        let limits = Limits { max_body: self.max_body, ..Limits::default() };
        Config { limits, hello: !self.plain, ..Config::default() }
    }
}

impl IdentityOptions {
    fn load(&self) -> Result<Option<Identity>, Failure> {
        let (Some(cert), Some(key)) = (&self.cert, &self.key) else { return Ok(None) };
        let Some(file) = &self.passphrase_file else {
            return Ok(Some(Identity::from_pem_files(cert, key)?));
        };
        let text = fs::read_to_string(file).map_err(|error| Failure::file(file, &error))?;
        let passphrase = Passphrase::from(text.lines().next().unwrap_or_default().to_owned());
        Ok(Some(Identity::from_encrypted_pem_files(cert, key, &passphrase)?))
    }
}

impl ConnectOptions {
    /// Connects, with messages to be received by hand.
    pub(crate) async fn connect(&self) -> Result<Socket, Failure> {
        Ok(self.connector()?.connect().await?)
    }

    pub(crate) const fn max_body(&self) -> u32 {
        self.limits.max_body
    }

    pub(crate) fn connector(&self) -> Result<Connector, Failure> {
        let connector = Connector::new(self.url.as_str())?.config(self.limits.config());
        if !matches!(connector.address(), Address::Tls { .. }) {
            return Ok(connector);
        }
        let mut tls = ClientTls::builder();
        if let Some(ca) = &self.ca {
            tls = tls.ca_file(ca);
        }
        if let Some(name) = &self.sni {
            tls = tls.server_name(name);
        }
        if let Some(pin) = &self.pin {
            let pin =
                pin.parse::<Fingerprint>().map_err(|error| Failure::Usage(format!("--pin: {error}")))?;
            tls = tls.pin(pin);
        }
        if self.insecure {
            nsp_cli::note!(
                "nossock: warning: --insecure accepts any certificate; anyone in between can read and change everything"
            );
            tls = tls.danger_accept_any_certificate();
        }
        if let Some(identity) = self.identity.load()? {
            tls = tls.identity(identity);
        }
        Ok(connector.tls(tls.build()?))
    }
}

impl ListenOptions {
    pub(crate) const fn max_body(&self) -> u32 {
        self.limits.max_body
    }

    /// Listens, says where, and reloads the certificate on SIGHUP.
    pub(crate) async fn listen(&self) -> Result<Server, Failure> {
        let builder = Server::bind(self.url.as_str())?.config(self.limits.config());
        let (builder, note) = self.with_tls(builder)?;
        let server = builder.listen().await?;
        nsp_cli::note!("listening {}", server.address());
        if let Some(note) = note {
            nsp_cli::note!("{note}");
        }
        Ok(server)
    }

    fn with_tls(&self, builder: ServerBuilder) -> Result<(ServerBuilder, Option<String>), Failure> {
        if !self.url.to_ascii_lowercase().starts_with("tls:") {
            return Ok((builder, None));
        }
        let (identity, note) = match self.identity.load()? {
            Some(identity) => (identity, None),
            None => {
                let identity = crate::cert::ephemeral()?;
                let print = identity.certificates().first().map(Fingerprint::of);
                let print = print.map(|print| print.to_string()).unwrap_or_default();
                let note = format!("no --cert: made a certificate for this run; connect with --pin {print}");
                (identity, Some(note))
            }
        };
        let mut settings = ServerTls::builder(identity);
        if let Some(ca) = &self.client_ca {
            let demand =
                if self.require_client_cert { ClientCertificates::Require } else { ClientCertificates::Ask };
            settings = settings.client_certificates(demand).ca_file(ca);
        }
        let tls = settings.build()?;
        self.reload_on_hangup(&tls);
        Ok((builder.tls(tls), note))
    }

    fn reload_on_hangup(&self, tls: &ServerTls) {
        #[cfg(unix)]
        if let (Some(cert), Ok(mut hangup)) = (
            self.identity.cert.clone(),
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()),
        ) {
            let identity = IdentityOptions {
                cert: Some(cert),
                key: self.identity.key.clone(),
                passphrase_file: self.identity.passphrase_file.clone(),
            };
            let tls = tls.clone();
            tokio::spawn(async move {
                while hangup.recv().await.is_some() {
                    let result = identity.load().and_then(|identity| match identity {
                        Some(identity) => Ok(tls.reload(identity)?),
                        None => Ok(()),
                    });
                    match result {
                        Ok(()) => nsp_cli::note!("nossock: new connections get the new certificate"),
                        Err(failure) => nsp_cli::note!("nossock: the old certificate stays: {failure}"),
                    }
                }
            });
        }
    }
}
