//! The Mersenne Twister as NumPy and Python seed and read it: the draws that other tools make, to the bit.
//!
//! MT19937 (Matsumoto and Nishimura, ACM TOMACS 8, 1998). For what must agree with a Python program and for nothing
//! else: seeds of our own are [`SeedTree`](crate::base::SeedTree)s.

use crate::base::sha512::sha512;

/// Words of the state.
const N: usize = 624;
/// Distance to the word that is mixed in.
const M: usize = 397;

/// A generator.
#[derive(Clone)]
pub struct Mt19937 {
    state: [u32; N],
    next: usize,
}

impl std::fmt::Debug for Mt19937 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mt19937").finish_non_exhaustive()
    }
}

impl Mt19937 {
    /// As `numpy.random.seed(seed)`: `init_genrand` of the reference implementation.
    pub fn of_numpy(seed: u32) -> Self {
        let mut state = [seed; N];
        for i in 1..N {
            state[i] = spread(state[i - 1], 1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, next: N }
    }

    /// As `random.Random(seed)` of Python 3: `init_by_array` with the words of the seed.
    pub fn of_python(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let words = [low, high];
        Self::by_array(if high == 0 { &words[..1] } else { &words })
    }

    /// As `random.Random(text)` of Python 3: `init_by_array` with the words of the text and its SHA-512, read as one
    /// number.
    pub fn of_python_text(text: &str) -> Self {
        let mut number = text.as_bytes().to_vec();
        number.extend(sha512(text.as_bytes()));
        // The first byte is the highest; words are taken from the low end.
        let words = number.rchunks(4).map(|bytes| {
            let word = bytes.iter();
            word.fold(0, |word, byte| word << 8 | u32::from(*byte))
        });
        let mut words: Vec<u32> = words.collect();
        while words.len() > 1 && words.last() == Some(&0) {
            words.pop();
        }
        Self::by_array(&words)
    }

    /// `init_by_array` of the reference implementation; `key` is not empty.
    fn by_array(key: &[u32]) -> Self {
        let Self { mut state, next } = Self::of_numpy(19_650_218);
        let (mut i, mut j) = (1, 0);
        for _ in 0..N.max(key.len()) {
            let mixed = state[i] ^ spread(state[i - 1], 1_664_525);
            state[i] = mixed.wrapping_add(key[j]).wrapping_add(j as u32);
            i = advance(&mut state, i);
            j = (j + 1) % key.len();
        }
        for _ in 1..N {
            let mixed = state[i] ^ spread(state[i - 1], 1_566_083_941);
            state[i] = mixed.wrapping_sub(i as u32);
            i = advance(&mut state, i);
        }
        state[0] = 0x8000_0000;
        Self { state, next }
    }

    /// The next 32 bits.
    pub fn word(&mut self) -> u32 {
        if self.next >= N {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn twist(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// `random()` of both: 53 bits of [0, 1).
    pub fn unit(&mut self) -> f64 {
        let (high, low) = (self.word() >> 5, self.word() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// `numpy.random.randint(0, n)`, and so `choice(n)` with replacement: bits under the smallest mask, drawn until they
    /// are below `n`. For `n` of at most 32 bits; 0, without a draw, for `n` of 0 or 1.
    pub fn below(&mut self, n: usize) -> usize {
        let largest = u32::try_from(n.saturating_sub(1)).unwrap_or(u32::MAX);
        if largest == 0 {
            return 0;
        }
        let mask = u32::MAX >> largest.leading_zeros();
        loop {
            let drawn = self.word() & mask;
            if drawn <= largest {
                return drawn as usize;
            }
        }
    }
}

fn spread(word: u32, by: u32) -> u32 {
    (word ^ (word >> 30)).wrapping_mul(by)
}

/// The next place of the seeding, which wraps around to the second word.
fn advance(state: &mut [u32; N], i: usize) -> usize {
    if i + 1 < N {
        return i + 1;
    }
    state[0] = state[N - 1];
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    // NumPy 2.4.6: `numpy.random.seed(42); numpy.random.choice(43011, 8)`, and so on.
    #[test]
    fn choices_are_those_of_numpy() {
        let mut random = Mt19937::of_numpy(42);
        let drawn: Vec<usize> = (0..8).map(|_| random.below(43_011)).collect();
        let want = [15_795, 860, 38_158, 11_284, 6_265, 16_850, 37_194, 21_962];
        assert_eq!(drawn, want);
        let mut random = Mt19937::of_numpy(7);
        let drawn: Vec<usize> = (0..12).map(|_| random.below(5)).collect();
        assert_eq!(drawn, [4, 1, 3, 3, 4, 1, 0, 1, 2, 2, 0, 4]);
        assert_eq!((random.below(1), random.below(0)), (0, 0));
    }

    // Python 3.11: `random.Random(text).random()`.
    #[test]
    fn seeds_of_text_are_those_of_python() {
        for (text, want) in [
            ("is_switched_outputsWhat is 2+2?0", 0.056_319_243_920_208_04),
            ("a", 0.272_029_537_753_475_7),
            ("", 0.960_225_652_564_187_5),
            (
                "is_switched_outputsWieviel ist „zwei\u{1f600}“?\n0",
                0.224_851_182_915_013_05,
            ),
        ] {
            let got = Mt19937::of_python_text(text).unit();
            assert_eq!(got.to_bits(), f64::to_bits(want), "{text}: {got}");
        }
    }
}
