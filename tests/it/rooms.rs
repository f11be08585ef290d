//! Imports go down only: between rooms (the entries of `src/`), and between the files of one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Every room, from the top down: each may name only those after it.
const ROOMS: [&str; 15] = [
    "service",
    "request",
    "response",
    "cache",
    "flight",
    "purge",
    "config",
    "store",
    "recording",
    "entry",
    "key",
    "semantics",
    "status",
    "error",
    "base",
];

#[test]
fn every_room_has_its_place_in_the_order() {
    let sources = sources();
    let rooms: BTreeSet<&str> = sources
        .keys()
        .filter_map(|module| module.first())
        .map(String::as_str)
        .collect();
    assert_eq!(rooms, ROOMS.into());
}

#[test]
fn no_room_names_one_above_it() {
    assert_eq!(upward(&sources()), [""; 0]);
}

#[test]
fn an_import_that_is_turned_round_is_found_however_it_is_written() {
    let table = [
        ("semantics/reuse", "use crate::entry::Entry;", true),
        ("semantics/reuse", "use super::super::entry::Entry;", true),
        ("semantics/reuse", "fn f(_: &crate::entry::Entry) {}", true),
        ("semantics/reuse", "use crate::{base, entry::Entry};", true),
        ("store", "use crate::flight::Flights;", true),
        ("store", "use super::flight::Flights;", true),
        ("store", "fn f() { super::flight::f() }", true),
        ("request/settings", "use crate::service::CacheLayer;", true),
        (
            "request/settings",
            "use super::super::service::{self};",
            true,
        ),
        (
            "request/settings",
            "type T = crate::service::CacheLayer;",
            true,
        ),
        ("request/settings", "use crate::CacheLayer;", true),
        ("request/settings", "// crate::service is above\n", false),
        (
            "request/settings",
            "const A: &str = \"crate::service\";",
            false,
        ),
        ("request/settings", "use super::fetch::Fetch;", false),
        (
            "request/settings",
            "use crate::{cache::Cache, config::Policy};",
            false,
        ),
    ];
    for (module, source, expected) in table {
        let module = module.split('/').map(str::to_owned).collect();
        let found = upward(&BTreeMap::from([(module, code(source))]));
        assert_eq!(!found.is_empty(), expected, "{source}: {found:?}");
    }
}

#[test]
fn no_files_name_each_other() {
    assert_eq!(circles(&sources()), Vec::<Vec<String>>::new());
}

/// What each file names of rooms above its own.
fn upward(sources: &Sources) -> Vec<String> {
    let place = |room: &str| ROOMS.iter().position(|one| *one == room);
    let mut found = Vec::new();
    for (module, source) in sources {
        let own = module.first().and_then(|room| place(room));
        for path in paths(module, source) {
            let named = path.first().map_or("", String::as_str);
            if place(named).is_none_or(|named| own.is_none_or(|own| named < own)) {
                found.push(format!("{} names {}", module.join("/"), path.join("::")));
            }
        }
    }
    found
}

