//! What a service says about itself: `manifest.json`, as the original has it.
//!
//! ```json
//! {
//!   "name": "Chat", "version": "1.2.0", "displayname": "Chat", "description": "Rooms to talk in",
//!   "dependencies": { "services": { "Users": "1.0.0" } },
//!   "servicefunctions": {
//!     "Hello": {
//!       "displayname": "Hello", "description": "Says hello", "secure": false,
//!       "protocol": { "call": { "d": "string", "times": "integer?" }, "return": { "r": "string" } }
//!     }
//!   },
//!   "blobservicefunctions": { "Avatar": { "description": "Makes a picture smaller" } }
//! }
//! ```
//!
//! Other keys of the original (language, repositories, node packages) concern how it starts services, and are skipped.

mod shape;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use shape::{Mismatch, Shape};

/// What a service is and offers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// Its name. A daemon puts the service's own name here.
    #[serde(default)]
    pub name: String,
    /// Its version.
    #[serde(default, deserialize_with = "text")]
    pub version: String,
    /// What to call it in front of people.
    #[serde(default, rename = "displayname")]
    pub display_name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// What it depends on.
    #[serde(default)]
    pub dependencies: Dependencies,
    /// Its functions.
    #[serde(default, rename = "servicefunctions")]
    pub functions: BTreeMap<String, FunctionManifest>,
    /// Its functions that are called with a blob.
    #[serde(default, rename = "blobservicefunctions")]
    pub blob_functions: BTreeMap<String, FunctionManifest>,
}

/// What a service depends on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Dependencies {
    /// Other services of the daemon, by name, with the lowest version that will do.
    #[serde(default)]
    pub services: BTreeMap<String, String>,
}

/// What a function takes and gives.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
#[non_exhaustive]
pub struct FunctionManifest {
    /// What to call it in front of people.
    pub display_name: String,
    /// What it does.
    pub description: String,
    /// Whether only superusers may. A daemon refuses to begin where this says so and the function was registered for everybody.
    pub secure: bool,
    /// The [shape](Shape) of its argument; of a blob function, of what is said about the blob.
    pub call: Option<Value>,
    /// The shape of its result.
    pub returns: Option<Value>,
}

/// How it stands in the file.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(default, rename = "displayname")]
    display_name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    secure: bool,
    #[serde(default)]
    protocol: Protocol,
}

#[derive(Serialize, Deserialize, Default)]
struct Protocol {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    call: Option<Value>,
    #[serde(default, rename = "return", skip_serializing_if = "Option::is_none")]
    returns: Option<Value>,
}

impl From<Written> for FunctionManifest {
    fn from(written: Written) -> Self {
        let Written { display_name, description, secure, protocol } = written;
        Self { display_name, description, secure, call: protocol.call, returns: protocol.returns }
    }
}

impl From<FunctionManifest> for Written {
    fn from(manifest: FunctionManifest) -> Self {
        let FunctionManifest { display_name, description, secure, call, returns } = manifest;
        Self { display_name, description, secure, protocol: Protocol { call, returns } }
    }
}

/// Versions are written as text, and sometimes as a number.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    })
}

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {error}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// It is no JSON of that shape.
    #[error("not a manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// It is larger than [`Manifest::MAX_LEN`].
    #[error("not a manifest: it has more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
}

impl Manifest {
    /// The largest that is read, in bytes. 1 MiB: more than a thousand functions with their shapes, and no more than a daemon sends to who asks
    /// for it.
    pub const MAX_LEN: usize = 1024 * 1024;

    /// A manifest that says nothing yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Reads the text of a `manifest.json`.
    ///
    /// # Errors
    /// When it is not JSON, a known key is of another shape, or it is larger than [`MAX_LEN`](Self::MAX_LEN).
    pub fn from_json(text: &str) -> Result<Self, ManifestError> {
        if text.len() > Self::MAX_LEN {
            return Err(ManifestError::TooLarge { limit: Self::MAX_LEN });
        }
        Ok(serde_json::from_str(text)?)
    }

