//! What the log says of a policy that changes. Alone in its program: what one test logs, another one may have silenced.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::{Arc, Mutex};
use std::{fs, io};

use nsp_auth::policy::Policies;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn every_change_of_the_policy_is_logged() {
    let written = Written::default();
    let writer = written.clone();
    let log = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .finish();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    tracing::subscriber::with_default(log, || {
        let grant = "grants = [{ may = \"*\", on = \"*\" }]\n";
        fs::write(&path, format!("[roles.superuser]\n{grant}")).unwrap();
        let policies = Policies::open(&path).unwrap();
        fs::write(&path, format!("[roles.user]\n{grant}")).unwrap();
        policies.reload().unwrap();
        fs::write(&path, "x").unwrap();
        policies.reload().unwrap_err();
        policies.replace(None);
    });
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let path = path.display();
    let audit = |level, change| format!(" {level} nsp_auth::audit: event=\"policy\" change=\"{change}\"");
    let expected = [
        format!("{} rules=1 path={path}", audit("INFO", "set")),
        " WARN nsp_auth::policy::policies: the policy has no role `superuser`: superusers may what every user may".into(),
        format!("{} rules=1 path={path}", audit("INFO", "replaced")),
        format!("{} path={path} error={path}:1: ", audit("WARN", "refused")),
        format!("{} path={path}", audit("INFO", "removed")),
    ];
    assert_eq!(text.lines().count(), expected.len(), "{text}");
    for (line, start) in text.lines().zip(expected) {
        assert!(line.starts_with(&start), "{line}\nis not\n{start}");
    }
}
