//! How long the pairs of a run's first step are: what a figure of batch layouts is drawn from.
//!
//! The engine wing writes it beside the trained model; reports read it. It changes no result.

use crate::base::write_atomic;
use crate::rundir::error::RundirError;
use crate::rundir::files::{read_versioned, to_json};
use crate::rundir::layout::RunDir;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// File name of the artifact.
pub const BATCH_LAYOUT_ARTIFACT: &str = "batch_layout.json";

/// Version of the file.
const FORMAT: u32 = 1;

/// The pairs of one optimiser step, in the order in which they are computed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchLayout {
    /// Their lengths.
    pub pairs: Vec<PairLengths>,
}

/// Tokens of one preference pair after all cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairLengths {
    /// Of the prompt, which both sequences begin with.
    pub prompt: usize,
    /// Of the preferred reply.
    pub chosen: usize,
    /// Of the other reply.
    pub rejected: usize,
}

impl BatchLayout {
    /// Tokens of the longest sequence, prompt and reply; 0 without pairs.
    pub fn longest(&self) -> usize {
        let longest = self
            .pairs
            .iter()
            .map(|p| p.prompt + p.chosen.max(p.rejected));
        longest.max().unwrap_or(0)
    }

    /// Positions computed when every sequence is filled up to the longest.
    pub fn padded(&self) -> usize {
        2 * self.pairs.len() * self.longest()
    }

    /// Positions computed when the sequences follow each other without padding.
    pub fn flat(&self) -> usize {
        let both = self
            .pairs
            .iter()
            .map(|p| 2 * p.prompt + p.chosen + p.rejected);
        both.sum()
    }

    /// Positions computed when, besides, each prompt stands once for both of its replies.
    pub fn shared(&self) -> usize {
        let once = self.pairs.iter().map(|p| p.prompt + p.chosen + p.rejected);
        once.sum()
    }
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    #[serde(flatten)]
    layout: BatchLayout,
}

/// Writes the artifact into an attempt's `out` folder.
///
/// # Errors
/// The file cannot be written.
pub fn write_batch_layout(out: &Path, layout: &BatchLayout) -> Result<(), RundirError> {
    let path = out.join(BATCH_LAYOUT_ARTIFACT);
    let file = File {
        format: FORMAT,
        layout: layout.clone(),
    };
    write_atomic(&path, to_json(&path, &file)?.as_bytes())?;
    Ok(())
}

/// The published artifact of a run; `None` if it has none, as runs of earlier versions.
///
/// # Errors
/// The file is there and cannot be read or understood.
pub fn read_batch_layout(dir: &RunDir) -> Result<Option<BatchLayout>, RundirError> {
    let path = dir.artifacts().join(BATCH_LAYOUT_ARTIFACT);
    Ok(read_versioned::<File>(&path, FORMAT)?.map(|file| file.layout))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::RunId;

    // Longest 5 + 7 = 12: padded 4·12; flat (5+2)+(5+7)+(3+3)+(3+4); shared 5+2+7 + 3+3+4.
    #[test]
    fn positions_are_counted_by_layout() {
        let layout = BatchLayout {
            pairs: vec![
                PairLengths {
                    prompt: 5,
                    chosen: 2,
                    rejected: 7,
                },
                PairLengths {
                    prompt: 3,
                    chosen: 3,
                    rejected: 4,
                },
            ],
        };
        assert_eq!(
            (layout.padded(), layout.flat(), layout.shared()),
            (48, 32, 24)
        );
        assert_eq!(BatchLayout::default().padded(), 0);
    }

    #[test]
    fn the_artifact_comes_back_and_may_be_absent() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path(), &RunId("a".repeat(64)));
        assert_eq!(read_batch_layout(&run).unwrap(), None);
        let layout = BatchLayout {
            pairs: vec![PairLengths {
                prompt: 1,
                chosen: 2,
                rejected: 3,
            }],
        };
        std::fs::create_dir_all(run.artifacts()).unwrap();
        write_batch_layout(&run.artifacts(), &layout).unwrap();
        assert_eq!(read_batch_layout(&run).unwrap(), Some(layout));
    }
}
