//! `config.json` in the spellings of transformers 4 and 5.

use crate::arch::config::{DecoderConfig, FloatFormat};
use crate::arch::error::ArchError;
use crate::arch::families::{AttentionBias, FAMILIES, Family, Windows};
use crate::arch::layer::GateActivation;
use crate::arch::rope::{RopeConfig, RopeScaling};
use crate::base::fs::read_to_string;
use crate::base::{ModelFile, counted};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::Path;

/// Endings of the names of classes that put a scalar head on a decoder, in place of the head for
/// tokens: transformers' own, and that of UltraRM.
const SCALAR_HEADS: &[&str] = &["ForSequenceClassification", "RewardModel"];

/// Widest that a vocabulary or a layer is taken to be: none is near, and products of such widths stay
/// within 64 bits.
pub(crate) const MOST_WIDTH: usize = 1 << 24;

/// The same of layers, of heads, and of the width of a head.
pub(crate) const MOST_COUNT: usize = 1 << 16;

/// The fields that are read; others do not change the forward pass.
#[derive(Debug, Deserialize)]
struct Fields {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Map<String, Value>>,
    rope_parameters: Option<Map<String, Value>>,
    partial_rotary_factor: Option<f64>,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    query_pre_attn_scalar: Option<f64>,
    attn_logit_softcapping: Option<f64>,
    final_logit_softcapping: Option<f64>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    torch_dtype: Option<String>,
    dtype: Option<String>,
}

impl DecoderConfig {
    /// Reads `config.json` of a folder in Hugging Face layout, as written by transformers 4 or 5.
    ///
    /// # Errors
    /// The file is missing, no JSON, lacks a field, or asks for something not implemented.
    pub fn from_file(dir: &Path) -> Result<Self, ArchError> {
        let path = ModelFile::Config.within(dir);
        Self::from_json(&path, &read_to_string(&path)?)
    }

    /// Reads the text of a `config.json`; `path` names it in errors.
    ///
    /// # Errors
    /// As for [`Self::from_file`].
    pub fn from_json(path: &Path, text: &str) -> Result<Self, ArchError> {
        read(FAMILIES, path, text)
    }
}

/// Reads the text of a `config.json` of one of these families.
pub(super) fn read(
    families: &[Family],
    path: &Path,
    text: &str,
) -> Result<DecoderConfig, ArchError> {
    let broken = |source| ArchError::Json {
        path: path.to_path_buf(),
        source,
    };
    let stated: Map<String, Value> = serde_json::from_str(text).map_err(broken)?;
    let fields = Fields::deserialize(&stated).map_err(broken)?;
    let reader = Reader {
        path,
        fields,
        stated,
    };
    let family = reader.family(families)?;
    reader.all_honoured(family)?;
    reader.config(family)
}

struct Reader<'a> {
    path: &'a Path,
    fields: Fields,
    /// Everything in the file: a key that is null is stated, one that is absent has the default of the
    /// family's class in transformers.
    stated: Map<String, Value>,
}

/// Keys that change what a decoder computes, of which only the given value is implemented.
const NOT_IMPLEMENTED: &[(&str, f64)] = &[
    ("attention_dropout", 0.0),
    ("attn_pdrop", 0.0),
    ("embd_pdrop", 0.0),
    ("resid_pdrop", 0.0),
    ("hidden_dropout", 0.0),
    ("embedding_multiplier", 1.0),
    ("residual_multiplier", 1.0),
    ("logits_scaling", 1.0),
    ("logit_scale", 1.0),
];

/// Keys that change what a decoder computes and are not implemented unless null, false or empty.
const MUST_BE_UNSET: &[&str] = &[
    "quantization_config",
    "use_bidirectional_attention",
    "attention_multiplier",
    "clip_qkv",
    "alibi",
    "parallel_attn",
    "use_parallel_residual",
    "num_local_experts",
    "num_experts",
    "n_routed_experts",
    "add_cross_attention",
];

