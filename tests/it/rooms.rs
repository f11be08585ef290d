//! Imports go down only.

use std::fs;
use std::path::{Path, PathBuf};

/// What each room may name of the crate, besides itself.
const ROOMS: [(&str, &[&str]); 13] = [
    ("clock.rs", &[]),
    ("position.rs", &[]),
    ("random.rs", &[]),
    ("framed.rs", &[]),
    ("lines.rs", &["framed"]),
    ("numbers.rs", &[]),
    ("tags.rs", &["framed"]),
    ("policy", &["clock", "lines", "tags"]),
    ("key", &["policy"]),
    (
        "entry",
        &[
            "clock", "framed", "key", "lines", "numbers", "policy", "position", "status", "tags",
        ],
    ),
    (
        "store",
        &[
            "clock", "entry", "error", "key", "lines", "policy", "position", "random", "sync",
            "tags", "task",
        ],
    ),
    (
        "purge",
        &[
            "clock", "entry", "error", "key", "position", "store", "sync", "tags", "task",
        ],
    ),
    ("recording.rs", &["sync", "waiters"]),
];

#[test]
fn no_room_names_one_above_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (room, allowed) in ROOMS {
        let own = room.trim_end_matches(".rs");
        for file in files(&source.join(room)) {
            for line in fs::read_to_string(&file).unwrap().lines() {
                let Some(named) = line.trim_start().split_once("use crate::") else {
                    continue;
                };
                let named: String = named
                    .1
                    .chars()
                    .take_while(|letter| letter.is_ascii_lowercase() || *letter == '_')
                    .collect();
                let fine = named.is_empty() || named == own || allowed.contains(&&*named);
                assert!(fine, "{}: {line}", file.display());
            }
        }
    }
}

fn files(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        let is_code = place.extension().is_some_and(|ending| ending == "rs");
        return is_code.then(|| place.to_owned()).into_iter().collect();
    }
    let entries = fs::read_dir(place).unwrap();
    entries
        .flat_map(|entry| files(&entry.unwrap().path()))
        .collect()
}
