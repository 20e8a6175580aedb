//! The `lions` program: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    lions::cli::main()
}
