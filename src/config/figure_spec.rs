//! `[[report.figure]]`: what every figure is told, and what each kind is told that no other is.
//!
//! A kind is one struct here with a variant of [`ChartSpec`]; what its keys mean (axes, metrics) it
//! says in [`ChartSpec::axes`] and [`ChartSpec::metrics`], so that the checks need not know it.

use crate::config::axis_value::AxisValue;
use crate::config::spec::PipelineStage;
use crate::config::struct_keys::keys_of;
use crate::config::table_spec::Direction;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use strum::{IntoStaticStr, VariantArray};

/// One figure. In a file all keys stand side by side in one table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FigureSpec {
    /// What every figure is told.
    #[serde(flatten)]
    pub head: FigureHead,
    /// What is drawn.
    #[serde(flatten)]
    pub chart: ChartSpec,
}

/// Keys of every figure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct FigureHead {
    /// File-name stem, unique in the sweep.
    pub name: String,
    /// Shown above the figure.
    pub title: String,
    /// Only trials with these axis values.
    #[serde(default, rename = "where")]
    pub filter: BTreeMap<String, AxisValue>,
    /// The figure of the paper that this one redraws, for example `Figure 1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paper: Option<String>,
    /// Published results that are printed below, by id (`src/config/published.toml`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
    /// A caption under the figure, for example the definition of the metric.
    #[serde(default)]
    pub caption: String,
}

/// The kind of a figure with its own keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ChartSpec {
    /// Grouped bars with intervals over seeds.
    Bars(BarsSpec),
    /// Lines over a numeric axis with intervals over seeds; the best point marked.
    Lines(LinesSpec),
    /// A step metric along training, one line per configuration.
    Training(TrainingSpec),
    /// A final metric over another one, such as compute: a point per configuration, a parabola
    /// through each series, and where it saturates.
    Scaling(ScalingSpec),
    /// Paired differences of all configurations from one of them.
    Differences(DifferencesSpec),
    /// The first batch of preference pairs, padded, without padding, and with shared prompts.
    #[default]
    Layout,
}

/// The word for a kind in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum FigureKind {
    Bars,
    Lines,
    Training,
    Scaling,
    Differences,
    Layout,
}

impl FigureKind {
    /// As the file has it.
    pub(crate) fn word(self) -> &'static str {
        self.into()
    }

    /// The keys that this kind takes beside those of every figure.
    pub(crate) fn keys(self) -> Vec<&'static str> {
        let own = match self {
            Self::Bars => keys_of::<BarsSpec>(),
            Self::Lines => keys_of::<LinesSpec>(),
            Self::Training => keys_of::<TrainingSpec>(),
            Self::Scaling => keys_of::<ScalingSpec>(),
            Self::Differences => keys_of::<DifferencesSpec>(),
            Self::Layout => return Vec::new(),
        };
        let mut keys = [keys_of::<Measured>(), own].concat();
        // A difference is that of a whole configuration.
        keys.retain(|key| self != Self::Differences || *key != "series");
        keys
    }
}

/// What is measured, and which axes part it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Measured {
    /// Metric key on the y axis: a final metric, or for `training` a step metric.
    #[serde(default)]
    pub metric: String,
    /// Which way the metric is better; absent: known from the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Axis that makes series or groups of bars; absent: one series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// Axis that makes panels, one a value, side by side; absent: every axis that is placed
    /// nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panels: Option<String>,
}

/// Grouped bars.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct BarsSpec {
    /// What is measured.
    #[serde(flatten, skip_deserializing)]
    pub measured: Measured,
    /// Axis on x; absent: a bar for each configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// In which order the groups stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<BarOrder>,
    /// Axis values of the one configuration whose value is a line across the bars instead of a bar;
    /// `where` does not apply to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reference: BTreeMap<String, AxisValue>,
}

/// In which order bars stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BarOrder {
    /// As the axis has its values.
    Axis,
    /// The best first.
    Value,
}

/// Lines over a numeric axis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct LinesSpec {
    /// What is measured.
    #[serde(flatten, skip_deserializing)]
    pub measured: Measured,
    /// Axis on x.
    #[serde(default)]
    pub x: String,
    /// Logarithmic x axis.
    #[serde(default)]
    pub log_x: bool,
    /// Axis values of the one configuration whose value is a line across the plot; `where` does not apply to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reference: BTreeMap<String, AxisValue>,
}

/// Curves along training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TrainingSpec {
    /// What is measured.
    #[serde(flatten, skip_deserializing)]
    pub measured: Measured,
    /// Final metrics, or step metrics for their last values, written under each panel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub under: Vec<String>,
    /// Logarithmic axis of steps; what is before training stands left of the first one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log_x: bool,
}

