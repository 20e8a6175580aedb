//! Number formats by the names of those who compute with them and store them.

use crate::arch::FloatFormat;
use crate::config::spec::Precision;
use candle_core::DType;
use safetensors::Dtype;

/// A format as candle and as files call it.
fn names(format: FloatFormat) -> (DType, Dtype) {
    match format {
        FloatFormat::F32 => (DType::F32, Dtype::F32),
        FloatFormat::Bf16 => (DType::BF16, Dtype::BF16),
        FloatFormat::F16 => (DType::F16, Dtype::F16),
        FloatFormat::F64 => (DType::F64, Dtype::F64),
    }
}

impl From<FloatFormat> for DType {
    fn from(format: FloatFormat) -> Self {
        names(format).0
    }
}

/// The format's name in safetensors' headers.
pub(super) fn stored_format(format: FloatFormat) -> Dtype {
    names(format).1
}

/// Our name of candle's format; of what is no float, f32.
pub fn format_of(dtype: DType) -> FloatFormat {
    let mut all = FloatFormat::ALL.into_iter();
    all.find(|&format| DType::from(format) == dtype)
        .unwrap_or_default()
}

/// Candle's format of weights and activations in a recipe's precision.
pub fn dtype_of(precision: Precision) -> DType {
    FloatFormat::from(precision).into()
}
