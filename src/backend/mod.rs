//! Starts, polls and stops attempts somewhere.
