use proptest::prelude::*;

use super::*;

fn toml_error(text: &str) -> String {
    Policy::from_toml(text).unwrap_err().to_string()
}

fn json_error(text: &str) -> String {
    Policy::from_json(text).unwrap_err().to_string()
}

#[test]
fn errors_in_toml_name_the_line_and_the_field() {
    for (text, expected) in [
        (
            "\n[rolls.user]",
            "line 2: there is no `rolls` here; there are `roles`, `users`, `services`, `functions`",
        ),
        (
            "[roles.user]\ngrant = []",
            "line 2: roles.user: there is no `grant` here; there are `inherits`, `grants`, `denies`",
        ),
        (
            "[roles.user]\ngrants = [\n  { may = 'read', on = 'A' },\n  { may = 'reads', on = 'A' },\n]",
            "line 4: roles.user.grants[1].may: `reads` is none of `create`, `read`, `update`, `delete`, `*`",
        ),
        (
            "[[roles.user.grants]]\nmay = 'read'\non = 'A'\n\n[[roles.user.grants]]\nmay = 'read:us'\non = 'A'",
            "line 6: roles.user.grants[1].may: `us` is neither `own` nor `any`",
        ),
        (
            "[[roles.user.grants]]\nmay = 'read'\non = 'A'\n\n[[roles.user.denies]]\nmay = 'read'",
            "line 5: roles.user.denies[0]: it has no `on`",
        ),
        ("[roles.user]\ngrants = [{ on = 'A' }]", "line 2: roles.user.grants[0]: it has no `may`"),
        ("[roles.user]\ngrants = [{ may = [], on = 'A' }]", "line 2: roles.user.grants[0].may: it is empty"),
        (
            "[roles.user]\ngrants = [{ may = 'read', on = '' }]",
            "line 2: roles.user.grants[0].on: a pattern is not empty",
        ),
        (
            "[roles.user]\ngrants = [{ may = 'read', on = 7 }]",
            "line 2: roles.user.grants[0].on: a text or a list of texts belongs here, and this is a number",
        ),
        (
            "[roles.user]\ngrants = 'all'",
            "line 2: roles.user.grants: a list belongs here, and this is a text",
        ),
        (
            "[roles.user]\ngrants = [{ may = 'read', on = 'A', shows = ['!x'] }]",
            "line 2: roles.user.grants[0].shows: it shows nothing: begin with `*`, and take away from that",
        ),
        (
            "[roles.user]\ndenies = [{ may = 'read', on = 'A', shows = 'x' }]",
            "line 2: roles.user.denies[0].shows: what is denied shows nothing anyway",
        ),
        ("[roles.user]\ninherits = 'none'", "line 2: roles.user.inherits: there is no role `none`"),
        (
            "[roles.user]\n\n[users]\nalice = ['user',\n'admin']",
            "line 5: users.alice: there is no role `admin`",
        ),
        (
            "[users]\nAlice = []",
            "line 2: users.Alice: names of users are lower case, and this would be nobody",
        ),
        ("[services]\nX = 'user'", "line 2: services.X: there is no role `user`"),
        (
            "[functions.Notes]\nget = 'reads'",
            "line 2: functions.Notes.get: `reads` is none of `create`, `read`, `update`, `delete`",
        ),
        ("[functions]\nNotes = 'read'", "line 2: functions.Notes: a table belongs here, and this is a text"),
        (
            "[roles.a]\ninherits = 'b'\n[roles.b]\ninherits = ['c']\n[roles.c]\ninherits = 'a'",
            "line 1: roles.a.inherits: the role inherits from itself: a → b → c → a",
        ),
        ("[roles.a]\ninherits = 'a'", "line 1: roles.a.inherits: the role inherits from itself: a → a"),
    ] {
        assert_eq!(toml_error(text), expected, "{text}");
    }
    let syntax = toml_error("[roles.user]\ngrants = [");
    assert!(syntax.starts_with("line 2: "), "{syntax}");
    let twice = toml_error("[roles.user]\n[roles.user]");
    assert!(twice.starts_with("line 2: ") && twice.contains("duplicate"), "{twice}");
}

