//! The client that connects to stores. It owns a small async runtime, and connects to each bucket
//! when the bucket is first named.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;

use super::address::Address;
use super::failure::Failure;
use super::store::{self, Environment, OneHttp, Store};
use crate::catch_panic::catch_panic;
use crate::open::Stop;
use crate::source::lock;
use crate::{Error, Result};

/// How often a waiting thread checks whether it has been told to stop.
pub(super) const EVERY: Duration = Duration::from_millis(100);

/// The number of runtime threads. A single thread cannot decrypt the data of four connections fast
/// enough.
const THREADS: usize = 2;

/// The most requests in progress at a time. More would not be faster, and stores throttle clients
/// that send too many.
pub(super) const UNDER_WAY: usize = 16;

/// Connections to stores, shared by all objects found through this client.
#[derive(Debug)]
pub(crate) struct Client {
    /// Taken out when the client is dropped, so that dropping does not wait for requests in
    /// progress.
    runtime: Option<Runtime>,
    handle: Handle,
    stores: Mutex<HashMap<String, Arc<Store>>>,
    http: OneHttp,
    /// One permit for each request in progress.
    under_way: Arc<Semaphore>,
    environment: Environment,
    stop: Option<Stop>,
}

impl Client {
    /// # Errors
    ///
    /// [`Error::Io`] if the runtime's threads cannot be started.
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

    /// Returns the store of an address, connecting to it if necessary. There is one store for each
    /// bucket.
    pub(super) fn store(&self, address: &Address) -> std::result::Result<Arc<Store>, Failure> {
        if let Some(store) = lock(&self.stores).get(&address.root) {
            return Ok(store.clone());
        }
        let store = catch_panic(|| store::connect(self, address)).unwrap_or_else(|| Err(panicked()));
        let store = Arc::new(store?);
        // The store of an HTTP address serves only one object, which keeps it.
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

    /// Returns the semaphore that limits the number of requests in progress.
    pub(super) fn under_way(&self) -> &Arc<Semaphore> {
        &self.under_way
    }

    /// Whether waiting threads have been told to stop.
    pub(super) fn stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(Stop::came)
    }

    /// Runs `work` on the runtime's threads.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        self.handle.spawn(work).abort_handle()
    }

    /// Waits for the result of `work`. Returns [`Failure::Stopped`] if told to stop before it
    /// arrives.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = std::result::Result<T, Failure>> + Send + 'static,
    ) -> std::result::Result<T, Failure> {
        let (send, receive) = sync_channel(1);
        let task = self.spawn(async move {
            // The receiver may have stopped waiting.
            let _ = send.send(guarded(work).await);
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
                    return Err(Failure::failed("a request was given up"));
                }
            }
        }
    }
}

/// Runs `work`, a call into the library for stores. If it panics, as it does where an endpoint is no
/// URL, returns a failure.
pub(super) async fn guarded<T>(
    work: impl Future<Output = std::result::Result<T, Failure>>,
) -> std::result::Result<T, Failure> {
    let mut work = pin!(work);
    poll_fn(move |context| catch_panic(|| work.as_mut().poll(context)).unwrap_or_else(|| Poll::Ready(Err(panicked()))))
        .await
}

fn panicked() -> Failure {
    Failure::refused("the library for object stores panicked")
        .advised("check the variables that the environment has for the store")
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
