//! A small server of S3 and HTTP on loopback, for the tests of `io` and of the command line: objects in memory, or
//! those of another server, with the faults that a test asks for.
//!
//! It answers ListObjectsV2 in pages, HEAD, and GET of ranges with If-Match.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a request asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET` or `HEAD`.
    pub method: String,
    /// The path, decoded: `/bucket/key`.
    pub path: String,
    /// What follows the question mark, as it was sent.
    pub query: String,
    /// First and last byte of the range asked for.
    pub range: Option<(u64, u64)>,
    /// The ETag that the object must have.
    pub if_match: Option<String>,
    /// How many requests for objects there were before this one.
    pub number: usize,
    raw: Vec<u8>,
}

/// What is done in place of an answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This status, and S3's code for it.
    Status(u16, &'static str),
    /// The answer's body ends after so many bytes.
    Cut(usize),
    /// Nothing comes, for so long.
    Stall(Duration),
    /// The answer is sent only after this time.
    Late(Duration),
}

/// Decides what fault a request for an object meets.
type Rule = Box<dyn FnMut(&Request) -> Option<Fault> + Send>;

type Object = (Arc<[u8]>, String);

struct Shared {
    /// The bytes of each object and their ETag.
    objects: Mutex<BTreeMap<String, Object>>,
    rule: Mutex<Option<Rule>>,
    log: Mutex<Vec<Request>>,
    upstream: Option<SocketAddr>,
    stopped: AtomicBool,
    habits: Mutex<Habits>,
}

/// What servers differ in.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    /// Whether objects have ETags.
    pub etags: bool,
    /// Whether ETags are weak.
    pub weak: bool,
    /// Whether ranges are answered; otherwise the whole object is sent.
    pub ranges: bool,
    /// Keys in a page of a list.
    pub page: usize,
}

/// A server; dropping it stops it.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Server {
    /// A server of objects that are put into it.
    pub fn start() -> Self {
        Self::serve(None)
    }

    /// A server that passes all on to the one at `upstream`, but for faults.
    pub fn before(upstream: SocketAddr) -> Self {
        Self::serve(Some(upstream))
    }

    fn serve(upstream: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            objects: Mutex::default(),
            rule: Mutex::default(),
            log: Mutex::default(),
            upstream,
            stopped: AtomicBool::new(false),
            habits: Mutex::new(Habits { etags: true, weak: false, ranges: true, page: 1000 }),
        });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), shared) = (stream, serving.clone()) else { continue };
                // A client that has gone is no fault of the server.
                std::thread::spawn(move || drop(shared.talk(stream)));
            }
        });
        Server { address, shared }
    }

    /// Closes its door: connections are refused.
    pub fn stop(&self) {
        if !self.shared.stopped.swap(true, Ordering::Relaxed) {
            drop(TcpStream::connect(self.address));
        }
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts an object at `bucket/key`.
    pub fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        let bytes: Arc<[u8]> = bytes.into().into();
        let etag = etag(&bytes);
        self.shared.objects.lock().unwrap().insert(format!("/{name}"), (bytes, etag));
    }

    /// Takes an object away.
    pub fn remove(&self, name: &str) {
        self.shared.objects.lock().unwrap().remove(&format!("/{name}"));
    }

    /// From now on faults are as `rule` has them; requests are counted anew.
    pub fn faults(&self, rule: impl FnMut(&Request) -> Option<Fault> + Send + 'static) {
        self.shared.log.lock().unwrap().clear();
        *self.shared.rule.lock().unwrap() = Some(Box::new(rule));
    }

    /// From now on there are no faults; requests are counted anew.
    pub fn no_faults(&self) {
        self.faults(|_| None);
    }

    /// Changes the server's habits.
    pub fn habits(&self, change: impl FnOnce(&mut Habits)) {
        change(&mut self.shared.habits.lock().unwrap());
    }

    /// The requests for objects so far, lists not among them.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.log.lock().unwrap().clone()
    }
}

impl Shared {
    fn talk(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        while let Some(mut request) = read_request(&mut reader)? {
            if self.stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            let is_list = request.query.contains("list-type=2");
            let mut fault = None;
            if !is_list {
                let mut log = self.log.lock().unwrap();
                request.number = log.len();
                log.push(request.clone());
                drop(log);
                fault = self.rule.lock().unwrap().as_mut().and_then(|rule| rule(&request));
            }
            match fault {
                Some(Fault::Status(status, code)) => {
                    write_answer(&mut stream, &request, &Answer::error(status, code))?;
                    continue;
                }
                Some(Fault::Stall(time)) => {
                    std::thread::sleep(time);
                    return Ok(());
                }
                Some(Fault::Late(time)) => std::thread::sleep(time),
                Some(Fault::Cut(_)) | None => {}
            }
            let cut = match fault {
                Some(Fault::Cut(bytes)) => Some(bytes),
                _ => None,
            };
            if let Some(upstream) = self.upstream {
                relay(upstream, &request, &mut stream, cut)?;
                return Ok(());
            }
            let answer = if is_list { self.list(&request) } else { self.get(&request) };
            match cut {
                Some(bytes) => {
                    let mut all = Vec::new();
                    write_answer(&mut all, &request, &answer)?;
                    let head = all.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
                    stream.write_all(&all[..all.len().min(head + bytes)])?;
                    return Ok(());
                }
                None => write_answer(&mut stream, &request, &answer)?,
            }
        }
        Ok(())
    }

