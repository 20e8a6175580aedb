//! From results to tables and pages whose every number names its runs.
//!
//! [`SweepResults`] is what is known of a sweep. [`compare`] makes a [`SweepTable`] of it, with
//! intervals and corrected comparisons; [`claims`] says what became of the sweep's claims;
//! [`null_columns`] checks the test on arms that differ by nothing, [`power_lines`] what a plan can see;
//! [`build_figure`] fills a figure; [`write_report`] writes the
//! Markdown and HTML pages with everything they name; [`write_paper`] gathers what redraws the
//! paper's figures. The same results give the same bytes.

mod best;
pub mod claims;
pub mod column;
pub mod compare;
mod diff;
pub mod doc;
mod export;
pub mod figures;
pub mod grid;
pub mod halving;
pub mod harness;
pub mod html;
pub mod index;
pub mod join;
pub mod latex;
pub mod load;
pub mod markdown;
mod notes;
pub mod null;
mod origin;
pub mod page;
pub mod paper;
pub mod power;
mod protobuf;
pub mod published;
pub mod replication;
mod said;
mod sample_blocks;
mod samples;
pub mod select;
pub mod summary;
pub mod table;
mod tensorboard;
pub mod text_fit;
pub mod text_table;
mod unshown;
mod wandb;
pub mod write;

#[cfg(test)]
mod fixtures_tests;
#[cfg(test)]
mod tests;

pub use best::best_runs;
pub use claims::{ClaimOutcome, claims, claims_csv};
pub use compare::{
    Cell, ConfigRow, MetricColumn, SweepTable, compare, default_table, default_table_of,
};
pub use diff::{DiffSide, FlippedRow, MetricFlips, RunDiff, StageDiff, diff_runs};
pub use export::export_tables;
pub use figures::build_figure;
pub use grid::{Grid, grid_text};
pub use harness::{HarnessResults, read_harness_results, some_keys};
pub use index::{IndexEntry, build_index, index_entry, write_index};
pub use join::{harness_sweep, join_results, with_rows_of};
pub use latex::grid_latex;
pub use load::{Depth, load_results};
pub use markdown::grid_markdown;
pub use null::{NullColumn, null_columns};
pub use page::{Report, build_report, page_grid};
pub use paper::{PaperReport, build_paper, write_paper};
pub use power::power_lines;
pub use published::{published_blocks, published_grid};
pub use replication::{Replication, replication};
pub use samples::{JudgeWords, Reply, SampleRow, side_by_side};
pub use select::{
    Details, ReportError, RowValue, RunInfo, RunStatus, StepRow, SweepResults, TrialResult,
    read_steps,
};
pub use table::{table_csv, table_grid, table_json};
pub use tensorboard::event_file;
pub use text_fit::{cut_text, display_width, wrap_text};
pub use text_table::{ColumnFit, TextAlign, TextTable};
pub use unshown::unshown_labels;
pub use wandb::{OfflineRun, offline_run};
pub use write::{write_figures, write_report};
