//! `nossock cert`

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use nossock::transport::Address;
use nossock::transport::tls::{ClientTls, Fingerprint, Identity};
use nossock::{Config, Connector};
use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyPair};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use nsp_cli::certificate::{Authority, failed, issue, localhost, params};
use nsp_cli::exit::Failure;
use nsp_cli::{files, output};

/// Make and show certificates for development.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a CA, and a server's and a client's certificate that it issues.
    ///
    /// Writes ca.pem and ca.key, server.pem and server.key (for localhost, 127.0.0.1, ::1 and every --name), client.pem
    /// and client.key. Keys are readable by their owner only. For development: keep ca.key as you would a password, and
    /// take a real CA for anything else.
    #[command(after_help = "Example:
  nossock cert new certs
  nossock serve tls://127.0.0.1:8797 --cert certs/server.pem --key certs/server.key --echo
  nossock request tls://localhost:8797 --ca certs/ca.pem hello '\"world\"'")]
    New {
        /// Where to; made if it is not there.
        dir: PathBuf,

        /// One more name or IP address of the server.
        #[arg(long, value_name = "NAME")]
        name: Vec<String>,

        /// Write over what is there.
        #[arg(long)]
        force: bool,
    },
    /// Show a certificate: of a file, or of the server at a tls:// URL.
    #[command(after_help = "Examples:
  nossock cert show certs/server.pem
  nossock cert show tls://localhost:8797")]
    Show {
        /// A PEM file, or tls://HOST:PORT.
        what: String,

        /// One JSON object a certificate.
        #[arg(long, env = "NOSSOCK_JSON")]
        json: bool,
    },
}

pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::New { dir, name, force } => make(dir, name, *force),
        Command::Show { what, json } => show(what, *json),
    }
}

/// A certificate for one run: for localhost and the loopback addresses, issued by itself, to be pinned.
pub(crate) fn ephemeral() -> Result<Identity, Failure> {
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = params("nossock", localhost())?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let cert = params.self_signed(&key).map_err(failed)?;
    Ok(Identity::from_pem(cert.pem(), key.serialize_pem())?)
}

fn make(dir: &Path, names: &[String], force: bool) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(|error| Failure::file(dir, &error))?;
    let files = ["ca", "server", "client"]
        .map(|name| (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key"))));
    if !force && let Some((taken, _)) = files.iter().find(|(cert, key)| cert.exists() || key.exists()) {
        return Err(Failure::Usage(format!("{} is there already; --force writes over it", taken.display())));
    }
    // A name of its own: two CAs of one name would be told apart by a bad signature only.
    let mark = RandomState::new().hash_one(dir) >> 40;
    let ca = Authority::generate(&format!("nossock development CA {mark:06x}"))?;
    let [ca_files, server_files, client_files] = &files;
    write(ca_files, &ca.certificate(), &ca.key())?;
    let (server, key) = issue(
        &ca,
        "nossock server",
        [localhost(), names.to_vec()].concat(),
        ExtendedKeyUsagePurpose::ServerAuth,
    )?;
    write(server_files, &server, &key)?;
    let (client, key) =
        issue(&ca, "nossock client", vec!["client".to_owned()], ExtendedKeyUsagePurpose::ClientAuth)?;
    write(client_files, &client, &key)?;
    for (cert, key) in &files {
        output::line(&format!("{}  {}", cert.display(), key.display()))?;
    }
    Ok(())
}

/// Writes a certificate and its key, the key for its owner only.
fn write((cert, key): &(PathBuf, PathBuf), cert_pem: &str, key_pem: &str) -> Result<(), Failure> {
    fs::write(cert, cert_pem).map_err(|error| Failure::file(cert, &error))?;
    files::write_private(key, key_pem.as_bytes())
}

fn show(what: &str, json: bool) -> Result<(), Failure> {
    let chain: Vec<Vec<u8>> =
        if what.starts_with("tls://") { of_server(what)? } else { of_file(Path::new(what))? };
    for der in chain {
        describe(&der, json)?;
    }
    Ok(())
}

fn of_file(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let bytes = fs::read(path).map_err(|error| Failure::file(path, &error))?;
    let mut chain = Vec::new();
    for pem in Pem::iter_from_buffer(&bytes) {
        let pem = pem.map_err(|error| Failure::Trust(format!("{}: {error}", path.display())))?;
        if pem.label == "CERTIFICATE" {
            chain.push(pem.contents);
        }
    }
    if chain.is_empty() {
        return Err(Failure::Trust(format!("{} holds no certificate in PEM", path.display())));
    }
    Ok(chain)
}

/// The chain that a server presents. Nothing is sent to it, and nothing it says is believed.
fn of_server(url: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Other(error.to_string()))?;
    runtime.block_on(async {
        let tls = ClientTls::builder().danger_accept_any_certificate().build()?;
        let config = Config { hello: false, ..Config::default() };
        let connector = Connector::new(url)?.tls(tls).config(config);
        debug_assert!(matches!(connector.address(), Address::Tls { .. }), "the caller has looked");
        let socket = connector.connect().await?;
        let chain =
            socket.peer().certificates().map(|chain| chain.chain().iter().map(|der| der.to_vec()).collect());
        chain.ok_or_else(|| Failure::Trust(format!("{url} presents no certificate")))
    })
}

fn describe(der: &[u8], json: bool) -> Result<(), Failure> {
    let (_, cert) = X509Certificate::from_der(der)
        .map_err(|error| Failure::Trust(format!("the certificate cannot be read: {error}")))?;
    let names: Vec<String> = match cert.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.iter().map(name).collect(),
        _ => Vec::new(),
    };
    let der = nossock::transport::tls::CertificateDer::from(der.to_vec());
    let fingerprint = Fingerprint::of(&der).to_string();
    let (subject, issuer) = (cert.subject().to_string(), cert.issuer().to_string());
    let (from, to) = (cert.validity().not_before.to_string(), cert.validity().not_after.to_string());
    if json {
        return output::json(&serde_json::json!({
            "subject": subject, "issuer": issuer, "names": names, "ca": cert.is_ca(),
            "not_before": from, "not_after": to, "sha256": fingerprint,
        }));
    }
    let valid = if cert.validity().is_valid() { "" } else { "  (not valid now)" };
    let text = format!(
        "subject      {}\nissuer       {}\nnames        {}\nCA           {}\nnot before   {from}\nnot after    {to}{valid}\nsha256       {fingerprint}\n",
        output::printable(&subject),
        output::printable(&issuer),
        output::printable(&names.join(", ")),
        if cert.is_ca() { "yes" } else { "no" },
    );
    output::line(&text)
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
            (*name).to_owned()
        }
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => std::net::Ipv4Addr::from(v4).to_string(),
            Err(_) => <[u8; 16]>::try_from(*bytes)
                .map_or_else(|_| "(a bad address)".to_owned(), |v6| std::net::Ipv6Addr::from(v6).to_string()),
        },
        other => other.to_string(),
    }
}
