//! From axes to grid points, in a fixed order: the first axis turns slowest.

use crate::config::diagnose::{Diagnostic, Place, Problems, suggest};
use crate::config::file::{Assignment, Axis, Condition, SweepFile, same_value};
use crate::config::sweep::{AxisInfo, AxisValue, show_value};
use std::collections::{BTreeMap, BTreeSet};

/// More trials than this are taken for a mistake.
const MOST_TRIALS: usize = 100_000;

/// The name under which extra trials are told apart.
pub(crate) const TRIAL_AXIS: &str = "trial";

/// One configuration of the sweep, before seeds.
#[derive(Debug)]
pub(crate) struct GridPoint<'a> {
    pub(crate) assignments: BTreeMap<String, AxisValue>,
    /// (axis, point) pairs that apply, in the order of the file; empty for an extra trial.
    pub(crate) chosen: Vec<(usize, usize)>,
    /// In the order of laying on.
    pub(crate) sets: Vec<&'a Assignment>,
    pub(crate) seeds: &'a [u64],
}

/// Every axis for tables, the pseudo-axis of the extra trials last.
pub(crate) fn axis_infos(file: &SweepFile) -> Vec<AxisInfo> {
    let info = |axis: &Axis| AxisInfo {
        name: axis.name.clone(),
        values: axis
            .points
            .iter()
            .map(|point| point.value.clone())
            .collect(),
        unit: unit_of(axis).to_owned(),
    };
    let mut infos: Vec<AxisInfo> = file.axes.iter().map(info).collect();
    if !file.extras.is_empty() {
        let values = file
            .extras
            .iter()
            .map(|extra| extra.name.clone().into())
            .collect();
        infos.push(AxisInfo {
            name: TRIAL_AXIS.to_owned(),
            values,
            unit: String::new(),
        });
    }
    infos
}

/// Fields that count tokens.
const TOKENS: [&str; 4] = ["max-seq-len", "max-prompt-len", "max-new-tokens", "tokens"];

/// What numbers of an axis count, by the field that its first path sets; nothing of other values, or if its name says
/// so.
fn unit_of(axis: &Axis) -> &'static str {
    let numbers = axis.points.iter().all(|point| point.value.is_number());
    let sets = axis.points.first().and_then(|point| point.sets.first());
    let field = sets.and_then(|set| set.path.last());
    let counts = field.is_some_and(|key| TOKENS.contains(&&*key.name));
    if numbers && counts && !axis.name.contains("token") {
        "tokens"
    } else {
        ""
    }
}

/// Whether each condition's axis has one of the wanted values.
fn holds(conditions: &[Condition], assignments: &BTreeMap<String, AxisValue>) -> bool {
    conditions.iter().all(|condition| {
        let value = assignments.get(&condition.axis);
        value.is_some_and(|value| {
            condition
                .values
                .iter()
                .any(|(wanted, _)| same_value(wanted, value))
        })
    })
}

/// Refuses conditions on axes that are not there, or on values that they never take.
fn check_conditions(
    conditions: &[Condition],
    axes: &[Axis],
    later: &[Axis],
    problems: &mut Problems,
) {
    for condition in conditions {
        let Some(axis) = axes.iter().find(|axis| axis.name == condition.axis) else {
            let found = if later.iter().any(|axis| axis.name == condition.axis) {
                let message = format!("axis `{}` does not stand before this one", condition.axis);
                Diagnostic::new(condition.axis_place, message)
                    .help("a condition looks at earlier axes; move it up")
            } else {
                let message = format!("there is no axis `{}`", condition.axis);
                let names = axes.iter().map(|axis| axis.name.as_str());
                let help = suggest(&condition.axis, names).unwrap_or_else(|| {
                    if later.is_empty() {
                        return "this file has no axis; remove the condition".to_owned();
                    }
                    let name = &condition.axis;
                    format!(
                        "no axis stands before this one; remove the condition, or put an `[[axis]]` \
                         called `{name}` above"
                    )
                });
                Diagnostic::new(condition.axis_place, message).help(help)
            };
            problems.insert(found);
            continue;
        };
        for (value, place) in &condition.values {
            check_value(axis, value, *place, problems);
        }
    }
}

