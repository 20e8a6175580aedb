//! Attention over all segments of a pass, groups of segments in parallel.

use super::backward::segment_backward;
use super::forward::segment_forward;
use super::inputs::SegmentInputs;
use super::tiles::Buffers;
use crate::real::Real;
use crate::rows::threads;
use crate::segments::Segments;
use crate::shape::AttentionShape;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Buffers that one thread reuses over its segments.
struct Workspace<F> {
    buffers: Buffers<F>,
    suffix: Suffix<F>,
}

/// Keys and values of a prefix and one of its suffixes behind one another, and their gradients.
struct Suffix<F> {
    k: Vec<F>,
    v: Vec<F>,
    dk: Vec<F>,
    dv: Vec<F>,
}

impl<F: Real> Workspace<F> {
    fn new() -> Self {
        Self {
            buffers: Buffers::new(),
            suffix: Suffix::new(),
        }
    }
}

impl<F: Real> Suffix<F> {
    fn new() -> Self {
        Self {
            k: Vec::new(),
            v: Vec::new(),
            dk: Vec::new(),
            dv: Vec::new(),
        }
    }

    /// Fills in the keys and values: `prefix` values from the beginning, then those from `own`.
    fn join(&mut self, (k, v): (&[F], &[F]), prefix: usize, own: Range<usize>) {
        for (joined, all) in [(&mut self.k, k), (&mut self.v, v)] {
            joined.clear();
            joined.extend_from_slice(&all[..prefix]);
            joined.extend_from_slice(&all[own.clone()]);
        }
    }
}

/// Rows of a group, from its first.
#[derive(Clone, Copy)]
struct Group<'a> {
    /// Boundaries of the prefix and of its suffixes, in rows of the pass.
    bounds: &'a [u32],
}

impl<'a> Group<'a> {
    fn len(self) -> usize {
        self.bounds.last().map_or(0, |end| end - self.bounds[0]) as usize
    }

    /// The elements of the group's rows.
    fn part<F>(self, all: &[F], width: usize) -> &[F] {
        let start = self.bounds[0] as usize * width;
        &all[start..start + self.len() * width]
    }

    /// Rows of the prefix.
    fn prefix(self) -> usize {
        (self.bounds[1] - self.bounds[0]) as usize
    }

    /// Rows of each suffix, from the group's first; none is empty.
    fn suffixes(self) -> impl Iterator<Item = Range<usize>> + 'a {
        let (first, suffixes) = (self.bounds[0], self.bounds[1..].windows(2));
        suffixes
            .map(move |b| (b[0] - first) as usize..(b[1] - first) as usize)
            .filter(|own| !own.is_empty())
    }
}

/// Elements of a range of rows.
fn scaled(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}

/// Cuts rows of `width` into the parts of the groups.
fn split<'a, F>(mut rows: &'a mut [F], groups: &[Group<'_>], width: usize) -> Vec<&'a mut [F]> {
    let mut parts = Vec::with_capacity(groups.len());
    for group in groups {
        let (part, rest) = rows.split_at_mut(group.len() * width);
        parts.push(part);
        rows = rest;
    }
    parts
}

/// Calls `one` on every group and its outputs, in parallel; each thread has its workspace.
///
/// The longest groups go first, one after the other to whichever thread is free: work grows with the square of a
/// length, and a pass has but a few groups, so that halves of them by number are not halves of the work.
fn for_groups<'a, F: Real, T: Send>(
    tasks: impl Iterator<Item = (&'a Group<'a>, T)>,
    one: impl Fn(&mut Workspace<F>, (&'a Group<'a>, T)) + Sync + Send,
) {
    let mut tasks: Vec<_> = tasks.collect();
    let all = |tasks: &mut dyn Iterator<Item = _>| {
        let mut ws = Workspace::new();
        tasks.for_each(|task| one(&mut ws, task));
    };
    if threads() == 1 || tasks.len() < 2 {
        return all(&mut tasks.into_iter());
    }
    tasks.sort_by_key(|(group, _)| std::cmp::Reverse(group.len()));
    let queue = Mutex::new(tasks.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    rayon::broadcast(|_| all(&mut std::iter::from_fn(next)));
}

fn groups(segments: &Segments) -> Vec<Group<'_>> {
    let groups = segments.groups().into_iter();
    groups.map(|bounds| Group { bounds }).collect()
}

/// Forward pass over all segments: `out (T, H * E)` and `lse (T, H)`, the binary logs of the
/// normalisers, are overwritten.
pub fn attention_forward<F: Real>(
    shape: &AttentionShape,
    segments: &Segments,
    (q, k, v): (&[F], &[F], &[F]),
    out: &mut [F],
    lse: &mut [F],
) {
    let (qw, kw, heads) = (shape.q_width(), shape.kv_width(), shape.heads);
    let groups = groups(segments);
    let outputs = split(out, &groups, qw).into_iter();
    let outputs = outputs.zip(split(lse, &groups, heads));
    for_groups(
        groups.iter().zip(outputs),
        |Workspace { buffers, suffix }, (group, (out, lse))| {
            let (q, k, v) = (group.part(q, qw), group.part(k, kw), group.part(v, kw));
            let prefix = group.prefix();
            segment_forward(
                shape,
                &q[..prefix * qw],
                &k[..prefix * kw],
                &v[..prefix * kw],
                &mut out[..prefix * qw],
                &mut lse[..prefix * heads],
                buffers,
            );
            for own in group.suffixes() {
                suffix.join((k, v), prefix * kw, scaled(&own, kw));
                segment_forward(
                    shape,
                    &q[scaled(&own, qw)],
                    &suffix.k,
                    &suffix.v,
                    &mut out[scaled(&own, qw)],
                    &mut lse[scaled(&own, heads)],
                    buffers,
                );
            }
        },
    );
}

