//! A run's recipe as the configuration of TRL's trainer that would do the same, and what TRL cannot say.

use crate::plan::{StageFile, StageRecipe};
use serde_json::{Map, Value, json};

/// The configuration of a TRL trainer.
#[derive(Debug)]
pub(crate) struct TrlRecipe {
    /// The trainer's word on TRL's command line: `sft`, `dpo`; a script's where it has none.
    pub(crate) trainer: &'static str,
    /// Its keys in an order to read.
    pub(crate) keys: Vec<(&'static str, Value)>,
    /// What it does not say, or says otherwise.
    pub(crate) lost: Vec<Lost>,
}

/// A field of ours that TRL does not express, or not quite.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Lost {
    /// Its path in the recipe.
    pub(crate) field: String,
    /// Its value.
    pub(crate) value: Value,
    /// What TRL does instead.
    pub(crate) why: String,
}

impl TrlRecipe {
    fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.keys.push((key, value.into()));
    }

    fn lose(&mut self, field: &str, value: &Value, why: impl Into<String>) {
        self.lost.push(Lost {
            field: field.to_owned(),
            value: value.clone(),
            why: why.into(),
        });
    }
}

/// What a run's stage does not say.
#[derive(Debug)]
pub(crate) struct Around<'a> {
    /// The folder of the model that it begins from.
    pub(crate) model: &'a str,
    /// The file with the rows it was trained on, where that was written.
    pub(crate) rows: Option<&'a str>,
    /// How many steps it made, if it has ended.
    pub(crate) steps: Option<u64>,
}

/// What TRL's `sft` or `dpo` would be told to do what this run did; nothing of runs that train nothing.
pub(crate) fn trl_recipe(stage: &StageFile, around: &Around<'_>) -> Option<TrlRecipe> {
    let (trainer, recipe) = match &stage.task {
        StageRecipe::Sft(recipe) => ("sft", serde_json::to_value(recipe)),
        StageRecipe::Dpo(recipe) => ("dpo", serde_json::to_value(recipe)),
        _ => return None,
    };
    let recipe = recipe.ok()?;
    let mut trl = TrlRecipe {
        trainer,
        keys: vec![
            ("model_name_or_path", json!(around.model)),
            ("dtype", json!("float32")),
        ],
        lost: Vec::new(),
    };
    let all = recipe.as_object()?;
    if let Some(rows) = around.rows {
        let set = json!({"path": "json", "data_files": rows, "split": "train"});
        trl.set("datasets", vec![set]);
    }
    for (field, value) in all {
        // They say which rows there are, and the file has these.
        if around.rows.is_some() && OF_ROWS.contains(&field.as_str()) {
            continue;
        }
        let known = common(&mut trl, field, value, all, around.steps)
            || match trainer {
                "sft" => of_sft(&mut trl, field, value, all),
                _ => of_dpo(&mut trl, field, value, all),
            };
        if !known {
            trl.lose(field, value, "TRL has no such option");
        }
    }
    trl.set("seed", stage.seed);
    if let Some(template) = &stage.chat_template {
        let why = "TRL takes a template from the tokenizer (or `chat_template_path` of `sft`)";
        trl.lose("chat-template", &json!(template), why);
    }
    Some(trl)
}

/// Fields that decide which rows there are.
const OF_ROWS: [&str; 6] = [
    "data",
    "data-seed",
    "max-examples",
    "dedup",
    "decontaminate",
    "empty-system-turn",
];

