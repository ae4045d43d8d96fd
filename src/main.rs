//! The entry of the command line: from arguments to a result to an exit code.
//! Everything else is below `cli`.

mod cli;
mod memory;
mod progress;
mod signal;

use std::process::ExitCode;

fn main() -> ExitCode {
    memory::prepare();
    ExitCode::from(cli::main())
}
