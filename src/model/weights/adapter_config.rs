//! `adapter_config.json` of PEFT: what the tensors of adapters mean.
//!
//! Which modules have adapters the tensors say themselves. A key that would give them another meaning is
//! heeded or refused, one that is not known here too, unless it is off.

use crate::config::spec::Positive;
use crate::model::error::ModelError;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Keys that are heeded, or that change nothing about adapters once they are trained.
const HEEDED: [&str; 25] = [
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "target_modules",
    "task_type",
    "use_rslora",
];
/// Ways to begin that leave the base's weights as they are; others (`pissa`, `olora`, `loftq` and so on) change
/// them, so that the adapters belong to a base that no folder holds.
const PLAIN_STARTS: [&str; 2] = ["gaussian", "orthogonal"];
/// What is said of all that is not done here.
const NOT_DONE: &str =
    "asks for what is not implemented here; `merge_and_unload` of PEFT merges such adapters";

/// A key and what is wrong with it.
type Fault = (String, String);

/// What the tensors of adapters mean.
#[derive(Debug)]
pub(super) struct AdapterConfig {
    path: PathBuf,
    pub(super) rank: NonZeroUsize,
    pub(super) alpha: Positive,
    /// Ranks of modules that have one of their own.
    ranks: Vec<u64>,
    /// `alpha` of modules that have one of their own, by the end of their names.
    alphas: BTreeMap<String, f64>,
    /// Whether the product is divided by the root of the rank (Kalajdzievski 2023) instead of the rank.
    by_root: bool,
    /// Ends of the names of all modules that have adapters; none where it is an expression.
    targets: Option<Vec<String>>,
    /// Whether all modules of such names have adapters.
    complete: bool,
}

impl AdapterConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// It is missing or no JSON object, or asks for what is not done here.
    pub(super) fn read(path: &Path) -> Result<Self, ModelError> {
        let text = crate::base::fs::read_to_string(path)?;
        let found: Map<String, Value> =
            serde_json::from_str(&text).map_err(|source| ModelError::Json {
                path: path.to_path_buf(),
                source,
            })?;
        let refused = |(field, problem)| ModelError::Config {
            path: path.to_path_buf(),
            field,
            problem,
        };
        check(&found).map_err(refused)?;
        Self::of(path, &found).map_err(refused)
    }

    fn of(path: &Path, found: &Map<String, Value>) -> Result<Self, Fault> {
        let rank = found.get("r").and_then(Value::as_u64);
        let rank = rank.and_then(|rank| NonZeroUsize::new(usize::try_from(rank).ok()?));
        let alpha = found.get("lora_alpha").and_then(Value::as_f64);
        let alpha = alpha.ok_or_else(|| fault("lora_alpha", "is missing or no number"))?;
        let alphas = pattern(found, "alpha_pattern", Value::as_f64)?;
        if let Some(key) = alphas.keys().find(|key| !is_name(key)) {
            let problem = format!("has the expression `{key}`, and {NOT_DONE}");
            return Err(fault("alpha_pattern", problem));
        }
        let off = |key: &str| found.get(key).is_none_or(is_off);
        Ok(Self {
            path: path.to_path_buf(),
            rank: rank.ok_or_else(|| fault("r", "is missing or no whole number above 0"))?,
            alpha: Positive::try_from(alpha)
                .map_err(|error| fault("lora_alpha", error.to_string()))?,
            ranks: pattern(found, "rank_pattern", Value::as_u64)?
                .into_values()
                .collect(),
            alphas,
            by_root: !off("use_rslora"),
            targets: targets(found.get("target_modules"))?,
            complete: off("layers_to_transform") && off("exclude_modules"),
        })
    }

    /// Whether a module of this name, for example `model.layers.0.mlp.up_proj`, may have adapters.
    pub(super) fn may_adapt(&self, module: &str) -> bool {
        let targets = self.targets.as_ref();
        targets.is_none_or(|targets| targets.iter().any(|target| ends_in(module, target)))
    }

    /// Whether it must have them.
    pub(super) fn must_adapt(&self, module: &str) -> bool {
        self.complete && self.targets.is_some() && self.may_adapt(module)
    }

    /// The rank of a module whose `A` has so many rows, which must be one that the file names.
    pub(super) fn rank_of(&self, rows: usize) -> usize {
        if self.ranks.contains(&(rows as u64)) {
            rows
        } else {
            self.rank.get()
        }
    }

    /// What the product `B A` of a module of this rank is multiplied by.
    ///
    /// # Errors
    /// The file gives it several.
    pub(super) fn factor(&self, module: &str, rank: usize) -> Result<f64, ModelError> {
        let own = self.alphas.iter().filter(|(key, _)| ends_in(module, key));
        let mut own: Vec<f64> = own.map(|(_, alpha)| *alpha).collect();
        own.dedup_by_key(|alpha| alpha.to_bits());
        let alpha = match own[..] {
            [] => self.alpha.get(),
            [alpha] => alpha,
            _ => {
                return Err(ModelError::Config {
                    path: self.path.clone(),
                    field: "alpha_pattern".to_owned(),
                    problem: format!("gives `{module}` several values"),
                });
            }
        };
        let rank = rank as f64;
        Ok(alpha / if self.by_root { rank.sqrt() } else { rank })
    }
}

