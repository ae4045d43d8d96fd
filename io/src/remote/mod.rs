//! Objects of stores as sources: `s3://`, `gs://`, `az://`, `abfs://`, `https://`
//! and `http://`.
//!
//! What must hold: tokio and what is async stay in this directory, on a runtime
//! that the objects own; what is outside waits, and waits no longer than until
//! it is told to stop. Every byte read belongs to the version of the object that
//! was opened. What is read ahead is bounded, and counted by
//! [`Object::ahead_bytes`]. Nothing that is shown has a query or a password in it.
//!
//! Without the feature `object-store` there are no objects (`absent`), and an
//! address is refused.

mod address;

#[cfg(not(feature = "object-store"))]
mod absent;
#[cfg(feature = "object-store")]
mod ahead;
#[cfg(feature = "object-store")]
mod client;
#[cfg(feature = "object-store")]
mod failure;
#[cfg(feature = "object-store")]
mod listing;
#[cfg(feature = "object-store")]
mod object;
#[cfg(feature = "object-store")]
mod store;
#[cfg(all(test, feature = "object-store"))]
mod tests;

#[cfg(not(feature = "object-store"))]
pub(crate) use absent::{Ahead, Client, Object};
pub use address::{is_address, shown};
#[cfg(feature = "object-store")]
pub(crate) use {ahead::Ahead, client::Client, object::Object};
