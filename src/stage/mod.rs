//! Runs one attempt of one stage inside its folder.
