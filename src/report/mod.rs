//! From results to tables and pages whose every number names its runs.
//!
//! [`SweepResults`] is what is known of a sweep. [`compare`] makes a [`SweepTable`] of it, with
//! intervals and corrected comparisons; [`build_figure`] fills a figure; [`write_report`] writes the
//! Markdown and HTML pages with everything they name; [`write_paper`] gathers what redraws the
//! paper's figures. The same results give the same bytes.

pub mod compare;
pub mod doc;
pub mod figures;
pub mod grid;
pub mod html;
pub mod latex;
pub mod load;
pub mod markdown;
pub mod page;
pub mod paper;
pub mod published;
pub mod select;
pub mod summary;
pub mod table;
pub mod text_fit;
pub mod text_table;
pub mod write;

#[cfg(test)]
mod fixtures_tests;
#[cfg(test)]
mod tests;

pub use compare::{Cell, ConfigRow, MetricColumn, SweepTable, compare, default_table};
pub use figures::build_figure;
pub use grid::{Grid, grid_text};
pub use latex::grid_latex;
pub use load::{Depth, load_results};
pub use markdown::grid_markdown;
pub use page::{Report, build_report};
pub use paper::{PaperReport, build_paper, write_paper};
pub use published::{published_blocks, published_grid};
pub use select::{
    Details, ReportError, RowValue, RunInfo, RunStatus, StepRow, SweepResults, TrialResult,
};
pub use table::{table_csv, table_grid, table_json};
pub use text_fit::{cut_text, display_width, wrap_text};
pub use text_table::{ColumnFit, TextAlign, TextTable};
pub use write::{write_figures, write_report};
