//! What the command line changes in a sweep (`--set`), picks of it (`--where`, `--only`) and says without a file
//! (`--axis`), from the words to what is stored, compared and drawn.

use crate::project::Project;
use serde_json::Value;

/// The smoke sweep of a project, whose name is `smoke`.
const SMOKE: &str = "sweeps/smoke.toml";

fn ids(plan: &Value, stage: &str) -> Vec<String> {
    let runs = plan["runs"].as_array().unwrap().iter();
    let of_stage = runs.filter(|run| run["stage"] == stage);
    of_stage
        .map(|run| run["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_value_of_the_command_line_is_the_value_of_a_file() {
    let project = Project::new();
    let set = ["--set", "sft.recipe.optimizer.learning-rate=1e-3"];
    let plain = project.json(&["plan", SMOKE]);
    let plan = project.json(&[&["plan", SMOKE], set.as_slice()].concat());
    assert_eq!(
        plan["sweep"],
        "smoke+sft.recipe.optimizer.learning-rate=1e-3"
    );
    assert_ne!(ids(&plain, "sft"), ids(&plan, "sft"), "identity follows");
    // Written into the file, it names the same runs.
    let text = project.read(SMOKE);
    project.write(
        "sweeps/written.toml",
        format!("{text}\n[base.sft.recipe.optimizer]\nlearning-rate = 1e-3\n"),
    );
    let written = project.json(&["plan", "sweeps/written.toml"]);
    assert_eq!(plan["runs"], written["runs"]);
    // Where it comes from is told.
    let shown = project.lions(&[&["config", "show", SMOKE], set.as_slice()].concat());
    let mut lines = shown.out.lines();
    let line = lines.find(|line| line.ends_with("# --set:1"));
    let line = line.unwrap_or_else(|| panic!("{shown:?}"));
    assert!(line.starts_with("learning-rate = 0.001 "), "{line}");
    // A word needs no quotes, and a table is one value.
    let word = project.json(&["plan", SMOKE, "--set", "sft.recipe.batching=best-fit"]);
    let quoted = project.json(&["plan", SMOKE, "--set", "sft.recipe.batching=\"best-fit\""]);
    assert_eq!(word["runs"], quoted["runs"]);
    let table = project.json(&["plan", SMOKE, "--set", "sft.recipe.duration={ steps = 2 }"]);
    assert_ne!(ids(&table, "sft"), ids(&plain, "sft"));
}

#[test]
fn a_mistake_in_a_value_is_answered_as_in_a_file() {
    let project = Project::new();
    let refused = |set: &str, parts: &[&str]| {
        let said = project.lions(&["check", SMOKE, "--set", set]);
        assert_eq!(said.code, 1, "{set}: {said:?}");
        for part in parts {
            assert!(
                said.err.contains(part),
                "`{set}`: no `{part}` in {}",
                said.err
            );
        }
    };
    refused(
        "sft.recipe.learning-rate=1",
        &[
            "--set:1:12",
            "did you mean `sft.recipe.optimizer.learning-rate`?",
        ],
    );
    refused(
        "sft.recipe.batching=pded",
        &[
            "unknown value `pded`",
            "did you mean `padded`?",
            "--set:1:21",
        ],
    );
    refused(
        "sft.recipe.optimizer.learning-rate=-1",
        &["must be above 0"],
    );
    refused(
        "sft.recipe.optimizer.learning-rate=fast",
        &["expected a number"],
    );
    refused("sft.recipe.optimizer.learning-rate", &["`=` between them"]);
    refused("sft.recipe.duration=", &["no value behind the `=`"]);
    refused("sft.recipe.duration={ steps = 2", &["--set:1"]);
    refused(
        "eval.recipe.likelihood.tails=false",
        &["no set `tails` to leave out", "did you mean `tales`?"],
    );
    refused(
        "online-dpo.recipe.rounds=3",
        &["no trial runs `online-dpo`"],
    );
    refused(
        "dpo.recipe.beta=0.3",
        &["axis `beta` sets this in every trial"],
    );
    let said = project.lions(&["check", "sweeps/smoke.toml", "--json", "--set", "nonsense"]);
    let error: Value = serde_json::from_str(said.err.lines().next().unwrap()).unwrap();
    assert_eq!(error["findings"][0]["file"], "--set", "{said:?}");
}

#[test]
fn a_value_below_an_axis_is_refused_with_the_way_to_pick_trials() {
    let project = Project::new();
    let file = "extends = [\"base/mini.toml\"]\n[sweep]\nname = \"mask\"\nquestion = \"?\"\nseeds = [1]\n\
        [[axis]]\npath = \"sft.recipe.loss-mask\"\nvalues = [\"assistant-only\", \"all-tokens\"]\n";
    project.write("sweeps/mask.toml", file);
    let set = "sft.recipe.loss-mask=all-tokens";
    let said = project.lions(&["plan", "sweeps/mask.toml", "--set", set]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err
            .contains("axis `loss-mask` sets this in every trial"),
        "{said:?}"
    );
    assert!(
        said.err.contains("`--where loss-mask=…` picks trials"),
        "{said:?}"
    );
}

#[test]
fn an_inherited_set_is_left_out_by_false() {
    let project = Project::new();
    let metrics = |text: &str| {
        let head = "extends = [\"base/mini.toml\"]\n[sweep]\nname = \"less\"\nquestion = \"?\"\nseeds = [1]\n";
        project.write("sweeps/less.toml", format!("{head}{text}"));
        let said = project.lions(&["config", "show", "sweeps/less.toml"]);
        assert_eq!(said.code, 0, "{said:?}");
        said.out
    };
    assert!(metrics("").contains("[eval.recipe.likelihood.tales]"));
    let less = metrics("[base.eval.recipe.likelihood]\ntales = false\n");
    assert!(
        !less.contains("tales") && less.contains("likelihood.instruct"),
        "{less}"
    );
    project.edit("sweeps/less.toml", "tales = false", "tails = false");
    let said = project.lions(&["check", "sweeps/less.toml"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("did you mean `tales`?"), "{said:?}");
}

#[test]
fn a_part_of_a_sweep_is_run_and_the_rest_stays_to_do() {
    let project = Project::new();
    let text = "[base]\npipeline = [\"sft\", \"dpo\"]\n[base.sft.recipe]\nduration = { steps = 2 }\nseed = 1\n\
        [base.dpo.recipe]\nmax-examples = 8\nglobal-batch-size = 4\n\
        [base.eval.recipe.likelihood]\ntales = false\n\
        instruct = { data = [{ path = \"data/sft/instruct_test.jsonl\", count = 4 }] }\n\
        [[axis]]\npath = \"dpo.recipe.beta\"\nvalues = [0.05, 0.5]\n";
    let head = "extends = [\"base/mini.toml\"]\n[sweep]\nname = \"part\"\nquestion = \"Which part?\"\nseeds = [1, 2]\n\
        tags = [\"draft\"]\n";
    project.write("sweeps/part.toml", format!("{head}{text}"));
    let plan = project.json(&["plan", "sweeps/part.toml"]);
    let all = plan["runs"].as_array().unwrap().len();
    let stages = project.json(&["plan", "sweeps/part.toml", "--only", "sft"]);
    assert_eq!(
        stages["runs"].as_array().unwrap().len(),
        ids(&plan, "sft").len()
    );
    let picked = project.json(&[
        "plan",
        "sweeps/part.toml",
        "--where",
        "beta=0.5",
        "--where",
        "seed=2",
    ]);
    assert_eq!(picked["trials"].as_array().unwrap().len(), 1);

    let one = [
        "run",
        "sweeps/part.toml",
        "--jobs",
        "2",
        "--json",
        "--where",
        "beta=0.5",
    ];
    let said = project.lions(&[&one, ["--only", "dpo"].as_slice()].concat());
    assert_eq!(said.code, 0, "{said:?}");
    let last: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    // One checkpoint, one set of reference log-probabilities, two seeds.
    assert_eq!(
        (&last["summary"]["runs"], &last["summary"]["succeeded"]),
        (&4.into(), &4.into())
    );
    let status = project.json(&["status", "part", "--only", "dpo"]);
    let states: Vec<&Value> = status["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| &run["state"]["state"])
        .collect();
    assert_eq!(states.len(), 4);
    assert_eq!(
        states.iter().filter(|state| **state == "succeeded").count(),
        2
    );
    assert_eq!(status["tags"][0], "draft");

    // The same command without its filters does what is left, and nothing again.
    let rest = project.lions(&["run", "sweeps/part.toml", "--jobs", "2", "--json"]);
    assert_eq!(rest.code, 0, "{rest:?}");
    let last: Value = serde_json::from_str(rest.out.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["summary"]["runs"], &last["summary"]["reused"]),
        (&all.into(), &4.into())
    );
    let table = project.json(&["compare", "part", "--where", "beta=0.5"]);
    assert_eq!(table[0]["rows"].as_array().unwrap().len(), 1);

    // A sweep with a value changed stands beside it, and both in one table.
    let set = ["--set", "dpo.recipe.max-examples=16"];
    let said = project.lions(&[&["run", "sweeps/part.toml", "--quiet"], set.as_slice()].concat());
    assert_eq!(said.code, 0, "{said:?}");
    let other = "part+dpo.recipe.max-examples=16";
    assert!(
        project
            .path(format!("reports/{other}/index.html"))
            .is_file()
    );
    let both = project.json(&["compare", "part", other]);
    let rows = both[0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4, "{both}");
    let said = project.lions(&["compare", "part", other]);
    assert!(
        said.out.contains("All configurations of part and part+dpo"),
        "{said:?}"
    );
    assert!(project.json(&["status", other]).is_object());

    let noted = project.lions(&["note", "part", "β 0.5 is too much"]);
    assert_eq!(noted.code, 0, "{noted:?}");
    let status = project.lions(&["status", "part"]);
    assert!(
        status.out.contains("β 0.5 is too much") && status.out.contains("tags: draft"),
        "{status:?}"
    );
    assert_eq!(project.lions(&["report", "part"]).code, 0);
    let page = project.read("reports/part/index.html");
    assert!(
        page.contains("β 0.5 is too much") && page.contains("draft"),
        "the page has note and tag"
    );
    // Notes outlive the database.
    std::fs::remove_file(project.path("results/lions.db")).unwrap();
    assert_eq!(project.lions(&["store", "rebuild"]).code, 0);
    assert!(
        project
            .lions(&["note", "part"])
            .out
            .contains("β 0.5 is too much")
    );
}

#[test]
fn a_filter_that_fits_nothing_says_what_there_is() {
    let project = Project::new();
    let file = "extends = [\"base/mini.toml\"]\n[sweep]\nname = \"mask\"\nquestion = \"?\"\nseeds = [1, 2]\n\
        [[axis]]\npath = \"sft.recipe.loss-mask\"\nvalues = [\"assistant-only\", \"all-tokens\"]\n";
    project.write("sweeps/mask.toml", file);
    let refused = |words: &[&str], part: &str| {
        let said = project.lions(&[&["plan", "sweeps/mask.toml"], words].concat());
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(part), "no `{part}` in {said:?}");
    };
    refused(
        &["--where", "los-mask=all-tokens"],
        "did you mean `loss-mask`?",
    );
    refused(
        &["--where", "loss-mask=all-token"],
        "did you mean `all-tokens`?",
    );
    refused(
        &["--where", "seed=7"],
        "axis `seed` never has the value `7`",
    );
    refused(&["--where", "loss-mask"], "has no `=`");
    refused(&["--only", "dpo"], "no run of stage `dpo`");
    let said = project.lions(&["plan", "sweeps/mask.toml", "--only", "ppo"]);
    assert_eq!(said.code, 2, "{said:?}");
}

#[test]
fn a_sweep_is_told_on_the_command_line_and_kept_as_a_file() {
    let project = Project::new();
    let words = [
        "--base",
        "base/mini.toml",
        "--axis",
        "dpo.recipe.beta=0.01,0.5",
        "--seeds",
        "1,2",
        "--name",
        "quick",
        "--set",
        "sft.recipe.duration.steps=2",
        "--set",
        "dpo.recipe.global-batch-size=4",
    ];
    let plan = project.json(&[&["plan"], words.as_slice()].concat());
    assert_eq!(plan["trials"].as_array().unwrap().len(), 4);
    assert!(
        !project.path("sweeps/quick.toml").exists(),
        "`plan` writes nothing"
    );
    let said = project.lions(&[&["run", "--jobs", "2"], words.as_slice()].concat());
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("wrote sweeps/quick.toml"), "{said:?}");
    let name = "quick+dpo.recipe.global-batch-size=4+sft.recipe.duration.steps=2";
    assert!(
        project
            .path(format!("reports/{name}/figures/beta.svg"))
            .is_file(),
        "{said:?}"
    );
    // What was written is a sweep like any other.
    let checked = project.lions(&["check", "sweeps/quick.toml"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    // What it measures on is left out of what it trains on.
    assert!(!checked.err.contains("held out"), "{checked:?}");
    assert!(!said.err.contains("held out"), "{said:?}");
    let without = "recipe]\ndecontaminate = { preset = \"without-held-out\" }";
    for stage in ["sft", "dpo"] {
        let lines = format!("[base.{stage}.{without}\n");
        assert!(
            project.read("sweeps/quick.toml").contains(&lines),
            "{lines}"
        );
    }
    assert!(
        project
            .read("sweeps/quick.toml")
            .contains("pipeline = [\"sft\", \"dpo\"]")
    );
    let again = project.lions(&[&["run"], words.as_slice()].concat());
    assert_eq!(again.code, 0, "{again:?}");
    let other = words.map(|word| {
        if word == "dpo.recipe.beta=0.01,0.5" {
            "dpo.recipe.beta=0.2"
        } else {
            word
        }
    });
    let said = project.lions(&[&["run"], other.as_slice()].concat());
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("holds another sweep"), "{said:?}");
    let axis = |axis: &str, base: &str| {
        let said = project.lions(&["plan", "--axis", axis, "--base", base]);
        assert_eq!(said.code, 1, "{said:?}");
        said.err
    };
    let wrong = axis("dpo.recipe.btea=1", "base/mini.toml");
    assert!(wrong.contains("did you mean `dpo.recipe.beta`?"), "{wrong}");
    let wrong = axis("dpo.recipe.beta=1", "base/mni.toml");
    assert!(
        wrong.contains("base files here: ") && wrong.contains("sweeps/base/mini.toml"),
        "{wrong}"
    );
    let said = project.lions(&["plan", "--axis", "dpo.recipe.beta=1"]);
    assert!(said.err.contains("needs to know on which base"), "{said:?}");
}
