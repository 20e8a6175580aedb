//! Arms and their differences as tables show them.

use crate::base::counted;
use crate::metrics::column::{Analysis, Contrast, Measured};
use crate::metrics::estimate::Interval;
use crate::metrics::spec::{Better, Transform};
use crate::metrics::verdict::{Verdict, family_alpha, family_p};
use crate::metrics::words::{fixed, p_value, signed};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Where the interval and the p-value of a comparison come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "method")]
pub enum Method {
    /// New seeds and new rows: the seeds' variance pooled over the table, the rows' by cluster.
    SeedsAndRows {
        /// Paired seeds.
        seeds: usize,
        /// Degrees of freedom of the seeds' variance.
        seeds_df: f64,
        /// Paired evaluation rows.
        rows: usize,
        /// Their clusters.
        clusters: usize,
    },
    /// New seeds, these rows.
    Seeds {
        /// Paired seeds.
        seeds: usize,
        /// Degrees of freedom of their variance.
        seeds_df: f64,
    },
    /// New rows, these seeds.
    Rows {
        /// Paired evaluation rows.
        rows: usize,
        /// Their clusters.
        clusters: usize,
    },
    /// A difference without a test.
    Untested {
        /// Why there is none.
        reason: String,
    },
}

impl Method {
    /// Of a measured contrast.
    pub fn of(measured: &Measured) -> Self {
        let (seeds, rows, clusters) = (measured.seeds, measured.rows, measured.clusters);
        let untested = |reason: &str| Self::Untested {
            reason: reason.to_owned(),
        };
        match measured.real_spread() {
            None if measured.spread.is_none() => untested("one seed and no rows to compare"),
            None => untested("no spread between seeds"),
            Some(s) if s.seeds_df == 0.0 => Self::Rows { rows, clusters },
            Some(s) if rows == 0 => Self::Seeds {
                seeds,
                seeds_df: s.seeds_df,
            },
            Some(s) => Self::SeedsAndRows {
                seeds,
                seeds_df: s.seeds_df,
                rows,
                clusters,
            },
        }
    }

    /// For a caption: what is sampled.
    pub fn describe(&self) -> String {
        Self::describe_all([self])
    }

    /// What is sampled in several comparisons, each way once; numbers that differ as ranges.
    pub fn describe_all<'a>(methods: impl IntoIterator<Item = &'a Self>) -> String {
        let mut ways: BTreeMap<&str, Vec<[usize; 4]>> = BTreeMap::new();
        let mut reasons: BTreeSet<&str> = BTreeSet::new();
        for method in methods {
            let (way, numbers) = match method {
                Self::SeedsAndRows {
                    seeds,
                    seeds_df,
                    rows,
                    clusters,
                } => (
                    "new seeds and new rows",
                    [*seeds, seeds_df.round() as usize, *rows, *clusters],
                ),
                Self::Seeds { seeds, seeds_df } => (
                    "new seeds on the same rows",
                    [*seeds, seeds_df.round() as usize, 0, 0],
                ),
                Self::Rows { rows, clusters } => {
                    ("new rows for the same runs", [0, 0, *rows, *clusters])
                }
                Self::Untested { reason } => {
                    reasons.insert(reason);
                    continue;
                }
            };
            ways.entry(way).or_default().push(numbers);
        }
        let way =
            |(way, numbers): (&str, Vec<[usize; 4]>)| format!("{way} ({})", sampled(&numbers));
        let mut parts: Vec<String> = ways.into_iter().map(way).collect();
        parts.extend(
            reasons
                .into_iter()
                .map(|reason| format!("no test: {reason}")),
        );
        parts.join("; ")
    }
}

