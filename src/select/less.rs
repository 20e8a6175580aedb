//! LESS (Xia et al. 2024): rows whose gradients point where those of a target set point.

use super::context::SelectContext;
use super::error::SelectError;
use super::projection::{Projection, dot};
use super::rows::RowsRef;
use super::work::Work;
use crate::base::SeedTree;
use crate::config::select::LessRecipe;
use crate::data::{
    TokenBatch, TokenizedExample, TokenizedPair, document_batches, load_chat, load_pairs,
    pair_batches,
};
use crate::train::Learner;

/// The mean, over the target set, of the cosine between a row's projected gradient and the target's.
///
/// The gradient of a conversation is that of the negative log-likelihood of its replies. That of a
/// pair is the one of the DPO loss where policy and reference are equal: the direction of the
/// gradient of `log π(y_l) - log π(y_w)`, whatever β. The paper preconditions by Adam's moments and
/// sums over the checkpoints of a warm-up with LoRA; here every weight counts at one checkpoint, as
/// in the paper's variant with SGD gradients. None where a row has no target token.
pub(super) fn similarities(
    less: &LessRecipe,
    policy: &mut dyn Learner,
    rows: &RowsRef<'_>,
    context: &SelectContext<'_>,
    seed: &SeedTree,
    work: &mut Work<'_, '_>,
) -> Result<Vec<Option<f64>>, SelectError> {
    let projection = Projection::new(less.dimension.get(), seed);
    let own = Items::of_rows(rows);
    let target = Items::of_target(less, rows, context, seed)?;
    work.plan(own.len() + target.len());
    let mut mean = vec![0.0; less.dimension.get()];
    let mut counted = 0usize;
    for index in 0..target.len() {
        if let Some(unit) = target.gradient(index, policy, projection)? {
            mean.iter_mut().zip(unit).for_each(|(sum, x)| *sum += x);
            counted += 1;
        }
        work.advance(1)?;
    }
    if counted == 0 {
        return Err(SelectError::Recipe(
            "no row of the target set of `less` has a gradient".to_owned(),
        ));
    }
    mean.iter_mut().for_each(|sum| *sum /= counted as f64);
    let mut scores = Vec::with_capacity(own.len());
    for index in 0..own.len() {
        let unit = own.gradient(index, policy, projection)?;
        scores.push(unit.map(|unit| dot(&unit, &mean)));
        work.advance(1)?;
    }
    Ok(scores)
}

/// What gradients are taken of.
enum Items {
    Chat(Vec<TokenizedExample>, usize),
    Pairs(Vec<TokenizedPair>),
}

impl Items {
    fn of_rows(rows: &RowsRef<'_>) -> Self {
        match rows {
            RowsRef::Chat {
                tokens,
                max_seq_len,
                ..
            } => Self::Chat(tokens.to_vec(), *max_seq_len),
            RowsRef::Pairs { tokens, .. } => Self::Pairs(tokens.to_vec()),
        }
    }

    /// The target set, of the kind of `rows` and within their limits.
    fn of_target(
        less: &LessRecipe,
        rows: &RowsRef<'_>,
        context: &SelectContext<'_>,
        seed: &SeedTree,
    ) -> Result<Self, SelectError> {
        let seed = seed.child("select/less/target");
        match rows {
            RowsRef::Chat { max_seq_len, .. } => {
                let (target, _) = load_chat(context.root, &less.data, &seed)?;
                let target = context.format.encode_chats(&target)?;
                Ok(Self::Chat(target, *max_seq_len))
            }
            RowsRef::Pairs { limits, .. } => {
                let (target, _) = load_pairs(context.root, &less.data, &seed)?;
                let (target, _) = context.format.encode_pairs(&target, limits)?;
                Ok(Self::Pairs(target))
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Chat(examples, _) => examples.len(),
            Self::Pairs(pairs) => pairs.len(),
        }
    }

    /// The projected gradient of one item at length 1.
    fn gradient(
        &self,
        index: usize,
        policy: &mut dyn Learner,
        projection: Projection,
    ) -> Result<Option<Vec<f64>>, SelectError> {
        // One segment is weighed -1; of a pair the prompt 0, the preferred reply -1, the other 1.
        let (batches, weights): (Vec<TokenBatch>, &[f64]) = match self {
            Self::Chat(examples, max_seq_len) => {
                let one = &examples[index..=index];
                let batches = document_batches(one, *max_seq_len, usize::MAX);
                (
                    batches.into_iter().map(|(_, batch)| batch).collect(),
                    &[-1.0],
                )
            }
            Self::Pairs(pairs) => {
                let batches = pair_batches(&[&pairs[index]], usize::MAX);
                let batches = batches.into_iter().map(|part| part.batch);
                (batches.collect(), &[0.0, -1.0, 1.0])
            }
        };
        let Some(batch) = batches.into_iter().next() else {
            return Ok(None);
        };
        if batch.targets.is_empty() {
            return Ok(None);
        }
        policy.weighted(&batch, &mut |_| Ok(weights.to_vec()))?;
        let mut image = projection.image();
        policy.take_gradients(&mut |values| image.add(values))?;
        Ok(image.unit())
    }
}
