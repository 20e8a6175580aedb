//! What the stages need of a judge.

use crate::judge::candidates::Candidates;
use crate::judge::error::JudgeError;

/// Scores replies.
pub trait Judge {
    /// A score for each reply of each item, in their order; higher is better. Scores are finite and
    /// comparable within an item only.
    ///
    /// `progress` is told how many items are done, also while none gets done; `false` asks to stop.
    ///
    /// # Errors
    /// An item cannot be judged, or `progress` asked to stop.
    fn judge(
        &mut self,
        items: &[Candidates],
        progress: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<Vec<f64>>, JudgeError>;
}
