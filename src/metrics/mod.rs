//! Names, units, uncertainty and comparison of measured quantities.
