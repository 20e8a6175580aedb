//! The one owner of stdout, stderr, colour and width.

use crate::base::{printable, printable_json};
use crate::cli::error::CommandError;
use crate::report::{ColumnFit, TextAlign, TextTable, wrap_text};
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::LazyLock;
use terminal_size::terminal_size_of;

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// A meaning, shown by colour and never by colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    Warn,
    Dim,
    Strong,
    Accent,
}

impl Tone {
    /// The tone of a word for the state of a run.
    pub(crate) fn of_state(word: &str) -> Self {
        match word {
            "done" => Self::Good,
            "running" => Self::Accent,
            "failed" => Self::Bad,
            "silent" | "skipped" | "cancelled" => Self::Warn,
            _ => Self::Dim,
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Warn => AnsiColor::Yellow.on_default(),
            Self::Dim => Style::new().dimmed(),
            Self::Strong => Style::new().bold(),
            Self::Accent => AnsiColor::Cyan.on_default(),
        }
    }
}

/// Where words go.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent switches of the command line"
)]
pub(crate) struct Ui {
    color_out: bool,
    color_err: bool,
    /// Machine-readable output was asked for.
    pub(crate) json: bool,
    /// No talk on stderr but errors.
    pub(crate) quiet: bool,
}

impl Ui {
    pub(crate) fn new(color: ColorChoice, no_color: bool, json: bool, quiet: bool) -> Self {
        let decide = |terminal: bool| match color {
            _ if json => false,
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !no_color,
        };
        Self {
            color_out: decide(io::stdout().is_terminal()),
            color_err: decide(io::stderr().is_terminal()),
            json,
            quiet,
        }
    }

    /// Whether a person watches stderr, so that bars may move there.
    pub(crate) fn interactive(&self) -> bool {
        !self.json && !self.quiet && io::stderr().is_terminal()
    }

    pub(crate) fn colors_out(&self) -> bool {
        self.color_out
    }

    pub(crate) fn colors_err(&self) -> bool {
        self.color_err
    }

    /// `text` in `tone`, for stdout.
    pub(crate) fn tone(&self, tone: Tone, text: &str) -> String {
        paint(self.color_out, tone, text)
    }

    /// `text` in `tone`, for stderr.
    pub(crate) fn tone_err(&self, tone: Tone, text: &str) -> String {
        paint(self.color_err, tone, text)
    }

    /// Columns of the terminal that stdout is, as wide as it is now; nothing if it is none.
    #[expect(clippy::unused_self, reason = "all output goes through the Ui")]
    pub(crate) fn width_out(&self) -> Option<usize> {
        terminal_size_of(io::stdout()).map(|(width, _)| width.0.into())
    }

    /// One line of data to stdout, as it is. A reader that has gone away (a closed pipe) is no error.
    #[expect(clippy::unused_self, reason = "all output goes through the Ui")]
    pub(crate) fn out(&self, line: &str) {
        drop(writeln!(io::stdout().lock(), "{}", shown(line)));
    }

    /// Sentences to stdout; a terminal gets them broken between words.
    pub(crate) fn text(&self, text: &str) {
        self.out(&fitted(text, self.width_out(), 0));
    }

    /// Rows to stdout, the first of them perhaps heads. Where the terminal is too narrow, columns are
    /// shortened as `fits` allows, and what does not fit even so stands below, beside the first column.
    pub(crate) fn table(&self, rows: &[Vec<String>], fits: &[ColumnFit]) {
        self.indented_table(0, rows, fits);
    }

    /// Rows below the heads of their columns.
    pub(crate) fn headed_table<const N: usize>(
        &self,
        columns: [(&str, ColumnFit); N],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) {
        let heads = columns.map(|(head, _)| self.tone(Tone::Dim, head)).to_vec();
        let rows: Vec<_> = std::iter::once(heads).chain(rows).collect();
        self.table(&rows, &columns.map(|(_, fit)| fit));
    }

