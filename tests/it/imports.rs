//! Which files of a module use which, read from the text of their imports.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A file by its module path: `["cli", "commands", "run"]`; a `mod.rs` by that of its folder.
pub(crate) type FileName = Vec<String>;

/// The paths that a file names: those of its `use` items, groups spread out, and those that begin
/// with `crate` or `super` anywhere in the code.
pub(crate) fn named_paths(code: &str) -> Vec<Vec<String>> {
    let code = without_comments(code);
    let mut paths = Vec::new();
    for statement in code.split(';') {
        if let Some(tree) = use_tree(statement) {
            spread(&[], tree, &mut paths);
        }
    }
    for root in ["crate", "super"] {
        for (at, _) in code.match_indices(&format!("{root}::")) {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|c| !is_name(c) && c != ':') {
                let end = code[at..].find(|c: char| !is_name(c) && c != ':');
                let path = &code[at..end.map_or(code.len(), |end| at + end)];
                paths.push(parts(path.trim_end_matches(':')));
            }
        }
    }
    paths
}

/// Whether a `mod.rs` holds nothing but its doc, `mod` items, imports and re-exports.
pub(crate) fn is_door_plate(code: &str) -> bool {
    let code = without_comments(code);
    let items = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("#["));
    let items = items.collect::<Vec<_>>().join("\n");
    items.split(';').all(|item| {
        let item = item.trim();
        item.is_empty() || use_tree(item).is_some() || item.contains("mod ") && !item.contains('{')
    })
}

/// Who uses whom among the files of one module. Doors are passed through: a name that a `mod.rs`
/// re-exports belongs to the file that it comes from.
pub(crate) fn edges(files: &BTreeMap<FileName, Source>) -> BTreeMap<FileName, BTreeSet<FileName>> {
    let mut edges = BTreeMap::new();
    for (name, source) in files.iter().filter(|(_, source)| !source.is_door) {
        let used: BTreeSet<FileName> = named_paths(&source.code)
            .iter()
            .filter_map(|path| absolute(path, name))
            .filter_map(|path| file_of(files, &path, 0))
            .filter(|used| used != name && !files[used].is_door)
            .collect();
        edges.insert(name.clone(), used);
    }
    edges
}

/// The shortest way from a file back to itself.
pub(crate) fn circle_through(
    file: &FileName,
    edges: &BTreeMap<FileName, BTreeSet<FileName>>,
) -> Option<Vec<FileName>> {
    let mut came_from: BTreeMap<&FileName, &FileName> = BTreeMap::new();
    let mut next = VecDeque::from([file]);
    while let Some(at) = next.pop_front() {
        for used in edges.get(at).into_iter().flatten() {
            if used == file {
                let mut way = vec![file.clone(), at.clone()];
                let mut at = at;
                while at != file {
                    at = came_from[at];
                    way.push(at.clone());
                }
                way.dedup();
                way.reverse();
                return Some(way);
            }
            if !came_from.contains_key(used) {
                came_from.insert(used, at);
                next.push_back(used);
            }
        }
    }
    None
}

