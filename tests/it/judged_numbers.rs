//! Numbers of judged benchmarks on records that the tree does not carry. Each test reads them from a folder that an
//! environment variable names, and does nothing without: `LIONS_JUDGED_DATA` (`pairwise/`, `judge_texts/` and
//! `alpaca_eval2/`) and `LIONS_ALPACA_NC` (tables derived from AlpacaEval's data, which may not be passed on).

use lions::eval::judged::grammar::{last_line_number, mt_bench_rating, only_rating};
use lions::eval::judged::{alpaca, files};
use lions::metrics::{
    Battle, Compared, Gamed, LengthControl, PositionBias, Winner, anchored, bootstrap_ratings,
    bradley_terry, fit_length_control, win_probability, wins,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Exact solvers agree to their rounding; the bound is the one that is promised.
const EXACT: f64 = 1e-8;
/// Published numbers have six digits.
const PUBLISHED: f64 = 1e-5;

fn folder(variable: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from);
    if folder.is_none() {
        #[expect(clippy::print_stdout, reason = "says what was left out")]
        {
            println!("not looked at: `{variable}` names no folder");
        }
    }
    folder
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&read_to_string(path).unwrap()).unwrap()
}

fn numbers(list: &Value) -> Vec<f64> {
    let list = list.as_array().unwrap().iter();
    list.map(|number| number.as_f64().unwrap()).collect()
}

fn close(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < EXACT, "{what}: {got} {want}");
    }
}

/// The fields of a file of comma-separated values without quotes, without its head.
fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = read_to_string(path).unwrap();
    let lines = text.lines().skip(1);
    lines
        .map(|line| line.split(',').map(str::to_owned).collect())
        .collect()
}

