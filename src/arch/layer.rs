//! The forms that parts of a decoder layer take.

pub use lions_kernels::shape::{AttentionShape, GateActivation};

/// What the weight of a norm means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormWeight {
    /// The factor itself.
    Factor,
    /// The factor minus one (Gemma).
    FactorMinusOne,
}

impl NormWeight {
    /// What is added to the weight to get the factor.
    pub(crate) fn offset(self) -> f64 {
        match self {
            Self::Factor => 0.0,
            Self::FactorMinusOne => 1.0,
        }
    }
}
