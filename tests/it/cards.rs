//! Cards as the program finds and uses them, on a driver that pretends to have some (`tests/cards`): no card is needed,
//! and one that is there is not touched.

use crate::devices::{emulated, stored_on};
use crate::project::{Project, Said};
use crate::tiny;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Folders of the pretended driver and of the pretended cuBLAS.
struct Pretended {
    driver: PathBuf,
    blas: PathBuf,
}

impl Pretended {
    fn get() -> &'static Self {
        static BUILT: OnceLock<Pretended> = OnceLock::new();
        BUILT.get_or_init(|| {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cards");
            let (driver, blas) = (folder.join("driver"), folder.join("blas"));
            build("driver.cc", &driver, "libcuda.so.1");
            for name in ["libcublas.so.13", "libcublasLt.so.13"] {
                build("blas.cc", &blas, name);
            }
            Self { driver, blas }
        })
    }
}

/// Compiles a library to its place, whole or not at all: another process may use the one that is there.
fn build(source: &str, folder: &Path, name: &str) {
    fs::create_dir_all(folder).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cards")
        .join(source);
    let made = folder.join(format!("{}.tmp", std::process::id()));
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let mut command = Command::new(compiler);
    command
        .args(["-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC"])
        .arg(format!("-Wl,-soname,{name}"))
        .arg(source)
        .arg("-o")
        .arg(&made)
        .arg("-ldl");
    let compiled = command.output().unwrap();
    assert!(compiled.status.success(), "{compiled:?}");
    fs::rename(made, folder.join(name)).unwrap();
}

/// The program on a machine that has such a driver, and cuBLAS nowhere but where these variables name it.
fn pretending(project: &Project, words: &[&str], vars: &[(&str, &str)]) -> Command {
    let mut command = project.command(words);
    pretend(&mut command, vars);
    command.env("PATH", "/nonexistent");
    command
}

/// Lets a command find the driver that pretends, and cuBLAS as above; the variables say what it pretends.
pub(crate) fn pretend(command: &mut Command, vars: &[(&str, &str)]) {
    command
        .env("LD_LIBRARY_PATH", &Pretended::get().driver)
        .env("FAKE_KERNELS", lions_emulation::LIBRARY)
        .env_remove("HOME")
        .env_remove("LIONS_CUDA_LIB")
        .env_remove("CUDA_VISIBLE_DEVICES")
        .envs(vars.iter().copied());
}

/// Where the cuBLAS that pretends lies.
pub(crate) fn pretended_cublas() -> &'static str {
    Pretended::get().blas.to_str().unwrap()
}

fn said(mut command: Command) -> Said {
    Said::of(&command.output().unwrap())
}

/// What doctor finds of that name.
fn found(project: &Project, vars: &[(&str, &str)], what: &str) -> Vec<(String, String)> {
    let said = said(pretending(project, &["doctor", "--json"], vars));
    let all: Value = serde_json::from_str(&said.out).unwrap();
    let of = all
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["what"] == what);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    of.map(|one| (text(&one["health"]), text(&one["text"])))
        .collect()
}

fn one(health: &str, text: &str) -> Vec<(String, String)> {
    vec![(health.to_owned(), text.to_owned())]
}

/// Its libraries are opened when a card is asked for, so that it starts where none is.
#[cfg(target_os = "linux")]
#[test]
fn the_program_is_linked_with_no_library_of_cuda() {
    let listed = Command::new("ldd")
        .arg(env!("CARGO_BIN_EXE_lions"))
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("libc.so"), "{listed}");
    for name in ["cuda", "cublas", "nvrtc", "nvidia", "kernels"] {
        assert!(!listed.contains(name), "{listed}");
    }
}