/// Fields of all training stages; whether it is one.
fn common(
    trl: &mut TrlRecipe,
    field: &str,
    value: &Value,
    all: &Map<String, Value>,
    steps: Option<u64>,
) -> bool {
    match field {
        "data" => data(trl, value),
        "duration" => match (&value["epochs"], &value["steps"]) {
            (Value::Null, steps) => trl.set("max_steps", steps.clone()),
            (epochs, _) => trl.set("num_train_epochs", epochs.clone()),
        },
        "optimizer" => {
            let names = [
                ("learning-rate", "learning_rate"),
                ("beta1", "adam_beta1"),
                ("beta2", "adam_beta2"),
                ("eps", "adam_epsilon"),
                ("weight-decay", "weight_decay"),
                ("max-grad-norm", "max_grad_norm"),
            ];
            trl.set("optim", "adamw_torch");
            for (ours, theirs) in names {
                trl.set(theirs, value[ours].clone());
            }
        }
        "schedule" => {
            let told = all.get("duration").and_then(|d| d["steps"].as_u64());
            schedule(trl, value, all, told.or(steps));
        }
        "precision" => {
            // Weights stay in f32 and products are in bf16 under autocast, as here.
            trl.set("bf16", value == "bf16");
            if value == "bf16" {
                let why = "autocast keeps some operations (norms, softmax, losses) in f32 that are bf16 here or \
                           the other way round; results agree up to bf16's rounding";
                trl.lose(field, value, why);
            }
        }
        "lora" => {
            trl.set("use_peft", true);
            trl.set("lora_r", value["rank"].clone());
            trl.set("lora_alpha", value["alpha"].clone());
            trl.set("lora_dropout", 0.0);
            trl.set("lora_target_modules", value["targets"].clone());
            let why = "PEFT draws other beginnings of the adapters";
            trl.lose(field, value, why);
        }
        // The stage's own seed says it.
        "seed" => {}
        "data-seed" => {
            let why = "`data_seed` of TRL draws the order of rows, not which there are";
            trl.lose(field, value, why);
        }
        "monitor" => {
            let why = "TRL's `datasets` have no split to evaluate on along training: evaluate what it saves";
            trl.lose(field, value, why);
        }
        "save-steps" => trl.lose(
            field,
            value,
            "TRL saves every `save_steps` steps, not at named ones",
        ),
        "max-examples" => {
            let why = "TRL takes the first rows of a split (`split: train[:N]`), not of a seeded order: cut the \
                       file beforehand";
            trl.lose(field, value, why);
        }
        "dedup" | "decontaminate" | "empty-system-turn" => {
            trl.lose(
                field,
                value,
                "TRL does not change rows: prepare the file beforehand",
            );
        }
        "trainable-embeddings" => {
            trl.lose(
                field,
                value,
                "TRL trains the embedding whole; it takes a hook on its gradient",
            );
        }
        "save-precision" => trl.lose(field, value, "TRL saves weights as it holds them"),
        _ => return false,
    }
    true
}

fn data(trl: &mut TrlRecipe, value: &Value) {
    let mut sets = Vec::new();
    for (at, source) in value.as_array().into_iter().flatten().enumerate() {
        let path = source["path"].as_str().unwrap_or_default();
        let builder = if path.ends_with(".parquet") {
            "parquet"
        } else {
            "json"
        };
        sets.push(json!({"path": builder, "data_files": path, "split": "train"}));
        for key in ["fold", "fraction", "count", "columns"] {
            if !source[key].is_null() {
                let field = format!("data.{at}.{key}");
                trl.lose(
                    &field,
                    &source[key],
                    "TRL takes the files whole: prepare them beforehand",
                );
            }
        }
    }
    trl.set("datasets", sets);
}

fn schedule(trl: &mut TrlRecipe, value: &Value, all: &Map<String, Value>, steps: Option<u64>) {
    let least = value["min-ratio"].as_f64().unwrap_or_default();
    let decay = value["decay"].as_str().unwrap_or_default();
    warmup(trl, &value["warmup-ratio"], steps);
    let rate = all
        .get("optimizer")
        .map(|o| o["learning-rate"].as_f64().unwrap_or_default());
    let end = rate.unwrap_or_default() * least;
    match decay {
        "constant" => trl.set("lr_scheduler_type", "constant_with_warmup"),
        "cosine" if least > 0.0 => {
            trl.set("lr_scheduler_type", "cosine_with_min_lr");
            trl.set("lr_scheduler_kwargs", json!({"min_lr_rate": least}));
        }
        "linear" if least > 0.0 => {
            trl.set("lr_scheduler_type", "polynomial");
            trl.set("lr_scheduler_kwargs", json!({"lr_end": end, "power": 1.0}));
        }
        "cosine" | "linear" => trl.set("lr_scheduler_type", decay),
        _ => stable_decay(trl, value, steps, least),
    }
}

/// `warmup_steps`, which is a share of all steps where it is below 1, and else a number of them.
fn warmup(trl: &mut TrlRecipe, share: &Value, steps: Option<u64>) {
    if share.as_f64().is_some_and(|share| share < 1.0) {
        trl.set("warmup_steps", share.clone());
    } else if let Some(steps) = steps {
        trl.set("warmup_steps", steps);
    } else {
        let why = "in TRL `warmup_steps = 1` is one step: write how many there are";
        trl.lose("schedule.warmup-ratio", share, why);
    }
}

