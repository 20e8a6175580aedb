//! What a sweep computes on the emulation and on the CPU: the same numbers, and the same texts.

use crate::project::{Project, Said};
use crate::tiny;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Most difference of a number in f32, of its size or of 1: sums of log-probabilities are near -100, and are subtracted
/// from each other.
const TOLERANCE: f64 = 1e-4;

/// What the runs of a project stored, by run and name.
pub(crate) struct Stored {
    pub(crate) numbers: BTreeMap<String, f64>,
    /// Files of texts, and ids of rows that were kept.
    pub(crate) texts: BTreeMap<String, String>,
}

/// Runs a sweep on a device, down to its table, and gives what its runs stored.
pub(crate) fn stored_on(
    device: &str,
    project: &Project,
    sweep: &str,
    command: impl Fn(&Project, &[&str]) -> Command,
) -> Stored {
    let file = format!("sweeps/{sweep}.toml");
    let words = ["run", &file, "--device", device, "--jobs", "2"];
    let said = Said::of(&command(project, &words).output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!said.err.contains("computed on the CPU"), "{said:?}");
    let mut stored = Stored {
        numbers: BTreeMap::new(),
        texts: BTreeMap::new(),
    };
    for run in fs::read_dir(project.path("results/runs")).unwrap() {
        stored.take(&run.unwrap().path(), device);
    }
    stored
}

/// On the emulation.
pub(crate) fn emulated(project: &Project, words: &[&str]) -> Command {
    let mut command = project.command(words);
    command.env("LIONS_EMULATION", lions_emulation::LIBRARY);
    command
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

impl Stored {
    fn take(&mut self, run: &Path, device: &str) {
        let id = run.file_name().unwrap().to_str().unwrap();
        let outcome = json(&run.join("outcome.json"));
        let attempt = outcome["attempt"].as_u64().unwrap();
        let provenance = json(&run.join(format!("attempts/{attempt:03}/provenance.json")));
        let place = provenance["device"].as_str().unwrap().to_owned();
        assert!(place.starts_with(&device[..3]), "{place}");
        // Every stage of these sweeps computes there.
        let memory = outcome["result"]["usage"]["device_memory_bytes"].as_u64();
        assert_eq!(
            memory.is_some_and(|bytes| bytes > 1_000_000),
            device != "cpu"
        );
        for (key, metric) in outcome["result"]["metrics"].as_object().unwrap() {
            let value = metric["value"].as_f64().unwrap();
            self.numbers.insert(format!("{id} {key}"), value);
        }
        let read = |name: &str| fs::read_to_string(run.join("artifacts").join(name)).ok();
        for name in ["samples.jsonl", "pairs.jsonl"] {
            if let Some(text) = read(name) {
                self.texts.insert(format!("{id} {name}"), text);
            }
        }
        for name in ["judged.jsonl", "scores.jsonl", "selected.jsonl"] {
            for (at, line) in read(name).iter().flat_map(|text| text.lines()).enumerate() {
                let row: Value = serde_json::from_str(line).unwrap();
                let key = format!("{id} {name} {at}");
                let scores = row["scores"].as_array().into_iter().flatten();
                for (n, score) in scores.chain(row.get("score")).enumerate() {
                    self.numbers
                        .extend(score.as_f64().map(|x| (format!("{key} {n}"), x)));
                }
                self.texts.insert(key, row["id"].to_string());
            }
        }
    }

    #[track_caller]
    pub(crate) fn agrees_with(&self, other: &Self) {
        assert_eq!(self.texts, other.texts);
        let keys = |stored: &Self| stored.numbers.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(self), keys(other));
        for (key, got) in &self.numbers {
            let want = other.numbers[key];
            let most = TOLERANCE * want.abs().max(1.0);
            assert!(
                (got - want).abs() <= most,
                "{key}: {got}, on the CPU {want}"
            );
        }
    }

    fn of(&self, name: &str) -> usize {
        let keys = self.numbers.keys().chain(self.texts.keys());
        keys.filter(|key| key.contains(name)).count()
    }
}

/// The same on both.
fn on_both(project: impl Fn() -> Project, sweep: &str) -> Stored {
    let on_cpu = stored_on("cpu", &project(), sweep, Project::command);
    let on_device = stored_on("emulated", &project(), sweep, emulated);
    on_device.agrees_with(&on_cpu);
    on_device
}

