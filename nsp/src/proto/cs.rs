//! CS, call service: entities are created, verified, used and closed.
//!
//! ```text
//! client → daemon  CSrq  CE {t,o,m,s,od,k}            daemon → client  CSrs  CE {t,i,e:false} or {t,e:{}}
//!                        VE {i}                                              VE {i,s}
//!                        SS {i,d}                                            SS {i,s}
//!                        SF {i,n,t,d}                                        SF {t,i,s,d}
//!                        BS {i,n,t,d:null,m} + blob                          BS {t,i,s,m,d:null} + blob
//!                        CS {i}                                              (none)
//! ```
//!
//! Each stands in `{"m":"SF","d":{…}}`, and that in a [packed](super::packed) body:
//! `43537271 30303030303030303030303030303333 7b226d223a225645222c2264223a7b2269223a225f…227d7d` is
//! `CSrq0000000000000033{"m":"VE","d":{"i":"_cc01wlaqg"}}`.
//!
//! The letters: `t` request id, `o` owner, `m` mode (in BS: metadata), `s` service (in answers: status), `od` owner's domain, `k` daemon key, `i` entity,
//! `n` name of the function, `d` data. Whatever has a `d` may carry a blob in its place.

mod answer;
mod function;
mod request;
mod usual;

pub use answer::Answer;
pub(crate) use answer::{Returned, write_return};
pub(crate) use function::{Calls, Returning};
pub use request::{Create, Mode, Request};
pub(crate) use request::{write_call, write_call_of, write_send};
pub(crate) use usual::UsualCall;
