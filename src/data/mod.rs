//! Records on disk to token batches, deterministic and resumable.