    /// The same as [`Self::table`] behind so many blanks.
    pub(crate) fn indented_table(&self, indent: usize, rows: &[Vec<String>], fits: &[ColumnFit]) {
        let columns: Vec<_> = fits.iter().map(|fit| (TextAlign::Left, *fit)).collect();
        let table = TextTable {
            rows,
            columns: &columns,
            keys: 1,
            bar: "  ",
        };
        let margin = " ".repeat(indent);
        let width = self.width_out().map(|width| width.saturating_sub(indent));
        for line in table.lines(width) {
            self.out(format!("{margin}{line}").trim_end());
        }
    }

    /// Text to stdout without a line end of ours.
    #[expect(clippy::unused_self, reason = "all output goes through the Ui")]
    pub(crate) fn raw(&self, text: &str) {
        drop(io::stdout().lock().write_all(shown(text).as_bytes()));
    }

    /// A part of a text to stdout at once, as it comes; colours of strangers do not pass.
    #[expect(clippy::unused_self, reason = "all output goes through the Ui")]
    pub(crate) fn stream(&self, text: &str) {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(printable(text).as_bytes());
        drop(written.and_then(|()| stdout.flush()));
    }

    /// A value as a line of JSON to stdout.
    #[expect(clippy::unused_self, reason = "all output goes through the Ui")]
    pub(crate) fn json_row(&self, value: &Value) {
        let text = value.to_string();
        drop(writeln!(io::stdout().lock(), "{}", printable_json(&text)));
    }

    /// A value as pretty JSON to stdout.
    #[expect(clippy::unused_self, reason = "all output goes through the Ui")]
    pub(crate) fn print_json<T: Serialize>(&self, value: &T) -> Result<(), CommandError> {
        let text = serde_json::to_string_pretty(value).map_err(CommandError::internal)?;
        drop(writeln!(io::stdout().lock(), "{}", printable_json(&text)));
        Ok(())
    }

    /// One line of talk to stderr.
    pub(crate) fn say(&self, line: &str) {
        if self.quiet {
            return;
        }
        if self.json {
            json_line(&json!({ "note": line }));
        } else {
            talk(line);
        }
    }

    /// A question on the line where the answer is typed.
    #[expect(clippy::unused_self, reason = "all output goes through the Ui")]
    pub(crate) fn ask(&self, question: &str) {
        let mut stderr = io::stderr().lock();
        drop(write!(stderr, "{}: ", shown(question)).and_then(|()| stderr.flush()));
    }

    /// A warning to stderr.
    pub(crate) fn warn(&self, line: &str) {
        if self.json {
            json_line(&json!({ "warning": line }));
        } else {
            let word = paint(self.color_err, Tone::Warn, "warning");
            talk(&format!("{word}: {line}"));
        }
    }

    /// A failed command to stderr, with its hints.
    pub(crate) fn error(&self, error: &CommandError) {
        if self.json {
            return json_line(&error.to_json());
        }
        if let Some(text) = &error.rendered {
            // A picture of lines of the file, in which its maker left no code of the file's.
            let text = ours(text.trim_end());
            drop(writeln!(io::stderr().lock(), "{}", shown(&text)));
        } else {
            let word = paint(self.color_err, Tone::Bad, "error");
            talk(&format!("{word}: {}", error.message()));
        }
        for hint in &error.hints {
            let word = paint(self.color_err, Tone::Accent, "hint");
            talk(&format!("{word}: {hint}"));
        }
    }
}

/// Sentences to stderr; a terminal gets them broken between words.
fn talk(text: &str) {
    drop(writeln!(
        io::stderr().lock(),
        "{}",
        fitted(&shown(text), width_err(), 2)
    ));
}

/// Columns of the terminal that stderr is, as wide as it is now; nothing if it is none.
pub(crate) fn width_err() -> Option<usize> {
    terminal_size_of(io::stderr()).map(|(width, _)| width.0.into())
}

/// One JSON object on a line of stderr.
pub(crate) fn json_line(value: &Value) {
    drop(writeln!(
        io::stderr().lock(),
        "{}",
        printable_json(&value.to_string())
    ));
}

/// The text for a terminal of `width` columns, if it is for one; further lines are `indent` blanks in.
fn fitted(text: &str, width: Option<usize>, indent: usize) -> String {
    match width {
        Some(width) => wrap_text(text, width, indent).join("\n"),
        None => text.to_owned(),
    }
}

