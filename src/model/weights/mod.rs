//! Weights: in memory by name, in Hugging Face's files, and as adapters to a frozen model.

mod adapter_config;
mod arrays;
mod checkpoint;
mod formats;
mod lora;
mod params;
mod stored;
mod weights_file;

pub use arrays::{ArrayReader, ArrayWriter, Arrays, Take};
pub use checkpoint::{
    Companions, changed_weights, convert_checkpoint, save_arrays, save_checkpoint,
};
pub use formats::{dtype_of, format_of};
pub use lora::{Lora, adapter_names, merge_adapter, new_adapters, save_adapter};
pub use params::{FrozenParams, Params};
pub use stored::StoredWeights;
pub(crate) use weights_file::WeightFiles;
pub use weights_file::{check_weights, load_tensors, weight_shapes};
