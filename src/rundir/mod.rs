//! The contract between the wings: paths, events, outcome.
//!
//! An attempt writes only below its own folder; the runner alone publishes artifacts and, last,
//! `outcome.json`. [`Journal`] and [`write_result`] are the attempt's side, [`JournalReader`] and
//! [`publish()`] the runner's.

mod batch_layout;
mod collected;
mod disk;
mod error;
mod event;
mod facts;
mod files;
mod heartbeat;
mod job_note;
mod journal;
mod layout;
mod lock;
mod outcome;
mod publish;
mod reject;
mod runner_note;
mod seal;

pub use batch_layout::{
    BATCH_LAYOUT_ARTIFACT, BatchLayout, PairLengths, read_batch_layout, write_batch_layout,
};
pub use collected::{collect, needed_again, needs_collected, read_collected};
pub use disk::{free_bytes, network_file_system};
pub use error::RundirError;
pub use event::{AttemptEvent, FailureClass};
pub use facts::{Facts, GitState};
pub use files::{
    Provenance, StageHead, attempt_at_work, attempt_numbers, host_name, mend_descriptions,
    read_identity, read_outcome, read_provenance, read_result, read_stage, read_stage_head,
    run_folders, tail_lines, write_made, write_provenance, write_result, write_run_files,
};
pub use heartbeat::{HEARTBEAT_MILLIS, Heartbeat, SILENCE_MILLIS, read_heartbeat};
pub use job_note::{
    JobEnd, JobNote, Waits, begin_once, begun_on, has_begun, note_told, read_job_end,
    read_job_note, was_told, write_job_end, write_job_note,
};
pub use journal::{Journal, JournalReader, read_events};
pub use layout::{AttemptDir, RunDir};
pub use lock::{FolderLock, is_locked};
pub use outcome::{Artifact, MetricValue, OUTCOME_FORMAT, Outcome, StageResult, Usage};
pub use publish::{Publication, digest_folder, publish};
pub use reject::{reject_all, reject_outcome, reject_result};
pub use runner_note::{Pause, RUNNERS_PATH, live_runners, pauses, write_pause};
pub use seal::{Verify, sealed_outcome, verified_outcome, verify_artifact};
