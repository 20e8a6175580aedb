//! What tables, claims, plans and checks say of how sure a number is, by the commands.

use crate::project::Project;
use crate::tiny;

/// Whole pipelines, four seeds, three rates: two of them as good as equal, the third one ruins the weights.
const TOLD: &str = r#"extends = ["base/mini.toml"]
[sweep]
name = "told"
question = "Which rate learns?"
seeds = [1, 2, 3, 4]
[base]
pipeline = ["sft"]
[base.sft.recipe]
max-seq-len = 256
batch = { tokens = 512 }
duration = { steps = 2 }
[base.eval.recipe]
likelihood.tales = { data = [{ path = "data/sft/stories_test.jsonl", count = 8 }], max-seq-len = 128 }
[[axis]]
name = "rate"
path = "sft.recipe.optimizer.learning-rate"
values = [1e-4, 1.0001e-4, 5e-2]
[report.delta]
"tales/loss" = 0.05
[[report.claim]]
statement = "A rate that is too high raises the loss"
metric = "tales/loss"
ours = { rate = 5e-2 }
baseline = { rate = 1e-4 }
direction = "higher"
[[report.claim]]
statement = "The highest rate learns fastest."
metric = "tales/loss"
ours = { rate = 5e-2 }
baseline = { rate = 1e-4 }
direction = "lower"
[[report.claim]]
statement = "A hundredth of a percent does not matter"
metric = "tales/loss"
ours = { rate = 1.0001e-4 }
baseline = { rate = 1e-4 }
direction = "equal"
[[report.table]]
name = "rate"
title = "Rates"
metrics = ["tales/loss", "tales/perplexity", "training/steps"]
baseline = { rate = 1e-4 }
[[report.figure]]
name = "rate"
title = "Loss by rate"
kind = "bars"
metric = "tales/loss"
caption = "Held-out stories"
"#;

/// Claims stand first, in words; tables say how sure they are, what a seed repeats and what would help; the
/// plan says what the seeds and rows can see.
#[test]
fn a_study_says_what_became_of_its_claims_and_how_sure_it_is() {
    let project = Project::new();
    project.write("sweeps/told.toml", TOLD);
    let plan = |project: &Project| project.lions(&["plan", "sweeps/told.toml"]).out;
    let before = plan(&project);
    let assumed = "table rate, tales/loss: with 4 seeds a true difference of ";
    assert!(before.contains(assumed), "{before}");
    assert!(
        before.contains(
            "(assumed noise: that of the loss on held-out instructions on the shipped model, "
        ),
        "{before}"
    );

    let run = project.lions(&["run", "sweeps/told.toml", "--jobs", "2"]);
    assert_eq!(run.code, 0, "{run:?}");
    let compared = project.lions(&["compare", "told"]).out;
    for claim in [
        "A rate that is too high raises the loss: supported: rate=0.05 against rate=0.0001 +",
        "The highest rate learns fastest: contradicted: rate=0.05 against rate=0.0001 +",
        "A hundredth of a percent does not matter: supported: rate=0.00010001 against rate=0.0001",
    ] {
        assert!(
            run.out.contains(claim) && compared.contains(claim),
            "{run:?}\n{compared}"
        );
    }
    assert_eq!(
        compared.matches("(Holm over 3 claims)").count(),
        3,
        "{compared}"
    );
    verdicts_are_those_of_the_intervals(&project);
    captions_say_what_is_known(&project, &compared);

    let after = plan(&project);
    let known = "table rate, tales/loss: with 4 seeds and ";
    assert!(
        after.contains(known) && after.contains("(noise of earlier results)"),
        "{after}"
    );
    assert!(after.contains("0.05 takes "), "{after}");
    let told = project.json(&["plan", "sweeps/told.toml"]);
    assert_eq!(told["power"].as_array().unwrap().len(), 1, "{told}");
}

