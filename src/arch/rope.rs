//! Rotary position embedding (Su et al. 2021): frequencies and their stretching.

/// Stretching of rotary frequencies for longer contexts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// None.
    Default,
    /// All frequencies divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original_max / low_freq_factor` are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below `original_max / high_freq_factor` are high frequencies.
        high_freq_factor: f64,
        /// Context length of pre-training.
        original_max: f64,
    },
}

/// Rotary position embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeConfig {
    /// Base of the frequencies.
    pub theta: f64,
    /// Stretching.
    pub scaling: RopeScaling,
}

impl RopeConfig {
    /// Frequencies `(E/2,)` in radians a position.
    pub fn inv_freq(&self, head_dim: usize) -> Vec<f64> {
        let half = head_dim / 2;
        (0..half)
            .map(|i| self.scale(self.theta.powf(-(i as f64) / half as f64)))
            .collect()
    }

    fn scale(&self, freq: f64) -> f64 {
        match self.scaling {
            RopeScaling::Default => freq,
            RopeScaling::Linear { factor } => freq / factor,
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max,
            } => {
                let wavelength = 2.0 * std::f64::consts::PI / freq;
                if wavelength > original_max / low_freq_factor {
                    freq / factor
                } else if wavelength < original_max / high_freq_factor {
                    freq
                } else {
                    let smooth = (original_max / wavelength - low_freq_factor)
                        / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * freq / factor + smooth * freq
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // By the formula of transformers' `_compute_llama3_parameters`: theta 4, E = 4, so the
    // frequencies are 1 and 1/2 with wavelengths 6.28 and 12.57; original length 16.
    #[test]
    fn llama3_scaling_keeps_short_waves_and_stretches_long_ones() {
        let rope = |low, high| RopeConfig {
            theta: 4.0,
            scaling: RopeScaling::Llama3 {
                factor: 8.0,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max: 16.0,
            },
        };
        // 12.57 > 16 / 2: stretched; 6.28 < 16 / 2.2: kept.
        assert_eq!(rope(2.0, 2.2).inv_freq(4), [1.0, 0.5 / 8.0]);
        // 12.57 between 16 / 4 and 16 / 1: smooth = (16 / 12.566 - 1) / 3 = 0.0911
        let smooth = (16.0 / (4.0 * std::f64::consts::PI) - 1.0) / 3.0;
        let want = (1.0 - smooth) * 0.5 / 8.0 + smooth * 0.5;
        assert!((rope(1.0, 4.0).inv_freq(4)[1] - want).abs() < 1e-15);
    }
}
