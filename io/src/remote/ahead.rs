//! An object's bytes, read ahead in pieces by requests under way beside each other.
//!
//! Whoever reads on does not wait for a request of his own: the next pieces are
//! on their way. A read of a place where nobody read before fetches a small
//! piece; pieces grow while reading goes on from where they end.
//!
//! What must hold: pieces in all readers of one handle come to no more than
//! [`budget`]; nobody holds a lock while he waits for the network.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use tokio::task::AbortHandle;

use super::client::{Client, EVERY, UNDER_WAY};
use super::failure::Failure;
use super::object::Object;
use crate::source::lock;

/// Bytes that are read where nobody read before: most footers and headers.
const FIRST: u64 = 64 << 10;

/// Bytes behind the place read last that stay: buffers read beyond what they are asked for.
const BEHIND: u64 = 64 << 10;

/// Bytes that are read ahead, of a small object and of a large one.
const LEAST: u64 = 1 << 20;
const MOST: u64 = 32 << 20;

/// The most bytes of one request.
const LONGEST: u64 = 8 << 20;

/// The most bytes that a reader of `streams` places of an object of `bytes` bytes holds.
pub(super) fn budget(bytes: u64, streams: u64) -> u64 {
    let each = streams.saturating_mul(2 * FIRST);
    // No more is held than there is, but for what is read twice: a beginning, an end.
    (bytes / 8).clamp(LEAST, MOST).max(each).min(bytes.saturating_add(4 * FIRST))
}

/// A reader of one object. Copies of a handle share it.
#[derive(Debug)]
pub(crate) struct Ahead {
    object: Arc<Object>,
    budget: u64,
    /// Places that will be read beside each other.
    expected: u64,
    streams: Mutex<Streams>,
}

#[derive(Debug, Default)]
struct Streams {
    all: Vec<Stream>,
    /// Reads so far.
    reads: u64,
}

/// A place that is read on from.
#[derive(Debug)]
struct Stream {
    /// What is not asked for yet, the next part last.
    rest: Vec<Range<u64>>,
    /// What is asked for, in order.
    pieces: VecDeque<Piece>,
    /// Bytes of the next piece.
    next: u64,
    /// Whether all of it will be read, in order.
    planned: bool,
    /// Whether reading went on here, so that it is likely to.
    steady: bool,
    /// The last read.
    used: u64,
}

#[derive(Debug, Clone)]
struct Piece {
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

    /// Whether reading at `at` is reading on, with a gap of no more than a piece.
    fn leads_to(&self, at: u64) -> bool {
        let near = |start: u64| self.planned || at.saturating_sub(start) <= self.next;
        self.rest.last().is_some_and(|next| near(next.start)) && self.rest.iter().any(|part| part.contains(&at))
    }

    /// Lets go what is so far before `at` that nobody will read it.
    fn leave_behind(&mut self, at: u64) {
        while self.pieces.front().is_some_and(|piece| piece.range.end.saturating_add(BEHIND) <= at) {
            self.pieces.pop_front();
        }
    }

    /// Passes over what comes before `at` and is not asked for.
    fn skip_to(&mut self, at: u64) {
        while let Some(part) = self.rest.last_mut() {
            if part.contains(&at) {
                part.start = at;
                return;
            }
            self.rest.pop();
        }
    }

    /// The next `most` bytes to be asked for, fewer where a part ends.
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

impl Ahead {
    /// See [`Object::reader`]; `head` is the object's beginning, if it was read.
    pub(super) fn new(object: Arc<Object>, streams: u64, runs: Vec<Vec<Range<u64>>>, head: Option<Bytes>) -> Self {
        let expected = if runs.is_empty() { streams.max(1) } else { runs.len() as u64 };
        let budget = budget(object.state.bytes, streams.max(expected));
        let share = budget / runs.len().max(1) as u64;
        let mut all: Vec<Stream> = Vec::with_capacity(runs.len() + 1);
        for mut run in runs {
            run.reverse();
            let (pieces, next) = (VecDeque::new(), piece(share));
            all.push(Stream { rest: run, pieces, next, planned: true, steady: true, used: 0 });
        }
        if let Some(head) = head.filter(|head| !head.is_empty()) {
            let range = 0..head.len() as u64;
            let rest = Vec::from_iter(Some(range.end..object.state.bytes));
            let pieces = VecDeque::from([Piece { range, slot: Arc::new(Slot::filled(head)) }]);
            all.push(Stream { rest, pieces, next: 2 * FIRST, planned: false, steady: false, used: 0 });
        }
        Ahead { object, budget, expected, streams: Mutex::new(Streams { all, reads: 0 }) }
    }

