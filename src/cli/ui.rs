//! The one owner of stdout, stderr, colour and width.

use crate::base::{printable, printable_json};
use crate::cli::error::CommandError;
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};

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

    /// One line of data to stdout. A reader that has gone away (a closed pipe) is no error.
    #[expect(clippy::unused_self, reason = "all output goes through the Ui")]
    pub(crate) fn out(&self, line: &str) {
        drop(writeln!(io::stdout().lock(), "{}", shown(line)));
    }

    /// Text to stdout without a line end of ours.
    #[expect(clippy::unused_self, reason = "all output goes through the Ui")]
    pub(crate) fn raw(&self, text: &str) {
        drop(io::stdout().lock().write_all(shown(text).as_bytes()));
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
        if !self.quiet {
            drop(writeln!(io::stderr().lock(), "{}", shown(line)));
        }
    }

    /// A warning to stderr.
    pub(crate) fn warn(&self, line: &str) {
        let word = paint(self.color_err, Tone::Warn, "warning");
        drop(writeln!(io::stderr().lock(), "{word}: {}", shown(line)));
    }

    /// A failed command to stderr, with its hints.
    pub(crate) fn error(&self, error: &CommandError) {
        let mut stderr = io::stderr().lock();
        if let Some(text) = &error.rendered {
            drop(writeln!(stderr, "{}", shown(text.trim_end())));
        } else {
            let word = paint(self.color_err, Tone::Bad, "error");
            drop(writeln!(stderr, "{word}: {}", shown(&error.message())));
        }
        for hint in &error.hints {
            let word = paint(self.color_err, Tone::Accent, "hint");
            drop(writeln!(stderr, "{word}: {}", shown(hint)));
        }
    }
}

/// What reaches the terminal: colours, and no other code that steers it, whatever a data row, a
/// server or a file name holds.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return printable(text);
    }
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        safe.push_str(&printable(&rest[..at]));
        let code = colour_code(&rest[at..]);
        safe.push_str(code.unwrap_or("\u{fffd}"));
        rest = &rest[at + code.map_or(1, str::len)..];
    }
    safe.push_str(&printable(rest));
    Cow::Owned(safe)
}

/// The colour code (`ESC [ … m`) at the head of a text.
fn colour_code(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("\u{1b}[")?;
    let end = inside.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    inside[end..].starts_with('m').then(|| &text[..end + 3])
}

fn paint(on: bool, tone: Tone, text: &str) -> String {
    if on {
        let style = tone.style();
        format!("{style}{text}{style:#}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_pass_and_other_codes_do_not() {
        let painted = paint(true, Tone::Bad, "b\u{fc}");
        assert_eq!(shown(&painted), painted);
        assert_eq!(shown("plain\ttext\n"), "plain\ttext\n");
        assert_eq!(shown("a\u{1b}]0;t\u{7}b"), "a\u{fffd}]0;t\u{fffd}b");
        assert_eq!(
            shown("\u{1b}[2J\u{1b}[31m\u{1b}["),
            "\u{fffd}[2J\u{1b}[31m\u{fffd}["
        );
    }
}
