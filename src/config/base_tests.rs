//! The same study on another base: what changes, what a mistake says and where.

use super::base_file::name_on_base;
use super::spec::Duration;
use super::sweep::Sweep;
use super::tests::{BASE, Mistake, STUDY, assert_caught, project};
use super::*;
use std::path::Path;

const PRESETS: &str = r#"
[presets]
pairs = [10, 20]
duration = { steps = 7 }

[inputs."data/pairs.jsonl"]
from = "data set a/b, split train"
rows = 1_000
tokens-per-row = 50
"#;

/// The study in terms of the base's presets.
fn study() -> String {
    let axis = "[[axis]]\nname = \"pairs\"\npath = \"dpo.recipe.max-examples\"\n\
        values = { preset = \"pairs\" }\nwhen = { stage = \"dpo\" }\n\n[[exclude]]";
    STUDY
        .replace("base.toml", "base/small.toml")
        .replacen("[[exclude]]", axis, 1)
        .replace(
            "baseline = { beta = 0.1,",
            "baseline = { pairs = { preset = \"pairs.1\" }, beta = 0.1,",
        )
}

fn small() -> String {
    format!("{BASE}{PRESETS}")
}

fn big() -> String {
    small()
        .replace("max-seq-len = 64\nbatching", "max-seq-len = 128\nbatching")
        .replace("pairs = [10, 20]", "pairs = [1_000, 2_000, 3_000]")
}

/// Loads `study.toml` on `base`.
fn load_on(base: &str, files: &[(&str, &str)]) -> Result<Sweep, ConfigError> {
    let dir = project(files);
    let path = dir.path().join("study.toml");
    let base = Some(Path::new(base));
    load_placed_sweep(
        &Overrides::on(base.map(Path::to_owned)),
        &path,
        dir.path(),
        Inputs::Required,
    )
    .map(|(sweep, _)| sweep)
}

fn first_finding(base: &str, files: &[(&str, &str)]) -> String {
    let error = load_on(base, files).unwrap_err();
    error.findings()[0].to_string()
}

#[test]
fn a_study_on_another_base_has_its_values_and_a_name_of_its_own() {
    let (small, big, study) = (small(), big(), study());
    let files = [
        ("base/small.toml", small.as_str()),
        ("base/big-1.5b.toml", big.as_str()),
        ("study.toml", study.as_str()),
    ];
    let dir = project(&files);
    let own = load_sweep(&dir.path().join("study.toml"), dir.path());
    let own = own.unwrap_or_else(|error| panic!("{}", error.render(false)));
    let other = load_on("base/big-1.5b.toml", &files);
    let other = other.unwrap_or_else(|error| panic!("{}", error.render(false)));
    assert_eq!(
        (own.name.as_str(), other.name.as_str()),
        ("study", "study@big-1.5b")
    );
    assert_eq!(
        other.name,
        name_on_base("study", Path::new("sweeps/base/big-1.5b.toml"))
    );
    assert_eq!((own.trials.len(), other.trials.len()), (14, 20));
    let length = |sweep: &Sweep| {
        sweep.trials[0]
            .config
            .sft
            .as_ref()
            .unwrap()
            .recipe
            .layout
            .max_seq_len
    };
    assert_eq!((length(&own), length(&other)), (64, 128));
    let last = |sweep: &Sweep| sweep.report.tables[0].baseline["pairs"].clone();
    assert_eq!((last(&own), last(&other)), (20.into(), 2_000.into()));
}

#[test]
fn a_base_may_extend_another_base_and_so_may_the_file_between() {
    let (small, study) = (small(), study().replace("base/small.toml", "half.toml"));
    let tiny = "extends = [\"small.toml\"]\n[base.sft.recipe]\nmax-seq-len = 32\n";
    let files = [
        ("base/small.toml", small.as_str()),
        ("base/tiny.toml", tiny),
        ("half.toml", "extends = [\"base/small.toml\"]\n"),
        ("study.toml", study.as_str()),
    ];
    let sweep = load_on("base/tiny.toml", &files);
    let sweep = sweep.unwrap_or_else(|error| panic!("{}", error.render(false)));
    assert_eq!(sweep.name, "study@tiny");
    let recipe = &sweep.trials[0].config.sft.as_ref().unwrap().recipe;
    assert_eq!(recipe.layout.max_seq_len, 32);
}

#[test]
fn a_base_that_cannot_be_laid_below_the_study_is_refused_at_its_place() {
    let (small, big, study) = (small(), big(), study());
    let files = [
        ("base/small.toml", small.as_str()),
        ("base/big.toml", big.as_str()),
        ("study.toml", study.as_str()),
    ];
    assert_eq!(
        first_finding("base/bgi.toml", &files),
        "study.toml:1:12: cannot read `base/bgi.toml`: there is no such file (did you mean `big.toml`?)"
    );
    let two = study.replace(
        "[\"base/small.toml\"]",
        "[\"base/small.toml\", \"base/big.toml\"]",
    );
    let files_two = [files[0], files[1], ("study.toml", two.as_str())];
    assert_eq!(
        first_finding("base/big.toml", &files_two),
        "study.toml:1:31: `--base` replaces one base file, and this sweep extends two (let the sweep extend one file of `base/`)"
    );
    let none = study.replace("base/small.toml", "plain.toml");
    let files_none = [
        ("plain.toml", small.as_str()),
        files[1],
        ("study.toml", none.as_str()),
    ];
    assert_eq!(
        first_finding("base/big.toml", &files_none),
        "study.toml:1:11: `--base` replaces the file in `base/` that a sweep extends, and this one extends none (leave `--base` out, or let the sweep extend a file of a folder `base`)"
    );
    let files_odd = [files[0], ("base/b g.toml", big.as_str()), files[2]];
    assert_eq!(
        first_finding("base/b g.toml", &files_odd),
        "study.toml:1:11: the base file's name `b g` becomes part of the sweep's and has other characters than letters, digits, `-`, `_` and `.` (call it `b-g.toml`, for example)"
    );
}

