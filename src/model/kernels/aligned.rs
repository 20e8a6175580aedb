//! Numbers that begin at a cache line: vectors that straddle two lines cost twice.

use crate::real::Real;
use std::ops::{Deref, DerefMut};

/// Alignment, bytes.
const LINE: usize = 64;

/// A fixed number of elements, the first of them on a boundary of 64 bytes.
#[derive(Debug)]
pub struct Aligned<F> {
    memory: Vec<F>,
    start: usize,
    len: usize,
}

impl<F: Copy + Default> Aligned<F> {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let most = LINE / size_of::<F>();
        let memory = vec![F::default(); len + most];
        // Less than a line: the allocator aligns to the element at least.
        let start = memory.as_ptr().align_offset(LINE).min(most);
        Self { memory, start, len }
    }

    /// At least `len` elements, for use as a buffer; what they hold is left from before.
    pub fn at_least(&mut self, len: usize) -> &mut [F] {
        if self.len < len {
            *self = Self::zeroed(len);
        }
        &mut self[..len]
    }
}

impl<F: Copy + Default> Clone for Aligned<F> {
    /// The copy has an address of its own, and so another start.
    fn clone(&self) -> Self {
        let mut copy = Self::zeroed(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<F> Deref for Aligned<F> {
    type Target = [F];

    fn deref(&self) -> &[F] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl<F> DerefMut for Aligned<F> {
    fn deref_mut(&mut self) -> &mut [F] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

/// `len` elements for a kernel that writes each of them before anything reads them: what they hold is not set. Where
/// debug assertions are on, so in tests, it is NaN, which no result survives.
///
/// Zeros would be written by the calling thread while all others wait, and then be fetched from its cache: in a
/// training step of the shipped model by two threads a tenth of the time.
#[expect(clippy::uninit_vec, reason = "what it is for")]
pub fn unwritten<F: Real>(len: usize) -> Vec<F> {
    if cfg!(debug_assertions) {
        return vec![F::of(f64::NAN); len];
    }
    let mut elements = Vec::with_capacity(len);
    #[expect(unsafe_code, reason = "what it is for")]
    // SAFETY: the capacity is there, numbers have nothing to drop, and who calls writes each before anything reads it, which
    // tests see by the NaN.
    unsafe {
        elements.set_len(len);
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_their_copies_begin_at_a_line_and_buffers_grow() {
        let mut numbers = Aligned::<f32>::zeroed(37);
        numbers[36] = 5.0;
        let copy = numbers.clone();
        assert_eq!((copy.len(), copy[36].to_bits()), (37, 5.0f32.to_bits()));
        for numbers in [&numbers, &copy] {
            assert!(numbers.as_ptr().addr().is_multiple_of(LINE));
        }
        assert_eq!(numbers.at_least(10).len(), 10);
        assert_eq!(numbers.at_least(100).len(), 100);
        assert!(numbers.as_ptr().addr().is_multiple_of(LINE));
    }
}
