//! An object that is open: where it is, and the version that was found.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use object_store::ObjectMeta;
use object_store::path::Path as Key;

use super::address::{Address, Kind, shown};
use super::ahead::{self, Ahead};
use super::client::Client;
use super::failure::Failure;
use super::store::{State, Store};
use crate::source::lock;
use crate::{Error, Fingerprint};

/// Bytes of an object's beginning that are read where it is named itself: they tell its version,
/// and mostly all that is asked of them when it is opened.
const HEAD: u64 = 64 << 10;

/// An object of a store.
pub(crate) struct Object {
    /// Its address, as it may be shown.
    path: PathBuf,
    /// Its whole address, which may be secret.
    identity: String,
    pub(super) client: Arc<Client>,
    pub(super) store: Arc<Store>,
    pub(super) key: Key,
    pub(super) state: State,
    /// Its first bytes, until a reader takes them.
    head: Mutex<Option<Bytes>>,
    /// Why it could not be read.
    fault: Mutex<Option<Failure>>,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("path", &self.path).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Object {
    /// Opens the object at an address, by reading its first bytes.
    pub(super) fn open(client: &Arc<Client>, store: &Arc<Store>, address: &Address) -> Result<Self, Failure> {
        let key = match address.kind {
            // The address is the store's own.
            Kind::Http => Key::default(),
            _ => Key::parse(&address.key).map_err(|e| Failure::of(address.kind, &e.into()))?,
        };
        let (reading, of) = (store.clone(), key.clone());
        let (state, head) = client.wait(async move { reading.get(&of, 0..HEAD, None).await })?;
        let mut object = Object::listed(client, store, address, key, state);
        object.head = Mutex::new(Some(head));
        Ok(object)
    }

    /// An object that a list has.
    pub(super) fn of_list(client: &Arc<Client>, store: &Arc<Store>, address: &Address, meta: &ObjectMeta) -> Self {
        Object::listed(client, store, address, meta.location.clone(), State::of(meta))
    }

    fn listed(client: &Arc<Client>, store: &Arc<Store>, address: &Address, key: Key, state: State) -> Self {
        let identity = match address.kind {
            Kind::Http => address.root.clone(),
            _ => format!("{}/{key}", address.root),
        };
        let path = shown(&identity).as_ref().into();
        let (client, store) = (client.clone(), store.clone());
        Object { path, identity, client, store, key, state, head: Mutex::default(), fault: Mutex::default() }
    }

    /// Its address, as it may be shown.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What no other object has: its whole address, which is not to be shown.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// The version that was found when it was opened.
    pub(crate) fn stamp(&self) -> Fingerprint {
        let State { bytes, etag, modified } = self.state.clone();
        Fingerprint { path: self.path.clone(), bytes, modified, header: 0, etag }
    }

    /// Why it could not be read, if that was so.
    pub(crate) fn fault(&self) -> Option<Error> {
        lock(&self.fault).clone().map(|failure| failure.about(&self.path))
    }

    /// A reader that keeps what it read ahead until it is dropped. Each of `runs` is what will be
    /// read in order, part after part, beside the others; where there are none, what is read on
    /// is found out, of about `streams` places.
    pub(crate) fn reader(self: &Arc<Self>, streams: u64, runs: Vec<Vec<Range<u64>>>) -> Arc<Ahead> {
        let head = lock(&self.head).take();
        Arc::new(Ahead::new(self.clone(), streams, runs, head))
    }

    /// The most bytes that a reader holds of what it read ahead, of so many places.
    pub(crate) fn ahead_bytes(&self, streams: u64) -> u64 {
        ahead::budget(self.state.bytes, streams)
    }

    /// Drops its first bytes, if no reader has taken them.
    pub(crate) fn forget_head(&self) {
        *lock(&self.head) = None;
    }

    /// Notes why it cannot be read: what decodes its bytes may only say that it failed.
    pub(super) fn failed(&self, failure: Failure) -> std::io::Error {
        let failure = failure.of_opened();
        *lock(&self.fault) = Some(failure.clone());
        std::io::Error::other(failure.about(&self.path))
    }
}
