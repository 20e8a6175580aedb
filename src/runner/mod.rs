//! The loop of `lions run`: linearises events, applies, launches, reports.
