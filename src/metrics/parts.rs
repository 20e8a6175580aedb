//! Which rows seeds were measured on, where those differ.

use crate::base::counted;
use crate::metrics::column::Column;
use std::collections::BTreeSet;

/// The different rows on which the seeds of a column were measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// How many different ones.
    pub parts: usize,
    /// Rows of the smallest.
    pub least: usize,
    /// Rows of the largest.
    pub most: usize,
    /// Rows of all.
    pub rows: usize,
}

impl Column {
    /// The parts of the rows that its seeds were measured on; `None` if all have the same rows, or rows are not
    /// known.
    pub fn parts(&self) -> Option<Parts> {
        let seeds = self.arms.iter().flat_map(|arm| &arm.seeds);
        let known = seeds.filter(|seed| !seed.rows.is_empty());
        let masks: BTreeSet<Vec<bool>> = known.map(|seed| seed.measured().collect()).collect();
        let size = |mask: &Vec<bool>| mask.iter().filter(|has| **has).count();
        if !masks.iter().any(|mask| size(mask) < mask.len()) {
            return None;
        }
        Some(Parts {
            parts: masks.len(),
            least: masks.iter().map(size).min()?,
            most: masks.iter().map(size).max()?,
            rows: masks.iter().map(Vec::len).max()?,
        })
    }
}

impl Parts {
    /// A sentence for a caption.
    pub fn words(&self) -> String {
        let Self {
            parts, least, most, ..
        } = self;
        let rows = counted(self.rows, "row");
        let each = if least == most {
            format!("{least} each")
        } else {
            format!("{least} to {most} each")
        };
        // Parts that do not add up to all rows overlap: some seeds lack single rows.
        if parts * least > self.rows || parts * most < self.rows {
            return format!("Seeds were measured on different rows: {each} of {rows}.");
        }
        format!(
            "Cross-validation: each seed is measured on one of {parts} parts of the rows, {each}, and all \
             together on {rows}."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::column::{Arm, SeedValues};

    fn column(rows: &[&[f64]]) -> Column {
        let seed = |(at, rows): (usize, &&[f64])| SeedValues {
            seed: at as u64,
            run: at,
            value: 0.0,
            rows: rows.to_vec(),
        };
        Column {
            arms: vec![Arm {
                seeds: rows.iter().enumerate().map(seed).collect(),
                row_set: Some(0),
            }],
            ..Column::default()
        }
    }

    const GAP: f64 = f64::NAN;

    #[test]
    fn seeds_in_turn_on_parts_are_cross_validation() {
        let parts = column(&[&[1.0, 0.0, GAP], &[GAP, GAP, 1.0], &[0.0, 1.0, GAP]]).parts();
        let parts = parts.unwrap();
        assert_eq!(
            (parts.parts, parts.least, parts.most, parts.rows),
            (2, 1, 2, 3)
        );
        assert!(
            parts.words().starts_with(
                "Cross-validation: each seed is measured on one of 2 parts of the rows, 1 to 2 each"
            ),
            "{}",
            parts.words()
        );
        assert_eq!(column(&[&[1.0, 0.0], &[0.0, 1.0]]).parts(), None);
        assert_eq!(column(&[&[], &[]]).parts(), None);
    }

    #[test]
    fn seeds_that_lack_single_rows_are_not() {
        let parts = column(&[&[1.0, 0.0, GAP], &[1.0, GAP, 0.0]])
            .parts()
            .unwrap();
        assert_eq!(
            parts.words(),
            "Seeds were measured on different rows: 2 each of 3 rows."
        );
    }
}
