//! What of an answer somebody gets to see: lists such as `["*", "!secret"]`.

use std::sync::Arc;

use nsp::authority::Shows;
use nsp::proto::RawJson;
use serde_json::value::RawValue;

use super::members::Members;
use super::pattern::Pattern;

/// One list of paths, in a grant.
#[derive(Debug, Clone)]
pub(super) struct AttributeList {
    paths: Vec<Path>,
    text: Vec<Box<str>>,
}

/// `user.name`, `!user.*.token`
#[derive(Debug, Clone)]
struct Path {
    hides: bool,
    segments: Vec<Pattern>,
}

/// Several lists: what any of them shows is shown.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    lists: Vec<Arc<AttributeList>>,
}

/// Containers inside of each other that are looked into; what lies deeper is not shown.
const MAX_DEPTH: usize = 64;

impl AttributeList {
    pub(super) fn new(texts: &[&str]) -> Result<Self, String> {
        let paths = texts.iter().map(|text| Path::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if paths.iter().all(|path| path.hides) {
            return Err("it shows nothing: begin with `*`, and take away from that".to_owned());
        }
        Ok(Self { paths, text: texts.iter().map(|text| (*text).into()).collect() })
    }
}

impl Path {
    fn parse(text: &str) -> Result<Self, String> {
        let (hides, path) = text.strip_prefix('!').map_or((false, text), |path| (true, path));
        let segments = path.split('.').map(Pattern::new).collect::<Result<Vec<_>, _>>();
        let segments = segments.map_err(|error| format!("`{}`: {error}", text.escape_debug()))?;
        if segments.len() > MAX_DEPTH {
            return Err(format!("a path has at most {MAX_DEPTH} parts"));
        }
        Ok(Self { hides, segments })
    }
}

impl Attributes {
    pub(super) fn new(lists: Vec<Arc<AttributeList>>) -> Self {
        Self { lists }
    }

    pub(super) fn lists(&self) -> &[Arc<AttributeList>] {
        &self.lists
    }

    /// The lists as they are written.
    pub(super) fn texts(&self) -> Vec<Vec<String>> {
        self.lists.iter().map(|list| list.text.iter().map(|text| String::from(&**text)).collect()).collect()
    }
}

impl Shows for Attributes {
    fn show(&self, answer: RawJson) -> RawJson {
        let views: Vec<View<'_>> = self.lists.iter().map(|list| View::new(list)).collect();
        let mut out = String::with_capacity(answer.as_str().len());
        // Not every list begins with `*`: of an answer that is a bare value those show nothing.
        let bare = views.iter().any(View::shows_bare);
        let shown = match answer.as_str().trim_start().as_bytes().first() {
            Some(b'{' | b'[') => write(answer.as_str(), &views, 0, &mut out),
            _ if bare => return answer,
            _ => false,
        };
        if !shown {
            return RawJson::NULL;
        }
        // Made of pieces of valid JSON; if it were not, nothing would be shown.
        RawJson::new(out).unwrap_or(RawJson::NULL)
    }
}

/// One list, at some place in an answer.
#[derive(Clone)]
struct View<'a> {
    /// A path ended here or above: what is not hidden is shown.
    covered: bool,
    /// What is left of the paths that lead further.
    open: Vec<(bool, &'a [Pattern])>,
}

impl<'a> View<'a> {
    fn new(list: &'a AttributeList) -> Self {
        let open = list.paths.iter().map(|path| (path.hides, &*path.segments)).collect();
        Self { covered: false, open }
    }

    /// The same list, one attribute deeper; `None` where it shows nothing any more.
    fn enter(&self, segment: &str) -> Option<Self> {
        let mut next = Self { covered: self.covered, open: Vec::new() };
        for (hides, segments) in &self.open {
            let Some((first, rest)) = segments.split_first() else { continue };
            match (first.matches(segment), rest.is_empty(), hides) {
                (false, ..) => {}
                (true, true, true) => return None,
                (true, true, false) => next.covered = true,
                (true, false, hides) => next.open.push((*hides, rest)),
            }
        }
        (next.covered || next.open.iter().any(|(hides, _)| !hides)).then_some(next)
    }

    /// An attribute whose name has dots is as deep as it looks: so `!a.b` hides `{"a.b":1}` too.
    fn enter_key(&self, key: &str) -> Option<Self> {
        let mut segments = key.split('.');
        let first = self.enter(segments.next().unwrap_or_default())?;
        segments.try_fold(first, |view, segment| view.enter(segment))
    }

