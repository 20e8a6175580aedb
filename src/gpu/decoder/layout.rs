//! Where the parameters lie in arrays that all of them share: weights, masters, moments and gradients.

use crate::arch::{DecoderConfig, PARAMETER_ALIGNMENT, decays};
use crate::gpu::decoder::parts::Parts;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;

/// Where one parameter lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its numbers.
    pub range: Range<usize>,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether weight decay reaches it: matrices that are not norms.
    pub decays: bool,
}

impl Place {
    /// The numbers of some rows of a matrix.
    ///
    /// # Panics
    /// It has no such rows.
    pub fn rows(&self, rows: &Range<usize>) -> Range<usize> {
        let width = self.range.len() / self.shape.first().copied().unwrap_or(1).max(1);
        let start = self.range.start + rows.start * width;
        let end = self.range.start + rows.end * width;
        assert!(
            start <= end && end <= self.range.end,
            "rows {rows:?} of {self:?}"
        );
        start..end
    }
}

/// The place of every parameter. Between them lie numbers that nobody uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    places: BTreeMap<String, Place>,
    len: usize,
}

impl Layout {
    /// All parameters of a decoder, in the order of [`Parts`].
    pub fn of_model(config: &DecoderConfig) -> Self {
        let mut names = Vec::new();
        let Ok(_) = Parts::build(config, |name| {
            names.push(name.to_owned());
            Ok::<_, Infallible>(())
        });
        let mut shapes = config.tensors();
        let with_shape = |name: String| shapes.remove(&name).map(|shape| (name, shape));
        Self::new(names.into_iter().filter_map(with_shape))
    }

    /// Parameters of these names and shapes, one after the other.
    pub fn new(parameters: impl IntoIterator<Item = (String, Vec<usize>)>) -> Self {
        let mut layout = Self::default();
        for (name, shape) in parameters {
            let start = layout.len;
            let end = start + shape.iter().product::<usize>();
            let place = Place {
                range: start..end,
                decays: decays(&name, shape.len()),
                shape,
            };
            layout.places.insert(name, place);
            layout.len = end.next_multiple_of(PARAMETER_ALIGNMENT);
        }
        layout
    }

    /// Numbers in all, those between parameters included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Where a parameter lies.
    pub fn get(&self, name: &str) -> Option<&Place> {
        self.places.get(name)
    }

    /// Names and places, in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Place)> {
        self.places
            .iter()
            .map(|(name, place)| (name.as_str(), place))
    }

    /// Names and shapes.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let shape = |(name, place): (&str, &Place)| (name.to_owned(), place.shape.clone());
        self.iter().map(shape).collect()
    }

    /// What learns if all of it does but for the rows of one matrix that are not named: ranges and whether weight
    /// decay reaches them.
    pub fn learning(&self, limited: Option<(&str, &Range<usize>)>) -> Vec<(Range<usize>, bool)> {
        let range = |(name, place): (&str, &Place)| {
            let range = match limited {
                Some((limited, rows)) if limited == name => place.rows(rows),
                _ => place.range.clone(),
            };
            (range, place.decays)
        };
        let mut ranges: Vec<_> = self.iter().map(range).collect();
        ranges.sort_by_key(|(range, _)| range.start);
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_lie_aligned_and_apart_and_matrices_decay() {
        let layout = Layout::new([
            ("a.weight".to_owned(), vec![3, 5]),
            ("norm.weight".to_owned(), vec![2, 5]),
            ("a.bias".to_owned(), vec![70]),
        ]);
        let ranges: Vec<_> = layout
            .iter()
            .map(|(name, p)| (name, p.range.clone(), p.decays))
            .collect();
        let want = [
            ("a.bias", 128..198, false),
            ("a.weight", 0..15, true),
            ("norm.weight", 64..74, false),
        ];
        assert_eq!(ranges, want);
        assert_eq!(layout.len(), 256);
        let learning = layout.learning(Some(("a.weight", &(1..3))));
        assert_eq!(
            learning,
            [(5..15, true), (64..74, false), (128..198, false)]
        );
    }
}
