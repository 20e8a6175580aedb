//! The families of decoders: what a `config.json` of each means and leaves unsaid.
//!
//! What a file leaves unsaid is taken from transformers' configuration class of the family (5.24), also
//! where that looks odd, so that both read one file as one model.
//!
//! A family is one entry of [`FAMILIES`], written as what sets it apart from [`LLAMA`]. Everything
//! else, from the names of tensors to the operations of a step, follows from the
//! [`DecoderConfig`](crate::arch::DecoderConfig) that is read by it.

use crate::arch::layer::{GateActivation, NormWeight};

/// What distinguishes the `config.json` of one family from that of another.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent features, each on or off"
)]
pub(super) struct Family {
    /// The class with a head for tokens, as `architectures` names it.
    pub(super) class: &'static str,
    /// `model_type`, for files that name no class.
    pub(super) model_type: &'static str,
    /// `head_dim` where the file has none; absent: the width divided by the heads.
    pub(super) head_dim: Option<usize>,
    /// `num_key_value_heads` where the file does not have the key; absent, or null in the file: as many
    /// as heads.
    pub(super) kv_heads: Option<usize>,
    /// `max_position_embeddings` where the file does not say.
    pub(super) max_positions: usize,
    /// `tie_word_embeddings` where the file does not say.
    pub(super) tied: bool,
    /// What norm weights mean.
    pub(super) norm_weight: NormWeight,
    /// The activation of the gate where the file does not say.
    pub(super) activation: GateActivation,
    /// The field that says it, instead of `hidden_act`, is `hidden_activation`.
    pub(super) hidden_activation: bool,
    /// Which projections of the attention have biases.
    pub(super) attention_bias: AttentionBias,
    /// Norms on each query and key head.
    pub(super) qk_norm: bool,
    /// Norms after attention and feed-forward part as well as before.
    pub(super) post_norms: bool,
    /// Embeddings are multiplied by the square root of the width.
    pub(super) scaled_embedding: bool,
    /// `query_pre_attn_scalar` where the file has none; absent: scores are divided by the square
    /// root of the head width, whatever the file says.
    pub(super) query_scalar: Option<f64>,
    /// `attn_logit_softcapping` and `final_logit_softcapping` where the file does not have the keys
    /// (null: no cap); absent: neither is meant.
    pub(super) softcaps: Option<[f64; 2]>,
    /// Which layers see a window only.
    pub(super) windows: Windows,
}

/// Which projections of the attention have biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttentionBias {
    /// All four or none, as `attention_bias` says.
    AsStated,
    /// Those of queries, keys and values, whatever the file says.
    QueriesKeysValues,
}

/// Which layers see a window only, where `layer_types` does not list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Windows {
    /// None; `sliding_window` means nothing.
    None,
    /// All, unless `sliding_window` is null. With `layer_types` transformers takes a Mistral for a Ministral, and so do we.
    All {
        /// `sliding_window` where the file does not have the key.
        window: usize,
    },
    /// Every second one, beginning with the first.
    Alternate {
        /// `sliding_window` where the file does not have the key.
        window: usize,
    },
    /// Those from `max_window_layers` on, if `use_sliding_window` is set.
    Upper {
        /// `sliding_window` where the file does not have the key.
        window: usize,
        /// `max_window_layers` where the file has none.
        from: usize,
    },
}

/// Llama 1 to 3, SmolLM 1 and 2, and many others.
const LLAMA: Family = Family {
    class: "LlamaForCausalLM",
    model_type: "llama",
    head_dim: None,
    kv_heads: None,
    max_positions: 2048,
    tied: false,
    norm_weight: NormWeight::Factor,
    activation: GateActivation::Silu,
    hidden_activation: false,
    attention_bias: AttentionBias::AsStated,
    qk_norm: false,
    post_norms: false,
    scaled_embedding: false,
    query_scalar: None,
    softcaps: None,
    windows: Windows::None,
};

const MISTRAL: Family = Family {
    class: "MistralForCausalLM",
    model_type: "mistral",
    kv_heads: Some(8),
    max_positions: 131_072,
    windows: Windows::All { window: 4096 },
    ..LLAMA
};

const GEMMA: Family = Family {
    class: "GemmaForCausalLM",
    model_type: "gemma",
    head_dim: Some(256),
    kv_heads: Some(16),
    max_positions: 8192,
    tied: true,
    norm_weight: NormWeight::FactorMinusOne,
    // Files of 2024 also say `hidden_act: gelu`, and mean the tanh form.
    activation: GateActivation::GeluTanh,
    hidden_activation: true,
    scaled_embedding: true,
    ..LLAMA
};

const GEMMA2: Family = Family {
    class: "Gemma2ForCausalLM",
    model_type: "gemma2",
    kv_heads: Some(4),
    post_norms: true,
    query_scalar: Some(256.0),
    softcaps: Some([50.0, 30.0]),
    windows: Windows::Alternate { window: 4096 },
    ..GEMMA
};

const QWEN2: Family = Family {
    class: "Qwen2ForCausalLM",
    model_type: "qwen2",
    attention_bias: AttentionBias::QueriesKeysValues,
    kv_heads: Some(32),
    max_positions: 32_768,
    windows: Windows::Upper {
        window: 4096,
        from: 28,
    },
    ..LLAMA
};

const QWEN3: Family = Family {
    class: "Qwen3ForCausalLM",
    model_type: "qwen3",
    head_dim: Some(128),
    attention_bias: AttentionBias::AsStated,
    qk_norm: true,
    ..QWEN2
};

/// All families, in the order in which an error lists them.
pub(super) const FAMILIES: &[Family] = &[LLAMA, MISTRAL, GEMMA, GEMMA2, QWEN2, QWEN3];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::cost::parameter_count;
    use crate::arch::hf_config::read;
    use std::path::Path;

    /// What one adds for a family of known features.
    const NEW: Family = Family {
        class: "NewForCausalLM",
        model_type: "new",
        norm_weight: NormWeight::FactorMinusOne,
        qk_norm: true,
        post_norms: true,
        windows: Windows::Alternate { window: 8 },
        ..LLAMA
    };

    // By hand: of a layer 16 · 16 weights in q and o each, 16 · 8 in k and v, 3 · 16 · 24 in the
    // feed-forward part, four norms of 16 and two of 8; then two tables of 10 · 16 and a norm.
    #[test]
    fn a_family_of_known_features_is_one_constant() {
        let text = r#"{"architectures": ["NewForSequenceClassification"], "vocab_size": 10,
            "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
            "num_attention_heads": 2, "num_key_value_heads": 1}"#;
        let config = read(&[LLAMA, NEW], Path::new("config.json"), text).unwrap();
        assert_eq!(config.architecture, "NewForCausalLM");
        assert_eq!(config.windows, [Some(8), None, Some(8)]);
        assert!(config.qk_norm && config.post_norms && !config.tied);
        let layer = 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24 + 4 * 16 + 2 * 8;
        assert_eq!(parameter_count(&config), 3 * layer + 2 * 160 + 16);
        let unknown = read(&[LLAMA], Path::new("config.json"), text).unwrap_err();
        assert!(
            unknown.to_string().ends_with("known are LlamaForCausalLM"),
            "{unknown}"
        );
    }

    #[test]
    fn no_two_families_share_a_name() {
        for (i, family) in FAMILIES.iter().enumerate() {
            let others = FAMILIES.iter().skip(i + 1);
            let same = |f: &Family| f.class == family.class || f.model_type == family.model_type;
            assert!(!others.into_iter().any(same), "{}", family.class);
        }
    }
}
