//! Calling, sending, listening; scripts and programs as services.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Beside, Daemon, PASSWORD, example, path};

fn with_functions() -> Daemon {
    let function = |name: &str, file: &str| format!("{name}={}", path(&example("functions").join(file)));
    Daemon::start(&[
        "--function",
        &function("Chat.Hello", "hello.py"),
        "--function",
        &function("Text.Upper", "upper.js"),
        "--function",
        &function("System.Uptime", "uptime.sh"),
    ])
}

#[test]
fn scripts_in_three_languages_answer_and_fail_as_they_say() {
    let mut daemon = with_functions();
    assert_eq!(
        daemon.json(&["call", "Chat", "Hello", r#"{"d":"hi"}"#]),
        json!({"r": "hello stranger, you said: hi"})
    );
    assert_eq!(daemon.json(&["call", "Text", "Upper", "\"abc\""]), json!("ABC"));
    assert!(daemon.json(&["call", "System", "Uptime"]).is_u64());

    let (status, printed, error) = daemon.run(&["call", "Chat", "Hello", "{}", "--json"]);
    let line: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(line["error"]["code"], "bad_argument");
    assert_eq!(status, 1);
    assert!(error.starts_with("nsp: say something: {\"d\": text} (bad_argument, "), "{error}");

    let (status, _, error) = daemon.run(&["call", "Text", "Upper", "7"]);
    assert_eq!(status, 1);
    assert!(error.contains("the function ended with status 3 (exit"), "{error}");
    assert!(daemon.log_line("not a text").contains("Upper"), "what it wrote to standard error the log has");
}

#[test]
fn script_knows_who_has_proved_to_call() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("who.sh");
    fs::write(&script, "printf '\"%s\"' \"$NSP_USER\"").unwrap();
    let function = |name: &str, more: &str| {
        format!("[[function]]\nname = \"Who.{name}\"\ncommand = \"{}\"\n{more}\n", path(&script))
    };
    let config = [function("Am", ""), function("Login", "login = true"), function("Super", "secure = true")];
    let daemon = Daemon::configured(&config.concat(), &[]);
    assert_eq!(daemon.json(&["call", "Who", "Am", "--user", "admin"]), json!(""), "a claim is nothing");
    for function in ["Login", "Super"] {
        assert_eq!(daemon.run(&["call", "Who", function, "--user", "admin"]).0, 5);
    }
    daemon.login("admin", PASSWORD);
    for function in ["Login", "Super"] {
        assert_eq!(daemon.json(&["call", "Who", function]), json!("admin"));
    }
    assert_eq!(daemon.json(&["call", "Who", "Am"]), json!(""), "nobody is asked for what is not needed");
}

#[test]
fn bounds_of_a_script_are_those_of_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "[[function]]\nname = \"T.Sleep\"\ncommand = [\"sleep\", \"600\"]\ntimeout = \"200ms\"\n\
         [[function]]\nname = \"T.Much\"\ncommand = [\"sh\", \"-c\", \"yes\"]\noutput = 1000\n\
         [[function]]\nname = \"T.Memory\"\ncommand = [\"python3\", \"-c\", \"print(len('x' * 300000000))\"]\nmemory = \"64MiB\"\n# {}\n",
        path(dir.path())
    );
    let daemon = Daemon::configured(&config, &[]);
    let (status, _, error) = daemon.run(&["call", "T", "Sleep"]);
    assert_eq!(status, 8);
    assert!(error.contains("the function took longer than 200ms"), "{error}");
    let (status, _, error) = daemon.run(&["call", "T", "Much"]);
    assert_eq!(status, 10);
    assert!(error.contains("the answer is larger than 1000 B"), "{error}");
    let (status, _, error) = daemon.run(&["call", "T", "Memory"]);
    assert_eq!(status, 1, "{error}");
}

#[test]
fn message_as_large_as_the_configuration_allows_is_no_crowd() {
    let dir = tempfile::tempdir().unwrap();
    let function =
        "[[function]]\nname = \"T.Length\"\ncommand = [\"wc\", \"-c\"]\n[limits]\nmessage = \"16MiB\"\n";
    let daemon = Daemon::configured(function, &[]);
    let file = dir.path().join("large.json");
    fs::write(&file, format!("\"{}\"", "x".repeat(12 << 20))).unwrap();
    let at = format!("@{}", path(&file));
    let length = daemon.json(&["call", "T", "Length", &at, "--max-message", "16MiB"]);
    assert_eq!(length, json!((12 << 20) + 3), "with its quotation marks and the end of its line");
}

