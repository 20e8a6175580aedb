//! The tokenizer files of a model folder as `AutoTokenizer` of transformers 5 reads them.
//!
//! `tokenizer.json` is not all of it. What else the folder says changes tokens, and so do rules of the library:
//!
//! - a token that `tokenizer_config.json` adds (`added_tokens_decoder`, `extra_special_tokens`, a special token by
//!   its name), or, in folders of older libraries, `special_tokens_map.json` and `added_tokens.json`, is found in
//!   a text before anything else;
//! - `LlamaTokenizer` has rules of its own for blanks, in place of those of `tokenizer.json`: a `▁` stands before
//!   the first text only, unless `legacy` is set (then before each text behind a special token, too).
//!
//! `add_bos_token` and `add_eos_token` change nothing beside a `tokenizer.json`. A token for which the model has no
//! place is left out: transformers adds it, and the model would fail where a text has it.

use super::error::DataError;
use super::tokenize::load;
use crate::base::ModelFile;
use crate::base::fs::read_to_string;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tokenizers::Tokenizer;

/// The order in which transformers adds special tokens by their names; others follow.
const FIRST: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// What the files of a folder say about its tokenizer.
#[derive(Debug)]
pub(super) struct TokenizerFile {
    /// `tokenizer.json` with what the other files change.
    pub(super) json: Value,
    /// The special tokens by the names that templates use, `bos_token` and so on.
    pub(super) named: BTreeMap<String, String>,
    /// `tokenizer_config.json`; null if there is none.
    pub(super) config: Value,
}

impl TokenizerFile {
    /// Reads the files of a model folder.
    ///
    /// # Errors
    /// `tokenizer.json` is missing, or a file is broken.
    pub(super) fn open(model_dir: &Path) -> Result<Self, DataError> {
        let path = ModelFile::Tokenizer.within(model_dir);
        let broken = |reason: String| DataError::Tokenizer {
            path: path.clone(),
            reason,
        };
        let text = read_to_string(&path)?;
        let mut json: Value = serde_json::from_str(&text).map_err(|e| broken(e.to_string()))?;
        let read = |file: ModelFile| read_json(&file.within(model_dir));
        let config = read(ModelFile::TokenizerConfig)?;
        let map = read(ModelFile::SpecialTokens)?;
        let own = config["added_tokens_decoder"].is_object();
        // A file with `added_tokens_decoder` is complete; before there was such, the map had the last word.
        let named = if own {
            special_tokens(&Value::Null, &config)
        } else {
            special_tokens(&config, &map)
        };
        let model = read(ModelFile::Config)?;
        if !json.is_object() {
            return Err(broken("it holds no JSON object".to_owned()));
        }
        if is_llama(&json, &config, &model) {
            llama_rules(&mut json, &config);
        }
        let older = if own {
            Value::Null
        } else {
            read(ModelFile::AddedTokens)?
        };
        let sources = if own {
            vec![&config]
        } else {
            vec![&config, &map]
        };
        let tokens = added(&sources, &older, &named);
        let places = model["vocab_size"].as_u64().unwrap_or(u64::MAX);
        add(&mut json, tokens, places);
        Ok(Self {
            json,
            named,
            config,
        })
    }

    /// The tokenizer of these files.
    ///
    /// # Errors
    /// The library refuses them.
    pub(super) fn load(&self, model_dir: &Path) -> Result<Tokenizer, DataError> {
        load(&self.json).map_err(|reason| DataError::Tokenizer {
            path: ModelFile::Tokenizer.within(model_dir),
            reason,
        })
    }
}

/// A JSON file, or null where there is none.
fn read_json(path: &Path) -> Result<Value, DataError> {
    if !path.exists() {
        return Ok(Value::Null);
    }
    let text = read_to_string(path)?;
    serde_json::from_str(&text).map_err(|e| DataError::Tokenizer {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

/// The text of a token: a string, or an object with `content`.
fn text_of(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token["content"].as_str())
}

/// `…_token` entries of both files; those of `strong` hide the others.
fn special_tokens(weak: &Value, strong: &Value) -> BTreeMap<String, String> {
    let entries = [weak, strong]
        .into_iter()
        .filter_map(Value::as_object)
        .flatten();
    let tokens = entries
        .filter(|(name, _)| name.ends_with("_token"))
        .filter_map(|(name, value)| Some((name.clone(), text_of(value)?.to_owned())));
    tokens.collect()
}

/// Whether transformers sets the tokenizer up as its `LlamaTokenizer` or `CodeLlamaTokenizer`, whatever rules for
/// blanks `tokenizer.json` has. It does not for byte-level files, and for Mistral and Qwen 2 it knows others.
fn is_llama(json: &Value, config: &Value, model: &Value) -> bool {
    let named = [config, model]
        .iter()
        .find_map(|of| of["tokenizer_class"].as_str());
    let class = named.map(|name| name.trim_end_matches("Fast"));
    let byte_level = ["pre_tokenizer", "decoder"]
        .iter()
        .any(|part| json[*part].to_string().contains("\"ByteLevel\""));
    let other = ["mistral", "qwen2"]
        .iter()
        .any(|kind| model["model_type"] == *kind);
    matches!(class, Some("LlamaTokenizer" | "CodeLlamaTokenizer"))
        && json["model"]["type"] == "BPE"
        && !byte_level
        && !other
}

/// Puts the rules for blanks of `LlamaTokenizer` in the place of those of the file.
fn llama_rules(json: &mut Value, config: &Value) {
    let prefix = config["add_prefix_space"].as_bool().unwrap_or(true);
    let code = config["tokenizer_class"]
        .as_str()
        .is_some_and(|name| name.starts_with("Code"));
    let legacy = !code && config["legacy"].as_bool().unwrap_or(false);
    let scheme = match (prefix, legacy) {
        (false, _) => "never",
        (true, true) => "always",
        (true, false) => "first",
    };
    json["normalizer"] = Value::Null;
    json["pre_tokenizer"] =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
    let strip = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0});
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    decoders.extend(prefix.then_some(strip));
    json["decoder"] = json!({"type": "Sequence", "decoders": decoders});
    json["model"]["fuse_unk"] = json!(true);
    json["model"]["byte_fallback"] = json!(true);
}

