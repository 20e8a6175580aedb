//! Rows of evaluation tasks, one kind of item for each way to score an answer. Keys are those of
//! lm-evaluation-harness where it has the metric.

use crate::metrics::spec::{Metric, MetricSpec, share};

/// Choices as the model finds them.
#[derive(Clone, Debug, PartialEq)]
pub struct ChosenAmong {
    /// Log-likelihood of each choice, nats.
    pub logps: Vec<f64>,
    /// The text of each, without what stands before it.
    pub texts: Vec<String>,
    /// The right one.
    pub right: usize,
}

impl ChosenAmong {
    /// Whether the right choice is the likeliest, log-likelihoods divided by a length; the first of equal ones is.
    fn is_right(&self, length: impl Fn(&str) -> usize) -> f64 {
        let mut best: Option<(usize, f64)> = None;
        for (at, (logp, text)) in self.logps.iter().zip(&self.texts).enumerate() {
            let value = logp / length(text) as f64;
            if best.is_none_or(|(_, most)| value > most) {
                best = Some((at, value));
            }
        }
        f64::from(best.is_some_and(|(at, _)| at == self.right))
    }
}

/// Metrics of a choice among several.
pub static CHOSEN: &[Metric<ChosenAmong>] = &[
    Metric {
        spec: share(
            "acc",
            "accuracy",
            "share of rows",
            "Share of rows whose likeliest choice is the right one.",
        ),
        of: |row| Some(row.is_right(|_| 1)),
    },
    Metric {
        spec: share(
            "acc_norm",
            "accuracy by characters",
            "share of rows",
            "Share of rows whose likeliest choice is the right one, log-likelihoods divided by the choice's characters.",
        ),
        of: |row| Some(row.is_right(|text| text.chars().count())),
    },
    Metric {
        spec: share(
            "acc_bytes",
            "accuracy by bytes",
            "share of rows",
            "Share of rows whose likeliest choice is the right one, log-likelihoods divided by the choice's bytes.",
        ),
        of: |row| Some(row.is_right(str::len)),
    },
];

/// Choices of which several are right.
#[derive(Clone, Debug, PartialEq)]
pub struct SpreadOver {
    /// Log-likelihood of each choice, nats.
    pub logps: Vec<f64>,
    /// Whether each is right.
    pub right: Vec<bool>,
}

/// Metrics of choices of which several are right.
pub static SPREAD: &[Metric<SpreadOver>] = &[Metric {
    spec: share(
        "mc2",
        "probability on right choices",
        "share of probability",
        "Mean share of the choices' probability that lies on right ones (TruthfulQA's mc2).",
    ),
    of: |row| {
        // The greatest is taken away first, so that not all vanish.
        let most = row.logps.iter().copied().reduce(f64::max)?;
        let weight = |logp: &f64| (logp - most).exp();
        let all: f64 = row.logps.iter().map(weight).sum();
        let right = row
            .logps
            .iter()
            .zip(&row.right)
            .filter(|(_, right)| **right);
        Some(right.map(|(logp, _)| weight(logp)).sum::<f64>() / all)
    },
}];

/// Metrics of a part of an answer: whether it is the target.
pub static MATCHED: &[Metric<bool>] = &[Metric {
    spec: share(
        "exact_match",
        "exact match",
        "share of rows",
        "Share of rows whose answer, or the part of it that the task extracts, is the target.",
    ),
    of: |same| Some(f64::from(*same)),
}];

/// Metrics of a pattern: whether it is in the answer.
pub static FOUND: &[Metric<bool>] = &[Metric {
    spec: share(
        "found",
        "pattern found",
        "share of rows",
        "Share of rows in whose answer the task's pattern is found.",
    ),
    of: |found| Some(f64::from(*found)),
}];

/// Which instructions of a prompt an answer follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Each instruction, as the answer stands.
    pub strict: Vec<bool>,
    /// Each instruction, with its first or last line or its asterisks away where that helps.
    pub loose: Vec<bool>,
}

fn all(followed: &[bool]) -> f64 {
    f64::from(followed.iter().all(|&held| held))
}