#[test]
fn argument_comes_from_the_line_a_file_or_standard_input_and_goes_into_a_file() {
    let daemon = with_functions();
    let file = daemon.dir.path().join("argument.json");
    fs::write(&file, "\"from a file\"").unwrap();
    let at = format!("@{}", path(&file));
    assert_eq!(daemon.json(&["call", "Text", "Upper", &at]), json!("FROM A FILE"));
    assert_eq!(daemon.feed(&["call", "Text", "Upper", "-"], "\"from input\"").1, "\"FROM INPUT\"");
    let out = daemon.dir.path().join("out");
    assert_eq!(
        daemon.run(&["call", "Text", "Upper", "\"x\"", "--out", path(&out)]),
        (0, String::new(), String::new())
    );
    assert_eq!(fs::read_to_string(&out).unwrap().trim(), "\"X\"");
    assert_eq!(daemon.json(&["call", "Text", "Upper", "\"x\"", "--json"]), json!({"answer": "X"}));
}

#[test]
fn services_are_listed_with_calls_that_can_be_copied() {
    let daemon = Daemon::start(&["--services", path(&example("services"))]);
    let (status, listed, _) = daemon.run(&["services"]);
    assert_eq!(status, 0);
    for line in ["Clock        Says what time it is, and rings when it is asked to", "NoDiscovery"] {
        assert!(listed.contains(line), "{listed}");
    }
    let (_, described, _) = daemon.run(&["services", "Clock"]);
    assert!(described.contains("nsp call Clock ring '{\"text\":\"…\"}'"), "{described}");
    let (_, described, _) = daemon.run(&["services", "Counter"]);
    assert!(described.contains("reset (superusers only)"), "{described}");
    let manifest = daemon.json(&["services", "Clock", "--json"]);
    assert_eq!(manifest["servicefunctions"]["now"]["description"], "The time, as seconds since 1970");
}

#[test]
fn programs_in_two_languages_answer_and_their_events_are_heard() {
    let mut daemon = Daemon::start(&["--services", path(&example("services"))]);
    for _ in 0..2 {
        daemon.log_line("service ready");
    }
    assert!(daemon.json(&["call", "Clock", "now"]).as_f64().unwrap() > 1.7e9);

    let mut listening =
        Beside::start(daemon.command(&["listen", "Clock", "--event", "ring", "--count", "1", "--json"]));
    assert_eq!(listening.error_line(), "listening to Clock");
    assert_eq!(
        daemon.run(&["call", "Clock", "ring", r#"{"text":"tea"}"#]),
        (0, "null".to_owned(), String::new())
    );
    let line: Value = serde_json::from_str(&listening.line()).unwrap();
    assert_eq!(line, json!({"event": "ring", "data": {"text": "tea"}}));
    assert_eq!(listening.child.wait().unwrap().code(), Some(0));

    assert_eq!(daemon.json(&["call", "Counter", "add", "2"]), json!(2));
    let (status, _, error) = daemon.run(&["call", "Counter", "add", "\"x\""]);
    assert!(status == 1 && error.contains("add takes a number (bad_argument"), "{status} {error}");
    let (status, _, error) = daemon.run(&["call", "Counter", "reset"]);
    assert_eq!(status, 5, "{error}");
}

#[test]
fn program_that_dies_is_started_again_and_ends_with_the_daemon() {
    let mut daemon = Daemon::start(&["--services", path(&example("services"))]);
    for _ in 0..2 {
        daemon.log_line("service ready");
    }
    let (status, _, error) = daemon.run(&["call", "Counter", "crash"]);
    assert!(status == 1 && error.contains("unavailable"), "{status} {error}");
    assert!(daemon.log_line("service ended").contains("exit status: 7"));
    daemon.log_line("service ready");
    assert_eq!(daemon.json(&["call", "Counter", "add", "1"]), json!(1), "it begins again");
    daemon.signal("-TERM");
    let (status, rest) = daemon.end();
    assert_eq!(status, 0);
    assert_eq!(rest.matches("service stopped").count(), 2, "{rest}");
}

#[test]
fn program_knows_users_where_its_manifest_wants_a_login() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("Who");
    fs::create_dir(&folder).unwrap();
    let manifest = json!({"name": "Who", "servicefunctions": {"am": {}, "login": {"login": true}, "super": {"secure": true}}});
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    fs::write(
        folder.join("entry.sh"),
        "echo '{\"op\":\"ready\"}'\nwhile read -r line; do\n\
         case $line in *'\"op\":\"call\"'*) echo \"$line\" | sed 's/.*\"id\":\\([0-9]*\\).*\"user\":\\([^}]*\\)}/{\"op\":\"answer\",\"id\":\\1,\"data\":\\2}/';; esac\ndone\n",
    )
    .unwrap();
    let mut daemon = Daemon::start(&["--services", path(dir.path())]);
    daemon.log_line("service ready");
    assert_eq!(daemon.json(&["call", "Who", "am", "--user", "admin"]), json!(null));
    for function in ["login", "super"] {
        assert_eq!(daemon.run(&["call", "Who", function, "--user", "admin"]).0, 5);
    }
    daemon.login("admin", PASSWORD);
    for function in ["login", "super"] {
        assert_eq!(daemon.json(&["call", "Who", function]), json!("admin"));
    }
}

#[test]
fn service_that_cannot_be_read_is_left_out_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("Broken");
    fs::create_dir(&broken).unwrap();
    fs::write(broken.join("manifest.json"), "{").unwrap();
    let mut daemon = Daemon::start(&["--services", path(dir.path())]);
    assert!(daemon.log_line("a service was left out").contains("Broken/manifest.json"));
    assert_eq!(daemon.run(&["services", "Broken"]).0, 7);
}

