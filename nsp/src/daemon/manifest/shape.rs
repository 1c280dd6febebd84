//! What a value has to look like, said by a value that looks like it.

use std::fmt;

use serde_json::Value;

use crate::proto::RawJson;

/// The shape of a value, as the `call` of a manifest says it.
///
/// | in the manifest | takes |
/// |---|---|
/// | `{"name": …, "age": …}` | an object with these fields; others may be there too |
/// | `[…]` | a list, each element of that shape; `[]` any list |
/// | `"string"` `"number"` `"integer"` `"boolean"` `"object"` `"array"` `"null"` | that type |
/// | `"integer?"` | that type, or `null`, or nothing |
/// | `"string\|number"` | one of these types |
/// | `"any"`, or any other text | anything: in manifests of original services it describes the field |
/// | `null`, a number, `true` | anything, a number, a boolean |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Any,
    Types { types: Vec<Type>, optional: bool },
    Object(Vec<(String, Shape)>),
    List(Option<Box<Shape>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    String,
    Number,
    Integer,
    Boolean,
    Object,
    Array,
    Null,
}

impl Type {
    const ALL: [Self; 7] =
        [Self::String, Self::Number, Self::Integer, Self::Boolean, Self::Object, Self::Array, Self::Null];

    const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Object => "object",
            Self::Array => "array",
            Self::Null => "null",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    fn fits(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Number => value.is_number(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Boolean => value.is_boolean(),
            Self::Object => value.is_object(),
            Self::Array => value.is_array(),
            Self::Null => value.is_null(),
        }
    }
}

/// Where a value is not what it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mismatch {
    /// The field, as `user.name` or `list[2]`; empty for the value itself.
    pub field: String,
    /// What it has to be.
    pub expected: String,
    /// What is there.
    pub found: &'static str,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = if self.field.is_empty() { "the argument" } else { &self.field };
        write!(f, "{field} has to be {}, and is {}", self.expected, self.found)
    }
}

impl std::error::Error for Mismatch {}

impl Shape {
    /// Reads a shape. Whatever is none describes something, and takes anything.
    #[must_use]
    pub fn of(value: &Value) -> Self {
        Self(match value {
            Value::Null => Kind::Any,
            Value::Bool(_) => Kind::Types { types: vec![Type::Boolean], optional: false },
            Value::Number(_) => Kind::Types { types: vec![Type::Number], optional: false },
            Value::String(text) => types(text).unwrap_or(Kind::Any),
            Value::Array(elements) => Kind::List(elements.first().map(|element| Box::new(Self::of(element)))),
            Value::Object(fields) => {
                Kind::Object(fields.iter().map(|(name, shape)| (name.clone(), Self::of(shape))).collect())
            }
        })
    }

    /// Whether a value is of this shape.
    ///
    /// # Errors
    /// With the first field that is not.
    pub fn check(&self, json: &RawJson) -> Result<(), Mismatch> {
        if self.0 == Kind::Any {
            return Ok(());
        }
        // It was checked to be JSON, but not that its nesting can be followed.
        let mismatch =
            |_| Mismatch { field: String::new(), expected: "JSON".into(), found: "nested too deep" };
        let value: Value = json.read().map_err(mismatch)?;
        self.find(Some(&value), &mut String::new()).map_or(Ok(()), Err)
    }

