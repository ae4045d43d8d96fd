//! The command line, as its users meet it: every test runs the binary on small
//! generated data or on the fixtures of `tests/data`.

mod bad_input;
mod embed;
mod kit;
mod oracle;
mod others;
mod resume;
mod stages;
