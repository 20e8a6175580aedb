//! Rows of a table by token id, with a gradient that touches only those rows.

use crate::model::ops::storage::{Path, by_dtype, gradient, operand, path, result, with_slice};
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

/// `table (V, D)`, `tokens (T,)` -> `(T, D)`.
///
/// # Errors
/// A token is outside the table.
pub fn embedding(table: &Tensor, tokens: &[u32]) -> Result<Tensor> {
    match path(table) {
        Path::F32 | Path::F64 => table.contiguous()?.apply_op1(EmbeddingOp {
            tokens: tokens.to_vec(),
        }),
        Path::Upcast => {
            let wide = table.to_dtype(DType::F32)?;
            embedding(&wide, tokens)?.to_dtype(table.dtype())
        }
        Path::Naive => embedding_naive(table, tokens),
    }
}

/// [`embedding`] out of candle's own ops.
///
/// # Errors
/// A token is outside the table.
pub fn embedding_naive(table: &Tensor, tokens: &[u32]) -> Result<Tensor> {
    let ids = Tensor::from_slice(tokens, tokens.len(), table.device())?;
    table.index_select(&ids, 0)
}

struct EmbeddingOp {
    tokens: Vec<u32>,
}

impl CustomOp1 for EmbeddingOp {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, table: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (v, d) = layout.shape().dims2()?;
        if let Some(id) = self.tokens.iter().find(|&&id| id as usize >= v) {
            candle_core::bail!("embedding: token {id} in a vocabulary of {v}");
        }
        by_dtype!(table.dtype(), F => {
            let table = operand::<F>("embedding", table, layout)?;
            let mut y = Vec::with_capacity(self.tokens.len() * d);
            for &id in &self.tokens {
                y.extend_from_slice(&table[id as usize * d..(id as usize + 1) * d]);
            }
            Ok(result(y, (self.tokens.len(), d)))
        })
    }

    /// `dL/dtable[v] = sum of g[t] over the places t of v`, in the order of t.
    fn bwd(&self, table: &Tensor, _y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let (v, d) = table.dims2()?;
        by_dtype!(table.dtype(), F => {
            let grad = with_slice::<F, _>("embedding", g, |g| {
                let mut grad = vec![0.0; v * d];
                for (&id, g) in self.tokens.iter().zip(g.chunks_exact(d)) {
                    let row = &mut grad[id as usize * d..(id as usize + 1) * d];
                    row.iter_mut().zip(g).for_each(|(a, b)| *a += b);
                }
                Ok(grad)
            })?;
            Ok(Some(gradient(grad, table)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::check::{agree, gradients_match, noise};

    #[test]
    fn embedding_is_its_naive_twin() -> Result<()> {
        let table = noise(&[7, 5], 1, DType::F32)?;
        let ids = [3, 0, 3, 6];
        agree(
            &[&table],
            |t| embedding(&t[0], &ids),
            |t| embedding_naive(&t[0], &ids),
        )
    }

    #[test]
    fn embedding_gradient_matches_central_differences() -> Result<()> {
        let table = noise(&[7, 5], 1, DType::F64)?;
        gradients_match(&[&table], |t| embedding(&t[0], &[3, 0, 3, 6]))
    }

    #[test]
    fn a_token_outside_the_vocabulary_is_an_error() -> Result<()> {
        let table = noise(&[7, 5], 1, DType::F32)?;
        let error = embedding(&table, &[7]).unwrap_err().to_string();
        assert!(error.contains("token 7 in a vocabulary of 7"), "{error}");
        Ok(())
    }
}
