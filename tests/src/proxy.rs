//! A proxy that does to a TCP connection what networks do, and worse; the same for the same seed.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// What happens to the bytes of one direction. Numbers are bytes, counted from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a story lists them all")]
pub enum Fault {
    /// Nothing.
    None,
    /// They arrive one by one.
    Split,
    /// They arrive in pieces of any size, with pauses of up to 3 ms between them.
    Delay,
    /// Up to so many arrive each millisecond.
    Throttle(usize),
    /// One bit of this one is another.
    Corrupt(u64),
    /// From this one on nothing comes, and nobody says so.
    Silence(u64),
    /// At this one the stream ends; the other direction goes on.
    HalfClose(u64),
    /// At this one both streams end.
    Truncate(u64),
    /// At this one both connections are reset.
    Reset(u64),
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made to be written as a literal")]
pub struct Plan {
    /// To what the client sends.
    pub up: Fault,
    /// To what the server sends.
    pub down: Fault,
    /// What is left to chance follows from this.
    pub seed: u64,
}

/// A proxy in front of a port of this machine. Dropped, it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    task: AbortHandle,
}

impl Proxy {
    /// Listens on a free port, and connects whoever comes with `target`.
    ///
    /// # Cancel safety
    /// Dropping it listens nowhere.
    pub async fn start(target: u16, plan: Plan) -> Self {
        Self::planned(target, move |number| Plan { seed: plan.seed ^ (number << 32), ..plan }).await
    }

    /// As [`start`](Self::start), with a plan for each connection, by its number from 0.
    ///
    /// # Cancel safety
    /// Dropping it listens nowhere.
    pub async fn planned(target: u16, mut plan: impl FnMut(u64) -> Plan + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0_u64.. {
                let Ok((near, _)) = listener.accept().await else { return };
                while connections.try_join_next().is_some() {}
                connections.spawn(carry(near, target, plan(number)));
            }
        });
        Self { port, task: task.abort_handle() }
    }

    /// Where it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a direction ended, when that ends the other one, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Cut,
    Reset,
}

async fn carry(near: TcpStream, target: u16, plan: Plan) {
    let Ok(far) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, target))).await else { return };
    for stream in [&near, &far] {
        let _ = stream.set_nodelay(true);
    }
    let (end, ended) = watch::channel(None);
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let up = direction(near_in, far_out, plan.up, Chance(plan.seed), end.clone(), ended.clone());
    let down = direction(far_in, near_out, plan.down, Chance(!plan.seed), end, ended);
    let (up, down) = tokio::join!(up, down);
    for half in [up.1, down.1] {
        if up.0 == Some(End::Reset) || down.0 == Some(End::Reset) {
            let _ = half.as_ref().set_zero_linger();
        }
        half.forget(); // the stream is closed with its other half, without a word before
    }
    drop((up.2, down.2));
}

async fn direction(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    fault: Fault,
    mut chance: Chance,
    end: watch::Sender<Option<End>>,
    mut ended: watch::Receiver<Option<End>>,
) -> (Option<End>, OwnedWriteHalf, OwnedReadHalf) {
    let relay = relay(&mut from, &mut to, fault, &mut chance);
    let how = tokio::select! {
        how = relay => how,
        _ = ended.wait_for(Option::is_some) => None,
    };
    if how.is_some() {
        end.send_replace(how);
    }
    let how = how.or(*ended.borrow());
    (how, to, from)
}

/// Carries bytes until the stream ends, which is said to the other side, or the fault ends both.
async fn relay(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    fault: Fault,
    chance: &mut Chance,
) -> Option<End> {
    let mut buffer = vec![0; 16 * 1024];
    let mut before = 0_u64;
    loop {
        let n = match from.read(&mut buffer).await {
            Ok(0) => {
                let _ = to.shutdown().await;
                return None;
            }
            Ok(n) => n,
            Err(_) => return Some(End::Reset),
        };
        let bytes = buffer.get_mut(..n).unwrap();
        let left = |at: u64| usize::try_from(at.saturating_sub(before)).unwrap_or(usize::MAX).min(n);
        let written = match fault {
            Fault::None => to.write_all(bytes).await,
            Fault::Split => in_pieces(to, bytes, || (1, Duration::ZERO)).await,
            Fault::Delay => {
                let mut piece = || (1 + chance.below(700), Duration::from_micros(chance.below(3000) as u64));
                in_pieces(to, bytes, &mut piece).await
            }
            Fault::Throttle(most) => in_pieces(to, bytes, || (most, Duration::from_millis(1))).await,
            Fault::Corrupt(at) => {
                if let Some(byte) =
                    at.checked_sub(before).and_then(|at| bytes.get_mut(usize::try_from(at).ok()?))
                {
                    *byte ^= 1 << chance.below(8);
                }
                to.write_all(bytes).await
            }
            Fault::Silence(at) => to.write_all(bytes.get(..left(at)).unwrap()).await,
            Fault::HalfClose(at) | Fault::Truncate(at) | Fault::Reset(at) => {
                let left = left(at);
                let written = to.write_all(bytes.get(..left).unwrap()).await;
                if left < n {
                    match fault {
                        Fault::Reset(_) => return Some(End::Reset),
                        Fault::Truncate(_) => return Some(End::Cut),
                        _ => {
                            let _ = to.shutdown().await;
                            // What still comes is read, or the writer would learn of it.
                            while matches!(from.read(&mut buffer).await, Ok(1..)) {}
                            return None;
                        }
                    }
                }
                written
            }
        };
        if written.is_err() {
            return Some(End::Reset);
        }
        before += n as u64;
    }
}

async fn in_pieces(
    to: &mut OwnedWriteHalf,
    mut bytes: &[u8],
    mut next: impl FnMut() -> (usize, Duration),
) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let (most, pause) = next();
        let (piece, rest) = bytes.split_at(most.clamp(1, bytes.len()));
        to.write_all(piece).await?;
        bytes = rest;
        if pause.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(pause).await;
        }
    }
    Ok(())
}

/// Numbers that look like chance and follow from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Chance(pub u64);

impl Chance {
    /// The next number below `limit`, which is not 0.
    #[allow(clippy::cast_possible_truncation, reason = "what is below a usize fits into one")]
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit.max(1) as u64) as usize
    }
}
