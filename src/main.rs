//! The entry of the command line: from arguments to a result to an exit code.
//! Everything else is below `cli`.

mod cli;
mod disk;
mod machine;
mod memory;
mod progress;
mod signal;

use std::process::ExitCode;

fn main() -> ExitCode {
    memory::prepare();
    // A damaged page is told as an error; the panic it showed as inside a
    // library is nobody's business.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !lowland_io::is_decoding() {
            tell(panic);
        }
    }));
    ExitCode::from(cli::main())
}
