//! Random projection of vectors that are never held as a whole, by signs computed as they are needed.

use crate::base::SeedTree;
use rand::RngCore as _;
use rayon::prelude::*;

/// Signs drawn at once.
const LANES: usize = 64;

/// A seeded projection from any number of dimensions to a few: coordinate k of the image is
/// `Σ_i s(i, k) x_i`, every s(i, k) +1 or -1. Dot products of images, divided by the dimension, are
/// unbiased estimates of those of the vectors (Achlioptas 2003; Rademacher projections as in TRAK,
/// which LESS uses).
#[derive(Clone, Copy, Debug)]
pub(super) struct Projection {
    key: u64,
    dimension: usize,
}

/// The image of what has been added so far.
#[derive(Clone, Debug)]
pub(super) struct Image {
    projection: Projection,
    /// Values added so far: the place of the next.
    at: u64,
    /// Coordinates in words of [`LANES`]; those beyond the dimension are not used.
    words: Vec<[f64; LANES]>,
}

impl Projection {
    pub(super) fn new(dimension: usize, seed: &SeedTree) -> Self {
        let key = seed.child("select/projection").rng().next_u64();
        Self { key, dimension }
    }

    /// The image of nothing.
    pub(super) fn image(self) -> Image {
        Image {
            projection: self,
            at: 0,
            words: vec![[0.0; LANES]; self.dimension.div_ceil(LANES)],
        }
    }

    /// The signs of 64 coordinates of value `i`: bits of SplitMix64 (Steele et al. 2014) at a counter
    /// that no other value and word shares.
    fn signs(self, i: u64, word: u64) -> u64 {
        let words = self.dimension.div_ceil(LANES) as u64;
        let counter = i.wrapping_mul(words).wrapping_add(word).wrapping_add(1);
        let step = counter.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut z = self.key.wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Image {
    /// Adds the next values of the vector. Each coordinate is summed in order by one thread, so that
    /// the number of threads changes nothing.
    pub(super) fn add(&mut self, values: &[f32]) {
        let (projection, start) = (self.projection, self.at);
        self.words
            .par_iter_mut()
            .enumerate()
            .for_each(|(word, sums)| {
                for (i, &value) in (start..).zip(values) {
                    let signs = projection.signs(i, word as u64);
                    let bits = f64::from(value).to_bits();
                    for (lane, sum) in sums.iter_mut().enumerate() {
                        let flip = ((signs >> lane) & 1) << 63;
                        *sum += f64::from_bits(bits ^ flip);
                    }
                }
            });
        self.at += values.len() as u64;
    }

    /// The coordinates scaled to length 1; none if all are 0 or one is not finite.
    pub(super) fn unit(&self) -> Option<Vec<f64>> {
        let mut values = self.words.concat();
        values.truncate(self.projection.dimension);
        unit(values)
    }
}

/// `values` at length 1.
pub(super) fn unit(mut values: Vec<f64>) -> Option<Vec<f64>> {
    let norm = dot(&values, &values).sqrt();
    if norm <= 0.0 || !norm.is_finite() {
        return None;
    }
    values.iter_mut().for_each(|value| *value /= norm);
    Some(values)
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(values: &[f32], dimension: usize, parts: usize) -> Image {
        let mut image = Projection::new(dimension, &SeedTree::root(5)).image();
        for part in values.chunks(values.len().div_ceil(parts)) {
            image.add(part);
        }
        image
    }

    #[test]
    fn a_vector_in_parts_has_the_image_of_the_whole() {
        let values: Vec<f32> = (0..100).map(|i| (i as f32).sin()).collect();
        let whole = project(&values, 70, 1).unit().unwrap();
        assert_eq!(whole.len(), 70);
        assert_eq!(project(&values, 70, 3).unit().unwrap(), whole);
        assert!((dot(&whole, &whole) - 1.0).abs() < 1e-12);
        assert_eq!(project(&[0.0; 8], 70, 1).unit(), None);
    }

    // Two vectors of cosine 0.6 in 2000 dimensions; the error of an estimate from 4096 signs has
    // standard deviation below 1 / 64.
    #[test]
    fn cosines_survive_the_projection() {
        let flat: Vec<f32> = vec![1.0; 2000];
        let mixed: Vec<f32> = (0..2000)
            .map(|i| if i % 5 == 0 { -1.0 } else { 1.0 })
            .collect();
        let image = |values| project(values, 4096, 1).unit().unwrap();
        let cosine = dot(&image(&flat), &image(&mixed));
        assert!((cosine - 0.6).abs() < 0.05, "{cosine}");
    }

    #[test]
    fn signs_are_balanced_and_differ_between_values_words_and_seeds() {
        let projection = Projection::new(128, &SeedTree::root(5));
        let ones: u32 = (0..1000).map(|i| projection.signs(i, 0).count_ones()).sum();
        assert!((31_000..33_000).contains(&ones), "{ones}");
        assert_ne!(projection.signs(0, 0), projection.signs(0, 1));
        assert_ne!(projection.signs(0, 1), projection.signs(1, 0));
        let other = Projection::new(128, &SeedTree::root(6));
        assert_ne!(projection.signs(0, 0), other.signs(0, 0));
    }
}
