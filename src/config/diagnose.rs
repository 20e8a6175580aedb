//! What is wrong in a sweep file, and how it is shown: file, line, column, the snippet, a hint.

use crate::base::printable;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Bytes `start..end` of a file of [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Number of the file in [`Sources`].
    pub(crate) file: u32,
    /// First byte.
    pub(crate) start: usize,
    /// One past the last byte.
    pub(crate) end: usize,
}

/// One text of a sweep: the file itself or one that it extends.
#[derive(Clone, Debug)]
pub(crate) struct SourceFile {
    /// As shown to a person.
    pub(crate) name: String,
    /// The whole text.
    pub(crate) text: Arc<str>,
}

/// Every file that was read, in the order of reading.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources(pub(crate) Vec<SourceFile>);

impl Sources {
    fn get(&self, place: Place) -> Option<&SourceFile> {
        self.0.get(place.file as usize)
    }

    /// The bytes at `place`, as written.
    pub(crate) fn text_at(&self, place: Place) -> &str {
        self.get(place)
            .and_then(|file| file.text.get(place.start..place.end))
            .unwrap_or("")
    }

    /// (line, column) of the first byte at `place`, both from 1, the column in characters.
    fn line_column(&self, place: Place) -> (usize, usize) {
        let Some(before) = self
            .get(place)
            .and_then(|file| file.text.get(..place.start))
        else {
            return (1, 1);
        };
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }
}

/// What is wrong so far, each thing once.
pub(crate) type Problems = BTreeSet<Diagnostic>;

/// One thing that is wrong, at its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Diagnostic {
    /// Something is not written at all. What is written wrongly may be its cause, and is told first.
    pub(crate) absent: bool,
    /// Where; absent if the sweep file itself cannot be read.
    pub(crate) place: Option<Place>,
    /// What is wrong, a lower-case fragment.
    pub(crate) message: String,
    /// What would be right: the nearest valid name, or the values allowed.
    pub(crate) help: Option<String>,
    /// A second place that explains the first.
    pub(crate) also: Option<(Place, String)>,
}

impl Diagnostic {
    /// `message` at `place`.
    pub(crate) fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            absent: false,
            place: Some(place),
            message: message.into(),
            help: None,
            also: None,
        }
    }

    /// `message` about what is not there in the table at `place`.
    pub(crate) fn absent(place: Place, message: impl Into<String>) -> Self {
        Self {
            absent: true,
            ..Self::new(place, message)
        }
    }

    /// `message` about no place in particular.
    pub(crate) fn nowhere(message: impl Into<String>) -> Self {
        Self {
            absent: false,
            place: None,
            message: message.into(),
            help: None,
            also: None,
        }
    }

    /// Adds a hint.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a second place.
    pub(crate) fn also(mut self, place: Place, label: impl Into<String>) -> Self {
        self.also = Some((place, label.into()));
        self
    }
}

/// A rule that a recipe breaks, wherever the recipe stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// Path of the field, from the recipe.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to write.
    pub help: String,
}

/// Everything that is wrong with a sweep, each with its place.
///
/// `Display` is one line: the first place and message, and how many more. [`ConfigError::render`]
/// shows them all with snippets.
#[derive(Debug)]
pub struct ConfigError {
    sources: Sources,
    diagnostics: Vec<Diagnostic>,
}

