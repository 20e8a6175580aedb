//! What is drawn and over what the uncertainty is taken, in words.

use crate::config::sweep::FigureKind;
use crate::metrics::Better;
use crate::report::figures::Builder;

impl Builder<'_> {
    /// What is drawn and over what the uncertainty is taken.
    pub(super) fn note(&self, from_zero: bool) -> String {
        let n = match (self.seeds.first(), self.seeds.last()) {
            (Some(1), Some(1)) if self.spec.kind != FigureKind::Scaling => {
                return match self.spec.kind {
                    FigureKind::Training => "One seed a configuration.".to_owned(),
                    _ => "One seed a configuration, so no interval.".to_owned(),
                };
            }
            (Some(1), Some(1)) => "1 seed".to_owned(),
            (Some(low), Some(high)) if low == high => format!("{low} seeds"),
            (Some(low), Some(high)) => format!("{low} to {high} seeds"),
            _ => return "Nothing to draw yet.".to_owned(),
        };
        let best = if self.better() == Better::Neither {
            ""
        } else {
            " Ringed: the best mean of each line."
        };
        let line = if self.spec.reference.is_empty() {
            ""
        } else {
            " Dashed line and band: the reference and its interval."
        };
        match self.spec.kind {
            FigureKind::Training => {
                let under = if self.spec.under.is_empty() {
                    ""
                } else {
                    " Under each panel: mean ± half of its 95 % t-interval over seeds."
                };
                format!(
                    "Thick line: mean over {n}; band: lowest to highest seed; thin lines: single seeds.{under}"
                )
            }
            FigureKind::Scaling => {
                let over = if self.spec.log_x { "log₁₀ x" } else { "x" };
                let ring = if self.better() == Better::Neither {
                    ""
                } else {
                    " Ringed: where a series saturates; a dashed line down marks the turn of its fit."
                };
                let spread = if n == "1 seed" {
                    "Points: one seed each, so no interval.".to_owned()
                } else {
                    format!("Points: mean over {n}; whiskers: 95 % t-interval of that mean.")
                };
                format!(
                    "{spread} Dotted: least-squares parabola in {over} through the means.{ring}"
                )
            }
            FigureKind::Layout => String::new(),
            FigureKind::Lines => {
                format!("Points: mean over {n}; whiskers: 95 % t-interval of that mean.{best}")
            }
            FigureKind::Bars if from_zero => format!(
                "Bars: mean over {n}; whiskers: 95 % t-interval of that mean; dots: single seeds.{line}"
            ),
            FigureKind::Bars => format!(
                "Points: mean over {n}; whiskers: 95 % t-interval of that mean; dots: single seeds.{line} The axis does not start at zero."
            ),
        }
    }
}
