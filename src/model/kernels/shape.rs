//! The forms that parts of a decoder layer take.

/// Shape and form of one attention layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads H.
    pub heads: usize,
    /// Key and value heads K; divides H.
    pub kv_heads: usize,
    /// Head width E.
    pub head_dim: usize,
    /// Factor on the dot products.
    pub scale: f64,
    /// Scores are bounded by `cap * tanh(score / cap)` (Gemma 2).
    pub softcap: Option<f64>,
    /// A token sees at most so many tokens, itself included (Mistral).
    pub window: Option<usize>,
}

impl AttentionShape {
    /// The first token that token `i` of a segment, its prefix included, sees.
    #[expect(
        clippy::inline_always,
        reason = "called by kernels that are compiled for wider instruction sets"
    )]
    #[inline(always)]
    pub fn first_key(&self, i: usize) -> usize {
        self.window.map_or(0, |w| (i + 1).saturating_sub(w))
    }

    /// Width of a token's queries, `H * E`.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of a token's keys, and of its values, `K * E`.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// The activation of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateActivation {
    /// `x * sigmoid(x)` (SwiGLU).
    Silu,
    /// GELU by its tanh approximation (GeGLU as in Gemma).
    GeluTanh,
}
