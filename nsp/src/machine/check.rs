//! What a daemon asks before it lets an entity do something.
//!
//! ```text
//!  Token      normal:  no owner ───────────────────────────────────────▶ refused, SI
//!                      remembered token ─▶ judge ─ right ──────────────▶ passed
//!                      ask TK ── declined ─────────────────────────────▶ refused
//!                           └─ answered ─▶ judge ─ right ──────────────▶ passed, remember it
//!                                               └─ wrong ──────────────▶ refused, TF
//!             daemon:  its key and address are trusted ────────────────▶ passed, else refused
//!  Password   the same with PW and PF, and nothing is remembered
//!  Superuser  Token, and then: judge the privilege of the owner
//! ```
//!
//! A check is a conversation of its own: it says what is to be done next, and is told what came of it. It talks to nobody itself, so that the
//! one who does can be a daemon with a database or a test with two lines.
//!
//! The original lets somebody pass as superuser who only claims to be one. Here the proof comes first, whatever is asked for.

use crate::proto::au::{Notice, Question};
use crate::proto::cs::Mode;
use crate::secret::{Password, Proof, Token};

/// What an entity has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Demand {
    /// That its owner has logged in.
    Token,
    /// That its owner is there now, and knows the password.
    Password,
    /// That its owner has logged in and is a superuser.
    Superuser,
}

/// Of whom it is demanded.
#[derive(Debug, Clone, Default)]
#[expect(clippy::exhaustive_structs, reason = "whoever runs a check knows all of this")]
pub struct Subject {
    /// On whose behalf the entity acts.
    pub mode: Mode,
    /// The owner that it claims.
    pub owner: Option<String>,
    /// The token with which it has passed before.
    pub remembered: Option<Token>,
    /// Whether it comes from a trusted address and had the daemon's key. Only looked at in daemon mode.
    pub trusted_daemon: bool,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever runs a check has to do all of this")]
pub enum Step {
    /// Ask the client, and tell [`answered`](Check::answered).
    Ask {
        /// For what.
        question: Question,
        /// Of which user.
        user: String,
    },
    /// Ask the authority whether the token is the user's and valid, and tell [`judged`](Check::judged).
    JudgeToken {
        /// Whose it should be.
        user: String,
        /// The token.
        token: Token,
    },
    /// Ask the authority whether the password is right, and tell [`judged`](Check::judged).
    JudgePassword {
        /// Whose it should be.
        user: String,
        /// The password.
        password: Password,
    },
    /// Ask the authority whether the user is a superuser, and tell [`judged`](Check::judged).
    JudgePrivilege {
        /// Who.
        user: String,
    },
    /// It is over.
    Done(Verdict),
}

/// How a check ends.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "it passes or it does not")]
pub enum Verdict {
    /// The entity may.
    Passed {
        /// The user whose proof was seen; `None` for a trusted daemon, which acts for whomever it says.
        user: Option<String>,
        /// The token to remember for the next time.
        remember: Option<Token>,
    },
    /// It may not.
    Refused {
        /// What to tell the client first.
        notice: Option<Notice>,
    },
}

/// One check of one entity.
#[derive(Debug)]
pub struct Check {
    demand: Demand,
    user: String,
    state: State,
    /// The token that has passed.
    token: Option<Token>,
    /// Whether the user has shown something, and not only a daemon for them.
    proved: bool,
}

#[derive(Debug)]
enum State {
    Asking,
    JudgingRemembered(Token),
    JudgingToken(Token),
    JudgingPassword,
    JudgingPrivilege,
    Done,
}

impl Check {
    /// Begins a check, and says what is to be done first.
    #[must_use]
    pub fn begin(demand: Demand, subject: Subject) -> (Self, Step) {
        let mut check = Self {
            demand,
            user: subject.owner.unwrap_or_default(),
            state: State::Done,
            token: None,
            proved: false,
        };
        let step = match subject.mode {
            Mode::Daemon if subject.trusted_daemon && demand == Demand::Superuser => check.judge_privilege(),
            Mode::Daemon if subject.trusted_daemon => {
                Step::Done(Verdict::Passed { user: None, remember: None })
            }
            Mode::Daemon => Step::Done(Verdict::Refused { notice: None }),
            Mode::Normal if check.user.is_empty() => {
                Step::Done(Verdict::Refused { notice: Some(Notice::SignIn) })
            }
            Mode::Normal => match (demand, subject.remembered) {
                (Demand::Token | Demand::Superuser, Some(token)) => {
                    check.state = State::JudgingRemembered(token.clone());
                    Step::JudgeToken { user: check.user.clone(), token }
                }
                _ => check.ask(),
            },
        };
        (check, step)
    }