fn fault(field: &str, problem: impl Into<String>) -> Fault {
    (field.to_owned(), problem.into())
}

/// The table of the vocabulary, whose adapters are no product of matrices.
const EMBEDDING: &str = "embed_tokens";

/// Refuses what asks for more than a low-rank change of matrices of the base.
fn check(found: &Map<String, Value>) -> Result<(), Fault> {
    match found.get("peft_type").and_then(Value::as_str) {
        Some("LORA") => {}
        Some(other) => return Err(fault("peft_type", format!("is `{other}`, not `LORA`"))),
        None => return Err(fault("peft_type", "is missing")),
    }
    let unheeded =
        |(key, value): &(&String, &Value)| !HEEDED.contains(&key.as_str()) && !is_off(value);
    if let Some((key, _)) = found.iter().find(unheeded) {
        return Err(fault(key, NOT_DONE));
    }
    if found.get("bias").is_some_and(|b| !is_off(b) && b != "none") {
        return Err(fault("bias", NOT_DONE));
    }
    let targets = found.get("target_modules").and_then(Value::as_array);
    let embedding = |target: &Value| target.as_str().is_some_and(|t| ends_in(t, EMBEDDING));
    if targets.into_iter().flatten().any(embedding) {
        return Err(fault(
            "target_modules",
            format!("names `{EMBEDDING}`, and {NOT_DONE}"),
        ));
    }
    match found.get("init_lora_weights") {
        None | Some(Value::Null | Value::Bool(_)) => Ok(()),
        Some(Value::String(start)) if PLAIN_STARTS.contains(&start.as_str()) => Ok(()),
        Some(start) => Err(fault(
            "init_lora_weights",
            format!(
                "is {start}, which may have changed the weights of the base, and {NOT_DONE}, or saves them as \
                 plain ones (`path_initial_model_for_weight_conversion`)"
            ),
        )),
    }
}

