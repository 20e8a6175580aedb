//! What computed an attempt, in words: program, project, processor, card.

use serde::{Deserialize, Serialize};
use std::path::Path;

/// What computed an attempt, as far as it is known. Nothing of it is part of a run's identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// BLAKE3 of the program's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The commit that the program was built from, where the build knew: a release build in a git work tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_from: Option<String>,
    /// The commit of the project folder, where it is a git work tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<GitState>,
    /// The processor's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<String>,
    /// The instruction set that the kernels of the CPU used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// The card's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
    /// Version of the card's driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

/// Where a git work tree stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitState {
    /// The commit, as hex digits.
    pub commit: String,
    /// Whether files that git tracks differ from it.
    pub changed: bool,
}

impl GitState {
    /// `3f9a1c2e8b4d`, or `3f9a1c2e8b4d with changes`.
    pub fn words(&self) -> String {
        let short: String = self.commit.chars().take(12).collect();
        if self.changed {
            format!("{short} with changes")
        } else {
            short
        }
    }
}

impl Facts {
    /// Of this machine and program, without those that others know.
    pub fn of_this_machine() -> Self {
        let text = std::fs::read_to_string(Path::new("/proc/cpuinfo")).unwrap_or_default();
        Self {
            built_from: option_env!("LIONS_COMMIT").map(str::to_owned),
            processor: processor(&text),
            ..Self::default()
        }
    }

    /// Each fact that is known, by name, in an order of their own.
    pub fn named(&self) -> Vec<(&'static str, String)> {
        let short = |digest: &String| digest.chars().take(12).collect();
        let project = self.project.as_ref().map(GitState::words);
        let facts = [
            ("program", self.program.as_ref().map(short)),
            ("built from", self.built_from.clone()),
            ("project", project),
            ("processor", self.processor.clone()),
            ("instructions", self.instructions.clone()),
            ("card", self.card.clone()),
            ("driver", self.driver.clone()),
        ];
        let known = |(name, value): (&'static str, Option<String>)| Some((name, value?));
        facts.into_iter().filter_map(known).collect()
    }
}

/// The model of the first processor in the text of `/proc/cpuinfo`; some systems tell none.
fn processor(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let name = line?.trim_start().strip_prefix(':')?.trim();
    (!name.is_empty()).then(|| name.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_named_once_and_a_change_is_told() {
        let text = "processor\t: 0\nmodel name\t: Some  CPU @ 2 GHz\nprocessor\t: 1\nmodel name\t: other\n";
        assert_eq!(processor(text).as_deref(), Some("Some CPU @ 2 GHz"));
        assert_eq!(processor("Features : fp asimd\n"), None);
        let state = GitState {
            commit: "0123456789abcdef0123".to_owned(),
            changed: true,
        };
        assert_eq!(state.words(), "0123456789ab with changes");
    }
}
