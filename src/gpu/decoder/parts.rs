//! What a decoder consists of, by name, in the order in which its parameters lie in memory.

use crate::arch::{DecoderConfig, EMBEDDING};

/// A linear map: `y = x weight^T + bias`.
#[derive(Clone, Debug)]
pub struct Linear<W> {
    /// `(out, in)`.
    pub weight: W,
    /// `(out,)`.
    pub bias: Option<W>,
}

/// What one layer consists of.
#[derive(Clone, Debug)]
pub struct LayerParts<W> {
    /// Norm before attention, `(D,)`.
    pub input_norm: W,
    /// To queries, `(H * E, D)`.
    pub q: Linear<W>,
    /// To keys, `(K * E, D)`.
    pub k: Linear<W>,
    /// To values, `(K * E, D)`.
    pub v: Linear<W>,
    /// Norms of each query and of each key head, `(E,)` both.
    pub qk_norms: Option<(W, W)>,
    /// Attention's output, `(D, H * E)`.
    pub o: Linear<W>,
    /// Norm of attention's output before it is added, `(D,)` (Gemma 2).
    pub attention_post_norm: Option<W>,
    /// Norm before the feed-forward part, `(D,)`.
    pub mlp_norm: W,
    /// `(F, D)`.
    pub gate: Linear<W>,
    /// `(F, D)`.
    pub up: Linear<W>,
    /// `(D, F)`.
    pub down: Linear<W>,
    /// Norm of the feed-forward part's output before it is added, `(D,)` (Gemma 2).
    pub mlp_post_norm: Option<W>,
}

/// What a decoder consists of.
#[derive(Clone, Debug)]
pub struct Parts<W> {
    /// `(V, D)`.
    pub embedding: W,
    /// From the first to the last.
    pub layers: Vec<LayerParts<W>>,
    /// Norm before the head, `(D,)`.
    pub norm: W,
    /// `(V, D)`; absent: the embedding.
    pub head: Option<W>,
}

impl<W> Parts<W> {
    /// Asks for every parameter by its name, as Hugging Face writes it, in the order of memory.
    ///
    /// # Errors
    /// What `take` says.
    pub fn build<E>(
        config: &DecoderConfig,
        mut take: impl FnMut(&str) -> Result<W, E>,
    ) -> Result<Self, E> {
        let take = &mut take;
        Ok(Self {
            embedding: take(EMBEDDING)?,
            layers: (0..config.layers())
                .map(|layer| LayerParts::build(config, &format!("model.layers.{layer}"), take))
                .collect::<Result<_, E>>()?,
            norm: take("model.norm.weight")?,
            head: (!config.tied).then(|| take("lm_head.weight")).transpose()?,
        })
    }

    /// The matrix of the head, `(V, D)`.
    pub fn head(&self) -> &W {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

impl<W> LayerParts<W> {
    fn build<E>(
        config: &DecoderConfig,
        layer: &str,
        take: &mut impl FnMut(&str) -> Result<W, E>,
    ) -> Result<Self, E> {
        let mut weight = |name: &str| take(&format!("{layer}.{name}.weight"));
        // Gemma 2 calls the norm after attention what the others call that before the feed-forward part.
        let mlp_norm = if config.post_norms {
            "pre_feedforward_layernorm"
        } else {
            "post_attention_layernorm"
        };
        let input_norm = weight("input_layernorm")?;
        // Matrices that take the same input lie side by side.
        let [q, k, v] =
            ["q_proj", "k_proj", "v_proj"].map(|name| weight(&format!("self_attn.{name}")));
        let (q, k, v) = (q?, k?, v?);
        let qk_norms = if config.qk_norm {
            Some((weight("self_attn.q_norm")?, weight("self_attn.k_norm")?))
        } else {
            None
        };
        let o = weight("self_attn.o_proj")?;
        let mut post_norm = |name: &str| config.post_norms.then(|| weight(name)).transpose();
        let attention_post_norm = post_norm("post_attention_layernorm")?;
        let mlp_post_norm = post_norm("post_feedforward_layernorm")?;
        let mlp_norm = weight(mlp_norm)?;
        let (gate, up) = (weight("mlp.gate_proj")?, weight("mlp.up_proj")?);
        let down = weight("mlp.down_proj")?;
        let mut linear = |weight: W, name: &str, has_bias: bool| {
            let bias = has_bias.then(|| take(&format!("{layer}.{name}.bias")));
            let bias = bias.transpose()?;
            Ok(Linear { weight, bias })
        };
        Ok(Self {
            input_norm,
            q: linear(q, "self_attn.q_proj", config.qkv_bias)?,
            k: linear(k, "self_attn.k_proj", config.qkv_bias)?,
            v: linear(v, "self_attn.v_proj", config.qkv_bias)?,
            qk_norms,
            o: linear(o, "self_attn.o_proj", config.output_bias)?,
            attention_post_norm,
            mlp_norm,
            gate: linear(gate, "mlp.gate_proj", config.mlp_bias)?,
            up: linear(up, "mlp.up_proj", config.mlp_bias)?,
            down: linear(down, "mlp.down_proj", config.mlp_bias)?,
            mlp_post_norm,
        })
    }
}
