//! TOML and JSON as one tree in which everything knows its line.

use serde_json::value::RawValue;
use toml::de::{DeTable, DeValue};

use super::error::PolicyError;
use super::members::Members;

/// A value, and where it is.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
    /// Something that no policy has in it, by the name of its type.
    Other(&'static str),
}

impl Value {
    pub(super) const fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(name) => name,
        }
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    /// The line of a byte, from 1.
    fn at(&self, at: usize) -> usize {
        1 + self.0.partition_point(|end| *end < at)
    }
}

pub(super) fn from_toml(text: &str) -> Result<Node, PolicyError> {
    let lines = Lines::of(text);
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        PolicyError::invalid(lines.at(at), "", error.message())
    })?;
    Ok(Node { line: 1, value: table_of(table.get_ref(), &lines) })
}

fn table_of(table: &DeTable<'_>, lines: &Lines) -> Value {
    // The line of a member is that of its key: tables begin there too.
    let member = |key: &str, at: usize, value: &DeValue<'_>| {
        (key.to_owned(), Node { line: lines.at(at), value: value_of(value, lines) })
    };
    Value::Table(
        table.iter().map(|(key, value)| member(key.get_ref(), key.span().start, value.get_ref())).collect(),
    )
}

/// As deep as the parser of TOML went, which has a limit of its own.
fn value_of(value: &DeValue<'_>, lines: &Lines) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Array(elements) => {
            let node = |element: &toml::Spanned<DeValue<'_>>| Node {
                line: lines.at(element.span().start),
                value: value_of(element.get_ref(), lines),
            };
            Value::List(elements.iter().map(node).collect())
        }
        DeValue::Table(table) => table_of(table, lines),
        DeValue::Integer(_) | DeValue::Float(_) => Value::Other("a number"),
        DeValue::Boolean(_) => Value::Other("true or false"),
        DeValue::Datetime(_) => Value::Other("a date"),
    }
}

/// Deeper than any policy.
const MAX_DEPTH: usize = 8;

pub(super) fn from_json(text: &str) -> Result<Node, PolicyError> {
    let lines = Lines::of(text);
    let whole: &RawValue = serde_json::from_str(text)
        .map_err(|error| PolicyError::invalid(error.line().max(1), "", said(&error)))?;
    node_of(whole, text, &lines, 0)
}

/// What serde_json says, without the place that it says in its own way.
fn said(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what).to_owned()
}

fn node_of(raw: &RawValue, text: &str, lines: &Lines, depth: usize) -> Result<Node, PolicyError> {
    let value = raw.get();
    // It is a part of the text: nothing was copied to find it.
    let line = lines.at((value.as_ptr() as usize).saturating_sub(text.as_ptr() as usize));
    let wrong = |error: serde_json::Error| PolicyError::invalid(line, "", said(&error));
    let value = match value.as_bytes().first() {
        Some(b'{' | b'[') if depth >= MAX_DEPTH => {
            return Err(PolicyError::invalid(line, "", "a policy is not so deep"));
        }
        Some(b'{') => {
            let Members(members) = serde_json::from_str(value).map_err(wrong)?;
            let mut table: Vec<(String, Node)> = Vec::with_capacity(members.len());
            let mut seen = std::collections::HashSet::with_capacity(members.len());
            for (key, value) in members {
                let node = node_of(value, text, lines, depth + 1)?;
                if !seen.insert(key.clone()) {
                    return Err(PolicyError::invalid(node.line, key, "it is there twice"));
                }
                table.push((key, node));
            }
            Value::Table(table)
        }
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(value).map_err(wrong)?;
            let nodes = elements.into_iter().map(|element| node_of(element, text, lines, depth + 1));
            Value::List(nodes.collect::<Result<_, _>>()?)
        }
        Some(b'"') => Value::Text(serde_json::from_str(value).map_err(wrong)?),
        Some(b't' | b'f') => Value::Other("true or false"),
        Some(b'n') => Value::Other("null"),
        _ => Value::Other("a number"),
    };
    Ok(Node { line, value })
}
