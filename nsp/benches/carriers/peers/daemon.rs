//! The daemon that is measured: one service, and an authority that has every answer at hand.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nossock::transport::tls::{self, ServerTls, TlsVersion};
use nsp::authority::{Answer as Says, Authority, Denied, Origin, Proved};
use nsp::daemon::{Blob, Daemon, DaemonBuilder, Emitter, Entity, Fail, Json, Limits, Listen, Service};
use nsp::secure::ServerKey;
use nsp::{Password, Token};

use crate::measure::descriptors;
use crate::messages::{Answer, Ask, Note, weigh_blob};
use crate::net::Listener;

/// What the service is called.
pub(super) const SERVICE: &str = "Bench";

/// The one user there is, and what proves it.
pub(super) const USER: &str = "alice";
pub(super) const TOKEN: &str = "5b7c0d8fcf5f4b1f8a2c9d3e6f708192";

/// Who receives what is sent to all.
const FAN: &str = "fan";

fn service() -> Service<()> {
    Service::new(SERVICE)
        .function("add", async |Json(ask): Json<Ask>| -> Answer { ask.answer() })
        .secure_function("secure", async |Json(ask): Json<Ask>| -> Answer { ask.answer() })
        .blob_function("weigh", async |Blob(blob): Blob| -> Result<i64, Fail> {
            weigh_blob(&blob).map_err(|error| Fail::new("altered", error.to_string()))
        })
        .function("join", async |entity: Entity| -> Result<(), Fail> {
            entity.join(FAN)?;
            Ok(())
        })
        .function("fan", async |emitter: Emitter| -> Result<usize, Fail> {
            Ok(emitter.to_groups([FAN]).emit("note", &Note::number(0)).await?.sent)
        })
}

/// A daemon without listeners: as many connections as there are descriptors, and all of them from one address.
pub(super) fn builder() -> DaemonBuilder {
    let most = descriptors().max(64);
    let rate = u32::try_from(most).unwrap_or(u32::MAX);
    let limits = Limits {
        connections: most,
        connections_per_address: most,
        fresh_per_address: most,
        accept_rate: rate,
        accept_burst: rate,
        ..Limits::default()
    };
    Daemon::builder().limits(limits).service(service()).authority(Knows)
}

/// Serves on the listener's port.
pub(super) async fn serve(listener: Listener, scheme: &str, secured: bool) -> io::Result<()> {
    let address: SocketAddr = listener.tcp.local_addr()?;
    let mut listen = Listen::on(format!("{scheme}://{address}"));
    if let Some(identity) = &listener.identity {
        let identity = tls::Identity::from_pem(&identity.pem.0, &identity.pem.1).map_err(io::Error::other)?;
        let tls =
            ServerTls::builder(identity).versions([TlsVersion::Tls13]).alpn([nsp::carrier::WEB_ALPN]).build();
        listen = listen.tls(tls.map_err(io::Error::other)?);
    }
    if secured {
        listen = listen.sp(Arc::new(ServerKey::generate().map_err(io::Error::other)?));
    }
    // A daemon binds its sockets itself. Who comes in between is refused, and tries again.
    drop(listener);
    let daemon = builder().listen(listen).bind().await.map_err(io::Error::other)?;
    tokio::spawn(daemon.serve()).await.map_err(io::Error::other)
}

/// Knows one user, who is a superuser.
#[derive(Debug)]
struct Knows;

impl Authority for Knows {
    fn has_policy(&self) -> bool {
        false
    }

    fn sign_in<'a>(&'a self, _: &'a str, _: Option<Password>, _: Origin) -> Says<'a, Result<Token, Denied>> {
        Says::now(Err(Denied::Wrong))
    }

    fn judge_token<'a>(
        &'a self,
        user: &'a str,
        token: &'a Token,
        _: Origin,
    ) -> Says<'a, Result<Proved, Denied>> {
        let right = user == USER && token.reveal() == TOKEN;
        Says::now(if right { Ok(Proved { rely_for: Duration::from_secs(3600) }) } else { Err(Denied::Wrong) })
    }

    fn judge_password<'a>(
        &'a self,
        _: &'a str,
        _: &'a Password,
        _: Origin,
    ) -> Says<'a, Result<Proved, Denied>> {
        Says::now(Err(Denied::Wrong))
    }

    fn privilege<'a>(&'a self, user: &'a str) -> Says<'a, Result<Option<i64>, Denied>> {
        Says::now(Ok((user == USER).then_some(0)))
    }
}
