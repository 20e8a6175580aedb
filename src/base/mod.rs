//! What every floor needs, each handed in rather than reached for.
//!
//! Time, devices, digests, stamps of files, seeds, the draws of Python's generators, atomic files, CSV, the files of a model folder, the
//! stop flag, the `Host` of a request, the memory that is left, text fit to be shown, words for a shell and numbers as people read them. Nothing here knows of sweeps or models.

pub mod checked;
pub mod clock;
pub mod csv_line;
pub mod device;
pub mod digest;
pub mod fill;
pub mod fs;
pub mod guard;
pub mod host;
mod memory;
pub mod model_files;
pub mod mt19937;
pub mod python_random;
pub mod seed;
mod sha512;
pub mod shell;
pub mod shutdown;
pub mod stamp;
pub mod table;
pub mod text;

pub use checked::{is_as_written, with_check};
#[cfg(test)]
pub use clock::FakeClock;
pub use clock::{Clock, SystemClock, Timestamp};
pub use csv_line::csv_line;
pub use device::{Cards, Device, SeveralCards, UnknownDevice};
pub use digest::{Digest, digest_bytes, digest_file, sha256_text};
pub use fill::fill;
pub use fs::{PathError, append_line, sync_files, write_atomic, write_new};
pub use guard::{guarded, silence_guarded_panics};
pub use host::Host;
pub use memory::available_memory;
pub use model_files::{
    ModelFile, end_tokens, is_model_file, is_weight_file, other_ends, token_rules,
};
pub use mt19937::Mt19937;
pub use python_random::PythonRandom;
pub use seed::SeedTree;
pub use shell::quoted;
pub use shutdown::Shutdown;
pub use stamp::Stamp;
pub use table::{Cell, Cells, Table};
pub use text::{chain, counted, measured, printable, printable_json, steers};
