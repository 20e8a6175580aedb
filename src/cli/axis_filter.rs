//! `--where axis=value`: some trials of a sweep.

use crate::cli::error::CommandError;
use crate::config::nearest;
use crate::config::sweep::{AxisValue, show_value};
use std::collections::BTreeMap;
use std::str::FromStr;

/// The name under which the seed is an axis, too.
const SEED: &str = "seed";

/// An axis and the value that it shall have; `seed` is an axis, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AxisFilter {
    axis: String,
    value: String,
}

impl FromStr for AxisFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (axis, value) = text.split_once('=').ok_or("it must be AXIS=VALUE")?;
        Ok(Self {
            axis: axis.trim().to_owned(),
            value: value.trim().to_owned(),
        })
    }
}

impl AxisFilter {
    /// Whether a trial has the value; numbers are equal however they are written.
    fn fits(&self, assignments: &BTreeMap<String, AxisValue>, seed: u64) -> bool {
        let found = match assignments.get(&self.axis) {
            Some(value) => show_value(value),
            None if self.axis == SEED => seed.to_string(),
            None => return false,
        };
        let number = |text: &str| text.parse::<f64>().ok();
        let equal = |(a, b): (f64, f64)| (a - b).abs() <= f64::EPSILON * a.abs().max(b.abs());
        found == self.value || number(&found).zip(number(&self.value)).is_some_and(equal)
    }
}

/// Whether a trial has one of the values that are named of each axis.
pub(crate) fn fits_all(
    filters: &[AxisFilter],
    assignments: &BTreeMap<String, AxisValue>,
    seed: u64,
) -> bool {
    filters.iter().all(|filter| {
        let mut of_axis = filters.iter().filter(|other| other.axis == filter.axis);
        of_axis.any(|filter| filter.fits(assignments, seed))
    })
}

/// Refuses an axis that the sweep has not.
///
/// # Errors
/// There is one; the hint names those that there are.
pub(crate) fn check_axes<'a>(
    filters: &[AxisFilter],
    axes: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), CommandError> {
    let unknown =
        |filter: &&AxisFilter| filter.axis != SEED && axes.clone().all(|a| a != filter.axis);
    let Some(filter) = filters.iter().find(unknown) else {
        return Ok(());
    };
    let error = CommandError::user(format!("the sweep has no axis `{}`", filter.axis));
    let all = axes.clone().chain([SEED]);
    Err(match nearest(&filter.axis, all.clone()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("it has {}", all.collect::<Vec<_>>().join(", "))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_compared_as_people_write_them() {
        let assignments = BTreeMap::from([
            ("beta".to_owned(), json!(0.1)),
            ("loss".to_owned(), json!("ipo")),
        ]);
        let fits = |text: &str| {
            let filter: AxisFilter = text.parse().unwrap();
            fits_all(&[filter], &assignments, 3)
        };
        assert!(fits("beta=0.10") && fits("beta = 1e-1") && fits("loss=ipo") && fits("seed=3"));
        assert!(!fits("beta=0.2") && !fits("loss=dpo") && !fits("seed=4") && !fits("size=1"));
        let either = ["beta=0.1", "beta=0.2", "loss=ipo"].map(|text| text.parse().unwrap());
        assert!(fits_all(&either, &assignments, 3));
        let neither = ["beta=0.1", "loss=dpo"].map(|text| text.parse().unwrap());
        assert!(!fits_all(&neither, &assignments, 3));
        assert!("beta".parse::<AxisFilter>().is_err());
        let filters = ["bta=1".parse().unwrap()];
        let error = check_axes(&filters, ["beta", "loss"].into_iter()).unwrap_err();
        assert_eq!(error.hints, ["did you mean `beta`?"]);
    }
}