/// Metrics of verifiable instructions.
pub static FOLLOWED: &[Metric<Followed>] = &[
    Metric {
        spec: share(
            "prompt_level_strict_acc",
            "prompts followed (strict)",
            "share of prompts",
            "Share of prompts of which every instruction is followed (IFEval).",
        ),
        of: |row| Some(all(&row.strict)),
    },
    Metric {
        spec: share(
            "prompt_level_loose_acc",
            "prompts followed (loose)",
            "share of prompts",
            "Share of prompts of which every instruction is followed, first and last lines and asterisks overlooked (IFEval).",
        ),
        of: |row| Some(all(&row.loose)),
    },
];

/// Metrics of single instructions, over the instructions of all prompts.
pub static INSTRUCTION: &[Metric<(bool, bool)>] = &[
    Metric {
        spec: MetricSpec {
            // Not the mean of anything that a row has.
            row_key: "",
            ..share(
                "inst_level_strict_acc",
                "instructions followed (strict)",
                "share of instructions",
                "Share of instructions that are followed (IFEval).",
            )
        },
        of: |(strict, _)| Some(f64::from(*strict)),
    },
    Metric {
        spec: MetricSpec {
            row_key: "",
            ..share(
                "inst_level_loose_acc",
                "instructions followed (loose)",
                "share of instructions",
                "Share of instructions that are followed, first and last lines and asterisks overlooked (IFEval).",
            )
        },
        of: |(_, loose)| Some(f64::from(*loose)),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn golden(key: &str) -> Vec<Value> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let all = ["scoring.json", "scoring_odd.json"].map(|file| -> Value {
            let path = path.join("tests/golden/eval").join(file);
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
        });
        let lists = all.iter().map(|all| all[key].as_array().unwrap());
        lists.flatten().cloned().collect()
    }

    fn list<T: serde::de::DeserializeOwned>(value: &Value) -> Vec<T> {
        serde_json::from_value(value.clone()).unwrap()
    }

    fn metric<T>(metrics: &[Metric<T>], suffix: &str, item: &T) -> f64 {
        let metric = metrics.iter().find(|m| m.spec.suffix == suffix).unwrap();
        (metric.of)(item).unwrap()
    }

    #[test]
    fn choices_are_scored_as_by_the_harness() {
        let cases = golden("choices");
        assert!(cases.len() >= 127, "{}", cases.len());
        for case in cases {
            let item = ChosenAmong {
                logps: list(&case["loglikelihoods"]),
                texts: list(&case["choices"]),
                right: usize::try_from(case["gold"].as_u64().unwrap()).unwrap(),
            };
            for key in ["acc", "acc_norm", "acc_bytes"] {
                let Some(want) = case[key].as_f64() else {
                    continue;
                };
                assert!((metric(CHOSEN, key, &item) - want).abs() < 1e-12, "{case}");
            }
        }
    }

    // Bytes are not characters: 9 against 7 here, 3 and 7 there.
    #[test]
    fn bytes_and_characters_differ() {
        let item = ChosenAmong {
            logps: vec![-6.0, -7.0],
            texts: vec!["日本語".to_owned(), "nihongo".to_owned()],
            right: 0,
        };
        assert!((metric(CHOSEN, "acc_bytes", &item) - 1.0).abs() < 1e-12);
        assert!(metric(CHOSEN, "acc_norm", &item).abs() < 1e-12);
    }

    #[test]
    fn the_share_on_right_choices_is_that_of_the_harness_and_does_not_vanish() {
        for case in golden("mc2") {
            let labels: Vec<u8> = list(&case["labels"]);
            let item = SpreadOver {
                logps: list(&case["loglikelihoods"]),
                right: labels.iter().map(|&label| label == 1).collect(),
            };
            let got = metric(SPREAD, "mc2", &item);
            match case["acc"].as_f64() {
                Some(want) => assert!((got - want).abs() < 1e-12, "{case}: {got}"),
                None => assert!((0.0..=1.0).contains(&got), "{case}: {got}"),
            }
        }
    }
}
