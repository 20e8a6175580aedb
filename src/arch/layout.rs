//! Names and shapes of the tensors of a decoder, as Hugging Face writes them.

use crate::arch::config::DecoderConfig;
use std::collections::BTreeMap;

/// Name of the embedding, (V, D); also the output head where that is tied.
pub const EMBEDDING: &str = "model.embed_tokens.weight";

impl DecoderConfig {
    /// Names and shapes of all tensors, as Hugging Face writes them.
    pub fn tensors(&self) -> BTreeMap<String, Vec<usize>> {
        tensors(self)
    }

    /// Whether a tensor that [`Self::tensors`] does not name may stand in a file all the same:
    /// buffers of old checkpoints, and a copy of the embedding as head.
    pub(crate) fn may_ignore(&self, name: &str) -> bool {
        name.ends_with("rotary_emb.inv_freq") || (self.tied && name == "lm_head.weight")
    }
}

fn tensors(config: &DecoderConfig) -> BTreeMap<String, Vec<usize>> {
    let (d, f, e) = (
        config.hidden_size,
        config.intermediate_size,
        config.head_dim,
    );
    let (q, kv) = (config.heads * e, config.kv_heads * e);
    let mut all = BTreeMap::new();
    let mut put = |name: String, shape: &[usize]| {
        all.insert(name, shape.to_vec());
    };
    put(EMBEDDING.into(), &[config.vocab_size, d]);
    put("model.norm.weight".into(), &[d]);
    if !config.tied {
        put("lm_head.weight".into(), &[config.vocab_size, d]);
    }
    for layer in 0..config.layers() {
        let mut linear = |name: &str, rows: usize, cols: usize, bias: bool| {
            put(format!("model.layers.{layer}.{name}.weight"), &[rows, cols]);
            if bias {
                put(format!("model.layers.{layer}.{name}.bias"), &[rows]);
            }
        };
        linear("self_attn.q_proj", q, d, config.qkv_bias);
        linear("self_attn.k_proj", kv, d, config.qkv_bias);
        linear("self_attn.v_proj", kv, d, config.qkv_bias);
        linear("self_attn.o_proj", d, q, config.output_bias);
        linear("mlp.gate_proj", f, d, config.mlp_bias);
        linear("mlp.up_proj", f, d, config.mlp_bias);
        linear("mlp.down_proj", d, f, config.mlp_bias);
        let mut norms = vec![("input_layernorm", d), ("post_attention_layernorm", d)];
        if config.post_norms {
            norms.extend([
                ("pre_feedforward_layernorm", d),
                ("post_feedforward_layernorm", d),
            ]);
        }
        if config.qk_norm {
            norms.extend([("self_attn.q_norm", e), ("self_attn.k_norm", e)]);
        }
        for (name, width) in norms {
            put(format!("model.layers.{layer}.{name}.weight"), &[width]);
        }
    }
    all
}
