//! What users of TRL, Axolotl and LLaMA-Factory would write, and what it is called here.
//!
//! A name stands here if spelling alone does not lead to ours (`max_grad_norm` does).

/// A key of theirs, and ours as a person would write it.
const KEYS: &[(&[&str], &str)] = &[
    (&["lr", "learning_rate"], "`optimizer.learning-rate`"),
    (
        &["max_length", "cutoff_len", "sequence_len", "max_seq_length"],
        "`max-seq-len` (of pairs: `limits.max-seq-len`)",
    ),
    (&["max_prompt_length"], "`limits.max-prompt-len`"),
    (
        &["truncation_mode", "truncation_side"],
        "`limits.truncation`",
    ),
    (
        &[
            "per_device_train_batch_size",
            "train_batch_size",
            "micro_batch_size",
            "batch_size",
            "gradient_accumulation_steps",
        ],
        "`batch = { rows = N }` in `sft.recipe` and `global-batch-size` in `dpo.recipe`, the size of a whole \
         step; how it is cut to fit memory is `runtime.micro-batch-tokens`",
    ),
    (
        &["num_train_epochs", "num_epochs", "epochs"],
        "`duration = { epochs = N }`",
    ),
    (
        &["max_steps", "num_steps", "steps"],
        "`duration = { steps = N }`",
    ),
    (&["lora_r", "lora_rank", "r"], "`lora.rank`"),
    (&["lora_alpha"], "`lora.alpha`"),
    (
        &["lora_target", "lora_target_modules", "target_modules"],
        "`lora.targets`",
    ),
    (
        &["adapter", "finetuning_type", "use_peft", "peft_config"],
        "`lora = { rank = …, alpha = …, targets = […] }`; without it all weights are trained",
    ),
    (
        &["warmup_ratio", "warmup_steps"],
        "`schedule.warmup-ratio`, a share of all steps",
    ),
    (&["lr_scheduler", "lr_scheduler_type"], "`schedule.decay`"),
    (&["weight_decay"], "`optimizer.weight-decay`"),
    (&["adam_beta1", "beta1"], "`optimizer.beta1`"),
    (&["adam_beta2", "beta2"], "`optimizer.beta2`"),
    (&["adam_epsilon", "adam_eps"], "`optimizer.eps`"),
    (
        &["max_grad_norm", "gradient_clipping"],
        "`optimizer.max-grad-norm`",
    ),
    (
        &["bf16", "fp16", "tf32", "torch_dtype", "dtype"],
        "`precision = \"bf16\"` or `precision = \"f32\"`",
    ),
    (
        &[
            "model",
            "base_model",
            "model_name_or_path",
            "model_name",
            "model_id",
            "tokenizer_name_or_path",
        ],
        "`path` in `[base.model]`",
    ),
    (&["template"], "`chat-template` in `[base.model]`, a file"),
    (
        &["dataset", "datasets", "dataset_name", "train_file"],
        "`data = [{ path = \"…\" }]` in the recipe of a stage",
    ),
    (
        &["eval_dataset", "test_datasets", "val_set_size"],
        "a named set such as `[base.eval.recipe.likelihood.NAME]`",
    ),
    (&["max_samples", "max_train_samples"], "`max-examples`"),
    (
        &["packing", "sample_packing", "packing_strategy"],
        "`batching = \"best-fit\"`, `\"concat\"` or `\"padded\"`",
    ),
    (
        &[
            "train_on_inputs",
            "assistant_only_loss",
            "completion_only_loss",
        ],
        "`loss-mask = \"assistant-only\"` or `\"all-tokens\"`",
    ),
    (&["loss_type", "pref_loss", "rl"], "`loss`"),
    (&["pref_beta", "dpo_beta", "rl_beta"], "`beta`"),
    (&["rpo_alpha", "pref_ftx"], "`sft-weight`"),
    (&["simpo_gamma", "gamma_beta_ratio"], "`gamma`"),
    (&["ref_model", "ref_model_name_or_path"], "`reference`"),
    (&["sync_ref_model"], "`reference-update`"),
    (
        &["gradient_checkpointing"],
        "`recompute-layers` in the stage's `runtime`",
    ),
    (&["eval_steps", "eval_strategy"], "`monitor.every-steps`"),
    (
        &["optim", "optimizer_type"],
        "`optimizer = { learning-rate = …, … }`; it is always AdamW",
    ),
    (
        &["output_dir", "run_name", "save_total_limit"],
        "not needed: runs are named by what they are and kept in `results/`",
    ),
    (
        &["logging_steps", "report_to"],
        "not needed: every step is logged, `lions log RUN` shows it",
    ),
];

