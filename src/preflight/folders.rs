//! Model folders: `config.json` against the headers of the weights, tokenizer, template.

use crate::arch::DecoderConfig;
use crate::base::{ModelFile, chain};
use crate::data::{DataError, TextFormat};
use crate::gpu::decoder::check_heads;
use crate::judge::{JudgeError, PairRm};
use crate::model::{ModelError, check_reward_weights, check_weights};
use crate::preflight::problem::Problem;
use crate::select::check_scorer;
use std::error::Error;
use std::path::Path;
use std::rc::Rc;

/// What a model is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Its template writes conversations that it reads: a policy, an embedding.
    Chat,
    /// It is asked in plain text and answers with a digit.
    Scorer,
    /// Its template writes conversations that its scalar head scores.
    Reward,
    /// A PairRM, which is asked in plain text.
    Pairrm,
}

/// A folder of the project and the file that replaces its template.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Folder {
    pub(super) path: String,
    pub(super) template: Option<String>,
    pub(super) role: Role,
}

impl Folder {
    pub(super) fn new(path: &str, role: Role) -> Self {
        Self {
            path: path.to_owned(),
            template: None,
            role,
        }
    }

    /// What is wrong with the folder below `root`, causes first; and how its model reads conversations,
    /// if it does. Nothing is said of what is not there.
    pub(super) fn look(
        &self,
        root: &Path,
        on_gpus: bool,
        found: &mut Vec<Problem>,
    ) -> Option<Rc<TextFormat>> {
        let dir = root.join(&self.path);
        let template = self.template.as_ref().map(|path| root.join(path));
        let there = dir.is_dir() && template.as_ref().is_none_or(|path| path.is_file());
        if !there {
            return None;
        }
        let mut add = |error: &dyn Error, help: &str| {
            let message = within(root, &chain(error));
            found.push(Problem::of_asker(message).help(help));
        };
        if self.role == Role::Pairrm {
            if let Err(error) = PairRm::check(&dir) {
                add(&error, of_judge(&error));
            }
            return None;
        }
        let config = DecoderConfig::from_file(&dir);
        let wrong = match (&config, self.role) {
            (Err(error), _) => {
                add(error, error.remedy());
                Vec::new()
            }
            (Ok(config), Role::Reward) => check_reward_weights(&dir, config),
            (Ok(config), _) => check_weights(&dir, config),
        };
        for error in &wrong {
            add(error, of_weights(error));
        }
        let taken = config.as_ref().map_or(Ok(()), check_heads);
        if let Some(error) = taken.err().filter(|_| on_gpus) {
            add(&error, "`--device cpu` computes every decoder");
        }
        if self.role == Role::Scorer {
            if let Err(error) = check_scorer(root, &self.path) {
                add(&error, TOKENIZER);
            }
            return None;
        }
        let format = open(&dir, template.as_deref(), root, found)?;
        let (tokens, places) = (
            format.vocab_size(),
            config.map_or(usize::MAX, |c| c.vocab_size),
        );
        if tokens > places {
            let message = format!(
                "the tokenizer of `{}` has {tokens} tokens, but the model has only {places}",
                self.path
            );
            let help = "take tokenizer and weights of one model";
            found.push(Problem::of_asker(message).help(help));
        }
        Some(Rc::new(format))
    }
}

/// Tokenizer and template.
fn open(
    dir: &Path,
    template: Option<&Path>,
    root: &Path,
    found: &mut Vec<Problem>,
) -> Option<TextFormat> {
    let error = match TextFormat::open(dir, template) {
        Ok(format) => return Some(format),
        Err(error) => error,
    };
    let message = within(root, &chain(&error));
    let of_template = matches!(error, DataError::Template { .. });
    let problem = if of_template && template.is_some() {
        Problem::of_value(0, "model.chat-template", message)
    } else {
        Problem::of_asker(message)
    };
    found.push(problem.help(of_text(&error, dir)));
    None
}

/// The message with paths as the sweep file names them.
fn within(root: &Path, message: &str) -> String {
    message.replace(&format!("{}/", root.display()), "")
}

const TOKENIZER: &str = "put the model's own `tokenizer.json` there; transformers writes it by \
                         `AutoTokenizer.from_pretrained(…).save_pretrained(…)`";

/// What helps against weights that do not fit.
fn of_weights(error: &ModelError) -> &'static str {
    match error {
        ModelError::Arch(error) => error.remedy(),
        ModelError::NoWeights { .. } => {
            "put the weights there as `model.safetensors`; transformers writes them by \
             `save_pretrained(…)`"
        }
        ModelError::MissingTensor { .. }
        | ModelError::ExtraTensors { .. }
        | ModelError::WrongShape { .. } => {
            "`config.json` and the weights are of different models: take both of one"
        }
        ModelError::WrongDtype { .. } => "convert the weights to 32-bit or 16-bit floats",
        ModelError::OtherHead { .. } => {
            "a head of its own is meant where `tie_word_embeddings` is false"
        }
        ModelError::NoScalarHead { .. } => {
            "take a model of transformers' `…ForSequenceClassification` with one label, or an UltraRM"
        }
        ModelError::File(_) => "see that the file is there and can be read",
        _ => "fetch the file again: it is not whole",
    }
}

/// What helps against a tokenizer or a template that cannot be used.
fn of_text(error: &DataError, dir: &Path) -> &'static str {
    let slow = || dir.join("tokenizer.model").is_file();
    match error {
        DataError::File(_) if slow() && !ModelFile::Tokenizer.within(dir).is_file() => {
            "there is `tokenizer.model` only; transformers writes `tokenizer.json` by \
             `AutoTokenizer.from_pretrained(…).save_pretrained(…)`"
        }
        DataError::NoTemplate { .. } | DataError::NoDefault { .. } | DataError::Template { .. } => {
            "name a template that goes with the tokenizer, a file, as `chat-template` in `[base.model]`"
        }
        _ => TOKENIZER,
    }
}

/// What helps against a folder that is no PairRM.
fn of_judge(error: &JudgeError) -> &'static str {
    match error {
        JudgeError::Model(error) => of_weights(error),
        _ => "take a folder in the layout of `llm-blender/PairRM-hf`, with its own tokenizer",
    }
}
