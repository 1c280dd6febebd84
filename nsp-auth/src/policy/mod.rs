//! Who may do what: roles, and what they grant and deny.
//!
//! ```toml
//! [roles.anonymous]                       # nobody has proved who they are
//! grants = [{ may = "read", on = "Chat", functions = "history" }]
//!
//! [roles.user]                            # everybody who has
//! inherits = "anonymous"
//! grants = [
//!     { may = ["read", "create", "update:own", "delete:own"], on = "Notes", shows = ["*", "!secret"] },
//! ]
//!
//! [roles.editor]
//! inherits = ["user"]
//! grants = [{ may = "*", on = "Notes*" }]
//! denies = [{ may = "delete", on = "*", functions = "*Archive" }]
//!
//! [users]                                 # names of users, as they sign in
//! alice = ["editor"]
//!
//! [services]                              # services that call others
//! NoMailer = "user"                       # may what users may, and proves nothing for it
//!
//! [functions.Notes]                       # what functions do
//! "list*" = "read"
//! get = "read"
//! add = "create"
//! remove = "delete"
//! profile = "update:own"                  # concerns nothing but the caller's own
//! ```
//!
//! The same is written in JSON as one object with these members. What a list would hold alone may stand without the list.
//!
//! # What decides
//!
//! A **subject** is a user, a service, or nobody. It has the roles that the policy gives it, those that the authority adds (the role `superuser`,
//! say, for whom its store knows as one), and one that goes without saying: `user` for whoever has proved to be one, `anonymous` for who is nobody.
//! Roles have what they inherit.
//!
//! A service is a subject when it calls another one of the same daemon, for itself, over the connection that the daemon makes it:
//! [`Emitter::connect_local`](nsp::daemon::Emitter::connect_local). It has the roles of its line in `[services]` and no other: without one it
//! may nothing. What it opens for a user is that user's. Nobody can claim to be a service.
//!
//! Of the rules of all roles of the subject:
//!
//! 1. a denial that applies decides, whatever grants it;
//! 2. else a grant that applies does;
//! 3. else it is denied.
//!
//! Superusers are no exception: what they may, the role `superuser` says, and `[roles.superuser]` with `grants = [{ may = "*", on = "*" }]` is
//! what most want. Without that role they may what every user may, which is [said in the log](Policy::names_superusers) when the policy is put in
//! place. A rank that grants by itself would be a rule that stands in no policy, and that no denial could be seen to meet.
//!
//! Where no policy is loaded everything is permitted, and functions guard themselves. A rule applies if it is about the **service**
//! (`on`), the **function** (`functions`, all of them if it says nothing) and the **verb** (`may`). In names `*` stands for anything.
//! [`explain`] says which rule it was.
//!
//! # What counts as what
//!
//! NSP knows three actions, policies four verbs. The verb of a function is a fact about the function, so it is said once, in
//! `[functions]`, and not by every grant. A name without `*` goes before one with, then the one with more letters.
//!
//! | action | counts as |
//! |---|---|
//! | [`Call`](nsp::authority::Action::Call) | what `[functions]` says of the function; `update` if it says nothing, which a grant to `read` does not cover |
//! | [`Send`](nsp::authority::Action::Send) | the same, for the function `@send`, or the event's name if it has one |
//! | [`Open`](nsp::authority::Action::Open) | nothing: whoever is granted anything of a service may open it, as without that they could not do it. A denial keeps it shut if it denies all verbs (`may = "*"`) on all functions, or on `@open` |
//!
//! `any` is whatever it concerns, and goes without saying; `own` is what belongs to the user. Whose it is, an
//! [`Access`](nsp::authority::Access) says: the service tells the daemon, function by function, with
//! [`owner_of`](nsp::daemon::Service::owner_of). Where it does not, nothing is anybody's own, but for functions that are declared with `:own`, which say that they
//! keep to what is the caller's. What the service tells goes before what is declared. A thing of nobody's is for those who may with any.
//!
//! # What comes back
//!
//! `shows` filters an answer: paths with dots between, `*` for any part of a name; `!` hides, whatever else of the list shows it. Elements of
//! an array are seen through: `items.secret` is that of each. An answer without attributes is shown if `*` is. Of a blob, what is said about
//! it is filtered; the blob itself has no attributes, and is shown whole. What several grants show adds up; a grant without `shows` shows
//! all. Events that a service emits are no answers, and are not filtered.

mod attributes;
mod cache;
mod decide;
mod error;
mod explain;
mod load;
mod members;
mod model;
mod pattern;
mod policies;
mod tree;
mod verb;

pub use self::decide::{Actor, Decision, OPEN, RuleId, SEND, Subject, decide};
pub use self::error::PolicyError;
pub use self::explain::{DecidingRule, Explanation, explain};
pub use self::model::Policy;
pub use self::policies::Policies;
pub use self::verb::Verb;

#[cfg(test)]
mod tests;
