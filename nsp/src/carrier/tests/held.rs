//! Reading that is held back.

use super::*;

#[tokio::test(start_paused = true)]
async fn message_that_is_not_read_meanwhile_has_its_time_afterwards() {
    for &kind in KINDS {
        let (mut carrier, mut peer) = daemon(kind, Limits::default());
        let message = by_hand(kind, "{}");
        let (begin, rest) = message.split_at(message.len() - 1);
        let (one, two) = begin.split_at(begin.len() / 2);
        peer.write_all(one).await.unwrap();
        assert!(receive_now(&mut *carrier).is_none());
        tokio::time::sleep(Duration::from_secs(20)).await;
        carrier.hold();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        peer.write_all(two).await.unwrap();
        assert!(receive_now(&mut *carrier).is_none(), "{kind:?}: it was us who did not read");
        tokio::time::sleep(Duration::from_secs(29)).await;
        peer.write_all(rest).await.unwrap();
        receive(&mut *carrier).await.unwrap();
        // And no more than that.
        peer.write_all(begin).await.unwrap();
        assert!(receive_now(&mut *carrier).is_none());
        carrier.hold();
        let start = Instant::now();
        let end = receive(&mut *carrier).await.unwrap_err();
        assert_eq!(end.to_string(), "receiving a message took longer than 30s", "{kind:?}");
        assert_eq!(start.elapsed().as_secs(), 30);
    }
}
