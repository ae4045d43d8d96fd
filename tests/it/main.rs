//! The one integration binary: the command line as its users meet it (`embed`,
//! `others`, `resume`, `bad_input`), the stages through the library (`stages`),
//! and both against other programs (`oracle`). Data are small and generated,
//! or the fixtures of `tests/data`.

mod bad_input;
mod embed;
mod kit;
mod oracle;
mod others;
mod resume;
mod stages;
