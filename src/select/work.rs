//! Progress of work that has several passes over the rows.

use crate::train::TrainError;

/// Told how many of how many items are done; an error ends the work.
pub type SelectProgress<'a> = dyn FnMut(usize, usize) -> Result<(), TrainError> + 'a;

/// Counts items over passes.
pub(super) struct Work<'a, 'b> {
    done: usize,
    total: usize,
    told: &'a mut SelectProgress<'b>,
}

impl<'a, 'b> Work<'a, 'b> {
    pub(super) fn new(told: &'a mut SelectProgress<'b>) -> Self {
        Self {
            done: 0,
            total: 0,
            told,
        }
    }

    /// Adds items that are to be done.
    pub(super) fn plan(&mut self, items: usize) {
        self.total += items;
    }

    /// Tells that `items` more are done, if any.
    pub(super) fn advance(&mut self, items: usize) -> Result<(), TrainError> {
        if items == 0 {
            return Ok(());
        }
        self.done += items;
        (self.told)(self.done, self.total)
    }

    /// Runs one pass, which is given a function that takes the number of its own items done so far.
    pub(super) fn pass<T, E>(
        &mut self,
        run: impl FnOnce(&mut dyn FnMut(usize) -> Result<(), TrainError>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut within = 0;
        run(&mut |done| {
            let more = done - within;
            within = done;
            self.advance(more)
        })
    }
}
