//! Stands in for object stores in a build without the feature `object-store`. No objects exist, and
//! every address is refused with an error that names the feature.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::address::{Address, shown};
use crate::open::Stop;
use crate::{Error, Fingerprint, Result};

/// An object. It has no values in this build.
#[derive(Debug)]
pub(crate) enum Object {}

/// A reader of an object. It has no values in this build.
#[derive(Debug)]
pub(crate) enum Ahead {}

/// Takes the place of the client that connects to stores.
#[derive(Debug)]
pub(crate) struct Client;

impl Client {
    pub(crate) fn new(_stop: Option<Stop>) -> Result<Arc<Self>> {
        Ok(Arc::new(Client))
    }

    pub(crate) fn find(self: &Arc<Self>, given: &str) -> Result<Vec<Arc<Object>>> {
        Address::parse(given)?;
        let what = "an address, and this lowland was built without object-store; build it with that feature, download \
                    the file first, or pipe it to standard input (-)";
        Err(Error::Store { url: shown(given).as_ref().into(), what: what.into(), input: true })
    }
}

impl Object {
    pub(crate) fn path(&self) -> &Path {
        match *self {}
    }

    pub(crate) fn identity(&self) -> &str {
        match *self {}
    }

    pub(crate) fn stamp(&self) -> Fingerprint {
        match *self {}
    }

    pub(crate) fn fault(&self) -> Option<Error> {
        match *self {}
    }

    pub(crate) fn forget_head(&self) {
        match *self {}
    }

    pub(crate) fn warm(&self) {
        match *self {}
    }

    pub(crate) fn reader(self: &Arc<Self>, _streams: u64, _runs: Vec<Vec<Range<u64>>>) -> Arc<Ahead> {
        match **self {}
    }

    pub(crate) fn ahead_bytes(&self, _streams: u64) -> u64 {
        match *self {}
    }
}

impl Ahead {
    pub(crate) fn read_at(&self, _at: u64, _to: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn read_parts(&self, _parts: &[(u64, usize)], _to: &mut [u8]) -> io::Result<()> {
        match *self {}
    }
}