/// `3 paired seeds, their variance pooled with 10 degrees of freedom; 211 evaluation rows in 21 clusters`, of
/// seeds, degrees of freedom, rows and clusters.
fn sampled(numbers: &[[usize; 4]]) -> String {
    let range = |at: usize, noun: &str| -> Option<String> {
        let all = || numbers.iter().map(|n| n[at]);
        let (low, high) = (all().min()?, all().max()?);
        Some(match high {
            0 => return None,
            _ if low == high => counted(low, noun),
            _ => format!("{low} to {}", counted(high, noun)),
        })
    };
    let pooled = |df: String| format!(", their variance pooled with {df} of freedom");
    let seeds = range(0, "paired seed")
        .map(|seeds| seeds + &range(1, "degree").map_or_else(String::new, pooled));
    let apart = numbers.iter().any(|n| n[3] < n[2]);
    let clusters = range(3, "cluster").filter(|_| apart);
    let rows = range(2, "evaluation row").map(|rows| match clusters {
        Some(clusters) => format!("{rows} in {clusters}"),
        None => rows,
    });
    let alone = (seeds.is_none() && rows.is_some())
        .then(|| "how much seeds differ is not in it".to_owned());
    let parts = [seeds, rows, alone].into_iter().flatten();
    parts.collect::<Vec<_>>().join("; ")
}

/// A difference of configurations on one metric, first minus baseline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The difference, in the metric's unit.
    pub difference: f64,
    /// Its interval: with those of its family right together in 95 % of cases.
    pub interval: Option<Interval>,
    /// Two-sided p-value of "no difference", of this comparison by itself.
    pub p: Option<f64>,
    /// The same after the correction over its family.
    pub p_family: Option<f64>,
    /// Comparisons in its family.
    pub family: usize,
    /// Differences up to here make no difference; `None` if nobody said so.
    pub delta: Option<f64>,
    /// Interval for new seeds on these same rows, by Student's t over its own seeds, by itself.
    pub fixed_rows: Option<Interval>,
    /// p-value of that test.
    pub fixed_rows_p: Option<f64>,
    /// How they were computed.
    pub method: Method,
}

impl Comparison {
    /// A difference that nothing tests, with the reason.
    pub fn untested(difference: f64, reason: &str) -> Self {
        Self {
            difference,
            interval: None,
            p: None,
            p_family: None,
            family: 0,
            delta: None,
            fixed_rows: None,
            fixed_rows_p: None,
            method: Method::Untested {
                reason: reason.to_owned(),
            },
        }
    }

    /// What the comparison says: what its interval shows.
    pub fn verdict(&self, better: Better) -> Verdict {
        let of = |interval| Verdict::of(interval, better, self.delta);
        self.interval.map_or(Verdict::Untested, of)
    }

    /// `−0.04 [−0.07, −0.01], better, p = .003`.
    pub fn words(&self, better: Better, decimals: usize) -> String {
        let mut text = signed(self.difference, decimals);
        if let Some(i) = self.interval {
            let (low, high) = (fixed(i.low, decimals), fixed(i.high, decimals));
            text += &format!(" [{low}, {high}]");
        }
        let verdict = self.verdict(better);
        text += &format!(", {}", verdict.words());
        match (verdict, self.delta) {
            (Verdict::Equivalent, Some(d)) => text += &format!(" within ±{}", fixed(d, decimals)),
            (Verdict::Untested, _) => {
                if let Method::Untested { reason } = &self.method {
                    text += &format!(" ({reason})");
                }
            }
            (_, Some(d)) if self.interval.is_some_and(|i| i.within(d)) => {
                text += &format!(" but within ±{}", fixed(d, decimals));
            }
            _ => {}
        }
        if let Some(p) = self.p_family {
            text += &format!(", {}", p_value(p));
        }
        text
    }
}