/// A metric over another one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ScalingSpec {
    /// What is measured.
    #[serde(flatten, skip_deserializing)]
    pub measured: Measured,
    /// Final metric on x, for example `training/flops`.
    #[serde(default)]
    pub x_metric: String,
    /// Logarithmic x axis.
    #[serde(default)]
    pub log_x: bool,
}

/// Paired differences from one configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DifferencesSpec {
    /// What is measured.
    #[serde(flatten, skip_deserializing)]
    pub measured: Measured,
    /// Axis values of the one configuration that all others are compared with; `where` does not
    /// apply to it.
    #[serde(default)]
    pub baseline: BTreeMap<String, AxisValue>,
}

/// An axis that a figure names.
pub struct AxisRole<'a> {
    /// The key that names it.
    pub key: &'static str,
    /// The axis, if it is named.
    pub axis: Option<&'a str>,
    /// It must be named.
    pub required: bool,
    /// Its values must be numbers, on a logarithmic axis above 0.
    pub numbers: Option<Numbers>,
}

/// Which numbers an axis must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Any.
    Linear,
    /// Above 0.
    Logarithmic,
}

/// A metric that a figure names.
pub struct MetricRole<'a> {
    /// The path of the key that names it, below the figure.
    pub key: String,
    /// The metric; empty: not named.
    pub metric: &'a str,
    /// Whether final metrics are meant.
    pub finals: bool,
    /// Whether metrics along training are meant.
    pub steps: bool,
    /// What is missing without it, and what could help; absent for one of a list.
    pub missing: Option<(&'static str, Option<&'static str>)>,
}

impl ChartSpec {
    /// What is measured, unless nothing is.
    pub fn measured(&self) -> Option<&Measured> {
        match self {
            Self::Bars(spec) => Some(&spec.measured),
            Self::Lines(spec) => Some(&spec.measured),
            Self::Training(spec) => Some(&spec.measured),
            Self::Scaling(spec) => Some(&spec.measured),
            Self::Differences(spec) => Some(&spec.measured),
            Self::Layout => None,
        }
    }

    /// The key that means one configuration of the whole sweep, whether it must be there, and its
    /// axis values.
    pub(crate) fn one_configuration(
        &mut self,
    ) -> Option<(&'static str, bool, &mut BTreeMap<String, AxisValue>)> {
        match self {
            Self::Bars(spec) => Some(("reference", false, &mut spec.reference)),
            Self::Differences(spec) => Some(("baseline", true, &mut spec.baseline)),
            Self::Lines(spec) => Some(("reference", false, &mut spec.reference)),
            Self::Training(_) | Self::Scaling(_) | Self::Layout => None,
        }
    }

    /// A stage that some trial must have, and what is drawn of it.
    pub(crate) fn needed_stage(&self) -> Option<(PipelineStage, &'static str)> {
        let batch = (PipelineStage::Dpo, "whose first batch could be drawn");
        matches!(self, Self::Layout).then_some(batch)
    }

    /// The axes that it names, beside those of [`Self::one_configuration`].
    pub fn axes(&self) -> Vec<AxisRole<'_>> {
        let optional = |key, axis| AxisRole {
            key,
            axis,
            required: false,
            numbers: None,
        };
        let mut axes = match self {
            Self::Bars(spec) => vec![optional("x", spec.x.as_deref())],
            Self::Lines(spec) => vec![AxisRole {
                required: true,
                numbers: Some(if spec.log_x {
                    Numbers::Logarithmic
                } else {
                    Numbers::Linear
                }),
                ..optional("x", Some(spec.x.as_str()).filter(|x| !x.is_empty()))
            }],
            Self::Training(_) | Self::Scaling(_) | Self::Differences(_) | Self::Layout => {
                Vec::new()
            }
        };
        if let Some(measured) = self.measured() {
            axes.push(optional("series", measured.series.as_deref()));
            axes.push(optional("panels", measured.panels.as_deref()));
        }
        axes
    }

    /// The metrics that it names.
    pub fn metrics(&self) -> Vec<MetricRole<'_>> {
        let steps = matches!(self, Self::Training(_));
        let role = |key: String, metric| MetricRole {
            key,
            metric,
            finals: true,
            steps: false,
            missing: None,
        };
        let y = self.measured().map(|measured| MetricRole {
            finals: !steps,
            steps,
            missing: Some(("what the figure shows", None)),
            ..role("metric".to_owned(), measured.metric.as_str())
        });
        let mut metrics: Vec<_> = y.into_iter().collect();
        match self {
            Self::Training(spec) => {
                metrics.extend(
                    spec.under
                        .iter()
                        .enumerate()
                        .map(|(index, key)| MetricRole {
                            steps: true,
                            ..role(format!("under.{index}"), key)
                        }),
                );
            }
            Self::Scaling(spec) => metrics.push(MetricRole {
                missing: Some((
                    "the final metric along which the figure is drawn",
                    Some("for example `x-metric = \"training/flops\"`"),
                )),
                ..role("x-metric".to_owned(), &spec.x_metric)
            }),
            Self::Bars(_) | Self::Lines(_) | Self::Differences(_) | Self::Layout => {}
        }
        metrics
    }
}