#[test]
fn errors_in_json_name_the_line_and_the_field() {
    for (text, expected) in [
        (
            "{\n\"rolls\": {}}",
            "line 2: there is no `rolls` here; there are `roles`, `users`, `services`, `functions`",
        ),
        (
            "{\"roles\": {\n  \"user\": {\"grants\": [\n    {\"may\": [\"read\",\n \"reads\"], \"on\": \"A\"}]}}}",
            "line 4: roles.user.grants[0].may: `reads` is none of `create`, `read`, `update`, `delete`, `*`",
        ),
        ("{\"users\": {\n\"al\\u0069ce\": [\"x\"]}}", "line 2: users.alice: there is no role `x`"),
        ("{\"users\": {\n\"a\": [], \"a\":\n []}}", "line 3: a: it is there twice"),
        ("\n[]", "line 2: a table belongs here, and this is a list"),
        ("{\"users\": null}", "line 1: users: a table belongs here, and this is null"),
        ("{\n\"users\": {}", "line 2: EOF while parsing an object"),
        ("{\n\"users\" {}}", "line 2: expected `:`"),
        ("", "line 1: EOF while parsing a value"),
    ] {
        assert_eq!(json_error(text), expected, "{text}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(json_error(&deep), "line 1: a policy is not so deep");
    assert!(Policy::from_toml(&format!("a = {deep}")).is_err());
}

#[test]
fn json_says_the_same_as_toml() {
    let json = r#"{
        "roles": {
            "anonymous": {"grants": [{"may": "read", "on": "Chat", "functions": "history"}]},
            "user": {"inherits": "anonymous", "grants": [
                {"may": ["read", "create", "update:own", "delete:own"], "on": "Notes", "shows": ["*", "!secret"]}
            ]},
            "editor": {"inherits": ["user"], "grants": [{"may": "*", "on": "Notes*"}],
                       "denies": [{"may": "delete", "on": "*", "functions": "*Archive"}]}
        },
        "users": {"alice": ["editor"]},
        "services": {"NoMailer": "user"},
        "functions": {"Notes": {"list*": "read", "get": "read", "add": "create", "remove": "delete", "profile": "update:own"}}
    }"#;
    let (json, toml) = (Policy::from_json(json).unwrap(), Policy::from_toml(&documented()).unwrap());
    for user in [None, Some("alice"), Some("bobby")] {
        for service in ["Notes", "NotesOld", "Chat"] {
            for name in ["listAll", "get", "add", "remove", "profile", "purgeArchive", "history", "x"] {
                for owner in [None, Some("alice"), Some("bobby")] {
                    let mut access = call(user, service, name);
                    access.owner = owner;
                    let (a, b) = (granted(&json, &access), granted(&toml, &access));
                    assert_eq!(a, b, "{access:?}");
                }
            }
        }
    }
}

#[test]
fn diamond_of_roles_is_no_circle() {
    let text =
        "[roles.a]\n[roles.b]\ninherits='a'\n[roles.c]\ninherits='a'\n[roles.d]\ninherits=['b','c','a']";
    Policy::from_toml(text).unwrap();
}

#[test]
fn long_chain_of_roles_is_followed() {
    let role = |n: usize| format!("[roles.r{n}]\ninherits = 'r{}'\n", n + 1);
    let mut text: String = (0..1000).map(role).collect();
    text.push_str("[roles.r1000]\ngrants = [{ may = 'update', on = 'Notes' }]\n[users]\nalice = 'r0'\n");
    let policy = Policy::from_toml(&text).unwrap();
    assert!(granted(&policy, &call(Some("alice"), "Notes", "x")));
    assert!(!granted(&policy, &call(Some("bobby"), "Notes", "x")));
    let many: String = (0..1025).map(|n| format!("[roles.r{n}]\n")).collect();
    assert!(toml_error(&many).contains("there are more than 1024"));
}

#[test]
fn policy_over_its_size_is_refused_unread() {
    let large = " ".repeat(1024 * 1024 + 1);
    assert_eq!(toml_error(&large), "line 1: a policy has at most 1048576 bytes, this has 1048577");
    assert_eq!(json_error(&large), "line 1: a policy has at most 1048576 bytes, this has 1048577");
}

proptest! {
    #[test]
    fn loading_anything_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = Policy::from_toml(&text);
        let _ = Policy::from_json(&text);
    }

    #[test]
    fn loading_a_damaged_policy_never_panics(at in 0..1200_usize, len in 0..20_usize, more in "[\\[\\]{}\"'=,:*!.a-z\n]{0,6}") {
        let text = documented();
        let at = at.min(text.len());
        let end = (at + len).min(text.len());
        let damaged = format!("{}{more}{}", &text[..at], &text[end..]);
        if let Ok(policy) = Policy::from_toml(&damaged) {
            let _ = granted(&policy, &call(Some("alice"), "Notes", "get"));
        }
    }
}
