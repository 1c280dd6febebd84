//! Round trips, as many as fit into a time, and how long each took.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::exit::Failure;
use crate::output;
use crate::text::duration;

/// How much is asked at once, and for how long.
#[expect(clippy::exhaustive_structs, reason = "both programs and this library come as one package")]
#[derive(Debug, Clone, clap::Args)]
pub struct Load {
    /// Connections.
    #[arg(short, long, value_name = "C", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub connections: u16,

    /// Asked at once on each.
    #[arg(short, long, value_name = "D", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub inflight: u16,

    /// For how long: 500ms, 2s, 1m.
    #[arg(short, long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub duration: Duration,
}

impl Load {
    /// Has `inflight` tasks for each peer ask, wait for the answer and ask again, until the time is over.
    ///
    /// # Errors
    /// The first failure of all.
    ///
    /// # Cancel safety
    /// Dropping it ends all tasks.
    pub async fn run<P, A, E>(
        &self,
        peers: &[P],
        ask: impl Fn(P) -> A + Clone + Send + 'static,
    ) -> Result<Times, Failure>
    where
        P: Clone + Send + 'static,
        A: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let start = Instant::now();
        let end = start + self.duration;
        let mut tasks = JoinSet::new();
        for peer in peers {
            for _ in 0..self.inflight {
                let (peer, ask) = (peer.clone(), ask.clone());
                tasks.spawn(async move {
                    let mut nanos = Vec::new();
                    while Instant::now() < end {
                        let start = Instant::now();
                        ask(peer.clone()).await?;
                        nanos.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
                    }
                    Ok::<_, E>(nanos)
                });
            }
        }
        let mut nanos = Vec::new();
        while let Some(task) = tasks.join_next().await {
            let task = task.map_err(|error| Failure::Other(error.to_string()))?;
            nanos.extend(task.map_err(Into::into)?);
        }
        nanos.sort_unstable();
        Ok(Times { nanos, elapsed: start.elapsed() })
    }
}

/// How long each took.
#[derive(Debug)]
pub struct Times {
    /// In order of length.
    nanos: Vec<u64>,
    elapsed: Duration,
}

impl Times {
    /// Prints them; `what` they were of, as a word for many.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn print(&self, what: &str) -> Result<(), Failure> {
        let seconds = self.elapsed.as_secs_f64();
        let rate = self.rate();
        output::line(&format!("{} {what} in {seconds:.2} s: {rate:.0} a second", self.nanos.len()))?;
        for (name, time) in self.quantiles() {
            output::line(&format!("{name}  {time:.1?}"))?;
        }
        Ok(())
    }

    /// As an object, with what the load was.
    #[must_use]
    pub fn to_json(&self, what: &str, load: &Load) -> Value {
        let mut object = json!({
            what: self.nanos.len(), "seconds": self.elapsed.as_secs_f64(), "per_second": self.rate(),
            "connections": load.connections, "inflight": load.inflight,
        });
        if let Some(object) = object.as_object_mut() {
            for (name, time) in self.quantiles() {
                let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                object.insert(format!("{name}_us"), micros.into());
            }
        }
        object
    }

    fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate is printed in a few digits")]
        let count = self.nanos.len() as f64;
        count / self.elapsed.as_secs_f64()
    }

    fn quantiles(&self) -> [(&'static str, Duration); 4] {
        let at = |part: usize| {
            let index = (self.nanos.len() * part / 1000).min(self.nanos.len().saturating_sub(1));
            Duration::from_nanos(self.nanos.get(index).copied().unwrap_or_default())
        };
        [("p50", at(500)), ("p90", at(900)), ("p99", at(990)), ("max", at(1000))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_measured() {
        let times = Times { nanos: (1..=1000).map(|n| n * 1000).collect(), elapsed: Duration::from_secs(2) };
        let load = Load { connections: 2, inflight: 3, duration: Duration::from_secs(2) };
        let object = times.to_json("calls", &load);
        assert_eq!((&object["calls"], &object["per_second"]), (&json!(1000), &json!(500.0)));
        assert_eq!(
            (&object["p50_us"], &object["p99_us"], &object["max_us"]),
            (&json!(501), &json!(991), &json!(1000))
        );
        assert_eq!(Times { nanos: Vec::new(), elapsed: Duration::ZERO }.quantiles()[3].1, Duration::ZERO);
    }

    #[tokio::test]
    async fn first_failure_ends_it() {
        let load = Load { connections: 1, inflight: 4, duration: Duration::from_secs(60) };
        let failed =
            load.run(&["peer"], |_| async { Err::<(), _>(Failure::NoHandler("gone".to_owned())) }).await;
        assert_eq!(failed.unwrap_err().status(), 7);
        let load = Load { duration: Duration::from_millis(20), ..load };
        let times = load
            .run(&["a", "b"], |_| async {
                tokio::task::yield_now().await;
                Ok::<_, Failure>(())
            })
            .await
            .unwrap();
        assert!(times.nanos.len() >= 8, "each of 2 × 4 tasks has asked: {}", times.nanos.len());
    }
}
