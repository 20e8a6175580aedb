//! How the stage of a file learns: optimiser, schedule, precision, adapters.

use crate::cli::trl::reader::{Became, Reader, whole};
use serde_json::{Map, Value, json};

impl Reader<'_> {
    /// How the stage learns; where a key is absent TRL's default stands.
    pub(super) fn training(&mut self, recipe: &mut Map<String, Value>, is_dpo: bool) {
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
        let counted = self.keys.get("max_steps").and_then(Value::as_f64);
        let steps = counted.filter(|steps| *steps > 0.0);
        match steps {
            Some(_) => self.tell("max_steps", Became::Taken, "duration.steps"),
            None => self.tell("max_steps", Became::Idle, "below 1: epochs count"),
        }
        let epochs = self.keys.get("num_train_epochs").and_then(Value::as_f64);
        let epochs = epochs.unwrap_or(3.0);
        match steps {
            Some(_) => self.tell("num_train_epochs", Became::Idle, "`max_steps` counts"),
            None => self.tell("num_train_epochs", Became::Taken, "duration.epochs"),
        }
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
        // Below 1 it is a share already.
        let ratio = ratio.or(warmup.filter(|steps| *steps < 1.0));
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
        // TRL trains in bf16 unless it is told otherwise.
        let is_half = bf16.unwrap_or(true) || dtype.as_deref() == Some("bfloat16");
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
}
