//! The mistakes of a first day: `lions check` says of each where it stands and what to write instead.

use crate::project::Project;

const STUDY: &str = r#"extends = ["base/mini.toml"]

[sweep]
name = "study"
question = "What is said of a mistake?"
seeds = [1, 2]

[base]
pipeline = ["sft", "dpo"]

[base.sft.recipe]
max-seq-len = 256

[base.dpo.recipe]
data = [{ path = "data/mine/pairs.jsonl" }]
loss = "sigmoid"
optimizer = { learning-rate = 1e-4 }
schedule = { warmup-ratio = 0.1 }
duration = { epochs = 2 }
lora = { rank = 2, alpha = 4, targets = ["q_proj"] }

[base.eval.recipe.preference.polite]
data = [{ path = "data/pref/polite_test.jsonl" }]
limits = { max-seq-len = 512, max-prompt-len = 256, truncation = "keep-end" }

[[axis]]
path = "dpo.recipe.beta"
values = [0.1, 0.5]

[[report.table]]
name = "main"
title = "Pull to the reference"
metrics = ["polite/rewards/accuracies"]
baseline = { beta = 0.1 }

[[report.figure]]
name = "beta"
title = "Accuracy over β"
kind = "lines"
metric = "polite/rewards/accuracies"
x = "beta"
"#;

const FILE: &str = "sweeps/mine.toml";

fn pairs() -> String {
    let row = |n| {
        format!(
            "{{\"prompt\": \"Name fruit {n}.\", \"chosen\": \"A plum.\", \"rejected\": \"No {n}.\"}}\n"
        )
    };
    (0..20).map(row).collect()
}

fn project() -> Project {
    let project = Project::new();
    project.write("data/mine/pairs.jsonl", pairs());
    project.write(FILE, STUDY);
    project
}

/// What is wrong with the answer of `lions check`, if something is: it must name the place and the remedy.
fn fault(
    project: &Project,
    file: &str,
    (code, place, remedy): (i32, &str, &str),
) -> Option<String> {
    let said = project.lions(&["check", file]);
    let good = said.code == code && said.err.contains(place) && said.err.contains(remedy);
    (!good).then(|| format!("wanted {code}, `{place}`, `{remedy}`:\n{}", said.err))
}

/// What is replaced by what in the study, the place, and the remedy.
type Mistake = (&'static str, &'static str, &'static str, &'static str);

const MISTAKES: &[Mistake] = &[
    // Words and values.
    (
        "learning-rate = 1e-4",
        "learing-rate = 1e-4",
        "17:15",
        "did you mean `learning-rate`?",
    ),
    (
        "[base.dpo.recipe]",
        "[base.dpo.recipie]",
        "14:11",
        "did you mean `recipe`?",
    ),
    (
        "\"sigmoid\"",
        "\"sigmod\"",
        "16:8",
        "did you mean `sigmoid`?",
    ),
    (
        "\"sigmoid\"",
        "\"dpo\"",
        "16:8",
        "DPO's loss is called `sigmoid`",
    ),
    (
        "values = [0.1, 0.5]",
        "values = [0.1, \"0.5\"]",
        "28:16",
        "write `0.5` without quotes",
    ),
    (
        "values = [0.1, 0.5]",
        "values = [0.1, -0.5]",
        "28:16",
        "usual are 0.01 to 0.5",
    ),
    (
        "loss = \"sigmoid\"",
        "max_examples = 16",
        "16:1",
        "did you mean `max-examples`?",
    ),
    (
        "data/pref/polite_test.jsonl",
        "data/pref/polite_tset.jsonl",
        "23:18",
        "did you mean `data/pref/polite_test.jsonl`?",
    ),
    // Metrics, axes and what names them.
    (
        "metrics = [\"polite/rewards/accuracies\"]",
        "metrics = [\"polite/rewards/accuracy\"]",
        "33:12",
        "did you mean `polite/rewards/accuracies`?",
    ),
    (
        "metric = \"polite/rewards/accuracies\"",
        "metric = \"polite/accuracy\"",
        "40:10",
        "valid are `instruct/loss`, `instruct/perplexity`, ",
    ),
    (
        "metrics = [\"polite/rewards/accuracies\"]",
        "metrics = [\"test/rewards/accuracies\"]",
        "33:12",
        "did you mean `polite/rewards/accuracies`?",
    ),
    (
        "baseline = { beta = 0.1 }",
        "baseline = { beta = 0.2 }",
        "34:21",
        "did you mean `0.1`?",
    ),
    (
        "baseline = { beta = 0.1 }",
        "baseline = { bta = 0.1 }",
        "34:14",
        "did you mean `beta`?",
    ),
    (
        "values = [0.1, 0.5]",
        "values = { preset = \"beta\" }",
        "28:21",
        "did you mean `betas`?",
    ),
    (
        "values = [0.1, 0.5]",
        "values = [0.1, 0.5]\nwhen = { stage = \"dpo\" }",
        "29:10",
        "no axis stands before this one; remove the condition, or put an `[[axis]]` called `stage` above",
    ),
    (
        "[[report.table]]",
        "[[axis]]\npath = \"online-dpo.recipe.dpo.beta\"\nvalues = [0.1]\n\n[[report.table]]",
        "31:31",
        "give one of them a `name`",
    ),
    ("seeds = [1, 2]", "seeds = []", "6:9", "name one at least"),
    (
        "seeds = [1, 2]",
        "seeds = [1, 1]",
        "6:13",
        "remove one of the two",
    ),
    (
        "values = [0.1, 0.5]",
        "values = [0.1, 0.1]",
        "28:16",
        "remove one of the two",
    ),
    (
        "[base.sft.recipe]",
        "[base.model]\npath = \"models/storis260k\"\n\n[base.sft.recipe]",
        "12:8",
        "did you mean `models/stories260k`?",
    ),
    (
        "\"dpo.recipe.beta\"",
        "\"dpo.recipe.betta\"",
        "27:20",
        "did you mean `dpo.recipe.beta`?",
    ),
    (
        "\"dpo.recipe.beta\"",
        "\"dpo.beta\"",
        "27:13",
        "did you mean `dpo.recipe.beta`?",
    ),
    (
        "[\"sft\", \"dpo\"]",
        "[\"sft\", \"ppo\"]",
        "9:20",
        "did you mean `dpo`?",
    ),
    (
        "[\"sft\", \"dpo\"]",
        "[\"dpo\", \"sft\"]",
        "9:20",
        "write `[\"sft\", \"dpo\"]`",
    ),
    (
        "x = \"beta\"",
        "x = \"betas\"",
        "41:5",
        "did you mean `beta`?",
    ),
    (
        "base/mini.toml",
        "base/mimi.toml",
        "1:12",
        "did you mean `mini.toml`?",
    ),
    // The form of the file, and numbers.
    (
        "x = \"beta\"",
        "x = \"beta",
        "41:10",
        "close the string with `\"` where it ends",
    ),
    (
        "warmup-ratio = 0.1",
        "warmup-ratio = 3",
        "18:29",
        "it is a share of all steps; usual are 0 to 0.2",
    ),
    (
        "[\"q_proj\"]",
        "[\"q_prj\"]",
        "20:42",
        "did you mean `q_proj`?",
    ),
    (
        "{ epochs = 2 }",
        "{ epochs = 2, steps = 4 }",
        "19:26",
        "keep one of them: `{ epochs = … }` or `{ steps = … }`",
    ),
    (
        "max-seq-len = 256\n\n",
        "max-seq-len = 4096\n\n",
        "12:15",
        "write 512 or less",
    ),
    (
        "values = [0.1, 0.5]",
        "values = []",
        "28:10",
        "name one at least",
    ),
    (
        "limits = { max-seq-len = 512, max-prompt-len = 256",
        "limits = { max-seq-len = 512, max-prompt-len = 1024",
        "24:48",
        "lower `max-prompt-len`, or raise `max-seq-len` above 1024",
    ),
    (
        "loss = \"sigmoid\"",
        "max-examples = 5000",
        "16:16",
        "write 20 or less, or leave it out to use all",
    ),
    (
        "kind = \"lines\"",
        "kind = \"line\"",
        "39:8",
        "did you mean `lines`?",
    ),
    (
        "name = \"study\"",
        "name = \"my/study\"",
        "4:8",
        "for example `my-study`",
    ),
    (
        "learning-rate = 1e-4",
        "learning-rate = 0",
        "17:31",
        "usual are 1e-6 to 1e-3, and up to 1e-2 for small models and adapters",
    ),
    (
        "loss = \"sigmoid\"",
        "micro-batch-tokens = 512",
        "16:1",
        "did you mean `dpo.runtime.micro-batch-tokens`?",
    ),
];

