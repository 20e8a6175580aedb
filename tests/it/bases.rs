//! The quickstart on the bases of large models, whose weights and data are not there.

use crate::project::Project;

/// What `plan` says up to its list of runs, and its warnings.
fn planned(project: &Project, base: &str, words: &[&str]) -> (String, String) {
    let base = format!("base/{base}.toml");
    let plan = ["plan", "sweeps/quickstart.toml", "--base", &base];
    let said = project.lions(&[&plan, words].concat());
    assert_eq!(said.code, 0, "{said:?}");
    let head = said.out.split("\nrun ").next().unwrap();
    (head.trim_end().to_owned(), said.err)
}

fn quickstart() -> Project {
    let project = Project::new();
    project.write(
        "sweeps/quickstart.toml",
        include_str!("../../sweeps/quickstart.toml"),
    );
    project
}

#[test]
fn a_study_is_planned_on_a_base_without_its_weights_and_data() {
    let project = quickstart();
    let (gemma, warnings) = planned(&project, "gemma-2b", &[]);
    // By hand: the model, nine sets of conversations, eight of pairs, the held-out conversations.
    assert!(gemma.contains("rests on assumptions: 19 inputs"), "{gemma}");
    assert!(gemma.contains("(one A100-80GB at 40 % of peak)"), "{gemma}");
    assert!(!gemma.contains("does not fit"), "{gemma}");
    assert!(
        warnings.contains(
            "data file `data/lion/dpo/Nectar.parquet` is not there (data set \
             Columbia-NLP/DPO-Nectar, split train)"
        ),
        "{warnings}"
    );
    let (llama, _) = planned(&project, "llama-3-8b", &["--gpu", "h100", "--mfu", "0.5"]);
    assert!(llama.contains("rests on assumptions: 18 inputs"), "{llama}");
    assert!(llama.contains("(one H100-80GB at 50 % of peak)"), "{llama}");
    let streamed =
        "sft fits one H100-80GB with the optimiser's state in the host's memory: 74.6 GiB there";
    assert!(llama.contains(streamed), "{llama}");
    let shared = ["--gpu", "a100", "--runs-per-gpu", "8"];
    let (shared, _) = planned(&project, "gemma-2b", &shared);
    let too_small = "sft does not fit one A100-80GB beside others";
    assert!(shared.contains(too_small), "{shared}");
    assert!(shared.contains("each of 8 runs has 9.0 GiB"), "{shared}");
    let (custom, _) = planned(&project, "gemma-2b", &["--device-flops", "400e12"]);
    assert!(
        custom.contains("one device of 400.0 TFLOP/s at 40 % of peak"),
        "{custom}"
    );
    assert!(gemma.contains("hours are not calibrated"), "{gemma}");
    // As `lions bench` prints it: 46 % of the peak.
    let bench = r#"{"bench": "train", "flops_per_wall_sec": 454.94e12, "steps": 8, "parameters": 2506172416, "precision": "bf16",
        "device": {"name": "NVIDIA H200", "total_memory_bytes": 150754820096, "share_of_peak": 0.46}}"#;
    project.write("bench.json", bench);
    let file = project.path("bench.json");
    let by_bench = ["--bench", file.to_str().unwrap()];
    let (measured, said) = planned(&project, "gemma-2b", &by_bench);
    let words = "(one H200-141GB at 40 % of peak; as measured: sft 46 %)";
    assert!(measured.contains(words), "{measured}");
    assert!(!measured.contains("not calibrated"), "{measured}");
    assert!(!said.contains("bench.json"), "{said}");
    // Of another number format nothing is told, and of a model of another size it is said.
    project.write("bench.json", bench.replace("bf16", "f32"));
    let (measured, said) = planned(&project, "gemma-2b", &by_bench);
    assert!(measured.contains("not calibrated"), "{measured}");
    assert!(
        said.contains("was measured in f32 and sft computes in bf16: no hours are told by it"),
        "{said}"
    );
    project.write("bench.json", bench.replace("2506172416", "260032"));
    let (measured, said) = planned(&project, "gemma-2b", &by_bench);
    assert!(measured.contains(words), "{measured}");
    assert!(
        said.contains("was measured on 260.0k parameters and sft has a model of 2.5G"),
        "{said}"
    );
    // What the project's runs share, its plans count.
    project.write("lions.toml", "[backend.local]\nruns-per-gpu = 8\n");
    let (shared, _) = planned(&project, "gemma-2b", &["--gpu", "a100"]);
    assert!(shared.contains("each of 8 runs has 9.0 GiB"), "{shared}");
    let (alone, _) = planned(
        &project,
        "gemma-2b",
        &["--gpu", "a100", "--runs-per-gpu", "1"],
    );
    assert!(!alone.contains("does not fit"), "{alone}");
    project.write("lions.toml", "");
    project.write("bench.json", bench.replace("H200", "X1"));
    let words = ["plan", "sweeps/quickstart.toml", by_bench[0], by_bench[1]];
    let refused = project.lions(&words);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused
            .err
            .contains("nothing is known of the GPU `NVIDIA X1`"),
        "{refused:?}"
    );
    let own = project.lions(&["plan", "sweeps/quickstart.toml"]);
    assert!(!own.out.contains("GPU-hours"), "{}", own.out);
}

