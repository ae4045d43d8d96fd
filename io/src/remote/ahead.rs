//! Reads an object ahead in pieces, with several requests in progress at a time.
//!
//! A sequential reader rarely waits for a request of its own, because the next pieces have already
//! been requested. The first read at a new place requests a small piece. Pieces grow while reading
//! continues from where they end.
//!
//! - The pieces held by one [`Ahead`], requested or received, add up to at most [`budget`] bytes.
//! - No thread holds the lock of the streams while it waits for the network.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use tokio::task::AbortHandle;

use super::client::{Client, EVERY, UNDER_WAY, guarded};
use super::failure::Failure;
use super::object::Object;
use crate::source::lock;

/// The number of bytes requested at a new place. Most headers and footers fit.
const FIRST: u64 = 64 << 10;

/// How many bytes before the latest read are kept, because buffered readers read further than their
/// users do.
const BEHIND: u64 = 64 << 10;

/// The bounds of the bytes read ahead, for small and for large objects.
const LEAST: u64 = 1 << 20;
const MOST: u64 = 32 << 20;

/// The most bytes of one request.
const LONGEST: u64 = 8 << 20;

/// Returns the most bytes held by a reader of `streams` places in an object of `bytes` bytes.
pub(super) fn budget(bytes: u64, streams: u64) -> u64 {
    let each = streams.saturating_mul(2 * FIRST);
    // Never much more than the object itself. The margin covers parts that are held twice, at its
    // beginning and end.
    (bytes / 8).clamp(LEAST, MOST).max(each).min(bytes.saturating_add(4 * FIRST))
}

/// A reader of one object, shared by the clones of a handle.
#[derive(Debug)]
pub(crate) struct Ahead {
    object: Arc<Object>,
    budget: u64,
    /// The number of places expected to be read in turns.
    expected: u64,
    streams: Mutex<Streams>,
}

#[derive(Debug, Default)]
struct Streams {
    all: Vec<Stream>,
    /// The number of reads so far.
    reads: u64,
}

/// A place from which the object is read sequentially.
#[derive(Debug)]
struct Stream {
    /// Ranges not yet requested, in reverse order: the next one is last.
    rest: Vec<Range<u64>>,
    /// Pieces requested or received, in order.
    pieces: VecDeque<Piece>,
    /// The size of the next piece in bytes.
    next: u64,
    /// Whether all of the stream is known to be read, in order.
    planned: bool,
    /// Whether a sequential read has been seen here, or is known to follow.
    steady: bool,
    /// The number of the read that last used this stream.
    used: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Piece {
    range: Range<u64>,
    slot: Arc<Slot>,
}

impl Stream {
    fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.range.end - piece.range.start).sum()
    }

    fn piece(&self, at: u64) -> Option<&Piece> {
        self.pieces.iter().find(|piece| piece.range.contains(&at))
    }

    /// Whether a read at `at` continues this stream, after a gap of at most one piece (any gap if
    /// planned).
    fn leads_to(&self, at: u64) -> bool {
        let near = |start: u64| self.planned || at.saturating_sub(start) <= self.next;
        self.rest.last().is_some_and(|next| near(next.start)) && self.rest.iter().any(|part| part.contains(&at))
    }

    /// Drops pieces that end at least [`BEHIND`] bytes before `at`.
    fn leave_behind(&mut self, at: u64) {
        while self.pieces.front().is_some_and(|piece| piece.range.end.saturating_add(BEHIND) <= at) {
            self.pieces.pop_front();
        }
    }

    /// Skips everything before `at` that has not been requested.
    fn skip_to(&mut self, at: u64) {
        while let Some(part) = self.rest.last_mut() {
            if part.contains(&at) {
                part.start = at;
                return;
            }
            self.rest.pop();
        }
    }

    /// Removes and returns the next range to request: `most` bytes, or fewer at the end of a part.
    fn take(&mut self, most: u64) -> Option<Range<u64>> {
        let part = self.rest.last_mut()?;
        let taken = part.start..part.end.min(part.start.saturating_add(most));
        part.start = taken.end;
        if part.start >= part.end {
            self.rest.pop();
        }
        Some(taken)
    }
}

impl Streams {
    fn bytes(&self) -> u64 {
        self.all.iter().map(Stream::bytes).sum()
    }
}

