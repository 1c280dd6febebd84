//! What is sent: an argument, a file, or standard input.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use nossock::wire::Body;

use nsp_cli::exit::Failure;

/// The body of a message.
#[derive(Debug, Args)]
pub(crate) struct BodyOptions {
    /// The body: JSON, @FILE, or - for standard input. Nothing means null.
    #[arg(allow_negative_numbers = true)]
    pub(crate) body: Option<String>,

    /// Send the bytes as they are, not as JSON.
    #[arg(long, conflicts_with = "text")]
    pub(crate) raw: bool,

    /// The body is text: send it as a JSON string.
    #[arg(long)]
    pub(crate) text: bool,
}

/// Where a body comes from.
#[derive(Debug)]
pub(crate) enum Source {
    Argument(Vec<u8>),
    File(PathBuf),
    Input,
}

impl BodyOptions {
    pub(crate) fn source(&self) -> Source {
        match self.body.as_deref() {
            None => Source::Argument(if self.raw { Vec::new() } else { b"null".to_vec() }),
            Some("-") => Source::Input,
            Some(text) => match text.strip_prefix('@') {
                Some(path) => Source::File(path.into()),
                None => Source::Argument(text.as_bytes().to_vec()),
            },
        }
    }

    /// All of it, at most `limit` bytes.
    pub(crate) fn read(&self, limit: u32) -> Result<Body, Failure> {
        let most = u64::from(limit) + 1;
        let mut bytes = Vec::new();
        match self.source() {
            Source::Argument(argument) => bytes = argument,
            Source::File(path) => {
                let file = std::fs::File::open(&path).map_err(|error| Failure::file(&path, &error))?;
                file.take(most).read_to_end(&mut bytes).map_err(|error| Failure::file(&path, &error))?;
            }
            Source::Input => {
                let read = std::io::stdin().lock().take(most).read_to_end(&mut bytes);
                read.map_err(|error| Failure::Other(format!("standard input: {error}")))?;
            }
        }
        if bytes.len() as u64 >= most {
            return Err(Failure::Protocol(format!(
                "the body has more than {limit} bytes; raise --max-body on both sides, or send a file with --raw @FILE"
            )));
        }
        if self.raw {
            return Ok(Body::Raw(bytes.into()));
        }
        if self.text {
            let text =
                String::from_utf8(bytes).map_err(|_| Failure::Usage("the text is not UTF-8".into()))?;
            return Ok(Body::Json(serde_json::Value::from(text).to_string().into()));
        }
        match serde_json::from_slice::<&serde_json::value::RawValue>(&bytes) {
            Ok(_) => Ok(Body::Json(bytes.into())),
            Err(error) => Err(Failure::Usage(format!(
                "the body is not JSON: {error}; for text write --text, for bytes --raw"
            ))),
        }
    }
}
