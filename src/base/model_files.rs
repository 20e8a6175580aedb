//! The files that reading a model folder opens: one list for those who read them and for the digest
//! of the folder, so that no file can change a result without changing the digest.
//!
//! `generation_config.json` is not among them: recipes state every sampling parameter. Of it counts only which
//! tokens end a text ([`end_tokens`]); the digest has it where it says something else than `config.json`.

use crate::base::PathError;
use crate::base::fs::{is_gone, read_to_string};
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};

/// Name of the file with a model's own sampling parameters.
const GENERATION_CONFIG: &str = "generation_config.json";

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
    /// Tokens that folders of older libraries add.
    AddedTokens,
    /// The chat template, before that of `tokenizer_config.json`.
    ChatTemplate,
}

impl ModelFile {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Config,
        Self::Weights,
        Self::WeightIndex,
        Self::Tokenizer,
        Self::TokenizerConfig,
        Self::SpecialTokens,
        Self::AddedTokens,
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
            Self::AddedTokens => "added_tokens.json",
            Self::ChatTemplate => "chat_template.jinja",
        }
    }

    /// Its path in `folder`.
    pub fn within(self, folder: &Path) -> PathBuf {
        folder.join(self.name())
    }
}

/// Ids of the tokens that end what a model writes, as transformers' `generate` knows them: `eos_token_id` of
/// `generation_config.json`, or where there is no such file that of `config.json`; one or several.
///
/// # Errors
/// A file is there but cannot be read, or holds no JSON.
pub fn end_tokens(folder: &Path) -> Result<Vec<u32>, PathError> {
    match eos_of(&folder.join(GENERATION_CONFIG))? {
        Some(ids) => Ok(ids),
        None => Ok(eos_of(&ModelFile::Config.within(folder))?.unwrap_or_default()),
    }
}

/// The name of `generation_config.json` if it can change a result: if it names other end tokens than `config.json`.
pub fn other_ends(folder: &Path) -> Option<&'static str> {
    let own = eos_of(&ModelFile::Config.within(folder)).ok().flatten();
    let ends = end_tokens(folder).ok();
    (ends != Some(own.unwrap_or_default())).then_some(GENERATION_CONFIG)
}

/// A line for the digest of a folder where other files than `tokenizer.json` have a say in its tokens: by other rules
/// than in earlier versions, whose results are not to be taken for those of these. Raise its number with the rules.
pub fn token_rules(folder: &Path) -> Option<&'static str> {
    let json = |file: ModelFile| -> Value {
        let text = read_to_string(&file.within(folder)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    };
    let beside = [ModelFile::SpecialTokens, ModelFile::AddedTokens];
    let (tokenizer, model) = (json(ModelFile::TokenizerConfig), json(ModelFile::Config));
    let class = [&tokenizer, &model].map(|of| of["tokenizer_class"].as_str().unwrap_or_default());
    let adds = [
        "added_tokens_decoder",
        "additional_special_tokens",
        "extra_special_tokens",
    ];
    let counts = beside.iter().any(|file| file.within(folder).exists())
        || class.iter().any(|name| name.contains("Llama"))
        || adds.iter().any(|key| !tokenizer[*key].is_null());
    counts.then_some("tokens as transformers 5 has them, 1")
}

/// `eos_token_id` of a JSON file: a number or a list; none where there is no file.
fn eos_of(path: &Path) -> Result<Option<Vec<u32>>, PathError> {
    let text = match read_to_string(path) {
        Ok(text) => text,
        Err(error) if is_gone(&error.source) => return Ok(None),
        Err(error) => return Err(error),
    };
    let json: Value = serde_json::from_str(&text)
        .map_err(|e| PathError::new("read", path, io::Error::new(io::ErrorKind::InvalidData, e)))?;
    let ids = match &json["eos_token_id"] {
        Value::Array(ids) => ids.iter().collect(),
        id => vec![id],
    };
    let ids = ids.into_iter().filter_map(Value::as_u64);
    Ok(Some(ids.filter_map(|id| u32::try_from(id).ok()).collect()))
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
    use crate::base::fs::write_atomic;

    #[test]
    fn end_tokens_are_those_of_the_generation_config_if_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| write_atomic(&dir.path().join(name), text.as_bytes()).unwrap();
        let ends = || end_tokens(dir.path()).unwrap();
        assert!(ends().is_empty());
        write("config.json", r#"{"eos_token_id": [5, 2]}"#);
        assert_eq!((ends(), other_ends(dir.path())), (vec![5, 2], None));
        write(
            GENERATION_CONFIG,
            r#"{"eos_token_id": [5, 2], "top_p": 0.9}"#,
        );
        assert_eq!((ends(), other_ends(dir.path())), (vec![5, 2], None));
        write(GENERATION_CONFIG, r#"{"eos_token_id": 7}"#);
        assert_eq!(
            (ends(), other_ends(dir.path())),
            (vec![7], Some(GENERATION_CONFIG))
        );
        write(GENERATION_CONFIG, "{}");
        assert!(ends().is_empty());
        write(GENERATION_CONFIG, "{");
        assert!(
            end_tokens(dir.path())
                .unwrap_err()
                .to_string()
                .contains("generation_config")
        );
        assert_eq!(other_ends(dir.path()), Some(GENERATION_CONFIG));
    }

    #[test]
    fn rules_of_tokens_count_where_other_files_have_a_say() {
        let dir = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| write_atomic(&dir.path().join(name), text.as_bytes()).unwrap();
        write(
            "tokenizer_config.json",
            r#"{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}"#,
        );
        assert_eq!(token_rules(dir.path()), None);
        write("config.json", r#"{"tokenizer_class": "LlamaTokenizer"}"#);
        assert!(token_rules(dir.path()).is_some());
        write("config.json", "{}");
        write("tokenizer_config.json", r#"{"added_tokens_decoder": {}}"#);
        assert!(token_rules(dir.path()).is_some());
        write("tokenizer_config.json", "{");
        assert_eq!(token_rules(dir.path()), None);
        write("added_tokens.json", "{}");
        assert!(token_rules(dir.path()).is_some());
    }

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
