//! What stands where right now: read from the store and the journals of the attempts at work, while others write both.
//!
//! Nothing here changes anything. [`Watch`] answers again and again and reads only what is new; a [`SweepView`] is one
//! answer, a [`Progress`] how far an attempt is. `lions status --watch` and `lions serve` show the same.

mod device_memory;
mod progress;
mod view;
mod watch;
mod why;
mod words;
mod work_left;

pub use device_memory::add_device_memory;
pub use progress::{Progress, Tail};
pub use view::{AtWork, RunView, SweepView};
pub use watch::Watch;
pub use why::why;
pub use words::{queue_reason, silent_since, state_word};
pub use work_left::WorkLeft;
