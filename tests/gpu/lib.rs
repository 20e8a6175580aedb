//! The sources of `lions::gpu` and what they need of the rest, in a crate of their own.

#[path = "../../src/gpu/mod.rs"]
pub mod gpu;

#[allow(dead_code, unused_imports, reason = "not all of it is needed here")]
#[path = "../../src/arch/mod.rs"]
mod arch;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../src/base/fs.rs"]
mod fs;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../src/base/model_files.rs"]
mod model_files;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../src/base/text.rs"]
mod text;

/// Under the paths by which `arch` names it.
mod base {
    pub(crate) use crate::fs;
    pub use crate::fs::PathError;
    pub use crate::model_files::ModelFile;
    pub use crate::text::counted;
}