    /// What is demanded.
    #[must_use]
    pub const fn demand(&self) -> Demand {
        self.demand
    }

    /// The client has answered; `None` if it declined, or let the question expire.
    #[must_use]
    pub fn answered(&mut self, value: Option<Proof>) -> Step {
        let State::Asking = self.state else { return self.refuse(None) };
        let Some(value) = value else { return self.refuse(None) };
        let user = self.user.clone();
        if self.demand == Demand::Password {
            self.state = State::JudgingPassword;
            return Step::JudgePassword { user, password: value.into_password() };
        }
        let token = value.into_token();
        self.state = State::JudgingToken(token.clone());
        Step::JudgeToken { user, token }
    }

    /// The authority has judged: whether it is right, or the user is a superuser.
    #[must_use]
    pub fn judged(&mut self, right: bool) -> Step {
        match (std::mem::replace(&mut self.state, State::Done), right) {
            (State::JudgingRemembered(token) | State::JudgingToken(token), true) => {
                self.token = Some(token);
                self.proved = true;
                if self.demand == Demand::Superuser { self.judge_privilege() } else { self.pass() }
            }
            // It was right once; perhaps the owner has a newer one.
            (State::JudgingRemembered(_), false) => self.ask(),
            (State::JudgingToken(_), false) => self.refuse(Some(Notice::TokenFailed)),
            (State::JudgingPassword, true) => {
                self.proved = true;
                self.pass()
            }
            (State::JudgingPrivilege, true) => self.pass(),
            (State::JudgingPassword, false) => self.refuse(Some(Notice::PasswordFailed)),
            (State::JudgingPrivilege | State::Asking | State::Done, _) => self.refuse(None),
        }
    }

    fn ask(&mut self) -> Step {
        self.state = State::Asking;
        let question = match self.demand {
            Demand::Password => Question::Password,
            Demand::Token | Demand::Superuser => Question::Token,
        };
        Step::Ask { question, user: self.user.clone() }
    }

    fn judge_privilege(&mut self) -> Step {
        self.state = State::JudgingPrivilege;
        Step::JudgePrivilege { user: self.user.clone() }
    }

    fn pass(&mut self) -> Step {
        self.state = State::Done;
        let user = self.proved.then(|| self.user.clone());
        Step::Done(Verdict::Passed { user, remember: self.token.take() })
    }

