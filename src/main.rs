//! The entry point of the command line: calls `cli::main` and returns its exit code.

mod cli;
mod disk;
mod memory;
mod progress;
mod signal;

use std::process::ExitCode;

fn main() -> ExitCode {
    memory::prepare();
    // A damaged page makes a library panic, and lowland turns this panic into an error, so the
    // panic itself is not printed.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !lowland_io::is_decoding() {
            tell(panic);
        }
    }));
    ExitCode::from(cli::main())
}
