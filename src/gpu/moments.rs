//! The moments that were noted last on a device.

use crate::gpu::device::Event;
use crate::gpu::error::{GpuError, Result};

/// How many are kept: a loop that notes some at every step must not fill the memory in a week.
const KEPT: usize = 1024;

/// The last [`KEPT`] moments, as the device holds them.
#[derive(Debug)]
pub(crate) struct Moments<T> {
    kept: Vec<T>,
    /// In all.
    noted: usize,
}

impl<T> Default for Moments<T> {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            noted: 0,
        }
    }
}

impl<T: Copy> Moments<T> {
    /// The one that the next replaces.
    #[cfg(feature = "gpu")]
    pub(crate) fn oldest(&self) -> Option<T> {
        (self.kept.len() == KEPT).then(|| self.kept[self.noted % KEPT])
    }

    /// All that are kept, in no order.
    #[cfg(feature = "gpu")]
    pub(crate) fn kept(&self) -> &[T] {
        &self.kept
    }

    pub(crate) fn note(&mut self, moment: T) -> Event {
        match self.kept.get_mut(self.noted % KEPT) {
            Some(oldest) => *oldest = moment,
            None => self.kept.push(moment),
        }
        self.noted += 1;
        Event(self.noted - 1)
    }

    pub(crate) fn get(&self, Event(number): Event) -> Result<T> {
        if number < self.noted && self.noted - number <= KEPT {
            return Ok(self.kept[number % KEPT]);
        }
        let why = format!(
            "moment {number} of {}: the last {KEPT} are kept",
            self.noted
        );
        Err(GpuError::Request(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_moments_are_kept_and_no_others() {
        let mut moments = Moments::default();
        for at in 0..3 * KEPT {
            assert_eq!(moments.note(at), Event(at));
            assert_eq!(moments.get(Event(at)).unwrap(), at);
        }
        let first = 2 * KEPT;
        assert_eq!(moments.get(Event(first)).unwrap(), first);
        for gone in [0, first - 1, 3 * KEPT] {
            let said = moments.get(Event(gone)).unwrap_err().to_string();
            assert!(said.contains("the last 1024 are kept"), "{said}");
        }
        assert_eq!(moments.kept.len(), KEPT);
    }
}
