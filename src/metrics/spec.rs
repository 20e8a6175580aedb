//! What a metric is: its key, meaning, unit and direction, how to print it, how to compute it.

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Neither way is better by itself: a description of the run.
    Neither,
}

/// How a metric comes from the mean of its per-row values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transform {
    /// It is that mean.
    #[default]
    Identity,
    /// It is the exponential of that mean.
    Exp,
}

impl Transform {
    /// The metric for a mean over rows.
    pub fn apply(self, mean: f64) -> f64 {
        match self {
            Self::Identity => mean,
            Self::Exp => mean.exp(),
        }
    }

    /// The mean over rows for a metric.
    pub fn invert(self, value: f64) -> f64 {
        match self {
            Self::Identity => value,
            Self::Exp => value.ln(),
        }
    }
}

/// What is known of a metric, whatever set it was measured on.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSpec {
    /// The key's last parts, for example `rewards/accuracies`; the evaluated set comes before.
    pub suffix: &'static str,
    /// Short name for axes and column heads.
    pub name: &'static str,
    /// Unit, empty for pure numbers without one.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
    /// One sentence that defines it.
    pub description: &'static str,
    /// Decimals when printed.
    pub decimals: usize,
    /// Zero means "none of it", so that bars may start there and their lengths compare.
    pub from_zero: bool,
    /// The per-row key whose mean it is, if not the same.
    pub row_key: &'static str,
    /// How it comes from that mean.
    pub transform: Transform,
    /// Whether rows are weighted by their number of reply tokens.
    pub by_tokens: bool,
    /// Whether it lies between 0 and 1, a share of something.
    pub is_share: bool,
    /// What guessing gives; `None` where that depends on the rows or means nothing.
    pub chance: Option<f64>,
    /// Differences up to here make no difference, in its unit, unless a sweep file says otherwise; `None` if
    /// that cannot be said without knowing the sweep.
    pub delta: Option<f64>,
}

pub(super) const fn spec(
    suffix: &'static str,
    name: &'static str,
    unit: &'static str,
    better: Better,
    decimals: usize,
    description: &'static str,
) -> MetricSpec {
    MetricSpec {
        suffix,
        name,
        unit,
        better,
        description,
        decimals,
        from_zero: false,
        row_key: suffix,
        transform: Transform::Identity,
        by_tokens: false,
        is_share: false,
        chance: None,
        delta: None,
    }
}

/// Two of a hundred rows: fewer are within the noise of most evaluation sets.
const SHARE_DELTA: f64 = 0.02;

pub(super) const fn share(
    suffix: &'static str,
    name: &'static str,
    unit: &'static str,
    text: &'static str,
) -> MetricSpec {
    MetricSpec {
        from_zero: true,
        is_share: true,
        delta: Some(SHARE_DELTA),
        ..spec(suffix, name, unit, Better::Higher, 3, text)
    }
}

pub(super) const fn plain(
    suffix: &'static str,
    name: &'static str,
    unit: &'static str,
    text: &'static str,
) -> MetricSpec {
    spec(suffix, name, unit, Better::Neither, 2, text)
}

/// A metric with its formula: its value for one measured item (a row, a step, a run), which is a `T`.
#[derive(Debug)]
pub struct Metric<T: ?Sized> {
    /// What it is.
    pub spec: MetricSpec,
    /// Its value; none where it does not apply to the item. Of a metric that is weighted by tokens,
    /// the sum over the item's tokens.
    pub of: fn(&T) -> Option<f64>,
}

/// The values of one item by key, without the set.
pub fn values<'a, T: ?Sized + 'static>(
    metrics: impl IntoIterator<Item = &'static Metric<T>> + 'a,
    item: &'a T,
) -> impl Iterator<Item = (&'static str, f64)> + 'a {
    let value = |metric: &'static Metric<T>| Some((metric.spec.suffix, (metric.of)(item)?));
    metrics.into_iter().filter_map(value)
}
