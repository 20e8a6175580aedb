//! Every method of `[base.select]`, from the sweep file to the table: which rows are kept, by scores that
//! other runs of the same study give too.

use crate::project::Project;
use crate::tiny::{self, Results, close};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Rows that are kept.
const KEEP: usize = 4;
/// Two forward passes over the same tokens in f32, in other batches.
const PASSES: f64 = 2e-4;

/// Words of the preferred and of the other reply of each row; the last row repeats the one before.
const WORDS: [(usize, usize); 10] = [
    (3, 8),
    (9, 4),
    (5, 7),
    (12, 3),
    (7, 5),
    (2, 9),
    (10, 2),
    (4, 6),
    (6, 10),
    (6, 10),
];
const GAPS: [f64; 10] = [0.0, 1.0, 1.5, 3.0, 3.5, 2.0, 9.0, 0.5, 2.5, -1.0];
const SCORES: [f64; 10] = [9.0, 2.0, 7.0, 3.0, 8.0, 1.0, 7.5, 4.0, 5.0, 6.0];

fn words(text: &str, count: usize) -> String {
    let words = text.split(' ').cycle().take(count);
    words.collect::<Vec<_>>().join(" ")
}

fn replies(row: usize) -> (String, String, String) {
    // The last two rows are the same texts.
    let name = [
        "Tom", "Lily", "Ben", "Sue", "Max", "Ann", "Sam", "Mia", "Joe", "Joe",
    ][row];
    let chosen = "Tom ran home to his mom and the big red dog sat by";
    let rejected = "A bad boy did not like it and went far away";
    let prompt = format!("Tell me of {name}.");
    (
        prompt,
        words(chosen, WORDS[row].0),
        words(rejected, WORDS[row].1),
    )
}

fn rows(pairs: bool) -> String {
    let row = |at: usize| {
        let (prompt, chosen, rejected) = replies(at);
        let mut row = json!({
            "id": format!("r{at}"), "full_id": format!("f{at}"), "prompt": prompt,
            "meta": {"gap": GAPS[at], "score": SCORES[at], "votes": [SCORES[at] - GAPS[at]]},
        });
        if pairs {
            row["chosen"] = chosen.into();
            row["rejected"] = rejected.into();
        } else {
            row["completion"] = chosen.into();
        }
        format!("{row}\n")
    };
    (0..WORDS.len()).map(row).collect()
}

fn project() -> Project {
    let project = tiny::project();
    project.write("data/mine/pairs.jsonl", rows(true));
    project.write("data/mine/chats.jsonl", rows(false));
    for (name, pairs) in [("one_pair", true), ("one_chat", false)] {
        let text = rows(pairs);
        let row = text.lines().nth(4).unwrap().replace("\"r4\"", "\"other\"");
        project.write(format!("data/mine/{name}.jsonl"), row);
    }
    project.write("data/mine/ids.txt", "r7\nr2\nr9\nr0\nr1\n");
    let table = "note,full_id\n\"a, b\",f3\nc,f1\nd,f0\ne,f8\n";
    project.write("data/mine/ids.csv", table);
    tiny::reward_model(&project, "models/reward");
    project
}

fn selecting(of: &str, method: &str, asks: bool) -> String {
    let precision = if asks { ", precision = \"f32\"" } else { "" };
    format!(
        "select = {{ of = \"{of}\", recipe = {{ keep = {KEEP}, method = {method}{precision} }} }}"
    )
}

/// Kept ids in their order, and the score of every row.
fn selected(results: &Results, arm: &str) -> (Vec<String>, BTreeMap<String, f64>) {
    let run = results.only(arm, "select");
    assert_eq!(results.count(&run, "rows_to_choose_from"), WORDS.len());
    assert_eq!(results.count(&run, "rows_kept"), KEEP);
    let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
    let kept = results
        .lines(&run, "selected.jsonl")
        .iter()
        .map(id)
        .collect();
    let scores = results.lines(&run, "scores.jsonl");
    assert_eq!(scores.len(), WORDS.len());
    let scores = scores
        .iter()
        .filter_map(|row| Some((id(row), row["score"].as_f64()?)));
    (kept, scores.collect())
}

