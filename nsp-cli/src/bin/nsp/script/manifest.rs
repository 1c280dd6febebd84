//! Services as folders: `manifest.json`, in the shape of the original, and a program `entry.*`.
//!
//! ```json
//! {
//!   "name": "Clock",
//!   "version": "1.0.0",
//!   "description": "Says what time it is.",
//!   "servicefunctions": {
//!     "Now": { "description": "The time.", "secure": false, "protocol": { "call": null, "return": { "t": "string" } } }
//!   }
//! }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use nsp::daemon::Manifest;
use serde::Deserialize;

use super::command_for;

/// Most functions of a service; a manifest is written by hand.
const FUNCTIONS: usize = 1024;

/// A service that was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) manifest: Manifest,
    /// The functions that only users may call who have logged in: `"login": true`, which the original does not have.
    pub(crate) logins: BTreeSet<String>,
    pub(crate) folder: PathBuf,
    pub(crate) command: Vec<PathBuf>,
}

/// What a manifest says besides.
#[derive(Default, Deserialize)]
struct Besides {
    #[serde(default, rename = "servicefunctions")]
    functions: BTreeMap<String, Login>,
}

#[derive(Deserialize)]
struct Login {
    #[serde(default)]
    login: bool,
}

impl Found {
    /// Reads the service in a folder: its manifest, and the program beside it.
    pub(crate) fn at(folder: &Path) -> Result<Self, String> {
        let path = folder.join("manifest.json");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let manifest = Manifest::from_json(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let besides: Besides =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let logins = besides.functions.into_iter().filter(|(_, function)| function.login);
        let folder_name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if manifest.name != folder_name {
            return Err(format!(
                "{}: the name `{}` is not that of the folder, `{folder_name}`",
                path.display(),
                manifest.name.escape_debug()
            ));
        }
        if manifest.functions.len() > FUNCTIONS {
            return Err(format!("{}: more than {FUNCTIONS} functions", path.display()));
        }
        Ok(Self {
            logins: logins.map(|(name, _)| name).collect(),
            command: entry(folder)?,
            folder: folder.to_owned(),
            manifest,
        })
    }

    /// Reads all services of a folder, sorted by name; with those that cannot be, and why. A folder that is not there has none.
    pub(crate) fn all(services: &Path) -> (Vec<Self>, Vec<String>) {
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        let mut folders: Vec<PathBuf> = match fs::read_dir(services) {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return (found, vec![format!("{}: {error}", services.display())]),
        };
        folders.sort();
        for folder in folders.iter().filter(|folder| folder.join("manifest.json").exists()) {
            match Self::at(folder) {
                Ok(service) => found.push(service),
                Err(error) => wrong.push(error),
            }
        }
        (found, wrong)
    }
}

/// The file `entry`, or `entry.` with whatever follows; there has to be one.
fn entry(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut candidates: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_stem().is_some_and(|stem| stem == "entry"))
        .collect();
    match (candidates.pop(), candidates.is_empty()) {
        (Some(one), true) => command_for(&one),
        (None, _) => Err(format!("{} has no program entry.*", folder.display())),
        (Some(_), false) => Err(format!("{} has more than one program entry.*", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(dir: &Path, name: &str, manifest: &str, files: &[&str]) -> PathBuf {
        let folder = dir.join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("manifest.json"), manifest).unwrap();
        for file in files {
            fs::write(folder.join(file), "").unwrap();
        }
        folder
    }

    #[test]
    fn manifest_of_the_original_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"name":"NoUser","version":"0.0.1","displayname":"u","description":"d","language":"javascript",
            "dependencies":{"node_packages":{},"services":{}},
            "servicefunctions":{"createUser":{"displayname":"c","description":"Makes a user.","secure":false,
            "protocol":{"call":{"un":"username"},"return":{"s":"status"}}}},"blobservicefunctions":{}}"#;
        let found = Found::at(&service(dir.path(), "NoUser", text, &["entry.js"])).unwrap();
        assert_eq!(found.command.first().unwrap(), Path::new("node"));
        let function = found.manifest.functions.get("createUser").unwrap();
        assert_eq!(function.description, "Makes a user.");
        assert_eq!(function.call, Some(serde_json::json!({"un": "username"})));
    }

    #[test]
    fn services_that_are_none_are_named_and_the_others_found() {
        let dir = tempfile::tempdir().unwrap();
        service(dir.path(), "A", r#"{"name":"A"}"#, &["entry.py"]);
        service(dir.path(), "B", r#"{"name":"Other"}"#, &["entry.py"]);
        service(dir.path(), "C", r#"{"name":"C"}"#, &[]);
        service(dir.path(), "D", r#"{"name":"D"}"#, &["entry.py", "entry.sh"]);
        service(dir.path(), "E", "{", &["entry.py"]);
        service(dir.path(), "F", r#"{"name":"F"}"#, &["entry.exe"]);
        fs::create_dir(dir.path().join("no-service")).unwrap();
        let (found, wrong) = Found::all(dir.path());
        assert_eq!(found.iter().map(|found| found.manifest.name.as_str()).collect::<Vec<_>>(), ["A"]);
        let said = ["is not that of the folder", "has no program", "more than one", "EOF", "chmod +x"];
        assert_eq!(wrong.len(), said.len(), "{wrong:?}");
        for (error, said) in wrong.iter().zip(said) {
            assert!(error.contains(said), "{error}");
        }
        assert!(Found::all(&dir.path().join("nowhere")).0.is_empty());
    }
}