    /// Reads as many bytes from `at` on as there are at once, at most as many as `to` holds;
    /// none only at the end.
    pub(crate) fn read_at(&self, at: u64, to: &mut [u8]) -> io::Result<usize> {
        if at >= self.object.state.bytes || to.is_empty() {
            return Ok(0);
        }
        let Piece { range, slot } = self.wanted(at, to.len() as u64);
        let bytes = match slot.wait(&self.object.client) {
            Ok(bytes) => bytes,
            Err(failure) => {
                // Whoever reads again is to ask again.
                lock(&self.streams).all.clear();
                return Err(self.object.failed(failure));
            }
        };
        let from = bytes.get((at - range.start) as usize..).unwrap_or_default();
        let read = from.len().min(to.len());
        to[..read].copy_from_slice(&from[..read]);
        Ok(read)
    }

    /// Fills `to` with parts, each of so many bytes from a place on, in any order: by requests
    /// beside each other, of which nothing is kept.
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
            // Parts that follow each other are one request.
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
            under_way.push_back((self.ask(at..at + length as u64).slot, here));
        }
        under_way.into_iter().try_for_each(finish)
    }

    /// The piece that holds the byte at `at`, asked for if it is not yet, and others behind it.
    fn wanted(&self, at: u64, length: u64) -> Piece {
        let mut guard = lock(&self.streams);
        let streams = &mut *guard;
        streams.reads += 1;
        let all = &mut streams.all;
        // A place that was not read for several rounds of all others is left.
        let old = streams.reads.saturating_sub(64 + 8 * all.len() as u64);
        all.retain(|stream| stream.planned || stream.used >= old);
        let held = all.iter().position(|stream| stream.piece(at).is_some());
        let going_on = held.or_else(|| all.iter().position(|stream| stream.leads_to(at)));
        let index = match going_on {
            Some(index) => index,
            None => {
                let end = self.object.state.bytes;
                // Whoever reads an end reads what is before it next.
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
        // It has just been asked for.
        found.unwrap_or_else(|| self.ask(at..(at + FIRST).min(self.object.state.bytes)))
    }

    /// Asks for the next piece of a stream, as far as there is room; where it `must` be, others
    /// make room. Gives whether it was asked for.
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
            // What was read ahead the furthest is asked for again when its time comes.
            if let Some(piece) = other.pieces.pop_back() {
                other.rest.push(piece.range);
            }
        }
        let piece = self.ask(range);
        let stream = &mut streams.all[index];
        stream.pieces.push_back(piece);
        if stream.steady {
            stream.next = most.saturating_mul(2).min(LONGEST);
        }
        true
    }

    /// Bytes of all pieces, on their way or there.
    #[cfg(test)]
    pub(super) fn held(&self) -> u64 {
        lock(&self.streams).bytes()
    }

    /// Sends a request.
    fn ask(&self, range: Range<u64>) -> Piece {
        let slot = Arc::new(Slot::default());
        let object = &self.object;
        let (store, key, state) = (object.store.clone(), object.key.clone(), object.state.clone());
        let (permits, filling, part) =
            (object.client.under_way().clone(), Filling(Arc::downgrade(&slot)), range.clone());
        let task = object.client.spawn(async move {
            let _permit = permits.acquire_owned().await;
            let result = store.get(&key, part, Some(&state)).await;
            filling.fill(result.map(|(_, bytes)| bytes));
        });
        // It is set once.
        let _ = slot.task.set(task);
        Piece { range, slot }
    }
}

/// Bytes of a piece where a stream may hold `share`: four of them, so that some are on their way.
fn piece(share: u64) -> u64 {
    (share / 4).clamp(FIRST, LONGEST)
}

/// Where a request's answer is put.
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

    /// The answer; [`Failure::Stopped`] if whoever waits is to stop before it is there.
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
    /// What nobody waits for any more is given up.
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// Who fills a slot, even where a request ends without an answer.
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
        self.fill(Err(Failure::Failed { what: "a request was given up".into(), input: false }));
    }
}
