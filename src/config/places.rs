//! Where the values of a sweep's trials stand in its files.

use crate::config::diagnose::{ConfigError, Diagnostic, Finding, Place, Sources};
use crate::config::expand::GridPoint;
use crate::config::file::{Assignment, SweepFile};
use crate::config::removed::take_out_removed;
use crate::config::task_file::TaskFiles;
use crate::config::tree::{Kind, Node};

/// Where the values of a sweep's trials stand in its files.
#[derive(Debug)]
pub struct Places {
    pub(crate) sources: Sources,
    pub(crate) points: PointTrees,
}

/// What makes the tree of each trial.
#[derive(Debug)]
pub(crate) struct PointTrees {
    base: Node,
    sets: Vec<Vec<Assignment>>,
    /// The point of each trial.
    of_trial: Vec<usize>,
    /// What the files of its tasks hold.
    tasks: TaskFiles,
}

impl PointTrees {
    pub(crate) fn new(file: &SweepFile, points: &[GridPoint<'_>], tasks: TaskFiles) -> Self {
        let sets = points
            .iter()
            .map(|p| p.sets.iter().copied().cloned().collect());
        let repeats = points.iter().enumerate();
        let of_trial = repeats.flat_map(|(at, point)| point.seeds.iter().map(move |_| at));
        Self {
            base: file.base.clone(),
            sets: sets.collect(),
            of_trial: of_trial.collect(),
            tasks,
        }
    }

    /// The tree of one trial, what its axes set laid over the base, and both over the files of its tasks.
    fn of(&self, trial: usize) -> Node {
        let point = self.of_trial.get(trial).copied();
        let sets = point.and_then(|point| self.sets.get(point));
        let (mut tree, _) = overlaid(&self.base, sets.into_iter().flatten());
        self.tasks.lay_below(&mut tree);
        tree
    }
}

/// Something about a value of a trial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// The first trial that it is about.
    pub trial: usize,
    /// Dotted path of the value; empty if it is about none in particular.
    pub path: String,
    /// A lower-case fragment.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// Where a value of a trial was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// An axis sets it, and not the base that all trials share.
    pub by_axis: bool,
}

impl Places {
    /// The remarks at their places.
    pub fn located(&self, remarks: &[Remark]) -> ConfigError {
        let diagnostic = |remark: &Remark| {
            let mut found = if remark.path.is_empty() {
                Diagnostic::nowhere(remark.message.clone())
            } else {
                let place = self.points.of(remark.trial).nearest_place(&remark.path);
                Diagnostic::new(place, remark.message.clone())
            };
            found.help.clone_from(&remark.help);
            found
        };
        ConfigError::new(
            self.sources.clone(),
            remarks.iter().map(diagnostic).collect(),
        )
    }

    /// For each dotted path of a trial's configuration where it was written, or what it is a part
    /// of; absent for a value that no file gives.
    pub fn written<'p>(
        &self,
        trial: usize,
        paths: impl IntoIterator<Item = &'p str>,
    ) -> Vec<Option<Written>> {
        let tree = self.points.of(trial);
        let written = |path| {
            let (place, layer) = value_at(&tree, path)?;
            let at = ConfigError::new(self.sources.clone(), vec![Diagnostic::new(place, "")]);
            let Finding { file, line, .. } = at.findings().into_iter().next()?;
            Some(Written {
                file,
                line,
                by_axis: layer >= OVERLAY,
            })
        };
        paths.into_iter().map(written).collect()
    }
}

/// Where the value of a path, or the plain value on the way to it (`"hinge"` for its parameters),
/// was written, and the layer of its key; absent where the way ends in a table, which then leaves
/// the value out.
fn value_at(tree: &Node, path: &str) -> Option<(Place, u32)> {
    let (mut node, mut layer) = (tree, 0);
    for part in path.split('.') {
        node = match &node.kind {
            Kind::Table(entries) => {
                let (key, value) = entries.iter().find(|(key, _)| &*key.name == part)?;
                layer = key.layer;
                value
            }
            Kind::List(items) => items.get(part.parse::<usize>().ok()?)?,
            _ => break,
        };
    }
    Some((node.place, layer))
}

/// The base with values laid on it, and which of those have no place there.
pub(crate) fn overlaid<'a>(
    base: &Node,
    sets: impl Iterator<Item = &'a Assignment>,
) -> (Node, Vec<Diagnostic>) {
    let mut node = base.clone();
    let mut wrong = Vec::new();
    for (layer, set) in (OVERLAY..).zip(sets) {
        if let Err(problem) = node.set(&set.path, &set.value, layer) {
            wrong.push(*problem);
        }
    }
    take_out_removed(&mut node);
    (node, wrong)
}

/// A layer above those of all files, for what axes set.
const OVERLAY: u32 = 1 << 16;
