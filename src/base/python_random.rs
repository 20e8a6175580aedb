//! Samples and deviates of Python's `random.Random`, to the bit (`Lib/random.py` of Python 3.11).

use crate::base::mt19937::Mt19937;

/// A generator in the state of `random.Random(seed)`.
#[derive(Clone, Debug)]
pub struct PythonRandom {
    words: Mt19937,
    /// The second of two normal deviates that come together.
    spare: Option<f64>,
}

impl PythonRandom {
    /// As `random.Random(seed)`.
    pub fn new(seed: u64) -> Self {
        Self {
            words: Mt19937::of_python(seed),
            spare: None,
        }
    }

    /// `getrandbits(32)`.
    pub fn word(&mut self) -> u32 {
        self.words.word()
    }

    /// `random()`: 53 bits of [0, 1).
    pub fn unit(&mut self) -> f64 {
        self.words.unit()
    }

    /// `_randbelow(n)` for `n` of at most 32 bits: a number below `n`, 0 for `n` = 0.
    pub fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        if bits == 0 {
            return 0;
        }
        loop {
            let drawn = (self.word() >> (32 - bits.min(32))) as usize;
            if drawn < n {
                return drawn;
            }
        }
    }

    /// The places of `sample(population, k)` among `n`, in drawn order; all `n` if `k` is more.
    pub fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        let k = k.min(n);
        if n <= pool_size(k) {
            let mut pool: Vec<usize> = (0..n).collect();
            let mut drawn = Vec::with_capacity(k);
            for i in 0..k {
                let at = self.below(n - i);
                drawn.push(pool[at]);
                pool[at] = pool[n - i - 1];
            }
            return drawn;
        }
        let mut drawn: Vec<usize> = Vec::with_capacity(k);
        while drawn.len() < k {
            let at = self.below(n);
            if !drawn.contains(&at) {
                drawn.push(at);
            }
        }
        drawn
    }

    /// `gauss(mean, deviation)`.
    pub fn gauss(&mut self, mean: f64, deviation: f64) -> f64 {
        let z = self.spare.take().unwrap_or_else(|| {
            let angle = self.unit() * std::f64::consts::TAU;
            let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
            self.spare = Some(angle.sin() * radius);
            angle.cos() * radius
        });
        mean + z * deviation
    }
}

/// Up to here a copy of the population is cheaper than a set of what was drawn; decides how `sample` draws.
fn pool_size(k: usize) -> usize {
    let mut size = 21;
    if k > 5 {
        let power = ((3 * k) as f64).ln() / 4f64.ln();
        size += 4usize.pow(power.ceil() as u32);
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn golden() -> Value {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = path.join("tests/golden/eval/fewshot_draws.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn numbers(list: &Value) -> Vec<usize> {
        let list = list.as_array().unwrap().iter();
        list.map(|v| usize::try_from(v.as_u64().unwrap()).unwrap())
            .collect()
    }

    #[test]
    fn words_and_fractions_are_those_of_python() {
        let golden = &golden()["raw"];
        let mut random = PythonRandom::new(1234);
        for want in numbers(&golden["getrandbits32"]) {
            assert_eq!(random.word() as usize, want);
        }
        let want = golden["random"][0].as_f64().unwrap();
        let got = PythonRandom::new(1234).unit();
        assert_eq!(got.to_bits(), want.to_bits());
        let mut random = PythonRandom::new(1234);
        for want in numbers(&golden["randbelow_1119"]) {
            assert_eq!(random.below(1119), want);
        }
    }

    #[test]
    fn samples_are_those_of_python_on_both_sides_of_the_border() {
        let cases = golden();
        let cases = cases["cases"].as_array().unwrap();
        assert!(cases.len() >= 10, "{}", cases.len());
        for case in cases {
            let mut random = PythonRandom::new(1234);
            let size = |key: &str| usize::try_from(case[key].as_u64().unwrap()).unwrap();
            for draw in case["draws"].as_array().unwrap() {
                let got = random.sample(size("pool"), size("k"));
                assert_eq!(got, numbers(draw), "{}", case["task"]);
            }
        }
    }

    // Python 3.11: `r = random.Random(0); [r.gauss(0, 1) for _ in range(3)]`.
    #[test]
    fn normal_deviates_are_those_of_python() {
        let mut random = PythonRandom::new(0);
        let want = [
            0.941_715_404_680_664_4,
            -1.396_578_104_701_149_8,
            -0.679_714_448_078_421_1,
        ];
        for want in want {
            assert!((random.gauss(0.0, 1.0) - want).abs() < 1e-15);
        }
    }
}
