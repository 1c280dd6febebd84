use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that exists only while something is due.
///
/// A timer that is set to an earlier time than wanted stays: it fires once for nothing and is then set anew or thrown away, which
/// is cheaper than setting it for every message.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Ready when `due` has come. Nothing is ever due at `None`.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, due: Option<Instant>) -> Poll<()> {
        let Some(due) = due else {
            if self.sleep.as_ref().is_some_and(|sleep| sleep.is_elapsed()) {
                self.sleep = None;
            }
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if sleep.deadline() > due {
            sleep.as_mut().reset(due);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= due {
                self.sleep = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fires_at_the_time_wanted_last_and_is_gone_then() {
        let mut alarm = Alarm::default();
        let start = Instant::now();
        let at = |seconds| Some(start + Duration::from_secs(seconds));
        poll_fn(|cx| {
            assert!(alarm.poll(cx, at(5)).is_pending());
            assert!(alarm.poll(cx, at(9)).is_pending());
            Poll::Ready(())
        })
        .await;
        poll_fn(|cx| alarm.poll(cx, at(9))).await;
        assert_eq!(start.elapsed().as_secs(), 9);
        assert!(alarm.sleep.is_none());

        poll_fn(|cx| {
            assert!(alarm.poll(cx, at(90)).is_pending());
            Poll::Ready(())
        })
        .await;
        poll_fn(|cx| alarm.poll(cx, at(20))).await;
        assert_eq!(start.elapsed().as_secs(), 20);
    }
}
