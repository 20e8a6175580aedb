//! Why a stage could not be carried out, and of which class that is.

use crate::base::PathError;
use crate::config::ConfigError;
use crate::data::DataError;
use crate::eval::StoryError;
use crate::eval::judged::JudgedError;
use crate::eval::task::TaskError;
use crate::generate::GenerateError;
use crate::gpu::GpuError;
use crate::judge::JudgeError;
use crate::model::ModelError;
use crate::plan::RunId;
use crate::rundir::{FailureClass, RundirError};
use crate::select::SelectError;
use crate::train::TrainError;
use std::error::Error;
use std::io;
use std::path::PathBuf;

/// A stage that did not finish.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// It was asked to stop; its state, if it keeps one, is saved.
    #[error("stopped on request")]
    Interrupted,
    /// What an earlier run published is not there any more as it was.
    #[error("input `{role}`, made by run {run}, is damaged; `lions run` makes it again")]
    DamagedInput {
        /// Its role.
        role: &'static str,
        /// The run that made it.
        run: RunId,
        /// Which file, and how.
        source: RundirError,
    },
    /// A data file, template or model folder is not the one that the run was planned with.
    #[error(
        "`{}` has changed since the run was planned (digest {found}, planned {planned}); plan again",
        path
    )]
    DataChanged {
        /// As in the recipe.
        path: String,
        /// First digits of its digest now.
        found: String,
        /// First digits of its digest then.
        planned: String,
    },
    /// The stage has no input of that role.
    #[error("the stage has no input `{0}`")]
    NoInput(&'static str),
    /// Replies cannot be judged.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// A chat benchmark cannot be scored.
    #[error(transparent)]
    Judged(#[from] JudgedError),
    /// A benchmark's recipe names no judge, or two.
    #[error(
        "`{set}` has no judge: `judge` names an endpoint (`base-url`, `model`) or a folder (`model-path`, `precision`)"
    )]
    NoJudge {
        /// The set.
        set: String,
    },
    /// The judge was not to be asked.
    #[error(
        "{requests} requests to the judge are written to `*.requests.jsonl` in `{}`, and none is sent: `dry` is set in \
         the runtime of the judge",
        folder.display()
    )]
    Dry {
        /// How many.
        requests: usize,
        /// Where their files are.
        folder: PathBuf,
    },
    /// Rows cannot be chosen.
    #[error(transparent)]
    Select(SelectError),
    /// A prompt that cannot be judged.
    #[error("prompt `{id}`: {why}")]
    Prompt {
        /// The prompt.
        id: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A row of an evaluation that has no cluster.
    #[error("row `{id}` of `{set}`: {why}")]
    Cluster {
        /// The set.
        set: String,
        /// The row.
        id: String,
        /// What is wrong.
        why: String,
    },
    /// The key of an endpoint is not there.
    #[error("the environment variable `{variable}`, which holds the endpoint's key, is not set")]
    NoSecret {
        /// Its name.
        variable: String,
    },
    /// An offline reply is to be mixed in, and there is none.
    #[error(
        "prompt `{id}` has no offline pair; `p-ori-pair` and `p-ori-chosen` need prompts from preference data"
    )]
    NoOriginal {
        /// The prompt.
        id: String,
    },
    /// An input is not there.
    #[error("input `{role}` is missing: `{}` does not exist", path.display())]
    MissingInput {
        /// Its role.
        role: &'static str,
        /// Where it should be.
        path: PathBuf,
    },
    /// Tokenizer and model do not belong together.
    #[error(
        "the tokenizer has {tokenizer} tokens, but the model of `{}` only {model}",
        path.display()
    )]
    Vocabulary {
        /// Tokens of the tokenizer.
        tokenizer: usize,
        /// Rows of the embedding.
        model: usize,
        /// The model folder.
        path: PathBuf,
    },
    /// More tokens are asked for than the model holds.
    #[error("the model holds {holds} tokens, fewer than the {asked} that are asked for")]
    Positions {
        /// Asked for.
        asked: usize,
        /// What it holds.
        holds: usize,
    },
    /// A model that cannot be asked in conversations.
    #[error("the model cannot be talked to: {0}")]
    NoChat(String),
    /// A set has nothing to measure.
    #[error("set `{set}`: {why}")]
    EmptySet {
        /// Its name.
        set: String,
        /// What is missing.
        why: String,
    },
    /// No document has a target that the model would see.
    #[error(
        "none of {documents} documents has a target within `max-seq-len` {max_seq_len}: nothing would \
         be trained; raise `max-seq-len`, or look at rows and mask with `lions inspect`"
    )]
    NoTargets {
        /// Documents of the data.
        documents: usize,
        /// Of the recipe, in tokens.
        max_seq_len: usize,
    },
    /// Every step has learning rate 0.
    #[error(
        "the learning rate is 0 in every step of {steps}: a warm-up begins at 0 and takes all of them; \
         set `schedule.warmup-ratio` to 0, or train for more steps"
    )]
    NoLearningRate {
        /// Steps of the run.
        steps: u64,
    },
    /// A measured value is NaN or infinite.
    #[error("`{key}` is {value}")]
    NotFinite {
        /// The metric.
        key: String,
        /// What it was.
        value: f64,
    },
    /// The device cannot be used, or refused. (Not transparent: who asks for the class looks for the source.)
    #[error("{0}")]
    Device(#[from] GpuError),
    /// A row is no story prompt.
    #[error(transparent)]
    Story(#[from] StoryError),
    /// An evaluation task cannot be measured.
    #[error(transparent)]
    Task(TaskError),
    /// The recipe of a bench is no recipe.
    #[error(transparent)]
    Recipe(#[from] ConfigError),
    /// A file could not be read or written.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The run's folder could not be read or written.
    #[error(transparent)]
    Rundir(#[from] RundirError),
    /// The data could not be prepared.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model could not be read or written.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Training failed.
    #[error(transparent)]
    Train(TrainError),
    /// Sampling failed.
    #[error(transparent)]
    Generate(GenerateError),
    /// A record could not be written as JSON.
    #[error("cannot write a record as JSON")]
    Json(#[from] serde_json::Error),
    /// Our bug.
    #[error("the stage panicked: {0}")]
    Panic(String),
}

impl From<SelectError> for StageError {
    fn from(error: SelectError) -> Self {
        match error {
            SelectError::Train(error) => error.into(),
            other => Self::Select(other),
        }
    }
}

impl From<TaskError> for StageError {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Score(error) => error.into(),
            TaskError::Generate(error) => error.into(),
            TaskError::Data(error) => error.into(),
            other => Self::Task(other),
        }
    }
}

impl From<TrainError> for StageError {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Stopped => Self::Interrupted,
            other => Self::Train(other),
        }
    }
}