/// Sends a request for `range` of an object.
pub(super) fn ask(object: &Object, range: Range<u64>) -> Piece {
    let slot = Arc::new(Slot::default());
    let (store, key, state) = (object.store.clone(), object.key.clone(), object.state.clone());
    let (permits, filling, part) = (object.client.under_way().clone(), Filling(Arc::downgrade(&slot)), range.clone());
    let task = object.client.spawn(async move {
        let _permit = permits.acquire_owned().await;
        let result = guarded(store.get(&key, part, Some(&state))).await;
        filling.fill(result.map(|(_, bytes)| bytes));
    });
    // It is set only here.
    let _ = slot.task.set(task);
    Piece { range, slot }
}

impl Piece {
    /// Returns the beginning of an object as a piece, if it has any bytes.
    pub(super) fn filled(head: Bytes) -> Option<Self> {
        let range = 0..head.len() as u64;
        (!range.is_empty()).then(|| Piece { range, slot: Arc::new(Slot::filled(head)) })
    }
}

impl Ahead {
    /// See [`Object::reader`]. `begun` has the pieces that were requested already.
    pub(super) fn new(object: Arc<Object>, streams: u64, runs: Vec<Vec<Range<u64>>>, begun: Vec<Piece>) -> Self {
        let expected = if runs.is_empty() { streams.max(1) } else { runs.len() as u64 };
        let budget = budget(object.state.bytes, streams.max(expected));
        let share = budget / runs.len().max(1) as u64;
        let mut all: Vec<Stream> = Vec::with_capacity(runs.len() + 1);
        for mut run in runs {
            run.reverse();
            let (pieces, next) = (VecDeque::new(), piece(share));
            all.push(Stream { rest: run, pieces, next, planned: true, steady: true, used: 0 });
        }
        for piece in begun {
            let rest = Some(piece.range.end..object.state.bytes).filter(|rest| !rest.is_empty());
            let (rest, pieces) = (rest.into_iter().collect(), VecDeque::from([piece]));
            all.push(Stream { rest, pieces, next: 2 * FIRST, planned: false, steady: false, used: 0 });
        }
        Ahead { object, budget, expected, streams: Mutex::new(Streams { all, reads: 0 }) }
    }

    /// Reads the bytes from offset `at` on that are in one piece, at most `to.len()`, and returns
    /// how many. Returns 0 only at the end of the object, or if `to` is empty.
    pub(crate) fn read_at(&self, at: u64, to: &mut [u8]) -> io::Result<usize> {
        if at >= self.object.state.bytes || to.is_empty() {
            return Ok(0);
        }
        let Piece { range, slot } = self.wanted(at, to.len() as u64);
        let bytes = match slot.wait(&self.object.client) {
            Ok(bytes) => bytes,
            Err(failure) => {
                // A later read has to send its requests again.
                lock(&self.streams).all.clear();
                return Err(self.object.failed(failure));
            }
        };
        let from = bytes.get((at - range.start) as usize..).unwrap_or_default();
        let read = from.len().min(to.len());
        to[..read].copy_from_slice(&from[..read]);
        Ok(read)
    }

