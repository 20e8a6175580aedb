//! Judgments to metrics, rows and the lines that a person reads.

use crate::eval::judged::alpaca::{self, Published};
use crate::eval::judged::arena;
use crate::eval::judged::bench::{Bench, Judgments};
use crate::eval::judged::error::JudgedError;
use crate::eval::judged::files::{AlpacaAnnotation, ArenaJudgment, MtJudgment};
use crate::eval::judged::mt_bench::{self, NO_RATING};
use crate::eval::record::{RowRecord, SetResult};
use crate::eval::stats::ratio;
use crate::metrics::families::{EQUALLY_LONG, FOUGHT, Fought, PREFERRED, Preferred, RATED, Rated};
use crate::metrics::{Estimate, Metric, values};
use crate::rundir::MetricValue;
use std::collections::BTreeMap;

/// What judgments come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Metrics and rows.
    pub result: SetResult,
    /// Lines for a person: intervals, and what was left out.
    pub notes: Vec<String>,
    /// Verdicts that the judge did not give.
    pub without_verdict: usize,
}

/// Measures the judgments of a benchmark; those of AlpacaEval get their length-controlled preference.
///
/// # Errors
/// There is nothing to score.
pub fn measure(
    set: &str,
    bench: &Bench,
    judgments: &mut Judgments,
) -> Result<Measured, JudgedError> {
    let ids: Vec<String> = (0..bench.len()).map(|at| bench.id(at)).collect();
    match (bench, judgments) {
        (Bench::MtBench(mt), Judgments::MtBench(judged)) => {
            let categories = mt.questions.iter().map(|q| q.category.as_str()).collect();
            rated(set, &ids, categories, judged)
        }
        (Bench::ArenaHard(_), Judgments::ArenaHard(judged)) => fought(set, &ids, judged),
        (Bench::AlpacaEval(alpaca), Judgments::AlpacaEval(judged)) => {
            preferred(set, &ids, judged, alpaca.published.as_ref())
        }
        _ => Err(JudgedError::Score(
            "judgments of another benchmark".to_owned(),
        )),
    }
}

/// A record for each item.
fn rows<T: 'static>(
    set: &str,
    ids: &[String],
    metrics: &[&'static [Metric<T>]],
    items: &[T],
) -> Vec<RowRecord> {
    let row = |(id, item): (&String, &T)| {
        let own = metrics.iter().flat_map(|metrics| values(*metrics, item));
        RowRecord {
            set: set.to_owned(),
            row: id.clone(),
            cluster: None, // a row is a question
            metrics: own.map(|(key, value)| (key.to_owned(), value)).collect(),
        }
    };
    ids.iter().zip(items).map(row).collect()
}

fn rated(
    set: &str,
    ids: &[String],
    categories: Vec<&str>,
    judged: &[MtJudgment],
) -> Result<Measured, JudgedError> {
    let mut turns: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
    for judgment in judged {
        let rating = Some(judgment.score).filter(|score| *score > NO_RATING);
        turns
            .entry(judgment.question_id.to_string())
            .or_default()
            .push(rating);
    }
    let items: Vec<Rated> = ids
        .iter()
        .zip(&categories)
        .map(|(id, category)| Rated {
            category: (*category).to_owned(),
            turns: turns.remove(id).unwrap_or_default(),
        })
        .collect();
    let all = items.iter().flat_map(|item| {
        let turns = item.turns.iter().enumerate();
        turns.map(|(at, rating)| (item.category.as_str(), at + 1, rating.unwrap_or(NO_RATING)))
    });
    let table = mt_bench::table(all).ok_or_else(|| {
        let text =
            "no reply of the judge holds a rating, such as `[[7]]`: there is nothing to score";
        JudgedError::Score(text.to_owned())
    })?;
    let mut result = SetResult {
        rows: rows(set, ids, &[RATED], &items),
        ..SetResult::default()
    };
    // A mean over turns, not over questions: a question with one rating counts half.
    for Metric { spec, of } in RATED {
        let by_turn = spec.suffix.starts_with("rating/turn_");
        let weighted = items.iter().filter_map(|item| {
            let given = item.turns.iter().flatten().count() as f64;
            let weight = if by_turn { 1.0 } else { given };
            Some((of(item)? * weight, weight))
        });
        let (sums, weights): (Vec<f64>, Vec<f64>) = weighted.unzip();
        if !sums.is_empty() {
            result.put(set, spec.suffix, ratio(&sums, &weights));
        }
    }
    let mut notes = vec![format!(
        "`{set}`: rating {:.3}, mean of categories {:.3}",
        table.score, table.score_by_category
    )];
    if table.left_out > 0 {
        notes.push(format!(
            "`{set}`: {} of {} turns without a rating are left out",
            table.left_out,
            judged.len()
        ));
    }
    Ok(Measured {
        result,
        notes,
        without_verdict: table.left_out,
    })
}

