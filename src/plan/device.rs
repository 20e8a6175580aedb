//! From operations to GPU-hours, by the vendor's peak and a stated utilisation.

/// A GPU whose data sheet is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpu {
    /// NVIDIA A100 with 80 GB.
    A100,
    /// NVIDIA H100 SXM with 80 GB.
    H100,
}

impl Gpu {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::A100 => "A100-80GB",
            Self::H100 => "H100-80GB",
        }
    }

    /// Dense bfloat16 peak, operations per second, of the vendor's data sheets: 312 and 989
    /// teraFLOPS (NVIDIA A100 80GB and H100 SXM).
    pub fn peak_flops(self) -> f64 {
        match self {
            Self::A100 => 312e12,
            Self::H100 => 989e12,
        }
    }

    /// Memory, bytes: 80 GiB each.
    pub fn memory_bytes(self) -> u64 {
        80 << 30
    }
}

/// How fast the work is taken to go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceRate {
    /// Which GPU, where it is one of those known.
    pub gpu: Option<Gpu>,
    /// Peak, operations per second.
    pub peak_flops: f64,
    /// Share of the peak that is reached, above 0 to 1: the model FLOPs utilisation of Chowdhery et
    /// al. 2022 (PaLM, appendix B).
    pub utilisation: f64,
}

impl DeviceRate {
    /// Hours that one such device needs for `flops` operations.
    pub fn hours(self, flops: f64) -> f64 {
        flops / (self.peak_flops * self.utilisation) / 3600.0
    }

    /// Whether `bytes` are more than one such device has; `false` where its memory is not known.
    pub fn too_small_for(self, bytes: u64) -> bool {
        self.gpu.is_some_and(|gpu| bytes > gpu.memory_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // By hand: 312e12 · 0.4 · 3600 = 4.4928e17 operations an hour.
    #[test]
    fn an_hour_is_peak_times_share_times_3600_operations() {
        let rate = DeviceRate {
            gpu: Some(Gpu::A100),
            peak_flops: Gpu::A100.peak_flops(),
            utilisation: 0.4,
        };
        assert!((rate.hours(4.4928e17) - 1.0).abs() < 1e-12);
        assert!(rate.too_small_for(81 << 30) && !rate.too_small_for(80 << 30));
    }
}
