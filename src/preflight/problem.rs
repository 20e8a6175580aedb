//! One thing that a look at a sweep's inputs found.

use crate::config::Remark;

/// How much a problem weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// A run would fail, or measure something else than it says.
    Error,
    /// Most probably not what was meant.
    Warning,
}

/// Where a problem stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file of the project: `data/a.jsonl:17`.
    File(String),
    /// In the sweep file: the value at a dotted path, for the trial of this index.
    Value {
        /// The first trial that it is about.
        trial: usize,
        /// The path.
        path: String,
    },
}

/// The value of the sweep file that names an input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    pub(super) trial: usize,
    pub(super) path: &'a str,
    /// Whether all of it is used: otherwise what is wrong with a part of it need not be met.
    pub(super) uses_all: bool,
}

/// What is wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Whether a run may begin.
    pub weight: Weight,
    /// Where.
    pub place: Place,
    /// A lower-case fragment.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Problem {
    /// About a file.
    pub(super) fn of_file(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            weight: Weight::Error,
            place: Place::File(place.into()),
            message: message.into(),
            help: None,
        }
    }

    /// About a value of the sweep file.
    pub(super) fn of_value(
        trial: usize,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            weight: Weight::Error,
            place: Place::Value {
                trial,
                path: path.into(),
            },
            message: message.into(),
            help: None,
        }
    }

    /// About the value that names an input, whichever asks for it.
    pub(super) fn of_asker(message: impl Into<String>) -> Self {
        Self::of_value(0, "", message)
    }

    /// The same for one who asks: of a problem that is about its value, at its place; a warning unless all
    /// is used.
    pub(super) fn asked_by(mut self, asker: Asker<'_>) -> Self {
        if let Place::Value { trial, path } = &mut self.place {
            *trial = asker.trial;
            if path.is_empty() {
                asker.path.clone_into(path);
            }
        }
        self.warning_unless(asker.uses_all)
    }

    /// Adds what to do.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same as a warning.
    pub(super) fn warning(self) -> Self {
        Self {
            weight: Weight::Warning,
            ..self
        }
    }

    /// The same as a warning, unless it is `sure`.
    pub(super) fn warning_unless(self, sure: bool) -> Self {
        if sure { self } else { self.warning() }
    }

    /// As a remark about the sweep file, if it is one.
    pub fn remark(&self) -> Option<Remark> {
        let Place::Value { trial, path } = &self.place else {
            return None;
        };
        Some(Remark {
            trial: *trial,
            path: path.clone(),
            message: self.message.clone(),
            help: self.help.clone(),
        })
    }
}
