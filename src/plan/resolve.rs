//! From paths to content: every file that an identity needs, digested once a plan.

use crate::arch::DecoderConfig;
use crate::base::{Digest, digest_bytes};
use crate::config::{ExpectedInput, ExpectedInputs, ModelSizes};
use crate::plan::digests::{DigestCache, TextSize};
use crate::plan::error::PlanError;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// An input that is not there: the plan can be shown but not run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissingInput {
    /// `model weights`, `data file`, `chat template`.
    pub what: &'static str,
    /// As the sweep names it.
    pub path: String,
}

/// Looks inputs up below the project root.
pub(crate) struct Resolver<'a> {
    root: &'a Path,
    digests: &'a mut DigestCache,
    expected: Option<&'a ExpectedInputs>,
    files: HashMap<String, Digest>,
    models: HashMap<String, (Digest, Option<DecoderConfig>)>,
    sizes: HashMap<String, Option<TextSize>>,
    pub(crate) missing: BTreeSet<MissingInput>,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(root: &'a Path, digests: &'a mut DigestCache) -> Self {
        Self {
            root,
            digests,
            expected: None,
            files: HashMap::new(),
            models: HashMap::new(),
            sizes: HashMap::new(),
            missing: BTreeSet::new(),
        }
    }

    /// With what is known beforehand of inputs that are not there.
    pub(crate) fn expecting(self, expected: &'a ExpectedInputs) -> Self {
        Self {
            expected: Some(expected),
            ..self
        }
    }

    /// What is known beforehand of an input.
    pub(crate) fn expected(&self, path: &str) -> Option<&'a ExpectedInput> {
        self.expected?.get(path)
    }

    /// Stands in for the digest of what is missing, so that a plan ahead of its inputs has ids.
    fn stand_in(&mut self, what: &'static str, path: &str) -> Digest {
        self.missing.insert(MissingInput {
            what,
            path: path.to_owned(),
        });
        Digest(format!("missing:{}", digest_bytes(path.as_bytes())))
    }

    /// Digest of a file.
    pub(crate) fn file(&mut self, what: &'static str, path: &str) -> Result<Digest, PlanError> {
        if let Some(known) = self.files.get(path) {
            return Ok(known.clone());
        }
        let digest = match self.digests.file(&self.root.join(path))? {
            Some(digest) => digest,
            None => self.stand_in(what, path),
        };
        self.files.insert(path.to_owned(), digest.clone());
        Ok(digest)
    }

    /// Digest of a model folder, and what the model is: by `config.json`, else as expected.
    pub(crate) fn model(
        &mut self,
        path: &str,
    ) -> Result<(Digest, Option<DecoderConfig>), PlanError> {
        if let Some(known) = self.models.get(path) {
            return Ok(known.clone());
        }
        let folder = self.root.join(path);
        let digest = match self.digests.model_folder(&folder)? {
            Some(digest) => digest,
            None => self.stand_in("model weights", path),
        };
        let expected = || self.expected(path)?.shape.as_ref().and_then(of_sizes);
        let read = DecoderConfig::from_file(&folder).ok();
        let found = (digest, read.or_else(expected));
        self.models.insert(path.to_owned(), found.clone());
        Ok(found)
    }

    /// Rows and text of a data file; `None` if it is missing.
    pub(crate) fn text_size(&mut self, path: &str) -> Result<Option<TextSize>, PlanError> {
        if let Some(known) = self.sizes.get(path) {
            return Ok(*known);
        }
        let size = self.digests.text_size(&self.root.join(path))?;
        self.sizes.insert(path.to_owned(), size);
        Ok(size)
    }
}

/// A decoder of the Llama family of the sizes that a base file states.
fn of_sizes(sizes: &ModelSizes) -> Option<DecoderConfig> {
    let text = json!({
        "model_type": "llama", "vocab_size": sizes.vocab_size, "hidden_size": sizes.hidden_size,
        "num_hidden_layers": sizes.layers, "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads, "head_dim": sizes.head_size,
        "intermediate_size": sizes.intermediate_size, "tie_word_embeddings": sizes.tied,
    });
    DecoderConfig::from_json(Path::new("[inputs]"), &text.to_string()).ok()
}