impl Analysis<'_> {
    /// `ours` against `base`, one of `family` comparisons; `None` without a common seed.
    pub fn compare(
        &self,
        ours: usize,
        base: usize,
        family: usize,
        delta: Option<f64>,
    ) -> Option<Comparison> {
        let contrast = vec![(ours, 1.0), (base, -1.0)];
        self.compare_contrast(&contrast, family_alpha(family), family, delta)
    }

    /// Any difference, its interval missing with probability `alpha`; `None` without a common seed.
    pub fn compare_contrast(
        &self,
        contrast: &Contrast,
        alpha: f64,
        family: usize,
        delta: Option<f64>,
    ) -> Option<Comparison> {
        let measured = self.contrast(contrast)?;
        let map = |linear: f64| difference_of(self.transform(), measured.base, linear);
        let shown = |i: Interval| Interval {
            low: map(i.low),
            high: map(i.high),
        };
        let value = map(measured.value);
        if self.is_constant() {
            return Some(Comparison::untested(value, "the same at every seed"));
        }
        if measured.identical {
            return Some(Comparison::untested(value, "equal in every row"));
        }
        let method = Method::of(&measured);
        if let Method::Untested { reason } = &method {
            return Some(Comparison::untested(value, reason));
        }
        let spread = measured.real_spread()?;
        let p = spread.p_value(measured.value);
        let around = |half| shown(Interval::around(measured.value, half));
        Some(Comparison {
            difference: value,
            interval: spread.half_width(alpha).map(around),
            p,
            p_family: p.map(|p| family_p(p, family)),
            family,
            delta,
            fixed_rows: measured.fixed_rows.map(|f| shown(f.0)),
            fixed_rows_p: measured.fixed_rows.map(|f| f.1),
            method,
        })
    }

    /// The 95 % interval of one arm for new seeds and new rows; none of constants, or if nothing tells.
    pub fn cell_interval(&self, arm: usize) -> Option<Interval> {
        let measured = self.cell(arm)?;
        if self.is_constant() {
            return None;
        }
        let spread = measured.real_spread()?;
        if self.is_share() && (measured.value <= 0.0 || measured.value >= 1.0) {
            return (measured.clusters > 1).then(|| all_or_none(measured.value, measured.clusters));
        }
        let half = spread.half_width(0.05)?;
        Some(if self.is_share() {
            by_logit(measured.value, half)
        } else {
            let linear = Interval::around(measured.value, half);
            let map = |v| self.transform().apply(v);
            Interval {
                low: map(linear.low),
                high: map(linear.high),
            }
        })
    }

    /// For each of these arms whether it may be the best of them: it is not clearly worse than the best
    /// mean, all of them together. `None` for arms that cannot be compared with it, and for all if neither
    /// way is better or fewer than two have values.
    pub fn best_set(&self, arms: &[usize], better: Better) -> Vec<Option<bool>> {
        let score = |arm: usize| {
            let value = self.cell(arm)?.value;
            Some(if better == Better::Lower {
                -value
            } else {
                value
            })
        };
        let scores: Vec<Option<f64>> = arms.iter().map(|arm| score(*arm)).collect();
        let known = || {
            arms.iter()
                .zip(&scores)
                .filter_map(|(arm, s)| Some((*arm, (*s)?)))
        };
        let top = known().reduce(|a, b| if b.1 > a.1 { b } else { a });
        let Some((top, best)) = top.filter(|_| better != Better::Neither && known().count() > 1)
        else {
            return vec![None; arms.len()];
        };
        let family = known().count() - 1;
        let may = |(arm, score): (&usize, &Option<f64>)| -> Option<bool> {
            if (*score)? >= best {
                return Some(true);
            }
            let verdict = self.compare(*arm, top, family, None)?.verdict(better);
            (verdict != Verdict::Untested).then_some(verdict != Verdict::Worse)
        };
        arms.iter().zip(&scores).map(may).collect()
    }
}

/// The difference in the metric for one on the scale on which rows are averaged.
fn difference_of(transform: Transform, base: f64, linear: f64) -> f64 {
    match transform {
        Transform::Identity => linear,
        Transform::Exp => base.exp() * linear.exp_m1(),
    }
}

/// The interval of a share on the logit scale: it stays within 0 and 1.
fn by_logit(share: f64, half: f64) -> Interval {
    let middle = (share / (1.0 - share)).ln();
    let half = half / (share * (1.0 - share));
    let back = |logit: f64| 1.0 / (1.0 + (-logit).exp());
    Interval {
        low: back(middle - half),
        high: back(middle + half),
    }
}

/// Wilson's interval (1927) of a share that is none or all of `n` clusters.
fn all_or_none(share: f64, n: usize) -> Interval {
    let z2 = 1.959_963_984_540_054f64.powi(2);
    let edge = z2 / (n as f64 + z2);
    if share <= 0.0 {
        Interval {
            low: 0.0,
            high: edge,
        }
    } else {
        Interval {
            low: 1.0 - edge,
            high: 1.0,
        }
    }
}
