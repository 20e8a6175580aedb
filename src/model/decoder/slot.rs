//! The weights that a layer may have.

/// Places of a layer's weights in `fused_layer::Weights` and of their gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    InputNorm,
    Q,
    K,
    V,
    QBias,
    KBias,
    VBias,
    QNorm,
    KNorm,
    O,
    OBias,
    AttentionPostNorm,
    MlpNorm,
    Gate,
    Up,
    Down,
    GateBias,
    UpBias,
    DownBias,
    MlpPostNorm,
}

/// Number of slots.
pub(crate) const SLOTS: usize = 20;