#[test]
fn ratings_intervals_and_bias_of_forty_thousand_verdicts() {
    let Some(data) = folder("LIONS_JUDGED_DATA") else {
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = json(&root.join("tests/golden/judged/bt.json"));
    let rows = rows(&data.join("pairwise/qlora_pairwise_judgments.csv"));
    assert_eq!(rows.len(), 43_011);
    let winner = |row: &[String]| match row[4].as_str() {
        "1" => Winner::First,
        "2" => Winner::Second,
        "3" => Winner::Tie,
        other => panic!("{other}"),
    };
    for bench in ["all", "oa", "vicuna"] {
        let golden = &golden[bench];
        let models = golden["models"].as_array().unwrap();
        let at = |name: &str| models.iter().position(|model| model == name).unwrap();
        let own = rows.iter().filter(|row| bench == "all" || row[0] == bench);
        let battles: Vec<Battle> = own
            .map(|row| Battle {
                first: at(&row[2]),
                second: at(&row[3]),
                winner: winner(row),
            })
            .collect();
        let ratings = bradley_terry(&wins(battles.iter().copied(), models.len())).unwrap();
        close(&ratings, &numbers(&golden["ratings"]), bench);
        let anchor = at(golden["anchor"].as_str().unwrap());
        let rates: Vec<f64> = ratings
            .iter()
            .map(|rating| 100.0 * win_probability(*rating, ratings[anchor]))
            .collect();
        close(&rates, &numbers(&golden["win_rate_vs_anchor"]), bench);
        let golden = &golden["bootstrap"];
        close(
            &anchored(&ratings, anchor),
            &numbers(&golden["ratings"]),
            bench,
        );
        let intervals = bootstrap_ratings(&battles, models.len(), anchor, 100, 42).unwrap();
        let low: Vec<f64> = intervals.iter().map(|interval| interval.low).collect();
        let high: Vec<f64> = intervals.iter().map(|interval| interval.high).collect();
        close(&low, &numbers(&golden["lower"]), bench);
        close(&high, &numbers(&golden["upper"]), bench);
    }
    let mut bias = PositionBias::default();
    let mut seen: BTreeMap<(&str, &str, &str, &str), Winner> = BTreeMap::new();
    for row in &rows {
        bias.add(winner(row));
        let key = |a: usize, b: usize| {
            (
                row[0].as_str(),
                row[1].as_str(),
                row[a].as_str(),
                row[b].as_str(),
            )
        };
        // A model against itself has no two orders.
        if let Some(swapped) = seen.get(&key(3, 2)).filter(|_| row[2] != row[3]) {
            bias.add_both(*swapped, winner(row));
        }
        seen.insert(key(2, 3), winner(row));
    }
    let golden_bias = &golden["position"];
    let want = |key: &str| usize::try_from(golden_bias[key].as_u64().unwrap()).unwrap();
    assert_eq!(
        (bias.first, bias.second, bias.ties),
        (21_387, 15_398, 6_226)
    );
    assert_eq!(bias.both_orders, want("pairs_in_both_orders"));
    assert_eq!(bias.same, want("same_verdict"));
    assert_eq!(bias.first_twice, want("opposite_first_shown_wins_twice"));
    assert_eq!(bias.second_twice, want("opposite_second_shown_wins_twice"));
    let share = golden["first_position_share_of_decided"].as_f64().unwrap();
    assert!((bias.first_share().unwrap() - share).abs() < EXACT);
}

#[test]
fn four_hundred_replies_of_judges_have_their_verdicts() {
    let Some(data) = folder("LIONS_JUDGED_DATA") else {
        return;
    };
    let read = |name: &str| -> Vec<Value> {
        let rows = files::read_rows(&data.join("judge_texts").join(name)).unwrap();
        assert_eq!(rows.len(), 200, "{name}");
        rows
    };
    let mut by_fallback = Vec::new();
    for row in read("arena_bench_single.jsonl") {
        let (text, score) = (row["judgment"].as_str().unwrap(), row["score"].as_f64());
        assert_eq!(only_rating(text), score, "{}", row["question_id"]);
        if mt_bench_rating(text) != score {
            by_fallback.push(mt_bench_rating(text));
        }
    }
    // MT-Bench's rule reads the size of an array, `[100]`, as a rating.
    assert_eq!(by_fallback, [Some(100.0)]);
    let mut without = 0;
    for row in read("qlora_threeclass.jsonl") {
        let (text, score) = (row["judgment"].as_str().unwrap(), row["score"].as_i64());
        assert_eq!(
            Some(last_line_number(text).unwrap_or(-1)),
            score,
            "{}",
            row["item"]
        );
        without += usize::from(score == Some(-1));
    }
    assert_eq!(without, 8);
}

/// Preferences and lengths by model, in the order of the instructions: (baseline's length, model's, preference).
fn judgments(data: &Path) -> BTreeMap<String, Vec<(usize, [f64; 3])>> {
    let mut models: BTreeMap<String, Vec<(usize, [f64; 3])>> = BTreeMap::new();
    for row in rows(&data.join("alpaca_eval2/judgments.csv")) {
        let numbers = [2, 3, 4].map(|at| row[at].parse().unwrap());
        let of_model = models.entry(row[0].clone()).or_default();
        of_model.push((row[1].parse().unwrap(), numbers));
    }
    models
        .values_mut()
        .for_each(|rows| rows.sort_by_key(|row| row.0));
    models
}

/// Columns of the leaderboard by model.
fn leaderboard(data: &Path, column: usize) -> BTreeMap<String, Option<f64>> {
    let rows = rows(&data.join("alpaca_eval2/leaderboard.csv")).into_iter();
    rows.map(|row| (row[0].clone(), row[column].parse().ok()))
        .collect()
}

#[test]
fn raw_win_rates_of_the_leaderboard_come_back() {
    let Some(data) = folder("LIONS_JUDGED_DATA") else {
        return;
    };
    let (rates, errors) = (leaderboard(&data, 1), leaderboard(&data, 2));
    let discrete = leaderboard(&data, 7);
    let mut compared = 0;
    for (model, rows) in judgments(&data) {
        let Some(Some(rate)) = rates.get(&model) else {
            continue;
        };
        let got = alpaca::win_rate(rows.iter().map(|row| Some(1.0 + row.1[2]))).unwrap();
        assert!((100.0 * got.rate.value - rate).abs() < PUBLISHED, "{model}");
        let error = 100.0 * got.rate.stderr.unwrap();
        assert!(
            (error - errors[&model].unwrap()).abs() < PUBLISHED,
            "{model}"
        );
        // A preference next to a half may fall on either side when it is rounded: a tenth of a point.
        let want = discrete[&model].unwrap();
        assert!(
            (100.0 * got.discrete() - want).abs() < 0.13,
            "{model} {} {want}",
            got.discrete()
        );
        compared += 1;
    }
    assert_eq!(compared, 28);
}

fn difficulty(folder: &Path) -> Vec<f64> {
    let rows = rows(&folder.join("instruction_difficulty.csv"));
    assert_eq!(rows.len(), 805);
    rows.iter().map(|row| row[1].parse().unwrap()).collect()
}

#[test]
fn length_controlled_win_rates_come_back_from_published_weights() {
    let (Some(data), Some(folder)) = (folder("LIONS_JUDGED_DATA"), folder("LIONS_ALPACA_NC"))
    else {
        return;
    };
    let difficulty = difficulty(&folder);
    let published = leaderboard(&data, 10);
    let (mut within, mut compared) = (0, 0);
    for row in rows(&data.join("alpaca_eval2/glm_weights.csv")) {
        let Some(Some(want)) = published.get(&row[0]) else {
            continue;
        };
        let [length, of_difficulty, model] = [1, 2, 3].map(|at| row[at].parse().unwrap());
        let weights = LengthControl {
            length,
            difficulty: of_difficulty,
            model,
            strength: f64::NAN,
        };
        let got = 100.0 * weights.win_rate(difficulty.iter().copied()).unwrap().value;
        compared += 1;
        within += usize::from((got - want).abs() < 1e-6);
    }
    // The others were annotated without some instructions, or have weights of another fit.
    assert_eq!((compared, within), (199, 189));
}

#[test]
fn fits_of_the_length_controlled_model_reach_the_optimum() {
    let (Some(data), Some(folder)) = (folder("LIONS_JUDGED_DATA"), folder("LIONS_ALPACA_NC"))
    else {
        return;
    };
    let difficulty = difficulty(&folder);
    let gamed: Vec<Gamed> = rows(&folder.join("df_gamed_synthetic.csv"))
        .iter()
        .map(|row| Gamed {
            std_delta_len: row[3].parse().unwrap(),
            difficulty: row[4].parse().unwrap(),
            preference: row[2].parse().unwrap(),
        })
        .collect();
    let golden = json(&folder.join("alpaca_agreement.json"));
    let models = judgments(&data);
    let fits = golden["fit"].as_object().unwrap();
    assert_eq!(fits.len(), 6);
    for (model, golden) in fits {
        let compared = models[model]
            .iter()
            .map(|(at, [baseline, own, preference])| Compared {
                length_lead: baseline - own,
                difficulty: difficulty[*at],
                preference: Some(*preference),
            });
        let compared: Vec<Compared> = compared.collect();
        let fit = fit_length_control(&compared, &gamed).unwrap();
        let want = golden["prototype_C"].as_f64().unwrap();
        assert!(
            (fit.strength / want - 1.0).abs() < 1e-12,
            "{model}: {}",
            fit.strength
        );
        let weights = numbers(&golden["prototype_weights"]);
        close(&[fit.length, fit.difficulty, fit.model], &weights, model);
        let rate = fit
            .win_rate(compared.iter().map(|row| row.difficulty))
            .unwrap();
        let want = golden["prototype_lc"].as_f64().unwrap();
        assert!((100.0 * rate.value - want).abs() < 1e-6, "{model}");
        // The package itself stops early: a few thousandths of a point.
        let package = golden["alpaca_eval_lc"].as_f64().unwrap();
        assert!((100.0 * rate.value - package).abs() < 5e-3, "{model}");
    }
}
