//! Rules for `[[report.figure]]`: what each kind of figure needs, takes and does not take.

use crate::config::check_report::{Assignments, ReportChecker, Row};
use crate::config::spec::PipelineStage;
use crate::config::sweep::{AxisValue, FigureKind, FigureSpec, Trial, show_value};

/// The word for a kind in the file.
fn word(kind: FigureKind) -> &'static str {
    match kind {
        FigureKind::Bars => "bars",
        FigureKind::Lines => "lines",
        FigureKind::Training => "training",
        FigureKind::Scaling => "scaling",
        FigureKind::Layout => "layout",
    }
}

/// Whether a label is `Figure 1` or `Figure A1`.
fn is_paper_label(label: &str) -> bool {
    let number = label.strip_prefix("Figure ").unwrap_or_default();
    let digits = number.strip_prefix('A').unwrap_or(number);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

impl ReportChecker<'_> {
    pub(super) fn figure(&mut self, figure: &mut FigureSpec, path: &str) {
        self.published(figure.published.as_ref(), path);
        if let Some(label) = figure.paper.as_ref().filter(|l| !is_paper_label(l)) {
            let message = format!("`{label}` is no figure of the paper");
            let help = Some("write it as `Figure 1` or `Figure A1`".to_owned());
            self.fail(self.place(&format!("{path}.paper")), message, help);
        }
        let Some(kept) = self.selected(&mut figure.filter, path) else {
            return;
        };
        self.misplaced(figure, path);
        self.metrics(figure, path, &kept);
        self.axes(figure, path, &kept);
        self.reference(&mut figure.reference, path);
        self.numbers(figure, path, &kept);
        if figure.kind == FigureKind::Layout {
            let pairs = |i: &usize| {
                let pipeline = &self.trials[*i].config.pipeline;
                pipeline.contains(&PipelineStage::Dpo)
            };
            if !kept.iter().any(pairs) {
                let message =
                    "no trial here has a `dpo` stage, whose first batch could be drawn".to_owned();
                self.fail(self.place(path), message, None);
            }
        }
    }

    /// Keys that mean nothing to this kind.
    fn misplaced(&mut self, figure: &FigureSpec, path: &str) {
        use FigureKind::{Bars, Lines, Scaling, Training};
        let kind = figure.kind;
        let given: [(&str, bool, &[FigureKind]); 9] = [
            (
                "metric",
                !figure.metric.is_empty(),
                &[Bars, Lines, Training, Scaling],
            ),
            (
                "direction",
                figure.direction.is_some(),
                &[Bars, Lines, Training, Scaling],
            ),
            ("x", figure.x.is_some(), &[Bars, Lines]),
            ("x-metric", figure.x_metric.is_some(), &[Scaling]),
            (
                "series",
                figure.series.is_some(),
                &[Bars, Lines, Training, Scaling],
            ),
            (
                "panels",
                figure.panels.is_some(),
                &[Bars, Lines, Training, Scaling],
            ),
            ("order", figure.order.is_some(), &[Bars]),
            ("reference", !figure.reference.is_empty(), &[Bars]),
            ("under", !figure.under.is_empty(), &[Training]),
        ];
        for (key, there, kinds) in given {
            if !there || kinds.contains(&kind) {
                continue;
            }
            let place = self.place(&format!("{path}.{key}"));
            let (message, help) = match (key, kind) {
                ("x", Training) => (
                    "a training figure has the step on x".to_owned(),
                    "remove `x`".to_owned(),
                ),
                ("x", Scaling) => (
                    "a scaling figure has a metric on x".to_owned(),
                    "use `x-metric`".to_owned(),
                ),
                _ => {
                    let names: Vec<_> = kinds.iter().map(|k| format!("`{}`", word(*k))).collect();
                    (
                        format!("`{key}` means nothing to a figure of kind `{}`", word(kind)),
                        format!("it goes with {}", names.join(", ")),
                    )
                }
            };
            self.fail(place, message, Some(help));
        }
        if figure.log_x && !matches!(kind, Lines | Scaling) {
            let message = format!(
                "{} have no logarithmic axis",
                match kind {
                    Bars => "bars",
                    Training => "training figures",
                    _ => "layouts",
                }
            );
            let help = Some("use `kind = \"lines\"`".to_owned());
            self.fail(self.place(&format!("{path}.log-x")), message, help);
        }
    }

    fn metrics(&mut self, figure: &FigureSpec, path: &str, kept: &[usize]) {
        if figure.kind == FigureKind::Layout {
            return;
        }
        let training = figure.kind == FigureKind::Training;
        if figure.metric.is_empty() {
            let message = "key `metric` is missing: what the figure shows".to_owned();
            self.fail(self.place(path), message, None);
        } else {
            let valid = self.valid_metrics(kept, training);
            let place = self.place(&format!("{path}.metric"));
            self.metric(&figure.metric, &valid, place);
        }
        let finals = self.valid_metrics(kept, false);
        let mut under = finals.clone();
        under.extend(self.valid_metrics(kept, true));
        for (index, key) in figure.under.iter().enumerate() {
            let place = self.place(&format!("{path}.under.{index}"));
            self.metric(key, &under, place);
        }
        match (&figure.x_metric, figure.kind) {
            (Some(key), FigureKind::Scaling) => {
                let place = self.place(&format!("{path}.x-metric"));
                self.metric(key, &finals, place);
                if *key == figure.metric {
                    let message = "`metric` and `x-metric` are the same".to_owned();
                    self.fail(place, message, None);
                }
            }
            (None, FigureKind::Scaling) => {
                let message =
                    "key `x-metric` is missing: the final metric along which the figure is drawn";
                let help = Some("for example `x-metric = \"training/flops\"`".to_owned());
                self.fail(self.place(path), message.to_owned(), help);
            }
            _ => {}
        }
    }

    fn axes(&mut self, figure: &FigureSpec, path: &str, kept: &[usize]) {
        let named = [
            (&figure.x, "x"),
            (&figure.series, "series"),
            (&figure.panels, "panels"),
        ];
        for (index, (name, role)) in named.iter().enumerate() {
            let Some(name) = name else { continue };
            let place = self.place(&format!("{path}.{role}"));
            if !self.axes.iter().any(|axis| axis.name == *name) {
                self.unknown_axis(place, name);
            } else if !kept
                .iter()
                .any(|index| self.trials[*index].assignments.contains_key(name))
            {
                let message = format!("axis `{name}` applies to no trial of this figure");
                self.fail(place, message, None);
            }
            let same = named[..index]
                .iter()
                .find(|(other, _)| other.as_deref() == Some(name.as_str()));
            if let Some((_, other)) = same {
                let message = format!("`{other}` and `{role}` are the same axis");
                self.fail(place, message, None);
            }
        }
        let needs_x = figure.kind == FigureKind::Lines;
        if figure.x.is_none() && needs_x {
            let message = "key `x` is missing: the axis along which the figure is drawn".to_owned();
            self.fail(self.place(path), message, None);
        }
    }

    /// One configuration of the sweep, whatever `where` says.
    fn reference(&mut self, reference: &mut Assignments, path: &str) {
        let at = format!("{path}.reference");
        if reference.is_empty() || !self.assignments(reference, &at) {
            return;
        }
        let trials: Vec<&Trial> = self.trials.iter().collect();
        let row = Row {
            what: "reference",
            of: "the sweep",
            within: &[],
        };
        self.one_row(reference, &trials, &row, &at);
    }

    /// Lines need numbers on x, a logarithmic axis positive ones.
    fn numbers(&mut self, figure: &FigureSpec, path: &str, kept: &[usize]) {
        let Some(x) = figure
            .x
            .as_ref()
            .filter(|_| figure.kind == FigureKind::Lines)
        else {
            return;
        };
        let values = kept
            .iter()
            .filter_map(|index| self.trials[*index].assignments.get(x));
        let wrong = values.clone().find(|value| !value.is_number());
        let low = values
            .filter_map(AxisValue::as_f64)
            .find(|value| *value <= 0.0);
        let place = self.place(&format!("{path}.x"));
        if let Some(value) = wrong {
            let message = format!(
                "lines need numbers on x, but axis `{x}` has `{}`",
                show_value(value)
            );
            self.fail(place, message, Some("use `kind = \"bars\"`".to_owned()));
        } else if let (Some(low), true) = (low, figure.log_x) {
            let message =
                format!("a logarithmic axis needs values above 0, but axis `{x}` has {low}");
            self.fail(self.place(&format!("{path}.log-x")), message, None);
        }
    }
}
