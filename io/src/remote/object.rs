//! An open object: its location, and the version that was found.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use object_store::ObjectMeta;
use object_store::path::Path as Key;

use super::address::{Address, Kind, shown};
use super::ahead::{self, Ahead, Piece};
use super::client::Client;
use super::failure::Failure;
use super::store::{State, Store};
use crate::source::lock;
use crate::{Error, Fingerprint};

/// The number of bytes read from the beginning of an object that is named individually. This
/// request also returns the object's version, and often covers all that opening the object needs.
const HEAD: u64 = 64 << 10;

/// An object in a store.
pub(crate) struct Object {
    /// The address in the form in which it may be shown.
    path: PathBuf,
    /// The full address, which may contain secrets.
    identity: String,
    pub(super) client: Arc<Client>,
    pub(super) store: Arc<Store>,
    pub(super) key: Key,
    pub(super) state: State,
    /// The pieces requested before there is a reader: the beginning, and after
    /// [`warm`](Object::warm) also the end.
    begun: Mutex<Vec<Piece>>,
    /// The last failure to read it.
    fault: Mutex<Option<Failure>>,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("path", &self.path).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Object {
    /// Opens the object at an address by reading its first bytes.
    pub(super) fn open(client: &Arc<Client>, store: &Arc<Store>, address: &Address) -> Result<Self, Failure> {
        let key = match address.kind {
            // The store was created from the whole URL.
            Kind::Http => Key::default(),
            _ => Key::parse(&address.key).map_err(|e| Failure::of(address.kind, &e.into()))?,
        };
        let (reading, of) = (store.clone(), key.clone());
        let (state, head) = client.wait(async move { reading.get(&of, 0..HEAD, None).await })?;
        let mut object = Object::listed(client, store, address, key, state);
        object.begun = Mutex::new(Piece::filled(head).into_iter().collect());
        Ok(object)
    }

    /// Creates an object from an entry of a listing, without any request.
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
        Object { path, identity, client, store, key, state, begun: Mutex::default(), fault: Mutex::default() }
    }

    /// Returns the address in the form in which it may be shown.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the full address, which identifies the object. It may contain secrets and must not
    /// be shown.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// Returns the version that was found when the object was opened.
    pub(crate) fn stamp(&self) -> Fingerprint {
        let State { bytes, etag, modified } = self.state.clone();
        Fingerprint { path: self.path.clone(), bytes, modified, header: 0, etag }
    }

    /// Returns why the object could not be read, if a read failed.
    pub(crate) fn fault(&self) -> Option<Error> {
        lock(&self.fault).clone().map(|failure| failure.about(&self.path))
    }

    /// Returns a reader that keeps the data it has read ahead until it is dropped. Each of `runs`
    /// is a list of ranges that will be read in order; the runs are read in turns. If `runs` is
    /// empty, the reader detects sequential reads by itself, at about `streams` places.
    pub(crate) fn reader(self: &Arc<Self>, streams: u64, runs: Vec<Vec<Range<u64>>>) -> Arc<Ahead> {
        let begun = std::mem::take(&mut *lock(&self.begun));
        Arc::new(Ahead::new(self.clone(), streams, runs, begun))
    }

    /// Requests the beginning and the end, which opening will read, before there is a reader.
    pub(crate) fn warm(&self) {
        let mut begun = lock(&self.begun);
        if !begun.is_empty() || self.state.bytes == 0 {
            return;
        }
        begun.push(ahead::ask(self, 0..self.state.bytes.min(HEAD)));
        // An npy file is described at its beginning only.
        if self.state.bytes > HEAD && self.path.extension().is_none_or(|ending| ending != "npy") {
            begun.push(ahead::ask(self, self.state.bytes - HEAD..self.state.bytes));
        }
    }

    /// Returns the most bytes of data read ahead that a reader of `streams` places holds.
    pub(crate) fn ahead_bytes(&self, streams: u64) -> u64 {
        ahead::budget(self.state.bytes, streams)
    }

    /// Drops the pieces that were requested before there was a reader.
    pub(crate) fn forget_head(&self) {
        lock(&self.begun).clear();
    }

    /// Records why reading failed, because the decoder that reads the bytes may report only that it
    /// failed.
    pub(super) fn failed(&self, failure: Failure) -> std::io::Error {
        let failure = failure.of_opened();
        *lock(&self.fault) = Some(failure.clone());
        std::io::Error::other(failure.about(&self.path))
    }
}