/// The groups of files of which each names, directly or by way of others, all the rest.
fn circles(sources: &Sources) -> Vec<Vec<String>> {
    let names: BTreeMap<&Module, BTreeSet<Module>> = sources
        .iter()
        .map(|(module, source)| {
            let named = paths(module, source).into_iter();
            let files = named.filter_map(|path| defining_file(sources, path));
            (module, files.filter(|file| file != module).collect())
        })
        .collect();
    let reachable = |from: &Module| {
        let mut seen = BTreeSet::new();
        let mut left = vec![from.clone()];
        while let Some(next) = left.pop() {
            for file in &names[&next] {
                if seen.insert(file.clone()) {
                    left.push(file.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&Module, BTreeSet<Module>> = names
        .keys()
        .map(|module| (*module, reachable(module)))
        .collect();
    let circle_of = |module: &Module| -> Vec<String> {
        let both =
            |other: &&Module| reached[module].contains(*other) && reached[*other].contains(module);
        reached
            .keys()
            .copied()
            .filter(both)
            .map(|it| it.join("/"))
            .collect()
    };
    let all: BTreeSet<Vec<String>> = names.keys().map(|module| circle_of(module)).collect();
    all.into_iter().filter(|circle| circle.len() > 1).collect()
}

/// The file that an item is defined in: that of the longest module, or of the module from which
/// that one re-exports it.
fn defining_file(sources: &Sources, mut path: Module) -> Option<Module> {
    for _ in 0..4 {
        let length = (1..=path.len())
            .rev()
            .find(|end| sources.contains_key(&path[..*end]))?;
        let module = path[..length].to_vec();
        let Some(item) = path.get(length) else {
            return Some(module);
        };
        let source = &sources[&module];
        let exported = exports(&module, source)
            .into_iter()
            .find(|export| export.last() == Some(item));
        match exported {
            Some(export) if export != path => path = export,
            _ => return Some(module),
        }
    }
    None
}

/// What a file hands on of others: its `pub use`.
fn exports(module: &[String], source: &str) -> Vec<Module> {
    let mut exports = Vec::new();
    for statement in source.split_inclusive(';') {
        let Some(at) = statement.rfind("use ") else {
            continue;
        };
        let (before, tree) = statement.split_at(at);
        let is_public =
            before.trim_end().ends_with("pub") || before.trim_end().ends_with("pub(crate)");
        if !is_public {
            continue;
        }
        for path in tree_paths(&tree["use ".len()..]) {
            exports.push(
                absolute(module, &path)
                    .unwrap_or_else(|| module.iter().chain(&path).cloned().collect()),
            );
        }
    }
    exports
}

/// The paths from the crate's root that a source names, in imports or in place. A `pub use` of
/// one's own children names nothing.
fn paths(module: &[String], source: &str) -> BTreeSet<Module> {
    let mut found = BTreeSet::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in source.match_indices(root) {
            let before = source[..at].chars().next_back();
            if before.is_some_and(|it| it.is_alphanumeric() || it == '_' || it == ':' || it == '$')
            {
                continue;
            }
            let ends = source[at..].find([';', ')', '<', '>', '\n', '=', '&']);
            let in_import = source[..at].trim_end().ends_with("use");
            let tree = match in_import {
                true => source[at..].split(';').next().unwrap_or_default(),
                false => &source[at..at + ends.unwrap_or(source.len() - at)],
            };
            found.extend(
                tree_paths(tree)
                    .iter()
                    .filter_map(|path| absolute(module, path)),
            );
        }
    }
    found.extend(imports_of_children(module, source));
    found
}

/// `use child::Item;`, which is relative to the file's own module.
fn imports_of_children(module: &[String], source: &str) -> Vec<Module> {
    let children: BTreeSet<&str> = source
        .lines()
        .filter_map(|line| {
            line.trim_start()
                .trim_start_matches("pub(crate) ")
                .strip_prefix("mod ")
        })
        .filter_map(|rest| rest.strip_suffix(';'))
        .collect();
    let mut found = Vec::new();
    for line in source.lines() {
        let Some(tree) = line.strip_prefix("use ") else {
            continue;
        };
        for path in tree_paths(tree) {
            if path
                .first()
                .is_some_and(|first| children.contains(first.as_str()))
            {
                found.push(module.iter().chain(&path).cloned().collect());
            }
        }
    }
    found
}

/// The paths of one `use` tree, groups taken apart.
fn tree_paths(tree: &str) -> Vec<Module> {
    let tree = tree.trim().trim_end_matches(';').trim();
    match tree.split_once("::{") {
        None => {
            let path = tree.split(" as ").next().unwrap_or_default();
            let parts = path.split("::").map(|part| {
                let is_name = |it: &char| it.is_alphanumeric() || *it == '_';
                part.trim().chars().take_while(is_name).collect::<String>()
            });
            vec![parts.filter(|part| !part.is_empty()).collect()]
        }
        Some((prefix, group)) => {
            let group = group.trim_end().trim_end_matches('}');
            let members = members(group).into_iter();
            let join = |member: &str| match member.trim() {
                "self" => prefix.to_owned(),
                member => format!("{prefix}::{member}"),
            };
            members
                .flat_map(|member| tree_paths(&join(member)))
                .collect()
        }
    }
}

/// The members of a group, by the commas that stand in no inner group.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&group[start..]);
    found.retain(|member| !member.trim().is_empty());
    found
}

/// A path from the crate's root, if it says where it begins.
fn absolute(module: &[String], path: &[String]) -> Option<Module> {
    let mut base = module.to_vec();
    let mut rest = path;
    match rest.first()?.as_str() {
        "crate" => {
            base.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        _ => return None,
    }
    base.extend(rest.iter().cloned());
    (base.len() > module.len() || base[..] != module[..base.len()]).then_some(base)
}

/// A module's path from the crate's root.
type Module = Vec<String>;

/// The code of each module, without comments, strings and tests.
type Sources = BTreeMap<Module, String>;

fn sources() -> Sources {
    let mut sources = Sources::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    read(&root, &[], &mut sources);
    sources.remove(&Module::from(["lib".to_owned()]));
    sources
}

fn read(folder: &Path, module: &[String], sources: &mut Sources) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        // Tests may name everything.
        let tests = [
            "tests",
            "golden",
            "model",
            "fixtures",
            "properties",
            "fuzzing",
        ];
        if tests.contains(&name.as_str()) {
            continue;
        }
        let mut own = module.to_vec();
        if name != "mod" {
            own.push(name);
        }
        if path.is_dir() {
            read(&path, &own, sources);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            sources.insert(own, code(&fs::read_to_string(&path).unwrap()));
        }
    }
}

fn code(source: &str) -> String {
    let source = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    let mut out = String::new();
    for line in source.lines() {
        let mut in_string = false;
        let mut last = ' ';
        for (at, letter) in line.char_indices() {
            if !in_string && line[at..].starts_with("//") {
                break;
            }
            if letter == '"' && last != '\\' && last != '\'' {
                in_string = !in_string;
            } else if !in_string {
                out.push(letter);
            }
            last = letter;
        }
        out.push('\n');
    }
    out
}
