//! A configuration of TRL's trainers, or a recipe of alignment-handbook, as a recipe of ours.

use serde_json::{Map, Value, json};

/// A recipe of another program, read.
#[derive(Debug)]
pub(crate) struct FromTrl {
    /// `sft` or `dpo`.
    pub(crate) stage: &'static str,
    /// As the file names it: a folder, or a name on the Hub.
    pub(crate) model: Option<String>,
    /// The sets that it trains on.
    pub(crate) data: Vec<Named>,
    /// Those that it evaluates on.
    pub(crate) test: Vec<Named>,
    /// `[base.STAGE.recipe]` without its data.
    pub(crate) recipe: Map<String, Value>,
    /// What became of each key.
    pub(crate) told: Vec<Told>,
}

/// A set of rows by the names of the Hub.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    pub(crate) set: String,
    pub(crate) split: String,
    /// Files of one's own, if the set is none of the Hub's.
    pub(crate) file: Option<String>,
    /// Share of the rows.
    pub(crate) share: f64,
}

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

/// Reads one file; `processes` is how many devices it ran on, which such files do not say.
///
/// # Errors
/// It is no YAML, or no table.
pub(crate) fn read_recipe(text: &str, processes: u64) -> Result<FromTrl, String> {
    let tree: Value = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    let Value::Object(keys) = tree else {
        return Err("it is no table of keys".to_owned());
    };
    let of_pairs = [
        "beta",
        "loss_type",
        "max_prompt_length",
        "rpo_alpha",
        "precompute_ref_log_probs",
        "truncation_mode",
    ];
    let is_dpo = keys.keys().any(|key| of_pairs.contains(&key.as_str()));
    let stage = if is_dpo { "dpo" } else { "sft" };
    let mut reader = Reader {
        keys: &keys,
        told: Vec::new(),
    };
    let model = reader.text("model_name_or_path", "model.path");
    let (data, test) = reader.sets();
    let mut recipe = Map::new();
    reader.training(&mut recipe, is_dpo);
    reader.size(&mut recipe, is_dpo, processes);
    if is_dpo {
        reader.of_dpo(&mut recipe);
    } else {
        reader.of_sft(&mut recipe);
    }
    reader.rest();
    Ok(FromTrl {
        stage,
        model,
        data,
        test,
        recipe,
        told: reader.told,
    })
}

struct Reader<'a> {
    keys: &'a Map<String, Value>,
    told: Vec<Told>,
}

