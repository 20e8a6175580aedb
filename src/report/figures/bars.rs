//! Bars: a group for each value of the axis, or for each configuration.

use crate::config::sweep::{AxisValue, BarOrder, show_value};
use crate::figures::{Chart, Reference, Series};
use crate::metrics::{Better, metric_spec};
use crate::report::figures::{Builder, has};
use crate::report::select::{Configuration, short_label};

impl Builder<'_> {
    /// The chart of one panel.
    pub(super) fn bars(
        &mut self,
        members: &[Configuration<'_>],
        reference: Option<&Configuration<'_>>,
    ) -> Chart {
        let from_zero_metric = metric_spec(&self.spec.metric).from_zero;
        let mut series = Vec::new();
        let categories: Vec<Option<AxisValue>>;
        let names: Vec<String>;
        if let Some(axis) = self.spec.x.clone() {
            categories = self.values(Some(&axis), members);
            names = categories
                .iter()
                .map(|v| {
                    v.as_ref()
                        .map_or_else(|| format!("without {axis}"), show_value)
                })
                .collect();
            for value in self.values(self.spec.series.as_ref(), members) {
                let mut points = Vec::new();
                for (index, category) in categories.iter().enumerate() {
                    let found = members.iter().find(|c| {
                        has(c, Some(&axis), category.as_ref())
                            && has(c, self.spec.series.as_ref(), value.as_ref())
                    });
                    points.extend(found.map(|c| self.point(c, index as f64)));
                }
                series.push(Series {
                    name: self.series_name(value.as_ref()),
                    points,
                });
            }
        } else {
            names = members
                .iter()
                .map(|c| short_label(c.assignments, &self.varying))
                .collect();
            let points = members
                .iter()
                .enumerate()
                .map(|(i, c)| self.point(c, i as f64))
                .collect();
            series.push(Series {
                name: String::new(),
                points,
            });
        }
        let mut names = names;
        if self.spec.order == Some(BarOrder::Value) {
            names = self.sort(names, &mut series);
        }
        let reference = reference.map(|c| Reference {
            name: self.reference_name(),
            point: self.point(c, 0.0),
        });
        let points = series.iter().flat_map(|s| &s.points);
        let negative = points
            .chain(reference.iter().map(|r| &r.point))
            .flat_map(|p| &p.seeds)
            .any(|s| s.value < 0.0);
        Chart::Bars {
            categories: names,
            from_zero: from_zero_metric && !negative,
            series,
            reference,
        }
    }

    /// `select = none, pairs = 933`.
    fn reference_name(&self) -> String {
        let given = self.spec.reference.iter();
        let parts = given.map(|(axis, value)| format!("{axis} = {}", show_value(value)));
        parts.collect::<Vec<_>>().join(", ")
    }

    /// Puts the group with the best mean first (over series, where there are several), groups
    /// without a value last; returns the names in that order. Equal groups keep theirs.
    fn sort(&self, names: Vec<String>, series: &mut [Series]) -> Vec<String> {
        let score = |group: usize| {
            let points = series.iter().flat_map(|s| &s.points);
            let values: Vec<f64> = points
                .filter(|p| p.x as usize == group)
                .filter_map(|p| Some(p.estimate?.value))
                .collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            match (values.is_empty(), self.better()) {
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
}