fn check_value(axis: &Axis, value: &AxisValue, place: Place, problems: &mut Problems) {
    if axis
        .points
        .iter()
        .any(|point| same_value(&point.value, value))
    {
        return;
    }
    let shown: Vec<String> = axis
        .points
        .iter()
        .map(|point| show_value(&point.value))
        .collect();
    let wrong = show_value(value);
    let mut found = Diagnostic::new(
        place,
        format!("axis `{}` never has the value `{wrong}`", axis.name),
    );
    found.help = suggest(&wrong, shown.iter().map(String::as_str));
    problems.insert(found);
}

/// All grid points that are not excluded, then the extra trials.
pub(crate) fn expand<'a>(file: &'a SweepFile, problems: &mut Problems) -> Vec<GridPoint<'a>> {
    let before = problems.len();
    for (index, axis) in file.axes.iter().enumerate() {
        check_conditions(
            &axis.when,
            &file.axes[..index],
            &file.axes[index..],
            problems,
        );
    }
    for exclude in &file.excludes {
        check_conditions(&exclude.conditions, &file.axes, &[], problems);
    }
    if problems.len() > before {
        return Vec::new(); // a grid built on wrong conditions would only echo them
    }
    let mut points = vec![GridPoint {
        assignments: BTreeMap::new(),
        chosen: Vec::new(),
        sets: Vec::new(),
        seeds: &file.seeds,
    }];
    let axes: &[Axis] = if let Some(search) = file.search {
        points = drawn(file, search.draws as usize);
        &[]
    } else {
        &file.axes
    };
    for (index, axis) in axes.iter().enumerate() {
        if let Some(found) = too_many(&points, &file.axes[index..], file.seeds.len()) {
            problems.insert(found);
            return Vec::new();
        }
        points = unfold(points, index, axis);
        if !points
            .iter()
            .any(|point| point.chosen.last().is_some_and(|(at, _)| *at == index))
        {
            let message = format!("axis `{}` applies to no trial", axis.name);
            let found = Diagnostic::new(axis.name_place, message);
            problems.insert(found.help("its `when` holds nowhere; change it, or remove the axis"));
        }
    }
    leave_out(file, &mut points, problems);
    check_overlaps(file, &points, problems);
    if file.axes.is_empty() && !file.extras.is_empty() {
        points.clear(); // only named trials: the bare base is not one of them
    }
    points.extend(file.extras.iter().map(|extra| GridPoint {
        assignments: BTreeMap::from([(TRIAL_AXIS.to_owned(), extra.name.clone().into())]),
        chosen: Vec::new(),
        sets: extra.sets.iter().collect(),
        seeds: extra.seeds.as_deref().unwrap_or(&file.seeds),
    }));
    points
}

/// The points of a random search: those of its draws that are different.
fn drawn(file: &SweepFile, draws: usize) -> Vec<GridPoint<'_>> {
    let mut points: Vec<GridPoint<'_>> = Vec::new();
    let mut seen = BTreeSet::new();
    for draw in 0..draws {
        let mut point = GridPoint {
            assignments: BTreeMap::new(),
            chosen: Vec::new(),
            sets: Vec::new(),
            seeds: &file.seeds,
        };
        for (index, axis) in file.axes.iter().enumerate() {
            let at = axis.drawn.get(draw).copied();
            let value = at.and_then(|at| Some((at, axis.points.get(at)?)));
            if let Some((at, value)) = value
                && holds(&axis.when, &point.assignments)
            {
                let name = axis.name.clone();
                point.assignments.insert(name, value.value.clone());
                point.chosen.push((index, at));
                point.sets.extend(&value.sets);
            }
        }
        if seen.insert(point.chosen.clone()) {
            points.push(point);
        }
    }
    points
}