/// The tokens that the files beside `tokenizer.json` add, in the order in which they get their ids: those that
/// replace the flags of a token that is there, and those that are only added where the text is no token yet.
fn added(
    sources: &[&Value],
    older: &Value,
    named: &BTreeMap<String, String>,
) -> (Vec<Value>, Vec<Value>) {
    let mut listed: Vec<(u64, Value)> = Vec::new();
    for (id, token) in sources[0]["added_tokens_decoder"]
        .as_object()
        .into_iter()
        .flatten()
    {
        if let (Ok(id), Some(_)) = (id.parse(), text_of(token)) {
            listed.push((id, as_added(token)));
        }
    }
    let first = FIRST.iter().filter_map(|name| named.get(*name));
    let rest = named
        .iter()
        .filter(|(name, _)| !FIRST.contains(&name.as_str()));
    let texts = first.chain(rest.map(|(_, text)| text));
    let mut more: Vec<Value> = texts.map(|text| as_added(&json!(text))).collect();
    for source in sources {
        for key in ["additional_special_tokens", "extra_special_tokens"] {
            let tokens = match &source[key] {
                Value::Array(tokens) => tokens.iter().collect(),
                Value::Object(tokens) => tokens.values().collect(),
                _ => Vec::new(),
            };
            more.extend(
                tokens
                    .into_iter()
                    .filter(|t| text_of(t).is_some())
                    .map(as_added),
            );
        }
    }
    for (text, id) in older.as_object().into_iter().flatten() {
        let special = more.iter().any(|token| token["content"] == *text);
        let mut token = as_added(&json!(text));
        token["special"] = json!(special);
        token["normalized"] = json!(!special);
        listed.extend(id.as_u64().map(|id| (id, token)));
    }
    listed.sort_by_key(|(id, _)| *id);
    (listed.into_iter().map(|(_, token)| token).collect(), more)
}

/// A token as `tokenizer.json` lists it, without its id. A text alone is a special token.
fn as_added(token: &Value) -> Value {
    let flag = |name: &str, usual: bool| token[name].as_bool().unwrap_or(usual);
    let special = flag("special", token.is_string() || token["__type"].is_string());
    json!({
        "content": text_of(token),
        "single_word": flag("single_word", false),
        "lstrip": flag("lstrip", false),
        "rstrip": flag("rstrip", false),
        "normalized": flag("normalized", !special),
        "special": special,
    })
}

/// Adds tokens to `tokenizer.json`: a text of the vocabulary keeps its id, others get the next ones, below `places`.
fn add(json: &mut Value, (listed, more): (Vec<Value>, Vec<Value>), places: u64) {
    let Some(tokens) = json.get_mut("added_tokens").map(Value::take) else {
        return;
    };
    let Value::Array(mut tokens) = tokens else {
        json["added_tokens"] = tokens;
        return;
    };
    let vocabulary = &json["model"]["vocab"];
    let mut next = None;
    let strong = listed.into_iter().map(|token| (token, true));
    for (mut token, strong) in strong.chain(more.into_iter().map(|token| (token, false))) {
        let text = token["content"].as_str().unwrap_or_default().to_owned();
        let there = tokens.iter_mut().find(|other| other["content"] == *text);
        match there {
            _ if text.is_empty() => {}
            Some(other) if strong => {
                token["id"] = other["id"].clone();
                *other = token;
            }
            Some(_) => {}
            None => {
                let free = *next.get_or_insert_with(|| first_free(vocabulary, &tokens));
                let id = id_of(vocabulary, &text).unwrap_or(free);
                if id < places {
                    next = Some(free.max(id.saturating_add(1)));
                    token["id"] = json!(id);
                    tokens.push(token);
                }
            }
        }
    }
    json["added_tokens"] = Value::Array(tokens);
}