    fn get(&self, request: &Request) -> Answer {
        let objects = self.objects.lock().unwrap();
        let Some((bytes, etag)) = objects.get(&request.path).cloned() else {
            let bucket = request.path.split('/').nth(1).unwrap_or_default();
            let known = objects.keys().any(|key| key.split('/').nth(1) == Some(bucket));
            return Answer::error(404, if known { "NoSuchKey" } else { "NoSuchBucket" });
        };
        drop(objects);
        let habits = *self.habits.lock().unwrap();
        if habits.etags && request.if_match.as_ref().is_some_and(|wanted| *wanted != etag) {
            return Answer::error(412, "PreconditionFailed");
        }
        let size = bytes.len() as u64;
        let mut headers = String::from("Last-Modified: Mon, 30 Nov 2026 10:00:00 GMT\r\n");
        if habits.etags {
            write!(headers, "ETag: {}{etag}\r\n", if habits.weak { "W/" } else { "" }).unwrap();
        }
        match request.range.filter(|_| habits.ranges) {
            Some((first, _)) if first >= size => Answer::error(416, "InvalidRange"),
            Some((first, last)) => {
                let last = last.min(size - 1);
                write!(headers, "Content-Range: bytes {first}-{last}/{size}\r\n").unwrap();
                Answer { status: 206, headers, body: bytes[first as usize..=last as usize].to_vec() }
            }
            None => Answer { status: 200, headers, body: bytes.to_vec() },
        }
    }

    fn list(&self, request: &Request) -> Answer {
        let of = |name: &str| {
            let pair = request.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            decoded(pair.unwrap_or_default())
        };
        let (prefix, after) = (of("prefix"), of("continuation-token"));
        let bucket = format!("{}/", request.path.trim_end_matches('/'));
        let objects = self.objects.lock().unwrap();
        if !objects.keys().any(|key| key.starts_with(&bucket)) {
            return Answer::error(404, "NoSuchBucket");
        }
        let page = self.habits.lock().unwrap().page;
        let keys = objects.iter().filter_map(|(name, object)| Some((name.strip_prefix(&bucket)?, object)));
        let mut keys: Vec<_> = keys.filter(|(key, _)| key.starts_with(&prefix) && **key > *after).collect();
        let more = keys.len() > page;
        keys.truncate(page);
        let mut body = String::from("<?xml version=\"1.0\"?><ListBucketResult>");
        for (key, (bytes, etag)) in &keys {
            let key = key.replace('&', "&amp;").replace('<', "&lt;");
            let (size, etag) = (bytes.len(), etag.replace('"', "&quot;"));
            write!(
                body,
                "<Contents><Key>{key}</Key><LastModified>2026-11-30T10:00:00.000Z</LastModified>\
                 <ETag>{etag}</ETag><Size>{size}</Size></Contents>"
            )
            .unwrap();
        }
        if let Some((last, _)) = keys.last().filter(|_| more) {
            write!(body, "<NextContinuationToken>{last}</NextContinuationToken>").unwrap();
        }
        write!(body, "<IsTruncated>{more}</IsTruncated></ListBucketResult>").unwrap();
        Answer { status: 200, headers: "Content-Type: application/xml\r\n".into(), body: body.into_bytes() }
    }
}

struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    fn error(status: u16, code: &str) -> Self {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>so it is</Message></Error>");
        Answer { status, headers: "Content-Type: application/xml\r\n".into(), body: body.into_bytes() }
    }
}

fn etag(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("\"{hash:016x}\"")
}

fn write_answer(to: &mut impl Write, request: &Request, answer: &Answer) -> std::io::Result<()> {
    let Answer { status, headers, body } = answer;
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    to.write_all(head.as_bytes())?;
    if request.method != "HEAD" {
        to.write_all(body)?;
    }
    to.flush()
}

/// The next request of a connection; none where it ends.
fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut lines = Vec::new();
    let mut raw = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        raw.extend_from_slice(line.as_bytes());
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_string());
    }
    let mut words = lines[0].split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let header = |name: &str| {
        lines.iter().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_string())
        })
    };
    let range = header("range").and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    let if_match = header("if-match");
    let (method, path, query) = (method.to_string(), decoded(path), query.to_string());
    Ok(Some(Request { method, path, query, range, if_match, number: 0, raw }))
}

/// Passes a request on, and its answer back, of whose body at most `cut` bytes.
fn relay(upstream: SocketAddr, request: &Request, back: &mut TcpStream, cut: Option<usize>) -> std::io::Result<()> {
    let mut there = TcpStream::connect(upstream)?;
    // It ends the connection with its answer, so that nothing of it need be understood.
    let text = String::from_utf8_lossy(&request.raw);
    let text = text.trim_end_matches("\r\n");
    write!(there, "{text}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    there.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
    let end = cut.map_or(answer.len(), |cut| answer.len().min(head + cut));
    back.write_all(&answer[..end])
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match hex.filter(|_| byte == b'%') {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}