#[test]
fn a_machine_without_a_card_that_suits_is_told_why_before_anything_is_queued() {
    let project = Project::new();
    let old = "Pretended T4, compute 7.5: too old, 8.0 is wanted";
    let stuck = "the NVIDIA driver does not start: system has unsupported display driver / cuda \
        driver combination";
    let ancient = "the NVIDIA driver is for CUDA 11.4: too old, 11.8 (driver 520) is wanted";
    for (vars, health, by_doctor, by_run) in [
        (
            vec![("FAKE_CARDS", "0")],
            "ok",
            "none: the driver shows no card; runs use the CPU".to_owned(),
            "there is no cuda:0: the driver shows no card",
        ),
        (
            vec![("FAKE_CARDS", "1"), ("FAKE_COMPUTE", "75")],
            "warning",
            format!("cuda:0  {old}"),
            old,
        ),
        (
            vec![("FAKE_INIT", "803")],
            "warning",
            format!("none: {stuck}; runs use the CPU"),
            stuck,
        ),
        (
            vec![("FAKE_CUDA", "11040")],
            "warning",
            format!("none: {ancient}; runs use the CPU"),
            ancient,
        ),
    ] {
        assert_eq!(found(&project, &vars, "gpu"), one(health, &by_doctor));
        refuses(&project, "cuda:0", &vars, by_run);
    }
    let vars = [("FAKE_CARDS", "1")];
    refuses(
        &project,
        "cuda:0,1",
        &vars,
        "there is no cuda:1: the driver shows one card",
    );
}

/// `run` ends with a user's error that says this, and has queued nothing.
fn refuses(project: &Project, device: &str, vars: &[(&str, &str)], why: &str) {
    let words = ["run", "sweeps/smoke.toml", "--device", device];
    let said = said(pretending(project, &words, vars));
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains(&format!("error: {why}\n")), "{said:?}");
    assert!(said.err.contains("`lions doctor`"), "{said:?}");
    assert!(!project.path("results/lions.db").exists());
}

#[test]
fn heads_that_no_kernel_takes_are_told_before_anything_is_queued() {
    let project = Project::new();
    project.edit(
        "models/stories260k/config.json",
        "\"head_dim\": 8",
        "\"head_dim\": 300",
    );
    let said_on = |device: &str| {
        let words = ["run", "sweeps/smoke.toml", "--device", device];
        let said = said(emulated(&project, &words));
        assert_eq!(said.code, 1, "{said:?}");
        said.err
    };
    let why = "no kernels for this device: 8 attention heads of 300 numbers";
    let err = said_on("emulated");
    assert!(err.contains(why) && err.contains("`--device cpu`"), "{err}");
    assert!(err.contains("nothing was run"), "{err}");
    let err = said_on("cpu");
    assert!(!err.contains(why), "{err}");
    assert!(!project.path("results/lions.db").exists());
}

#[test]
fn cublas_is_looked_for_where_it_is_named() {
    let project = Project::new();
    let card = ("FAKE_CARDS", "1");
    // Where the toolkit is installed the loader or the program finds its own.
    if !Path::new("/usr/local/cuda").exists() {
        let missing = "libcublas was not found: install it (`pip install nvidia-cublas`) or name its \
            folder in `LIONS_CUDA_LIB`";
        assert_eq!(found(&project, &[card], "cublas"), one("warning", missing));
        assert!(found(&project, &[card], "check").is_empty());
        refuses(&project, "cuda:0", &[card], missing);
    }
    let folder = pretended_cublas();
    let vars = [card, ("LIONS_CUDA_LIB", folder)];
    let text = format!("13.1.2 in {folder}");
    assert_eq!(found(&project, &vars, "cublas"), one("ok", &text));
}

#[test]
fn doctor_lets_every_card_compute() {
    let project = Project::bare();
    let folder = pretended_cublas();
    let vars = [("FAKE_CARDS", "2"), ("LIONS_CUDA_LIB", folder)];
    let cards = found(&project, &vars, "gpu");
    let shown = "Pretended T4, 4.0 GiB (4.0 GiB free), compute 9.0, driver";
    let rest = "CUDA 13.0";
    for (number, (health, text)) in cards.iter().enumerate() {
        assert!(
            text.starts_with(&format!("cuda:{number}  {shown}")),
            "{text}"
        );
        assert!(
            text.contains(rest) && text.ends_with("kernels: built for 9.0"),
            "{text}"
        );
        assert_eq!(health, "ok");
    }
    let checks = found(&project, &vars, "check");
    assert_eq!((cards.len(), checks.len()), (2, 2));
    for (health, text) in checks {
        assert!(
            text.contains("products, norm, attention: right (")
                && text.ends_with(" s, 7 ms by the card's clock)"),
            "{text}"
        );
        assert_eq!(health, "ok");
    }
    // Less than the library's own working memory.
    let small = [&vars[..], &[("FAKE_MEMORY", "1000000")]].concat();
    let checks = found(&project, &small, "check");
    let (health, text) = &checks[1];
    assert_eq!(health, "bad");
    assert!(text.starts_with("cuda:1  out of device memory: "), "{text}");
}