    fn find(&self, value: Option<&Value>, path: &mut String) -> Option<Mismatch> {
        let expected = |expected: String, path: &str| {
            Some(Mismatch { field: path.to_owned(), expected, found: kind_of(value) })
        };
        match (&self.0, value) {
            (Kind::Any, _) => None,
            (Kind::Types { optional: true, .. }, None | Some(Value::Null)) => None,
            (Kind::Types { types, .. }, value) => {
                if value.is_some_and(|value| types.iter().any(|one| one.fits(value))) {
                    return None;
                }
                let names: Vec<_> = types.iter().map(|one| one.name()).collect();
                expected(names.join(" or "), path)
            }
            (Kind::Object(fields), Some(Value::Object(found))) => {
                let length = path.len();
                fields.iter().find_map(|(name, shape)| {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(name);
                    let mismatch = shape.find(found.get(name), path);
                    path.truncate(length);
                    mismatch
                })
            }
            (Kind::Object(fields), None) if fields.iter().all(|(_, shape)| shape.is_optional()) => None,
            (Kind::Object(_), _) => expected("object".into(), path),
            (Kind::List(None), Some(Value::Array(_))) => None,
            (Kind::List(Some(shape)), Some(Value::Array(found))) => {
                let length = path.len();
                found.iter().enumerate().find_map(|(n, element)| {
                    path.push_str(&format!("[{n}]"));
                    let mismatch = shape.find(Some(element), path);
                    path.truncate(length);
                    mismatch
                })
            }
            (Kind::List(_), _) => expected("array".into(), path),
        }
    }

    const fn is_optional(&self) -> bool {
        matches!(self.0, Kind::Any | Kind::Types { optional: true, .. })
    }
}

/// The types that a text names, if that is what it does.
fn types(text: &str) -> Option<Kind> {
    let (names, optional) = match text.strip_suffix('?') {
        Some(names) => (names, true),
        None => (text, false),
    };
    let types: Option<Vec<_>> = names.split('|').map(Type::named).collect();
    Some(Kind::Types { types: types?, optional })
}

const fn kind_of(value: Option<&Value>) -> &'static str {
    match value {
        None => "missing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Number(_)) => "number",
        Some(Value::String(_)) => "string",
        Some(Value::Array(_)) => "array",
        Some(Value::Object(_)) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(shape: Value, value: Value) -> Result<(), String> {
        let json = RawJson::of(&value).unwrap();
        Shape::of(&shape).check(&json).map_err(|mismatch| mismatch.to_string())
    }

    #[test]
    fn types_are_checked_by_their_names() {
        let shape = || json!({"n": "string", "age": "integer?", "x": "number|null", "tags": ["string"]});
        assert_eq!(check(shape(), json!({"n": "a", "x": 1.5, "tags": [], "more": 1})), Ok(()));
        assert_eq!(check(shape(), json!({"n": "a", "age": null, "x": null, "tags": ["t"]})), Ok(()));
        let error = |value| check(shape(), value).unwrap_err();
        assert_eq!(error(json!({"x": 1, "tags": []})), "n has to be string, and is missing");
        assert_eq!(
            error(json!({"n": "a", "age": 1.5, "x": 1, "tags": []})),
            "age has to be integer, and is number"
        );
        assert_eq!(
            error(json!({"n": "a", "x": 1, "tags": ["t", 2]})),
            "tags[1] has to be string, and is number"
        );
        assert_eq!(error(json!([])), "the argument has to be object, and is array");
    }

    #[test]
    fn fields_inside_fields_are_named_in_full() {
        let shape = json!({"user": {"mail": "string"}, "list": [{"i": "integer"}]});
        let value = json!({"user": {"mail": 1}, "list": []});
        assert_eq!(check(shape.clone(), value).unwrap_err(), "user.mail has to be string, and is number");
        let value = json!({"user": {"mail": ""}, "list": [{"i": 1}, {"i": "2"}]});
        assert_eq!(check(shape, value).unwrap_err(), "list[1].i has to be integer, and is string");
    }

    #[test]
    fn descriptions_take_anything() {
        let shape = json!({"n": "the name of the channel", "t": null});
        assert_eq!(check(shape, json!({"n": 5})), Ok(()));
    }

    #[test]
    fn value_that_is_nested_too_deep_is_refused() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        if let Ok(json) = RawJson::new(deep) {
            assert!(Shape::of(&json!(["any"])).check(&json).is_err());
        }
    }
}