impl From<GenerateError> for StageError {
    fn from(error: GenerateError) -> Self {
        match error {
            GenerateError::Stopped => Self::Interrupted,
            other => Self::Generate(other),
        }
    }
}

impl StageError {
    /// What kind of failure this is, for retry rules.
    pub fn class(&self) -> FailureClass {
        if chain(self).any(is_disk_full) {
            return FailureClass::DiskFull;
        }
        if chain(self).any(is_out_of_memory) {
            return FailureClass::OutOfMemory;
        }
        if chain(self).any(is_denied) {
            return FailureClass::Permission;
        }
        if let Some(error) = device_error(self) {
            return class_of_device(error);
        }
        // What an observer of a training found has the class of what it found.
        if let Self::Train(TrainError::Observer(inner)) = self
            && let Some(own) = inner.downcast_ref::<Self>()
        {
            return own.class();
        }
        match self {
            Self::NotFinite { .. }
            | Self::Train(
                TrainError::LossNotFinite { .. }
                | TrainError::GradientNotFinite { .. }
                | TrainError::MonitorNotFinite { .. },
            )
            | Self::Generate(GenerateError::NotFinite { .. }) => FailureClass::NotFinite,
            Self::DamagedInput { .. } => FailureClass::Damaged,
            Self::Interrupted
            | Self::Panic(_)
            | Self::Json(_)
            | Self::Rundir(_)
            | Self::Train(
                TrainError::NoGradient { .. }
                | TrainError::State { .. }
                | TrainError::Tensor(_)
                | TrainError::Model(ModelError::Tensor(_)),
            )
            | Self::Generate(GenerateError::Tensor(_))
            | Self::Model(ModelError::Tensor(_)) => FailureClass::Internal,
            _ => FailureClass::User,
        }
    }

    /// The error and all its causes in one line.
    pub fn chain_text(&self) -> String {
        let mut text = String::new();
        for error in chain(self) {
            // candle appends a backtrace to its text where one is switched on.
            let message = error.to_string();
            let line = message.lines().next().unwrap_or_default();
            if text.ends_with(line) {
                continue; // a transparent error says what its cause says
            }
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(line);
        }
        text
    }
}