/// Where a diagnostic points and what it says, for listings and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1; 0 if there is no place.
    pub line: usize,
    /// Column in characters, from 1; 0 if there is none.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// The nearest valid name, or what is allowed.
    pub help: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => {}
            (line, 0) => write!(f, "{}:{line}: ", self.file)?,
            (line, column) => write!(f, "{}:{line}:{column}: ", self.file)?,
        }
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl ConfigError {
    /// What is missing behind what is wrong, else sorted by place; each once.
    pub(crate) fn new(sources: Sources, mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort();
        diagnostics.dedup();
        Self {
            sources,
            diagnostics,
        }
    }

    /// Every finding: what is wrong, then what is missing, each in order of files and lines.
    pub fn findings(&self) -> Vec<Finding> {
        self.diagnostics.iter().map(|d| self.finding(d)).collect()
    }

    fn finding(&self, diagnostic: &Diagnostic) -> Finding {
        let (file, (line, column)) = match diagnostic.place {
            Some(place) => (
                self.sources.get(place).map(|file| file.name.clone()),
                self.sources.line_column(place),
            ),
            None => (None, (0, 0)),
        };
        Finding {
            file: file.unwrap_or_default(),
            line,
            column,
            message: diagnostic.message.clone(),
            help: diagnostic.help.clone(),
        }
    }

    /// The full text: each finding with file, line, column, the snippet and the hint.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let shown = self
            .diagnostics
            .iter()
            .map(|diagnostic| self.render_one(&renderer, diagnostic));
        shown.collect::<Vec<_>>().join("\n\n")
    }

    fn render_one(&self, renderer: &Renderer, diagnostic: &Diagnostic) -> String {
        let title = Level::ERROR.primary_title(printable(&diagnostic.message));
        let mut group = Group::with_title(title);
        if let Some((place, file)) = diagnostic
            .place
            .and_then(|place| Some((place, self.sources.get(place)?)))
        {
            let mut snippet = Snippet::source(&*file.text)
                .path(printable(&file.name))
                .annotation(AnnotationKind::Primary.span(visible(place, &file.text)));
            if let Some((also, label)) = &diagnostic.also
                && also.file == place.file
            {
                let span = visible(*also, &file.text);
                snippet =
                    snippet.annotation(AnnotationKind::Context.span(span).label(printable(label)));
            }
            group = group.element(snippet);
        }
        if let Some((also, label)) = &diagnostic.also
            && diagnostic.place.is_none_or(|place| place.file != also.file)
            && let Some(file) = self.sources.get(*also)
        {
            let span = visible(*also, &file.text);
            group = group.element(
                Snippet::source(&*file.text)
                    .path(printable(&file.name))
                    .annotation(AnnotationKind::Primary.span(span).label(printable(label))),
            );
        }
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(printable(help)));
        }
        renderer.render(&[group])
    }
}

/// The first line of a place, inside the text: a table's place may be wide or empty.
fn visible(place: Place, text: &str) -> std::ops::Range<usize> {
    let start = place.start.min(text.len());
    let end = place.end.clamp(start, text.len());
    let first_line = text
        .get(start..end)
        .and_then(|part| part.find('\n'))
        .map_or(end, |at| start + at);
    start..first_line.max(start)
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.diagnostics.first() else {
            return f.write_str("the sweep file is wrong");
        };
        write!(f, "{}", self.finding(first))?;
        match self.diagnostics.len() {
            1 => Ok(()),
            n => write!(f, ", and {} more", n - 1),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Bytes of the longest word that is compared with others, which takes the product of their lengths: longer
/// ones are no slip of the pen.
pub(crate) const LONGEST_WORD: usize = 1000;

/// The name of `valid` that `wrong` was probably meant to be.
pub(crate) fn nearest<'a>(
    wrong: &str,
    valid: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if wrong.len() > LONGEST_WORD {
        return None;
    }
    let folded = |name: &str| name.to_lowercase().replace(['_', ' '], "-");
    let wrong_folded = folded(wrong);
    let allowed = (wrong.chars().count() / 3).max(2);
    valid
        .into_iter()
        .filter(|name| name.len() <= LONGEST_WORD)
        .map(|name| {
            let name_folded = folded(name);
            let distance = strsim::damerau_levenshtein(&wrong_folded, &name_folded);
            // `lr` for `learning-rate`, `batch` for `batching`: one holds the other.
            let holds = wrong_folded.len() >= 4
                && (name_folded.contains(&wrong_folded) || wrong_folded.contains(&name_folded));
            (
                if holds {
                    distance.min(allowed)
                } else {
                    distance
                },
                name,
            )
        })
        .filter(|(distance, name)| *distance <= allowed && *distance < name.chars().count().max(2))
        .min()
        .map(|(_, name)| name)
}

/// "did you mean `x`?" if one is near, else the list of what is allowed.
pub(crate) fn suggest<'a>(
    wrong: &str,
    valid: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<String> {
    if let Some(name) = nearest(wrong, valid.clone()) {
        return Some(format!("did you mean `{name}`?"));
    }
    let mut names: Vec<&str> = valid.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    let shown: Vec<String> = names
        .iter()
        .take(16)
        .map(|name| format!("`{name}`"))
        .collect();
    match (shown.len(), names.len()) {
        (0, _) => None,
        (shown_count, all) if shown_count < all => Some(format!(
            "valid are {} and {} more",
            shown.join(", "),
            all - shown_count
        )),
        _ => Some(format!("valid are {}", shown.join(", "))),
    }
}