#[test]
fn a_plan_is_told_for_the_card_that_is_here() {
    let project = Project::new();
    let words = ["plan", "sweeps/smoke.toml", "--gpu", "here"];
    let plan = |vars: &[(&str, &str)]| said(pretending(&project, &words, vars));
    // As the driver of an RTX 4090 says it: 24,564 MiB.
    let known = [
        ("FAKE_CARDS", "1"),
        ("FAKE_NAME", "NVIDIA GeForce RTX 4090"),
        ("FAKE_MEMORY", "25757220864"),
    ];
    let told = plan(&known);
    assert_eq!(told.code, 0, "{told:?}");
    let line = "GPU-hours (one RTX-4090-24GB at 40 % of peak)";
    assert!(told.out.contains(line), "{told:?}");
    let named = project.lions(&["plan", "sweeps/smoke.toml", "--gpu", "rtx4090"]);
    assert_eq!(named.out, told.out);
    let unknown = plan(&known[..1]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
    assert!(
        unknown
            .err
            .contains("nothing is known of the speed of `Pretended T4`")
            && unknown.err.contains("--device-flops"),
        "{unknown:?}"
    );
    let none = plan(&[("FAKE_CARDS", "0")]);
    assert!(
        none.code == 1 && none.err.contains("`--gpu h100`"),
        "{none:?}"
    );
}

/// What the shipped model finds likely, and one story that it tells.
const MEASURED: &str = r#"extends = ["tiny.toml"]
[sweep]
name = "measured"
question = "Where is it computed?"
seeds = [1]
[base]
pipeline = []
[base.eval.recipe]
likelihood.instruct = { data = [{ path = "data/sft/instruct_test.jsonl", count = 1 }], max-seq-len = 64 }
likelihood.tales = { data = [{ path = "data/sft/stories_test.jsonl", count = 1 }], max-seq-len = 64 }
[base.eval.recipe.stories.told]
data = [{ path = "data/sft/stories_test.jsonl" }]
max-prompts = 1
samples = 1
sampling = { temperature = 0.7, top-p = 0.95, max-new-tokens = 4 }
seed = 1
[[report.table]]
name = "main"
title = "Base model"
metrics = ["tales/loss", "told/rule_score"]
"#;

/// Without `--device`; with a card that suits, and with one that does not.
#[test]
fn runs_take_the_cards_that_suit_or_the_processor_and_say_so() {
    let blas = ("LIONS_CUDA_LIB", pretended_cublas());
    let beside = "computed on the CPU";
    let cpu = "runs use the CPU";
    for (vars, device, warnings) in [
        (vec![("FAKE_CARDS", "1"), blas], "cuda:0", vec![]),
        (
            vec![("FAKE_CARDS", "1"), ("FAKE_COMPUTE", "75"), blas],
            "cpu",
            vec!["Pretended T4, compute 7.5: too old, 8.0 is wanted; runs use the CPU"],
        ),
        (vec![("FAKE_CARDS", "0"), blas], "cpu", vec![]),
    ] {
        let project = tiny::project();
        project.write("sweeps/measured.toml", MEASURED);
        let said = said(pretending(
            &project,
            &["run", "sweeps/measured.toml"],
            &vars,
        ));
        assert_eq!(said.code, 0, "{said:?}");
        for known in [beside, cpu] {
            let wanted = warnings.iter().any(|warning| warning.contains(known));
            assert_eq!(said.err.contains(known), wanted, "{known}: {said:?}");
        }
        for warning in &warnings {
            assert_eq!(said.err.matches(warning).count(), 1, "{warning}: {said:?}");
        }
        let run = fs::read_dir(project.path("results/runs")).unwrap().next();
        let provenance = run
            .unwrap()
            .unwrap()
            .path()
            .join("attempts/001/provenance.json");
        let provenance: Value = serde_json::from_slice(&fs::read(provenance).unwrap()).unwrap();
        assert_eq!(provenance["device"], device);
    }
}

/// Two steps of SFT and of DPO from it, by two seeds, and what the models find likely.
const STUDY: &str = r#"extends = ["tiny.toml"]
[sweep]
name = "devices"
question = "Is a number the same wherever it is computed?"
seeds = [1, 2]
[base]
pipeline = ["sft", "dpo"]
[base.sft.recipe]
seed = 1
max-seq-len = 96
batch = { tokens = 96 }
duration = { steps = 2 }
[base.dpo.recipe]
max-examples = 4
global-batch-size = 2
limits = { max-seq-len = 96, max-prompt-len = 64, truncation = "keep-end" }
[base.eval.recipe]
likelihood.instruct = { data = [{ path = "data/sft/instruct_test.jsonl", count = 2 }], max-seq-len = 96 }
likelihood.tales = { data = [{ path = "data/sft/stories_test.jsonl", count = 1 }], max-seq-len = 96 }
[base.eval.recipe.preference.polite]
data = [{ path = "data/pref/polite_test.jsonl", count = 2 }]
limits = { max-seq-len = 96, max-prompt-len = 64, truncation = "keep-end" }
[[report.table]]
name = "main"
title = "Two seeds"
metrics = ["tales/loss", "polite/rewards/margins"]
"#;

#[test]
fn a_sweep_gives_the_same_numbers_on_cards() {
    let project = || {
        let project = tiny::project();
        project.write("sweeps/devices.toml", STUDY);
        project
    };
    let on_cpu = stored_on("cpu", &project(), "devices", Project::command);
    let eval = on_cpu.numbers.keys();
    let eval = eval.filter(|key| key.ends_with(" tales/loss"));
    assert!(eval.count() == 2 && on_cpu.numbers.len() > 20);
    // On two cards, lost twice in the midst, the second time where a product is the first to be told: the runs
    // begin again.
    let project = project();
    let losses = [("FAKE_LOST", "lost"), ("FAKE_LOST_LATE", "lost-late")];
    for (_, file) in losses {
        project.write(file, "");
    }
    let on_cards = stored_on("cuda:0,1", &project, "devices", |project, words| {
        let mut command = pretending(project, words, &[("FAKE_CARDS", "2")]);
        command.env("LIONS_CUDA_LIB", pretended_cublas());
        command.envs(losses.map(|(name, file)| (name, project.path(file))));
        command
    });
    // The first that is lost takes the file away.
    for (_, file) in losses {
        assert!(!project.path(file).exists(), "{file}");
    }
    on_cards.agrees_with(&on_cpu);
}

// Each run on two cards of four, one of which is lost once.
#[test]
fn a_sweep_gives_the_same_numbers_where_each_run_has_several_cards() {
    let project = || {
        let project = tiny::project();
        // Two micro-batches a step.
        let runtime = "runtime = { micro-batch-tokens = 96 }\n";
        let with_runtime = |text: &str, kind: &str| {
            let (from, to) = (format!("[base.{kind}.recipe]"), format!("[base.{kind}]"));
            text.replace(&from, &format!("{to}\n{runtime}{from}"))
        };
        let text = with_runtime(&with_runtime(STUDY, "sft"), "dpo");
        let text = text.replace("batch = { tokens = 96 }", "batch = { tokens = 192 }");
        project.write("sweeps/devices.toml", text);
        project
    };
    let on_cpu = stored_on("cpu", &project(), "devices", Project::command);
    let project = project();
    project.write("lost", "");
    let on_cards = stored_on("cuda:0+1,2+3", &project, "devices", |project, words| {
        let mut command = pretending(project, words, &[("FAKE_CARDS", "4")]);
        command.env("LIONS_CUDA_LIB", pretended_cublas());
        command.env("FAKE_LOST", project.path("lost"));
        command
    });
    assert!(!project.path("lost").exists());
    on_cards.agrees_with(&on_cpu);
    let store = crate::driver::database(&project);
    let sql = "SELECT DISTINCT device FROM attempt ORDER BY device";
    let mut devices = store.prepare(sql).unwrap();
    let devices = devices
        .query_map([], |row| row.get::<_, String>(0))
        .unwrap();
    let devices: Vec<String> = devices.map(Result::unwrap).collect();
    assert_eq!(devices, ["cuda:0+1", "cuda:2+3"]);
    let vars = [("FAKE_CARDS", "2"), ("LIONS_CUDA_LIB", pretended_cublas())];
    let words = [
        "run",
        "sweeps/devices.toml",
        "--device",
        "cuda:0+1",
        "--jobs",
        "2",
    ];
    let said = said(pretending(&project, &words, &vars));
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err
            .contains("2 jobs on 1 group of GPUs: each takes 1 run"),
        "{said:?}"
    );
}