/// Smaller than `tiny.toml`: the kernels are emulated.
const SMALLER: &str = r#"[base.sft.recipe]
max-seq-len = 96
batch = { tokens = 96 }
duration = { steps = 2 }
[base.online-dpo.recipe]
samples = 2
sampling = { temperature = 1.0, top-p = 0.9, max-new-tokens = 8 }
prompts = { per-round = 3, max-prompt-len = 96 }
[base.online-dpo.recipe.dpo]
limits = { max-seq-len = 160, max-prompt-len = 128, truncation = "keep-end" }
duration = { steps = 2 }
global-batch-size = 2
[base.eval.recipe]
likelihood.instruct = { data = [{ path = "data/sft/instruct_test.jsonl", count = 1 }], max-seq-len = 96 }
likelihood.tales = { data = [{ path = "data/sft/stories_test.jsonl", count = 1 }], max-seq-len = 96 }
"#;

const STORIES: &str = r#"[base.eval.recipe.stories.mine]
data = [{ path = "data/sft/stories_test.jsonl", count = 2 }]
samples = 2
sampling = { temperature = 0.7, top-p = 0.95, max-new-tokens = 8 }
seed = 1
[base]
pipeline = ["sft", "online-dpo"]
"#;

#[test]
fn replies_are_sampled_and_judged_on_a_device_as_on_the_processor() {
    let judge = "reward-model = { model-path = \"models/reward\", precision = \"f32\" }";
    let arms = [(
        "reward model",
        format!("\"online-dpo.recipe.judge\" = {{ {judge} }}"),
    )];
    let metrics = tiny::table(&["instruct/loss", "mine/rule_score"]);
    let rest = format!("{SMALLER}{STORIES}{metrics}");
    let project = || {
        let project = tiny::project();
        tiny::reward_model(&project, "models/reward");
        project.write("sweeps/sampled.toml", tiny::sweep("sampled", &arms, &rest));
        project
    };
    let found = on_both(project, "sampled");
    let files = ["samples.jsonl", "pairs.jsonl", "judged.jsonl"];
    assert_eq!(files.map(|name| found.of(name) > 0), [true; 3]);
}

/// Rows to choose from.
fn chats(project: &Project) {
    let text = project.read("data/sft/instruct_train.jsonl");
    let short = text.lines().filter(|row| row.len() < 300);
    let rows: Vec<&str> = short.take(3).collect();
    assert_eq!(rows.len(), 3);
    project.write("data/mine/chats.jsonl", rows.join("\n"));
    project.write("data/mine/target.jsonl", rows[0]);
}

#[test]
fn rows_are_chosen_on_a_device_as_on_the_processor() {
    let asked = "{ model-path = \"models/stories260k\" }";
    let methods = [
        ("IFD", "\"ifd\"".to_owned()),
        (
            "LESS",
            "{ less = { data = [{ path = \"data/mine/target.jsonl\" }], dimension = 64 } }"
                .to_owned(),
        ),
        (
            "Deita",
            format!(
                "{{ deita = {{ complexity = {asked}, quality = {asked}, threshold = 0.9999, pooling = \"mean\" }} }}"
            ),
        ),
    ];
    let arms = methods.map(|(arm, method)| {
        let recipe = format!("{{ keep = 2, method = {method}, precision = \"f32\" }}");
        (
            arm,
            format!("select = {{ of = \"sft\", recipe = {recipe} }}"),
        )
    });
    let data = "[base.sft.recipe]\ndata = [{ path = \"data/mine/chats.jsonl\" }]\n";
    let smaller = SMALLER.replacen("[base.sft.recipe]\n", data, 1);
    let rest = format!("{smaller}{}", tiny::table(&["instruct/loss"]));
    let project = || {
        let project = tiny::project();
        chats(&project);
        project.write("sweeps/chosen.toml", tiny::sweep("chosen", &arms, &rest));
        project
    };
    let found = on_both(project, "chosen");
    assert_eq!(found.of("selected.jsonl"), 2 * (2 * arms.len()));
    assert_eq!(found.of("scores.jsonl"), 2 * (3 * arms.len()));
}
