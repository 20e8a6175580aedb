//! Sessions with the commands that change what is stored, or look at the machine: `cancel`, `retry`, `pause`,
//! `resume`, `priority`, `gc`, `rm`, `store`, `merge`, `eval`, `bench`, `doctor`.

use crate::session::Study;
use insta::assert_snapshot;

#[test]
fn cancelled_and_failed_runs_go_back_into_the_queue() {
    assert_snapshot!(
        "cancel_retry",
        Study::copied().session(&[
            "cancel broken",
            "cancel <dpo>",
            "retry broken",
            "status",
            "cancel <failed>",
            "why <failed>",
            "retry <failed> <dpo> --json",
            "cancel broken --json",
            "cancel",
            "cancel nope",
            "retry",
            "retry nope",
        ])
    );
}

#[test]
fn a_sweep_is_noted_and_a_recipe_goes_out() {
    assert_snapshot!(
        "note_export_recipe",
        Study::copied().session(&[
            "note study first",
            "note study",
            "note study --json",
            "status study --only dpo --where rate=0.01",
            "note nope first",
            "note",
            "export-recipe <dpo>",
            "export-recipe <sft> --json",
            "export-recipe <eval>",
            "export-recipe",
            "man pages",
            "man",
            "completions cmd",
        ])
    );
}

#[test]
fn the_queue_is_told_what_waits_what_goes_first_and_what_may_go() {
    assert_snapshot!(
        "queue",
        Study::copied().session(&[
            "pause broken <failed>",
            "pause broken",
            "status",
            "why <failed>",
            "pause nope",
            "pause",
            "resume broken <failed> --json",
            "resume broken",
            "resume nope",
            "priority broken 3",
            "priority <failed> 3",
            "priority broken",
            "status",
            "gc",
            "gc broken --json",
            "gc nope",
            "rm broken",
            "rm nope",
            "rm broken --yes --json",
            "status",
            "retry --failed",
        ])
    );
}

#[test]
fn a_database_is_made_anew_from_the_run_folders() {
    let study = Study::copied();
    study
        .project
        .write("results/runs/0123456789ab/identity.json", "{");
    assert_snapshot!(
        "store",
        study.session(&[
            "store verify",
            "store rebuild",
            "status",
            "why <dpo>",
            "store rebuild --json",
            "store",
            "store nope",
            "store rebuild nope",
        ])
    );
    study.project.write("results/lions.db", "not a database");
    assert_snapshot!(
        "store_damaged",
        study.session(&["status", "run sweeps/study.toml", "store rebuild"])
    );
}

#[test]
fn adapters_are_merged_into_their_model() {
    let study = Study::copied();
    let run = format!("results/runs/{}/artifacts", &study.id("broken-dpo")[..12]);
    let base = format!("results/runs/{}/artifacts/model", &study.id("sft")[..12]);
    let merge = format!("merge {run}/adapter --model {base} --out merged");
    let said = study.project.lions(&merge.split(' ').collect::<Vec<_>>());
    assert_eq!(
        (said.code, said.out.as_str()),
        (0, "5 weights adapted: merged\n"),
        "{said:?}"
    );
    assert_eq!(
        std::fs::read(study.project.path("merged/model.safetensors")).unwrap(),
        std::fs::read(study.project.path(format!("{run}/model/model.safetensors"))).unwrap(),
        "the merged model is the one that the run wrote"
    );
    std::fs::rename(
        study.project.path(format!("{run}/adapter")),
        study.project.path("adapter"),
    )
    .unwrap();
    assert_snapshot!(
        "merge",
        study.session(&[
            "merge adapter --model models/stories260k --out again --json",
            "merge adapter --model models/stories260k --out merged",
            "merge",
            "merge nope --model models/stories260k --out new",
            "merge adapter --model nope --out new",
            "merge models --model models/stories260k --out new",
        ])
    );
    assert!(!study.project.path("new").exists());
}

#[test]
fn a_trained_model_is_exported_in_the_format_of_its_training() {
    let study = Study::copied();
    assert_snapshot!(
        "export",
        study.session(&[
            "store verify",
            "export <sft> --out mine --precision bf16",
            "export <sft> --out again --json",
            "export <sft> --out again",
            "export <sft> --out new --step 7",
            "export nope --out new",
            "export",
        ])
    );
    let size = |path: &str| std::fs::metadata(study.project.path(path)).unwrap().len();
    let (half, whole) = (
        size("mine/model.safetensors"),
        size("again/model.safetensors"),
    );
    assert!(
        (1.9..2.1).contains(&(whole as f64 / half as f64)),
        "{half} {whole}"
    );
    assert!(study.project.read("mine/config.json").contains("bfloat16"));
    let model = format!("results/runs/{}/artifacts/model", &study.id("sft")[..12]);
    assert_eq!(
        std::fs::read(study.project.path("again/model.safetensors")).unwrap(),
        std::fs::read(study.project.path(format!("{model}/model.safetensors"))).unwrap(),
    );
    assert!(!study.project.path("new").exists());
}

