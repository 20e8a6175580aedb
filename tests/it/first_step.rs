//! What the fields of `optimizer` do to the weights of one step, from the sweep file to the stored model, and that a
//! result has the same bytes wherever and however it is computed.

use crate::project::Project;
use crate::tiny::{self, Results, close};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Weights = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

fn weights(folder: &Path) -> Weights {
    let file = folder.join("model.safetensors");
    let tensors = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
    let values = |tensor: &Tensor| {
        let tensor = tensor.to_dtype(DType::F64).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    };
    let named = tensors.into_iter();
    named
        .map(|(name, t)| (name, (t.dims().to_vec(), values(&t))))
        .collect()
}

/// Fails unless each element of the tensors has what `want` makes of it (from its place), up to rounding in f32.
#[track_caller]
fn all_close(got: &Weights, want: impl Fn(&str, usize) -> f64, what: &str) {
    for (name, (_, values)) in got {
        for (at, value) in values.iter().enumerate() {
            let want = want(name, at);
            let far = (value - want).abs();
            assert!(
                far <= 1e-6 * want.abs().max(0.1),
                "{what}, {name}[{at}]: {value}, not {want}"
            );
        }
    }
}

#[test]
fn decay_is_of_matrices_alone_and_clipping_is_of_the_whole_gradient() {
    let project = tiny::project();
    let with = |fields: &str| format!("\"sft.recipe.optimizer\" = {{ {fields} }}");
    // With so large an eps the update is the gradient, a hundredth of it.
    let flat = "learning-rate = 10.0, eps = 1e3, weight-decay = 0.0";
    let arms = [
        (
            "plain",
            with("learning-rate = 1e-3, weight-decay = 0.0, max-grad-norm = 0.0"),
        ),
        (
            "decay",
            with("learning-rate = 1e-3, weight-decay = 0.5, max-grad-norm = 0.0"),
        ),
        ("flat", with(&format!("{flat}, max-grad-norm = 0.0"))),
        ("clipped", with(&format!("{flat}, max-grad-norm = 0.25"))),
        ("long", with(&format!("{flat}, max-grad-norm = 1e6"))),
        // Of the first step Adam knows one gradient, whatever the decays of its moments are.
        (
            "moments",
            with(
                "learning-rate = 1e-3, weight-decay = 0.0, max-grad-norm = 0.0, beta1 = 0.5, beta2 = 0.6",
            ),
        ),
    ];
    let rest = "[base.sft.recipe]\nduration = { steps = 1 }\nbatch = { rows = 4 }\n\
                schedule = { decay = \"constant\", warmup-ratio = 0.0, min-ratio = 1.0 }\n";
    let results = tiny::run_arms(&project, "first-step", &arms, &["tales/loss"], rest);
    let before = weights(&project.path("models/stories260k"));
    let of = |arm: &str| weights(&results.artifact(&results.only(arm, "sft"), "model"));
    let (plain, flat) = (of("plain"), of("flat"));
    all_close(
        &of("decay"),
        |name, at| {
            let (shape, old) = &before[name];
            // Gains of norms have one dimension.
            let decay = if shape.len() > 1 {
                1e-3 * 0.5 * old[at]
            } else {
                0.0
            };
            plain[name].1[at] - decay
        },
        "decay",
    );
    all_close(&of("moments"), |name, at| plain[name].1[at], "moments");
    all_close(
        &of("long"),
        |name, at| flat[name].1[at],
        "a limit that nothing reaches",
    );

    let norm = |arm: &str| results.steps(&results.only(arm, "sft"), "grad_norm")[&1];
    assert!(norm("flat") > 1.0, "{}", norm("flat"));
    close(
        norm("clipped"),
        norm("flat"),
        1e-9,
        "the norm is told as it was",
    );
    let change = |name: &str, at: usize| flat[name].1[at] - before[name].1[at];
    let squares = before.iter().map(|(name, (_, old))| {
        (0..old.len())
            .map(|at| change(name, at).powi(2))
            .sum::<f64>()
    });
    // |g| / (|g| + eps) of each element is |g| / eps up to a thousandth of |g|.
    close(
        squares.sum::<f64>().sqrt() * 100.0 / norm("flat"),
        1.0,
        2e-3,
        "the update is the gradient",
    );
    let share = 0.25 / norm("flat");
    all_close(
        &of("clipped"),
        |name, at| {
            // The gradient out of the update 10 g / (|g| + 1000), and the update of a part of it.
            let update = -change(name, at);
            let gradient = 1000.0 * update / (10.0 - update.abs());
            let part = share * gradient;
            before[name].1[at] - 10.0 * part / (part.abs() + 1000.0)
        },
        "clipped",
    );
}

