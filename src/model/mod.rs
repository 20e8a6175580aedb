//! The decoder, its ops with gradients, its weights on disk.
