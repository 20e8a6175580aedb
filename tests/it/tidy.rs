//! The rules of the house that a reader can check by eye, checked.

use crate::imports::{FileName, Source, circle_through, edges, is_door_plate, named_paths};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wing {
    Ground,
    Engine,
    Control,
    Roof,
}
use Wing::{Control, Engine, Ground, Roof};

/// Module, floor, wing: imports go strictly downwards, and never from one wing to the other.
const FLOORS: &[(&str, u8, Wing)] = &[
    ("base", 0, Ground),
    ("arch", 1, Ground),
    ("metrics", 1, Ground),
    ("config", 2, Ground),
    ("plan", 3, Ground),
    ("gpu", 3, Engine),
    ("rundir", 4, Ground),
    ("data", 5, Engine),
    ("model", 5, Engine),
    ("train", 6, Engine),
    ("generate", 6, Engine),
    ("judge", 6, Engine),
    ("eval", 7, Engine),
    ("select", 7, Engine),
    ("stage", 8, Engine),
    ("preflight", 8, Engine),
    ("queue", 5, Control),
    ("backend", 5, Control),
    ("figures", 5, Control),
    ("store", 6, Control),
    ("runner", 7, Control),
    ("live", 7, Control),
    ("report", 8, Control),
    ("serving", 9, Engine),
    ("serve", 9, Control),
    ("cli", 10, Roof),
];

/// Crate (as written in code), modules that may name it.
const DOORS: &[(&str, &[&str])] = &[
    (
        "candle_core",
        &["model", "train", "generate", "judge", "stage"],
    ),
    ("candle_nn", &["model", "judge"]),
    ("candle_transformers", &["judge"]),
    ("safetensors", &["model", "train"]),
    ("gemm", &[]),
    ("ureq", &["judge"]),
    ("tiny_http", &["serving"]),
    ("tokenizers", &["data"]),
    ("minijinja", &["data"]),
    ("parquet", &["data"]),
    ("aho_corasick", &["data"]),
    ("fancy_regex", &["data"]),
    ("toml", &["config"]),
    ("schemars", &["config"]),
    ("rusqlite", &["store"]),
    ("plotters", &["figures"]),
    ("resvg", &["figures"]),
    ("ttf_parser", &["figures"]),
    ("csv", &["base"]),
    ("cudarc", &["gpu"]),
    ("lions_emulation", &["gpu"]),
    ("lions_kernels", &["arch", "model"]),
    ("clap", &["cli"]),
    ("indicatif", &["cli"]),
    ("ratatui", &["cli"]),
    ("httparse", &["serve"]),
    ("terminal_size", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("serde_yaml_ng", &["cli"]),
    ("signal_hook", &["cli", "base"]),
    ("tracing_subscriber", &["cli"]),
    ("nix", &["rundir", "model", "stage", "backend"]),
    (
        "rayon",
        &["metrics", "data", "model", "eval", "select", "stage"],
    ),
];

fn files_below(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files_below(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

/// (module, path, text before the first in-file test module) of every source file below `src`.
fn sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files_below(&src, "rs", &mut paths);
    let in_modules = paths
        .into_iter()
        .filter(|path| path.parent() != Some(src.as_path()));
    in_modules
        .map(|path| {
            let relative = path.strip_prefix(&src).unwrap().to_path_buf();
            let module = relative
                .components()
                .next()
                .unwrap()
                .as_os_str()
                .to_string_lossy()
                .into_owned();
            let text = fs::read_to_string(&path).unwrap();
            (module, relative, without_tests(&text).to_owned())
        })
        .collect()
}

/// The text before the first test module that is written out.
fn without_tests(text: &str) -> &str {
    let mut tests = text.match_indices("#[cfg(test)]\nmod ");
    let written_out = |(at, head): &(usize, &str)| {
        let name = text[at + head.len()..].lines().next();
        name.is_some_and(|line| line.ends_with('{'))
    };
    tests.find(written_out).map_or(text, |(at, _)| &text[..at])
}

/// The identifiers that follow `prefix` in code lines.
fn names_after<'a>(code: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(move |line| {
        line.match_indices(prefix).map(move |(at, _)| {
            let rest = &line[at + prefix.len()..];
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            &rest[..end]
        })
    })
}