impl Reader<'_> {
    fn tell(&mut self, key: &str, became: Became, words: impl Into<String>) {
        if let Some(value) = self.keys.get(key) {
            self.told.push(Told {
                key: key.to_owned(),
                value: value.clone(),
                became,
                words: words.into(),
            });
        }
    }

    fn text(&mut self, key: &str, ours: &str) -> Option<String> {
        let text = self.keys.get(key)?.as_str()?.to_owned();
        self.tell(key, Became::Taken, ours);
        Some(text)
    }

    /// A number, which YAML 1.1 also writes as a text (`5e-7`).
    fn number(&mut self, key: &str, ours: &str) -> Option<f64> {
        let value = self.keys.get(key)?;
        let number = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
        self.tell(key, Became::Taken, ours);
        Some(number)
    }

    fn count(&mut self, key: &str, ours: &str) -> Option<u64> {
        let number = self.number(key, ours).filter(|number| *number >= 1.0)?;
        Some(number as u64)
    }

    fn switch(&mut self, key: &str, ours: &str) -> Option<bool> {
        let value = self.keys.get(key)?.as_bool()?;
        self.tell(key, Became::Taken, ours);
        Some(value)
    }

    /// How the stage learns; where a key is absent TRL's default stands.
    fn training(&mut self, recipe: &mut Map<String, Value>, is_dpo: bool) {
        let rate = self.number("learning_rate", "optimizer.learning-rate");
        let rate = rate.unwrap_or(if is_dpo { 1e-6 } else { 2e-5 });
        let mut optimizer = Map::new();
        optimizer.insert("learning-rate".to_owned(), json!(rate));
        for (theirs, ours, usual) in [
            ("adam_beta1", "beta1", 0.9),
            ("adam_beta2", "beta2", 0.999),
            ("adam_epsilon", "eps", 1e-8),
            ("weight_decay", "weight-decay", 0.0),
            ("max_grad_norm", "max-grad-norm", 1.0),
        ] {
            let value = self
                .number(theirs, &format!("optimizer.{ours}"))
                .unwrap_or(usual);
            optimizer.insert(ours.to_owned(), json!(value));
        }
        if let Some(name) = self.keys.get("optim").and_then(Value::as_str) {
            let words = "the optimiser here is AdamW with f32 moments";
            let same = ["adamw_torch", "adamw_torch_fused", "adamw_hf"].contains(&name);
            self.tell(
                "optim",
                if same { Became::Taken } else { Became::Differs },
                words,
            );
        }
        let steps = self
            .number("max_steps", "duration.steps")
            .filter(|steps| *steps > 0.0);
        let epochs = self
            .number("num_train_epochs", "duration.epochs")
            .unwrap_or(3.0);
        let duration = match steps {
            Some(steps) => json!({"steps": steps as u64}),
            None => json!({"epochs": whole(epochs)}),
        };
        recipe.insert("duration".to_owned(), duration);
        recipe.insert("optimizer".to_owned(), Value::Object(optimizer));
        let schedule = self.schedule(steps, rate);
        recipe.insert("schedule".to_owned(), schedule);
        let precision = self.precision();
        recipe.insert("precision".to_owned(), json!(precision));
        self.adapters(recipe);
        self.tell(
            "seed",
            Became::Idle,
            "`seeds` of the sweep: each configuration runs once with each",
        );
    }

    fn schedule(&mut self, steps: Option<f64>, rate: f64) -> Value {
        let named = self.text("lr_scheduler_type", "schedule.decay");
        let kwargs = self
            .keys
            .get("lr_scheduler_kwargs")
            .cloned()
            .unwrap_or_default();
        let least = kwargs["min_lr_rate"]
            .as_f64()
            .or(kwargs["min_lr_ratio"].as_f64());
        let least = least.or_else(|| Some(kwargs["lr_end"].as_f64()? / rate));
        self.tell("lr_scheduler_kwargs", Became::Taken, "schedule.min-ratio");
        let decay = match named.as_deref().unwrap_or("linear") {
            "cosine" | "cosine_with_min_lr" => "cosine",
            "linear" | "polynomial" => "linear",
            "constant" | "constant_with_warmup" => "constant",
            "warmup_stable_decay" => "warmup-stable-decay",
            other => {
                let words = format!("`{other}` is no schedule here: `cosine` stands instead");
                self.told.retain(|told| told.key != "lr_scheduler_type");
                self.tell("lr_scheduler_type", Became::Differs, words);
                "cosine"
            }
        };
        let ratio = self.number("warmup_ratio", "schedule.warmup-ratio");
        let warmup = self
            .number("warmup_steps", "schedule.warmup-ratio")
            .filter(|steps| *steps > 0.0);
        let ratio = ratio.or_else(|| Some((warmup? / steps?).min(1.0)));
        if let (Some(_), None, None) = (warmup, steps, ratio) {
            self.told.retain(|told| told.key != "warmup_steps");
            let words = "warm-up is a share of all steps here, whose number this file does not say: set \
                         schedule.warmup-ratio";
            self.tell("warmup_steps", Became::Differs, words);
        }
        let mut schedule = json!({
            "decay": decay, "warmup-ratio": ratio.unwrap_or(0.0), "min-ratio": least.unwrap_or(0.0),
        });
        if decay == "warmup-stable-decay" {
            let of_steps = Some(
                kwargs["num_decay_steps"].as_f64().unwrap_or(0.0) / steps.unwrap_or(f64::INFINITY),
            );
            let share = of_steps.filter(|share| *share > 0.0).unwrap_or(0.1);
            schedule["decay-ratio"] = json!(share.min(1.0));
        }
        schedule
    }

    fn precision(&mut self) -> &'static str {
        let bf16 = self.switch("bf16", "precision");
        let dtype = self
            .text("torch_dtype", "precision")
            .or_else(|| self.text("dtype", "precision"));
        if self.switch("fp16", "precision") == Some(true) {
            self.told.retain(|told| told.key != "fp16");
            self.tell(
                "fp16",
                Became::Differs,
                "there is no fp16 here: bf16 stands instead",
            );
            return "bf16";
        }
        let is_half = bf16 == Some(true) || dtype.as_deref() == Some("bfloat16");
        if is_half { "bf16" } else { "f32" }
    }

    fn adapters(&mut self, recipe: &mut Map<String, Value>) {
        if self.switch("use_peft", "lora") != Some(true) {
            for key in [
                "lora_r",
                "lora_alpha",
                "lora_dropout",
                "lora_target_modules",
                "load_in_4bit",
            ] {
                self.tell(key, Became::Idle, "`use_peft` is off");
            }
            return;
        }
        let rank = self.count("lora_r", "lora.rank").unwrap_or(16);
        let alpha = self.number("lora_alpha", "lora.alpha").unwrap_or(32.0);
        let all = [
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "gate_proj",
            "up_proj",
            "down_proj",
        ];
        let listed = self
            .keys
            .get("lora_target_modules")
            .and_then(Value::as_array);
        let named: Vec<&str> = listed
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let known: Vec<&str> = all
            .into_iter()
            .filter(|name| named.contains(name))
            .collect();
        let targets = if known.is_empty() {
            all.to_vec()
        } else {
            known
        };
        self.tell("lora_target_modules", Became::Taken, "lora.targets");
        self.tell(
            "lora_dropout",
            Became::Differs,
            "adapters have no dropout here",
        );
        self.tell(
            "load_in_4bit",
            Became::Differs,
            "weights are not quantised here",
        );
        recipe.insert(
            "lora".to_owned(),
            json!({"rank": rank, "alpha": whole(alpha), "targets": targets}),
        );
    }

    /// Rows of a step, on all devices together.
    fn size(&mut self, recipe: &mut Map<String, Value>, is_dpo: bool, processes: u64) {
        let ours = if is_dpo {
            "global-batch-size"
        } else {
            "batch.rows"
        };
        let words = format!("{ours}, times {processes} processes (`--processes`)");
        let device = self
            .count("per_device_train_batch_size", &words)
            .unwrap_or(8);
        let summed = self.count("gradient_accumulation_steps", ours).unwrap_or(1);
        let rows = device.saturating_mul(summed).saturating_mul(processes);
        let (key, value) = if is_dpo {
            ("global-batch-size", json!(rows))
        } else {
            ("batch", json!({"rows": rows}))
        };
        recipe.insert(key.to_owned(), value);
    }

    fn of_sft(&mut self, recipe: &mut Map<String, Value>) {
        let longest = self
            .count("max_seq_length", "max-seq-len")
            .or_else(|| self.count("max_length", "max-seq-len"));
        recipe.insert("max-seq-len".to_owned(), json!(longest.unwrap_or(1024)));
        let packed = self.switch("packing", "batching").unwrap_or(false);
        let strategy = self
            .keys
            .get("packing_strategy")
            .and_then(Value::as_str)
            .unwrap_or("bfd");
        let batching = match (packed, strategy) {
            (false, _) => "padded",
            (true, "wrapped") => "concat",
            (true, _) => "best-fit",
        };
        self.tell(
            "packing_strategy",
            Became::Taken,
            "batching; documents see themselves alone in every kind",
        );
        recipe.insert("batching".to_owned(), json!(batching));
        let masked = self
            .switch("assistant_only_loss", "loss-mask")
            .unwrap_or(false);
        let completion = self
            .switch("completion_only_loss", "loss-mask")
            .unwrap_or(false);
        let mask = if masked || completion {
            "assistant-only"
        } else {
            "all-tokens"
        };
        recipe.insert("loss-mask".to_owned(), json!(mask));
    }

    fn of_dpo(&mut self, recipe: &mut Map<String, Value>) {
        let longest = self
            .count("max_length", "limits.max-seq-len")
            .unwrap_or(1024);
        let prompt = self
            .count("max_prompt_length", "limits.max-prompt-len")
            .unwrap_or((longest / 2).max(1));
        let end = self.text("truncation_mode", "limits.truncation");
        let truncation = match end.as_deref() {
            Some("keep_start") => "keep-start",
            _ => "keep-end",
        };
        recipe.insert(
            "limits".to_owned(),
            json!({"max-seq-len": longest, "max-prompt-len": prompt.min(longest.saturating_sub(1).max(1)), "truncation": truncation}),
        );
        let beta = self.number("beta", "beta").unwrap_or(0.1);
        recipe.insert("beta".to_owned(), json!(beta));
        recipe.insert("reference".to_owned(), json!("init"));
        let (loss, weight) = self.loss();
        recipe.insert("loss".to_owned(), loss);
        let rpo = self.number("rpo_alpha", "sft-weight");
        if let Some(weight) = rpo.or(weight) {
            recipe.insert("sft-weight".to_owned(), json!(weight));
        }
        if self.switch("reference_free", "reference-free") == Some(true) {
            recipe.insert("reference-free".to_owned(), json!(true));
        }
        if self.switch("sync_ref_model", "reference-update") == Some(true) {
            let every = self
                .count("ref_model_sync_steps", "reference-update.every-steps")
                .unwrap_or(512);
            let mix = self
                .number("ref_model_mixup_alpha", "reference-update.mix")
                .unwrap_or(0.6);
            recipe.insert(
                "reference-update".to_owned(),
                json!({"every-steps": every, "mix": mix}),
            );
        }
    }

    /// The loss with its parameters, and the weight of a likelihood beside it.
    fn loss(&mut self) -> (Value, Option<f64>) {
        let given = self
            .keys
            .get("loss_type")
            .cloned()
            .unwrap_or(json!("sigmoid"));
        let names: Vec<String> = match &given {
            Value::Array(names) => names
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            other => vec![other.as_str().unwrap_or("sigmoid").to_owned()],
        };
        let weights = self
            .keys
            .get("loss_weights")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let sft = names.iter().position(|name| name == "sft");
        let weight = sft.map(|at| weights.get(at).and_then(Value::as_f64).unwrap_or(1.0));
        let first = names
            .iter()
            .find(|name| *name != "sft")
            .map_or("sigmoid", String::as_str);
        let ours = match first {
            "sigmoid_norm" => "sigmoid".to_owned(),
            other => other.replace('_', "-"),
        };
        let smoothing = self
            .number("label_smoothing", "loss.label-smoothing")
            .filter(|share| *share > 0.0);
        let loss = match (ours.as_str(), smoothing) {
            ("discopop", _) => {
                let tau = self
                    .number("discopop_tau", "loss.discopop.tau")
                    .unwrap_or(0.05);
                json!({"discopop": {"tau": tau}})
            }
            ("exo-pair", share) => json!({"exo-pair": {"label-smoothing": share.unwrap_or(1e-3)}}),
            (name @ ("sigmoid" | "robust" | "aot" | "aot-unpaired"), Some(share)) => {
                json!({name: {"label-smoothing": share}})
            }
            (name, _) => json!(name),
        };
        let others = names.iter().filter(|name| *name != "sft").count();
        if others > 1 {
            let words = format!("a sum of losses is none here: `{first}` alone stands");
            self.tell("loss_type", Became::Differs, words);
        } else {
            self.tell("loss_type", Became::Taken, "loss");
        }
        self.tell("loss_weights", Became::Taken, "sft-weight");
        (loss, weight)
    }

    /// The sets to train and to evaluate on, in each form that such files name them in.
    fn sets(&mut self) -> (Vec<Named>, Vec<Named>) {
        let (mut train, mut test) = (Vec::new(), Vec::new());
        let named = |set: &str, split: &str, share: f64| Named {
            set: set.to_owned(),
            split: split.to_owned(),
            file: None,
            share,
        };
        if let Some(mixer) = self.keys.get("dataset_mixer").and_then(Value::as_object) {
            let splits = self.keys.get("dataset_splits").and_then(Value::as_array);
            let splits: Vec<&str> = splits
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            for (set, share) in mixer {
                let share = share.as_f64().unwrap_or(1.0);
                for split in if splits.is_empty() {
                    vec!["train"]
                } else {
                    splits.clone()
                } {
                    if split.contains("test") || split.contains("eval") {
                        test.push(named(set, split, 1.0));
                    } else {
                        train.push(named(set, split, share));
                    }
                }
            }
            self.tell("dataset_mixer", Became::Taken, "data");
            self.tell(
                "dataset_splits",
                Became::Taken,
                "data, and the held-out sets",
            );
        }
        let mixture = self
            .keys
            .get("dataset_mixture")
            .and_then(|mixture| mixture["datasets"].as_array());
        let listed = self.keys.get("datasets").and_then(Value::as_array);
        for set in mixture.or(listed).into_iter().flatten() {
            let id = set["id"]
                .as_str()
                .or(set["path"].as_str())
                .unwrap_or_default();
            let mut one = named(
                id,
                set["split"].as_str().unwrap_or("train"),
                set["weight"].as_f64().unwrap_or(1.0),
            );
            one.file = set["data_files"].as_str().map(str::to_owned);
            train.push(one);
        }
        self.tell(
            "dataset_mixture",
            Became::Taken,
            "data; columns are those that lions knows",
        );
        self.tell("datasets", Became::Taken, "data");
        if let Some(set) = self.keys.get("dataset_name").and_then(Value::as_str) {
            let split =
                |key: &str, usual| self.keys.get(key).and_then(Value::as_str).unwrap_or(usual);
            train.push(named(set, split("dataset_train_split", "train"), 1.0));
            test.push(named(set, split("dataset_test_split", "test"), 1.0));
            self.tell("dataset_name", Became::Taken, "data");
            self.tell("dataset_train_split", Became::Taken, "data");
            self.tell("dataset_test_split", Became::Taken, "the held-out set");
        }
        (train, test)
    }

    /// What no field of ours holds.
    fn rest(&mut self) {
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
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        json!(number as i64)
    } else {
        json!(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the form of alignment-handbook's recipe for Zephyr's DPO.
    const DPO: &str = "model_name_or_path: org/some-7b-sft-full\ntorch_dtype: null\n\
        dataset_mixer:\n  org/feedback_binarized: 1.0\ndataset_splits:\n- train_prefs\n- test_prefs\n\
        bf16: true\nbeta: 0.01\ngradient_accumulation_steps: 2\nlearning_rate: 5.0e-7\n\
        lr_scheduler_type: cosine\nmax_length: 1024\nmax_prompt_length: 512\nnum_train_epochs: 1\noptim: adamw_torch\n\
        output_dir: data/out\nper_device_train_batch_size: 8\nseed: 42\nwarmup_ratio: 0.1\nmystery: 3\n";

    #[test]
    fn a_recipe_for_pairs_keeps_every_number_and_tells_of_every_key() {
        let read = read_recipe(DPO, 8).unwrap();
        assert_eq!(
            (read.stage, read.model.as_deref()),
            ("dpo", Some("org/some-7b-sft-full"))
        );
        let recipe = Value::Object(read.recipe);
        assert_eq!(recipe["beta"], json!(0.01));
        assert_eq!(recipe["global-batch-size"], json!(128));
        assert_eq!(recipe["optimizer"]["learning-rate"], json!(5e-7));
        assert_eq!(
            recipe["schedule"],
            json!({"decay": "cosine", "warmup-ratio": 0.1, "min-ratio": 0.0})
        );
        assert_eq!(recipe["limits"]["max-prompt-len"], json!(512));
        assert_eq!(recipe["precision"], "bf16");
        assert_eq!(read.data[0].split, "train_prefs");
        assert_eq!(read.test[0].split, "test_prefs");
        let became = |key: &str| {
            read.told
                .iter()
                .find(|told| told.key == key)
                .unwrap()
                .became
        };
        assert_eq!(became("mystery"), Became::Unknown);
        assert_eq!(became("output_dir"), Became::Idle);
        let keys = DPO
            .lines()
            .filter(|line| !line.starts_with([' ', '-']))
            .count();
        let mut told: Vec<&str> = read.told.iter().map(|told| told.key.as_str()).collect();
        told.sort_unstable();
        told.dedup();
        assert_eq!(
            (read.told.len(), told.len()),
            (keys, keys),
            "each key once: {told:?}"
        );
    }

    #[test]
    fn what_is_no_recipe_is_refused() {
        assert!(read_recipe("- a\n- b\n", 1).is_err());
        assert!(read_recipe("a: [1\n", 1).is_err());
    }
}