/// Warm-up, a plateau, and a decay whose length TRL wants in steps.
fn stable_decay(trl: &mut TrlRecipe, value: &Value, steps: Option<u64>, least: f64) {
    trl.set("lr_scheduler_type", "warmup_stable_decay");
    let share = value["decay-ratio"].as_f64();
    if let (Some(steps), Some(share)) = (steps, share) {
        let steps = (steps as f64 * share).ceil() as u64;
        let kwargs =
            json!({"num_decay_steps": steps, "decay_type": "linear", "min_lr_ratio": least});
        trl.set("lr_scheduler_kwargs", kwargs);
    } else {
        let why = "TRL wants `num_decay_steps` in `lr_scheduler_kwargs`: this share of all steps";
        trl.lose("schedule.decay-ratio", &value["decay-ratio"], why);
    }
    let warms_up = value["warmup-ratio"]
        .as_f64()
        .is_some_and(|share| share > 0.0);
    if least > 0.0 && warms_up {
        let why = "of `warmup_stable_decay` TRL begins the warm-up there, and not at 0";
        trl.lose("schedule.min-ratio", &value["min-ratio"], why);
    }
}

/// Rows of one device and steps that are added up, whose product is `rows`; all at once where `whole`.
fn batch(trl: &mut TrlRecipe, rows: u64, whole: bool) {
    let device = (1..=8)
        .rev()
        .find(|device| rows.is_multiple_of(*device))
        .unwrap_or(1);
    let device = if whole { rows } else { device };
    trl.set("per_device_train_batch_size", device);
    trl.set("gradient_accumulation_steps", rows / device);
}

fn of_sft(trl: &mut TrlRecipe, field: &str, value: &Value, all: &Map<String, Value>) -> bool {
    match field {
        "max-seq-len" => trl.set("max_length", value.clone()),
        "batching" => match value.as_str() {
            Some("padded") => trl.set("packing", false),
            Some("concat") => {
                trl.set("packing", true);
                trl.set("packing_strategy", "wrapped");
                let why = "TRL's `wrapped` lets the documents of a window see each other; here each sees itself alone";
                trl.lose(field, value, why);
            }
            _ => {
                trl.set("packing", true);
                trl.set("packing_strategy", "bfd_split");
                let why = "in TRL documents of a window see themselves alone under FlashAttention only; here always";
                trl.lose(field, value, why);
            }
        },
        "loss-mask" => {
            let masked = value == "assistant-only";
            trl.set("assistant_only_loss", masked);
            if masked {
                let why = "TRL needs a chat template with `{% generation %}` marks, and else finds no reply";
                trl.lose(field, value, why);
            }
        }
        "max-masked-fraction" => trl.lose(field, value, "TRL leaves no window out"),
        "batch" => match (value["rows"].as_u64(), value["tokens"].as_u64()) {
            (Some(rows), _) => batch(trl, rows, false),
            (_, tokens) => {
                let longest = all.get("max-seq-len").and_then(Value::as_u64).unwrap_or(1);
                let rows = (tokens.unwrap_or(1) / longest.max(1)).max(1);
                batch(trl, rows, false);
                let why = format!(
                    "TRL counts rows: {rows} of the greatest length have as many positions"
                );
                trl.lose("batch.tokens", &value["tokens"], why);
            }
        },
        _ => return false,
    }
    true
}

/// Losses whose name is TRL's with `_`.
const SAME_LOSSES: [&str; 12] = [
    "sigmoid",
    "hinge",
    "ipo",
    "robust",
    "exo-pair",
    "nca-pair",
    "bco-pair",
    "sppo-hard",
    "apo-zero",
    "apo-down",
    "aot",
    "aot-unpaired",
];