/// A value of theirs, and ours.
const VALUES: &[(&[&str], &str)] = &[
    (&["dpo"], "DPO's loss is called `sigmoid`"),
    (&["kto"], "on pairs it is called `kto-pair`"),
    (&["exo", "exo_pair"], "it is called `exo-pair`"),
    (&["nca", "nca_pair"], "it is called `nca-pair`"),
    (&["bco", "bco_pair"], "it is called `bco-pair`"),
    (&["sppo", "sppo_hard"], "it is called `sppo-hard`"),
    (&["aot_pair"], "it is called `aot`"),
    (&["apo"], "it is called `apo-zero` or `apo-down`"),
    (&["cdpo"], "it is `sigmoid` with `label-smoothing` above 0"),
    (
        &["bfloat16", "fp16", "float16", "half", "mixed"],
        "write `bf16` or `f32`",
    ),
    (&["float32", "fp32", "full"], "it is called `f32`"),
    (
        &["constant_with_warmup"],
        "it is `constant` with a `warmup-ratio`",
    ),
    (&["cosine_with_min_lr"], "it is `cosine` with a `min-ratio`"),
    (&["keep_end", "left"], "it is called `keep-end`"),
    (&["keep_start", "right"], "it is called `keep-start`"),
];

fn look_up(table: &[(&[&str], &'static str)], wrong: &str) -> Option<&'static str> {
    let folded = wrong.to_lowercase().replace('-', "_");
    let entry = table
        .iter()
        .find(|(theirs, _)| theirs.contains(&&*folded))?;
    Some(entry.1)
}

/// Our words for a key of another program.
pub(crate) fn peer_key(wrong: &str) -> Option<&'static str> {
    look_up(KEYS, wrong)
}

/// Our words for a value of another program.
pub(crate) fn peer_value(wrong: &str) -> Option<&'static str> {
    look_up(VALUES, wrong)
}

/// Whether words of ours are right among these names: they name one of them, as a key or as an end of
/// a path, or say that there is none anywhere.
pub(crate) fn fits(ours: &str, valid: &[&str]) -> bool {
    let is_valid = |quoted: &str| {
        let path = quoted.split(" = ").next().unwrap_or(quoted);
        let path = path.trim_matches(['[', ']']);
        let ends = [path.split('.').next(), path.rsplit('.').next()];
        ends.into_iter().flatten().any(|end| valid.contains(&end))
    };
    ours.starts_with("not needed") || ours.split('`').skip(1).step_by(2).any(is_valid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::paths;

    // Each key of ours that the table names is one: renaming it must not leave a wrong hint.
    #[test]
    fn the_names_that_hints_give_are_there() {
        let known = |name: &str| {
            let ends = format!(".{name}");
            paths()
                .iter()
                .any(|path| path == name || path.ends_with(&ends))
        };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        for (theirs, ours) in KEYS {
            for name in ours.split('`').skip(1).step_by(2) {
                let name = name.split(" = ").next().unwrap_or(name);
                if name.starts_with('[') || name.starts_with('"') || !name.chars().all(plain) {
                    continue;
                }
                assert!(known(name), "{theirs:?}: {name}");
            }
        }
    }

    #[test]
    fn words_of_ours_fit_where_a_name_in_them_is_valid() {
        let key = |theirs, valid: &[&str]| fits(peer_key(theirs).unwrap(), valid);
        assert!(key("epochs", &["data", "duration"]));
        assert!(!key("epochs", &["data", "every-steps"]));
        assert!(key("lr", &["optimizer", "schedule"]));
        assert!(key("lr", &["learning-rate", "beta1"]));
        assert!(key("base_model", &["sweep", "base"]));
        assert!(!key("base_model", &["name", "seeds"]));
        assert!(key("report_to", &["name"]));
        let value = |theirs, valid: &[&str]| fits(peer_value(theirs).unwrap(), valid);
        assert!(value("full", &["f32", "bf16"]));
        assert!(!value("full", &["assistant-only", "all-tokens"]));
    }

    #[test]
    fn no_word_of_a_peer_stands_twice() {
        for table in [KEYS, VALUES] {
            let mut all: Vec<&str> = table
                .iter()
                .flat_map(|(theirs, _)| theirs.iter().copied())
                .collect();
            let before = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), before);
        }
    }
}