/// No interval without zero is called unresolved, none with zero better or worse; constants have no test.
fn verdicts_are_those_of_the_intervals(project: &Project) {
    let tables = project.json(&["compare", "told"]);
    let rows = tables[0]["rows"].as_array().unwrap();
    let cell = |row: usize, metric: usize| &rows[row]["results"][metric];
    assert_eq!(cell(1, 0)["verdict"], "equivalent", "{tables}");
    assert_eq!(cell(2, 0)["verdict"], "worse", "{tables}");
    assert_eq!(cell(2, 1)["verdict"], "worse", "{tables}");
    for row in [1, 2] {
        for metric in [0, 1] {
            let found = &cell(row, metric)["comparison"];
            let end = |name: &str| found["interval"][name].as_f64().unwrap();
            let holds_zero = end("low") <= 0.0 && end("high") >= 0.0;
            let open = ["equivalent", "unresolved"]
                .contains(&cell(row, metric)["verdict"].as_str().unwrap());
            assert_eq!(open, holds_zero, "{found}");
            assert_eq!(open, found["p_family"].as_f64().unwrap() >= 0.05, "{found}");
        }
        assert_eq!(cell(row, 2)["verdict"], "untested", "{tables}");
        assert!(cell(row, 2)["interval"].is_null(), "{tables}");
    }
}

fn captions_say_what_is_known(project: &Project, compared: &str) {
    assert_eq!(project.lions(&["report", "told"]).code, 0);
    let page = project.read("reports/told/report.md");
    let figure = project.read("reports/told/figures/rate.json");
    let replication = "Unit of replication: the whole pipeline; every seed trains each stage anew.";
    assert!(
        figure.contains(replication) && figure.contains("Held-out stories. Mean negative"),
        "{figure}"
    );
    for said in [
        replication,
        "95 % interval for new seeds and new rows (8 rows)",
        "4 paired seeds, their variance pooled with 3 degrees of freedom; 8 evaluation rows",
        "In 95 % of tables all 2 intervals of a column hold the true differences",
        "(±0.05 of ",
        "Comparisons that the sweep file does not claim are exploratory.",
        "would be seen four times in five",
        "The same at every seed, so without interval, mark or test: training/steps.",
        "the seeds of rate=0.05 differ far more than the others': their variance is not pooled.",
    ] {
        // A page calls metrics by their names.
        let on_page = said.replace("training/steps", "training steps");
        assert!(
            page.contains(&on_page) && compared.contains(said),
            "`{said}`:\n{page}\n{compared}"
        );
    }
    for said in [
        "How often the test is wrong on these results: ",
        "Rates: loss on tales: ",
        "each split at random in halves of 2 seeds).",
    ] {
        assert!(page.contains(said), "`{said}`:\n{page}");
    }
    let (claims, tables) = (page.find("**supported**"), page.find("## Tables"));
    assert!(claims.unwrap() < tables.unwrap(), "{page}");
    let claimed = project.read("reports/told/claims.csv");
    let lines: Vec<&str> = claimed.lines().collect();
    assert_eq!(lines.len(), 4, "{claimed}");
    assert!(
        lines[0].starts_with("statement,metric,ours,baseline,direction,pairs,verdict,"),
        "{claimed}"
    );
    assert!(lines[2].contains(",lower,1,contradicted,"), "{claimed}");
}

/// Halves of seeds differ by nothing: the check says how often the test finds something.
#[test]
fn the_test_is_checked_on_the_users_own_rows() {
    let project = Project::new();
    project.write(
        "sweeps/told.toml",
        TOLD.replace("1e-4, 1.0001e-4, 5e-2", "1e-4, 2e-4, 5e-2")
            .replace("1.0001e-4", "2e-4"),
    );
    tiny::run(&project, "told");
    let said = project.lions(&["compare", "told", "--null"]);
    assert!(
        said.out.contains(" % false alarms in 600 comparisons, where 5 % are due, by chance up to 33 % (3 configurations, each split at random in halves of 2 seeds)"),
        "{said:?}"
    );
    let columns = project.json(&["compare", "told", "--null"]);
    let check = &columns[0]["check"];
    let rate = check["alarms"].as_f64().unwrap() / check["comparisons"].as_f64().unwrap();
    assert!(rate <= 0.3, "{columns}");
    // The number of steps has no noise to be wrong about.
    assert!(columns[2]["check"].is_null(), "{columns}");
    let refused = project.lions(&["compare", "told", "--null", "--format", "csv"]);
    assert!(
        refused.code != 0 && refused.err.contains("--format"),
        "{refused:?}"
    );
}

