use std::collections::VecDeque;
use std::task::Waker;

use crate::proto::{Data, RawJson};

/// Most messages that a stream keeps for a reader that is slow, and most bytes in them: enough for a burst, and little enough to be
/// told soon.
pub(super) const MESSAGES: usize = 256;
pub(super) const BYTES: usize = 1024 * 1024;

/// As much is kept of what comes before anybody asks for it: what a service says in greeting.
const EARLY_MESSAGES: usize = 64;
const EARLY_BYTES: usize = 64 * 1024;

/// What a service has sent without being asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Happening {
    /// Data.
    Data(Data),
    /// An event.
    Event {
        /// Its name.
        event: String,
        /// What comes with it.
        data: Data,
    },
    /// An event with a blob.
    BlobEvent {
        /// Its name.
        event: String,
        /// What the service says about the blob.
        meta: Option<RawJson>,
        /// The blob.
        data: Data,
    },
    /// The connection was lost and the activity has been opened again: what was sent in between did not arrive.
    Reopened,
}

impl Happening {
    fn bytes(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Event { event, data } => event.len() + data.len(),
            Self::BlobEvent { event, meta, data } => {
                event.len() + data.len() + meta.as_ref().map_or(0, |meta| meta.as_bytes().len())
            }
            Self::Reopened => 0,
        }
    }

    /// A copy that keeps no read buffer alive, if it is small. A large one nearly fills what it came in.
    fn detached(self) -> Self {
        const LARGE: usize = 8 * 1024;
        let detach = |data| match data {
            Data::Json(json) if json.as_bytes().len() < LARGE => Data::Json(json.detached()),
            Data::Blob(blob) if blob.len() < LARGE => Data::Blob(bytes::Bytes::copy_from_slice(&blob)),
            other => other,
        };
        match self {
            Self::Data(data) => Self::Data(detach(data)),
            Self::Event { event, data } => Self::Event { event, data: detach(data) },
            Self::BlobEvent { event, meta, data } => {
                Self::BlobEvent { event, meta: meta.map(|meta| meta.detached()), data: detach(data) }
            }
            Self::Reopened => Self::Reopened,
        }
    }
}

/// What a stream wants to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    All,
    Data,
    Event(String),
    BlobEvent(String),
}

impl Wanted {
    fn wants(&self, happening: &Happening) -> bool {
        match (self, happening) {
            (Self::All, _) | (Self::Data, Happening::Data(_)) | (_, Happening::Reopened) => true,
            (Self::Event(wanted), Happening::Event { event, .. })
            | (Self::BlobEvent(wanted), Happening::BlobEvent { event, .. }) => wanted == event,
            _ => false,
        }
    }
}

/// Messages that wait for a reader. When there are too many, the oldest go, and the reader is told how many.
#[derive(Debug)]
struct Queue {
    messages: VecDeque<Happening>,
    bytes: usize,
    missed: u64,
    most_messages: usize,
    most_bytes: usize,
}

impl Queue {
    const fn new(most_messages: usize, most_bytes: usize) -> Self {
        Self { messages: VecDeque::new(), bytes: 0, missed: 0, most_messages, most_bytes }
    }

    fn push(&mut self, happening: Happening) {
        self.bytes += happening.bytes();
        self.messages.push_back(happening);
        // The last one stays, however large: it was let in by the carrier.
        while self.messages.len() > self.most_messages
            || (self.bytes > self.most_bytes && self.messages.len() > 1)
        {
            let Some(gone) = self.messages.pop_front() else { return };
            self.bytes -= gone.bytes();
            self.missed += 1;
        }
    }

    fn pop(&mut self) -> Option<Happening> {
        let next = self.messages.pop_front()?;
        self.bytes -= next.bytes();
        Some(next)
    }
}

/// Names a stream among those of an activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamKey(u64);

/// Everything that has come for one activity, by the streams that want it.
#[derive(Debug)]
pub(super) struct Inbox {
    streams: Vec<Reader>,
    last: u64,
    /// What nobody has asked for yet.
    early: Queue,
    ended: bool,
}

#[derive(Debug)]
struct Reader {
    key: StreamKey,
    wanted: Wanted,
    queue: Queue,
    waker: Option<Waker>,
}

/// What a stream finds.
#[derive(Debug)]
pub(super) enum Found {
    Happening(Happening),
    Missed(u64),
    Nothing,
    End,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { streams: Vec::new(), last: 0, early: Queue::new(EARLY_MESSAGES, EARLY_BYTES), ended: false }
    }
}

