//! `nsp services`

use nsp::client::Activity;
use nsp::daemon::{DISCOVERY, FunctionManifest, Manifest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use nsp_cli::exit::Failure;
use nsp_cli::output::{self, printable};

use super::reach::{Reach, Stay, no_service};

/// Show the services of a daemon, or what one of them offers, with an example call for each function.
///
/// It needs a daemon that can be asked: the original cannot.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  nsp services
  nsp services Chat")]
pub(crate) struct Args {
    /// The service to describe.
    name: Option<String>,

    /// One JSON object a line.
    #[arg(long, env = "NSP_JSON")]
    json: bool,

    #[command(flatten)]
    reach: Reach,
}

/// A service, as the daemon lists it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    description: String,
}

/// The services of a daemon.
pub(crate) async fn list(discovery: &Activity) -> Result<Vec<Listed>, Failure> {
    #[derive(Deserialize)]
    struct Listing {
        services: Vec<Listed>,
    }
    Ok(discovery.call::<Listing>("list", &Value::Null).await?.services)
}

/// What a service offers.
pub(crate) async fn describe(discovery: &Activity, service: &str) -> Result<Manifest, Failure> {
    let described = discovery.call("describe", &json!({ "service": service })).await;
    described.map_err(|error| match Failure::from(error) {
        Failure::NoHandler(_) => no_service(service),
        failure => failure,
    })
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let session = args.reach.connect(Stay::Once).await?;
    let discovery = session.open(DISCOVERY).await.map_err(|failure| match failure {
        Failure::NoHandler(_) => Failure::NoHandler(
            "this daemon does not say which services it has: it is an original one, or has this turned off"
                .to_owned(),
        ),
        failure => failure,
    })?;
    match &args.name {
        None => {
            let services = list(&discovery).await?;
            if args.json {
                services.iter().try_for_each(output::json)?;
            } else {
                show_list(&services)?;
            }
        }
        Some(name) => {
            let manifest = describe(&discovery, name).await?;
            if args.json {
                output::json(&manifest)?;
            } else {
                show(&manifest)?;
            }
        }
    }
    session.close().await;
    Ok(())
}

/// One line for each, with what it says of itself.
pub(crate) fn show_list(services: &[Listed]) -> Result<(), Failure> {
    let width = services.iter().map(|service| service.name.chars().count()).max().unwrap_or_default();
    services.iter().try_for_each(|service| {
        let (name, text) = (printable(&service.name), printable(&service.description));
        output::line(format!("{name:width$}  {text}").trim_end())
    })
}

pub(crate) fn show(manifest: &Manifest) -> Result<(), Failure> {
    let name = printable(&manifest.name);
    output::line(format!("{name} {}", printable(&manifest.version)).trim_end())?;
    if !manifest.description.is_empty() {
        output::line(&printable(&manifest.description))?;
    }
    for (function, about) in &manifest.functions {
        entry(&name, function, about, "")?;
    }
    for (function, about) in &manifest.blob_functions {
        entry(&name, function, about, " --blob FILE")?;
    }
    Ok(())
}

fn entry(service: &str, function: &str, about: &FunctionManifest, flags: &str) -> Result<(), Failure> {
    let function = printable(function);
    let secure = if about.secure { " (superusers only)" } else { "" };
    let mut text = format!("\n{function}{secure}");
    if !about.description.is_empty() {
        text.push_str(&format!("\n  {}", printable(&about.description)));
    }
    if let Some(returns) = &about.returns {
        text.push_str(&format!("\n  gives {}", printable(&returns.to_string())));
    }
    let example = match example(about) {
        Some(example) => format!(" '{}'", printable(&example.to_string()).replace('\'', "'\\''")),
        None => String::new(),
    };
    text.push_str(&format!("\n  nsp call {service} {function}{example}{flags}"));
    output::line(&text)
}

/// An argument to fill in, made of what the manifest says about it.
pub(crate) fn example(about: &FunctionManifest) -> Option<Value> {
    about.call.as_ref().filter(|shape| !shape.is_null()).map(filled)
}

fn filled(shape: &Value) -> Value {
    match shape {
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, shape)| (name.clone(), filled(shape))).collect())
        }
        Value::Array(shapes) => Value::Array(shapes.iter().map(filled).collect()),
        Value::String(text) => {
            let is_optional = text.ends_with('?');
            match text.trim_end_matches('?').split('|').next().unwrap_or_default() {
                _ if is_optional => Value::Null,
                "string" => json!("…"),
                "number" | "integer" => json!(1),
                "boolean" => json!(true),
                "object" => json!({}),
                "array" => json!([]),
                "null" => Value::Null,
                // What the original writes there is a description.
                _ => json!(text),
            }
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_is_of_the_shape_that_the_manifest_says() {
        let about = FunctionManifest::new("").call(json!({
            "name": "string", "age": "integer?", "tags": ["string|null"], "on": "boolean", "n": "the number"
        }));
        assert_eq!(
            example(&about).unwrap(),
            json!({"name": "…", "age": null, "tags": ["…"], "on": true, "n": "the number"})
        );
        assert_eq!(example(&FunctionManifest::new("")), None);
    }
}