/// Eight pairs on four prompts, two authors.
fn pairs() -> String {
    let row = |n: usize| {
        let (prompt, author) = (n / 2, if n < 4 { "ann" } else { "bob" });
        format!(
            "{{\"id\": \"r{n}\", \"author\": \"{author}\", \"prompt\": \"Name fruit {prompt}.\", \"chosen\": \"A plum, {n}.\", \"rejected\": \"No {n}.\"}}\n"
        )
    };
    (0..8).map(row).collect()
}

const CLUSTERED: &str = r#"extends = ["tiny.toml"]
[sweep]
name = "clustered"
question = "Which rows are independent?"
seeds = [1, 2]
[base]
pipeline = ["sft", "dpo"]
[base.eval.recipe.preference]
prompt = { data = [{ path = "data/mine/pairs.jsonl" }], limits = { preset = "pair-limits" } }
author = { data = [{ path = "data/mine/pairs.jsonl" }], limits = { preset = "pair-limits" }, cluster = "author" }
each = { data = [{ path = "data/mine/pairs.jsonl" }], limits = { preset = "pair-limits" }, cluster = "id" }
[[axis]]
path = "dpo.recipe.beta"
values = [0.1, 0.5]
[[report.table]]
name = "each"
title = "Rows by themselves"
metrics = ["each/rewards/margins"]
baseline = { beta = 0.1 }
[[report.table]]
name = "prompt"
title = "Rows by prompt"
metrics = ["prompt/rewards/margins"]
baseline = { beta = 0.1 }
[[report.table]]
name = "author"
title = "Rows by author"
metrics = ["author/rewards/margins"]
baseline = { beta = 0.1 }
"#;

#[test]
fn rows_count_by_prompt_or_by_what_the_evaluation_names() {
    let project = tiny::project();
    project.write("data/mine/pairs.jsonl", pairs());
    project.write("sweeps/clustered.toml", CLUSTERED);
    let run = project.lions(&["run", "sweeps/clustered.toml", "--jobs", "2", "--quiet"]);
    assert_eq!(run.code, 0, "{run:?}");
    for (table, rows) in [
        ("each", "new rows (8 rows)"),
        ("prompt", "new rows (8 rows in 4 clusters)"),
        ("author", "new rows (8 rows in 2 clusters)"),
    ] {
        let said = project.lions(&["compare", "clustered", "--table", table]);
        assert!(said.out.contains(rows), "{table}: {said:?}");
        // Its SFT run has one seed for all.
        let shared = "Unit of replication: what comes behind one sft checkpoint that all seeds";
        assert!(said.out.contains(shared), "{said:?}");
    }

    let author = "\"author\": \"bob\", \"prompt\": \"Name fruit 2.\", \"chosen\": \"A plum, 5.\"";
    let without = pairs().replace(author, &author.replace("\"author\": \"bob\", ", ""));
    project.write("data/mine/pairs.jsonl", without);
    let said = project.lions(&["check", "sweeps/clustered.toml"]);
    let wanted = "data/mine/pairs.jsonl:6: it has no `author`, by which rows are clustered";
    assert!(said.code == 1 && said.err.contains(wanted), "{said:?}");
}