impl FigureSpec {
    /// Reads a table. `from` is read several times, for what every figure is told, for its kind and
    /// for that kind's own keys, so that a mistake is found where it stands (serde's `flatten` would
    /// lose the place); each time other keys are passed over.
    pub(crate) fn read<'de, D: Deserializer<'de> + Copy>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Chosen {
            kind: FigureKind,
        }
        let head = FigureHead::deserialize(from)?;
        let kind = Chosen::deserialize(from)?.kind;
        let measured = match kind {
            FigureKind::Layout => Measured::default(),
            _ => Measured::deserialize(from)?,
        };
        let chart = match kind {
            FigureKind::Bars => ChartSpec::Bars(BarsSpec {
                measured,
                ..BarsSpec::deserialize(from)?
            }),
            FigureKind::Lines => ChartSpec::Lines(LinesSpec {
                measured,
                ..LinesSpec::deserialize(from)?
            }),
            FigureKind::Training => ChartSpec::Training(TrainingSpec {
                measured,
                ..TrainingSpec::deserialize(from)?
            }),
            FigureKind::Scaling => ChartSpec::Scaling(ScalingSpec {
                measured,
                ..ScalingSpec::deserialize(from)?
            }),
            FigureKind::Differences => ChartSpec::Differences(DifferencesSpec {
                measured,
                ..DifferencesSpec::deserialize(from)?
            }),
            FigureKind::Layout => ChartSpec::Layout,
        };
        Ok(Self { head, chart })
    }
}

/// Each kind with all keys that it takes.
impl JsonSchema for FigureSpec {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "FigureSpec".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let head = FigureHead::json_schema(generator);
        let measured = Measured::json_schema(generator);
        let mut schema = ChartSpec::json_schema(generator);
        let branches = schema.get_mut("oneOf").and_then(Value::as_array_mut);
        for branch in branches.into_iter().flatten() {
            let kind = branch.pointer("/properties/kind/const").cloned();
            let kind = kind.and_then(|word| FigureKind::deserialize(word).ok());
            let keys = kind.map(FigureKind::keys).unwrap_or_default();
            for (common, all) in [(&head, true), (&measured, false)] {
                let parts = common.get("properties").and_then(Value::as_object);
                for (key, part) in parts.into_iter().flatten() {
                    if all || keys.contains(&key.as_str()) {
                        branch["properties"][key] = part.clone();
                    }
                }
            }
            let needed = head.get("required").and_then(Value::as_array);
            if let Some(own) = branch["required"].as_array_mut() {
                own.extend(needed.into_iter().flatten().cloned());
            }
        }
        schema
    }
}

impl<'de> Deserialize<'de> for FigureSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::read(&value).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_keys_of_its_struct() {
        let keys = |kind: FigureKind| kind.keys().join(" ");
        assert_eq!(
            keys(FigureKind::Bars),
            "metric direction series panels x order reference"
        );
        assert_eq!(
            keys(FigureKind::Scaling),
            "metric direction series panels x-metric log-x"
        );
        assert_eq!(keys(FigureKind::Layout), "");
    }

    // As versions before the kinds had keys of their own wrote it: each had all that were not empty.
    #[test]
    fn a_stored_figure_with_keys_of_other_kinds_is_read() {
        let stored = serde_json::json!({
            "name": "a", "title": "b", "kind": "bars", "where": {"stage": "dpo"}, "metric": "m",
            "x": "beta", "log-x": false, "order": "value", "caption": "",
        });
        let read: FigureSpec = serde_json::from_value(stored).unwrap();
        let ChartSpec::Bars(bars) = &read.chart else {
            panic!("{:?}", read.chart);
        };
        assert_eq!(
            (bars.measured.metric.as_str(), bars.x.as_deref(), bars.order),
            ("m", Some("beta"), Some(BarOrder::Value))
        );
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(written["kind"], "bars");
        assert_eq!(written["metric"], "m");
        assert_eq!(serde_json::from_value::<FigureSpec>(written).unwrap(), read);
    }
}