impl Reader<'_> {
    fn fault(&self, field: &'static str, problem: impl Into<String>) -> ArchError {
        ArchError::Field {
            path: self.path.to_path_buf(),
            field,
            problem: problem.into(),
        }
    }

    fn positive(
        &self,
        field: &'static str,
        value: Option<usize>,
        most: usize,
    ) -> Result<usize, ArchError> {
        match value {
            Some(0) => Err(self.fault(field, "is zero")),
            Some(value) => self.at_most(most, field, value),
            None => Err(self.fault(field, "is missing")),
        }
    }

    fn at_most(&self, most: usize, field: &'static str, value: usize) -> Result<usize, ArchError> {
        if value > most {
            return Err(self.fault(field, format!("is {value}, more than any model has")));
        }
        Ok(value)
    }

    /// The family that the file names: by its class, or for want of one by its `model_type`.
    fn family<'f>(&self, families: &'f [Family]) -> Result<&'f Family, ArchError> {
        let named = self.fields.architectures.as_ref().and_then(|a| a.first());
        let found = named.or(self.fields.model_type.as_ref());
        let Some(found) = found else {
            return Err(self.fault("architectures", "is missing"));
        };
        let mut endings = SCALAR_HEADS.iter();
        let stem = endings.find_map(|ending| found.strip_suffix(ending));
        let causal = stem.map(|stem| format!("{stem}ForCausalLM"));
        let class = causal.as_ref().unwrap_or(found);
        let family = families
            .iter()
            .find(|f| f.class == class || (named.is_none() && f.model_type == found));
        let kind = self.fields.model_type.as_deref();
        let other = families.iter().find(|f| kind == Some(f.model_type));
        if let (Some(family), Some(other)) = (family, other.map(|f| f.model_type))
            && family.model_type != other
        {
            return Err(self.fault(
                "model_type",
                format!("is `{other}`, but `architectures` names `{found}`; transformers goes by the former"),
            ));
        }
        family.ok_or_else(|| ArchError::UnknownArchitecture {
            path: self.path.to_path_buf(),
            found: found.clone(),
            known: families
                .iter()
                .map(|f| f.class)
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// What a family's class takes where the file does not have the key.
    fn or_default<T>(&self, key: &str, stated: Option<T>, default: Option<T>) -> Option<T> {
        stated.or(default.filter(|_| !self.stated.contains_key(key)))
    }

    /// Refuses keys that are meant and that nothing here heeds.
    fn all_honoured(&self, family: &Family) -> Result<(), ArchError> {
        let value = |key: &str| self.stated.get(key).filter(|value| !value.is_null());
        let unset = |value: &Value| match value {
            Value::Bool(on) => !on,
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        for &key in MUST_BE_UNSET {
            if value(key).is_some_and(|value| !unset(value)) {
                return Err(self.fault(key, "is set, which is not implemented"));
            }
        }
        for &(key, neutral) in NOT_IMPLEMENTED {
            let other = |value: &Value| {
                value
                    .as_f64()
                    .is_none_or(|number| (number - neutral).abs() > 0.0)
            };
            if value(key).is_some_and(other) {
                let problem = format!("is not {neutral}, which is not implemented");
                return Err(self.fault(key, problem));
            }
        }
        let foreign = [
            ("attn_logit_softcapping", family.softcaps.is_none()),
            ("final_logit_softcapping", family.softcaps.is_none()),
            ("query_pre_attn_scalar", family.query_scalar.is_none()),
        ];
        for (key, ignored) in foreign {
            if ignored && value(key).is_some() {
                let problem = format!("is set, which {} does not know", family.class);
                return Err(self.fault(key, problem));
            }
        }
        Ok(())
    }

    fn config(&self, family: &Family) -> Result<DecoderConfig, ArchError> {
        let f = &self.fields;
        let hidden_size = self.positive("hidden_size", f.hidden_size, MOST_WIDTH)?;
        let heads = self.positive("num_attention_heads", f.num_attention_heads, MOST_COUNT)?;
        let kv_heads = self
            .or_default(
                "num_key_value_heads",
                f.num_key_value_heads,
                family.kv_heads,
            )
            .unwrap_or(heads);
        self.at_most(MOST_COUNT, "num_key_value_heads", kv_heads)?;
        if kv_heads == 0 || heads % kv_heads != 0 {
            return Err(self.fault(
                "num_key_value_heads",
                format!("is {kv_heads}, no divisor of {heads}"),
            ));
        }
        let head_dim = f
            .head_dim
            .or(family.head_dim)
            .unwrap_or(hidden_size / heads);
        if head_dim == 0 || !head_dim.is_multiple_of(2) {
            return Err(self.fault(
                "head_dim",
                format!("is {head_dim}, not a positive even number"),
            ));
        }
        self.at_most(MOST_COUNT, "head_dim", head_dim)?;
        let layers = self.positive("num_hidden_layers", f.num_hidden_layers, MOST_COUNT)?;
        let vocab_size = self.positive("vocab_size", f.vocab_size, MOST_WIDTH)?;
        let intermediate_size =
            self.positive("intermediate_size", f.intermediate_size, MOST_WIDTH)?;
        let stated_bias = f.attention_bias.unwrap_or(false);
        let (qkv_bias, output_bias) = match family.attention_bias {
            AttentionBias::AsStated => (stated_bias, stated_bias),
            AttentionBias::QueriesKeysValues => (true, false),
        };
        let [attention_cap, logit_cap] = family.softcaps.map_or([None; 2], |caps| caps.map(Some));
        let scalar = family.query_scalar.map_or(head_dim as f64, |usual| {
            f.query_pre_attn_scalar.unwrap_or(usual)
        });
        Ok(DecoderConfig {
            architecture: family.class,
            vocab_size,
            hidden_size,
            intermediate_size,
            heads,
            kv_heads,
            head_dim,
            max_positions: f.max_position_embeddings.unwrap_or(family.max_positions),
            norm_eps: f.rms_norm_eps.unwrap_or(1e-6),
            norm_weight: family.norm_weight,
            rope: self.rope()?,
            activation: self.activation(family)?,
            tied: f.tie_word_embeddings.unwrap_or(family.tied),
            qkv_bias,
            output_bias,
            mlp_bias: f.mlp_bias.unwrap_or(false),
            qk_norm: family.qk_norm,
            post_norms: family.post_norms,
            embedding_scale: family.scaled_embedding.then(|| (hidden_size as f64).sqrt()),
            attention_scale: 1.0 / scalar.sqrt(),
            attention_softcap: self.or_default(
                "attn_logit_softcapping",
                f.attn_logit_softcapping,
                attention_cap,
            ),
            logit_softcap: self.or_default(
                "final_logit_softcapping",
                f.final_logit_softcapping,
                logit_cap,
            ),
            windows: self.windows(family.windows, layers)?,
            stored_dtype: self.stored_dtype()?,
        })
    }

    fn activation(&self, family: &Family) -> Result<GateActivation, ArchError> {
        let (field, stated) = if family.hidden_activation {
            ("hidden_activation", &self.fields.hidden_activation)
        } else {
            ("hidden_act", &self.fields.hidden_act)
        };
        match stated.as_deref() {
            None => Ok(family.activation),
            Some("silu" | "swish") => Ok(GateActivation::Silu),
            Some("gelu_pytorch_tanh") => Ok(GateActivation::GeluTanh),
            Some(other) => Err(self.fault(
                field,
                format!("is `{other}`; known are silu and gelu_pytorch_tanh"),
            )),
        }
    }

    /// Transformers 5 has one table `rope_parameters`; 4 had `rope_theta` and `rope_scaling`, whose
    /// type was first called `type`.
    fn rope(&self) -> Result<RopeConfig, ArchError> {
        let (field, table) = match (&self.fields.rope_parameters, &self.fields.rope_scaling) {
            (Some(table), _) => ("rope_parameters", Some(table)),
            (None, table) => ("rope_scaling", table.as_ref()),
        };
        let number = |name: &str| table.and_then(|t| t.get(name)).and_then(Value::as_f64);
        let needed = |name: &'static str| {
            let stated = number(name)
                .ok_or_else(|| self.fault(field, format!("lacks the number `{name}`")))?;
            let sane = stated.is_finite() && stated > 0.0;
            sane.then_some(stated)
                .ok_or_else(|| self.fault(field, format!("has {stated} for `{name}`, not above 0")))
        };
        let partial = number("partial_rotary_factor").or(self.fields.partial_rotary_factor);
        if partial.is_some_and(|p| (p - 1.0).abs() > 0.0) {
            return Err(self.fault(
                "partial_rotary_factor",
                "is not 1, which is not implemented",
            ));
        }
        let theta = number("rope_theta")
            .or(self.fields.rope_theta)
            .unwrap_or(10_000.0);
        if !(theta.is_finite() && theta > 0.0) {
            return Err(self.fault("rope_theta", format!("is {theta}, not above 0")));
        }
        let kind = table
            .and_then(|t| t.get("rope_type").or_else(|| t.get("type")))
            .map_or(Some("default"), Value::as_str);
        if table.is_some_and(|t| t.values().any(Value::is_object)) {
            return Err(self.fault(field, "differs by layer type, which is not implemented"));
        }
        let scaling = match kind {
            Some("default") => RopeScaling::Default,
            Some("linear") => RopeScaling::Linear {
                factor: needed("factor")?,
            },
            Some("llama3") => RopeScaling::Llama3 {
                factor: needed("factor")?,
                low_freq_factor: needed("low_freq_factor")?,
                high_freq_factor: needed("high_freq_factor")?,
                original_max: needed("original_max_position_embeddings")?,
            },
            other => {
                let found = other.unwrap_or("not a string");
                let problem =
                    format!("has the rope type `{found}`; known are default, linear and llama3");
                return Err(self.fault(field, problem));
            }
        };
        let used: &[&str] = match scaling {
            RopeScaling::Default => &[],
            RopeScaling::Linear { .. } => &["factor"],
            RopeScaling::Llama3 { .. } => &["factor", "low_freq_factor", "high_freq_factor"],
        };
        let known = [
            "rope_type",
            "type",
            "rope_theta",
            "partial_rotary_factor",
            "original_max_position_embeddings",
        ];
        let entries = table.into_iter().flatten();
        let mut stated = entries
            .filter(|(_, value)| !value.is_null())
            .map(|(key, _)| key.as_str());
        if let Some(key) = stated.find(|key| !known.contains(key) && !used.contains(key)) {
            let kind = kind.unwrap_or_default();
            let problem = format!("has `{key}`, which the rope type `{kind}` does not use here");
            return Err(self.fault(field, problem));
        }
        Ok(RopeConfig { theta, scaling })
    }

    /// For each layer the window that it sees, if it sees no more.
    fn windows(&self, family: Windows, layers: usize) -> Result<Vec<Option<usize>>, ArchError> {
        let f = &self.fields;
        let window = match family {
            Windows::None => None,
            Windows::All { window }
            | Windows::Alternate { window }
            | Windows::Upper { window, .. } => {
                self.or_default("sliding_window", f.sliding_window, Some(window))
            }
        };
        let upper = matches!(family, Windows::Upper { .. });
        let window = window.filter(|_| !upper || f.use_sliding_window.unwrap_or(false));
        if window == Some(0) {
            return Err(self.fault("sliding_window", "is zero"));
        }
        if let Some(types) = &f.layer_types {
            return self.listed_windows(types, window, layers);
        }
        let sees_window = |layer: usize| match family {
            Windows::None | Windows::All { .. } => true,
            Windows::Alternate { .. } => layer.is_multiple_of(2),
            Windows::Upper { from, .. } => layer >= f.max_window_layers.unwrap_or(from),
        };
        let windows = (0..layers).map(|layer| window.filter(|_| sees_window(layer)));
        Ok(windows.collect())
    }

    /// [`Self::windows`] as `layer_types` lists them.
    fn listed_windows(
        &self,
        types: &[String],
        window: Option<usize>,
        layers: usize,
    ) -> Result<Vec<Option<usize>>, ArchError> {
        if types.len() != layers {
            return Err(self.fault(
                "layer_types",
                format!(
                    "has {} for {}",
                    counted(types.len(), "entry"),
                    counted(layers, "layer")
                ),
            ));
        }
        let listed = types.iter().map(|kind| match kind.as_str() {
            "full_attention" => Ok(None),
            "sliding_attention" if window.is_some() => Ok(window),
            other => Err(self.fault(
                "layer_types",
                format!("holds `{other}`, which this model has no window for"),
            )),
        });
        listed.collect()
    }

    fn stored_dtype(&self) -> Result<FloatFormat, ArchError> {
        let (field, name) = match (&self.fields.dtype, &self.fields.torch_dtype) {
            (Some(name), _) => ("dtype", name.as_str()),
            (None, Some(name)) => ("torch_dtype", name.as_str()),
            (None, None) => ("dtype", "float32"),
        };
        let mut all = FloatFormat::ALL.into_iter();
        all.find(|format| format.name() == name)
            .ok_or_else(|| self.fault(field, format!("is `{name}`, no float format known here")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::cost::parameter_count;

    fn parse(extra: &str) -> Result<DecoderConfig, ArchError> {
        let text = format!(
            r#"{{"vocab_size": 9, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 4,
                 "num_attention_heads": 2, "max_position_embeddings": 64, {extra}}}"#
        );
        DecoderConfig::from_json(Path::new("config.json"), &text)
    }

    #[test]
    fn both_generations_of_spelling_give_one_config() {
        let old = parse(
            r#""model_type": "llama", "rope_theta": 500000.0, "torch_dtype": "bfloat16",
               "rope_scaling": {"type": "linear", "factor": 4.0}"#,
        );
        let new = parse(
            r#""architectures": ["LlamaForCausalLM"], "dtype": "bfloat16", "head_dim": 4,
               "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500000.0}"#,
        );
        let (old, new) = (old.unwrap(), new.unwrap());
        assert_eq!(old, new);
        assert!((new.rope.theta - 500_000.0).abs() < 1e-9);
        assert_eq!(new.stored_dtype, FloatFormat::Bf16);
    }

    #[test]
    fn an_unknown_architecture_is_named_and_the_known_are_listed() {
        let error = parse(r#""architectures": ["MambaForCausalLM"]"#)
            .unwrap_err()
            .to_string();
        assert!(error.contains("`MambaForCausalLM`"), "{error}");
        assert!(
            error.contains("known are LlamaForCausalLM, MistralForCausalLM"),
            "{error}"
        );
    }

    #[test]
    fn a_class_with_a_scalar_head_is_its_family() {
        for name in ["LlamaForSequenceClassification", "LlamaRewardModel"] {
            let config = parse(&format!(r#""architectures": ["{name}"]"#)).unwrap();
            assert_eq!(config.architecture, "LlamaForCausalLM");
        }
        assert!(parse(r#""architectures": ["MambaForSequenceClassification"]"#).is_err());
    }

    #[test]
    fn an_unknown_rope_type_is_refused() {
        let text = r#""model_type": "llama", "rope_scaling": {"rope_type": "yarn", "factor": 4.0}"#;
        let error = parse(text).unwrap_err().to_string();
        assert!(
            error.contains("has the rope type `yarn`; known are default, linear and llama3"),
            "{error}"
        );
    }

    #[test]
    fn gemma2_alternates_windows_and_scales_embeddings() {
        let config = parse(
            r#""architectures": ["Gemma2ForCausalLM"], "head_dim": 6, "sliding_window": 16,
               "num_key_value_heads": 2,
               "query_pre_attn_scalar": 16, "attn_logit_softcapping": 50.0,
               "final_logit_softcapping": 30.0, "hidden_activation": "gelu_pytorch_tanh""#,
        )
        .unwrap();
        assert_eq!(config.windows, [Some(16), None, Some(16), None]);
        assert!((config.attention_scale - 0.25).abs() < 1e-15);
        assert_eq!(config.embedding_scale, Some(8f64.sqrt()));
        assert!(config.tied && config.post_norms && config.logit_softcap == Some(30.0));
    }

    #[test]
    fn keys_that_contradict_each_other_or_make_no_angle_are_refused() {
        let said = |text: &str| parse(text).unwrap_err().to_string();
        let two = said(r#""architectures": ["LlamaForCausalLM"], "model_type": "qwen2""#);
        assert!(
            two.contains("`model_type`") && two.contains("`LlamaForCausalLM`"),
            "{two}"
        );
        let remote = parse(r#""architectures": ["LlamaForCausalLM"], "model_type": "yi""#);
        assert_eq!(remote.unwrap().architecture, "LlamaForCausalLM");
        let zero = said(r#""model_type": "llama", "rope_theta": 0"#);
        assert!(
            zero.contains("`rope_theta`") && zero.contains("not above 0"),
            "{zero}"
        );
        let factor = r#""rope_parameters": {"rope_type": "linear", "factor": -1}"#;
        let below = said(&format!(r#""model_type": "llama", {factor}"#));
        assert!(
            below.contains("has -1 for `factor`, not above 0"),
            "{below}"
        );
    }

    // transformers takes a Mistral with `layer_types` for a Ministral.
    #[test]
    fn layer_types_of_a_mistral_say_which_layers_see_a_window() {
        let windows = |more: &str| {
            let text = format!(
                r#""model_type": "mistral", "num_key_value_heads": 2, "sliding_window": 8{more}"#
            );
            parse(&text).unwrap().windows
        };
        assert_eq!(windows(""), [Some(8); 4]);
        assert_eq!(windows(r#", "layer_types": null"#), [Some(8); 4]);
        let (slides, full) = ("sliding_attention", "full_attention");
        let listed = format!(r#", "layer_types": ["{full}", "{slides}", "{slides}", "{full}"]"#);
        assert_eq!(windows(&listed), [None, Some(8), Some(8), None]);
    }

    #[test]
    fn zero_heads_and_missing_widths_are_errors() {
        let error = parse(r#""model_type": "llama", "num_key_value_heads": 0"#).unwrap_err();
        assert!(
            error.to_string().contains("`num_key_value_heads`"),
            "{error}"
        );
        let text = r#"{"model_type": "llama"}"#;
        let error = DecoderConfig::from_json(Path::new("config.json"), text).unwrap_err();
        assert!(error.to_string().contains("`hidden_size`"), "{error}");
    }

    #[test]
    fn sizes_that_no_model_has_are_refused() {
        let read = |key: &str, value: usize| {
            let usual = [
                ("vocab_size", 9),
                ("hidden_size", 8),
                ("intermediate_size", 12),
                ("num_hidden_layers", 4),
                ("num_attention_heads", 2),
                ("num_key_value_heads", 2),
                ("head_dim", 4),
            ];
            let sizes = usual.map(|(name, size)| {
                let size = if name == key { value } else { size };
                format!("\"{name}\": {size}")
            });
            let text = format!(r#"{{"model_type": "llama", {}}}"#, sizes.join(", "));
            DecoderConfig::from_json(Path::new("config.json"), &text)
        };
        for (key, most) in [
            ("vocab_size", MOST_WIDTH),
            ("hidden_size", MOST_WIDTH),
            ("intermediate_size", MOST_WIDTH),
            ("num_hidden_layers", MOST_COUNT),
            ("num_attention_heads", MOST_COUNT),
            ("num_key_value_heads", MOST_COUNT),
            ("head_dim", MOST_COUNT),
        ] {
            // Key heads divide the query heads, of which there are two here.
            assert_eq!(
                read(key, most).is_ok(),
                key != "num_key_value_heads",
                "{key}"
            );
            for value in [most + 2, 1_000_000_000_000_000] {
                let error = read(key, value).unwrap_err().to_string();
                let want = format!("`{key}` in `config.json` is {value}, more than any model has");
                assert_eq!(error, want);
            }
        }
        let mut widest = read("vocab_size", 9).unwrap();
        widest.hidden_size = MOST_WIDTH;
        (widest.heads, widest.head_dim) = (MOST_COUNT, MOST_COUNT);
        widest.windows = vec![None; 1 << 10];
        assert_eq!(parameter_count(&widest), u64::MAX);
    }

    // Each number is that of `LlamaConfig()` and its siblings in transformers 5.24, given the widths of
    // `parse` only: (kv heads, positions, tied, window of the first layer, caps).
    #[test]
    fn an_absent_key_means_what_the_class_means_by_it() {
        let of = |class: &str, more: &str| {
            let text = format!(
                r#"{{"vocab_size": 9, "hidden_size": 64, "intermediate_size": 12,
                     "num_hidden_layers": 4, "num_attention_heads": 32,
                     "architectures": ["{class}"]{more}}}"#
            );
            DecoderConfig::from_json(Path::new("config.json"), &text).unwrap()
        };
        let told = |c: DecoderConfig| {
            let caps = (c.attention_softcap, c.logit_softcap);
            (c.kv_heads, c.max_positions, c.tied, c.windows[0], caps)
        };
        let none = (None, None);
        let caps = (Some(50.0), Some(30.0));
        for (class, want) in [
            ("LlamaForCausalLM", (32, 2048, false, None, none)),
            ("MistralForCausalLM", (8, 131_072, false, Some(4096), none)),
            ("GemmaForCausalLM", (16, 8192, true, None, none)),
            ("Gemma2ForCausalLM", (4, 8192, true, Some(4096), caps)),
            ("Qwen2ForCausalLM", (32, 32_768, false, None, none)),
            ("Qwen3ForCausalLM", (32, 32_768, false, None, none)),
        ] {
            assert_eq!(told(of(class, "")), want, "{class}");
        }
        let null = r#", "attn_logit_softcapping": null, "final_logit_softcapping": null,
            "sliding_window": null, "num_key_value_heads": 8"#;
        let want = (8, 8192, true, None, none);
        assert_eq!(told(of("Gemma2ForCausalLM", null)), want);
        let null = r#", "sliding_window": null, "num_key_value_heads": null"#;
        let want = (32, 131_072, false, None, none);
        assert_eq!(told(of("MistralForCausalLM", null)), want);
        let windows = of(
            "Qwen2ForCausalLM",
            r#", "use_sliding_window": true, "max_window_layers": 3"#,
        );
        assert_eq!(windows.windows, [None, None, None, Some(4096)]);
    }

    #[test]
    fn a_key_that_nothing_heeds_is_refused() {
        let told = |extra: &str| {
            parse(&format!(r#""model_type": "llama", {extra}"#))
                .unwrap_err()
                .to_string()
        };
        for (extra, field) in [
            (r#""attention_dropout": 0.1"#, "attention_dropout"),
            (
                r#""quantization_config": {"bits": 4}"#,
                "quantization_config",
            ),
            (
                r#""attn_logit_softcapping": 50.0"#,
                "attn_logit_softcapping",
            ),
            (r#""residual_multiplier": 0.22"#, "residual_multiplier"),
            (r#""num_local_experts": 8"#, "num_local_experts"),
            (
                r#""rope_scaling": {"type": "default", "factor": 2.0}"#,
                "rope_scaling",
            ),
        ] {
            let error = told(extra);
            assert!(error.starts_with(&format!("`{field}` in ")), "{error}");
        }
        let neutral = r#""model_type": "llama", "attention_dropout": 0.0, "quantization_config": null,
            "use_bidirectional_attention": false, "logits_scaling": 1, "pretraining_tp": 1"#;
        assert!(parse(neutral).is_ok());
    }
}
