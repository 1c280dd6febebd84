//! The seeds of the fuzz targets: what is kept, whatever toolchain runs it, and what it was made of.
#![allow(dead_code, unreachable_pub, reason = "each test file includes this and uses what it needs")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "names the seed when one fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Seeds of one target, by file name.
pub type Seeds = BTreeMap<String, Vec<u8>>;

/// Makes the seeds anew instead of comparing them, when this variable is set.
const WRITE: &str = "NOSSOCK_WRITE_SEEDS";

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target)
}

/// What is in the folder of a target.
fn kept(target: &str) -> Seeds {
    let folder = folder(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files
        .map(|file| {
            let file = file.unwrap();
            (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())
        })
        .collect()
}

/// Runs each target with all of its seeds.
pub fn pass(targets: &[(&str, fn(&[u8]))]) {
    for (target, run) in targets {
        let kept = kept(target);
        assert!(kept.len() >= 5, "`{target}` has {} seeds", kept.len());
        for (name, bytes) in kept {
            println!("{target}/{name}");
            run(&bytes);
        }
    }
}

/// Sees that what is made of recordings is kept as it was made.
pub fn are_kept(made: impl IntoIterator<Item = (&'static str, Seeds)>) {
    let write = std::env::var_os(WRITE).is_some();
    for (target, made) in made {
        if write {
            fs::create_dir_all(folder(target)).unwrap();
            for (name, bytes) in &made {
                fs::write(folder(target).join(name), bytes).unwrap();
            }
        }
        let kept = kept(target);
        for (name, bytes) in made {
            assert!(
                kept.get(&name) == Some(&bytes),
                "{target}/{name} is not what the recordings give: run with {WRITE}=1"
            );
        }
    }
}
