//! The keys of a file, and what became of each.

use serde_json::{Map, Value, json};

/// What became of a key.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Told {
    pub(crate) key: String,
    pub(crate) value: Value,
    pub(crate) became: Became,
    /// The field of ours, or why there is none.
    pub(crate) words: String,
}

/// In a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum Became {
    /// A field of the recipe holds it.
    Taken,
    /// It is done otherwise, as the words say.
    Differs,
    /// It changes no result, or is no matter of a recipe.
    Idle,
    /// Nobody knows it.
    Unknown,
}

/// Keys that change no result: where and how it runs, what it logs and uploads.
const IDLE: [&str; 36] = [
    "output_dir",
    "overwrite_output_dir",
    "logging_steps",
    "logging_strategy",
    "logging_first_step",
    "log_level",
    "report_to",
    "run_name",
    "push_to_hub",
    "hub_model_id",
    "hub_strategy",
    "hub_private_repo",
    "hub_model_revision",
    "save_strategy",
    "save_steps",
    "save_total_limit",
    "eval_strategy",
    "evaluation_strategy",
    "eval_steps",
    "do_eval",
    "do_train",
    "per_device_eval_batch_size",
    "gradient_checkpointing",
    "gradient_checkpointing_kwargs",
    "preprocessing_num_workers",
    "dataset_num_proc",
    "dataloader_num_workers",
    "attn_implementation",
    "use_flash_attention_2",
    "remove_unused_columns",
    "ddp_timeout",
    "use_cache",
    "precompute_ref_log_probs",
    "tf32",
    "model_revision",
    "trust_remote_code",
];

/// Reads keys, and tells what became of them.
pub(super) struct Reader<'a> {
    pub(super) keys: &'a Map<String, Value>,
    pub(super) told: Vec<Told>,
}

impl Reader<'_> {
    pub(super) fn tell(&mut self, key: &str, became: Became, words: impl Into<String>) {
        if let Some(value) = self.keys.get(key) {
            self.told.push(Told {
                key: key.to_owned(),
                value: value.clone(),
                became,
                words: words.into(),
            });
        }
    }

    pub(super) fn text(&mut self, key: &str, ours: &str) -> Option<String> {
        let text = self.keys.get(key)?.as_str()?.to_owned();
        self.tell(key, Became::Taken, ours);
        Some(text)
    }

    /// A number, which YAML 1.1 also writes as a text (`5e-7`).
    pub(super) fn number(&mut self, key: &str, ours: &str) -> Option<f64> {
        let value = self.keys.get(key)?;
        let number = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
        self.tell(key, Became::Taken, ours);
        Some(number)
    }

    pub(super) fn count(&mut self, key: &str, ours: &str) -> Option<u64> {
        let number = self.number(key, ours).filter(|number| *number >= 1.0)?;
        Some(number as u64)
    }

    pub(super) fn switch(&mut self, key: &str, ours: &str) -> Option<bool> {
        let value = self.keys.get(key)?.as_bool()?;
        self.tell(key, Became::Taken, ours);
        Some(value)
    }

    /// What no field of ours holds.
    pub(super) fn rest(&mut self) {
        self.tell(
            "chat_template",
            Became::Differs,
            "the tokenizer's own template is used; model.chat-template names a file",
        );
        self.tell(
            "dataset_configs",
            Became::Differs,
            "files are named here, not configurations of a set",
        );
        let told: Vec<String> = self.told.iter().map(|told| told.key.clone()).collect();
        for key in self.keys.keys().filter(|key| !told.contains(key)) {
            if self.keys[key].is_null() {
                self.tell(key, Became::Idle, "not set");
            } else if IDLE.contains(&key.as_str()) {
                self.tell(key, Became::Idle, "changes no result, or lions chooses it");
            } else {
                self.tell(key, Became::Unknown, "not known, and left out");
            }
        }
    }
}

/// `1` and not `1.0` where a number is whole.
pub(super) fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        json!(number as i64)
    } else {
        json!(number)
    }
}
