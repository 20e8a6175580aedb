//! How a failure looks and with which code the program ends.

use crate::config::Finding;
use crate::report::ReportError;
use serde_json::{Value, json};
use std::error::Error;
use std::fmt::Write as _;

/// Exit codes, documented in the README.
pub mod exit_code {
    /// Everything that was asked for succeeded.
    pub const OK: u8 = 0;
    /// The sweep file, the data or the request is wrong.
    pub const USER: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 2;
    /// The sweep finished and some runs did not succeed.
    pub const RUNS: u8 = 100;
    /// Interrupted; the state is saved.
    pub const INTERRUPTED: u8 = 130;
    /// Our bug.
    pub const INTERNAL: u8 = 255;
}

/// What kind of failure; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The user can mend it: exit 1.
    User,
    /// Runs failed: exit 100.
    Runs,
    /// Stopped on request: exit 130.
    Interrupted,
    /// Our bug: exit 255.
    Internal,
}

impl ErrorKind {
    /// The process exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::User => exit_code::USER,
            Self::Runs => exit_code::RUNS,
            Self::Interrupted => exit_code::INTERRUPTED,
            Self::Internal => exit_code::INTERNAL,
        }
    }
}

/// A failed command: kind, cause, hints that name the next command.
#[derive(Debug)]
pub struct CommandError {
    /// Decides the exit code.
    pub kind: ErrorKind,
    /// The cause; its whole chain is printed.
    pub source: Box<dyn Error + Send + Sync>,
    /// Each a sentence that says what to do next.
    pub hints: Vec<String>,
    /// A full diagnostic with source snippets that replaces the one-line message.
    pub rendered: Option<String>,
    /// Where in files something is wrong, for programs.
    pub findings: Vec<Finding>,
}

impl CommandError {
    /// A failure that the user can mend.
    pub fn user(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::of(ErrorKind::User, source)
    }

    /// Our own fault.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::of(ErrorKind::Internal, source)
    }

    /// A failure of `kind`.
    pub fn of(kind: ErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind,
            source: source.into(),
            hints: Vec::new(),
            rendered: None,
            findings: Vec::new(),
        }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// What `--json` writes: the message with its causes, hints, places and the exit code.
    pub fn to_json(&self) -> Value {
        let findings: Vec<Value> = self.findings.iter().map(finding_json).collect();
        json!({
            "error": self.message(), "hints": self.hints, "findings": findings,
            "exit_code": self.kind.code(),
        })
    }

    /// The message with its causes, one line each.
    pub fn message(&self) -> String {
        let mut text = self.source.to_string();
        let mut last = text.clone();
        let mut cause = self.source.source();
        while let Some(error) = cause {
            let line = error.to_string();
            if !text.ends_with(&line) && !line.ends_with(&last) {
                let _ = write!(text, "\n  because {line}");
                last = line;
            }
            cause = error.source();
        }
        text
    }
}

impl From<ReportError> for CommandError {
    fn from(error: ReportError) -> Self {
        Self::user(error)
    }
}

/// A finding as an object; line and column are 0 where there is no place.
pub(crate) fn finding_json(finding: &Finding) -> Value {
    json!({
        "file": finding.file, "line": finding.line, "column": finding.column,
        "message": finding.message, "help": finding.help,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PathError;

    #[test]
    fn a_program_gets_message_hints_and_exit_code() {
        let error =
            CommandError::user("no run begins with `abc`").hint("`lions status` lists runs");
        let json = error.to_json();
        assert_eq!(json["error"], "no run begins with `abc`");
        assert_eq!(json["hints"][0], "`lions status` lists runs");
        assert_eq!(json["exit_code"], 1);
        assert_eq!(json["findings"], json!([]));
    }

    #[test]
    fn the_message_names_every_cause_once() {
        let io = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = CommandError::user(PathError::new("read", "a.toml", io));
        assert_eq!(
            error.message(),
            "cannot read `a.toml`\n  because entity not found"
        );
    }
}
