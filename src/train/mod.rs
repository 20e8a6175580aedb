//! One optimisation loop, several objectives.
//!
//! [`Training::run`] is the loop; [`SftObjective`] and [`DpoObjective`] are what it minimises; an
//! [`Observer`] watches, asks for checkpoints and may stop it. A step's loss is divided by the
//! step's own count of targets or pairs, so that the split into micro-batches changes nothing. A
//! stopped training continues from its [`SavedState`] with the same bits (on the CPU).
//!
//! All of it asks an [`Engine`] for passes and updates and touches no tensor of the model; [`HostEngine`] computes
//! them on the CPU, [`DeviceEngine`] on a device of [`gpu`](crate::gpu). [`score_pairs`] and [`score_documents`]
//! are the passes without a gradient that monitoring, reference log-probabilities and evaluation share; they need a
//! [`Scorer`] only.

mod adamw;
mod device;
mod dpo;
mod engine;
mod error;
mod host;
mod loss;
mod pair_loss;
mod preference;
mod reference;
mod run;
mod schedule;
mod score;
mod sft;
mod start;
mod state;

#[cfg(test)]
mod option_tests;
#[cfg(test)]
mod pair_loss_tests;
#[cfg(test)]
mod tests;

pub use device::{
    DeviceEngine, OpenRank, Ranks, open_learner_on_device, open_on_device, open_on_devices,
};
pub use dpo::{DpoObjective, PairMonitor};
pub use engine::{Engine, Give, Learner, Nll, Part, Take, Update, Weigh, WeighEach};
pub use error::TrainError;
pub use host::{
    AdamW, Clip, Gradients, HostEngine, HostLearner, Trained, clip_by_global_norm, hidden_states,
    open_on_host,
};
pub use loss::{PairLogps, log_sigmoid, segment_sums};
pub use pair_loss::{PairGradient, PairTerms};
pub use preference::pair_measures;
pub use reference::{ReferenceLogps, ReferencePair, write_reference_logps};
pub use run::{Ending, Objective, Observer, StepOutput, Training};
pub use schedule::LrSchedule;
pub use score::{
    PairScore, Progress, ReplyScore, Scorer, TokenScore, pair_flops, score_documents, score_pairs,
};
pub use sft::{SftMonitor, SftObjective};
pub use start::EngineStart;
pub use state::{FoundStates, SavedState, TrainState, save_state};
