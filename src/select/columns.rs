//! Scores that stand in the rows themselves.

use super::error::SelectError;
use super::order::{Selection, open_bin, scored, seeded_of};
use super::rows::RowsRef;
use crate::base::SeedTree;
use crate::config::select::{GapSource, QualityRule, SelectMethod};
use serde_json::Value;

/// The number at a path of keys and list positions in every row's further keys.
pub(super) fn column(rows: &RowsRef<'_>, path: &str) -> Result<Vec<Option<f64>>, SelectError> {
    let mut values = Vec::with_capacity(rows.len());
    let mut first = None;
    for index in 0..rows.len() {
        let found = look_up(rows.extra(index), path);
        let number = found.and_then(Value::as_f64);
        if number.is_none() && first.is_none() {
            first = Some((index, describe(found)));
        }
        values.push(number);
    }
    match first {
        None => Ok(values),
        Some((index, found)) => Err(SelectError::Column {
            column: path.to_owned(),
            id: rows.id(index).to_owned(),
            found,
            count: values.iter().filter(|v| v.is_none()).count(),
            rows: rows.len(),
        }),
    }
}

/// The gap of every pair.
pub(super) fn gaps(
    rows: &RowsRef<'_>,
    source: &GapSource,
) -> Result<Vec<Option<f64>>, SelectError> {
    match source {
        GapSource::Column(path) => column(rows, path),
        GapSource::Difference { chosen, rejected } => {
            let chosen = column(rows, chosen)?;
            let rejected = column(rows, rejected)?;
            let pairs = chosen.into_iter().zip(rejected);
            Ok(pairs.map(|(c, r)| Some(c? - r?)).collect())
        }
    }
}

/// `keep` rows by the seed out of those on the right side of the threshold.
pub(super) fn within(
    scores: Vec<Option<f64>>,
    rule: &QualityRule,
    keep: usize,
    seed: &SeedTree,
) -> Result<Selection, SelectError> {
    let mut eligible = scored(&scores);
    eligible.retain(|&row| scores[row].is_some_and(|score| holds(rule, score)));
    seeded_of(eligible, scores, keep, seed, "outside-threshold")
}

/// Whether a score is on the right side of the threshold.
fn holds(rule: &QualityRule, score: f64) -> bool {
    let least = rule.at_least.unwrap_or(f64::NEG_INFINITY);
    let most = rule.at_most.unwrap_or(f64::INFINITY);
    (least..=most).contains(&score)
}

/// How many rows a method that reads columns could choose, by the further keys of each; nothing of other methods, and where a
/// row has no number there.
pub fn choosable<'r>(
    method: &SelectMethod,
    mut rows: impl Iterator<Item = &'r Value>,
) -> Option<usize> {
    let fits = |row: &Value| match method {
        SelectMethod::ChosenQuality(rule) | SelectMethod::RejectedQuality(rule) => {
            Some(holds(rule, score_at(row, &rule.column)?))
        }
        SelectMethod::PreferenceStrength(strength) => {
            let gap = match &strength.gap {
                GapSource::Column(path) => score_at(row, path)?,
                GapSource::Difference { chosen, rejected } => {
                    score_at(row, chosen)? - score_at(row, rejected)?
                }
            };
            Some(open_bin(strength, gap).is_some())
        }
        _ => None,
    };
    rows.try_fold(0, |sum, row| Some(sum + usize::from(fits(row)?)))
}

/// The number at a path of keys and list positions in the further keys of a row.
pub fn score_at(extra: &Value, path: &str) -> Option<f64> {
    look_up(extra, path).and_then(Value::as_f64)
}

fn look_up<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        _ => value.get(part),
    })
}

fn describe(found: Option<&Value>) -> String {
    match found {
        None => "nothing stands there".to_owned(),
        Some(value) => {
            let text: String = value.to_string().chars().take(40).collect();
            format!("there stands {text}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_goes_through_keys_and_lists() {
        let row = json!({"meta": {"votes": [2, 1, 2], "score": 3.5}});
        let number = |path| look_up(&row, path).and_then(Value::as_f64);
        assert_eq!(number("meta.votes.1"), Some(1.0));
        assert_eq!(number("meta.score"), Some(3.5));
        assert_eq!(number("meta.votes.3"), None);
        assert_eq!(number("meta.votes"), None);
        assert_eq!(number("meta.score.x"), None);
    }

    // By hand: gaps 1, 2, 3 and 4; bins from 1 to below 2, and from 2 to 3, of which the first has no weight.
    #[test]
    fn rows_that_could_be_chosen_are_counted_as_they_are_chosen() {
        let rows: Vec<Value> = [1, 2, 3, 4].map(|gap| json!({ "gap": gap })).into();
        let count = |method: Value| {
            let method: SelectMethod = serde_json::from_value(method).unwrap();
            choosable(&method, rows.iter())
        };
        let quality = |rule: Value| count(json!({ "chosen-quality": rule }));
        assert_eq!(quality(json!({"column": "gap", "at-least": 3.0})), Some(2));
        assert_eq!(
            quality(json!({"column": "gap", "at-least": 1.5, "at-most": 2.0})),
            Some(1)
        );
        assert_eq!(quality(json!({"column": "no", "at-least": 3.0})), None);
        let bins = |weights: Value| {
            let bins =
                json!({"gap": {"column": "gap"}, "edges": [1.0, 2.0, 3.0], "weights": weights});
            count(json!({ "preference-strength": bins }))
        };
        assert_eq!(
            (bins(json!([1.0, 1.0])), bins(json!([0.0, 1.0]))),
            (Some(3), Some(2))
        );
        assert_eq!(count(json!("longest")), None);
    }

    #[test]
    fn thresholds_hold_on_both_sides_and_include_their_value() {
        let scores: Vec<Option<f64>> = [1.0, 2.0, 3.0, 4.0].into_iter().map(Some).collect();
        let kept = |at_least, at_most, keep| {
            let rule = QualityRule {
                column: "a".to_owned(),
                at_least,
                at_most,
            };
            within(scores.clone(), &rule, keep, &SeedTree::root(0)).map(|mut selection| {
                selection.kept.sort_unstable();
                selection.kept
            })
        };
        assert_eq!(kept(Some(3.0), None, 2).unwrap(), [2, 3]);
        assert_eq!(kept(None, Some(2.0), 2).unwrap(), [0, 1]);
        assert_eq!(kept(Some(2.0), Some(3.0), 2).unwrap(), [1, 2]);
        let error = kept(Some(3.0), None, 3).unwrap_err().to_string();
        let want = "`keep` is 3, but only 2 of 4 rows can be chosen: 2 outside-threshold";
        assert_eq!(error, want);
    }
}