/// One seed tells nothing of another one, and nothing says that it did.
#[test]
fn one_seed_has_intervals_for_rows_alone_and_every_caption_says_so() {
    let project = Project::new();
    project.write("sweeps/told.toml", TOLD.replace("[1, 2, 3, 4]", "[1]"));
    tiny::run(&project, "told");
    let compared = project.lions(&["compare", "told"]).out;
    let alone =
        "One seed a configuration: how another training run would differ is in no interval.";
    for said in [
        alone,
        "One seed each, with a 95 % interval for new rows (8 rows)",
        "new rows for the same runs (8 evaluation rows; how much seeds differ is not in it)",
        "what other seeds would do is not known",
    ] {
        assert!(compared.contains(said), "`{said}`:\n{compared}");
    }
    assert_eq!(project.lions(&["figures", "told"]).code, 0);
    let figure = project.read("reports/told/figures/rate.json");
    assert!(figure.contains(alone), "{figure}");
    assert!(
        figure.contains(
            "one seed each; whiskers: 95 % interval for new rows, which is not that of a paired difference"
        ),
        "{figure}"
    );
    let said = project.lions(&["compare", "told", "--null"]).out;
    assert!(
        said.contains("no configuration has two different seeds on the same rows"),
        "{said}"
    );
}

/// What is written for `ours = { rate = 5e-2 }` and so on, and what `lions check` then says.
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    (
        "statement = \"A rate that is too high raises the loss\"",
        "statement = \" \"",
        ":21:13",
        "say what is claimed in a sentence",
    ),
    (
        "direction = \"equal\"",
        "direction = \"the same\"",
        ":37:13",
        "valid are `equal`, `higher`, `lower`",
    ),
    (
        "metric = \"tales/loss\"\nours = { rate = 1.0001e-4 }",
        "metric = \"tales/los\"\nours = { rate = 1.0001e-4 }",
        ":34:10",
        "did you mean `tales/loss`?",
    ),
    (
        "ours = { rate = 1.0001e-4 }",
        "ours = { rate = 2e-4 }",
        ":35:17",
        "did you mean `0.0001`?",
    ),
    (
        "ours = { rate = 1.0001e-4 }",
        "ours = { rat = 1.0001e-4 }",
        ":35:",
        "did you mean `rate`?",
    ),
    (
        "ours = { rate = 1.0001e-4 }",
        "ours = { rate = 1e-4 }",
        ":36:12",
        "name an axis on which the sides differ",
    ),
    (
        "baseline = { rate = 1e-4 }\ndirection = \"equal\"",
        "baseline = {}\ndirection = \"equal\"",
        ":36:12",
        "name an axis on which the sides differ",
    ),
    (
        "\"tales/loss\" = 0.05",
        "\"tales/loss\" = 0.0",
        ":19:",
        "write the largest difference that would not matter, above zero",
    ),
    (
        "\"tales/loss\" = 0.05",
        "\"tales/los\" = 0.05",
        ":19:1",
        "did you mean `tales/loss`?",
    ),
    (
        "metric = \"tales/loss\"\nours = { rate = 1.0001e-4 }",
        "metric = \"training/flops\"\nours = { rate = 1.0001e-4 }",
        ":32:",
        "write the largest difference that would not matter",
    ),
];

#[test]
fn a_claim_that_nothing_could_decide_is_refused_where_it_stands() {
    let project = Project::new();
    project.write("sweeps/told.toml", TOLD);
    let good = project.lions(&["check", "sweeps/told.toml"]);
    assert_eq!(good.code, 0, "{good:?}");
    let mut faults = Vec::new();
    for (from, to, place, remedy) in MISTAKES {
        assert_eq!(TOLD.matches(from).count(), 1, "{from}");
        project.write("sweeps/told.toml", TOLD.replace(from, to));
        let said = project.lions(&["check", "sweeps/told.toml"]);
        let place = format!("sweeps/told.toml{place}");
        if said.code != 1 || !said.err.contains(&place) || !said.err.contains(remedy) {
            faults.push(format!("{to}: wanted `{place}`, `{remedy}`:\n{}", said.err));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
