//! The files that reading a model folder opens: one list for those who read them and for the digest
//! of the folder, so that no file can change a result without changing the digest.
//!
//! `generation_config.json` is not among them: recipes state every sampling parameter.

use std::path::{Path, PathBuf};

/// A file of a model folder in Hugging Face layout that is opened when the folder is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelFile {
    /// The shape of the model.
    Config,
    /// All weights in one file.
    Weights,
    /// Which of several weight files holds which tensor.
    WeightIndex,
    /// The tokenizer.
    Tokenizer,
    /// Its special tokens, and perhaps the chat template.
    TokenizerConfig,
    /// Special tokens that `tokenizer_config.json` leaves out.
    SpecialTokens,
    /// The chat template, before that of `tokenizer_config.json`.
    ChatTemplate,
}

impl ModelFile {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Config,
        Self::Weights,
        Self::WeightIndex,
        Self::Tokenizer,
        Self::TokenizerConfig,
        Self::SpecialTokens,
        Self::ChatTemplate,
    ];

    /// Its name in the folder.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "config.json",
            Self::Weights => "model.safetensors",
            Self::WeightIndex => "model.safetensors.index.json",
            Self::Tokenizer => "tokenizer.json",
            Self::TokenizerConfig => "tokenizer_config.json",
            Self::SpecialTokens => "special_tokens_map.json",
            Self::ChatTemplate => "chat_template.jinja",
        }
    }

    /// Its path in `folder`.
    pub fn within(self, folder: &Path) -> PathBuf {
        folder.join(self.name())
    }
}

/// Whether the file `name` of a model folder can change a result.
pub fn is_model_file(name: &str) -> bool {
    ModelFile::ALL.iter().any(|file| file.name() == name) || is_weight_file(name)
}

/// Whether `name` is that of a file with weights, directly in its folder.
pub fn is_weight_file(name: &str) -> bool {
    let path = Path::new(name);
    path.file_name() == Some(path.as_os_str())
        && path
            .extension()
            .is_some_and(|ending| ending == "safetensors")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_lie_in_the_folder_itself() {
        assert!(is_weight_file("model-00001-of-00002.safetensors"));
        for other in [
            "pytorch_model.bin",
            "part/a.safetensors",
            "../a.safetensors",
        ] {
            assert!(!is_weight_file(other), "{other}");
        }
    }
}
