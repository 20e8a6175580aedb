//! Cached attention against its definition in f64.

use crate::arch::AttentionShape;
use crate::gpu::ops::attention::{Forward, Work, WorkList, attention_forward};
use crate::gpu::ops::decode_attention::{
    Cache, PAGE, SequenceBufs, SequenceList, append_tokens, decode_attention, slots, store_tokens,
};
use crate::gpu::testing::{
    ATTENTION, BF16, Device, agree, noise, on_devices, on_devices_once, wide,
};
use crate::gpu::{Buf, Stored};
use half::bf16;

/// Pages and length.
type Sequence<'a> = (&'a [u32], usize);

/// Sequences: no page, a full one, the first of one, many out of order, an idle row.
const SEQUENCES: [Sequence<'static>; 6] = [
    (&[4], 1),
    (&[9], 64),
    (&[2, 7], 65),
    (&[8, 0, 6, 1, 5], 263),
    (&[], 0),
    (&[3, 10], 100),
];
const PAGES: usize = 11;
const COLUMNS: usize = 5;

fn shape(
    (heads, kv_heads, head_dim): (usize, usize, usize),
    softcap: Option<f64>,
    window: Option<usize>,
) -> AttentionShape {
    AttentionShape {
        heads,
        kv_heads,
        head_dim,
        scale: 1.7 / (head_dim as f64).sqrt(),
        softcap,
        window,
    }
}

/// Queries, and keys or values of every token of a sequence, by its number.
struct Tokens<T> {
    q: Vec<T>,
    k: Vec<T>,
    v: Vec<T>,
}

impl<T: Stored> Tokens<T> {
    fn new(shape: &AttentionShape, sequence: usize, length: usize) -> Self {
        let seed = 10 * sequence as u64;
        Self {
            q: noise(shape.q_width(), seed + 1),
            k: noise(length * shape.kv_width(), seed + 2),
            v: noise(length * shape.kv_width(), seed + 3),
        }
    }

    fn all(shape: &AttentionShape) -> Vec<Self> {
        let lengths = SEQUENCES.iter().map(|(_, length)| *length);
        let numbered = lengths.enumerate();
        numbered
            .map(|(at, length)| Self::new(shape, at, length))
            .collect()
    }

    /// The last token's attention, in f64.
    fn wanted(&self, shape: &AttentionShape) -> Vec<f64> {
        let (e, kv) = (shape.head_dim, shape.kv_width());
        let [q, k, v] = [&self.q, &self.k, &self.v].map(|x| wide(x));
        let length = k.len() / kv;
        let mut out = vec![0.0; q.len()];
        if length == 0 {
            return out;
        }
        for (head, (q, out)) in q.chunks(e).zip(out.chunks_mut(e)).enumerate() {
            let of_group = head / (shape.heads / shape.kv_heads) * e;
            let first = shape.window.map_or(0, |w| length.saturating_sub(w));
            let keys = (first..length).map(|at| at * kv + of_group);
            let score = |key: usize| {
                let z: f64 = (0..e).map(|i| q[i] * k[key + i]).sum::<f64>() * shape.scale;
                shape.softcap.map_or(z, |cap| cap * (z / cap).tanh()).exp()
            };
            let weights: Vec<(usize, f64)> = keys.map(|key| (key, score(key))).collect();
            let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
            for (key, weight) in weights {
                for i in 0..e {
                    out[i] += weight / sum * v[key + i];
                }
            }
        }
        out
    }
}

/// A cache in which nothing is a number.
fn empty<T: Stored>(device: &mut Device, shape: &AttentionShape) -> Cache<T> {
    let len = PAGES * PAGE * shape.kv_width();
    Cache {
        keys: device.empty(len),
        values: device.empty(len),
    }
}

