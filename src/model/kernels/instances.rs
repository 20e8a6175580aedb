//! Kernels of both widths, compiled here.
//!
//! Without this they would be compiled in the crate that calls them, which is not optimised where tests
//! are built. (A crate of level 0 takes what a crate of level 1 has compiled; at higher levels, in releases,
//! everything is compiled where it is called, and this does nothing.)

use crate::attention::{attention_backward, attention_forward};
use crate::bf16::{add_rounded, round, to_bf16, to_f32};
use crate::gated::{gated_backward, gated_both, gated_forward};
use crate::head::Logits;
use crate::matmul::{OperandB, PackedB, matmul, matmul_packed};
use crate::norm::{norm_backward, norm_rows, norm_rows_backward};
use crate::real::Real;
use crate::rope::{Rotation, rotate_rows};
use std::hint::black_box;

fn of<F: Real>() {
    let kernels = [
        attention_forward::<F> as *const (),
        attention_backward::<F> as *const (),
        add_rounded::<F> as *const (),
        round::<F> as *const (),
        to_bf16::<F> as *const (),
        to_f32::<F> as *const (),
        gated_forward::<F> as *const (),
        gated_backward::<F> as *const (),
        gated_both::<F> as *const (),
        Logits::<F>::forward as *const (),
        Logits::<F>::backward as *const (),
        PackedB::<F>::new as *const (),
        OperandB::<F>::new as *const (),
        OperandB::<F>::multiply as *const (),
        matmul::<F> as *const (),
        matmul_packed::<F> as *const (),
        norm_rows::<F> as *const (),
        norm_rows_backward::<F> as *const (),
        norm_backward::<F> as *const (),
        rotate_rows::<F> as *const (),
        Rotation::table::<F> as *const (),
    ];
    black_box(kernels);
}

/// Of f32, which models are made of, and f64, with which gradients are tested.
#[doc(hidden)]
pub fn instances() {
    of::<f32>();
    of::<f64>();
}
