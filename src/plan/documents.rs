//! How long the documents of a set are, in tokens, and what a pass over them computes.

use crate::arch::Pass;
use crate::base::SeedTree;
use crate::config::spec::{BatchSize, Batching, LossMask, PairLimits};
use rand::Rng as _;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// Classes of length in an octave: within one, to take all documents as equally long changes the
/// positions that they see by less than one in a thousand, and those of a padded step, which its budget
/// cuts, by one in a hundred at most.
const CLASSES: f64 = 16.0;

/// Of a piece that is cut anywhere with equal chance, the parts: those that have the mean length and
/// the mean square of the real ones (Gauss's two points).
const PARTS: [f64; 2] = [0.788_675_134_594_812_9, 0.211_324_865_405_187_1];

/// Rows that are drawn to see what padding costs: enough for one part in a hundred.
const DRAWN: usize = 1 << 12;

/// Documents of about the same length.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Alike {
    count: f64,
    /// Tokens of one.
    tokens: f64,
    /// Those of replies among them.
    replies: f64,
    /// Tokens of the longest.
    longest: f64,
}

/// Documents by their length in tokens. Numbers are means and need not be whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documents {
    alike: Vec<Alike>,
}

impl Documents {
    /// Documents of which each has so many tokens, and replies so many among them.
    pub fn of(lengths: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut classes: BTreeMap<i64, Alike> = BTreeMap::new();
        for (tokens, replies) in lengths.into_iter().filter(|(tokens, _)| *tokens > 0.0) {
            let class = (CLASSES * tokens.log2()).floor() as i64;
            let class = classes.entry(class).or_default();
            class.count += 1.0;
            class.tokens += (tokens - class.tokens) / class.count;
            class.replies += (replies - class.replies) / class.count;
            class.longest = class.longest.max(tokens);
        }
        Self {
            alike: classes.into_values().collect(),
        }
    }

    /// `count` documents of the same length.
    pub(super) fn equal(count: f64, tokens: f64, replies: f64) -> Self {
        let alike = Alike {
            count,
            tokens,
            replies,
            longest: tokens,
        };
        Self { alike: vec![alike] }
    }

    fn sum(&self, of: impl Fn(&Alike) -> f64) -> f64 {
        self.alike.iter().map(|alike| alike.count * of(alike)).sum()
    }

    /// How many.
    pub(super) fn count(&self) -> f64 {
        self.sum(|_| 1.0)
    }

    /// Tokens of all.
    pub(super) fn tokens(&self) -> f64 {
        self.sum(|alike| alike.tokens)
    }

    /// Those of replies among them.
    pub(super) fn replies(&self) -> f64 {
        self.sum(|alike| alike.replies)
    }

    /// Tokens of one, on average; 0 of none.
    pub(super) fn mean(&self) -> f64 {
        match self.count() {
            count if count > 0.0 => self.tokens() / count,
            _ => 0.0,
        }
    }

    /// Tokens of the longest, cut to a window; 0 of none.
    pub(super) fn longest(&self, window: usize) -> f64 {
        let longest = self.alike.iter().map(|alike| alike.longest);
        longest.fold(0.0, f64::max).min(window as f64)
    }

    /// Positions of the pair that takes most of them within the limits, a prompt counted once; 0 of none. As
    /// above, both its replies are taken as equally long.
    pub(super) fn longest_pair(&self, limits: &PairLimits) -> f64 {
        let (most, most_of_prompt) = (limits.max_seq_len as f64, limits.max_prompt_len as f64);
        let positions = self.alike.iter().map(|alike| {
            let replies = alike.longest * (alike.replies / alike.tokens).min(1.0);
            let (prompt, reply) = (alike.longest - replies, replies / 2.0);
            if prompt + reply <= most {
                return alike.longest;
            }
            let prompt = prompt.min(most_of_prompt);
            prompt + 2.0 * reply.min((most - prompt).max(0.0))
        });
        positions.fold(0.0, f64::max)
    }

    /// These and those.
    pub(super) fn extend(&mut self, other: Self) {
        self.alike.extend(other.alike);
    }

    /// As many in all, in the same proportions.
    pub(super) fn resized(mut self, count: f64) -> Self {
        let part = count / self.count().max(f64::MIN_POSITIVE);
        for alike in &mut self.alike {
            alike.count *= part;
        }
        self
    }

    /// At most so many.
    pub(super) fn first(self, most: Option<NonZeroUsize>) -> Self {
        match most.map(|most| most.get() as f64) {
            Some(most) if most < self.count() => self.resized(most),
            _ => self,
        }
    }

