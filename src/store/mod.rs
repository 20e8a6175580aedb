//! The SQLite file: every transition in one transaction.
//!
//! [`Store`] writes, [`ReadStore`] only answers. The transitions themselves are decided by
//! [`crate::queue::step`]; this module applies them. The file is the truth for the queue; run
//! folders are the truth for results, and [`rebuild()`] makes the file anew from them. Views for
//! people, with a worked query, stand at the end of `migrations/0001_first.sql`.

mod details;
mod error;
mod file_stem;
mod garbage;
mod notes;
mod open;
mod orders;
mod read;
mod rebuild;
mod register;
mod rows;
mod run_order;
mod snapshot;
#[cfg(test)]
mod soak_tests;
mod stored;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verify;
mod write;

pub use details::RunDetails;
pub use error::{GIVE_THE_RIGHT, StoreError};
pub use garbage::{Garbage, SweepRemains};
pub use notes::{SweepNote, add_note, read_notes};
pub use open::{ReadStore, STORE_PATH, Store, store_path};
pub use orders::{Orders, Rival};
pub use rebuild::{Rebuilt, rebuild, recorded_steps};
pub use register::{FoundRun, Registered, Retry};
pub use rows::{
    ArtifactRow, AttemptRow, LiveAttempt, RunRow, StateCounts, SweepRow, TrialRow, TrialRun,
    TrialUse, Why,
};
pub use snapshot::{last_change, write_snapshot};
pub use stored::StoredSweep;
pub use verify::{Damage, Trouble, Verified, verify};
pub use write::{CancelAnswer, Change, Claim, ClaimRequest, StepRecord};
