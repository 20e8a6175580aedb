//! Bars: a group for each value of the axis, or for each configuration.

use crate::config::sweep::{AxisValue, BarOrder, BarsSpec, show_value};
use crate::figures::{BarChart, Chart, Panel, Series};
use crate::metrics::{Better, metric_spec};
use crate::report::figures::builder::{Builder, KindOfFigure, ONE_SEED, has};
use crate::report::select::{Configuration, ReportError, short_label};
use std::collections::BTreeMap;

impl KindOfFigure for BarsSpec {
    fn x(&self) -> Option<&str> {
        self.x.as_deref()
    }

    fn names_configurations(&self) -> bool {
        self.x.is_none()
    }

    fn reference(&self) -> Option<&BTreeMap<String, AxisValue>> {
        Some(&self.reference).filter(|r| !r.is_empty())
    }

    fn x_label(&self, builder: &Builder<'_>) -> String {
        let named = self.x.as_ref().map(|axis| builder.axis_label(axis));
        named.unwrap_or_else(|| "configuration".to_owned())
    }

    fn chart(
        &self,
        builder: &mut Builder<'_>,
        _title: &str,
        members: &[Configuration<'_>],
    ) -> Result<Box<dyn Chart>, ReportError> {
        let (mut categories, mut series) = match &self.x {
            Some(axis) => by_axis(builder, axis, members),
            None => by_configuration(builder, members),
        };
        if self.order == Some(BarOrder::Value) {
            categories = sort(categories, &mut series, builder.better());
        }
        let reference = builder.reference_line(&self.reference);
        let points = series.iter().flat_map(|s| &s.points);
        let negative = points
            .chain(reference.iter().map(|r| &r.point))
            .flat_map(|p| &p.seeds)
            .any(|s| s.value < 0.0);
        // Where guessing gives more than zero, lengths from zero say nothing.
        let spec = metric_spec(&self.measured.metric);
        Ok(Box::new(BarChart {
            categories,
            from_zero: spec.from_zero && spec.chance.is_none() && !negative,
            series,
            reference,
            forest: false,
        }))
    }

    fn note(&self, builder: &Builder<'_>, seeds: &str, panels: &[Panel]) -> String {
        let line = if self.reference.is_empty() {
            ""
        } else {
            " Dashed line and band: the reference and its interval."
        };
        let from_zero = panels.iter().any(|p| p.chart.starts_at_zero());
        let (marks, start) = if from_zero {
            ("Bars", "")
        } else {
            ("Points", " The axis does not start at zero.")
        };
        let dots = if seeds == ONE_SEED {
            ""
        } else {
            "; dots: single seeds"
        };
        let marks = builder.marks_words(marks, seeds);
        format!("{marks}{dots}.{line}{start}")
    }
}

/// A group for each value of the axis on x, with a mark for each series.
fn by_axis(
    builder: &mut Builder<'_>,
    axis: &str,
    members: &[Configuration<'_>],
) -> (Vec<String>, Vec<Series>) {
    let categories = builder.values(Some(axis), members);
    let mut series = Vec::new();
    for value in builder.series_values(members) {
        let of_series: Vec<_> = builder.of_series(members, value.as_ref()).collect();
        let mut points = Vec::new();
        for (index, category) in categories.iter().enumerate() {
            let mut found = of_series.iter();
            let found = found.find(|c| has(c, Some(axis), category.as_ref()));
            points.extend(found.map(|c| builder.point(c, index as f64)));
        }
        series.push(Series {
            name: builder.series_name(value.as_ref()),
            look: builder.series_look(value.as_ref()),
            points,
        });
    }
    let without = || format!("without {axis}");
    let name = |value: &Option<AxisValue>| value.as_ref().map_or_else(without, show_value);
    (categories.iter().map(name).collect(), series)
}

/// A group of one mark for each configuration.
fn by_configuration(
    builder: &mut Builder<'_>,
    members: &[Configuration<'_>],
) -> (Vec<String>, Vec<Series>) {
    let name = |c: &Configuration<'_>| short_label(c.assignments, &builder.varying);
    let names = members.iter().map(name).collect();
    let places = members.iter().enumerate();
    let one = Series {
        name: String::new(),
        look: 0,
        points: places.map(|(i, c)| builder.point(c, i as f64)).collect(),
    };
    (names, vec![one])
}

/// Puts the group with the best mean first (over series, where there are several), groups
/// without a value last; returns the names in that order. Equal groups keep theirs.
fn sort(names: Vec<String>, series: &mut [Series], better: Better) -> Vec<String> {
    let score = |group: usize| {
        let points = series.iter().flat_map(|s| &s.points);
        let values: Vec<f64> = points
            .filter(|p| p.x as usize == group)
            .filter_map(|p| Some(p.estimate?.value))
            .collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        match (values.is_empty(), better) {
            (true, _) => f64::NEG_INFINITY,
            (false, Better::Lower) => -mean,
            (false, _) => mean,
        }
    };
    let scores: Vec<f64> = (0..names.len()).map(score).collect();
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    for point in series.iter_mut().flat_map(|s| &mut s.points) {
        let place = order.iter().position(|old| *old == point.x as usize);
        point.x = place.unwrap_or(0) as f64;
    }
    for one in series.iter_mut() {
        one.points.sort_by(|a, b| a.x.total_cmp(&b.x));
    }
    order.into_iter().map(|old| names[old].clone()).collect()
}
