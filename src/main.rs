//! The entry point of the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    lowland::allocator::prepare();
    // A damaged page makes a library panic, and lowland turns this panic into an error, so the
    // panic itself is not printed.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !lowland_io::is_decoding() {
            tell(panic);
        }
    }));
    ExitCode::from(lowland::command_line(std::env::args_os()))
}
