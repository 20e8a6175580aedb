//! The `lions` program: parse, run, exit code.

fn main() {}
