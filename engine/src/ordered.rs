//! Tasks side by side, their results one after another.
//!
//! Whichever thread ends the task whose turn it is hands its result over, and
//! those behind it that waited; meanwhile the others go on computing. So what
//! is written in order is written while the rest is made.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::{Error, Result};

/// Tasks a thread may be ahead of the one whose turn it is.
pub(crate) const AHEAD: usize = 2;

struct Turn<T, F> {
    next: usize,
    waiting: BTreeMap<usize, T>,
    take: F,
    failed: Option<Error>,
}

/// Makes tasks `0..tasks` on all threads of the pool and hands their results to
/// `take` in order. No more than [`AHEAD`] results a thread wait at a time.
///
/// # Errors
/// The first that `make` or `take` gives; nothing is taken after it.
pub(crate) fn in_order<T: Send>(
    tasks: usize,
    make: impl Fn(usize) -> Result<T> + Sync,
    take: impl FnMut(usize, T) -> Result<()> + Send,
) -> Result<()> {
    let threads = rayon::current_num_threads().max(1);
    let (started, moved) = (AtomicUsize::new(0), Condvar::new());
    let turn = Mutex::new(Turn { next: 0, waiting: BTreeMap::new(), take, failed: None });
    rayon::scope(|scope| {
        for _ in 0..threads.min(tasks) {
            scope.spawn(|_| {
                loop {
                    let task = started.fetch_add(1, Ordering::Relaxed);
                    if task >= tasks || !may_start(&turn, &moved, task, AHEAD * threads) {
                        return;
                    }
                    let made = make(task);
                    let mut turn = lock(&turn);
                    match made {
                        Ok(made) => drop(turn.waiting.insert(task, made)),
                        Err(error) => turn.failed = turn.failed.take().or(Some(error)),
                    }
                    let turn = &mut *turn;
                    while turn.failed.is_none()
                        && let Some(made) = turn.waiting.remove(&turn.next)
                    {
                        match (turn.take)(turn.next, made) {
                            Ok(()) => turn.next += 1,
                            Err(error) => turn.failed = Some(error),
                        }
                    }
                    moved.notify_all();
                    if turn.failed.is_some() {
                        return;
                    }
                }
            });
        }
    });
    let turn = turn.into_inner().unwrap_or_else(PoisonError::into_inner);
    turn.failed.map_or(Ok(()), Err)
}

/// Waits until `task` is near enough to its turn; not after a failure.
fn may_start<T, F>(turn: &Mutex<Turn<T, F>>, moved: &Condvar, task: usize, ahead: usize) -> bool {
    let mut turn = lock(turn);
    while turn.failed.is_none() && task >= turn.next + ahead {
        turn = moved.wait(turn).unwrap_or_else(PoisonError::into_inner);
    }
    turn.failed.is_none()
}

fn lock<T>(turn: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in another task ends the scope; until then what is here is whole.
    turn.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads").install(f)
    }

    #[test]
    fn results_come_in_order_and_few_wait() {
        for threads in [1, 3] {
            let (mut seen, ahead) = (Vec::new(), AtomicUsize::new(0));
            let most = AtomicUsize::new(0);
            on(threads, || {
                in_order(
                    200,
                    |i| {
                        most.fetch_max(ahead.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
                        // The first of each ten is slow.
                        if i % 10 == 0 {
                            std::thread::sleep(std::time::Duration::from_millis(2));
                        }
                        Ok(i * 3)
                    },
                    |i, x| {
                        ahead.fetch_sub(1, Ordering::Relaxed);
                        seen.push((i, x));
                        Ok(())
                    },
                )
            })
            .expect("no failure");
            assert_eq!(seen, (0..200).map(|i| (i, i * 3)).collect::<Vec<_>>());
            assert!(most.into_inner() <= AHEAD * threads + threads);
        }
        in_order(0, |_| Ok(()), |_, ()| Ok(())).expect("nothing to do");
    }

    #[test]
    fn a_failure_ends_it() {
        fn fail<T>(field: &'static str) -> Result<T> {
            Err(Error::Config { field, why: String::new() })
        }
        for threads in [1, 2] {
            let mut taken = 0;
            let error = on(threads, || {
                in_order(
                    1000,
                    |i| if i == 70 { fail("make") } else { Ok(i) },
                    |_, _| {
                        taken += 1;
                        Ok(())
                    },
                )
            });
            assert!(matches!(error, Err(Error::Config { field: "make", .. })));
            assert!(taken <= 70);
            let error = on(threads, || in_order(1000, Ok, |i, _| if i == 9 { fail("take") } else { Ok(()) }));
            assert!(matches!(error, Err(Error::Config { field: "take", .. })));
        }
    }
}