/// A folder whose name is awkward.
fn elsewhere() -> Project {
    let dir = tempfile::Builder::new()
        .prefix("Läufe 東京 (1) 'a' ")
        .tempdir()
        .unwrap();
    Project::within(dir)
}

fn outcomes(project: &Project) -> BTreeMap<String, PathBuf> {
    let runs = std::fs::read_dir(project.path("results/runs")).unwrap();
    let runs = runs.map(|run| run.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    runs.map(|path| (name(&path), path.join("artifacts")))
        .collect()
}

/// How a step is cut is the one thing that changes a result, and it changes it by rounding alone.
#[test]
fn results_have_the_same_bytes_wherever_and_however_they_are_computed() {
    let arms = [
        ("sft", "pipeline = [\"sft\"]".to_owned()),
        ("both", String::new()),
    ];
    let sweep = |runtime: &str| {
        let runtime: String = ["sft", "dpo"]
            .map(|stage| format!("[base.{stage}.runtime]\n{runtime}\n"))
            .concat();
        let rest = format!(
            "{runtime}[base]\npipeline = [\"sft\", \"dpo\"]\n[base.sft.recipe]\nbatching = \"concat\"\n{}{}",
            tiny::POLITE,
            tiny::table(&["tales/loss"])
        );
        tiny::sweep("same", &arms, &rest)
    };
    let ran =
        |project: Project, runtime: &str, threads: &str| -> (Project, BTreeMap<String, PathBuf>) {
            let small = tiny::project().read("sweeps/tiny.toml");
            project.write("sweeps/tiny.toml", small);
            project.write("sweeps/same.toml", sweep(runtime));
            let words = [
                "run",
                "sweeps/same.toml",
                "--quiet",
                "--jobs",
                "1",
                "--threads",
                threads,
            ];
            let said = project.lions(&words);
            assert_eq!(said.code, 0, "{said:?}");
            let found = outcomes(&project);
            (project, found)
        };
    let (first, want) = ran(Project::new(), "", "2");
    let careful = "recompute-layers = true\ncheckpoint-every-steps = 1";
    let (_there, other) = ran(elsewhere(), careful, "1");
    let (third, cut) = ran(Project::new(), "micro-batch-tokens = 96", "3");
    assert_eq!(
        want.len(),
        5,
        "sft, ref-logps, dpo and two evaluations: {want:?}"
    );
    assert!(
        want.keys().eq(other.keys()) && want.keys().eq(cut.keys()),
        "one identity"
    );
    let mut compared = 0;
    for (run, artifacts) in &want {
        for file in ["model/model.safetensors", "ref_logps.jsonl", "rows.jsonl"] {
            let Ok(bytes) = std::fs::read(artifacts.join(file)) else {
                continue;
            };
            assert!(
                bytes == std::fs::read(other[run].join(file)).unwrap(),
                "{run}, {file}"
            );
            compared += 1;
        }
    }
    assert_eq!(compared, 5, "every run has its result");
    let loss =
        |project: &Project, arm: &str| Results::open(project, "same").value(arm, "tales/loss");
    for (arm, _) in &arms {
        close(
            loss(&third, arm),
            loss(&first, arm),
            2e-4,
            "steps that are cut otherwise",
        );
    }
}
