use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::connector::{Dialler, Settings};
use super::driver::Driver;
use super::error::DownReason;
use super::shared::{Shared, now};
use super::state::ClientState;
use crate::carrier::{Carrier, CarrierEnd, CarrierKind, Farewell};
use crate::machine::SpMode;
use crate::machine::client::{self as machine, Secrets};
use crate::secure::{Random as _, SystemRandom};

/// Keeps a client connected as long as somebody needs it to be.
///
/// ```text
///   Idle ──▶ Connecting ──▶ Up ──▶ Down, for a while ──▶ Connecting …
///    ▲                      │                       └──▶ Closed: trying again would not help
///    └── nobody needs it ◀──┴──▶ Closed: its owner closed it
/// ```
pub(super) async fn run(shared: Arc<Shared>, dialler: Option<Dialler>, mut first: Option<Box<dyn Carrier>>) {
    let guard = Guard(Arc::clone(&shared));
    let mut range = shared.settings.reconnect.map_or(Duration::ZERO, |reconnect| reconnect.first_delay);
    let end = loop {
        let carrier = match (first.take(), &dialler) {
            (Some(carrier), _) => Ok(carrier),
            (None, None) => break None,
            (None, Some(dialler)) => {
                if !wait_for_demand(&shared).await {
                    break None;
                }
                shared.state.send_replace(ClientState::Connecting);
                tokio::select! {
                    biased;
                    () = closing(&shared) => break None,
                    carrier = dialler.dial(&shared.settings) => carrier,
                }
            }
        };
        let began = Instant::now();
        let reason = match carrier {
            Ok(carrier) => match hold(&shared, carrier, dialler.as_ref()).await {
                Ok(()) => break None,
                Err(reason) => reason,
            },
            Err(reason) => reason,
        };
        let again = shared.settings.reconnect.filter(|_| dialler.is_some() && !reason.is_permanent());
        shared.with(|core, wakes| core.disconnect(again.is_some(), Some(&reason), wakes));
        let Some(reconnect) = again else { break Some(reason) };
        // A connection that held for a while was a good one.
        if began.elapsed() > reconnect.last_delay {
            range = reconnect.first_delay;
        }
        if !shared.lock().is_wanted() {
            tracing::debug!(%reason, "not connected, and nobody needs it");
            continue;
        }
        let wait = range.mul_f64(random_part());
        range = (range * 2).min(reconnect.last_delay);
        tracing::info!(%reason, ?wait, "not connected");
        let retry_at = Instant::now() + wait;
        shared.state.send_replace(ClientState::Down { reason, retry_at });
        tokio::select! {
            () = closing(&shared) => break None,
            () = sleep_until(retry_at) => {}
        }
    };
    guard.close(end);
}

/// How long a connection of no use is given to take its last bytes.
const LINGER: Duration = Duration::from_secs(1);

/// Marks the client as ended, in whatever way its task ends.
struct Guard(Arc<Shared>);

impl Guard {
    fn close(self, reason: Option<DownReason>) {
        self.end(reason);
    }

    fn end(&self, reason: Option<DownReason>) {
        self.0.with(|core, wakes| {
            core.closing = true;
            core.disconnect(false, reason.as_ref(), wakes);
        });
        self.0.state.send_if_modified(|state| {
            let lives = !matches!(state, ClientState::Closed { .. });
            if lives {
                *state = ClientState::Closed { reason };
            }
            lives
        });
        self.0.permits.close();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !matches!(&*self.0.state.borrow(), ClientState::Closed { .. }) {
            self.end(Some(DownReason::Stopped));
        }
    }
}

/// Waits until somebody needs a connection; `false` says that nobody will any more.
async fn wait_for_demand(shared: &Shared) -> bool {
    loop {
        {
            let core = shared.lock();
            if core.closing {
                return false;
            }
            if core.is_wanted() {
                return true;
            }
        }
        shared.state.send_if_modified(|state| {
            let news = !matches!(state, ClientState::Idle);
            *state = ClientState::Idle;
            news
        });
        shared.demand.notified().await;
    }
}

async fn closing(shared: &Shared) {
    while !shared.lock().closing {
        shared.demand.notified().await;
    }
}

/// Runs one connection to its end; `Ok` says that the client was closed.
async fn hold(
    shared: &Arc<Shared>,
    carrier: Box<dyn Carrier>,
    dialler: Option<&Dialler>,
) -> Result<(), DownReason> {
    let mut config = plan(&shared.settings, &*carrier);
    config.largest_text = carrier.largest_send();
    let machine = machine::Client::new(config, Box::new(SystemRandom), now());
    let largest = carrier.largest_send();
    shared.lock().connect(machine, largest);
    let host = dialler.map_or_else(|| carrier.peer().to_string(), |dialler| dialler.host().to_owned());
    let mut driver = Driver::new(Arc::clone(shared), carrier, host);
    let end = (&mut driver).await;
    let farewell = match &end {
        Ok(()) => Farewell::Normal,
        Err(DownReason::NotTrusted(_)) => Farewell::Refused("the key is not trusted".to_owned()),
        Err(DownReason::NotSecured(error)) => Farewell::Refused(error.to_string()),
        Err(DownReason::Ended(CarrierEnd::Io(_) | CarrierEnd::TimedOut { .. })) => return end,
        Err(_) => Farewell::Normal,
    };
    let mut carrier = driver.into_carrier();
    // Whoever waits for a connection that failed is not to wait for the peer's manners as well.
    let grace = shared.settings.connect.limits.close_grace;
    let grace = if end.is_ok() { grace } else { grace.min(LINGER) };
    // It has a limit of its own; this one is for carriers of somebody else's making as well.
    let _ = timeout(grace, poll_fn(|cx| carrier.poll_close(cx, &farewell))).await;
    end
}

/// What is asked of a connection, by who can listen to it.
///
/// Who could read along is no matter of the address, a name may lead anywhere, but of where the connection went.
fn plan(settings: &Settings, carrier: &dyn Carrier) -> machine::Config {
    let near = carrier.peer().address.is_some_and(|address| address.ip().to_canonical().is_loopback());
    let private = carrier.is_confidential() || near;
    let mut config = settings.machine.clone();
    config.sp = match settings.sp {
        _ if !private && !settings.plaintext => SpMode::Required,
        Some(mode) => mode,
        None => SpMode::WhenAsked,
    };
    config.secrets = if private { Secrets::Anywhere } else { Secrets::OnlySecured };
    config.acknowledges = !matches!(carrier.kind(), CarrierKind::Frames);
    config
}

/// A number from 0 to 1.
fn random_part() -> f64 {
    let mut bytes = [0; 4];
    SystemRandom.fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}