#[test]
fn modules_only_import_downwards() {
    let floors: BTreeMap<&str, (u8, Wing)> = FLOORS
        .iter()
        .map(|(name, floor, wing)| (*name, (*floor, *wing)))
        .collect();
    let mut faults = Vec::new();
    // The kernels are a crate of their own: what they call `crate` is themselves.
    let in_lions = |path: &Path| !path.starts_with("model/kernels");
    for (module, path, code) in sources().into_iter().filter(|(_, path, _)| in_lions(path)) {
        let (floor, wing) = floors[module.as_str()];
        for name in names_after(&code, "crate::").filter(|name| *name != module) {
            let Some((below, its_wing)) = floors.get(name) else {
                faults.push(format!(
                    "{}: `crate::{name}` is no module of the floor plan",
                    path.display()
                ));
                continue;
            };
            let same_wing = wing == Roof || *its_wing == Ground || *its_wing == wing;
            if *below >= floor || !same_wing {
                faults.push(format!(
                    "{}: `{module}` may not import `{name}`",
                    path.display()
                ));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "imports against the floors:\n{}",
        faults.join("\n")
    );
}

/// The source files of every module, by their module path.
fn files_by_module() -> BTreeMap<String, BTreeMap<FileName, Source>> {
    let mut modules: BTreeMap<String, BTreeMap<FileName, Source>> = BTreeMap::new();
    for (module, path, code) in sources() {
        let file = path.with_extension("");
        let mut name: FileName = file
            .iter()
            .map(|p| p.to_string_lossy().into_owned())
            .collect();
        name.pop_if(|last| last == "mod");
        let is_door = path.ends_with("mod.rs") && is_door_plate(&code);
        modules
            .entry(module)
            .or_default()
            .insert(name, Source { code, is_door });
    }
    modules
}

#[test]
fn no_files_of_a_module_go_round_in_a_circle() {
    let mut faults = Vec::new();
    for files in files_by_module().values() {
        let edges = edges(files);
        let mut seen: BTreeSet<FileName> = BTreeSet::new();
        for file in files.keys() {
            let Some(circle) = circle_through(file, &edges) else {
                continue;
            };
            let names: Vec<String> = circle.iter().map(|file| file.join("/")).collect();
            if !seen.contains(file) {
                faults.push(names.join(" → "));
            }
            seen.extend(circle);
        }
    }
    assert!(
        faults.is_empty(),
        "files that use each other in a circle:\n{}",
        faults.join("\n")
    );
}

#[test]
fn a_door_holds_its_plate_and_nothing_else() {
    let is_door = |path: &PathBuf| path.ends_with("mod.rs");
    let filled: Vec<String> = sources()
        .into_iter()
        .filter(|(_, path, code)| is_door(path) && !is_door_plate(code))
        .map(|(_, path, _)| path.display().to_string())
        .collect();
    assert!(
        filled.is_empty(),
        "a `mod.rs` holds the module's doc, `mod`, `use` and re-exports; not so: {filled:?}"
    );
}

#[test]
fn only_backends_start_processes() {
    let starts = |path: &Vec<String>| path.join("::").starts_with("std::process::Command");
    let faults: Vec<String> = sources()
        .into_iter()
        .filter(|(module, ..)| module != "backend")
        .filter(|(_, _, code)| {
            code.contains("process::Command") || named_paths(code).iter().any(starts)
        })
        .map(|(_, path, _)| path.display().to_string())
        .collect();
    assert!(
        faults.is_empty(),
        "child processes beside `backend`: {faults:?}"
    );
}

#[test]
fn each_heavy_crate_has_its_doors() {
    let mut faults = Vec::new();
    let of_product = |(_, path, _): &(String, PathBuf, String)| !is_test_file(path);
    for (module, path, code) in sources().into_iter().filter(of_product) {
        for (name, doors) in DOORS
            .iter()
            .filter(|(_, doors)| !doors.contains(&module.as_str()))
        {
            let uses = code.lines().any(|line| {
                let line = line.trim_start();
                !line.starts_with("//")
                    && (line.contains(&format!(" {name}::"))
                        || line.contains(&format!("({name}::")))
            });
            if uses {
                faults.push(format!("{}: `{name}` belongs to {doors:?}", path.display()));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "crates used beside their doors:\n{}",
        faults.join("\n")
    );
}

#[test]
fn every_source_file_says_what_it_is() {
    let bare = sources()
        .into_iter()
        .filter(|(_, _, code)| !code.starts_with("//!"));
    let bare: Vec<_> = bare
        .map(|(_, path, _)| path.display().to_string())
        .collect();
    assert!(bare.is_empty(), "files without a module doc: {bare:?}");
}

#[test]
fn no_integration_test_file_is_forgotten() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let main = fs::read_to_string(dir.join("main.rs")).unwrap();
    let mut files = Vec::new();
    files_below(&dir, "rs", &mut files);
    for path in files.iter().filter(|path| path.parent() == Some(&dir)) {
        let stem = path.file_stem().unwrap().to_string_lossy();
        assert!(
            stem == "main" || main.contains(&format!("mod {stem};")),
            "tests/it/{stem}.rs is not in main.rs"
        );
    }
}

// What is opened but not listed in `base::ModelFile` would change results and no identity.
#[test]
fn files_of_a_model_folder_are_named_in_one_place() {
    let readers = [
        "arch", "data", "eval", "generate", "judge", "model", "select", "stage", "train",
    ];
    let names = [
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "tokenizer.model",
        "generation_config.json",
        "chat_template.jinja",
        "chat_template.json",
    ];
    let mut faults = Vec::new();
    for (module, path, code) in sources() {
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        if !readers.contains(&module.as_str()) || is_test_file(&path) {
            continue;
        }
        for name in names {
            if code.contains(&format!("join(\"{name}\")")) {
                faults.push(format!("{} opens `{name}`", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "use `ModelFile`:\n{}", faults.join("\n"));
}

fn is_test_file(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem == "tests" || stem.ends_with("_tests")
}

// Pointers and instruction sets are the kernels' business, addresses on a device those of `gpu`; the allocator's settings
// are a C function.
#[test]
fn only_kernels_are_unsafe() {
    let outside = |path: &Path| {
        let inside = ["model/kernels", "model/allocator.rs", "gpu"];
        !inside.iter().any(|place| path.starts_with(place))
    };
    let unsafe_code = |line: &str| {
        let code = line.trim_start();
        !code.starts_with("//")
            && code
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| word == "unsafe")
    };
    let files = sources().into_iter().filter(|(_, path, _)| outside(path));
    let faults: Vec<_> = files
        .filter(|(_, _, code)| code.lines().any(unsafe_code))
        .map(|(_, path, _)| path.display().to_string())
        .collect();
    assert!(
        faults.is_empty(),
        "unsafe code outside the kernels: {faults:?}"
    );
}