    fn refuse(&mut self, notice: Option<Notice>) -> Step {
        self.state = State::Done;
        Step::Done(Verdict::Refused { notice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(owner: &str) -> Subject {
        Subject { owner: Some(owner.into()), ..Subject::default() }
    }

    const REFUSED: Step = Step::Done(Verdict::Refused { notice: None });

    #[test]
    fn token_is_asked_for_judged_and_remembered() {
        let (mut check, step) = Check::begin(Demand::Token, owned("ann"));
        assert_eq!(step, Step::Ask { question: Question::Token, user: "ann".into() });
        let step = check.answered(Some(Proof::new("t")));
        assert_eq!(step, Step::JudgeToken { user: "ann".into(), token: Token::new("t") });
        let verdict = Verdict::Passed { user: Some("ann".into()), remember: Some(Token::new("t")) };
        assert_eq!(check.judged(true), Step::Done(verdict));
    }

    #[test]
    fn declined_question_is_refused_without_a_notice_and_a_wrong_answer_with_one() {
        let (mut check, _) = Check::begin(Demand::Token, owned("ann"));
        assert_eq!(check.answered(None), REFUSED);

        let (mut check, _) = Check::begin(Demand::Token, owned("ann"));
        let _ = check.answered(Some(Proof::new("wrong")));
        let notice = Some(Notice::TokenFailed);
        assert_eq!(check.judged(false), Step::Done(Verdict::Refused { notice }));

        let (mut check, step) = Check::begin(Demand::Password, owned("ann"));
        assert_eq!(step, Step::Ask { question: Question::Password, user: "ann".into() });
        let _ = check.answered(Some(Proof::new("wrong")));
        let notice = Some(Notice::PasswordFailed);
        assert_eq!(check.judged(false), Step::Done(Verdict::Refused { notice }));
    }

    #[test]
    fn remembered_token_saves_the_question_while_it_is_valid() {
        let subject = Subject { remembered: Some(Token::new("old")), ..owned("ann") };
        let (mut check, step) = Check::begin(Demand::Token, subject.clone());
        assert_eq!(step, Step::JudgeToken { user: "ann".into(), token: Token::new("old") });
        assert!(matches!(check.judged(true), Step::Done(Verdict::Passed { .. })));

        let (mut check, _) = Check::begin(Demand::Token, subject.clone());
        assert!(matches!(check.judged(false), Step::Ask { .. }));

        let (_, step) = Check::begin(Demand::Password, subject);
        assert!(matches!(step, Step::Ask { .. }), "a password is asked for each time");
    }

    #[test]
    fn claimed_superuser_proves_it_before_the_privilege_is_looked_at() {
        let (mut check, step) = Check::begin(Demand::Superuser, owned("admin"));
        assert!(matches!(step, Step::Ask { question: Question::Token, .. }));
        let _ = check.answered(Some(Proof::new("t")));
        assert_eq!(check.judged(true), Step::JudgePrivilege { user: "admin".into() });
        assert!(matches!(check.judged(true), Step::Done(Verdict::Passed { remember: Some(_), .. })));

        let (mut check, _) = Check::begin(Demand::Superuser, owned("ann"));
        let _ = check.answered(Some(Proof::new("t")));
        let _ = check.judged(true);
        assert_eq!(check.judged(false), REFUSED);
    }

    #[test]
    fn nobody_is_asked_to_sign_in() {
        let (_, step) = Check::begin(Demand::Token, Subject::default());
        assert_eq!(step, Step::Done(Verdict::Refused { notice: Some(Notice::SignIn) }));
    }

    #[test]
    fn daemons_pass_by_their_key_alone_and_only_if_trusted() {
        let subject = Subject { mode: Mode::Daemon, ..owned("admin") };
        assert_eq!(Check::begin(Demand::Token, subject.clone()).1, REFUSED);
        assert_eq!(Check::begin(Demand::Superuser, subject.clone()).1, REFUSED);
        let trusted = Subject { trusted_daemon: true, ..subject };
        let passed = Step::Done(Verdict::Passed { user: None, remember: None });
        assert_eq!(Check::begin(Demand::Password, trusted.clone()).1, passed);
        let (mut check, step) = Check::begin(Demand::Superuser, trusted);
        assert_eq!(step, Step::JudgePrivilege { user: "admin".into() });
        assert_eq!(check.judged(true), passed);
    }

    #[test]
    fn steps_out_of_turn_refuse() {
        let (mut check, _) = Check::begin(Demand::Token, owned("ann"));
        assert_eq!(check.judged(true), REFUSED);
        assert_eq!(check.answered(Some(Proof::new("t"))), REFUSED);
    }
}