/// A source file without its tests.
pub(crate) struct Source {
    pub(crate) code: String,
    /// A `mod.rs` that holds nothing of its own.
    pub(crate) is_door: bool,
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn without_comments(code: &str) -> String {
    let lines = code.lines();
    let lines = lines.map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// What stands behind `use` in a statement that is an import.
fn use_tree(statement: &str) -> Option<&str> {
    let at = statement.rfind("use ")?;
    let tree = statement[at + 4..].trim();
    let before = statement[..at].trim_end();
    let begins =
        before.is_empty() || before.ends_with([']', ')', '}', '{']) || before.ends_with("pub");
    let of_names = |c: char| is_name(c) || c.is_whitespace() || ":{},*".contains(c);
    (begins && tree.chars().all(of_names)).then_some(tree)
}

fn parts(path: &str) -> Vec<String> {
    path.split("::")
        .map(|part| part.trim().to_owned())
        .collect()
}

/// Every path of a `use` tree.
fn spread(before: &[String], tree: &str, paths: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or_default();
        paths.push([before, &parts(name)].concat());
        return;
    };
    let head = head.trim_end().trim_end_matches("::");
    let before = if head.is_empty() {
        before.to_vec()
    } else {
        [before, &parts(head)].concat()
    };
    let group = group.strip_suffix('}').unwrap_or(group);
    let (mut depth, mut from) = (0, 0);
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !group[from..at].trim().is_empty() {
                    spread(&before, &group[from..at], paths);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// A path as seen from the crate's root; `None` for other crates.
fn absolute(path: &[String], in_file: &[String]) -> Option<Vec<String>> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "super" => {
            let above = &in_file[..in_file.len().checked_sub(ups)?];
            Some([above, &path[ups..]].concat())
        }
        "self" => Some([in_file, &path[1..]].concat()),
        _ => None,
    }
}

/// The file that an absolute path leads into.
fn file_of(files: &BTreeMap<FileName, Source>, path: &[String], hops: usize) -> Option<FileName> {
    let longest = (1..=path.len())
        .rev()
        .find(|n| files.contains_key(&path[..*n]))?;
    let (door, rest) = path.split_at(longest);
    let source = &files[door];
    if let (true, Some(name), true) = (source.is_door, rest.first(), hops < 8) {
        for exported in named_paths(&source.code) {
            if exported.last() == Some(name) {
                // Paths of a door that begin with neither `crate` nor `super` are its own files'.
                let full = absolute(&exported, door).unwrap_or([door, &exported].concat());
                let full = [full, rest[1..].to_vec()].concat();
                return file_of(files, &full, hops + 1);
            }
        }
    }
    Some(door.to_vec())
}

#[test]
fn imports_are_spread_out_and_paths_in_code_are_found() {
    let code = "use crate::a::{b::{C, D as E}, f};\n// use crate::no;\nlet x = super::g::h(1);\n";
    let found: Vec<String> = named_paths(code)
        .iter()
        .map(|path| path.join("::"))
        .collect();
    for want in [
        "crate::a::b::C",
        "crate::a::b::D",
        "crate::a::f",
        "super::g::h",
    ] {
        assert!(found.iter().any(|path| path == want), "{want} in {found:?}");
    }
    assert!(!found.iter().any(|path| path.contains("no")), "{found:?}");
}

#[test]
fn a_circle_is_found_through_the_door_and_named_by_its_way() {
    let source = |code: &str, is_door| Source {
        code: code.to_owned(),
        is_door,
    };
    let name = |path: &str| parts(path);
    let files = BTreeMap::from([
        (name("m"), source("mod a;\nmod b;\npub use b::B;", true)),
        (name("m::a"), source("use crate::m::B;", false)),
        (name("m::b"), source("use super::c::C;", false)),
        (name("m::c"), source("fn c() { crate::m::a::A }", false)),
        (name("m::d"), source("use crate::m::a::A;", false)),
    ]);
    let edges = edges(&files);
    let circle = circle_through(&name("m::a"), &edges).unwrap();
    let circle: Vec<String> = circle.iter().map(|file| file.join("/")).collect();
    assert_eq!(circle, ["m/a", "m/b", "m/c", "m/a"]);
    assert_eq!(circle_through(&name("m::d"), &edges), None);
}

#[test]
fn a_door_plate_is_told_from_a_file_with_code() {
    let plate =
        "//! What.\n\n#[cfg(test)]\nmod tests;\npub(crate) mod a;\n\npub use a::{\n    A, B,\n};\n";
    assert!(is_door_plate(plate));
    assert!(!is_door_plate("//! What.\nmod a;\npub struct S;\n"));
    assert!(!is_door_plate("//! What.\nmod a;\nfn f() {}\n"));
}
