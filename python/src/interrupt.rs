//! SIGINT, as a thread sees it to which Python does not report signals.
//!
//! What must hold: the handler of this file calls the handler that was there before, so that Python
//! and other libraries notice SIGINT too. Python's `signal.signal` replaces the handler of this file,
//! so [`Interrupt::came`] installs it again. The handler is installed only while an [`Interrupt`]
//! exists.

use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libc::{SIG_DFL, SIG_IGN, SIGINT, c_int, c_void, sigaction, siginfo_t};

/// The number of times that SIGINT was received.
static RECEIVED: AtomicUsize = AtomicUsize::new(0);
/// The handler that was installed before. Its memory is never freed, because a signal may be using it.
static PREVIOUS: AtomicPtr<sigaction> = AtomicPtr::new(null_mut());
/// The thread that is calling the previous handler; 0 if there is none.
static CALLING: AtomicUsize = AtomicUsize::new(0);
/// The number of [`Interrupt`]s that exist.
static LISTENING: Mutex<usize> = Mutex::new(0);

/// Notices SIGINT from its creation on.
#[derive(Debug)]
pub(crate) struct Interrupt {
    /// The part of [`RECEIVED`] that was reported.
    reported: AtomicUsize,
}

impl Interrupt {
    /// Begins to listen.
    pub(crate) fn new() -> Self {
        let mut listening = lock();
        *listening += 1;
        let interrupt = Interrupt { reported: AtomicUsize::new(RECEIVED.load(Ordering::SeqCst)) };
        install();
        interrupt
    }

    /// Returns whether SIGINT was received since this was last called.
    pub(crate) fn came(&self) -> bool {
        {
            let _listening = lock();
            install();
        }
        let received = RECEIVED.load(Ordering::SeqCst);
        self.reported.swap(received, Ordering::SeqCst) != received
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        let mut listening = lock();
        *listening -= 1;
        if *listening == 0 {
            restore();
        }
    }
}

fn lock() -> MutexGuard<'static, usize> {
    LISTENING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Installs the handler, unless it is installed. A process that ignores SIGINT, or ends at it, is left
/// as it is.
fn install() {
    let Some(current) = current() else { return };
    if current.sa_sigaction == own() || current.sa_sigaction == SIG_DFL || current.sa_sigaction == SIG_IGN {
        return;
    }
    let ours = sigaction { sa_sigaction: own(), sa_flags: current.sa_flags | libc::SA_SIGINFO, ..current };
    PREVIOUS.store(Box::into_raw(Box::new(current)), Ordering::SeqCst);
    set(&ours);
}

/// Installs the previous handler again, if the handler of this file is installed.
fn restore() {
    let previous = PREVIOUS.load(Ordering::SeqCst);
    if previous.is_null() || current().is_none_or(|current| current.sa_sigaction != own()) {
        return;
    }
    // SAFETY: `install` stored a pointer to memory that is never freed.
    #[expect(unsafe_code, reason = "a pointer that a signal's handler can read without a lock")]
    let previous = unsafe { *previous };
    set(&previous);
}

fn own() -> usize {
    receive as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize
}

fn current() -> Option<sigaction> {
    let mut current = MaybeUninit::<sigaction>::zeroed();
    // SAFETY: a null pointer asks for the present action, which is written to `current`.
    #[expect(unsafe_code, reason = "system call")]
    let failed = unsafe { sigaction(SIGINT, std::ptr::null(), current.as_mut_ptr()) };
    // SAFETY: zeros are a valid value, and the call has filled it.
    #[expect(unsafe_code, reason = "a value that a system call filled")]
    (failed == 0).then(|| unsafe { current.assume_init() })
}

fn set(action: &sigaction) {
    // SAFETY: the action is complete: one that the system reported, or the same with `receive`.
    #[expect(unsafe_code, reason = "system call")]
    unsafe {
        sigaction(SIGINT, action, null_mut());
    }
}

/// Counts the signal and calls the previous handler. Uses only what a signal's handler may use.
extern "C" fn receive(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    RECEIVED.fetch_add(1, Ordering::SeqCst);
    // SAFETY: this function may be called by a signal's handler, and has no other requirement.
    #[expect(unsafe_code, reason = "system call")]
    let this = unsafe { libc::pthread_self() } as usize;
    // A handler that was installed over this one, and is the previous one now, calls this one again.
    if CALLING.load(Ordering::SeqCst) == this {
        return;
    }
    let previous = PREVIOUS.load(Ordering::SeqCst);
    if previous.is_null() {
        return;
    }
    CALLING.store(this, Ordering::SeqCst);
    // SAFETY: `install` stored a pointer to memory that is never freed. The action is a function, not
    // SIG_DFL or SIG_IGN, of the type that SA_SIGINFO says.
    #[expect(unsafe_code, reason = "the call of another handler")]
    unsafe {
        let previous = &*previous;
        if previous.sa_flags & libc::SA_SIGINFO != 0 {
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = std::mem::transmute(previous.sa_sigaction);
            handler(signal, info, context);
        } else {
            let handler: extern "C" fn(c_int) = std::mem::transmute(previous.sa_sigaction);
            handler(signal);
        }
    }
    CALLING.store(0, Ordering::SeqCst);
}
