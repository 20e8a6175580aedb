//! Names and shapes of the tensors of a decoder, as Hugging Face writes them.

use crate::arch::config::DecoderConfig;
use std::collections::BTreeMap;

/// Name of the embedding, (V, D); also the output head where that is tied.
pub const EMBEDDING: &str = "model.embed_tokens.weight";

/// Whether weight decay reaches a parameter: matrices that are not norms.
pub fn decays(name: &str, rank: usize) -> bool {
    rank >= 2 && !name.contains("norm")
}

/// A linear map that every layer has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Projection {
    /// Its name within the layer, for example `self_attn.q_proj`.
    pub(super) name: &'static str,
    /// Rows of the weight.
    pub(super) outputs: usize,
    /// Columns of the weight.
    pub(super) inputs: usize,
    /// Whether there is a bias, one number an output.
    bias: bool,
}

impl Projection {
    /// Elements of the weight.
    pub(super) fn weights(self) -> f64 {
        self.outputs as f64 * self.inputs as f64
    }
}

impl DecoderConfig {
    /// Names and shapes of all tensors, as Hugging Face writes them.
    pub fn tensors(&self) -> BTreeMap<String, Vec<usize>> {
        let d = self.hidden_size;
        let mut all = BTreeMap::from([
            (EMBEDDING.to_owned(), vec![self.vocab_size, d]),
            ("model.norm.weight".to_owned(), vec![d]),
        ]);
        if !self.tied {
            all.insert("lm_head.weight".to_owned(), vec![self.vocab_size, d]);
        }
        let (projections, norms) = (self.projections(), self.norms());
        for layer in 0..self.layers() {
            let name = |name: &str, part: &str| format!("model.layers.{layer}.{name}.{part}");
            for map in projections {
                all.insert(name(map.name, "weight"), vec![map.outputs, map.inputs]);
                if map.bias {
                    all.insert(name(map.name, "bias"), vec![map.outputs]);
                }
            }
            for &(norm, width) in &norms {
                all.insert(name(norm, "weight"), vec![width]);
            }
        }
        all
    }

    /// Whether a tensor that [`Self::tensors`] does not name may stand in a file all the same:
    /// buffers of old checkpoints, and a copy of the embedding as head.
    pub(crate) fn may_ignore(&self, name: &str) -> bool {
        name.ends_with("rotary_emb.inv_freq") || (self.tied && name == "lm_head.weight")
    }

    /// The linear maps of each layer, in the order in which they are computed.
    pub(super) fn projections(&self) -> [Projection; 7] {
        let (d, f) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        [
            ("self_attn.q_proj", q, d, self.qkv_bias),
            ("self_attn.k_proj", kv, d, self.qkv_bias),
            ("self_attn.v_proj", kv, d, self.qkv_bias),
            ("self_attn.o_proj", d, q, self.output_bias),
            ("mlp.gate_proj", f, d, self.mlp_bias),
            ("mlp.up_proj", f, d, self.mlp_bias),
            ("mlp.down_proj", d, f, self.mlp_bias),
        ]
        .map(|(name, outputs, inputs, bias)| Projection {
            name,
            outputs,
            inputs,
            bias,
        })
    }

    /// Names and widths of the norms of each layer.
    fn norms(&self) -> Vec<(&'static str, usize)> {
        let (d, e) = (self.hidden_size, self.head_dim);
        let mut norms = vec![("input_layernorm", d), ("post_attention_layernorm", d)];
        if self.post_norms {
            norms.extend([
                ("pre_feedforward_layernorm", d),
                ("post_feedforward_layernorm", d),
            ]);
        }
        if self.qk_norm {
            norms.extend([("self_attn.q_norm", e), ("self_attn.k_norm", e)]);
        }
        norms
    }
}