    /// Reads a `manifest.json`.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json), and when there is no such file.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ManifestError> {
        let path = path.as_ref();
        let failed = |error| ManifestError::Io { path: path.display().to_string(), error };
        let mut bytes = Vec::new();
        // One byte more tells a file that is too large, however much more there is.
        let read =
            File::open(path).and_then(|file| file.take(Self::MAX_LEN as u64 + 1).read_to_end(&mut bytes));
        if read.map_err(failed)? > Self::MAX_LEN {
            return Err(ManifestError::TooLarge { limit: Self::MAX_LEN });
        }
        let text = std::str::from_utf8(&bytes);
        Self::from_json(text.map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?)
    }

    /// With this version.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// With this name in front of people.
    #[must_use]
    pub fn display_name(mut self, name: impl Into<String>) -> Self {
        self.display_name = name.into();
        self
    }

    /// With this description.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// Describes a function.
    #[must_use]
    pub fn function(mut self, name: impl Into<String>, function: FunctionManifest) -> Self {
        self.functions.insert(name.into(), function);
        self
    }

    /// Describes a function that is called with a blob.
    #[must_use]
    pub fn blob_function(mut self, name: impl Into<String>, function: FunctionManifest) -> Self {
        self.blob_functions.insert(name.into(), function);
        self
    }

    /// Says that another service of the daemon is needed, in this version at least.
    #[must_use]
    pub fn depends_on(mut self, service: impl Into<String>, version: impl Into<String>) -> Self {
        self.dependencies.services.insert(service.into(), version.into());
        self
    }
}

impl FunctionManifest {
    /// A function that does this.
    pub fn new(description: impl Into<String>) -> Self {
        Self { description: description.into(), ..Self::default() }
    }

    /// With an argument of this [shape](Shape).
    #[must_use]
    pub fn call(mut self, shape: Value) -> Self {
        self.call = Some(shape);
        self
    }

    /// With a result of this shape.
    #[must_use]
    pub fn returns(mut self, shape: Value) -> Self {
        self.returns = Some(shape);
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ORIGINAL: &str = r#"{
        "name": "NoTalk", "version": "0.1.0", "displayname": "NoTalk", "description": "chat", "language": "javascript",
        "git_url": null, "dependencies": {"node_packages": {"ws": "7"}, "services": {"NoUser": "0.5.0"}},
        "servicefunctions": {
            "createCh": {"displayname": "create", "description": "Create channel", "secure": false,
                         "protocol": {"call": {"n": "the name"}, "return": {"i": "the id"}}}
        }
    }"#;

    #[test]
    fn manifest_of_an_original_service_is_read() {
        let manifest = Manifest::from_json(ORIGINAL).unwrap();
        assert_eq!((&*manifest.name, &*manifest.version), ("NoTalk", "0.1.0"));
        assert_eq!(manifest.dependencies.services["NoUser"], "0.5.0");
        let function = &manifest.functions["createCh"];
        assert_eq!(function.description, "Create channel");
        assert_eq!(function.call, Some(json!({"n": "the name"})));
        assert!(manifest.blob_functions.is_empty());
    }

    #[test]
    fn manifest_that_is_written_is_read_as_the_same() {
        let manifest = Manifest::new("Chat")
            .version("1.0.0")
            .depends_on("Users", "1.0.0")
            .function("Hello", FunctionManifest::new("says hello").call(json!({"d": "string"})))
            .blob_function("Avatar", FunctionManifest::new("a picture").returns(json!("any")));
        let text = serde_json::to_string(&manifest).unwrap();
        assert_eq!(Manifest::from_json(&text).unwrap(), manifest);
        assert!(text.contains(r#""protocol":{"call":{"d":"string"}}"#), "{text}");
    }

    #[test]
    fn manifest_that_is_too_large_is_not_read() {
        let largest = ORIGINAL.to_owned() + &" ".repeat(Manifest::MAX_LEN - ORIGINAL.len());
        assert_eq!(Manifest::from_json(&largest).unwrap().name, "NoTalk");
        let error = Manifest::from_json(&format!("{largest} ")).unwrap_err();
        assert_eq!(error.to_string(), "not a manifest: it has more than 1048576 bytes");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.json");
        std::fs::write(&path, &largest).unwrap();
        assert_eq!(Manifest::from_file(&path).unwrap().name, "NoTalk");
        // A file without an end: what is read of it has one.
        let error = Manifest::from_file("/dev/zero").unwrap_err();
        assert!(matches!(error, ManifestError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn what_is_no_manifest_says_why() {
        let error = Manifest::from_json(r#"{"servicefunctions": []}"#).unwrap_err();
        assert!(error.to_string().starts_with("not a manifest: invalid type: sequence"), "{error}");
        assert!(Manifest::from_file("/no/such/manifest.json").unwrap_err().to_string().contains("/no/such"));
    }
}