#[test]
fn original_command_line_answers_and_greets() {
    let daemon = Daemon::start(&[]);
    let mut listening = Beside::start(daemon.command(&["listen", "NoShell", "--count", "1"]));
    assert!(listening.line().starts_with("welcome \"nsp daemon"), "the greeting comes before it is open");
    let run = |line: &str| {
        let argument = json!({ "c": line }).to_string();
        daemon.json(&["call", "NoShell", "sendC", &argument])["r"].as_str().unwrap().to_owned()
    };
    assert_eq!(run("service list"), "NoActivity\nNoAdmin\nNoDiscovery\nNoShell\nNoUser");
    assert_eq!(run("echo a  b"), "a  b");
    assert_eq!(run("service funclist NoActivity"), "getActivity\ngetOnline");
    let refused = run("daemon version");
    assert_eq!(refused, run("daemon version").replace("nothing", ""), "the same each time");
    assert!(refused.starts_with("Unknown command. Start at token \"daemon\""), "{refused}");
    assert!(run("nonsense").starts_with("Unknown command. Start at token \"nonsense\""));
    daemon.login("admin", PASSWORD);
    assert_eq!(run("daemon version"), format!("nsp {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(run("activity listuser"), "admin");
    assert!(run("user meta admin").contains("\"privilege\": 0"));
}

#[test]
fn activity_is_for_superusers_and_says_who_is_here() {
    let daemon = Daemon::start(&[]);
    assert_eq!(daemon.run(&["call", "NoActivity", "getOnline"]).0, 5);
    daemon.login("admin", PASSWORD);
    assert_eq!(daemon.json(&["call", "NoActivity", "getOnline"]), json!({"d": ["admin"]}));
    let activity = daemon.json(&["call", "NoActivity", "getActivity", r#"{"u":"admin"}"#]);
    assert_eq!(activity["c"], json!(1));
    assert_eq!(activity["d"]["NoActivity"].as_array().unwrap().len(), 1);
}

#[test]
fn send_listen_ping_and_bench_work() {
    let daemon = Daemon::start(&[]);
    assert_eq!(daemon.run(&["send", "NoActivity", "{\"typing\":true}"]), (0, String::new(), String::new()));
    let (status, printed, _) = daemon.run(&["ping", "--count", "2", "--interval", "1ms"]);
    assert_eq!((status, printed.lines().count()), (0, 4), "{printed}");
    let line =
        daemon.json(&["bench", "--duration", "100ms", "--inflight", "4", "--connections", "2", "--json"]);
    assert!(line["calls"].as_u64().unwrap() > 8 && line["p50_us"].is_u64(), "{line}");
    for flag in ["--idle", "--max-time"] {
        assert_eq!(daemon.run(&["listen", "NoActivity", flag, "50ms"]).0, 0);
    }
}
