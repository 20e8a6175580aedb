//! Online DPO under the judges that need no server, and its rounds, from the sweep file to the table.

use crate::project::{Project, copy_tree};
use crate::tiny::{self, Results, close};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// Scores of the same conversations, in other batches, in f32.
const PASSES: f64 = 2e-4;
/// A sum of 64 hidden states of about 1, each with 8 bits.
const BF16: f64 = 0.5;

const ONLINE: &str = "[base]\npipeline = [\"sft\", \"online-dpo\"]\n";

fn judging(judge: &str) -> String {
    format!("\"online-dpo.recipe.judge\" = {judge}")
}

fn scores(row: &Value) -> Vec<f64> {
    let scores = row["scores"].as_array().unwrap().iter();
    scores.map(|score| score.as_f64().unwrap()).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The place of the first of the largest.
fn first_largest(values: &[f64]) -> u64 {
    let largest = values.iter().copied().fold(f64::MIN, f64::max);
    values.iter().position(|value| *value >= largest).unwrap() as u64
}

/// Of every prompt the first best and the first worst reply are the pair that is trained on.
fn pairs_are_of_the_best_and_the_worst(results: &Results, arm: &str) {
    let judge = results.only(arm, "judge");
    let samples = results.lines(&results.only(arm, "sample"), "samples.jsonl");
    let judged = results.lines(&judge, "judged.jsonl");
    let pairs = results.lines(&judge, "pairs.jsonl");
    assert_eq!((samples.len(), judged.len()), (6, 6), "{arm}");
    let text = |prompt: &Value, at: u64| prompt["replies"][at as usize]["text"].clone();
    let mut wanted = Vec::new();
    for (prompt, row) in samples.iter().zip(&judged) {
        assert_eq!(prompt["id"], row["id"], "{arm}");
        let given = scores(row);
        assert_eq!(given.len(), 3, "{arm}");
        let best = first_largest(&given);
        let worst = first_largest(&given.iter().map(|score| -score).collect::<Vec<_>>());
        if best == worst {
            assert_eq!(row["verdict"], "tie", "{arm}: {row}");
            continue;
        }
        let pair = &row["verdict"]["pair"];
        assert_eq!(
            (&pair["best"], &pair["worst"]),
            (&best.into(), &worst.into()),
            "{arm}: {row}"
        );
        wanted.push((row["id"].clone(), text(prompt, best), text(prompt, worst)));
    }
    let made = pairs.iter().map(|pair| {
        let reply = |side: &str| pair[side][0]["content"].clone();
        (pair["id"].clone(), reply("chosen"), reply("rejected"))
    });
    assert_eq!(made.collect::<Vec<_>>(), wanted, "{arm}");
    assert!(!wanted.is_empty(), "{arm}");
    let dpo = results.only(arm, "dpo");
    assert_eq!(
        results.count(&dpo, "pairs_from_judge"),
        wanted.len(),
        "{arm}"
    );
    let ties = results.counted(&judge, "prompts_dropped_tie").unwrap_or(0);
    assert_eq!(ties, 6 - wanted.len(), "{arm}");

    let all: Vec<Vec<f64>> = judged.iter().map(scores).collect();
    let score = mean(&all.iter().map(|scores| mean(scores)).collect::<Vec<_>>());
    close(results.metric(&judge, "objective/scores"), score, 1e-9, arm);
    let margin = |scores: &Vec<f64>| {
        let largest = scores.iter().copied().fold(f64::MIN, f64::max);
        largest - scores.iter().copied().fold(f64::MAX, f64::min)
    };
    let margin = mean(&all.iter().map(margin).collect::<Vec<_>>());
    close(
        results.metric(&judge, "objective/scores_margin"),
        margin,
        1e-9,
        arm,
    );
}

#[test]
fn every_local_judge_makes_pairs_that_train_a_policy() {
    let project = tiny::project();
    tiny::reward_model(&project, "models/reward");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pairrm");
    copy_tree(&golden, &project.path("models/pairrm"));
    let reward = "reward-model = { model-path = \"models/reward\", precision = \"f32\"";
    let arms = [
        ("rules", judging("\"rules\"")),
        (
            "some rules",
            judging(
                "{ some-rules = { rules = [\"name\", \"dialogue\", \"no-repeat\", \"length\"] } }",
            ),
        ),
        ("reward model", judging(&format!("{{ {reward} }} }}"))),
        (
            "reward model, cut",
            judging(&format!("{{ {reward}, max-seq-len = 8 }} }}")),
        ),
        (
            "reward model, bf16",
            judging(&format!("{{ {} }} }}", reward.replace("f32", "bf16"))),
        ),
        (
            "PairRM",
            judging(
                "{ pairrm = { model-path = \"models/pairrm\", max-prompt-len = 24, max-reply-len = 16 } }",
            ),
        ),
        (
            "language model",
            judging(
                "{ local-model = { model-path = \"models/stories260k\", precision = \"f32\", mode = \"score\", system = \"Be fair.\", template = \"{prompt} {reply}\" } }",
            ),
        ),
        (
            "language model, pairs",
            judging(
                "{ local-model = { model-path = \"models/stories260k\", precision = \"f32\", mode = \"pairwise\", template = \"{prompt} {a} {b}\" } }",
            ),
        ),
    ];
    let metrics = ["instruct/loss", "polite/rewards/margins"];
    let rest = format!("{ONLINE}{}", tiny::POLITE);
    let results = tiny::run_arms(&project, "judges", &arms, &metrics, &rest);
    let samples: BTreeSet<_> = arms
        .iter()
        .map(|(arm, _)| results.only(arm, "sample"))
        .collect();
    assert_eq!(samples.len(), 1, "the policy is asked once for all judges");
    for (arm, _) in &arms {
        pairs_are_of_the_best_and_the_worst(&results, arm);
    }
    let judged = |arm: &str| -> Vec<Vec<f64>> {
        let rows = results.lines(&results.only(arm, "judge"), "judged.jsonl");
        rows.iter().map(scores).collect()
    };
    for score in judged("rules").concat() {
        let of = |rules: f64| ((score * rules).round() - score * rules).abs() < 1e-9;
        assert!(
            (0.0..=1.0).contains(&score) && (of(4.0) || of(5.0)),
            "{score}"
        );
    }
    // Whether a story ends is not asked, and whether a name stands in it only where one is given.
    let (some, all) = (judged("some rules").concat(), judged("rules").concat());
    assert_ne!(some, all);
    for (some, all) in some.iter().zip(&all) {
        let held = |score: f64, rules: f64| (score * rules).round();
        let fits = [4.0, 3.0].into_iter().any(|rules| {
            let (of_some, of_all) = (held(*some, rules), held(*all, rules + 1.0));
            (some * rules - of_some).abs() < 1e-9
                && (all * (rules + 1.0) - of_all).abs() < 1e-9
                && (0.0..=1.0).contains(&(of_all - of_some))
        });
        assert!(fits, "{some} of some rules, {all} of all");
    }
    // The comparisons of every two replies cancel out.
    for scores in judged("PairRM") {
        close(scores.iter().sum(), 0.0, PASSES, "PairRM");
        assert!(scores.iter().any(|score| score.abs() > 1e-6), "{scores:?}");
    }
    for score in judged("language model").concat() {
        assert!((1.0..=9.0).contains(&score), "{score}");
    }
    // Of three replies the wins are half of all comparisons.
    for scores in judged("language model, pairs") {
        close(scores.iter().sum(), 1.5, PASSES, "language model");
    }
    assert_ne!(judged("reward model"), judged("reward model, cut"));
    for (short, whole) in judged("reward model, bf16")
        .concat()
        .iter()
        .zip(judged("reward model").concat())
    {
        close(*short, whole, BF16, "bf16");
    }
    assert_ne!(
        judged("reward model, bf16"),
        judged("reward model"),
        "rounded"
    );
    a_filter_scores_as_the_judge_does(&project, &results);
}

/// The pairs of the reward model, filtered by the gap that the reward model sees in them.
fn a_filter_scores_as_the_judge_does(project: &Project, judges: &Results) {
    let judge = judges.only("reward model", "judge");
    let pairs = std::fs::read_to_string(judges.artifact(&judge, "pairs.jsonl")).unwrap();
    project.write("data/mine/judged.jsonl", pairs);
    let select = "select = { of = \"dpo\", recipe = { keep = 2, method = { reward-gap = { model-path = \"models/reward\" } }, precision = \"f32\" } }";
    let rest = "[base]\npipeline = [\"sft\", \"dpo\"]\n[base.dpo.recipe]\ndata = [{ path = \"data/mine/judged.jsonl\" }]\n";
    let arms = [("gap", select.to_owned())];
    let filtered = tiny::run_arms(project, "gaps", &arms, &["tales/loss"], rest);
    let gaps = filtered.lines(&filtered.only("gap", "select"), "scores.jsonl");
    let judged = judges.lines(&judge, "judged.jsonl");
    assert!(gaps.len() >= 2);
    for gap in gaps {
        let row = judged.iter().find(|row| row["id"] == gap["id"]).unwrap();
        let mut scores = scores(row);
        scores.sort_by(f64::total_cmp);
        close(
            gap["score"].as_f64().unwrap(),
            scores[2] - scores[0],
            PASSES,
            "reward gap",
        );
    }
}

#[test]
fn rounds_share_what_they_can_and_mix_in_offline_pairs() {
    let project = tiny::project();
    let of = |rest: &str| rest.to_owned();
    let pairs = "\"online-dpo.recipe.prompts\" = { data = [{ path = \"data/pref/polite_train.jsonl\" }], per-round = 6 }";
    let offline =
        "\"online-dpo.recipe.dpo.data\" = [{ path = \"data/pref/polite_train.jsonl\", count = 4 }]";
    let arms = [
        ("one", of("\"online-dpo.recipe.rounds\" = 1")),
        ("two", of("\"online-dpo.recipe.rounds\" = 2")),
        ("steeper", of("\"online-dpo.recipe.dpo.beta\" = 0.5")),
        ("with offline", of(offline)),
        (
            "half of both",
            format!("{offline}, \"online-dpo.recipe.dpo.online-fraction\" = 0.5"),
        ),
        (
            "offline pair",
            format!("{pairs}, \"online-dpo.recipe.p-ori-pair\" = 1.0"),
        ),
        (
            "offline chosen",
            format!("{pairs}, \"online-dpo.recipe.p-ori-chosen\" = 1.0"),
        ),
        (
            "after dpo",
            of("pipeline = [\"sft\", \"dpo\", \"online-dpo\"]"),
        ),
    ];
    let metrics = ["polite/logps/chosen", "polite/logps/chosen_shift"];
    // The reward model has no ties, the rules have many.
    tiny::reward_model(&project, "models/reward");
    let judge = "[base.online-dpo.recipe]\njudge = { reward-model = { model-path = \"models/reward\", precision = \"f32\" } }\n";
    let rest = format!("{ONLINE}{judge}{}", tiny::POLITE);
    let results = tiny::run_arms(&project, "rounds", &arms, &metrics, &rest);

    for stage in ["sample", "judge", "dpo"] {
        let (one, two) = (results.runs("one", stage), results.runs("two", stage));
        assert_eq!((one.len(), two.len()), (1, 2), "{stage}");
        assert_eq!(one[0], two[0], "the first round is shared: {stage}");
    }
    assert_eq!(
        results.only("one", "sample"),
        results.only("steeper", "sample")
    );
    assert_ne!(results.only("one", "dpo"), results.only("steeper", "dpo"));
    let prompts = |run: &String| -> BTreeSet<String> {
        let rows = results.lines(run, "samples.jsonl");
        rows.iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let turns: Vec<_> = results.runs("two", "sample").iter().map(prompts).collect();
    assert_eq!((turns[0].len(), turns[1].len()), (6, 6));
    assert!(
        turns[0].is_disjoint(&turns[1]),
        "rounds take prompts in turn"
    );

    let trained = |arm: &str| {
        let dpo = results.only(arm, "dpo");
        (
            results.count(&dpo, "pairs_from_judge"),
            results.count(&dpo, "pairs_kept"),
        )
    };
    let (judged, kept) = trained("one");
    assert_eq!(judged, kept);
    assert_eq!(trained("with offline"), (judged, judged + 4));
    let (half, kept) = trained("half of both");
    assert_eq!(kept, half + 4);
    assert_eq!(half, (judged as f64 * 0.5).round() as usize);

    let offline: Vec<Value> = project
        .read("data/pref/polite_train.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (arm, other_is_offline) in [("offline pair", true), ("offline chosen", false)] {
        let pairs = results.lines(&results.only(arm, "judge"), "pairs.jsonl");
        assert!(!pairs.is_empty(), "{arm}");
        for pair in pairs {
            let row = offline.iter().find(|row| row["id"] == pair["id"]).unwrap();
            assert_eq!(pair["chosen"][0]["content"], row["chosen"], "{arm}");
            let same = pair["rejected"][0]["content"] == row["rejected"];
            assert_eq!(same, other_is_offline, "{arm}: {pair}");
        }
    }

    // Held-out pairs are measured against the policy from before all preference learning.
    let before = |arm: &str| results.value(arm, metrics[0]) - results.value(arm, metrics[1]);
    for (arm, _) in &arms {
        close(before(arm), before("one"), PASSES, arm);
        assert!(results.value(arm, metrics[1]).abs() > 1e-4, "{arm} learns");
    }
}

#[test]
fn prompts_and_replies_that_are_left_out_are_counted_and_cut_ones_have_no_end_to_learn() {
    let project = tiny::project();
    tiny::reward_model(&project, "models/reward");
    let long = "Tom ran home to his mom and the big red dog sat by the tree. ".repeat(3);
    let longs = (0..3).map(|n| format!("{long} {n}"));
    let short = [
        "Say hi.",
        "Tell me a story.",
        "Who ran home?",
        "Name a dog.",
        "Say hi.",
    ];
    let prompts = longs.chain(short.map(str::to_owned));
    let rows =
        prompts.map(|prompt| format!("{}\n", json!({"prompt": prompt, "completion": "Yes."})));
    project.write("data/mine/prompts.jsonl", rows.collect::<String>());
    let drawing = |tokens: usize, samples: usize| {
        format!(
            "\"online-dpo.recipe.samples\" = {samples}, \"online-dpo.recipe.sampling.max-new-tokens\" = {tokens}"
        )
    };
    let arms = [("a token", drawing(1, 24)), ("some", drawing(40, 3))];
    let rest = format!(
        "{ONLINE}[base.online-dpo.recipe]\n\
         judge = {{ reward-model = {{ model-path = \"models/reward\", precision = \"f32\" }} }}\n\
         prompts = {{ data = [{{ path = \"data/mine/prompts.jsonl\" }}], max-prompt-len = 30 }}\n"
    );
    let results = tiny::run_arms(&project, "left-out", &arms, &["tales/loss"], &rest);
    let mut empty_ones = 0;
    for (arm, _) in &arms {
        let (sample, judge) = (results.only(arm, "sample"), results.only(arm, "judge"));
        let counts = ["prompts_found", "prompts_dropped_too_long", "prompts"];
        // A prompt that comes again is one.
        assert_eq!(
            counts.map(|name| results.count(&sample, name)),
            [7, 3, 4],
            "{arm}"
        );
        let sampled = results.lines(&sample, "samples.jsonl");
        let replies = sampled
            .iter()
            .flat_map(|row| row["replies"].as_array().unwrap());
        let empty = replies.filter(|reply| reply["text"] == "").count();
        assert_eq!(
            results.count(&judge, "replies_dropped_empty"),
            empty,
            "{arm}"
        );
        empty_ones += empty;
    }
    assert!(empty_ones > 0, "no reply of a single token was empty");

    // The pairs as they were made, and as if every reply had ended by itself.
    let pairs = results.lines(&results.only("some", "judge"), "pairs.jsonl");
    let is_cut = |pair: &Value, side: &str| pair[format!("{side}_finished")] == false;
    let cut = |pair: &Value| {
        ["chosen", "rejected"]
            .iter()
            .filter(|side| is_cut(pair, side))
            .count()
    };
    let all_cut: usize = pairs.iter().map(cut).sum();
    assert!(all_cut > 0, "{pairs:?}");
    let text = |keep: bool| -> String {
        let line = |pair: &Value| {
            let mut pair = pair.clone();
            if !keep {
                pair.as_object_mut()
                    .unwrap()
                    .retain(|key, _| !key.ends_with("_finished"));
            }
            format!("{pair}\n")
        };
        pairs.iter().map(line).collect()
    };
    project.write("data/mine/made.jsonl", text(true));
    project.write("data/mine/ended.jsonl", text(false));
    let of =
        |file: &str| format!("\"dpo.recipe.data\" = [{{ path = \"data/mine/{file}.jsonl\" }}]");
    let files = [("made", of("made")), ("ended", of("ended"))];
    let offline = tiny::run_arms(
        &project,
        "ends",
        &files,
        &["tales/loss"],
        "[base]\npipeline = [\"dpo\"]\n",
    );
    let tokens = |results: &Results, arm: &str| results.count(&results.only(arm, "dpo"), "tokens");
    assert_eq!(tokens(&results, "some"), tokens(&offline, "made"));
    assert_eq!(
        tokens(&offline, "ended") - tokens(&offline, "made"),
        all_cut
    );
}