fn of_dpo(trl: &mut TrlRecipe, field: &str, value: &Value, all: &Map<String, Value>) -> bool {
    match field {
        "limits" => limits(trl, value),
        "loss" => loss(trl, value, all),
        "beta" => trl.set("beta", value.clone()),
        // What TRL computes over a batch is here computed over the step.
        "global-batch-size" => {
            let whole = all.contains_key("sft-weight") || all.get("loss").is_some_and(sorts_pairs);
            batch(trl, value.as_u64().unwrap_or(1), whole);
        }
        "reference" => {
            // TRL refuses to keep log-probabilities of a reference that moves.
            let moves = all.contains_key("reference-update");
            trl.set("precompute_ref_log_probs", !moves);
            if value == "base" {
                let why = "TRL's command line takes the model itself as the reference: pass `ref_model` in a script";
                trl.lose(field, value, why);
            }
        }
        "reference-update" if all.contains_key("lora") => {
            trl.lose(field, value, "TRL moves no reference beside adapters");
        }
        "reference-update" => {
            trl.set("sync_ref_model", true);
            trl.set("ref_model_sync_steps", value["every-steps"].clone());
            trl.set("ref_model_mixup_alpha", value["mix"].clone());
        }
        "reference-free" => trl.lose(field, value, "TRL has dropped `reference_free`"),
        "online-fraction" => trl.lose(field, value, "TRL's DPO knows no judged pairs"),
        // Said with the loss.
        "sft-weight" | "length-normalized" => {}
        _ => return false,
    }
    true
}

/// Whether a loss sorts the pairs of a step.
fn sorts_pairs(loss: &Value) -> bool {
    let of = |name: &str| loss == name || loss.get(name).is_some();
    of("aot") || of("aot-unpaired")
}

/// Losses of TRL that smooth labels, by our names.
const SMOOTHING: [&str; 5] = ["robust", "exo-pair", "aot", "aot-unpaired", "simpo"];

fn limits(trl: &mut TrlRecipe, value: &Value) {
    trl.set("max_length", value["max-seq-len"].clone());
    let prompt = &value["max-prompt-len"];
    let why = "TRL 1 has no `max_prompt_length` any more (0.x has): cut long prompts beforehand";
    trl.lose("limits.max-prompt-len", prompt, why);
    let why = if let Some(end @ ("keep-end" | "keep-start")) = value["truncation"].as_str() {
        trl.set("truncation_mode", end.replace('-', "_"));
        "TRL cuts prompt and reply as one sequence, at one end; here the prompt is cut"
    } else {
        "TRL leaves no pair out for its length: drop them beforehand"
    };
    trl.lose("limits.truncation", &value["truncation"], why);
}

fn loss(trl: &mut TrlRecipe, value: &Value, all: &Map<String, Value>) {
    let (name, parameters) = match value {
        Value::Object(one) => one
            .iter()
            .next()
            .map(|(name, of)| (name.clone(), of.clone())),
        other => other.as_str().map(|name| (name.to_owned(), Value::Null)),
    }
    .unwrap_or_default();
    let normalized = all.get("length-normalized") == Some(&json!(true));
    let theirs = match name.as_str() {
        "simpo" => {
            trl.trainer = "cpo";
            trl.set("cpo_alpha", 0.0);
            trl.set("simpo_gamma", parameters["gamma"].clone());
            "simpo".to_owned()
        }
        "orpo" => {
            trl.trainer = "orpo";
            let why = "TRL's ORPOTrainer also counts the prompt's tokens in the likelihood";
            trl.lose("loss", value, why);
            return;
        }
        "discopop" => {
            trl.set("discopop_tau", parameters["tau"].clone());
            "discopop".to_owned()
        }
        "sigmoid" if normalized => "sigmoid_norm".to_owned(),
        known if SAME_LOSSES.contains(&known) => known.replace('-', "_"),
        _ => {
            trl.lose("loss", value, "TRL has no such loss (any more)");
            return;
        }
    };
    if normalized && name != "sigmoid" {
        trl.lose(
            "length-normalized",
            &json!(true),
            "TRL has it for `sigmoid` alone",
        );
    }
    if let Some(smoothing) = parameters.get("label-smoothing") {
        if SMOOTHING.contains(&name.as_str()) {
            trl.set("label_smoothing", smoothing.clone());
        } else {
            let why = "TRL 1 smooths no labels of this loss";
            trl.lose(&format!("loss.{name}.label-smoothing"), smoothing, why);
        }
    }
    if parameters["reward-shift"] == json!(true) {
        trl.lose(
            "loss.bco-pair.reward-shift",
            &json!(true),
            "TRL 1 shifts no rewards",
        );
    }
    match all.get("sft-weight") {
        Some(weight) if trl.trainer == "cpo" => {
            let why = "`cpo_alpha` of TRL weighs the prompt's tokens, too";
            trl.lose("sft-weight", weight, why);
            trl.set("loss_type", theirs);
        }
        Some(weight) => {
            trl.set("loss_type", json!([theirs, "sft"]));
            trl.set("loss_weights", json!([1.0, weight]));
        }
        None => trl.set("loss_type", theirs),
    }
}