/// That the next of the axes that are `left` makes more trials of these points than anyone means, before
/// they are made.
fn too_many(points: &[GridPoint<'_>], left: &[Axis], seeds: usize) -> Option<Diagnostic> {
    let axis = left.first()?;
    let values = axis.points.len().max(1);
    let unfolded = points.iter().filter(|p| holds(&axis.when, &p.assignments));
    let turned = unfolded.count();
    let trials = (turned.saturating_mul(values) + points.len() - turned).saturating_mul(seeds);
    if trials <= MOST_TRIALS {
        return None;
    }
    let rest = left[1..].iter().filter(|axis| axis.when.is_empty());
    let all = rest.fold(trials as u128, |all, axis| {
        all.saturating_mul(axis.points.len().max(1) as u128)
    });
    let message = format!(
        "the axes and {seeds} seeds make {all} trials, more than the {MOST_TRIALS} that a sweep may have"
    );
    let help = "leave values out, tie axes together with `paths`, or give some of them a `when`";
    Some(Diagnostic::new(axis.name_place, message).help(help))
}

/// Each point once for each value of `axis`, or unchanged where the axis does not apply.
fn unfold<'a>(points: Vec<GridPoint<'a>>, index: usize, axis: &'a Axis) -> Vec<GridPoint<'a>> {
    let mut unfolded = Vec::new();
    for point in points {
        if axis.points.is_empty() || !holds(&axis.when, &point.assignments) {
            unfolded.push(point);
            continue;
        }
        for (at, value) in axis.points.iter().enumerate() {
            let mut assignments = point.assignments.clone();
            assignments.insert(axis.name.clone(), value.value.clone());
            let mut chosen = point.chosen.clone();
            chosen.push((index, at));
            let mut sets = point.sets.clone();
            sets.extend(&value.sets);
            unfolded.push(GridPoint {
                assignments,
                chosen,
                sets,
                seeds: point.seeds,
            });
        }
    }
    unfolded
}

fn leave_out(file: &SweepFile, points: &mut Vec<GridPoint<'_>>, problems: &mut Problems) {
    let mut used = vec![false; file.excludes.len()];
    points.retain(|point| {
        let mut keep = true;
        for (exclude, used) in file.excludes.iter().zip(&mut used) {
            if holds(&exclude.conditions, &point.assignments) {
                *used = true;
                keep = false;
            }
        }
        keep
    });
    for (exclude, used) in file.excludes.iter().zip(used) {
        if !used && !exclude.conditions.is_empty() {
            let message = "this exclusion matches no point of the grid";
            let found = Diagnostic::new(exclude.place, message);
            problems
                .insert(found.help("no trial has all these values; remove it, or some of them"));
        }
    }
    if let (true, Some(exclude)) = (
        points.is_empty() && file.extras.is_empty(),
        file.excludes.first(),
    ) {
        let found = Diagnostic::new(exclude.place, "the exclusions leave no trial");
        problems.insert(found.help("remove one of them, or name more axes in it"));
    }
}

/// Two axes that set the same path for the same trial: one of them would do nothing.
fn check_overlaps(file: &SweepFile, points: &[GridPoint<'_>], problems: &mut Problems) {
    let dotted = |set: &Assignment| {
        let parts: Vec<&str> = set.path.iter().map(|key| &*key.name).collect();
        parts.join(".")
    };
    let paths: Vec<Vec<Vec<String>>> = file
        .axes
        .iter()
        .map(|axis| {
            axis.points
                .iter()
                .map(|point| point.sets.iter().map(dotted).collect())
                .collect()
        })
        .collect();
    let mut clash = BTreeSet::new();
    for (a, axis) in file.axes.iter().enumerate() {
        for (b, other) in file.axes.iter().enumerate().skip(a + 1) {
            let of = |index: usize| paths[index].iter().flatten();
            if of(a).any(|path| of(b).any(|second| second == path)) {
                clash.insert((a, b, axis.name.as_str(), other.name.as_str()));
            }
        }
    }
    for (a, b, first, second) in clash {
        let both = points.iter().find_map(|point| {
            let at = |axis: usize| {
                point
                    .chosen
                    .iter()
                    .find(|(index, _)| *index == axis)
                    .map(|(_, at)| *at)
            };
            let (at_a, at_b) = (at(a)?, at(b)?);
            paths[a][at_a]
                .iter()
                .find(|path| paths[b][at_b].contains(path))
        });
        if let Some(path) = both {
            let message = format!("axes `{first}` and `{second}` both set `{path}`");
            let found = Diagnostic::new(file.axes[b].name_place, message)
                .also(file.axes[a].name_place, "the other axis");
            problems.insert(found.help("leave it to one of them, or give them a `when` each"));
        }
    }
}