/// Backward pass over all segments; the three gradients are overwritten.
pub fn attention_backward<F: Real>(
    shape: &AttentionShape,
    segments: &Segments,
    inputs: SegmentInputs<'_, F>,
    (dq, dk, dv): (&mut [F], &mut [F], &mut [F]),
) {
    let (qw, kw, heads) = (shape.q_width(), shape.kv_width(), shape.heads);
    let groups = groups(segments);
    let outputs = split(dk, &groups, kw).into_iter();
    let outputs = outputs.zip(split(dv, &groups, kw));
    let outputs = split(dq, &groups, qw).into_iter().zip(outputs);
    for_groups(
        groups.iter().zip(outputs),
        |Workspace { buffers, suffix }, (group, (dq, (dk, dv)))| {
            let (k, v) = (group.part(inputs.k, kw), group.part(inputs.v, kw));
            let rows = |own: &Range<usize>| SegmentInputs {
                q: &group.part(inputs.q, qw)[scaled(own, qw)],
                k: &k[scaled(own, kw)],
                v: &v[scaled(own, kw)],
                out: &group.part(inputs.out, qw)[scaled(own, qw)],
                lse: &group.part(inputs.lse, heads)[scaled(own, heads)],
                grad: &group.part(inputs.grad, qw)[scaled(own, qw)],
            };
            let prefix = 0..group.prefix();
            let of_prefix = scaled(&prefix, kw);
            segment_backward(
                shape,
                rows(&prefix),
                &mut dq[scaled(&prefix, qw)],
                &mut dk[of_prefix.clone()],
                &mut dv[of_prefix.clone()],
                buffers,
            );
            for own in group.suffixes() {
                suffix.join((k, v), of_prefix.end, scaled(&own, kw));
                suffix.dk.resize(suffix.k.len(), F::ZERO);
                suffix.dv.resize(suffix.v.len(), F::ZERO);
                let inputs = SegmentInputs {
                    k: &suffix.k,
                    v: &suffix.v,
                    ..rows(&own)
                };
                let dq = &mut dq[scaled(&own, qw)];
                segment_backward(shape, inputs, dq, &mut suffix.dk, &mut suffix.dv, buffers);
                // The prefix's keys and values have the gradients of all that saw them.
                for (all, part) in [(&mut *dk, &suffix.dk), (&mut *dv, &suffix.dv)] {
                    let (of_prefix_part, of_own) = part.split_at(of_prefix.end);
                    let sums = all[of_prefix.clone()].iter_mut().zip(of_prefix_part);
                    sums.for_each(|(sum, &g)| *sum += g);
                    all[scaled(&own, kw)].copy_from_slice(of_own);
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::on_every_set;

    // A prefix of 19 tokens that two suffixes continue, against each continued alone.
    #[test]
    fn a_suffix_has_the_bits_of_the_end_of_its_whole_sequence() {
        let shape = AttentionShape {
            heads: 2,
            kv_heads: 1,
            head_dim: 5,
            scale: 0.4,
            softcap: Some(2.0),
            window: Some(17),
        };
        let (qw, kw, heads) = (shape.q_width(), shape.kv_width(), shape.heads);
        let wave = |len: usize, step: f32| -> Vec<f32> {
            (0..len).map(|i| (i as f32 * step).sin()).collect()
        };
        let tokens = 19 + 4 + 3;
        let (q, k, v) = (
            wave(tokens * qw, 0.37),
            wave(tokens * kw, 0.59),
            wave(tokens * kw, 0.83),
        );
        let grad = wave(tokens * qw, 0.71);
        let run = |segments: &Segments, rows: &[usize]| {
            let pick = |all: &[f32], width: usize| -> Vec<f32> {
                rows.iter()
                    .flat_map(|&row| all[row * width..][..width].to_vec())
                    .collect()
            };
            let (q, k, v) = (pick(&q, qw), pick(&k, kw), pick(&v, kw));
            let grad = pick(&grad, qw);
            let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; rows.len() * heads]);
            attention_forward(&shape, segments, (&q, &k, &v), &mut out, &mut lse);
            let inputs = SegmentInputs {
                q: &q,
                k: &k,
                v: &v,
                out: &out,
                lse: &lse,
                grad: &grad,
            };
            let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
            attention_backward(&shape, segments, inputs, (&mut dq, &mut dk, &mut dv));
            (out, (dq, (dk, dv)))
        };
        on_every_set(|| {
            let all: Vec<usize> = (0..tokens).collect();
            let shared = Segments::with_prefixes(&[0, 19, 23, 26], &[0, 0, 0]);
            let (out, (dq, grads)) = run(&shared, &all);
            for own in [19..23, 23..26] {
                let rows: Vec<usize> = (0..19).chain(own.clone()).collect();
                let alone = run(&Segments::new(&[0, rows.len() as u32]), &rows);
                let own = own.start * qw..own.end * qw;
                assert_eq!(alone.0[19 * qw..], out[own.clone()]);
                assert_eq!(alone.1.0[19 * qw..], dq[own]);
            }
            ((out, dq), grads)
        });
    }
}
