//! The tables of a sweep file around the trial's configuration: their keys, and what each means.
//!
//! `file` reads them from the tree, each mistake at its place, and takes the valid keys from here.

use crate::config::axis_value::AxisValue;
use crate::config::expected::ExpectedInputs;
use crate::config::keep::KeepPolicy;
use crate::config::search::{Search, ValueRange};
use crate::config::spec::TrialConfig;
use crate::config::sweep::ReportSpec;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A sweep file, or a file that it extends.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "only keys, types and comments are asked for")]
pub(crate) struct FileShape {
    /// A file, or several in order, on which this one is laid; relative to its folder.
    #[serde(default)]
    extends: Option<Extends>,
    /// What the sweep is called and asks.
    sweep: HeaderShape,
    /// The configuration that all trials have in common.
    base: TrialConfig,
    /// Which points of the grid there are, and which of them run in full. Absent: all.
    #[serde(default)]
    search: Option<Search>,
    /// What is varied: the grid is the product of all axes.
    #[serde(default)]
    axis: Vec<AxisShape>,
    /// Points of the grid that are left out: axis names with a value, or a list of values.
    #[serde(default)]
    exclude: Vec<BTreeMap<String, AxisValue>>,
    /// Trials beside the grid.
    #[serde(default)]
    trial: Vec<ExtraShape>,
    /// Tables and figures.
    #[serde(default)]
    report: ReportSpec,
    /// What is known of models and data that may not be there yet, by path; for estimates and messages.
    #[serde(default)]
    inputs: ExpectedInputs,
    /// Values that other places take by name: `{ preset = "NAME" }`.
    #[serde(default)]
    presets: BTreeMap<String, AxisValue>,
}

/// One file or several.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its type is asked for")]
enum Extends {
    One(String),
    Several(Vec<String>),
}

/// `[sweep]`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "only keys, types and comments are asked for")]
pub(crate) struct HeaderShape {
    /// Unique among the project's sweeps: letters, digits, `-`, `_` and `.`.
    name: String,
    /// The question that the sweep answers, one sentence.
    question: String,
    /// Each point runs once with each of these.
    seeds: Vec<u64>,
    /// Words that `lions status` and the page show with the sweep.
    #[serde(default)]
    tags: Vec<String>,
    /// Which weights of finished runs `lions gc` leaves. Absent: all.
    #[serde(default)]
    keep: KeepPolicy,
}

/// `[[axis]]`: `path` or `paths` with `values`, or `points`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "only keys, types and comments are asked for")]
pub(crate) struct AxisShape {
    /// What tables call it. Absent: the last part of `path`.
    #[serde(default)]
    name: Option<String>,
    /// The field that is varied, for example `dpo.recipe.beta`.
    #[serde(default)]
    path: Option<String>,
    /// Several fields that vary together; `values` has a row for each point.
    #[serde(default)]
    paths: Option<Vec<String>>,
    /// The values, one a point.
    #[serde(default)]
    values: Option<Vec<AxisValue>>,
    /// Instead of `values`, with `[search]`: from where to where they are drawn.
    #[serde(default)]
    range: Option<ValueRange>,
    /// What tables call the values; needed where they are lists or tables.
    #[serde(default)]
    labels: Option<Vec<String>>,
    /// Labelled bundles of assignments.
    #[serde(default)]
    points: Option<Vec<PointShape>>,
    /// Only where earlier axes have these values: axis names with a value, or a list of values.
    #[serde(default)]
    when: BTreeMap<String, AxisValue>,
}

/// A point of an axis.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "only keys, types and comments are asked for")]
pub(crate) struct PointShape {
    /// What tables call it.
    label: String,
    /// Fields by path, with their values.
    #[serde(default)]
    set: BTreeMap<String, AxisValue>,
}

/// `[[trial]]`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(dead_code, reason = "only keys, types and comments are asked for")]
pub(crate) struct ExtraShape {
    /// What tables call it; its axis is `trial`.
    name: String,
    /// Fields by path, with their values.
    #[serde(default)]
    set: BTreeMap<String, AxisValue>,
    /// Instead of the sweep's seeds.
    #[serde(default)]
    seeds: Option<Vec<u64>>,
}
