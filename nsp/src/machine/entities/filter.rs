//! Who is meant: a condition on entities, as a value, or parsed from the original's `key=value,key=value`.

use std::fmt;
use std::str::FromStr;

use super::Record;
use crate::proto::cs::Mode;

/// What a filter can look at, by the name that the original has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field {
    /// `id`
    Id,
    /// `mode`: `normal` or `daemon`
    Mode,
    /// `service`
    Service,
    /// `owner`: the claimed one
    Owner,
    /// `ownerdomain`
    OwnerDomain,
    /// `spawndomain`: where it comes from
    Address,
    /// `connectiontype`
    Carrier,
}

impl Field {
    const ALL: [Self; 7] =
        [Self::Id, Self::Mode, Self::Service, Self::Owner, Self::OwnerDomain, Self::Address, Self::Carrier];

    /// The key in a query.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Mode => "mode",
            Self::Service => "service",
            Self::Owner => "owner",
            Self::OwnerDomain => "ownerdomain",
            Self::Address => "spawndomain",
            Self::Carrier => "connectiontype",
        }
    }
}

/// A condition on entities.
///
/// ```
/// use nsp::machine::entities::{Field, Filter};
///
/// let by_value = Filter::is(Field::Service, "Chat").and(Filter::is(Field::Owner, "ann, the first"));
/// let by_query: Filter = "service=Chat,owner=ann".parse()?;
/// assert_ne!(by_value, by_query);
/// # Ok::<(), nsp::machine::entities::FilterError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Condition);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Everybody,
    Is(Field, String),
    Lacks(Field),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

impl Filter {
    /// Everybody.
    #[must_use]
    pub const fn everybody() -> Self {
        Self(Condition::Everybody)
    }

    /// Those whose field has exactly this value.
    pub fn is(field: Field, value: impl Into<String>) -> Self {
        Self(Condition::Is(field, value.into()))
    }

    /// Those whose field has no value, as the owner of an entity that speaks for nobody.
    #[must_use]
    pub const fn lacks(field: Field) -> Self {
        Self(Condition::Lacks(field))
    }

    /// Those who fulfil both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(Condition::All(vec![self.0, other.0]))
    }

    /// Those who fulfil one of both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(Condition::Any(vec![self.0, other.0]))
    }

    /// Those who do not.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "a filter is not a number; `!filter` reads worse")]
    pub fn not(self) -> Self {
        Self(Condition::Not(Box::new(self.0)))
    }

    /// Whether an entity fulfils it.
    #[must_use]
    pub fn matches(&self, record: &Record) -> bool {
        self.0.matches(record)
    }
}

impl Condition {
    fn matches(&self, record: &Record) -> bool {
        match self {
            Self::Everybody => true,
            Self::Is(field, value) => with_value(record, *field, |found| found == Some(value)),
            Self::Lacks(field) => with_value(record, *field, |found| found.is_none()),
            Self::Not(condition) => !condition.matches(record),
            Self::All(conditions) => conditions.iter().all(|condition| condition.matches(record)),
            Self::Any(conditions) => conditions.iter().any(|condition| condition.matches(record)),
        }
    }
}

fn with_value(record: &Record, field: Field, ask: impl Fn(Option<&str>) -> bool) -> bool {
    match field {
        Field::Id => ask(Some(record.id.as_str())),
        Field::Mode => ask(Some(Mode::as_str(record.mode))),
        Field::Service => ask(Some(&record.service)),
        Field::Owner => ask(record.owner.as_deref()),
        Field::OwnerDomain => ask(record.owner_domain.as_deref()),
        Field::Address => ask(record.address.map(|address| address.to_string()).as_deref()),
        Field::Carrier => ask(Some(record.carrier)),
    }
}

/// Reads a query of the original: terms between commas, all of which have to be fulfilled, nothing trimmed, nothing escaped.
///
/// What it cannot say (a value with a comma, a missing owner), a [`Filter`] made of values can. The empty query means everybody.
impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(query: &str) -> Result<Self, FilterError> {
        if query.is_empty() {
            return Ok(Self::everybody());
        }
        let term = |term: &str| {
            let (key, value) = term.split_once('=').ok_or(FilterError::NoValue)?;
            let field = Field::ALL.into_iter().find(|field| field.name() == key);
            Ok(Condition::Is(field.ok_or(FilterError::UnknownKey)?, value.to_owned()))
        };
        query.split(',').map(term).collect::<Result<_, _>>().map(|terms| Self(Condition::All(terms)))
    }
}

/// Why a query is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FilterError {
    /// A term without `=`.
    NoValue,
    /// A key that entities do not have.
    UnknownKey,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoValue => f.write_str("a term of the query is not key=value"),
            Self::UnknownKey => {
                let names = Field::ALL.map(Field::name).join(", ");
                write!(f, "a key of the query is none of {names}")
            }
        }
    }
}

impl std::error::Error for FilterError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::entities::tests::record;

    fn matches(query: &str) -> bool {
        query.parse::<Filter>().unwrap().matches(&record("_a", 1, "Chat"))
    }

    #[test]
    fn all_terms_of_a_query_have_to_be_fulfilled() {
        assert!(matches("service=Chat,owner=ann"));
        assert!(!matches("service=Chat,owner=bob"));
        assert!(matches("id=_a,mode=normal,spawndomain=127.0.0.1,connectiontype=TCP/IP"));
        assert!(matches(""));
    }

    #[test]
    fn nothing_is_trimmed_and_a_missing_value_is_no_text() {
        assert!(!matches("service= Chat"));
        assert!(!matches("ownerdomain=null"));
        assert!(!matches("ownerdomain="));
        assert!(Filter::lacks(Field::OwnerDomain).matches(&record("_a", 1, "Chat")));
    }

    #[test]
    fn what_is_no_query_says_why() {
        assert_eq!("service".parse::<Filter>(), Err(FilterError::NoValue));
        assert_eq!("service=a,,owner=b".parse::<Filter>(), Err(FilterError::NoValue));
        assert_eq!("colour=red".parse::<Filter>(), Err(FilterError::UnknownKey));
        assert!(FilterError::UnknownKey.to_string().ends_with("spawndomain, connectiontype"));
    }

    #[test]
    fn filters_of_values_say_what_a_query_cannot() {
        let mut odd = record("_a", 1, "Chat");
        odd.owner = Some("ann,service=Other".into());
        assert!(Filter::is(Field::Owner, "ann,service=Other").matches(&odd));
        let chat_or_ann = Filter::is(Field::Service, "Chat").or(Filter::is(Field::Owner, "ann"));
        assert!(chat_or_ann.clone().matches(&odd));
        assert!(!chat_or_ann.not().matches(&odd));
    }
}
