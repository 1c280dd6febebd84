use proptest::prelude::*;

use super::*;

fn scan(text: &[u8]) -> Option<&str> {
    Scanner::whole(text, Scanner::value).map(|value| value.text)
}

#[test]
fn plain_ends_at_the_first_byte_that_is_not() {
    for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
        for length in 0..20 {
            let mut text = vec![0xc3; length];
            text.extend([special, b'"', 0, b'a', b'a', b'a', b'a', b'a', b'a']);
            assert_eq!(plain(&text), length, "{special}");
        }
    }
    assert_eq!(plain(&[0x7f; 19]), 19);
    assert_eq!(plain("!#[]é€ \u{80}".as_bytes()), "!#[]é€ \u{80}".len());
}

#[test]
fn values_are_read_and_doubts_are_left_to_others() {
    for text in [r#"{"a":[1,-0.5e+3,{"b":"\u00e9\n\"","c":[]},null,true,false]}"#, "0", "\"\"", "{}", "\"é\""]
    {
        assert_eq!(scan(text.as_bytes()), Some(text));
    }
    let deep = "[".repeat(100) + &"]".repeat(100);
    for text in [
        &*deep,
        "",
        "01",
        "1.",
        ".5",
        "-",
        "1e",
        "+1",
        "nul",
        "nulll",
        "[1,]",
        "[,]",
        "{,}",
        "{\"a\":1,}",
        "{\"a\"}",
        "{\"\\u0061\":1}",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"a\nb\"",
        "\"",
        "[1 2]",
        "1 2",
        "{a:1}",
        "\u{feff}1",
    ] {
        assert_eq!(scan(text.as_bytes()), None, "{text}");
    }
    assert_eq!(scan(b"\"\xff\""), None);
}

/// The last value of `d` as serde_json sees it, and whether it is the last of its keys.
fn last_value(message: &[u8]) -> Option<(String, bool)> {
    #[derive(serde::Deserialize)]
    struct Message {
        d: Box<RawValue>,
    }
    let message: Message = serde_json::from_slice(message).ok()?;
    let d = message.d.get();
    let value = d.strip_prefix(r#"{"d":"#)?.strip_suffix('}')?;
    let keys: serde_json::Map<String, serde_json::Value> = serde_json::from_str(d).ok()?;
    let mut values = serde_json::Deserializer::from_str(value).into_iter::<&RawValue>();
    let first = values.next()?.ok()?.get();
    Some((first.to_owned(), keys.len() == 1 && first.len() == value.len()))
}

fn in_a_message(text: &[u8]) -> Vec<u8> {
    [br#"{"m":"SF","d":{"d":"#, text, b"}}"].concat()
}

#[test]
fn one_value_is_told_from_more_and_from_less() {
    for text in [
        "7",
        "-0.5e3",
        "null",
        "true",
        "false",
        "\"\"",
        "\"é: {}\"",
        r#""a\"b""#,
        "[]",
        "[{},[1]]",
        "{}",
        "{ }",
        r#"{"a":1}"#,
        r#"{"a":{"b":1}}"#,
        r#"{"a":"}"}"#,
        r#"{"a":[1,"x"],"b":"long enough for words"}"#,
    ] {
        assert!(is_one(text.as_bytes()), "{text}");
        assert_eq!(last_value(&in_a_message(text.as_bytes())), Some((text.to_owned(), true)));
    }
    // A value that is none is told by who reads it.
    for text in ["{]}", r#"{"a"}"#, r#"{"a":{}"#, "{nonsense}", "{\u{7f}}"] {
        assert!(is_one(text.as_bytes()), "{text}");
        assert_eq!(last_value(&in_a_message(text.as_bytes())), None);
    }
    for text in [
        "",
        "{",
        "}",
        "[",
        "\"",
        "\"a",
        "01",
        "1 ",
        " 1",
        "nul",
        "[1]]",
        "[1",
        "{}}",
        "{}{}",
        "{},",
        "1,\"a\":2",
        "\"x\",\"a\":2",
        r#"{},"a":{}"#,
        r#"{"a":1},"b":2"#,
        r#"{"a":1},"b":{"c":2}"#,
        "null,",
        r#""x","a":"y""#,
        "[],[]",
        "}{}",
    ] {
        assert!(!is_one(text.as_bytes()), "{text}");
    }
    for length in 0..20 {
        let text = format!("{{{}}}{}}}", "x".repeat(length), "y".repeat(length % 9));
        assert!(!is_one(text.as_bytes()), "{text}");
    }
}

proptest! {
    #[test]
    fn one_value_is_all_of_the_text_in_a_message(text in r#"(\{?("[a-d]?"|"[}{\\"]"|[:,}{\[\]]|1|null| ){0,7}\}?|\{"a":(1|"\}?"|\{\})(,"d":(2|\{\}))?\}?(,"d":\{?"?3?"?\}?)?)"#) {
        let message = in_a_message(text.as_bytes());
        if is_one(text.as_bytes())
            && serde_json::from_slice::<serde_json::Value>(&message).is_ok()
        {
            prop_assert_eq!(last_value(&message), Some((text, true)));
        }
    }

    #[test]
    fn what_serde_json_writes_is_one_value(key in "[a-z}]{0,9}", text: String, number: f64, list: Vec<i64>) {
        let value = serde_json::json!({ key: (&text, number, list) });
        for value in [value, text.into(), number.into()] {
            prop_assert!(is_one(value.to_string().as_bytes()));
        }
    }

    #[test]
    fn what_is_accepted_is_what_serde_json_accepts(text in r#"[ \[\]{}:,"\\un0-9a-f.eE+\-tlrs]{0,24}"#) {
        let theirs = serde_json::from_str::<&RawValue>(&text).ok().map(RawValue::get);
        if let Some(ours) = scan(text.as_bytes()) {
            prop_assert_eq!(Some(ours), theirs);
        }
    }

    #[test]
    fn usual_form_is_read_as_any_other(text in r#"\{"m":"SF","d":\{("[a-d]":("[a-z"\\]{0,3}"|[0-9.-]{1,3}|\{\}|\[1\]),?){1,3}\}\}"#) {
        let mut usually = Vec::new();
        if usual(text.as_bytes(), |key, value| usually.push((vec![key], value))).is_some() {
            let mut otherwise = Vec::new();
            let read = Scanner::whole(text.as_bytes(), |scanner| {
                scanner.object(|scanner, key| match key {
                    b"d" => scanner.object(|scanner, key| {
                        otherwise.push((key.to_vec(), scanner.value()?));
                        Some(())
                    }),
                    _ => scanner.value().map(drop),
                })
            });
            prop_assert!(read.is_some(), "{text}");
            prop_assert_eq!(usually, otherwise);
        }
    }

    #[test]
    fn what_serde_json_writes_is_accepted(key in "[a-z]{0,9}", text: String, number: f64, list: Vec<i64>) {
        let written = serde_json::json!({ key: (text, number, list) }).to_string();
        prop_assert_eq!(scan(written.as_bytes()), Some(&*written));
    }
}