#[test]
fn a_preset_replaces_what_lies_below_it_and_is_replaced_by_what_lies_above() {
    let (small, mut text) = (small(), study());
    text.push_str("\n[base.sft.recipe]\nduration = { preset = \"duration\" }\n");
    let files = [
        ("base/small.toml", small.as_str()),
        ("study.toml", text.as_str()),
    ];
    let duration = |sweep: &Sweep| {
        sweep.trials[0]
            .config
            .sft
            .as_ref()
            .unwrap()
            .recipe
            .training
            .duration
    };
    let sweep = load_on("base/small.toml", &files).unwrap();
    assert_eq!(duration(&sweep), Duration::Steps(7));

    let below = text.replace("base/small.toml", "half.toml");
    let below = below.replace("{ preset = \"duration\" }", "{ epochs = 2 }");
    let half = "extends = [\"base/small.toml\"]\n[base.sft.recipe]\nduration = { preset = \"duration\" }\n";
    let files = [
        files[0],
        ("half.toml", half),
        ("study.toml", below.as_str()),
    ];
    let sweep = load_on("base/small.toml", &files).unwrap();
    assert_eq!(duration(&sweep), Duration::Epochs(2.0));
}

/// What is replaced by what in base or study, and the first finding.
const MISTAKES: &[Mistake] = &[
    (
        "study.toml",
        "{ preset = \"pairs\" }",
        "{ preset = \"piars\" }",
        "study.toml:35:21: there is no preset `piars` (did you mean `pairs`?)",
    ),
    (
        "study.toml",
        "{ preset = \"pairs.1\" }",
        "{ preset = \"pairs.2\" }",
        "study.toml:47:33: there is no preset `pairs.2` (elements are 0 to 1)",
    ),
    (
        "study.toml",
        "{ preset = \"pairs.1\" }",
        "{ preset = \"pairs.1.a\" }",
        "study.toml:47:33: there is no preset `pairs.1.a` (a number has no parts)",
    ),
    (
        "base/small.toml",
        "[presets]\npairs = [10, 20]\nduration = { steps = 7 }\n",
        "",
        "study.toml:35:21: there is no preset `pairs` (no file of this sweep has a `[presets]` table)",
    ),
    (
        "base/small.toml",
        "duration = { steps = 7 }",
        "duration = { preset = \"pairs\" }",
        "base/small.toml:38:23: a preset cannot name another one, `pairs` (write the value itself here)",
    ),
    (
        "base/small.toml",
        "pairs = [10, 20]",
        "pairs = [10, 10]",
        "base/small.toml:37:14: axis `pairs` has the value `10` twice (remove one of the two)",
    ),
    (
        "base/small.toml",
        "rows = 1_000",
        "rows = 0",
        "base/small.toml:42:8: `rows` must be 1 or more, not 0 (leave it out if it is not known)",
    ),
    (
        "base/small.toml",
        "tokens-per-row",
        "tokens-a-row",
        "base/small.toml:43:1: unknown key `tokens-a-row` in `inputs.data/pairs.jsonl` (did you mean `tokens-per-row`?)",
    ),
    (
        "base/small.toml",
        "tokens-per-row = 50\n",
        "tokens-per-row = 50\n\n[inputs.\"models/tiny\"]\nshape = { vocab-size = 96, hidden-size = 32, layers = 70_000, heads = 4, kv-heads = 4, head-size = 8, intermediate-size = 40, tied = false }\n",
        "base/small.toml:46:55: `layers` must be at most 65536, not 70000 (it stands in the model's `config.json`)",
    ),
];

#[test]
fn a_mistake_with_presets_or_inputs_is_shown_at_its_place() {
    let (small, study) = (small(), study());
    let files = [
        ("base/small.toml", small.as_str()),
        ("study.toml", study.as_str()),
    ];
    assert_caught(MISTAKES, &files, |files| {
        first_finding("base/small.toml", files)
    });
}

#[test]
fn a_missing_input_says_where_it_comes_from() {
    let base = small().replace("data/pairs.jsonl", "data/big.jsonl");
    let study = study();
    let files = [
        ("base/small.toml", base.as_str()),
        ("study.toml", study.as_str()),
    ];
    assert_eq!(
        first_finding("base/small.toml", &files),
        "base/small.toml:17:18: there is no data file `data/big.jsonl` (put it there: data set a/b, split train)"
    );
}

#[test]
fn every_shipped_base_is_complete() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let study = root.join("sweeps/quickstart.toml");
    for base in ["mini", "gemma-2b", "llama-3-8b"] {
        let file = root.join(format!("sweeps/base/{base}.toml"));
        let loaded = load_placed_sweep(&Overrides::on(Some(file)), &study, root, Inputs::Optional);
        let (sweep, _) = loaded.unwrap_or_else(|error| panic!("{}", error.render(false)));
        assert_eq!(sweep.name, format!("quickstart@{base}"));
        assert_eq!(sweep.trials.len(), 45);
        let config = &sweep.trials[44].config;
        let sources = [
            &config.sft.as_ref().unwrap().recipe.rows.data,
            &config.dpo.as_ref().unwrap().recipe.rows.data,
        ];
        for source in sources.into_iter().flatten() {
            let known =
                root.join(&source.path).is_file() || sweep.inputs.contains_key(&*source.path);
            assert!(
                known,
                "{base}: nothing says where `{}` comes from",
                source.path
            );
        }
    }
}