fn fought(set: &str, ids: &[String], judged: &[ArenaJudgment]) -> Result<Measured, JudgedError> {
    let score = arena::score(judged)?;
    let by_question = arena::by_question(judged);
    let items: Vec<Fought> = judged
        .iter()
        .zip(&by_question)
        .map(|(judgment, (won, battles))| Fought {
            won: (*battles > 0).then(|| won / *battles as f64),
            first: arena::share_of_first(&judgment.games),
        })
        .collect();
    let mut result = SetResult {
        rows: rows(set, ids, &[FOUGHT], &items),
        ..SetResult::default()
    };
    result.put_means(set);
    // Verdicts that count three times weigh on the whole, not within a question.
    let fought = by_question.iter().filter(|(_, battles)| *battles > 0);
    let (won, battles): (Vec<f64>, Vec<f64>) = fought.map(|(won, n)| (*won, *n as f64)).unzip();
    result.put(set, "win_rate", ratio(&won, &battles));
    let bias = &score.bias;
    let mut notes = vec![format!("`{set}`: {}", arena::line(&score))];
    notes.push(format!(
        "`{set}`: first shown wins {}, second {}, ties {}; of {} in both orders {} agree, {} are for what stood first twice, {} for what stood second",
        bias.first, bias.second, bias.ties, bias.both_orders, bias.same, bias.first_twice, bias.second_twice
    ));
    if score.without_label > 0 {
        notes.push(format!(
            "`{set}`: {} of {} games have no label and count for nothing",
            score.without_label,
            2 * judged.len()
        ));
    }
    Ok(Measured {
        result,
        notes,
        without_verdict: score.without_label,
    })
}

fn preferred(
    set: &str,
    ids: &[String],
    judged: &mut [AlpacaAnnotation],
    published: Option<&Published>,
) -> Result<Measured, JudgedError> {
    let rate = alpaca::win_rate(judged.iter().map(|row| row.preference)).ok_or_else(|| {
        let text = "the judge named neither reply of any instruction: there is nothing to score";
        JudgedError::Score(text.to_owned())
    })?;
    let mut notes = Vec::new();
    let mut controlled = None;
    if let Some(published) = published {
        let fit = alpaca::length_controlled(judged, published)?;
        for row in judged.iter_mut() {
            let difficulty = published.difficulty.get(&row.instruction);
            row.glm_preference = difficulty.map(|difficulty| fit.model.preference(*difficulty));
        }
        if fit.unknown > 0 {
            notes.push(format!("`{set}`: {} of {} instructions have no published difficulty and are left out of the length-controlled win rate", fit.unknown, judged.len()));
        }
        controlled = Some(fit);
    }
    let items: Vec<Preferred> = judged
        .iter()
        .map(|row| Preferred {
            preference: alpaca::share(row.preference),
            length_controlled: row.glm_preference,
            characters: row.output_2.chars().count(),
        })
        .collect();
    let mut result = SetResult {
        rows: rows(set, ids, &[PREFERRED, EQUALLY_LONG], &items),
        ..SetResult::default()
    };
    result.put_means(set);
    if let Some(fit) = controlled {
        result.put(set, "lc_win_rate", stored(fit.rate));
    }
    let without_verdict = judged.len() - rate.rate.n;
    if without_verdict > 0 {
        notes.push(format!("`{set}`: the judge named neither reply of {without_verdict} of {} instructions; they are left out", judged.len()));
    }
    Ok(Measured {
        result,
        notes,
        without_verdict,
    })
}

fn stored(estimate: Estimate) -> MetricValue {
    MetricValue {
        value: estimate.value,
        stderr: estimate.stderr,
        n: estimate.n as u64,
    }
}
