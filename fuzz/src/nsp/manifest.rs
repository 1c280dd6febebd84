//! A `manifest.json`, and values held against the shapes in it.
//!
//! ```text
//! data = manifest [0 value]…
//! ```

use nsp::daemon::Manifest;
use nsp::daemon::manifest::Shape;
use nsp::proto::RawJson;

pub fn run(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == 0);
    let Some(Ok(text)) = parts.next().map(std::str::from_utf8) else { return };
    let manifest = match Manifest::from_json(text) {
        Ok(manifest) => manifest,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let written = serde_json::to_string(&manifest).unwrap();
    let read = Manifest::from_json(&written).unwrap();
    // Numbers in shapes are only ever numbers, and lose digits.
    assert_eq!(
        (&read.name, &read.version, shapes(&read)),
        (&manifest.name, &manifest.version, shapes(&manifest))
    );
    let values: Vec<RawJson> = parts.filter_map(|part| RawJson::new(part.to_vec()).ok()).collect();
    for shape in shapes(&manifest).into_iter().flatten() {
        for value in &values {
            let first = shape.check(value);
            assert_eq!(shape.check(value), first, "a shape is the same each time");
        }
    }
}

fn shapes(manifest: &Manifest) -> Vec<Option<Shape>> {
    let functions = manifest.functions.values().chain(manifest.blob_functions.values());
    functions
        .flat_map(|function| {
            [&function.call, &function.returns].map(|written| written.as_ref().map(Shape::of))
        })
        .collect()
}