/// The rows with the highest scores (or lowest), by place where equal.
fn best(scores: &BTreeMap<String, f64>, sign: f64) -> Vec<String> {
    let mut ids: Vec<&String> = scores.keys().collect();
    ids.sort_by(|a, b| (sign * scores[*b]).total_cmp(&(sign * scores[*a])));
    ids.into_iter().cloned().collect()
}

fn set(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

const DEITA: &str = "{ deita = { complexity = { model-path = \"models/stories260k\" }, quality = { model-path = \"models/stories260k\" }";

fn pair_arms() -> Vec<(&'static str, String)> {
    let of = |name, method: &str, asks| (name, selecting("dpo", method, asks));
    vec![
        (
            "max-examples",
            format!("\"dpo.recipe.max-examples\" = {KEEP}"),
        ),
        (
            "no sft",
            "pipeline = [\"dpo\"], \"dpo.recipe.global-batch-size\" = 10".to_owned(),
        ),
        of("random", "\"random\"", false),
        of("longest", "\"longest\"", false),
        of("shortest", "\"shortest\"", false),
        of(
            "bins",
            "{ preference-strength = { gap = { column = \"meta.gap\" }, edges = [0, 2, 4] } }",
            false,
        ),
        of(
            "weighted bins",
            "{ preference-strength = { gap = { difference = { chosen = \"meta.score\", rejected = \"meta.votes.0\" } }, edges = [0, 2, 4], weights = [1, 3] } }",
            false,
        ),
        of(
            "good chosen",
            "{ chosen-quality = { column = \"meta.score\", at-least = 7 } }",
            false,
        ),
        of(
            "bad rejected",
            "{ rejected-quality = { column = \"meta.score\", at-most = 4 } }",
            false,
        ),
        of(
            "deita",
            &format!("{DEITA}, pooling = \"mean\", threshold = 0.99999 }} }}"),
            true,
        ),
        of(
            "deita, own embedding",
            &format!(
                "{DEITA}, embedding = {{ model-path = \"models/stories260k\" }}, pooling = \"last\", threshold = 1.0 }} }}"
            ),
            true,
        ),
        of("ifd", "\"ifd\"", true),
        of(
            "perplexity",
            "{ perplexity = { low = 0.25, high = 0.75 } }",
            true,
        ),
        of(
            "reward gap",
            "{ reward-gap = { model-path = \"models/reward\" } }",
            true,
        ),
        of("implicit gap", "\"implicit-reward-gap\"", true),
        of("hard", "{ margin-uncertainty = { tail = \"hard\" } }", true),
        of("easy", "{ margin-uncertainty = { tail = \"easy\" } }", true),
        of(
            "unsure",
            "{ margin-uncertainty = { tail = \"hard\", absolute = true } }",
            true,
        ),
        of(
            "less",
            "{ less = { data = [{ path = \"data/mine/one_pair.jsonl\" }], dimension = 64 } }",
            true,
        ),
        of(
            "ids",
            "{ ids = { ids-path = \"data/mine/ids.txt\" } }",
            false,
        ),
        of(
            "table of ids",
            "{ ids = { ids-path = \"data/mine/ids.csv\" } }",
            false,
        ),
    ]
}

const PAIRS: &str = r#"[base]
pipeline = ["sft", "dpo"]
[base.dpo.recipe]
data = [{ path = "data/mine/pairs.jsonl" }]
global-batch-size = 4
duration = { steps = 2 }
[base.eval.recipe.preference.mine]
data = [{ path = "data/mine/pairs.jsonl" }]
limits = { max-seq-len = 512, max-prompt-len = 256, truncation = "keep-end" }
"#;

/// Log-probabilities of both replies under the policy before preference learning, by row.
fn before(results: &Results, arm: &str) -> BTreeMap<String, [f64; 2]> {
    let rows = results.lines(&results.only(arm, "eval"), "rows.jsonl");
    let rows = rows.iter().filter(|row| row["set"] == "mine").map(|row| {
        let of = |side: &str| {
            let value = |key: &str| row["metrics"][key].as_f64().unwrap();
            value(&format!("logps/{side}")) - value(&format!("logps/{side}_shift"))
        };
        (
            row["row"].as_str().unwrap().to_owned(),
            [of("chosen"), of("rejected")],
        )
    });
    rows.collect()
}

#[test]
fn every_method_chooses_the_pairs_that_it_says() {
    let project = project();
    let arms = pair_arms();
    let metrics = ["mine/rewards/margins", "tales/loss"];
    let results = tiny::run_arms(&project, "filters", &arms, &metrics, PAIRS);
    for (arm, _) in &arms[2..] {
        let dpo = results.only(arm, "dpo");
        assert_eq!(results.count(&dpo, "pairs_kept"), KEEP, "{arm}");
    }
    let kept = |arm: &str| selected(&results, arm).0;
    assert_eq!(kept("longest"), ["r3", "r6", "r1", "r4"]);
    assert_eq!(kept("shortest"), ["r5", "r0", "r7", "r2"]);
    assert_eq!(set(kept("good chosen")), ["r0", "r2", "r4", "r6"]);
    assert_eq!(set(kept("bad rejected")), ["r1", "r3", "r5", "r7"]);
    assert_eq!(kept("ids"), ["r7", "r2", "r9", "r0"]);
    assert_eq!(kept("table of ids"), ["r3", "r1", "r0", "r8"]);
    for (arm, want) in [("bins", [2, 2]), ("weighted bins", [1, 3])] {
        let gaps = kept(arm)
            .into_iter()
            .map(|id| GAPS[id[1..].parse::<usize>().unwrap()]);
        let gaps: Vec<f64> = gaps.collect();
        let within = |low: f64, high: f64| gaps.iter().filter(|g| (low..high).contains(*g)).count();
        assert_eq!(
            [within(0.0, 2.0), within(2.0, 4.0)],
            want,
            "{arm}: {gaps:?}"
        );
    }
    let first = tiny::reply_tokens(&project, "filters", 0, KEEP);
    assert_eq!(set(kept("random")), first.into_keys().collect::<Vec<_>>());
    close(
        results.value("random", metrics[0]),
        results.value("max-examples", metrics[0]),
        PASSES,
        "random",
    );

    scores_of_deita(&results);
    scores_of_likelihoods(&project, &results);
    let (kept, scores) = selected(&results, "less");
    close(scores["r4"], 1.0, PASSES, "the row that is the target");
    assert_eq!(kept, best(&scores, 1.0)[..KEEP]);
    assert_eq!(kept[0], "r4");
    let (kept, scores) = selected(&results, "reward gap");
    assert_eq!(kept, best(&scores, 1.0)[..KEEP]);
}

/// Ranked by score; of two rows with the same texts one.
fn scores_of_deita(results: &Results) {
    let (kept, scores) = selected(results, "deita");
    let (_, same) = selected(results, "deita, own embedding");
    assert_eq!(scores, same, "the embedding is not part of the score");
    assert!(
        scores.values().all(|score| (1.0..=36.0).contains(score)),
        "{scores:?}"
    );
    let twice = |kept: &[String]| {
        ["r8", "r9"]
            .iter()
            .all(|id| kept.contains(&(*id).to_owned()))
    };
    assert!(!twice(&kept), "{kept:?}");
    let order = best(&scores, 1.0);
    let places: Vec<_> = kept
        .iter()
        .map(|id| order.iter().position(|o| o == id))
        .collect();
    assert!(places.is_sorted(), "the highest first: {places:?}");
    // At a threshold that no cosine exceeds, nothing is passed over.
    let (kept, _) = selected(results, "deita, own embedding");
    assert_eq!(kept, order[..KEEP]);
}

/// A row of filtered data is looked at as training sees it, once the filter has run.
#[test]
fn inspect_shows_the_rows_that_a_filter_kept() {
    let project = project();
    let arms = [(
        "ids",
        selecting(
            "dpo",
            "{ ids = { ids-path = \"data/mine/ids.txt\" } }",
            false,
        ),
    )];
    let text = tiny::sweep("looked", &arms, PAIRS);
    project.write("sweeps/looked.toml", text + &tiny::table(&["tales/loss"]));
    let said = project.lions(&["inspect", "sweeps/looked.toml"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("are chosen by run") && said.err.contains("`lions run`"),
        "{said:?}"
    );
    let sft = project.lions(&["inspect", "sweeps/looked.toml", "--stage", "sft"]);
    assert_eq!(sft.code, 0, "{sft:?}");
    let results = tiny::run(&project, "looked");
    let kept = set(selected(&results, "ids").0);
    let shown = tiny::reply_tokens(&project, "looked", 0, KEEP);
    assert_eq!(shown.into_keys().collect::<Vec<_>>(), kept);
}

fn scores_of_likelihoods(project: &Project, results: &Results) {
    let tokens = tiny::reply_tokens(project, "filters", 1, WORDS.len());
    let policy = before(results, "random");
    let base = before(results, "no sft");
    let check = |arm: &str, want: &dyn Fn(&str) -> f64| -> (Vec<String>, BTreeMap<String, f64>) {
        let (kept, scores) = selected(results, arm);
        assert_eq!(scores.len(), WORDS.len(), "{arm}");
        for (id, score) in &scores {
            close(*score, want(id), PASSES, &format!("{arm}, {id}"));
        }
        (kept, scores)
    };
    let gap = |pair: [f64; 2]| pair[0] - pair[1];
    let (kept, scores) = check("implicit gap", &|id| gap(policy[id]) - gap(base[id]));
    assert_eq!(kept, best(&scores, 1.0)[..KEEP]);

    let margin = |id: &str| {
        let ([chosen, rejected], [w, l]) = (policy[id], tokens[id]);
        chosen / w - rejected / l
    };
    let (kept, scores) = check("hard", &margin);
    assert_eq!(kept, best(&scores, -1.0)[..KEEP]);
    let (kept, scores) = check("easy", &margin);
    assert_eq!(kept, best(&scores, 1.0)[..KEEP]);
    let (kept, scores) = check("unsure", &|id| margin(id).abs());
    assert_eq!(kept, best(&scores, -1.0)[..KEEP]);

    let (kept, scores) = check("perplexity", &|id| (-policy[id][0] / tokens[id][0]).exp());
    let order = best(&scores, -1.0);
    let place = |id: &String| order.iter().position(|other| other == id).unwrap();
    assert!(
        kept.iter().all(|id| (2..=7).contains(&place(id))),
        "{kept:?} of {order:?}"
    );
    let (kept, scores) = selected(results, "ifd");
    let below: BTreeMap<_, _> = scores
        .into_iter()
        .filter(|(_, score)| *score < 1.0)
        .collect();
    assert_eq!(kept, best(&below, 1.0)[..KEEP]);
}

/// One row is longer than the scorers read; a model of its own embeds.
#[test]
fn deita_says_of_conversations_why_they_have_no_score() {
    let project = project();
    let long = words("Tom ran home to his mom", 600);
    let row = |id: &str, prompt: &str, reply: &str| {
        json!({"id": id, "messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply},
            {"role": "user", "content": "And then?"}, {"role": "assistant", "content": "They ate."}]})
    };
    let chats = [
        row("short", "Tell me of Tom.", "Tom ran home."),
        row("asked", &long, "Tom ran home."),
        row("told", "Tell me of Tom.", &long),
        row("other", "Tell me of Sue.", "A big red dog sat by."),
    ];
    project.write(
        "data/mine/long.jsonl",
        chats.map(|row| format!("{row}\n")).concat(),
    );
    let method = |keep: usize| {
        format!(
            "select = {{ of = \"sft\", recipe = {{ keep = {keep}, precision = \"f32\", method = {DEITA}, embedding = \
             {{ model-path = \"models/stories260k\" }}, pooling = \"mean\", threshold = 1.0 }} }} }} }}"
        )
    };
    let rest =
        "[base.sft.recipe]\ndata = [{ path = \"data/mine/long.jsonl\" }]\nbatch = { rows = 2 }\n";
    let arms = [("two", method(2))];
    let results = tiny::run_arms(&project, "long", &arms, &["tales/loss"], rest);
    let run = results.only("two", "select");
    let scores = results.lines(&run, "scores.jsonl");
    let asked = |scorer: &str| {
        format!("what the {scorer} scorer is asked is longer than its 512 positions")
    };
    let why = scores
        .iter()
        .map(|row| (row["id"].as_str().unwrap(), row["why"].as_str()));
    let (complexity, quality) = (asked("complexity"), asked("quality"));
    assert_eq!(
        why.collect::<Vec<_>>(),
        [
            ("short", None),
            ("asked", Some(&*complexity)),
            ("told", Some(&*quality)),
            ("other", None)
        ]
    );
    assert!(
        scores
            .iter()
            .all(|row| row["score"].is_f64() != row["why"].is_string()),
        "{scores:?}"
    );
    let shown = project.lions(&["show", &run]);
    for reason in [&complexity, &quality] {
        let note = format!("1 row could not be chosen: {reason}");
        assert!(shown.out.contains(&note), "{shown:?}");
    }

    let text = tiny::sweep("three", &[("three", method(3))], rest) + &tiny::table(&["tales/loss"]);
    project.write("sweeps/three.toml", text);
    let said = project.lions(&["run", "sweeps/three.toml"]);
    assert_eq!(said.code, 100, "{said:?}");
    for reason in [&complexity, &quality] {
        assert!(
            said.err.contains(reason.as_str()) || said.out.contains(reason.as_str()),
            "{said:?}"
        );
    }
}

#[test]
fn methods_that_apply_to_conversations_choose_them_too() {
    let project = project();
    let of = |name, method: &str, asks| (name, selecting("sft", method, asks));
    let arms = [
        ("base model", "pipeline = []".to_owned()),
        (
            "max-examples",
            format!("\"sft.recipe.max-examples\" = {KEEP}"),
        ),
        of("random", "\"random\"", false),
        of("longest", "\"longest\"", false),
        of("shortest", "\"shortest\"", false),
        of(
            "good",
            "{ chosen-quality = { column = \"meta.score\", at-least = 7 } }",
            false,
        ),
        of(
            "deita",
            &format!("{DEITA}, pooling = \"mean\", threshold = 0.99999 }} }}"),
            true,
        ),
        of(
            "deita, own embedding",
            &format!(
                "{DEITA}, embedding = {{ model-path = \"models/stories260k\" }}, pooling = \"last\", threshold = 1.0 }} }}"
            ),
            true,
        ),
        of("ifd", "\"ifd\"", true),
        of(
            "perplexity",
            "{ perplexity = { low = 0.25, high = 0.75 } }",
            true,
        ),
        of(
            "less",
            "{ less = { data = [{ path = \"data/mine/one_chat.jsonl\" }], dimension = 64 } }",
            true,
        ),
        of(
            "ids",
            "{ ids = { ids-path = \"data/mine/ids.txt\" } }",
            false,
        ),
    ];
    let rest = r#"[base.sft.recipe]
data = [{ path = "data/mine/chats.jsonl" }]
batch = { rows = 4 }
[base.eval.recipe.likelihood.mine]
data = [{ path = "data/mine/chats.jsonl" }]
max-seq-len = 256
"#;
    let results = tiny::run_arms(&project, "chats", &arms, &["mine/loss", "tales/loss"], rest);
    let kept = |arm: &str| selected(&results, arm).0;
    scores_of_deita(&results);
    assert_eq!(kept("longest"), ["r3", "r6", "r1", "r4"]);
    assert_eq!(kept("shortest"), ["r5", "r0", "r7", "r2"]);
    assert_eq!(set(kept("good")), ["r0", "r2", "r4", "r6"]);
    assert_eq!(kept("ids"), ["r7", "r2", "r9", "r0"]);
    close(
        results.value("random", "mine/loss"),
        results.value("max-examples", "mine/loss"),
        PASSES,
        "random",
    );
    let (less, scores) = selected(&results, "less");
    close(scores["r4"], 1.0, PASSES, "the row that is the target");
    assert_eq!(less[0], "r4");
    let (_, scores) = selected(&results, "perplexity");
    let rows = results.lines(&results.only("base model", "eval"), "rows.jsonl");
    let rows = rows.iter().filter(|row| row["set"] == "mine");
    let losses = rows.map(|row| {
        (
            row["row"].as_str().unwrap(),
            row["metrics"]["loss"].as_f64(),
        )
    });
    let losses: Vec<_> = losses.collect();
    assert_eq!(losses.len(), WORDS.len());
    for (id, loss) in losses {
        close(scores[id], loss.unwrap().exp(), PASSES, id);
    }
    let (kept, scores) = selected(&results, "ifd");
    let below: BTreeMap<_, _> = scores
        .into_iter()
        .filter(|(_, score)| *score < 1.0)
        .collect();
    assert_eq!(kept, best(&below, 1.0)[..KEEP]);
}