/// Whether a key with this value asks for nothing.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// A table of values by modules; null is an empty one.
fn pattern<T>(
    found: &Map<String, Value>,
    field: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<BTreeMap<String, T>, Fault> {
    let entries = match found.get(field) {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(fault(field, "is no table")),
    };
    let entry = |(key, value): (&String, &Value)| {
        let found = read(value).map(|value| (key.clone(), value));
        found.ok_or_else(|| fault(field, format!("has `{value}` for `{key}`")))
    };
    entries.iter().map(entry).collect()
}

/// The modules that a list names; an expression or `all-linear` says no more than the tensors.
fn targets(found: Option<&Value>) -> Result<Option<Vec<String>>, Fault> {
    let wrong = || {
        fault(
            "target_modules",
            "is neither a list of names nor an expression",
        )
    };
    match found {
        None | Some(Value::Null | Value::String(_)) => Ok(None),
        Some(Value::Array(items)) => {
            let name = |item: &Value| item.as_str().map(str::to_owned).ok_or_else(wrong);
            items.iter().map(name).collect::<Result<_, _>>().map(Some)
        }
        Some(_) => Err(wrong()),
    }
}

/// Whether a key of a pattern is the name of a module or its end, and no expression.
fn is_name(key: &str) -> bool {
    let mut chars = key.chars();
    chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
}

/// Whether `module` is called so or ends so behind a dot.
fn ends_in(module: &str, name: &str) -> bool {
    let head = module.strip_suffix(name);
    head.is_some_and(|head| head.is_empty() || head.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What is read of a file with these keys besides those that every file has.
    fn read(keys: &Value) -> Result<AdapterConfig, String> {
        let mut all = json!({
            "peft_type": "LORA",
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj", "up_proj"],
        });
        for (key, value) in keys.as_object().unwrap() {
            all[key] = value.clone();
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("adapter_config.json");
        crate::base::write_atomic(&path, all.to_string().as_bytes()).unwrap();
        AdapterConfig::read(&path).map_err(|error| error.to_string())
    }

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a}, not {b}");
    }

    #[test]
    fn what_changes_no_weight_is_read() {
        for keys in [
            json!({"alpha_pattern": null, "rank_pattern": null, "target_modules": "all-linear"}),
            json!({"target_modules": ".*proj", "layers_to_transform": [0, 2]}),
            json!({"init_lora_weights": "gaussian", "lora_dropout": 0.1, "qalora_group_size": 16}),
            json!({"init_lora_weights": false, "modules_to_save": null, "loftq_config": {}}),
            json!({"a_key_of_tomorrow": false, "another": []}),
        ] {
            read(&keys).unwrap();
        }
    }

    #[test]
    fn what_asks_for_more_is_refused_by_its_key() {
        let cases = [
            ("init_lora_weights", json!("pissa")),
            ("init_lora_weights", json!("pissa_niter_16")),
            ("init_lora_weights", json!("olora")),
            ("init_lora_weights", json!("corda")),
            ("init_lora_weights", json!("loftq")),
            ("alora_invocation_tokens", json!([1, 2])),
            ("modules_to_save", json!(["lm_head"])),
            ("target_modules", json!(["q_proj", "embed_tokens"])),
            ("lora_bias", json!(true)),
            ("bias", json!("all")),
            ("use_dora", json!(true)),
            ("fan_in_fan_out", json!(true)),
            ("trainable_token_indices", json!([3])),
            ("layer_replication", json!([[0, 2]])),
            ("alpha_pattern", json!({"layers\\..*": 3})),
            ("a_key_of_tomorrow", json!(true)),
        ];
        for (key, value) in cases {
            let said = read(&json!({ key: value })).unwrap_err();
            assert!(said.starts_with(&format!("`{key}` in ")), "{said}");
            assert!(said.contains("`merge_and_unload` of PEFT"), "{said}");
        }
        for (key, value) in [
            ("peft_type", json!("LOHA")),
            ("r", json!(0)),
            ("lora_alpha", json!("8")),
            ("rank_pattern", json!({"q_proj": "x"})),
            ("target_modules", json!(3)),
        ] {
            let said = read(&json!({ key: value })).unwrap_err();
            assert!(said.starts_with(&format!("`{key}` in ")), "{said}");
        }
    }

    // PEFT: the scaling of a module is its `alpha` by its rank, or by the rank's root; a key of a pattern is
    // the end of a module's name.
    #[test]
    fn patterns_give_modules_their_own_rank_and_alpha() {
        let config = read(&json!({
            "rank_pattern": {"up_proj": 2},
            "alpha_pattern": {"layers.1.mlp.up_proj": 3, "q_proj": 16.0},
        }));
        let config = config.unwrap();
        assert_eq!((config.rank_of(2), config.rank_of(3)), (2, 4));
        let factor = |module: &str, rank| config.factor(module, rank).unwrap();
        near(factor("model.layers.1.mlp.up_proj", 2), 1.5);
        near(factor("model.layers.11.mlp.up_proj", 2), 4.0);
        near(factor("model.layers.0.self_attn.q_proj", 4), 4.0);
        let rooted = read(&json!({"use_rslora": true})).unwrap();
        near(rooted.factor("q_proj", 4).unwrap(), 4.0);
        let twice = read(&json!({"alpha_pattern": {"q_proj": 1, "attn.q_proj": 2}})).unwrap();
        let said = twice
            .factor("model.attn.q_proj", 4)
            .unwrap_err()
            .to_string();
        assert!(said.contains("several values"), "{said}");
    }

    #[test]
    fn a_list_of_modules_says_which_must_have_adapters() {
        let listed = read(&json!({})).unwrap();
        assert!(listed.must_adapt("model.layers.0.mlp.up_proj"));
        assert!(!listed.may_adapt("model.layers.0.mlp.down_proj"));
        assert!(!listed.may_adapt("model.layers.0.mlp.a_up_proj"));
        let some = read(&json!({"layers_to_transform": [1]})).unwrap();
        assert!(some.may_adapt("model.up_proj") && !some.must_adapt("model.up_proj"));
        let any = read(&json!({"target_modules": "all-linear"})).unwrap();
        assert!(any.may_adapt("lm_head") && !any.must_adapt("lm_head"));
    }
}
