//! Turns a sweep file into fully typed trials, or into an error that points at the place.
//!
//! Start at [`spec`] for what a trial is and at [`sweep`] for what a file expands to;
//! `sweeps/README.md` describes the files. The passes, in order: *parse* (spans kept),
//! *extends* (the later file wins), *presets* (values that the base gives), *overlay* (axis values set into the base tree, each keeping its
//! place), *type* (serde; unknown keys refused), *check* (rules across fields). Whichever pass finds
//! a mistake, it is shown with file, line, column, snippet and the nearest valid name.

mod axis_value;
mod backend_spec;
mod base_file;
#[cfg(test)]
mod base_tests;
mod check;
mod check_claim;
mod check_figure;
mod check_halving;
mod check_online;
mod check_options;
mod check_report;
mod check_tasks;
mod claim_spec;
mod data_source;
mod diagnose;
mod evaluation;
mod expand;
mod expected;
mod figure_file;
mod figure_spec;
mod file;
mod flat;
mod fold;
mod halving;
mod judge;
mod judged;
mod keep;
mod keys;
mod load;
mod loss;
mod near_file;
mod online;
mod options;
mod overrides;
mod paths;
mod peers;
mod places;
mod preference;
mod presets;
mod project_file;
mod published;
mod range;
#[cfg(test)]
mod reference;
mod removed;
mod rungs;
mod samples_spec;
mod schema;
#[cfg(test)]
mod schema_tests;
mod search;
mod seeded;
pub mod select;
mod shape;
pub mod spec;
mod struct_keys;
pub mod sweep;
mod sweep_name;
mod table_spec;
mod task;
mod task_file;
#[cfg(test)]
mod tests;
mod text;
mod toml_text;
mod training;
mod tree;
mod trial;
mod typed;
mod usual;

pub use backend_spec::{CommandSpec, LocalSpec, SlurmSpec};
pub(crate) use base_file::plain_path;
pub(crate) use check::MOST_STEPS;
pub use check::is_data_file;
pub use diagnose::{ConfigError, FieldProblem, Finding};
pub(crate) use diagnose::{nearest, suggest};
pub use expected::{ExpectedInput, ExpectedInputs, Inputs, ModelSizes};
pub use halving::{Halving, Standing};
pub use keep::KeepPolicy;
pub use keys::{file_stem, final_metric_keys, step_metric_keys};
pub(crate) use load::stated_name;
pub use load::{load_placed_sweep, load_sweep};
pub use overrides::Overrides;
pub use places::{Places, Remark, Written};
pub use project_file::{BackendChoice, LOCAL, PROJECT_FILE, ProjectFile};
pub use published::{Published, all_published, published};
pub use rungs::RUNG_MARK;
pub use schema::{editor_schema, field_schema};
pub use sweep_name::SweepName;
pub use task_file::{load_task, shipped_tasks};
pub use text::parse_toml;
pub(crate) use toml_text::toml_text;