/// An error and its causes, outermost first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let this = next?;
        next = this.source();
        Some(this)
    })
}

fn is_disk_full(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| {
        matches!(
            e.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    })
}

fn is_denied(error: &(dyn Error + 'static)) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(crate::base::fs::is_denied)
}

/// What a device said, wherever in the chain it stands.
fn device_error(error: &StageError) -> Option<&GpuError> {
    chain(error).find_map(|error| error.downcast_ref::<GpuError>())
}

fn class_of_device(error: &GpuError) -> FailureClass {
    match error {
        GpuError::OutOfMemory { .. } | GpuError::NoHostMemory { .. } | GpuError::Unpinned(_) => {
            FailureClass::OutOfMemory
        }
        // Nothing on the card can be used until this process has ended, and another may.
        GpuError::Lost(_) => FailureClass::DeviceFault,
        // A kernel or a request that cannot be is ours; so is another device's end that nobody has told of.
        GpuError::Launch { .. }
        | GpuError::Request(_)
        | GpuError::Wrong { .. }
        | GpuError::Alone => FailureClass::Internal,
        _ => FailureClass::User,
    }
}

/// Libraries say it in words only.
fn is_out_of_memory(error: &(dyn Error + 'static)) -> bool {
    let text = error.to_string().to_lowercase();
    text.contains("out of memory") || text.contains("out_of_memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_classed_by_what_a_retry_could_help() {
        let full = PathError::new("write", "x", io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(
            StageError::Train(full.into()).class(),
            FailureClass::DiskFull
        );
        let loss = TrainError::LossNotFinite {
            step: 3,
            value: f64::NAN,
            examples: vec!["a".to_owned(), "b".to_owned()],
        };
        let loss = StageError::from(loss);
        assert_eq!(loss.class(), FailureClass::NotFinite);
        assert_eq!(
            loss.chain_text(),
            "the loss is NaN at step 3; examples of the batch: `a`, `b`"
        );
        let memory = candle_core::Error::Msg("CUDA_ERROR_OUT_OF_MEMORY".to_owned());
        assert_eq!(
            StageError::Train(memory.into()).class(),
            FailureClass::OutOfMemory
        );
        assert_eq!(
            StageError::Panic("index".to_owned()).class(),
            FailureClass::Internal
        );
        let missing = PathError::new("open", "x", io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(StageError::from(missing).class(), FailureClass::User);
        let damaged = RundirError::Damaged {
            path: "x".into(),
            why: "missing".to_owned(),
        };
        let damaged = StageError::DamagedInput {
            role: "model",
            run: RunId("1".to_owned()),
            source: damaged,
        };
        let observed = TrainError::Observer(Box::new(damaged));
        assert_eq!(StageError::Train(observed).class(), FailureClass::Damaged);
        for kind in [
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::ReadOnlyFilesystem,
        ] {
            let denied = PathError::new("write", "x", kind.into());
            let denied = StageError::Train(denied.into());
            assert_eq!(denied.class(), FailureClass::Permission, "{kind}");
        }
    }

    #[test]
    fn what_a_device_says_has_its_class_wherever_it_stands() {
        let full = || GpuError::OutOfMemory { wanted: 9, free: 1 };
        let lost = || GpuError::Lost("unspecified launch failure".to_owned());
        let trained = |error: GpuError| TrainError::from(error).into();
        let observed = |error: GpuError| TrainError::Observer(Box::new(error)).into();
        for (error, class) in [
            (full().into(), FailureClass::OutOfMemory),
            (observed(full()), FailureClass::OutOfMemory),
            (trained(full()), FailureClass::OutOfMemory),
            (GpuError::NoDriver.into(), FailureClass::User),
            (
                GpuError::Request("x".to_owned()).into(),
                FailureClass::Internal,
            ),
            (observed(lost()), FailureClass::DeviceFault),
        ] {
            let error: StageError = error;
            assert_eq!(error.class(), class, "{error}");
        }
    }

    #[test]
    fn a_chain_names_each_cause_once() {
        let missing = PathError::new("open", "x", io::Error::from(io::ErrorKind::NotFound));
        let text = StageError::from(TrainError::from(missing)).chain_text();
        assert_eq!(text, "cannot open `x`: entity not found");
    }
}
