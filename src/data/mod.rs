//! Records on disk to token batches, deterministic and resumable.
//!
//! 1. [`load_chat`] and [`load_pairs`] read data files, tell the form of the rows, refuse bad
//!    ones by file and line, and apply the mixture ([`record`] lists the forms).
//! 2. [`select`] takes the first `max-examples` of a seeded permutation, so that sets are nested.
//!    [`training_chats`] and [`training_pairs`] do both as a recipe says, and leave repeats and
//!    contaminated rows out where it wants that.
//! 3. [`TextFormat`] renders the model's chat template and tokenises prompt and reply apart
//!    ([`tokenize`] has the rule); the loss mask is found here, before anything is cut.
//! 4. [`SftPlan`] packs each epoch into rows and says what step k sees; [`PairPlan`] the same for
//!    preference pairs. Both answer for any k without replaying what came before.
//! 5. [`SftStep::micro_batches`], [`pair_batches`] and [`document_batches`] flatten rows into
//!    [`TokenBatch`]es, which the model runs on. The loss is divided by the step's own target count,
//!    so that the split changes nothing.
//!
//! Every loss of data is counted and handed back: [`LoadReport`], [`PackReport`], [`PairReport`].

mod batch;
mod continuation;
mod error;
mod expression;
mod filter;
mod fold;
mod format;
#[cfg(test)]
mod golden_tests;
mod guard;
mod inspect;
mod jinja;
mod json;
mod lexemes;
mod limits;
mod look;
mod mask;
mod methods;
mod mix;
mod order;
mod pack;
mod pair;
mod params;
mod parquet;
mod parquet_file;
mod pattern;
mod percent;
mod plain;
mod prepare;
mod prompts;
mod python;
pub mod record;
mod render;
mod repr;
mod row_text;
mod rows;
mod source;
mod steps;
mod template;
pub mod tokenize;
mod tokenizer_file;

pub use batch::{
    ContextGroup, ContinuationBatch, PAIR_SEGMENTS, PairBatch, TokenBatch, continuation_batches,
    document_batches, pair_batches,
};
pub use continuation::{ContinuationTokenizer, TokenizedRequest};
pub use error::{DataError, RowProblem, RowProblems};
pub use filter::FilterReport;
pub use format::TextFormat;
pub use inspect::{InspectedToken, inspect_row};
pub use look::{FileRows, Wanted, look_at_rows, look_at_texts};
pub use mix::{LoadReport, SourceReport, load_chat, load_pairs};
pub use order::{permutation, select};
pub use pack::{PackReport, PackedRow, Segment};
pub use pair::{DropReason, PairCut, PairEncoding, PairReport, TokenizedPair};
pub use parquet_file::ParquetFile;
pub use pattern::{Flags, Pattern};
pub use plain::PlainTokenizer;
pub use prepare::{
    Narrowed, all_pairs, candidate_chats, candidate_pairs, mixture_seed, rows_left, select_seed,
    training_chats, training_chats_of, training_pairs,
};
pub use prompts::{PromptRow, load_prompts, round_prompts};
pub(crate) use record::turns_text;
pub use record::{ChatRow, Message, Origin, PairRow, Schema};
pub use render::{RowScope, RowTexts};
pub use repr::{is_space, strip};
pub use row_text::python_json;
pub use rows::{TaskRow, load_rows, row_texts};
pub use steps::{PairPlan, SftPlan, SftStep};
pub use tokenize::TokenizedExample;
