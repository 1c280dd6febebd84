//! How `nsp user`, `nsp token` and `nsp top` reach the administration: over the wire, or in the folder of a daemon that does not run.

use std::path::{Path, PathBuf};

use nsp::client::{Activity, Client, Login};
use nsp::daemon::Daemon;
use nsp_auth::Authority;
use serde::Serialize;
use serde_json::Value;

use nsp_cli::exit::{Failure, chain};
use nsp_cli::files;

use crate::daemon::admin;
use crate::place::Data;

use super::reach::{Reach, Session, Stay};

/// Where the administration is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Office {
    /// Work on the folder of a daemon that does not run, as whoever may write there, instead of asking one that does.
    #[arg(long, value_name = "DIR", env = "NSP_LOCAL_DATA", help_heading = "Daemon")]
    data: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// The administration.
#[derive(Debug)]
pub(crate) struct Admin {
    activity: Activity,
    session: Option<Session>,
    local: Option<Local>,
}

/// A daemon in this process that listens nowhere.
#[derive(Debug)]
struct Local {
    client: Client,
    authority: Authority,
    token: (nsp_auth::user::Username, nsp_auth::token::TokenId),
    _daemon: Daemon,
    _alone: files::Lock,
}

impl Office {
    pub(crate) async fn open(&self) -> Result<Admin, Failure> {
        if let Some(data) = &self.data {
            return Admin::local(data).await;
        }
        let session = self.reach.connect(Stay::Once).await?;
        let activity = session.open(admin::NAME).await?;
        Ok(Admin { activity, session: Some(session), local: None })
    }

    /// Whether a password that the daemon asks for would be that of this user.
    pub(crate) fn is_me(&self, name: &str) -> Result<bool, Failure> {
        Ok(self.data.is_none() && self.reach.target()?.user.as_deref() == Some(name))
    }

    /// Whether something that ends one's own login was done, judged by what became of it: its end cuts the connection that has asked
    /// for it, and the answer with it.
    pub(crate) async fn has_ended(&self, answer: Result<Value, Failure>) -> Result<(), Failure> {
        match answer {
            Ok(_) => Ok(()),
            Err(failure @ (Failure::Disconnected(_) | Failure::Remote(_))) if self.data.is_none() => {
                match self.reach.who_am_i().await {
                    Err(Failure::NotAuthenticated(_)) => Ok(()),
                    _ => Err(failure),
                }
            }
            Err(failure) => Err(failure),
        }
    }

    pub(crate) const fn is_local(&self) -> bool {
        self.data.is_some()
    }
}

impl Admin {
    /// Serves the folder to itself, by the same functions: whoever may write there is a superuser anyway.
    async fn local(folder: &Path) -> Result<Self, Failure> {
        let data = Data::new(Some(folder))?;
        let path = data.file("nsp.db");
        if !path.exists() {
            return Err(Failure::Usage(format!(
                "{} is no folder of a daemon: it has no nsp.db",
                folder.display()
            )));
        }
        let Some(alone) = files::Lock::try_take(&data.file("lock"))? else {
            return Err(Failure::Usage(format!(
                "a daemon uses {}: leave out --data, and it is asked",
                folder.display()
            )));
        };
        let failed =
            |error: &dyn std::error::Error| Failure::Other(format!("{}: {}", path.display(), chain(error)));
        let authority = Authority::open(&path).await.map_err(|error| failed(&error))?;
        let users = authority.users().by("nsp --data");
        let mut superuser = None;
        let mut after = None;
        while superuser.is_none() {
            let page = users.search("", after.as_ref(), 1000).await.map_err(|error| failed(&error))?;
            superuser = page.users.into_iter().find(|user| user.privilege == 0 && !user.locked);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let superuser = superuser
            .ok_or_else(|| Failure::Other(format!("{} has no superuser who can log in", path.display())))?;
        let issued = users.issue_token(&superuser, "nsp --data").await;
        let (token, record) = issued.map_err(|error| failed(&error))?;
        let daemon =
            Daemon::builder().authority(authority.clone()).service(admin::service(authority.clone()));
        let daemon = daemon.bind().await.map_err(|error| failed(&error))?;
        let client = Client::connect("nsp://localhost:1")
            .credentials(Login::new(superuser.name.as_str()).token(token))
            .over(daemon.handle().connect_local());
        let activity = client.activity(admin::NAME).owner(superuser.name.as_str()).open().await?;
        let token = (superuser.name, record.hash.id());
        let local = Local { client, authority, token, _daemon: daemon, _alone: alone };
        Ok(Self { activity, session: None, local: Some(local) })
    }

    /// Calls one of the functions.
    pub(crate) async fn call(
        &self,
        function: &str,
        argument: &(impl Serialize + ?Sized),
    ) -> Result<Value, Failure> {
        Ok(self.activity.call(function, argument).await?)
    }

    pub(crate) async fn close(self) {
        if let Some(session) = self.session {
            session.close().await;
        }
        if let Some(Local { client, authority, token: (user, id), .. }) = self.local {
            client.close().await;
            // It was for this one command.
            drop(authority.users().by("nsp --data").revoke_token(user, id).await);
            drop(authority.close().await);
        }
    }
}
