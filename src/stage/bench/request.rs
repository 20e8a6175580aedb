//! What a bench is asked for.

use crate::base::{Device, ModelFile};
use crate::config::spec::{Batching, LossMask, Precision};
use crate::stage::bench::report::BenchStep;
use crate::stage::device::DeviceAccess;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BenchKind {
    /// Steps of supervised fine-tuning.
    Train,
    /// Steps of DPO with references computed beforehand.
    Dpo,
    /// Sampling; a step is all samples of all prompts.
    Generate,
}

impl BenchKind {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dpo => "dpo",
            Self::Generate => "generate",
        }
    }
}

/// On which model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BenchModel {
    /// A folder in Hugging Face layout, relative to the project root.
    Folder(PathBuf),
    /// Random weights and random tokens.
    Shape(BenchShape),
}

/// What to measure, and how long.
#[derive(Clone, Debug)]
pub struct BenchRequest {
    /// The project; paths of data and models are relative to it.
    pub root: PathBuf,
    /// What.
    pub kind: BenchKind,
    /// On which model.
    pub model: BenchModel,
    /// Data files; empty: the project's own. Not with a shape, whose tokens are random.
    pub data: Vec<String>,
    /// Steps that count.
    pub steps: u64,
    /// Steps before them.
    pub warmup: u64,
    /// Longest document or pair, tokens; longer ones are cut.
    pub max_seq_len: usize,
    /// Positions of a training step, padding included.
    pub batch_tokens: usize,
    /// How documents become rows.
    pub batching: Batching,
    /// Which targets count.
    pub loss_mask: LossMask,
    /// Pairs of a DPO step.
    pub pairs: usize,
    /// Prompts to sample from.
    pub prompts: usize,
    /// Samples of each.
    pub samples: usize,
    /// Most tokens of a sample.
    pub max_new_tokens: usize,
    /// Number format.
    pub precision: Precision,
    /// Where to compute.
    pub device: Device,
    /// How that is reached.
    pub access: DeviceAccess,
    /// Seed of the order, of random weights and tokens, and of the samples.
    pub seed: u64,
    /// Where to write the work of every step, one JSON object a line.
    pub work_file: Option<PathBuf>,
}

/// A shape of model that can be measured without its weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BenchShape {
    /// Llama, V 32000, D 288, 6 layers, 6 heads, F 768, tied: 15 million parameters.
    Llama15M,
    /// That of the `config.json` in a folder.
    Folder(PathBuf),
}

impl FromStr for BenchShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "15m" => Ok(Self::Llama15M),
            folder if ModelFile::Config.within(Path::new(folder)).is_file() => {
                Ok(Self::Folder(folder.into()))
            }
            _ => Err(format!(
                "`{text}` is no shape; expected `15m` or a folder with a `config.json`"
            )),
        }
    }
}

impl BenchShape {
    /// As on the command line.
    pub fn name(&self) -> String {
        match self {
            Self::Llama15M => "15m".to_owned(),
            Self::Folder(folder) => folder.display().to_string(),
        }
    }
}

/// Told when the first step is about to begin (`None`) and after every step; `false` ends the
/// measurement. What it takes is not counted.
pub type Between<'a> = dyn FnMut(Option<&BenchStep>) -> bool + 'a;