    /// Fills `to` with the given parts, each an offset and a length, in any order. They are
    /// requested concurrently, and nothing is kept.
    pub(crate) fn read_parts(&self, parts: &[(u64, usize)], to: &mut [u8]) -> io::Result<()> {
        let mut under_way: VecDeque<(Arc<Slot>, &mut [u8])> = VecDeque::new();
        let (mut rest, mut next) = (to, 0);
        let finish = |(slot, to): (Arc<Slot>, &mut [u8])| {
            let bytes = slot.wait(&self.object.client).map_err(|failure| self.object.failed(failure))?;
            match bytes.len() == to.len() {
                true => to.copy_from_slice(&bytes),
                false => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
            Ok(())
        };
        while let Some(&(at, first)) = parts.get(next) {
            // Adjacent parts are combined into one request.
            let mut length = first;
            next += 1;
            while let Some(&(after, more)) = parts.get(next)
                && after == at + length as u64
                && (length + more) as u64 <= LONGEST
            {
                length += more;
                next += 1;
            }
            if at + length as u64 > self.object.state.bytes {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (here, after) = std::mem::take(&mut rest).split_at_mut(length);
            rest = after;
            if under_way.len() == UNDER_WAY
                && let Some(oldest) = under_way.pop_front()
            {
                finish(oldest)?;
            }
            under_way.push_back((ask(&self.object, at..at + length as u64).slot, here));
        }
        under_way.into_iter().try_for_each(finish)
    }

    /// Returns the piece that holds the byte at `at`, requesting it if necessary, and requests the
    /// pieces after it.
    fn wanted(&self, at: u64, length: u64) -> Piece {
        let mut guard = lock(&self.streams);
        let streams = &mut *guard;
        streams.reads += 1;
        let all = &mut streams.all;
        // Streams that have not been used for several rounds of reads are dropped.
        let old = streams.reads.saturating_sub(64 + 8 * all.len() as u64);
        all.retain(|stream| stream.planned || stream.used >= old);
        let held = all.iter().position(|stream| stream.piece(at).is_some());
        let going_on = held.or_else(|| all.iter().position(|stream| stream.leads_to(at)));
        let index = match going_on {
            Some(index) => index,
            None => {
                let end = self.object.state.bytes;
                // After the end of an object, the part before it is usually read next, so the piece
                // begins earlier.
                let start = at.min(end.saturating_sub(FIRST));
                let next = length.clamp(FIRST, piece(self.budget));
                let rest = Vec::from_iter(Some(start..end));
                let (pieces, planned, steady) = (VecDeque::new(), false, false);
                all.push(Stream { rest, pieces, next, planned, steady, used: 0 });
                all.len() - 1
            }
        };
        let stream = &mut all[index];
        stream.used = streams.reads;
        stream.leave_behind(at);
        if held.is_none() {
            if going_on.is_some() {
                stream.steady = true;
                stream.skip_to(at);
            }
            self.extend(streams, index, true);
        }
        let found = streams.all[index].piece(at).cloned();
        while streams.all[index].steady && self.extend(streams, index, false) {}
        streams.all.retain(|stream| !stream.pieces.is_empty() || stream.steady && !stream.rest.is_empty());
        // Normally the piece was found, or was requested above. If not, it is requested separately.
        found.unwrap_or_else(|| ask(&self.object, at..(at + FIRST).min(self.object.state.bytes)))
    }

    /// Requests the next piece of a stream if the budget allows. With `must`, other streams give up
    /// pieces to make room. Returns whether a piece was requested.
    fn extend(&self, streams: &mut Streams, index: usize, must: bool) -> bool {
        let steady = streams.all.iter().filter(|stream| stream.steady).count() as u64;
        let share = self.budget / steady.max(self.expected);
        let stream = &mut streams.all[index];
        let most = if stream.steady { stream.next.min(piece(share)) } else { stream.next };
        let full = stream.bytes() + most > share || streams.bytes() + most > self.budget;
        if full && !must {
            return false;
        }
        let Some(range) = streams.all[index].take(most) else { return false };
        while streams.bytes() + most > self.budget {
            let others = streams.all.iter_mut().enumerate().filter(|(i, s)| *i != index && !s.pieces.is_empty());
            let Some((_, other)) = others.max_by_key(|(_, stream)| stream.bytes()) else { break };
            // The piece furthest ahead is given up and will be requested again later.
            if let Some(piece) = other.pieces.pop_back() {
                other.rest.push(piece.range);
            }
        }
        let piece = ask(&self.object, range);
        let stream = &mut streams.all[index];
        stream.pieces.push_back(piece);
        if stream.steady {
            stream.next = most.saturating_mul(2).min(LONGEST);
        }
        true
    }

    /// Returns the size of all pieces, requested or received.
    #[cfg(test)]
    pub(super) fn held(&self) -> u64 {
        lock(&self.streams).bytes()
    }
}

/// Returns the size of a piece in a stream that may hold `share` bytes: a quarter, so that several
/// can be in progress.
fn piece(share: u64) -> u64 {
    (share / 4).clamp(FIRST, LONGEST)
}

/// Receives the response to a request.
#[derive(Debug, Default)]
struct Slot {
    answer: Mutex<Option<Result<Bytes, Failure>>>,
    came: Condvar,
    task: OnceLock<AbortHandle>,
}

impl Slot {
    fn filled(bytes: Bytes) -> Self {
        Slot { answer: Mutex::new(Some(Ok(bytes))), came: Condvar::new(), task: OnceLock::new() }
    }

    /// Waits for the response. Returns [`Failure::Stopped`] if told to stop before it arrives.
    fn wait(&self, client: &Client) -> Result<Bytes, Failure> {
        let mut answer = lock(&self.answer);
        loop {
            if let Some(answer) = answer.as_ref() {
                return answer.clone();
            }
            if client.stopped() {
                return Err(Failure::Stopped);
            }
            answer = self.came.wait_timeout(answer, EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Slot {
    /// Aborts the request, since nobody waits for it any more.
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// Fills a slot. If the request ends without a response, dropping this fills the slot with a
/// failure.
struct Filling(Weak<Slot>);

impl Filling {
    fn fill(&self, answer: Result<Bytes, Failure>) {
        if let Some(slot) = self.0.upgrade() {
            lock(&slot.answer).get_or_insert(answer);
            slot.came.notify_all();
        }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.fill(Err(Failure::failed("a request was given up")));
    }
}
