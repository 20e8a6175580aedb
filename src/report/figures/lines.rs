//! Lines over a numeric axis, and which of its values is best.

use crate::config::sweep::{AxisValue, LinesSpec, show_value};
use crate::figures::axes::setting;
use crate::figures::{Chart, LineChart, Panel, Series};
use crate::metrics::{Better, fixed};
use crate::report::figures::builder::{Builder, KindOfFigure, scale_of};
use crate::report::figures::findings::{best_point, led};
use crate::report::select::{Configuration, ReportError};
use std::collections::BTreeMap;

impl KindOfFigure for LinesSpec {
    fn x(&self) -> Option<&str> {
        Some(&self.x)
    }

    fn names_configurations(&self) -> bool {
        false
    }

    fn reference(&self) -> Option<&BTreeMap<String, AxisValue>> {
        Some(&self.reference).filter(|r| !r.is_empty())
    }

    fn x_label(&self, builder: &Builder<'_>) -> String {
        with_scale(builder.axis_label(&self.x), self.log_x)
    }

    fn chart(
        &self,
        builder: &mut Builder<'_>,
        title: &str,
        members: &[Configuration<'_>],
    ) -> Result<Box<dyn Chart>, ReportError> {
        if self.x.is_empty() {
            return Err(ReportError::NoX {
                figure: builder.head.name.clone(),
            });
        }
        let (mut series, mut best_places) = (Vec::new(), Vec::new());
        for value in builder.series_values(members) {
            let (mut points, mut places) = (Vec::new(), Vec::new());
            let of_series: Vec<_> = builder.of_series(members, value.as_ref()).collect();
            for c in of_series {
                if let Some(x) = self.place(builder, c)? {
                    places.extend(builder.arm(c).map(|arm| (arm, x)));
                    points.push(builder.point(c, x));
                }
            }
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            // Where some cannot be compared nothing is clearly worse, and nothing is said of it.
            best_places.push(builder.not_clearly_worse(&places).unwrap_or_default());
            series.push(Series {
                name: builder.series_name(value.as_ref()),
                look: builder.series_look(value.as_ref()),
                points,
            });
        }
        builder.seed_lines |= series.iter().any(|one| !one.seed_lines().is_empty());
        name_best(builder, title, &self.x, &series, &best_places);
        Ok(Box::new(LineChart {
            scale: scale_of(self.log_x),
            series,
            reference: builder.reference_line(&self.reference),
        }))
    }

    fn note(&self, builder: &Builder<'_>, seeds: &str, _panels: &[Panel]) -> String {
        let best = if builder.better() == Better::Neither {
            ""
        } else {
            " Ringed: the best mean of each line."
        };
        let line = if self.reference.is_empty() {
            ""
        } else {
            " Dashed line and band: the reference and its interval."
        };
        let points = builder.marks_words("Points", seeds);
        let thin = builder.seed_lines_words();
        format!("{points}.{thin} Marks at one place stand side by side.{line}{best}")
    }
}

impl LinesSpec {
    /// Where a configuration stands on x; nowhere if the axis does not apply to it.
    fn place(
        &self,
        builder: &Builder<'_>,
        c: &Configuration<'_>,
    ) -> Result<Option<f64>, ReportError> {
        let Some(setting) = c.assignments.get(&self.x) else {
            return Ok(None);
        };
        let number = setting.as_f64().or_else(|| setting.as_str()?.parse().ok());
        match number.filter(|x: &f64| x.is_finite() && (!self.log_x || *x > 0.0)) {
            Some(x) => Ok(Some(x)),
            None => Err(ReportError::NotNumeric {
                figure: builder.head.name.clone(),
                axis: self.x.clone(),
                value: show_value(setting),
            }),
        }
    }
}

/// The label of an axis that may be logarithmic, in one pair of brackets with its unit.
fn with_scale(label: String, log: bool) -> String {
    match label.strip_suffix(')') {
        _ if !log => label,
        Some(open) => format!("{open}, log scale)"),
        None => format!("{label} (log scale)"),
    }
}

/// Says the best x of each line with its interval and what is not clearly worse, and what lines have in
/// common.
fn name_best(
    builder: &mut Builder<'_>,
    title: &str,
    axis: &str,
    series: &[Series],
    best_places: &[Vec<f64>],
) {
    let better = builder.better();
    if better == Better::Neither {
        return;
    }
    let (decimals, unit) = (builder.decimals(), builder.unit_behind(axis));
    let mut named = 0;
    for (one, places) in series.iter().zip(best_places) {
        let Some(best) = best_point(&one.points, better) else {
            continue;
        };
        named += 1;
        let value = best.estimate.map_or(f64::NAN, |e| e.value);
        let lead = led(title, &one.name);
        let mut text = format!(
            "{lead}best {axis}: {}{unit}, {}",
            setting(best.x),
            fixed(value, decimals)
        );
        if let Some(i) = best.interval {
            let (low, high) = (fixed(i.low, decimals), fixed(i.high, decimals));
            text += &format!(" [{low}, {high}]");
        }
        let others: Vec<String> = places
            .iter()
            .filter(|x| x.total_cmp(&best.x).is_ne())
            .map(|x| setting(*x))
            .collect();
        if !others.is_empty() {
            text += &format!("; not clearly worse: {}", others.join(", "));
        }
        builder.findings.push(format!("{text}."));
    }
    if named > 1 && best_places.iter().all(|places| !places.is_empty()) {
        let lead = led(title, "");
        builder
            .findings
            .push(lead + &common_words(axis, best_places));
    }
}

/// Which settings may be the best of every line.
fn common_words(axis: &str, best_places: &[Vec<f64>]) -> String {
    let everywhere = |x: &&f64| best_places.iter().all(|places| places.contains(x));
    let common: Vec<String> = best_places[0]
        .iter()
        .filter(everywhere)
        .map(|x| setting(*x))
        .collect();
    match common.as_slice() {
        [] => format!("The best {axis} differs between the lines: none may be the best of all."),
        [one] if best_places.iter().all(|places| places.len() == 1) => {
            format!("The best {axis} is the same in every line: {one}.")
        }
        some => format!(
            "The best {axis} may be the same in every line: {} (not clearly worse than the best in any).",
            some.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_and_a_scale_share_their_brackets() {
        let label = |text: &str, log| with_scale(text.to_owned(), log);
        assert_eq!(label("beta", true), "beta (log scale)");
        assert_eq!(label("length (tokens)", true), "length (tokens, log scale)");
        assert_eq!(label("length (tokens)", false), "length (tokens)");
    }

    #[test]
    fn lines_share_a_best_setting_or_not() {
        let words = |places: &[&[f64]]| {
            let places: Vec<Vec<f64>> = places.iter().map(|p| p.to_vec()).collect();
            common_words("beta", &places)
        };
        assert!(words(&[&[0.1], &[0.1]]).ends_with("the same in every line: 0.1."));
        assert!(words(&[&[0.1, 0.5], &[0.1]]).contains("may be the same in every line: 0.1 ("));
        assert!(words(&[&[0.5], &[0.1]]).contains("differs"));
    }
}
