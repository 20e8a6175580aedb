//! Sampled stories under rules that need no model.

use crate::metrics::spec::{Metric, MetricSpec, plain, share};

/// The five verdicts on one story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "five verdicts, each read on its own"
)]
pub struct StoryVerdict {
    /// It ended by itself, within the token budget.
    pub ends: bool,
    /// It names the hero twice or more; `None` where the prompt names nobody.
    pub name: Option<bool>,
    /// Quotation marks are balanced, and there is a quotation if one was asked for.
    pub dialogue: bool,
    /// No five words in a row occur twice.
    pub no_repeat: bool,
    /// It has 60 to 140 words.
    pub length: bool,
    /// Its words.
    pub words: usize,
}

impl StoryVerdict {
    /// Share of the rules that hold, 0 to 1: of five, or of four where the prompt names nobody.
    pub fn score(&self) -> f64 {
        let mut held = vec![self.ends, self.dialogue, self.no_repeat, self.length];
        held.extend(self.name);
        held.iter().filter(|&&rule| rule).count() as f64 / held.len() as f64
    }
}

/// Metrics of a story.
pub static STORY: &[Metric<StoryVerdict>] = &[
    Metric {
        spec: share(
            "rule_score",
            "rule score",
            "share of rules",
            "Mean share of the story rules kept (five; four where the prompt names nobody): ends in budget, keeps the name, dialogue as asked, no repeated 5-gram, 60–140 words.",
        ),
        of: |story| Some(story.score()),
    },
    Metric {
        spec: share(
            "rules/ends",
            "ends in budget",
            "share of stories",
            "Share of stories that end before the token budget.",
        ),
        of: |story| Some(f64::from(story.ends)),
    },
    Metric {
        spec: share(
            "rules/name",
            "keeps the name",
            "share of stories",
            "Share of stories that name the hero at least twice.",
        ),
        of: |story| story.name.map(f64::from),
    },
    Metric {
        spec: share(
            "rules/dialogue",
            "dialogue as asked",
            "share of stories",
            "Share of stories with dialogue where asked for, and balanced quotes.",
        ),
        of: |story| Some(f64::from(story.dialogue)),
    },
    Metric {
        spec: share(
            "rules/no_repeat",
            "no repetition",
            "share of stories",
            "Share of stories without a repeated 5-gram.",
        ),
        of: |story| Some(f64::from(story.no_repeat)),
    },
    Metric {
        spec: share(
            "rules/length",
            "length in range",
            "share of stories",
            "Share of stories of 60 to 140 words.",
        ),
        of: |story| Some(f64::from(story.length)),
    },
    Metric {
        spec: MetricSpec {
            from_zero: true,
            ..plain(
                "words",
                "words",
                "words per story",
                "Mean number of words of a story.",
            )
        },
        of: |story| Some(story.words as f64),
    },
];
