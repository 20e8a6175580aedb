//! Chat benchmarks whose answers a judge scores: what is known of one question, and its metrics.

use crate::metrics::spec::{Better, Metric, MetricSpec, plain, share, spec};

/// Ratings of the answers to a question of MT-Bench.
#[derive(Clone, Debug, PartialEq)]
pub struct Rated {
    /// The question's category.
    pub category: String,
    /// The rating of each turn, 1 to 10; none where the judge gave none.
    pub turns: Vec<Option<f64>>,
}

impl Rated {
    fn turn(&self, turn: usize) -> Option<f64> {
        self.turns.get(turn).copied().flatten()
    }

    fn mean(&self) -> Option<f64> {
        let given: Vec<f64> = self.turns.iter().copied().flatten().collect();
        (!given.is_empty()).then(|| given.iter().sum::<f64>() / given.len() as f64)
    }

    fn of(&self, category: &str) -> Option<f64> {
        self.mean().filter(|_| self.category == category)
    }
}

const fn rating(suffix: &'static str, name: &'static str, description: &'static str) -> MetricSpec {
    spec(suffix, name, "1 to 10", Better::Higher, 2, description)
}

/// Metrics of a question of MT-Bench; each is the mean over the turns it is about that have a rating.
pub static RATED: &[Metric<Rated>] = &[
    Metric {
        spec: rating(
            "rating",
            "rating",
            "Mean rating over all turns; those without one are left out.",
        ),
        of: Rated::mean,
    },
    Metric {
        spec: rating(
            "rating/turn_1",
            "rating, turn 1",
            "Mean rating of first turns.",
        ),
        of: |rated| rated.turn(0),
    },
    Metric {
        spec: rating(
            "rating/turn_2",
            "rating, turn 2",
            "Mean rating of second turns.",
        ),
        of: |rated| rated.turn(1),
    },
    Metric {
        spec: rating(
            "rating/writing",
            "rating, writing",
            "Mean rating in the category writing.",
        ),
        of: |rated| rated.of("writing"),
    },
    Metric {
        spec: rating(
            "rating/roleplay",
            "rating, roleplay",
            "Mean rating in the category roleplay.",
        ),
        of: |rated| rated.of("roleplay"),
    },
    Metric {
        spec: rating(
            "rating/reasoning",
            "rating, reasoning",
            "Mean rating in the category reasoning.",
        ),
        of: |rated| rated.of("reasoning"),
    },
    Metric {
        spec: rating(
            "rating/math",
            "rating, math",
            "Mean rating in the category math.",
        ),
        of: |rated| rated.of("math"),
    },
    Metric {
        spec: rating(
            "rating/coding",
            "rating, coding",
            "Mean rating in the category coding.",
        ),
        of: |rated| rated.of("coding"),
    },
    Metric {
        spec: rating(
            "rating/extraction",
            "rating, extraction",
            "Mean rating in the category extraction.",
        ),
        of: |rated| rated.of("extraction"),
    },
    Metric {
        spec: rating(
            "rating/stem",
            "rating, stem",
            "Mean rating in the category stem.",
        ),
        of: |rated| rated.of("stem"),
    },
    Metric {
        spec: rating(
            "rating/humanities",
            "rating, humanities",
            "Mean rating in the category humanities.",
        ),
        of: |rated| rated.of("humanities"),
    },
];

/// A question of Arena-Hard-Auto.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fought {
    /// The share of its battles that the model won, ties half; none where no game has a label.
    pub won: Option<f64>,
    /// The share of its games that what stood first won, ties half; none where no game has a label.
    pub first: Option<f64>,
}

/// Metrics of a question of Arena-Hard-Auto.
pub static FOUGHT: &[Metric<Fought>] = &[
    Metric {
        spec: share(
            "win_rate",
            "win rate",
            "share of verdicts",
            "Share of verdicts won against the baseline, as the benchmark counts and weighs them.",
        ),
        of: |fought| fought.won,
    },
    Metric {
        spec: plain(
            "first_wins",
            "first shown wins",
            "share of verdicts",
            "Share of verdicts for what the judge was shown first, ties half; one half is no bias.",
        ),
        of: |fought| fought.first,
    },
];

/// An instruction of AlpacaEval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preferred {
    /// The judge's preference for the model, 0 to 1; none where it named neither reply.
    pub preference: Option<f64>,
    /// The preference for equally long replies; none without a fitted model.
    pub length_controlled: Option<f64>,
    /// Characters of the model's reply.
    pub characters: usize,
}

/// Metrics of an instruction of AlpacaEval.
pub static PREFERRED: &[Metric<Preferred>] = &[
    Metric {
        spec: share(
            "win_rate",
            "win rate",
            "share of verdicts",
            "Share of verdicts won against the baseline, as the benchmark counts and weighs them.",
        ),
        of: |preferred| preferred.preference,
    },
    Metric {
        spec: share(
            "discrete_win_rate",
            "discrete win rate",
            "share of instructions",
            "Share of instructions on which the judge prefers the model, draws half.",
        ),
        of: |preferred| {
            let lead = preferred.preference? - 0.5;
            Some(if lead == 0.0 {
                0.5
            } else {
                f64::from(lead > 0.0)
            })
        },
    },
    Metric {
        spec: MetricSpec {
            from_zero: true,
            ..plain(
                "reply_length",
                "reply length",
                "characters",
                "Mean number of characters of a reply.",
            )
        },
        of: |preferred| Some(preferred.characters as f64),
    },
];

/// The metric that needs the published tables of AlpacaEval.
pub static EQUALLY_LONG: &[Metric<Preferred>] = &[Metric {
    spec: share(
        "lc_win_rate",
        "length-controlled win rate",
        "share of instructions",
        "Win rate against the baseline as it would be if both replies were equally long.",
    ),
    of: |preferred| preferred.length_controlled,
}];