    /// Each document once, in windows of so many tokens: cut at the edge of a window (`Concat`), cut
    /// if it is longer than one (`BestFit`), or its beginning alone (`Padded`, without the padding).
    pub(super) fn pass(&self, window: usize, batching: Batching, mask: LossMask) -> Pass {
        let window = window as f64;
        let mut pass = Pass::default();
        for &Alike {
            count,
            tokens,
            replies,
            ..
        } in &self.alike
        {
            let fits = tokens.min(window);
            let lost = match batching {
                Batching::Padded => tokens - fits,
                Batching::Concat | Batching::BestFit => 0.0,
            };
            let pieces = match batching {
                Batching::Padded => [(1.0, fits), (0.0, 0.0), (0.0, 0.0)],
                Batching::BestFit => {
                    let whole = (tokens / fits).floor();
                    let rest = tokens - whole * fits;
                    [(whole, fits), (f64::from(rest > 0.0), rest), (0.0, 0.0)]
                }
                // The edge lies anywhere: in a document that would fit with a chance of its share of
                // the window; a longer one fills windows between a beginning and an end.
                Batching::Concat => {
                    let share = tokens / window;
                    let [long, short] = PARTS.map(|part| (share.min(1.0), part * fits));
                    [((1.0 - share).abs(), fits), long, short]
                }
            };
            for (pieces, len) in pieces {
                // The first token of a piece has no predecessor.
                let all = (len - 1.0).max(0.0);
                let scored = match mask {
                    LossMask::AllTokens => all,
                    LossMask::AssistantOnly => {
                        all.min(len * (replies - lost).max(0.0) / (tokens - lost))
                    }
                };
                let count = count * pieces;
                pass.add(count, len, 0.0, count * scored);
            }
        }
        pass
    }

    /// Padded steps, one document a row and all rows of a step as long as its longest: the rows of as many
    /// steps as hold all documents once, and the positions of a step. Found by drawing documents.
    pub(super) fn padded(&self, window: usize, batch: BatchSize) -> (Self, f64) {
        if self.tokens() <= 0.0 {
            return (Self::default(), 0.0);
        }
        let mut ends = Vec::with_capacity(self.alike.len());
        let mut all = 0.0;
        for alike in &self.alike {
            all += alike.count;
            ends.push(all);
        }
        let mut rng = SeedTree::root(0).rng();
        let mut draw = || {
            let at = rng.random::<f64>() * all;
            let class = ends.partition_point(|end| *end <= at);
            self.alike[class.min(ends.len() - 1)]
                .tokens
                .min(window as f64)
        };
        let mut rows = Vec::with_capacity(DRAWN);
        let (mut steps, mut count, mut longest) = (0_usize, 0_usize, 0.0_f64);
        while rows.len() < DRAWN {
            let next = draw();
            let is_full = match batch {
                BatchSize::Rows(most) => count >= most,
                BatchSize::Tokens(most) => (count + 1) as f64 * longest.max(next) > most as f64,
            };
            if count >= DRAWN || (is_full && count > 0) {
                rows.extend(std::iter::repeat_n((longest, 0.0), count));
                (steps, count, longest) = (steps + 1, 0, 0.0);
            }
            (count, longest) = (count + 1, longest.max(next));
        }
        let rows = Self::of(rows);
        let step = match batch {
            BatchSize::Rows(most) => most as f64 * rows.mean(),
            // More rows than were drawn fill it.
            BatchSize::Tokens(most) if steps == 1 => most as f64,
            BatchSize::Tokens(_) => rows.tokens() / steps as f64,
        };
        (rows.resized(all), step)
    }

    /// Each pair once: its prompt, and behind that both replies, cut to what of the prompt and one
    /// reply fits.
    pub(super) fn pair_pass(&self, window: usize) -> Pass {
        let mut pass = Pass::default();
        for alike in &self.alike {
            let reply = alike.replies / 2.0;
            let prompt = (alike.tokens - alike.replies).max(0.0);
            let fits = (window as f64 / (prompt + reply).max(1.0)).min(1.0);
            let (prompt, reply) = (prompt * fits, reply * fits);
            pass.add(alike.count, prompt, 0.0, 0.0);
            let replies = 2.0 * alike.count;
            pass.add(replies, reply, prompt, replies * reply);
        }
        pass
    }
}

/// Documents of data files, by model, file and whether they are read as pairs: what a look at the
/// rows has found.
#[derive(Clone, Debug, Default)]
pub struct KnownLengths(BTreeMap<(String, String, bool), (Documents, bool)>);

impl KnownLengths {
    /// Notes the rows of a file as a model reads them; `whole` says whether they are all of it. What is
    /// known stays.
    pub fn note(
        &mut self,
        (model, file, pairs): (&str, &str, bool),
        rows: impl FnOnce() -> Documents,
        whole: bool,
    ) {
        let key = (model.to_owned(), file.to_owned(), pairs);
        self.0.entry(key).or_insert_with(|| (rows(), whole));
    }