/// The id of a text in a vocabulary: a table, or a list of pieces with their scores.
fn id_of(vocabulary: &Value, text: &str) -> Option<u64> {
    match vocabulary {
        Value::Array(pieces) => {
            let at = pieces.iter().position(|piece| piece[0] == *text);
            at.map(|id| id as u64)
        }
        table => table[text].as_u64(),
    }
}

/// One more than the highest id.
fn first_free(vocabulary: &Value, added: &[Value]) -> u64 {
    let own = match vocabulary {
        Value::Array(pieces) => pieces.len() as u64,
        Value::Object(table) => {
            let highest = table.values().filter_map(Value::as_u64).max();
            highest.map_or(0, |id| id.saturating_add(1))
        }
        _ => 0,
    };
    let added = added.iter().filter_map(|token| token["id"].as_u64());
    added.fold(own, |free, id| free.max(id.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::write_atomic;
    use crate::data::PlainTokenizer;
    use serde_json::Map;

    const MODEL: &str = "models/stories260k";

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    fn shipped() -> Value {
        read_json(&root().join(MODEL).join("tokenizer.json")).unwrap()
    }

    /// A folder with the shipped `tokenizer.json`, parts of it changed, and other files.
    fn folder(change: &Value, files: &Value) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut json = shipped();
        for (key, value) in change.as_object().into_iter().flatten() {
            json[key] = value.clone();
        }
        let own = Map::from_iter([("tokenizer.json".to_owned(), json)]);
        for (name, value) in own.iter().chain(files.as_object().unwrap()) {
            write_atomic(&dir.path().join(name), value.to_string().as_bytes()).unwrap();
        }
        dir
    }

    fn ids(tokens: &[u32]) -> Value {
        json!(tokens)
    }

    #[test]
    fn tokens_are_those_of_transformers_whatever_the_files_say() {
        let golden = read_json(&root().join("tests/golden/tokenizer_files.json")).unwrap();
        let texts = golden["texts"].as_array().unwrap();
        let cases = golden["cases"].as_object().unwrap();
        assert!(cases.len() > 20 && texts.len() == 4);
        for (name, case) in cases {
            let dir = folder(&case["change"], &case["files"]);
            let plain = PlainTokenizer::open(dir.path()).unwrap();
            let loaded = TokenizerFile::open(dir.path()).unwrap().load(dir.path());
            let loaded = loaded.unwrap();
            for (i, text) in texts.iter().enumerate() {
                let text = text.as_str().unwrap();
                let bare = plain.encode_bare(text).unwrap();
                assert_eq!(ids(&bare), case["bare"][i], "{name}: {text:?}");
                let whole = plain.encode(text).unwrap();
                assert_eq!(ids(&whole), case["whole"][i], "{name}: {text:?} whole");
                let decoded = loaded.decode(&whole, true).unwrap();
                assert_eq!(
                    json!(decoded),
                    case["decoded"][i],
                    "{name}: {text:?} decoded"
                );
            }
        }
    }

    #[test]
    fn tokens_without_a_place_in_the_model_are_left_out() {
        let config = json!({"eos_token": "</s>", "pad_token": "<pad>", "additional_special_tokens": ["<a>"]});
        let files = |places: u64| json!({"config.json": {"vocab_size": places}, "tokenizer_config.json": config});
        let count = |places| {
            let dir = folder(&Value::Null, &files(places));
            let file = TokenizerFile::open(dir.path()).unwrap();
            file.json["added_tokens"].as_array().unwrap().len()
        };
        assert_eq!([512, 513, 514, 600].map(count), [3, 4, 5, 5]);
    }

    #[test]
    fn broken_files_are_refused_and_odd_ones_read() {
        let open = |files: Value| {
            let dir = folder(&Value::Null, &files);
            TokenizerFile::open(dir.path()).map(|file| file.load(dir.path()))
        };
        for broken in [json!([1]), json!("x"), json!(null)] {
            assert!(open(json!({"tokenizer.json": broken})).is_err());
        }
        for odd in [
            json!([1]),
            json!({"added_tokens_decoder": {"x": 1, "7": null, "9": {"content": 3}}}),
            json!({"additional_special_tokens": "x", "extra_special_tokens": [3, null, ""]}),
            json!({"add_bos_token": true, "bos_token": "<nowhere>", "tokenizer_class": 3}),
        ] {
            let files =
                json!({"tokenizer_config.json": odd, "added_tokens.json": [1], "config.json": [2]});
            open(files).unwrap().unwrap();
        }
        let mut json = shipped();
        json.as_object_mut().unwrap().remove("added_tokens");
        json["model"]["vocab"] = json!(3);
        let files = json!({"tokenizer.json": json, "tokenizer_config.json": {"pad_token": "p"}});
        assert!(open(files).unwrap().is_err(), "the library refuses it");
    }
}