#[test]
fn the_numbers_of_a_plan_are_there_for_programs() {
    let project = quickstart();
    let plan = project.json(&[
        "plan",
        "sweeps/quickstart.toml",
        "--base",
        "base/gemma-2b.toml",
    ]);
    assert_eq!(plan["sweep"], "quickstart@gemma-2b");
    assert_eq!(plan["device"]["gpu"], "A100-80GB");
    let hours = |run: &serde_json::Value| run["gpu_hours"].as_f64().unwrap();
    let runs = plan["runs"].as_array().unwrap();
    let sum: f64 = runs.iter().map(hours).sum();
    let total = plan["device"]["hours"].as_f64().unwrap();
    assert!((sum / total - 1.0).abs() < 1e-9, "{sum} {total}");
    let assumed = plan["assumed"].as_array().unwrap();
    assert!(assumed.contains(&"models/gemma-2b".into()), "{assumed:?}");
    assert_eq!(plan["missing"].as_array().unwrap().len(), assumed.len());
}

#[test]
fn check_and_run_refuse_what_is_missing_and_say_where_it_comes_from() {
    let project = quickstart();
    for command in ["check", "run"] {
        let said = project.lions(&[
            command,
            "sweeps/quickstart.toml",
            "--base",
            "base/llama-3-8b.toml",
        ]);
        assert_eq!(said.code, 1, "{said:?}");
        for text in [
            "there is no model folder `models/llama-3-8b`",
            "meta-llama/Meta-Llama-3-8B",
            "there is no data file `data/lion/sft/capybara.parquet`",
            "data set HuggingFaceH4/capybara, split train_sft",
        ] {
            assert!(said.err.contains(text), "`{text}` is not in {}", said.err);
        }
    }
}

#[test]
fn results_on_another_base_have_a_name_of_their_own() {
    let project = Project::new();
    let base = project.read("sweeps/base/mini.toml");
    let half = base.replace("duration = { steps = 50 }", "duration = { steps = 2 }");
    project.write("sweeps/base/half.toml", half);
    let words = [
        "sweeps/smoke.toml",
        "--base",
        "base/half.toml",
        "--jobs",
        "2",
    ];
    let said = project.lions(&[&["run"], &words[..]].concat());
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(project.json(&["status"])[0]["name"], "smoke@half");
    assert!(project.path("reports/smoke@half/index.html").is_file());
    let by_file = project.lions(&["compare", "sweeps/smoke.toml", "--base", "base/half.toml"]);
    let by_name = project.lions(&["compare", "smoke@half"]);
    assert_eq!((by_file.code, by_name.code), (0, 0), "{by_file:?}");
    assert_eq!(by_file.out, by_name.out);
    assert_eq!(project.lions(&["compare", "smoke"]).code, 1);
}