#[test]
fn a_checkpoint_is_asked_the_questions_of_tasks() {
    let study = Study::copied();
    study.project.write(
        "tasks/lands.toml",
        "data = [\"data/lands.jsonl\"]\n\
         prompt = \"The capital of {{ land }} is\"\n\
         request = { choices = { of = \"['Paris', 'Tokyo']\" } }\n\
         target = \"['Paris', 'Tokyo'].index(city)\"\n\
         score = [\"acc\"]\n",
    );
    let rows =
        "{\"land\": \"France\", \"city\": \"Paris\"}\n{\"land\": \"Japan\", \"city\": \"Tokyo\"}\n";
    study.project.write("data/lands.jsonl", rows);
    assert_snapshot!(
        "eval",
        study.session(&[
            "eval models/stories260k --tasks tasks/lands.toml --out scores",
            "eval models/stories260k --tasks tasks/lands.toml --out scores --json",
            "eval models/stories260k --tasks gsm8 --out new",
            "eval models/stories260k --tasks gsm8k --out new",
            "eval nope --tasks tasks/lands.toml --out new",
            "eval",
        ])
    );
    assert!(
        study
            .project
            .read_dated("scores", "samples_lands", ".jsonl")
            .contains("Tokyo")
    );
    assert!(!study.project.path("new").exists());
}

#[test]
fn doctor_looks_at_the_machine_and_the_project() {
    let study = Study::copied();
    assert_snapshot!("doctor", study.session(&["doctor --json", "doctor nope"]));
    study.project.write("models/notes/README", "no model");
    let said = study.project.lions(&["doctor"]);
    assert_eq!(said.code, 1, "{said:?}");
    let table = said.out;
    let what = |line: &str| line[5..].split("  ").next().unwrap().to_owned();
    let looked_at: Vec<String> = table.lines().map(what).collect();
    assert_eq!(
        looked_at[..4],
        ["lions", "results", "disk", "file system"],
        "{table}"
    );
    assert_eq!(
        looked_at[4..],
        ["processor", "memory", "gpu", "model", "model"],
        "{table}"
    );
    assert!(table.contains("bad  model        notes: "), "{table}");
    assert!(
        table.contains("ok   model        stories260k: 512 tokens"),
        "{table}"
    );
}

#[test]
fn bench_measures_each_kind_of_work() {
    let study = Study::shared();
    let short = "--steps 1 --warmup 0 --max-seq-len 128";
    assert_snapshot!(
        "bench",
        study.session(&[
            &format!("bench train {short} --batch-tokens 256 --json"),
            &format!("bench dpo {short} --pairs 2 --json"),
            "bench generate --prompts 2 --samples 1 --max-new-tokens 4 --json",
            "bench",
            "bench fly",
            "bench train --model nope",
            "bench train --data nope.jsonl",
            "bench train --shape 16m",
            "bench train --shape 15m --model models/stories260k",
            "bench train --steps 0",
        ])
    );
    let words = format!("bench train {short} --batch-tokens 256");
    let said = study.project.lions(&words.split(' ').collect::<Vec<_>>());
    let first = said.out.lines().next().unwrap_or_default();
    let start = "train models/stories260k, 260.0k parameters, f32, ";
    assert!(
        said.code == 0 && first.starts_with(start) && first.ends_with(", 1 thread, 1 step"),
        "{said:?}"
    );
    let speed = regex::Regex::new(r"(?m)^\d+\.\d [MGT]FLOP/CPU s, ").unwrap();
    assert!(speed.is_match(&said.out), "{said:?}");
    let lacking = study.project.lions(&["bench", "train", "--isa", "avx9000"]);
    let why = "`avx9000` is no instruction set of this processor; it has ";
    assert!(
        lacking.code == 1 && lacking.err.contains(why) && lacking.err.contains("`baseline`"),
        "{lacking:?}"
    );
    for row in [
        "real tokens ",
        "documents ",
        "step ",
        "peak memory ",
        "loss ",
        "phase ",
        "forward ",
    ] {
        assert!(
            said.out.lines().any(|line| line.starts_with(row)),
            "{row}: {}",
            said.out
        );
    }
}