/// SFT from two seeds of its own on a card, and what the models find likely.
fn two_runs() -> Project {
    let project = tiny::project();
    let polite = STUDY.split("[base.eval.recipe.preference.polite]").nth(1);
    let polite = polite.and_then(|rest| rest.split("[[report.table]]").next());
    let polite = format!(
        "[base.eval.recipe.preference.polite]{}",
        polite.unwrap_or_default()
    );
    let axis = "[[axis]]\nname = \"start\"\npath = \"sft.recipe.seed\"\nvalues = [1, 2]\n";
    let text = STUDY
        .replace("pipeline = [\"sft\", \"dpo\"]", "pipeline = [\"sft\"]")
        .replace("seeds = [1, 2]", "seeds = [1]")
        .replace(", \"polite/rewards/margins\"", "")
        .replace(&polite, axis);
    project.write("sweeps/devices.toml", text);
    project
}

#[test]
fn a_card_that_is_lost_under_two_runs_in_a_row_is_given_no_more() {
    let project = two_runs();
    let losses = [("FAKE_LOST", "lost"), ("FAKE_LOST_LATE", "lost-late")];
    for (_, file) in losses {
        project.write(file, "");
    }
    let words = ["run", "sweeps/devices.toml", "--device", "cuda:0", "--json"];
    let on_card = || {
        let mut command = pretending(&project, &words, &[("FAKE_CARDS", "1")]);
        command.env("LIONS_CUDA_LIB", pretended_cublas());
        command.envs(losses.map(|(name, file)| (name, project.path(file))));
        said(command)
    };
    let ended = on_card();
    assert_eq!(ended.code, 100, "{ended:?}");
    let why = "cuda:0 was lost under two runs, one after the other";
    assert!(ended.out.contains(why), "{ended:?}");
    let fault = ("crashed".to_owned(), Some("device-fault".to_owned()));
    assert_eq!(
        crate::driver::attempts(&project, "sft"),
        [fault.clone(), fault]
    );
    // The next command tries the card again.
    let ended = on_card();
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn memory_of_a_card_that_runs_out_is_tried_once_more_with_half_the_micro_batch() {
    let project = two_runs();
    let words = ["run", "sweeps/devices.toml", "--device", "cuda:0"];
    let vars = [("FAKE_CARDS", "1"), ("FAKE_MEMORY", "1000000")];
    let mut command = pretending(&project, &words, &vars);
    command.env("LIONS_CUDA_LIB", pretended_cublas());
    let ended = said(command);
    assert_eq!(ended.code, 100, "{ended:?}");
    assert!(
        ended.err.contains("tried again with half the micro-batch"),
        "{ended:?}"
    );
    let full = ("failed".to_owned(), Some("out-of-memory".to_owned()));
    assert_eq!(crate::driver::attempts(&project, "sft"), vec![full; 4]);
    let failed = project.json(&["status", "devices"]);
    let mut runs = failed["runs"].as_array().unwrap().iter();
    let run = runs.find(|run| run["state"]["state"] == "failed").unwrap();
    let id = run["id"].as_str().unwrap();
    let why = project.lions(&["why", id]);
    assert!(
        why.out.contains("`runtime.recompute-layers = true`"),
        "{why:?}"
    );
    for (attempt, halved) in [("001", false), ("002", true)] {
        let path = format!(
            "results/runs/{}/attempts/{attempt}/provenance.json",
            &id[..12]
        );
        let told = project.read(&path);
        assert_eq!(told.contains("--half-micro-batch"), halved, "{told}");
    }
}

/// What a plan says of the memory that the runs of a sweep take of a card: kept whole, and at least.
fn planned(project: &Project, kind: &str) -> (u64, u64) {
    let plan = project.json(&["plan", "sweeps/devices.toml", "--all"]);
    let runs = plan["runs"].as_array().unwrap().iter();
    let of_kind = runs.filter(|run| run["stage"] == kind);
    let most = |key: &str| of_kind.clone().filter_map(|run| run[key].as_u64()).max();
    let [whole, least] = ["card_memory_bytes", "least_card_memory_bytes"].map(most);
    (whole.unwrap(), least.unwrap())
}

/// What the driver takes of a card for each of several runs, as `share_of_card` has it.
const OF_THE_DRIVER: u64 = 768 << 20;

#[test]
fn runs_that_share_a_card_are_beside_each_other_and_keep_to_their_part_of_it() {
    let on_cpu = stored_on("cpu", &two_runs(), "devices", Project::command);
    let project = two_runs();
    let (whole, least) = planned(&project, "sft");
    assert!(least < whole, "{least} of {whole}");
    // Some layers are computed again, for which there is a thirty-second of the memory more.
    let share = u64::midpoint(least, whole) * 33 / 32;
    let memory = (2 * (OF_THE_DRIVER + share)).to_string();
    let shared = stored_on("cuda:0", &project, "devices", |project, words| {
        let words = [words, &["--runs-per-gpu", "2"]].concat();
        let vars = [("FAKE_CARDS", "1"), ("FAKE_MEMORY", &memory)];
        let mut command = pretending(project, &words, &vars);
        command.env("LIONS_CUDA_LIB", pretended_cublas());
        command
    });
    shared.agrees_with(&on_cpu);
    let sql = "SELECT attempt.started, attempt.ended, run.run_id FROM attempt JOIN run ON run.id = attempt.run
        WHERE run.kind = 'sft'";
    let store = crate::driver::database(&project);
    let mut found = store.prepare(sql).unwrap();
    let rows = found.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    let attempts: Vec<(i64, i64, String)> = rows.unwrap().map(Result::unwrap).collect();
    let [(began, ended, _), (also_began, also_ended, _)] = &attempts[..] else {
        panic!("{attempts:?}");
    };
    assert!(began < also_ended && also_began < ended, "{attempts:?}");
    for (_, _, run) in &attempts {
        let file = |name: &str| -> Value {
            serde_json::from_str(&project.read(&format!("results/runs/{}/{name}", &run[..12])))
                .unwrap()
        };
        let words = file("attempts/001/provenance.json")["argv"].to_string();
        assert!(
            words.contains(&format!("\"--card-memory\",\"{share}\"")),
            "{words}"
        );
        let taken = file("outcome.json")["result"]["usage"]["device_memory_bytes"].clone();
        // cuBLAS's working memory is the driver's share.
        let taken = taken.as_u64().unwrap() - (32 << 20);
        assert!(least / 2 < taken && taken <= share, "{taken} of {share}");
    }
}

#[test]
fn what_does_not_fit_the_part_of_a_card_is_told_and_not_started() {
    let project = two_runs();
    let on_card = |words: &[&str], memory: u64| {
        let words = [&["run", "sweeps/devices.toml", "--device", "cuda:0"], words].concat();
        let memory = memory.to_string();
        let vars = [("FAKE_CARDS", "1"), ("FAKE_MEMORY", &memory)];
        let mut command = pretending(&project, &words, &vars);
        command.env("LIONS_CUDA_LIB", pretended_cublas());
        said(command)
    };
    let refused = on_card(&["--runs-per-gpu", "2"], 2 * OF_THE_DRIVER);
    assert_eq!(refused.code, 1, "{refused:?}");
    let why = "2 runs on cuda:0: its 1.5 GiB leave each no more than the driver takes";
    assert!(refused.err.contains(why), "{refused:?}");
    let many = on_card(&["--runs-per-gpu", "2", "--jobs", "3"], 4 << 30);
    assert_eq!(many.code, 1, "{many:?}");
    assert!(
        many.err.contains("3 jobs on 1 GPU: each takes 2 runs"),
        "{many:?}"
    );
    assert!(!project.path("results/lions.db").exists());
    // The key of the project's file, and a share of a megabyte.
    project.write("lions.toml", "[backend.local]\nruns-per-gpu = 2\n");
    let small = on_card(&[], 2 * OF_THE_DRIVER + (2 << 20));
    assert_eq!(small.code, 100, "{small:?}");
    assert!(
        small.err.contains("GiB of a GPU, and a run may take 0.00"),
        "{small:?}"
    );
    assert!(crate::driver::attempts(&project, "sft").is_empty());
    let alone = on_card(&["--runs-per-gpu", "1"], 2 * OF_THE_DRIVER + (2 << 20));
    assert_eq!(alone.code, 0, "{alone:?}");
}
