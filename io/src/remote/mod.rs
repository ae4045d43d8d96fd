//! Reads sources from object stores and web servers: `s3://`, `gs://`, `az://`, `abfs://`,
//! `https://` and `http://`.
//!
//! - tokio and all async code stay in this directory, on a runtime owned by the client. Code
//!   outside blocks, but no longer than until it is told to stop.
//! - Every byte read belongs to the version of the object that was opened.
//! - The memory for data read ahead is bounded, and reported by [`Object::ahead_bytes`].
//! - Nothing shown to users contains a query string or a password.
//!
//! Without the feature `object-store`, the module `absent` takes the place of these types and
//! refuses every address.

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
