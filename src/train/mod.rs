//! One optimisation loop, several objectives.

mod error;
mod gradients;
mod loss;
mod optimizer;
mod schedule;
mod state;

pub use error::TrainError;
pub use gradients::{Clip, Gradients, clip_by_global_norm};
pub use loss::{PairLogps, PreferenceOutput, dpo_sigmoid, log_sigmoid, segment_sums, sft_nll};
pub use optimizer::AdamW;
pub use schedule::LrSchedule;
pub use state::{SavedState, TrainState, newest_state, save_state};