/// How our own colour codes begin until they are [`shown`]. The number is another in each process and is
/// never written, so that no data row, server or file can colour or hide what is said of it.
static MARK: LazyLock<String> =
    LazyLock::new(|| format!("{CODE}{};", RandomState::new().build_hasher().finish()));

/// How the codes of a terminal begin.
const CODE: &str = "\u{1b}[";

/// The code that ends a colour.
const RESET: &str = "\u{1b}[0m";

/// A text painted elsewhere, its colours marked as ours: what strangers wrote in it was made printable
/// before.
pub(crate) fn ours(painted: &str) -> String {
    painted.replace(CODE, &MARK)
}

/// What reaches the terminal: our own colours, and no other code that steers it, whatever a data row, a
/// server or a file name holds.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return printable(text);
    }
    let mut safe = String::with_capacity(text.len());
    let mut painted = false;
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        safe.push_str(&printable(&rest[..at]));
        rest = &rest[at..];
        if let Some(code) = rest.strip_prefix(MARK.as_str()) {
            safe.push_str(CODE);
            (painted, rest) = (true, code);
        } else if let Some(after) = rest.strip_prefix(RESET).filter(|_| painted) {
            safe.push_str(RESET);
            (painted, rest) = (false, after);
        } else {
            safe.push(char::REPLACEMENT_CHARACTER);
            rest = &rest[1..];
        }
    }
    safe.push_str(&printable(rest));
    Cow::Owned(safe)
}

/// `text`, made printable, in `tone` if colours are `on`; [`shown`] makes codes of the marks.
pub(crate) fn paint(on: bool, tone: Tone, text: &str) -> String {
    let text = printable(text);
    if on {
        let style = tone.style();
        format!("{}{text}{RESET}", ours(&style.to_string()))
    } else {
        text.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_fit_a_terminal_and_go_as_they_are_into_a_pipe() {
        let text = "`lions log <run>` shows what a run said";
        assert_eq!(fitted(text, None, 2), text);
        assert_eq!(
            fitted(text, Some(30), 2),
            "`lions log <run>` shows what a\n  run said"
        );
    }

    #[test]
    fn our_colours_pass_and_other_codes_do_not() {
        let painted = paint(true, Tone::Bad, "b\u{fc}");
        assert_eq!(shown(&painted), "\u{1b}[1m\u{1b}[31mb\u{fc}\u{1b}[0m");
        assert_eq!(shown("plain\ttext\n"), "plain\ttext\n");
        assert_eq!(shown("a\u{1b}]0;t\u{7}b"), "a\u{fffd}]0;t\u{fffd}b");
        assert_eq!(
            shown("\u{1b}[2J\u{1b}[31m\u{1b}["),
            "\u{fffd}[2J\u{fffd}[31m\u{fffd}["
        );
    }

    #[test]
    fn colours_of_strangers_do_not_pass_beside_ours_nor_between_them() {
        let hidden = "\u{1b}[8mid\u{1b}[0m";
        let safe = "\u{fffd}[8mid\u{fffd}[0m";
        assert_eq!(shown(hidden), safe);
        assert_eq!(paint(false, Tone::Dim, hidden), safe);
        let line = format!("{hidden} {} {hidden}", paint(true, Tone::Dim, hidden));
        let want = format!("{safe} \u{1b}[2m{safe}\u{1b}[0m {safe}");
        assert_eq!(shown(&line), want);
        assert_eq!(shown(&ours("\u{1b}[1mx\u{1b}[0m")), "\u{1b}[1mx\u{1b}[0m");
    }

    #[test]
    fn marked_text_has_the_width_of_what_is_shown() {
        let painted = paint(true, Tone::Good, "two words");
        assert_eq!(crate::report::display_width(&painted), 9);
        let lines = fitted(&painted, Some(5), 0);
        assert_eq!(
            shown(&lines),
            "\u{1b}[32mtwo\u{1b}[0m\n\u{1b}[32mwords\u{1b}[0m"
        );
    }
}
