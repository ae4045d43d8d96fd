//! What connects to stores: a small runtime of its own, and each bucket's
//! connection, made when it is first named.

use std::collections::HashMap;
use std::future::Future;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;

use super::address::Address;
use super::failure::Failure;
use super::store::{self, Environment, OneHttp, Store};
use crate::open::Stop;
use crate::source::lock;
use crate::{Error, Result};

/// How often whoever waits looks whether it is to stop.
pub(super) const EVERY: Duration = Duration::from_millis(100);

/// Threads that speak to the stores: one could not decrypt what four connections bring.
const THREADS: usize = 2;

/// Requests under way at a time: more would not be faster, and stores throttle whoever sends too many.
pub(super) const UNDER_WAY: usize = 16;

/// Connections to stores. Objects that were found through it share it.
#[derive(Debug)]
pub(crate) struct Client {
    /// Taken when the client is dropped, which must not wait for what is still under way.
    runtime: Option<Runtime>,
    handle: Handle,
    stores: Mutex<HashMap<String, Arc<Store>>>,
    http: OneHttp,
    /// Permits to have a request under way.
    under_way: Arc<Semaphore>,
    environment: Environment,
    stop: Option<Stop>,
}

impl Client {
    /// [`Error::Io`] if its threads cannot be started.
    pub(crate) fn new(stop: Option<Stop>) -> Result<Arc<Self>> {
        Client::with(Environment::of_process(), stop)
    }

    pub(super) fn with(environment: Environment, stop: Option<Stop>) -> Result<Arc<Self>> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(4)
            .thread_name("lowland-store")
            .enable_all()
            .build()
            .map_err(|e| Error::io("", "start threads for object stores", e))?;
        let handle = runtime.handle().clone();
        Ok(Arc::new(Client {
            runtime: Some(runtime),
            handle,
            stores: Mutex::default(),
            http: OneHttp::default(),
            under_way: Arc::new(Semaphore::new(UNDER_WAY)),
            environment,
            stop,
        }))
    }

    /// The store of an address, one for each bucket.
    pub(super) fn store(&self, address: &Address) -> std::result::Result<Arc<Store>, Failure> {
        if let Some(store) = lock(&self.stores).get(&address.root) {
            return Ok(store.clone());
        }
        let store = Arc::new(store::connect(self, address)?);
        // An address of HTTP is a store of its own, which its object keeps.
        if store.lists() {
            lock(&self.stores).insert(address.root.clone(), store.clone());
        }
        Ok(store)
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    pub(super) fn http(&self) -> &OneHttp {
        &self.http
    }

    /// Permits to have a request under way, as many as there may be at a time.
    pub(super) fn under_way(&self) -> &Arc<Semaphore> {
        &self.under_way
    }

    /// Whether whoever waits is to stop.
    pub(super) fn stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(Stop::came)
    }

    /// Runs `work` on the runtime's threads.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        self.handle.spawn(work).abort_handle()
    }

    /// The result of `work`; [`Failure::Stopped`] if it is to stop before that is there.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = std::result::Result<T, Failure>> + Send + 'static,
    ) -> std::result::Result<T, Failure> {
        let (send, receive) = sync_channel(1);
        let task = self.spawn(async move {
            // Who would hear it may have gone.
            let _ = send.send(work.await);
        });
        loop {
            match receive.recv_timeout(EVERY) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) if self.stopped() => {
                    task.abort();
                    return Err(Failure::Stopped);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Failed { what: "a request was given up".into(), input: false });
                }
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
