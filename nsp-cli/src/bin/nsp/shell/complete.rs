//! What may come next on a line: commands, services, functions, and the fields of their arguments, as the daemon says that they are.

use std::collections::BTreeMap;

use nsp::daemon::Manifest;
use serde_json::Value;

use super::line::COMMANDS;
use crate::client::services::example;

/// What a daemon offers, as far as it was asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Catalogue {
    pub(super) services: BTreeMap<String, Option<Manifest>>,
    /// The service in use.
    pub(super) service: Option<String>,
}

/// What may stand at the end of a line, and from which byte on it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Completion {
    pub(super) start: usize,
    pub(super) candidates: Vec<String>,
}

impl Catalogue {
    /// What may come at the end of this line.
    pub(super) fn complete(&self, line: &str) -> Completion {
        // Not every space is one byte long.
        let start =
            line.char_indices().rfind(|(_, c)| c.is_whitespace()).map_or(0, |(at, c)| at + c.len_utf8());
        let last = line.get(start..).unwrap_or_default();
        let before: Vec<&str> = line.get(..start).unwrap_or_default().split_whitespace().collect();
        let words = |all: Vec<String>| {
            let mut candidates: Vec<String> = all.into_iter().filter(|word| word.starts_with(last)).collect();
            // There is only one way to go on, so it is gone to the next word.
            if let [only] = candidates.as_mut_slice() {
                only.push(' ');
            }
            Completion { start, candidates }
        };
        match before.as_slice() {
            [] => {
                let mut all: Vec<String> = COMMANDS.iter().map(|(name, ..)| (*name).to_owned()).collect();
                all.extend(self.service.iter().flat_map(|service| self.functions(service)));
                words(all)
            }
            ["services" | "use" | "call" | "send" | "watch" | "unwatch"] => {
                words(self.services.keys().cloned().collect())
            }
            ["call", service] => words(self.functions(service)),
            ["call", service, function, ..] => self.argument(line, service, function),
            [function, ..] => match &self.service {
                Some(service) if !COMMANDS.iter().any(|(name, ..)| name == function) => {
                    self.argument(line, service, function)
                }
                _ => words(Vec::new()),
            },
        }
    }

    fn functions(&self, service: &str) -> Vec<String> {
        let manifest = self.services.get(service).and_then(Option::as_ref);
        manifest.into_iter().flat_map(|manifest| manifest.functions.keys().cloned()).collect()
    }

    /// In an argument: all of an example at its beginning, then the fields that are not there yet.
    fn argument(&self, line: &str, service: &str, function: &str) -> Completion {
        let nothing = Completion { start: line.len(), candidates: Vec::new() };
        let manifest = self.services.get(service).and_then(Option::as_ref);
        let Some(about) = manifest.and_then(|manifest| manifest.functions.get(function)) else {
            return nothing;
        };
        let Some(Value::Object(fields)) = example(about) else { return nothing };
        // The argument is what follows the function: the first place where it stands as a word of its own.
        let Some(argument) = after_word(line, function) else { return nothing };
        let text = line.get(argument..).unwrap_or_default().trim_start();
        let begin = line.len() - text.len();
        if text.is_empty() {
            let all = Value::Object(fields).to_string();
            return Completion { start: begin, candidates: vec![all] };
        }
        let Some(quote) = open_quote(text) else { return nothing };
        let is_key = text.get(..quote).is_some_and(|before| before.trim_end().ends_with(['{', ',']));
        if !is_key {
            return nothing;
        }
        let typed = text.get(quote + 1..).unwrap_or_default();
        let rest = text.get(..quote).unwrap_or_default();
        let candidates = fields
            .keys()
            .filter(|field| field.starts_with(typed) && !rest.contains(&format!("\"{field}\"")))
            .map(|field| format!("\"{field}\": "))
            .collect();
        Completion { start: begin + quote, candidates }
    }
}

/// Where a word ends that stands by itself.
fn after_word(line: &str, word: &str) -> Option<usize> {
    let mut at = 0;
    for part in line.split_inclusive(char::is_whitespace) {
        at += part.len();
        if part.trim_end() == word && part.len() > word.len() {
            return Some(at);
        }
    }
    None
}

/// The quotation mark that has no other at the end of a text.
fn open_quote(text: &str) -> Option<usize> {
    let mut open = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => open = if open.is_some() { None } else { Some(at) },
            _ => {}
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use nsp::daemon::FunctionManifest;
    use serde_json::json;

    use super::*;

    fn catalogue() -> Catalogue {
        let chat = Manifest::new("Chat")
            .function(
                "Hello",
                FunctionManifest::new("").call(json!({"name": "string", "nick": "string?", "to": "string"})),
            )
            .function("Help", FunctionManifest::new(""));
        let services = BTreeMap::from([("Chat".to_owned(), Some(chat)), ("Clock".to_owned(), None)]);
        Catalogue { services, service: None }
    }

    #[track_caller]
    fn check(catalogue: &Catalogue, line: &str, start: usize, expected: &[&str]) {
        let found = catalogue.complete(line);
        assert_eq!(
            (found.start, found.candidates.as_slice()),
            (start, expected.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().as_slice())
        );
    }

    #[test]
    fn commands_services_and_functions_are_offered_where_they_may_stand() {
        let catalogue = catalogue();
        check(&catalogue, "ca", 0, &["call "]);
        check(&catalogue, "wat", 0, &["watch "]);
        check(&catalogue, "call C", 5, &["Chat", "Clock"]);
        check(&catalogue, "watch Cl", 6, &["Clock "]);
        check(&catalogue, "call Chat Hel", 10, &["Hello", "Help"]);
        check(&catalogue, "call Clock ", 11, &[]);
        check(&catalogue, "exit ", 5, &[]);
    }

    #[test]
    fn argument_is_offered_whole_and_then_by_its_fields() {
        let catalogue = catalogue();
        check(&catalogue, "call Chat Hello ", 16, &["{\"name\":\"…\",\"nick\":null,\"to\":\"…\"}"]);
        check(&catalogue, "call Chat Hello {\"n", 17, &["\"name\": ", "\"nick\": "]);
        check(&catalogue, "call Chat Hello {\"name\": \"x\", \"n", 30, &["\"nick\": "]);
        check(&catalogue, "call Chat Hello {\"name\": \"n", 27, &[]);
        check(&catalogue, "call Chat Help ", 15, &[]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_typed_is_completed_inside_of_it(line in "(call |Chat |Hello |[{\"na\u{a0}é\\\\ ,:}]|.){0,8}") {
            let mut catalogue = catalogue();
            for service in [None, Some("Chat".to_owned())] {
                catalogue.service = service;
                let found = catalogue.complete(&line);
                proptest::prop_assert!(line.is_char_boundary(found.start), "{found:?}");
            }
        }
    }

    #[test]
    fn functions_of_the_service_in_use_stand_alone() {
        let mut catalogue = catalogue();
        catalogue.service = Some("Chat".into());
        check(&catalogue, "Hel", 0, &["Hello", "Help"]);
        check(&catalogue, "Hello {\"t", 7, &["\"to\": "]);
    }
}
