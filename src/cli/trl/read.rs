//! A configuration of TRL's trainers, or a recipe of alignment-handbook, as a recipe of ours.

use crate::cli::trl::reader::{Became, Reader, Told};
use crate::cli::trl::sets::Named;
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

/// Reads one file; `processes` is how many devices it ran on, which such files do not say.
///
/// # Errors
/// It is no YAML, or no table.
pub(crate) fn read_recipe(text: &str, processes: u64) -> Result<FromTrl, String> {
    let tree: Value = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    let Value::Object(keys) = tree else {
        return Err("it is no table of keys".to_owned());
    };
    let is_dpo = is_of_pairs(&keys);
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

/// Keys that only trainers on preference pairs have.
const OF_PAIRS: [&str; 8] = [
    "beta",
    "max_prompt_length",
    "rpo_alpha",
    "precompute_ref_log_probs",
    "sync_ref_model",
    "reference_free",
    "discopop_tau",
    "loss_weights",
];
/// Losses of `SFTConfig`, which has a key `loss_type`, too.
const OF_CHATS: [&str; 3] = ["nll", "chunked_nll", "dft"];

fn is_of_pairs(keys: &Map<String, Value>) -> bool {
    let loss = keys.get("loss_type").filter(|loss| !loss.is_null());
    let of_chats = |loss: &Value| loss.as_str().is_some_and(|loss| OF_CHATS.contains(&loss));
    loss.is_some_and(|loss| !of_chats(loss))
        || keys.keys().any(|key| OF_PAIRS.contains(&key.as_str()))
}

impl Reader<'_> {
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
        let (became, words) = match (packed, strategy) {
            (true, "bfd") => (
                Became::Differs,
                "batching; a document longer than a window goes on in another one here, and is cut off there",
            ),
            (true, "wrapped") => (
                Became::Differs,
                "batching; documents of a window do not see each other here",
            ),
            _ => (Became::Taken, "batching"),
        };
        self.tell("packing_strategy", became, words);
        recipe.insert("batching".to_owned(), json!(batching));
        let masked = self
            .switch("assistant_only_loss", "loss-mask")
            .unwrap_or(false);
        if self.keys.contains_key("loss_type") {
            let idle = self.keys["loss_type"] != "dft";
            let became = if idle { Became::Idle } else { Became::Differs };
            self.tell(
                "loss_type",
                became,
                "the loss is the negative log-likelihood",
            );
        }
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
