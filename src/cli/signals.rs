//! Ctrl-C and TERM as a request to stop; a second Ctrl-C ends at once. What a scheduler sends.

use crate::base::Shutdown;
use crate::cli::error::CommandError;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Sets `flag` on INT; another INT while it is set ends the process with 130. Whoever goes on resets it.
pub(crate) fn flag_on_interrupt(flag: &Arc<AtomicBool>) -> Result<(), CommandError> {
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(flag))
        .and_then(|_| signal_hook::flag::register(SIGINT, Arc::clone(flag)))
        .map_err(CommandError::internal)?;
    Ok(())
}

/// Sets `shutdown` on INT and TERM; a second signal of either kind ends the process with 130.
pub(crate) fn stop_on_signals(shutdown: &Shutdown) -> Result<(), CommandError> {
    for signal in [SIGINT, SIGTERM] {
        let flag = shutdown.flag();
        // The order matters: the flag is still unset when the first signal passes this one.
        signal_hook::flag::register_conditional_shutdown(signal, 130, flag)
            .and_then(|_| signal_hook::flag::register(signal, shutdown.flag()))
            .map_err(CommandError::internal)?;
    }
    Ok(())
}

/// Sets `stop` on INT and TERM, `warned` on USR1, however often they come: a scheduler sends several, and kills what does not
/// end in time.
pub(crate) fn save_on_signals(stop: &Shutdown, warned: &Shutdown) -> Result<(), CommandError> {
    for (signal, shutdown) in [(SIGINT, stop), (SIGTERM, stop), (SIGUSR1, warned)] {
        signal_hook::flag::register(signal, shutdown.flag()).map_err(CommandError::internal)?;
    }
    Ok(())
}