    /// The rows of a file, and whether they are all of it.
    pub(super) fn of(&self, model: &str, file: &str, pairs: bool) -> Option<&(Documents, bool)> {
        self.0.get(&(model.to_owned(), file.to_owned(), pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::Truncation;

    fn seen(documents: &Documents, window: usize, batching: Batching) -> (f64, f64) {
        let pass = documents.pass(window, batching, LossMask::AllTokens);
        (pass.positions(), pass.seen(None))
    }

    // Every length from 1 to 100 a thousand times, against each document's own square.
    #[test]
    fn classes_of_length_see_what_their_documents_see() {
        let lengths = (0..100_000).map(|i| (f64::from(i % 100 + 1), 0.0));
        let documents = Documents::of(lengths);
        assert!(documents.alike.len() <= 57);
        let (positions, got) = seen(&documents, 100, Batching::BestFit);
        assert!((positions - 5_050_000.0).abs() < 1e-3);
        let want = 1000.0 * (1..=100).map(|n| f64::from(n * (n + 1) / 2)).sum::<f64>();
        assert!((got / want - 1.0).abs() < 0.01, "{got} {want}");
        let mean = Documents::equal(100_000.0, 50.5, 0.0);
        let (_, equal) = seen(&mean, 100, Batching::BestFit);
        assert!(equal < 0.8 * want, "by the mean alone it is far less");
    }

    // By hand: the longest has a prompt of 20 and replies of 15. Of 34 the prompt keeps 10 and leaves room for both replies
    // (10 + 15 + 15); of 30 it keeps 20, and each reply 10.
    #[test]
    fn the_longest_row_is_no_mean_and_is_cut_as_rows_are() {
        let mut documents = Documents::of([(30.0, 15.0), (31.0, 15.0), (50.0, 30.0)]);
        assert!((documents.longest(512) - 50.0).abs() < 1e-12);
        assert!((documents.longest(40) - 40.0).abs() < 1e-12);
        documents.extend(Documents::equal(5.0, 45.0, 1.0));
        let positions = |max_seq_len, max_prompt_len| {
            let truncation = Truncation::KeepEnd;
            documents.longest_pair(&PairLimits {
                max_seq_len,
                max_prompt_len,
                truncation,
            })
        };
        assert!((positions(64, 63) - 50.0).abs() < 1e-9);
        assert!((positions(34, 10) - 40.0).abs() < 1e-9);
        assert!((positions(30, 20) - 40.0).abs() < 1e-9);
        assert!(Documents::default().longest(9).abs() < 1e-12);
    }

    // Documents one behind the other, cut every 64 tokens, as they are.
    #[test]
    fn windows_cut_documents_where_they_end() {
        for len in [5_u32, 24, 63, 64, 100, 333] {
            let documents = Documents::equal(4096.0, f64::from(len), 0.0);
            let (positions, got) = seen(&documents, 64, Batching::Concat);
            let mut want = 0.0;
            let mut at = 0;
            // Begun anew at every place in the window, so that edges fall everywhere.
            for document in 0..4096_u32 {
                if document % 64 == 0 {
                    at = document / 64;
                }
                let (mut left, mut room) = (len, 64 - at);
                while left > 0 {
                    let piece = left.min(room);
                    want += f64::from(piece * (piece + 1) / 2);
                    (left, room) = (left - piece, 64);
                }
                at = (at + len) % 64;
            }
            assert!((positions - f64::from(4096 * len)).abs() < 1e-6);
            assert!((got / want - 1.0).abs() < 0.03, "{len}: {got} {want}");
        }
    }

    // Six of 300 to 340 tokens are a step, as seven never fit: of M, what the longest has beyond 300,
    // P(M < j) is (j / 41)^6, and E M the sum over j of P(M ≥ j).
    #[test]
    fn padded_steps_are_as_large_as_those_of_single_lengths() {
        let documents = Documents::of((300..=340).map(|len| (f64::from(len), 0.0)));
        let (_, step) = documents.padded(512, BatchSize::Tokens(2048));
        let below = (1..=40).map(|j| (f64::from(j) / 41.0).powi(6)).sum::<f64>();
        let want = 6.0 * (340.0 - below);
        assert!((step / want - 1.0).abs() < 0.01, "{step} {want}");
    }

    // Of two rows the longest has 9 tokens three times in four, else 1.
    #[test]
    fn padded_rows_are_as_long_as_the_longest_of_their_step() {
        let equal = Documents::equal(10.0, 7.0, 0.0);
        for batch in [BatchSize::Rows(3), BatchSize::Tokens(22)] {
            let (rows, step) = equal.padded(64, batch);
            assert!(
                (rows.tokens() - 70.0).abs() < 1e-9 && (step - 21.0).abs() < 0.1,
                "{step}"
            );
        }
        let mixed = Documents::of([(1.0, 0.0), (9.0, 0.0)]);
        let (rows, step) = mixed.padded(64, BatchSize::Rows(2));
        assert!((rows.count() - 2.0).abs() < 1e-9);
        assert!((step / 14.0 - 1.0).abs() < 0.02, "{step}");
        let (_, step) = equal.padded(64, BatchSize::Tokens(1 << 20));
        assert!((step - f64::from(1 << 20)).abs() < 1e-9);
        assert_eq!(
            Documents::default().padded(64, BatchSize::Rows(2)).0.alike,
            []
        );
    }
}
