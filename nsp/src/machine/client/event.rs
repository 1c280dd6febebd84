//! What a client learns, and why something it wanted did not happen.

use crate::machine::{Ignored, SpError, key, waiting};
use crate::proto::au::{Notice, Question};
use crate::proto::{Data, EncodeError, EntityId, Failure, Packet, RawJson};
use crate::secret::Token;

key! {
    /// An activity of this client, from the moment it is asked for.
    ActivityKey
}
key! {
    /// A call, a send, or a request for a token that waits for its answer.
    CallKey
}

impl CallKey {
    /// Its place in the slab of the calls; no other call has that as long as this one waits.
    pub(crate) const fn place(self) -> Option<usize> {
        waiting::place(self.0)
    }
}

key! {
    /// A question of the daemon that waits for its answer.
    QuestionKey
}

/// What has happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The daemon has sent its key: look at [`offered_key`](super::Client::offered_key), then [`judge`](super::Client::judge) it.
    KeyOffered,
    /// From here on everything is encrypted.
    Secured,
    /// An activity can be used now.
    Opened {
        /// Which.
        activity: ActivityKey,
        /// What the daemon calls it.
        entity: EntityId,
    },
    /// An activity could not be opened. It is gone.
    NotOpened {
        /// Which.
        activity: ActivityKey,
        /// Why.
        error: OpenError,
    },
    /// The daemon has closed an activity. It is gone.
    Closed {
        /// Which.
        activity: ActivityKey,
    },
    /// A call or a send has come to its end.
    Answered {
        /// Which.
        call: CallKey,
        /// What came back.
        result: Result<Reply, CallError>,
    },
    /// A request for a token has come to its end.
    Token {
        /// Which.
        call: CallKey,
        /// The token; `None` when the password or the user is wrong.
        result: Result<Option<Token>, CallError>,
    },
    /// The service has sent data.
    Data {
        /// To whom.
        activity: ActivityKey,
        /// What.
        data: Data,
    },
    /// The service has sent an event.
    Event {
        /// To whom.
        activity: ActivityKey,
        /// Its name.
        event: String,
        /// What.
        data: Data,
    },
    /// The service has sent an event with a blob.
    BlobEvent {
        /// To whom.
        activity: ActivityKey,
        /// Its name.
        event: String,
        /// What the service says about the blob.
        meta: Option<RawJson>,
        /// What.
        data: Data,
    },
    /// The daemon wants a token or a password: [`answer`](super::Client::answer) it.
    Question {
        /// Which.
        key: QuestionKey,
        /// What it wants.
        question: Question,
        /// Whose.
        user: Option<String>,
    },
    /// A question was declined at once.
    QuestionDeclined {
        /// What the daemon wanted.
        question: Question,
        /// Why it does not get it.
        reason: Declined,
    },
    /// Nobody answered a question in time, and it was declined.
    QuestionExpired {
        /// Which.
        key: QuestionKey,
    },
    /// The daemon says that a token or a password was wrong, or that somebody should sign in.
    Notice {
        /// What.
        notice: Notice,
        /// Whom it concerns, if the daemon said so and it is one of ours.
        activity: Option<ActivityKey>,
    },
    /// A packet of a method that was registered by the user.
    Custom(Packet),
    /// Something was not acted upon.
    Ignored(Ignored),
}

/// Why a question of the daemon was declined without asking anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Declined {
    /// The answer would go over a connection that is not secured.
    WouldLeak,
    /// Too many questions wait already.
    TooMany,
}

/// What came back from a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// What the service says about the blob.
    pub meta: Option<RawJson>,
    /// The result.
    pub data: Data,
}

/// Why an activity was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The daemon has no such service, or no room.
    #[error("the daemon did not create the entity: {0}")]
    NotCreated(Box<Failure>),
    /// The service does not want us.
    #[error("the service refused the entity: {0}")]
    Refused(Box<Failure>),
    /// The daemon did not answer in time.
    #[error("the daemon did not answer in time")]
    Timeout,
    /// The connection has ended.
    #[error("the connection has ended")]
    Disconnected,
}

/// Why a call did not return.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The other side says that it failed.
    #[error(transparent)]
    Failed(Box<Failure>),
    /// The deadline has passed. The service may have done it all the same.
    #[error("no answer in time")]
    Timeout,
    /// The activity was closed meanwhile. The service may have done it all the same.
    #[error("the activity was closed")]
    Closed,
    /// The connection has ended. The service may have done it all the same.
    #[error("the connection has ended")]
    Disconnected,
}

/// Why something was not even begun. Nothing has been sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// There is no such activity, or it is not open yet.
    #[error("the activity is not open")]
    NotOpen,
    /// As many calls as allowed wait for their answers.
    #[error("{limit} calls wait for their answers already")]
    TooManyCalls {
        /// The limit.
        limit: usize,
    },
    /// As many activities as allowed exist.
    #[error("{limit} activities exist already")]
    TooManyActivities {
        /// The limit.
        limit: usize,
    },
    /// It would give a secret away.
    #[error("a secret does not go over a connection that is not secured")]
    WouldLeak,
    /// The packet cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Too much waits for the connection to be secured.
    #[error(transparent)]
    NotSecuredYet(#[from] SpError),
    /// The connection has ended.
    #[error("the connection has ended")]
    Disconnected,
}
