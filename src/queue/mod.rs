//! What state a run is in and what may happen next; pure.