    /// Whether all below is shown.
    fn shows_all(&self) -> bool {
        self.covered && !self.open.iter().any(|(hides, _)| *hides)
    }

    /// Whether the list shows answers that have no attributes: it has `*` in it.
    fn shows_bare(&self) -> bool {
        self.open.iter().any(|(hides, path)| !hides && matches!(path, [only] if only.as_str() == "*"))
    }
}

/// Writes what some list shows of a value; false if that is nothing.
///
/// Arrays are no step of a path: `items.secret` is that of each element. What is shown whole is copied as it is, digits included.
fn write(text: &str, views: &[View<'_>], depth: usize, out: &mut String) -> bool {
    if views.iter().any(View::shows_all) {
        out.push_str(text);
        return true;
    }
    let text = text.trim_start();
    match text.as_bytes().first() {
        Some(b'{' | b'[') if depth >= MAX_DEPTH => false,
        Some(b'{') => {
            let Ok(Members(members)) = serde_json::from_str(text) else { return false };
            out.push('{');
            let start = out.len();
            for (key, value) in members {
                let deeper: Vec<_> = views.iter().filter_map(|view| view.enter_key(&key)).collect();
                let before = out.len();
                if before > start {
                    out.push(',');
                }
                let Ok(quoted) = serde_json::to_string(&key) else { return false };
                out.push_str(&quoted);
                out.push(':');
                if deeper.is_empty() || !write(value.get(), &deeper, depth + 1, out) {
                    out.truncate(before);
                }
            }
            out.push('}');
            true
        }
        Some(b'[') => {
            let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(text) else { return false };
            out.push('[');
            for (n, element) in elements.into_iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                // Elements keep their places, shown or not.
                if !write(element.get(), views, depth + 1, out) {
                    out.push_str("null");
                }
            }
            out.push(']');
            true
        }
        _ if views.iter().any(|view| view.covered) => {
            out.push_str(text);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn shown(lists: &[&[&str]], answer: &str) -> String {
        let lists = lists.iter().map(|list| Arc::new(AttributeList::new(list).unwrap())).collect();
        Attributes::new(lists).show(RawJson::new(answer.to_owned()).unwrap()).as_str().to_owned()
    }

    #[test]
    fn list_shows_and_hides() {
        let answer = r#"{"id":1,"secret":"x","user":{"name":"n","token":"t","a":{"token":2}},"items":[{"id":1,"secret":2},3]}"#;
        for (list, expected) in [
            (&["*"][..], answer),
            (
                &["*", "!secret"],
                r#"{"id":1,"user":{"name":"n","token":"t","a":{"token":2}},"items":[{"id":1,"secret":2},3]}"#,
            ),
            (&["*", "!secret", "!*.secret", "!user"], r#"{"id":1,"items":[{"id":1},3]}"#),
            (&["id"], r#"{"id":1}"#),
            (&["user.name"], r#"{"user":{"name":"n"}}"#),
            (&["user", "!user.token"], r#"{"user":{"name":"n","a":{"token":2}}}"#),
            (&["user.*", "!user.*.token"], r#"{"user":{"name":"n","token":"t","a":{}}}"#),
            (&["items.id"], r#"{"items":[{"id":1},null]}"#),
            (&["i*"], r#"{"id":1,"items":[{"id":1,"secret":2},3]}"#),
            (&["!secret", "*", "!user", "!items"], r#"{"id":1}"#),
            (&["nothing"], "{}"),
        ] {
            assert_eq!(shown(&[list], answer), expected, "{list:?}");
        }
    }

    #[test]
    fn several_lists_show_what_any_of_them_shows() {
        let answer = r#"{"a":1,"b":{"c":2,"d":3},"e":4}"#;
        assert_eq!(shown(&[&["a"], &["b.c"]], answer), r#"{"a":1,"b":{"c":2}}"#);
        assert_eq!(shown(&[&["*", "!a"], &["*", "!e"]], answer), answer);
        assert_eq!(shown(&[&["*", "!a", "!b.c"], &["b.c"]], answer), r#"{"b":{"c":2,"d":3},"e":4}"#);
    }

    #[test]
    fn answers_without_attributes_are_shown_by_a_star_alone() {
        for answer in ["1", "\"text\"", "null", " true "] {
            assert_eq!(shown(&[&["*", "!secret"]], answer).trim(), answer.trim());
            assert_eq!(shown(&[&["name"]], answer), "null");
        }
        assert_eq!(shown(&[&["*", "!secret"]], r#"[{"secret":1,"a":2}]"#), r#"[{"a":2}]"#);
    }

    #[test]
    fn hidden_thing_stays_hidden_however_it_is_written() {
        for answer in [
            r#"{"secret":1,"secret":2}"#,
            r#"{"s\u0065cret":1}"#,
            r#"[[[{"secret":1}]]]"#,
            r#"{ "secret" : {"deep":1} }"#,
            r#"{"secret.deep":1}"#,
            "{\n\t\"secret\": [1]\n}",
        ] {
            let out = shown(&[&["*", "!secret"]], answer);
            assert!(!out.contains('1') && !out.contains("ecret"), "{out}");
        }
        assert_eq!(shown(&[&["*", "!a.b"]], r#"{"a.b":1,"a":{"b":2,"c":3}}"#), r#"{"a":{"c":3}}"#);
    }

    #[test]
    fn what_is_shown_is_copied_digit_by_digit() {
        let answer = r#"{"n":1e400,"m":12345678901234567890123.10,"s":"\u00e9","x":0}"#;
        let expected = r#"{"n":1e400,"m":12345678901234567890123.10,"s":"\u00e9"}"#;
        assert_eq!(shown(&[&["*", "!x"]], answer), expected);
    }

    #[test]
    fn what_lies_too_deep_is_not_shown() {
        let deep = format!("{}{{\"secret\":1}}{}", "[".repeat(5000), "]".repeat(5000));
        let out = shown(&[&["*", "!secret"]], &deep);
        assert!(!out.contains("secret") && out.contains("null"));
    }

    #[test]
    fn list_that_shows_nothing_is_a_mistake() {
        for list in [&[][..], &["!a"], &["a..b"], &["!"], &[""], &["."]] {
            assert!(AttributeList::new(list).is_err(), "{list:?}");
        }
    }

    fn answers() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(json!(1)), Just(json!("x")), Just(json!(null))];
        leaf.prop_recursive(4, 40, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[abc]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// All paths of attributes in an answer.
    fn paths(answer: &Value, here: &str, found: &mut Vec<String>) {
        match answer {
            Value::Array(elements) => elements.iter().for_each(|element| paths(element, here, found)),
            Value::Object(members) => {
                for (key, value) in members {
                    let path = if here.is_empty() { key.clone() } else { format!("{here}.{key}") };
                    found.push(path.clone());
                    paths(value, &path, found);
                }
            }
            _ => {}
        }
    }

    fn is_below(path: &str, pattern: &str) -> bool {
        let (path, pattern): (Vec<_>, Vec<_>) = (path.split('.').collect(), pattern.split('.').collect());
        path.len() >= pattern.len()
            && pattern.iter().zip(&path).all(|(pattern, segment)| *pattern == "*" || pattern == segment)
    }

    proptest! {
        #[test]
        fn hidden_thing_is_never_shown_and_a_covered_one_always(
            answer in answers(),
            list in prop::collection::vec("!?[abc*](\\.[abc*]){0,2}", 1..5),
        ) {
            let texts: Vec<&str> = list.iter().map(String::as_str).collect();
            let Ok(attributes) = AttributeList::new(&texts) else { return Ok(()) };
            let attributes = Attributes::new(vec![Arc::new(attributes)]);
            let out: Value = attributes.show(RawJson::of(&answer).unwrap()).to().unwrap();
            let hides = |path: &str| list.iter().any(|p| p.strip_prefix('!').is_some_and(|p| is_below(path, p)));
            let covers = |path: &str| list.iter().any(|p| !p.starts_with('!') && is_below(path, p));
            let (mut before, mut after) = (Vec::new(), Vec::new());
            paths(&answer, "", &mut before);
            paths(&out, "", &mut after);
            for path in &after {
                prop_assert!(!hides(path), "{} in {}", path, out);
                prop_assert!(before.contains(path));
            }
            for path in before.iter().filter(|path| covers(path)) {
                // Hidden with something above it, or there.
                prop_assert!(hides(path) || after.contains(path), "{} not in {}", path, out);
            }
        }
    }
}