#[test]
fn every_mistake_in_a_sweep_file_has_its_place_and_remedy() {
    let project = project();
    let said = project.lions(&["check", FILE]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    let mut faults = Vec::new();
    for (from, to, place, remedy) in MISTAKES {
        assert!(STUDY.contains(from), "{from}");
        project.write(FILE, STUDY.replacen(from, to, 1));
        let place = format!("--> {FILE}:{place}\n");
        faults.extend(fault(&project, FILE, (1, &place, remedy)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_sweep_file_that_is_not_utf8_or_outside_a_project_has_its_place_and_remedy() {
    let project = project();
    let bytes = STUDY.replacen("What is", "What \0 is", 1).into_bytes();
    let bytes: Vec<u8> = bytes
        .iter()
        .map(|b| if *b == 0 { 0xff } else { *b })
        .collect();
    project.write(FILE, bytes);
    let wanted = (1, "--> sweeps/mine.toml:5:18\n", "save the file as UTF-8");
    assert_eq!(fault(&project, FILE, wanted), None);

    project.write("mine.toml", STUDY);
    let remedy = "paths in `extends` begin at the folder of the file that names them";
    let wanted = (1, "--> mine.toml:1:12\n", remedy);
    assert_eq!(fault(&project, "mine.toml", wanted), None);
}

#[test]
fn every_mistake_in_the_data_has_its_place_and_remedy() {
    let project = project();
    let good = pairs();
    let line = good.lines().nth(16).unwrap();
    let mut bytes = good.clone().into_bytes();
    bytes[good.find(line).unwrap() + 30] = 0xff;
    let with = |to: &str| good.replace(line, to).into_bytes();
    let mut faults = Vec::new();
    for (text, place) in [
        (with(&line[..line.len() - 1]), "17:70: "),
        (bytes, "17:31: "),
        (with(&line.replace("A plum.", "")), "17: "),
        (with(r#"{"prompt": "Q", "chosen": "A"}"#), "17: "),
    ] {
        project.write("data/mine/pairs.jsonl", text);
        let place = format!("data/mine/pairs.jsonl:{place}");
        let wanted = (1, place.as_str(), "fix the row or take it out");
        faults.extend(fault(&project, FILE, wanted));
    }
    project.write("data/mine/pairs.jsonl", good);
    // What is held out is trained on: a warning.
    project.edit(FILE, "data/pref/polite_test.jsonl", "data/mine/pairs.jsonl");
    let remedy = "measure on other rows, or leave these out of training with `decontaminate";
    let wanted = (0, "warning: sweeps/mine.toml:23:8: ", remedy);
    faults.extend(fault(&project, FILE, wanted));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
