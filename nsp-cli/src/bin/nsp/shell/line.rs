//! What a line of the shell says.

use nsp::proto::RawJson;

/// The commands, with what they take and what they do.
pub(super) const COMMANDS: &[(&str, &str, &str)] = &[
    ("help", "", "show this"),
    ("services", "[SERVICE]", "show the services, or what one offers"),
    ("use", "[SERVICE]", "call functions of a service by their names alone; of none without one"),
    ("call", "SERVICE FUNCTION [JSON]", "call a function"),
    ("send", "SERVICE JSON", "send data to a service"),
    ("watch", "SERVICE [EVENT]", "show what a service sends, above the prompt"),
    ("unwatch", "SERVICE", "stop that"),
    ("login", "NAME", "log in; the password is asked for"),
    ("whoami", "", "show who is logged in"),
    ("status", "", "show the exit status of the last command"),
    ("exit", "", "leave"),
];

/// A line, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line {
    Empty,
    Help,
    Services(Option<String>),
    Use(Option<String>),
    Call {
        service: String,
        function: String,
        argument: RawJson,
    },
    Send {
        service: String,
        data: RawJson,
    },
    Watch {
        service: String,
        event: Option<String>,
    },
    Unwatch(String),
    Login(String),
    Whoami,
    Status,
    Exit,
    /// A command of the local machine.
    Local(String),
}

/// The first word of a text, and what follows it.
pub(super) fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim()),
        None => (text, ""),
    }
}

fn json(text: &str) -> Result<RawJson, String> {
    if text.is_empty() {
        return Ok(RawJson::NULL);
    }
    RawJson::new(text.to_owned()).map_err(|error| format!("the argument is not JSON: {error}"))
}

impl Line {
    /// Takes a line apart. With a service in use, a word that is no command is one of its functions.
    pub(super) fn parse(text: &str, service_in_use: Option<&str>) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            return Ok(Self::Empty);
        }
        if let Some(local) = text.strip_prefix('!') {
            return Ok(Self::Local(local.trim().to_owned()));
        }
        let (command, rest) = word(text);
        let optional = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let need = |text: &str, what: &str| optional(text).ok_or_else(|| format!("{command} needs {what}"));
        Ok(match command {
            "help" | "?" => Self::Help,
            "services" => Self::Services(optional(rest)),
            "use" => Self::Use(optional(rest)),
            "call" => {
                let (service, rest) = word(rest);
                let (function, argument) = word(rest);
                Self::Call {
                    service: need(service, "SERVICE FUNCTION [JSON]")?,
                    function: need(function, "a function")?,
                    argument: json(argument)?,
                }
            }
            "send" => {
                let (service, data) = word(rest);
                Self::Send { service: need(service, "SERVICE JSON")?, data: json(&need(data, "the data")?)? }
            }
            "watch" => {
                let (service, event) = word(rest);
                Self::Watch { service: need(service, "a service")?, event: optional(event) }
            }
            "unwatch" => Self::Unwatch(need(rest, "a service")?),
            "login" => Self::Login(need(rest, "a name")?),
            "whoami" => Self::Whoami,
            "status" => Self::Status,
            "exit" | "quit" => Self::Exit,
            function => match service_in_use {
                Some(service) => Self::Call {
                    service: service.to_owned(),
                    function: function.to_owned(),
                    argument: json(rest)?,
                },
                None => return Err(format!("`{}` is no command: help shows them", function.escape_debug())),
            },
        })
    }
}

/// Whether a line should be forgotten: it has a field that is named as secrets are, or begins with a space.
pub(super) fn is_secret(text: &str) -> bool {
    const WORDS: [&str; 7] = ["password", "passwd", "secret", "token", "credential", "apikey", "private"];
    if text.starts_with(' ') {
        return true;
    }
    let text = text.to_lowercase();
    // What the original calls passwords: `pw`, `cp` and `p`.
    let fields = ["\"pw\"", "\"cp\"", "\"p\"", "chpasswd"];
    WORDS.iter().chain(&fields).any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(service: &str, function: &str, argument: &str) -> Result<Line, String> {
        let argument = RawJson::new(argument.to_owned()).unwrap();
        Ok(Line::Call { service: service.into(), function: function.into(), argument })
    }

    #[test]
    fn lines_are_taken_apart() {
        let parse = |text: &str| Line::parse(text, None);
        assert_eq!(parse("  "), Ok(Line::Empty));
        assert_eq!(parse("# note"), Ok(Line::Empty));
        assert_eq!(parse("call Chat Hello {\"a\": \"b c\"}"), call("Chat", "Hello", "{\"a\": \"b c\"}"));
        assert_eq!(parse("call Chat Hello"), call("Chat", "Hello", "null"));
        assert_eq!(
            parse("watch Chat message"),
            Ok(Line::Watch { service: "Chat".into(), event: Some("message".into()) })
        );
        assert_eq!(parse("!ls -l"), Ok(Line::Local("ls -l".into())));
        assert_eq!(parse("quit"), Ok(Line::Exit));
        assert_eq!(Line::parse("Hello [1]", Some("Chat")), call("Chat", "Hello", "[1]"));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        for (text, said) in [
            ("Hello", "`Hello` is no command"),
            ("call Chat", "call needs a function"),
            ("call", "call needs SERVICE FUNCTION"),
            ("call Chat Hello {", "the argument is not JSON"),
            ("send Chat", "send needs the data"),
            ("unwatch", "unwatch needs a service"),
        ] {
            let error = Line::parse(text, None).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
    }

    #[test]
    fn lines_with_secrets_are_not_kept() {
        for text in [
            "call NoAdmin addUser {\"name\":\"alice\",\"password\":\"x\"}",
            "call NoUser createUser {\"pw\":\"x\"}",
            "call A b {\"apiKey\": 1}",
            "call NoShell sendC {\"c\":\"me chpasswd x\"}",
            " call A b",
        ] {
            assert!(is_secret(text), "{text}");
        }
        assert!(!is_secret("call Chat Hello {\"d\":1}"));
    }
}
