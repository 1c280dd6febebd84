//! Where the program keeps its files.
//!
//! ```text
//!  --home, NSP_HOME, or the platform's folder of settings      --data, NSP_DATA, or the platform's folder of data
//!  ├── contexts.toml    named profiles                         ├── nsp.toml        the configuration, if there is one
//!  ├── tokens.toml      of logins; for its owner only          ├── nsp.db          users and tokens
//!  ├── known_daemons    certificates and keys that are trusted ├── ca.pem, ca.key  issues the certificate
//!  └── history          of the shell; without secrets          ├── tls.pem, tls.key
//!                                                              ├── sp.key          RSA, for carriers without TLS
//!                                                              └── services/       one folder a service
//! ```

use std::path::{Path, PathBuf};

use directories::ProjectDirs;

use nsp_cli::exit::Failure;

/// Where a client keeps its files.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Home {
    /// The folder of contexts, tokens and known daemons, if not the platform's.
    #[arg(long = "home", value_name = "DIR", env = "NSP_HOME", help_heading = "Settings")]
    home: Option<PathBuf>,
}

impl Home {
    fn file(&self, name: &str) -> Result<PathBuf, Failure> {
        match &self.home {
            Some(home) => Ok(home.join(name)),
            None => Ok(project()?.config_dir().join(name)),
        }
    }

    pub(crate) fn contexts(&self) -> Result<PathBuf, Failure> {
        self.file("contexts.toml")
    }

    pub(crate) fn tokens(&self) -> Result<PathBuf, Failure> {
        self.file("tokens.toml")
    }

    pub(crate) fn known_daemons(&self) -> Result<PathBuf, Failure> {
        self.file("known_daemons")
    }

    pub(crate) fn history(&self) -> Result<PathBuf, Failure> {
        self.file("history")
    }
}

/// The folder of a daemon where none is named.
pub(crate) fn default_data() -> Result<PathBuf, Failure> {
    Ok(project()?.data_dir().to_owned())
}

fn project() -> Result<ProjectDirs, Failure> {
    ProjectDirs::from("", "", "nsp").ok_or_else(|| {
        Failure::Usage("there is no home folder: name one with --home, or --data for the daemon".to_owned())
    })
}

/// The files of a daemon.
#[derive(Debug, Clone)]
pub(crate) struct Data {
    folder: PathBuf,
}

impl Data {
    pub(crate) fn new(folder: Option<&Path>) -> Result<Self, Failure> {
        let folder = folder.map_or_else(default_data, |folder| Ok(folder.to_owned()))?;
        let folder = std::path::absolute(&folder).map_err(|error| Failure::file(&folder, &error))?;
        Ok(Self { folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether it is the one that is taken where none is named.
    pub(crate) fn is_default(&self) -> bool {
        default_data().is_ok_and(|default| default == self.folder)
    }
}