fn put(device: &mut Device, sequences: &[(&[u32], usize)]) -> SequenceBufs {
    let list = SequenceList::new(sequences, COLUMNS);
    SequenceBufs {
        pages: device.put(&list.pages),
        lengths: device.put(&list.lengths),
    }
}

/// Stores all tokens but the last of each sequence as one packed batch, whose last row goes nowhere.
fn prefill<T: Stored>(
    device: &mut Device,
    shape: &AttentionShape,
    cache: &Cache<T>,
    of: &[(Sequence<'_>, &Tokens<T>)],
) {
    let (mut to, mut k, mut v) = (Vec::new(), Vec::new(), Vec::new());
    for ((pages, length), tokens) in of {
        let before = length.saturating_sub(1);
        to.extend(slots(pages, 0..before));
        k.extend(&tokens.k[..before * shape.kv_width()]);
        v.extend(&tokens.v[..before * shape.kv_width()]);
    }
    to.push(-1);
    k.extend(noise::<T>(shape.kv_width(), 99));
    v.extend(noise::<T>(shape.kv_width(), 98));
    let (to, k, v) = (device.put(&to), device.put(&k), device.put(&v));
    store_tokens(device.gpu(), shape, cache, to, (k, v)).unwrap();
}

/// Of the last token of each sequence `rows` of `x`, poison where there is none.
fn last<T: Stored>(device: &mut Device, width: usize, rows: &[&[T]]) -> Buf<T> {
    let poison = vec![T::of(f32::NAN); width];
    let row = |x: &&[T]| x.rchunks(width).next().unwrap_or(&poison).to_vec();
    let all: Vec<T> = rows.iter().flat_map(row).collect();
    device.put(&all)
}

/// Prefill, then the last tokens: what is asked of a step of decoding.
fn decoded<T: Stored>(
    device: &mut Device,
    shape: &AttentionShape,
    of: &[(Sequence<'_>, &Tokens<T>)],
) -> Vec<T> {
    let cache = empty(device, shape);
    prefill(device, shape, &cache, of);
    let sequences: Vec<(&[u32], usize)> = of.iter().map(|(sequence, _)| *sequence).collect();
    let sequences = put(device, &sequences);
    let rows = |part: fn(&Tokens<T>) -> &[T]| -> Vec<&[T]> {
        of.iter().map(|(_, tokens)| part(tokens)).collect()
    };
    let kv = shape.kv_width();
    let k = last(device, kv, &rows(|tokens| &tokens.k));
    let v = last(device, kv, &rows(|tokens| &tokens.v));
    let q = last(device, shape.q_width(), &rows(|tokens| &tokens.q));
    let out = device.empty(q.len());
    append_tokens(device.gpu(), shape, &cache, &sequences, (k, v)).unwrap();
    decode_attention(device.gpu(), shape, &cache, &sequences, (q, out)).unwrap();
    device.get(out)
}

fn is_its_definition<T: Stored>(device: &mut Device, shape: &AttentionShape, tolerance: f64) {
    let tokens = Tokens::<T>::all(shape);
    let of: Vec<_> = SEQUENCES.into_iter().zip(&tokens).collect();
    let got = decoded(device, shape, &of);
    for (row, tokens) in got.chunks(shape.q_width()).zip(&tokens) {
        agree("out", row, &tokens.wanted(shape), tolerance);
    }
}

#[test]
fn cached_attention_on_the_device_is_its_definition() {
    for shape in [
        shape((4, 2, 8), None, None),
        shape((3, 1, 40), Some(3.0), Some(33)),
        shape((2, 2, 5), None, Some(70)),
    ] {
        on_devices(|device| is_its_definition::<f32>(device, &shape, ATTENTION));
    }
    for shape in [
        shape((2, 1, 72), Some(2.0), None),
        shape((2, 1, 256), None, Some(usize::MAX)),
    ] {
        on_devices_once(|device| is_its_definition::<bf16>(device, &shape, BF16));
    }
}

#[test]
fn the_bits_of_a_sequence_depend_on_its_tokens_alone() {
    let shape = shape((4, 2, 24), Some(3.0), Some(150));
    let tokens = Tokens::<f32>::new(&shape, 3, 263);
    let other = Tokens::<f32>::new(&shape, 5, 100);
    on_devices_once(|device| {
        let alone = decoded(device, &shape, &[((&[8, 0, 6, 1, 5], 263), &tokens)]);
        let both = [
            ((&[7, 2][..], 100), &other),
            ((&[1, 3, 10, 4, 9][..], 263), &tokens),
        ];
        let got = decoded(device, &shape, &both);
        assert_eq!(got[shape.q_width()..], alone);
    });
}

// The two ways of a token into the cache; and attention over a packed batch, whose last row is the step's.
#[test]
fn tokens_one_by_one_and_all_at_once_fill_the_same_slots() {
    let shape = shape((2, 1, 16), None, Some(50));
    let (pages, length): (&[u32], usize) = (&[3, 1], 70);
    let tokens = Tokens::<f32>::new(&shape, 1, length);
    on_devices_once(|device| {
        let (stored, appended) = (empty::<f32>(device, &shape), empty::<f32>(device, &shape));
        let to: Vec<i32> = slots(pages, 0..length).collect();
        let (to, k, v) = (
            device.put(&to),
            device.put(&tokens.k),
            device.put(&tokens.v),
        );
        store_tokens(device.gpu(), &shape, &stored, to, (k, v)).unwrap();
        for at in 0..length {
            // The second row is idle, though it has a page.
            let now = put(device, &[(pages, at + 1), (&[5], 0)]);
            let k = device.put(&[&tokens.k[at * 16..][..16], &[7.0; 16]].concat());
            let v = device.put(&[&tokens.v[at * 16..][..16], &[7.0; 16]].concat());
            append_tokens(device.gpu(), &shape, &appended, &now, (k, v)).unwrap();
        }
        let bits = |x: Vec<f32>| x.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let keys = bits(device.get(stored.keys));
        assert_eq!(keys, bits(device.get(appended.keys)));
        let written = keys.iter().filter(|&&key| !f32::from_bits(key).is_nan());
        assert_eq!(written.count(), tokens.k.len());
        assert_eq!(
            bits(device.get(stored.values)),
            bits(device.get(appended.values))
        );

        let list = WorkList::new(&[0, 70], &[]);
        let work = Work {
            tiles: device.put(&list.tiles),
            ranges: device.put(&list.ranges),
            range_at: device.put(&list.range_at),
        };
        let q = [vec![0.0; 69 * 32], tokens.q.clone()].concat();
        let of = Forward {
            q: device.put(&q),
            k,
            v,
            out: device.empty(q.len()),
            lse: device.empty(70 * 2),
        };
        attention_forward(device.gpu(), &shape, &work, &of).unwrap();
        let (q, out) = (device.put(&tokens.q), device.empty(32));
        let now = put(device, &[(pages, length)]);
        decode_attention(device.gpu(), &shape, &appended, &now, (q, out)).unwrap();
        let whole = wide(&device.get(of.out.part(69 * 32..70 * 32)));
        agree("the last row", &device.get(out), &whole, ATTENTION);
    });
}

#[test]
fn slots_and_tables_are_those_of_the_pages() {
    let found: Vec<i32> = slots(&[5, 2], 62..66).collect();
    assert_eq!(found, [382, 383, 128, 129]);
    let list = SequenceList::new(&[(&[5, 2], 65), (&[], 0), (&[1], 3)], 3);
    assert_eq!(list.pages, [5, 2, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(list.lengths, [65, 0, 3]);
}

#[test]
#[should_panic(expected = "65 positions in 1 of 2 pages")]
fn a_sequence_without_pages_for_its_length_is_refused() {
    drop(SequenceList::new(&[(&[5], 65)], 2));
}