impl Inbox {
    /// Makes a stream. What has come early and is wanted belongs to the first that asks.
    pub(super) fn subscribe(&mut self, wanted: Wanted) -> StreamKey {
        self.last += 1;
        let key = StreamKey(self.last);
        let mut queue = Queue::new(MESSAGES, BYTES);
        for early in std::mem::take(&mut self.early.messages) {
            if wanted.wants(&early) {
                self.early.bytes -= early.bytes();
                queue.push(early);
            } else {
                self.early.messages.push_back(early);
            }
        }
        self.streams.push(Reader { key, wanted, queue, waker: None });
        key
    }

    pub(super) fn unsubscribe(&mut self, key: StreamKey) {
        self.streams.retain(|reader| reader.key != key);
    }

    pub(super) fn push(&mut self, happening: Happening, wakes: &mut Vec<Waker>) {
        let happening = happening.detached();
        let mut anybody = false;
        for reader in self.streams.iter_mut().filter(|reader| reader.wanted.wants(&happening)) {
            anybody = true;
            reader.queue.push(happening.clone());
            wakes.extend(reader.waker.take());
        }
        if !anybody && !matches!(happening, Happening::Reopened) {
            self.early.push(happening);
        }
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self, wakes: &mut Vec<Waker>) {
        self.ended = true;
        wakes.extend(self.streams.iter_mut().filter_map(|reader| reader.waker.take()));
    }

    pub(super) fn next(&mut self, key: StreamKey, waker: &Waker) -> Found {
        let Some(reader) = self.streams.iter_mut().find(|reader| reader.key == key) else {
            return Found::End;
        };
        if reader.queue.missed > 0 {
            return Found::Missed(std::mem::take(&mut reader.queue.missed));
        }
        match reader.queue.pop() {
            Some(happening) => Found::Happening(happening),
            None if self.ended => Found::End,
            None => {
                reader.waker = Some(waker.clone());
                Found::Nothing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, bytes: usize) -> Happening {
        Happening::Event { event: name.into(), data: Data::Blob(vec![0; bytes].into()) }
    }

    fn all(inbox: &mut Inbox, key: StreamKey) -> (usize, u64) {
        let (mut seen, mut missed) = (0, 0);
        loop {
            match inbox.next(key, Waker::noop()) {
                Found::Happening(_) => seen += 1,
                Found::Missed(n) => missed += n,
                Found::Nothing | Found::End => return (seen, missed),
            }
        }
    }

    #[test]
    fn slow_reader_loses_the_oldest_and_is_told_how_many() {
        let mut inbox = Inbox::default();
        let slow = inbox.subscribe(Wanted::Event("a".into()));
        for _ in 0..MESSAGES + 5 {
            inbox.push(event("a", 1), &mut Vec::new());
        }
        assert_eq!(all(&mut inbox, slow), (MESSAGES, 5));
        for _ in 0..3 {
            inbox.push(event("a", BYTES / 2), &mut Vec::new());
        }
        assert_eq!(all(&mut inbox, slow), (1, 2));
        inbox.push(event("a", 2 * BYTES), &mut Vec::new());
        assert_eq!(all(&mut inbox, slow), (1, 0));
    }

    #[test]
    fn what_came_early_belongs_to_the_first_who_asks() {
        let mut inbox = Inbox::default();
        for _ in 0..EARLY_MESSAGES + 1 {
            inbox.push(event("a", 1), &mut Vec::new());
        }
        inbox.push(event("b", 1), &mut Vec::new());
        inbox.push(Happening::Reopened, &mut Vec::new());
        let (first, second) = (inbox.subscribe(Wanted::Event("a".into())), inbox.subscribe(Wanted::All));
        assert_eq!(all(&mut inbox, first), (EARLY_MESSAGES - 1, 0));
        assert_eq!(all(&mut inbox, second), (1, 0));
        inbox.unsubscribe(second);
        assert!(matches!(inbox.next(second, Waker::noop()), Found::End));
    }

    #[test]
    fn every_reader_gets_what_it_wants_and_all_are_woken_at_the_end() {
        let mut inbox = Inbox::default();
        let one = inbox.subscribe(Wanted::Event("a".into()));
        let other = inbox.subscribe(Wanted::All);
        let blobs = inbox.subscribe(Wanted::BlobEvent("a".into()));
        let mut wakes = Vec::new();
        inbox.push(event("a", 1), &mut wakes);
        assert_eq!([one, other, blobs].map(|key| all(&mut inbox, key)), [(1, 0), (1, 0), (0, 0)]);
        inbox.end(&mut wakes);
        assert_eq!(wakes.len(), 3);
        assert!(matches!(inbox.next(one, Waker::noop()), Found::End));
    }
}
