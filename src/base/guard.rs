//! Libraries that panic on what strangers wrote.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

thread_local! {
    /// How many calls of [`guarded`] this thread is in.
    static WITHIN: Cell<usize> = const { Cell::new(0) };
}

/// What `work` gives; a panic within it is an error: `what` is a library that unwraps where its input is
/// not as it expects.
///
/// # Errors
/// Those of `work`, and one that names `what`.
pub fn guarded<T>(what: &str, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    WITHIN.set(WITHIN.get() + 1);
    let done = catch_unwind(AssertUnwindSafe(work));
    WITHIN.set(WITHIN.get() - 1);
    done.unwrap_or_else(|_| Err(format!("{what} gave up on it")))
}

/// From now on nothing is printed of a panic that [`guarded`] makes an error of. For the program to call,
/// once.
pub fn silence_guarded_panics() {
    let before = take_hook();
    set_hook(Box::new(move |panic| {
        if WITHIN.get() == 0 {
            before(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_names_the_library() {
        let work = || -> Result<(), String> { Err::<(), _>("x").map_err(|_| unreachable!()) };
        assert_eq!(guarded("it", work), Err("it gave up on it".to_owned()));
        assert_eq!(guarded("it", || Ok(1)), Ok(1));
        assert_eq!(WITHIN.get(), 0);
    }
}
