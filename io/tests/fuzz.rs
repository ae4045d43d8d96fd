//! Damaged and made-up files for every reader: seeds that are changed at
//! random, by bits, ranges and whole numbers, mostly where headers and footers
//! are.
//!
//! What must hold for any bytes at all: no panic, and a call never has more
//! memory than its bound: what the source says it holds, what was asked for,
//! and a constant. One seed gives the same inputs again.
//!
//! The tests take a few seconds. `./x fuzz [target] [runs] [seed]` runs longer;
//! the input of a failure stays in `target/tmp/fuzz`, and belongs into
//! `tests/data/fuzz/<target>` when it is mended: all runs begin with these.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use lowland_io::{
    Coordinates, GraphReader, GraphWriter, MISSING, Manifest, MapColumns, MapReader, MapWriter, OpenOptions, Source,
    open, runs, spool,
};
use xxhash_rust::xxh3::xxh3_64;

/// Counts live bytes of a thread, and the most that there were.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static MAX_LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(by: isize) {
    // A thread that ends has no counters any more.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + by);
        let _ = MAX_LIVE_BYTES.try_with(|most| most.set(most.get().max(live.get())));
    });
}

#[expect(unsafe_code, reason = "the allocator's only interface")]
// SAFETY: every call is the system allocator's own, with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a call may hold beside what its source says and what was asked for: open pages, windows
/// of codecs, a file's metadata.
const SPARE: usize = 24 << 20;

/// Runs one call; tells why it is not as it must be.
fn bounded<T>(what: &str, bound: usize, call: impl FnOnce() -> T) -> Result<T, String> {
    let before = LIVE.get();
    MAX_LIVE_BYTES.set(before);
    let answer = catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()));
        format!("{what} panicked: {}", text.unwrap_or_default())
    })?;
    let most = usize::try_from(MAX_LIVE_BYTES.get() - before).unwrap_or(0);
    if most > bound { Err(format!("{what} held {most} bytes, above {bound}")) } else { Ok(answer) }
}

/// Random numbers that one seed gives again (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A place in `length` bytes: mostly near the ends, where headers and footers are.
    fn place(&mut self, length: usize) -> usize {
        let shift = 4 + self.below(8);
        let near = self.below(1 << shift);
        match self.below(4) {
            0 => near.min(length.saturating_sub(1)),
            1 | 2 => length.saturating_sub(1 + near),
            _ => self.below(length),
        }
    }

    /// A number that readers stumble over.
    fn number(&mut self, length: usize) -> u64 {
        let shift = self.below(64);
        match self.below(8) {
            0 => self.below(8) as u64,
            1 => (self.below(8) as u64).wrapping_neg(),
            2 => (1u64 << shift).wrapping_sub(self.below(2) as u64),
            3 => self.one(&[i8::MAX as u64, i16::MAX as u64, i32::MAX as u64, i64::MAX as u64]),
            4 => self.one(&[u64::from(u8::MAX), u64::from(u16::MAX), u64::from(u32::MAX), i32::MIN as u64]),
            5 => (length as u64 + self.below(3) as u64).wrapping_sub(1),
            6 => self.below(length) as u64,
            _ => self.next() >> shift,
        }
    }
}

/// Words that headers of text are made of.
const WORDS: [&str; 30] = [
    "'<f4'",
    "'<f2'",
    "'>f8'",
    "'<i8'",
    "'|b1'",
    "'|u1'",
    "'<c8'",
    "'|O'",
    "'<U9'",
    "True",
    "False",
    "(",
    ")",
    ",",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "'descr'",
    "'shape'",
    "0",
    "-1",
    "1e999",
    "18446744073709551616",
    "999999999999",
    "null",
    "\"\"",
    "\\u0000",
    "é",
];

/// Changes `bytes` at random; parts of `others` are spliced in.
fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let length = bytes.len();
        if length == 0 {
            bytes.push(random.next() as u8);
            continue;
        }
        let at = random.place(length);
        match random.below(14) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = random.number(length) as u8,
            // Whole numbers, little-endian, often at multiples of their width.
            3..=5 => {
                let width = 1 << random.below(4);
                let at = if random.below(2) == 0 { at } else { at / width * width };
                let number = random.number(length).to_le_bytes();
                bytes.iter_mut().skip(at).zip(&number[..width]).for_each(|(byte, new)| *byte = *new);
            }
            // A varint, as Thrift's footers have them.
            6 => {
                let mut number = random.number(length);
                let mut varint = Vec::new();
                while number >= 0x80 {
                    varint.push(number as u8 | 0x80);
                    number >>= 7;
                }
                varint.push(number as u8);
                let old = bytes[at..].iter().position(|byte| byte & 0x80 == 0).map_or(1, |n| n + 1);
                let over = random.one(&[old, varint.len()]);
                bytes.splice(at..(at + over).min(length), varint);
            }
            // A number in text.
            7 => {
                let digit = (at..length).chain(0..at).find(|&i| bytes[i].is_ascii_digit());
                if let Some(start) = digit {
                    let end = start + bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                    bytes.splice(start..end, random.number(length).to_string().into_bytes());
                }
            }
            8 => {
                let word = random.one(&WORDS).as_bytes();
                let over = random.one(&[0, word.len()]);
                bytes.splice(at..(at + over).min(length), word.iter().copied());
            }
            9 => bytes.truncate(at),
            10 => {
                let end = at + random.below(1 + 16.min(length - at));
                bytes.drain(at..end);
            }
            11 => {
                let end = (at + 1 + random.below(64)).min(length);
                let again = bytes[at..end].to_vec();
                let to = random.place(length);
                let over = random.one(&[0, again.len()]);
                bytes.splice(to..(to + over).min(length), again);
            }
            12 => {
                let other = &others[random.below(others.len())];
                let from = random.place(other.len());
                let end = (from + 1 + random.below(256)).min(other.len());
                let over = random.one(&[0, end.saturating_sub(from)]);
                bytes.splice(at..(at + over).min(length), other[from.min(end)..end].iter().copied());
            }
            _ => {
                let value = random.next() as u8;
                let value = random.one(&[0, 0xff, value]);
                bytes.extend(std::iter::repeat_n(value, random.below(32)));
            }
        }
    }
}

/// A reader that is given any bytes.
struct FuzzTarget {
    name: &'static str,
    /// Files of `tests/data` that it begins with.
    seeds: &'static [&'static str],
    read: fn(&Path, &[u8], &mut Random) -> Result<(), String>,
}

const TARGETS: [FuzzTarget; 7] = [
    FuzzTarget {
        name: "npy",
        seeds: &[
            "numpy_f16.npy",
            "numpy_f32.npy",
            "numpy_f64.npy",
            "numpy_u8.npy",
            "numpy_version2.npy",
            "numpy_version3.npy",
            "numpy_fortran.npy",
            "numpy_big_endian.npy",
            "numpy_i64.npy",
            "bad_twice.npy",
            "bad_structured.npy",
            "bad_three_dimensions.npy",
        ],
        read: vectors,
    },
    FuzzTarget {
        name: "arrow",
        seeds: &[
            "pyarrow_list_f32.arrow",
            "pyarrow_large_list_f32.arrow",
            "pyarrow_fixed_f16.arrow",
            "pyarrow_lz4_f32.arrow",
            "pyarrow_zstd_f32.arrow",
            "pyarrow_dictionary_f32.arrow",
            "pyarrow_scalars.arrow",
            "pyarrow_slice_f32.arrow",
            "polars_array_f32.arrow",
            "polars_lz4_f64.arrow",
            "pyarrow_clothes.arrow",
            "bad_null_list.arrow",
            "bad_null_component.arrow",
        ],
        read: vectors,
    },
    FuzzTarget { name: "stream", seeds: &["polars_f32.arrows", "pyarrow_f32.arrows"], read: stream },
    FuzzTarget {
        name: "parquet",
        seeds: &[
            "pyarrow_list_f32.parquet",
            "pyarrow_large_list_f32.parquet",
            "pyarrow_fixed_f16.parquet",
            "pyarrow_fixed_u8.parquet",
            "pyarrow_lz4_f32.parquet",
            "pyarrow_zstd_f32.parquet",
            "pyarrow_scalars.parquet",
            "polars_array_f32.parquet",
            "polars_list_f64.parquet",
            "pyarrow_clothes.parquet",
            "bad_sparse.parquet",
            "bad_null_list.parquet",
            "bad_ragged.parquet",
        ],
        read: vectors,
    },
    FuzzTarget { name: "graph", seeds: &["pyarrow_list_f32.parquet"], read: graph },
    FuzzTarget {
        name: "map",
        seeds: &["pyarrow_scalars.parquet", "pyarrow_scalars.arrow", "numpy_f32.npy"],
        read: map,
    },
    FuzzTarget {
        name: "manifest",
        seeds: &["run-v3/complete/manifest.json", "run-v3/layout/manifest.json"],
        read: manifest,
    },
];

/// Numbers that are asked of a reader at once, at most.
const ASKED: usize = 1 << 16;

fn vectors(path: &Path, _: &[u8], random: &mut Random) -> Result<(), String> {
    // Of the columns in other clothes one; of other files mostly the one that need not be named.
    let named = ["*", "a,b", "v", "v:f32", "struct.values", "spark", "views", "dictionary", "words", "nested"];
    let bytes = ["decimal", "bool", "ragged nest", "binary:f32", "binary view:f16", "bytes:bf16", "packed:bits"];
    let column = match random.below(4) {
        0 | 1 => None,
        2 => Some(random.one(&named)),
        _ => Some(random.one(&bytes)),
    };
    let options = OpenOptions { column: column.map(Into::into), ..OpenOptions::default() };
    let paths = [path.to_string_lossy().into_owned()];
    match bounded("open", SPARE, || open(&paths, &options))? {
        Ok(source) => read_all(&*source, random),
        Err(error) => told(&error),
    }
}

fn read_all(source: &dyn Source, random: &mut Random) -> Result<(), String> {
    let shape = source.shape();
    let held = bounded("held_bytes", SPARE, || source.held_bytes())?;
    // A file may say anything of itself: what it says bounds nothing beyond the constant.
    let bound = SPARE + usize::try_from(held).unwrap_or(usize::MAX).min(SPARE);
    let most = (ASKED / shape.dim.max(1)) as u64;
    for first in [0, shape.rows / 2, shape.rows.saturating_sub(2)] {
        let rows = (shape.rows - first).min(1 + random.below(64) as u64).min(most) as usize;
        let mut singles = vec![0f32; rows * shape.dim];
        if let Err(error) = bounded("read_rows", bound, || source.read_rows(first, &mut singles))? {
            told(&error)?;
        }
        let mut doubles = vec![0f64; rows * shape.dim];
        if let Err(error) = bounded("read_rows_f64", bound, || source.read_rows_f64(first, &mut doubles))? {
            told(&error)?;
        }
        for name in source.columns().into_iter().take(8) {
            if let Err(error) = bounded("read_columns", bound, || source.read_columns(&[name], first, rows))? {
                told(&error)?;
            }
        }
    }
    if let Err(error) = bounded("fingerprints", SPARE, || source.fingerprints())? {
        told(&error)?;
    }
    bounded("release", SPARE, || source.release())
}

/// What a failure says must be of a size that can be shown.
fn told(error: &lowland_io::Error) -> Result<(), String> {
    let length = bounded("the error's text", SPARE, || error.to_string().len())?;
    if length > 1 << 20 { Err(format!("an error of {length} bytes")) } else { Ok(()) }
}

fn stream(path: &Path, bytes: &[u8], random: &mut Random) -> Result<(), String> {
    let copy = path.with_extension("copy");
    if let Err(error) = bounded("spool", SPARE, || spool(bytes, "a stream", &copy))? {
        return told(&error);
    }
    let copies = [copy.to_string_lossy().into_owned()];
    match bounded("open", SPARE, || open(&copies, &OpenOptions::default()))? {
        Ok(source) => read_all(&*source, random),
        Err(error) => told(&error),
    }
}

fn graph(path: &Path, _: &[u8], random: &mut Random) -> Result<(), String> {
    let reader = match bounded("open", SPARE, || GraphReader::open(path))? {
        Ok(reader) => reader,
        Err(error) => return told(&error),
    };
    for first in [0, reader.rows() / 2] {
        let most = (ASKED / reader.k().max(1)) as u64;
        let rows = (reader.rows() - first).min(1 + random.below(64) as u64).min(most) as usize;
        let (mut ids, mut distances) = (vec![0; rows * reader.k()], vec![0.0; rows * reader.k()]);
        let read = || reader.read_rows(first, &mut ids, &mut distances);
        if let Err(error) = bounded("read_rows", SPARE, read)? {
            told(&error)?;
        }
    }
    bounded("fingerprint", SPARE, || reader.fingerprint().map(drop))?.or_else(|error| told(&error))
}

fn map(path: &Path, _: &[u8], random: &mut Random) -> Result<(), String> {
    let coordinates = match random.below(4) {
        0 => Coordinates::Asked("a,b".into()),
        1 => Coordinates::Named(vec!["x".into(), "y".into()]),
        _ => Coordinates::Usual,
    };
    let reader = match bounded("open", SPARE, || MapReader::open(path, &coordinates))? {
        Ok(reader) => reader,
        Err(error) => return told(&error),
    };
    let columns = reader.columns();
    for first in [0, reader.rows() / 2] {
        let rows = (reader.rows() - first).min(reader.portion() as u64).min(1 + random.below(64) as u64) as usize;
        let beside: Vec<&str> =
            columns.iter().map(String::as_str).skip(random.below(columns.len().max(1))).take(random.below(3)).collect();
        if let Err(error) = bounded("read", SPARE, || reader.read(first, rows, &beside))? {
            told(&error)?;
        }
    }
    Ok(())
}

/// A manifest's checksum is put right half of the time, so that what it guards is read.
fn manifest(path: &Path, bytes: &[u8], random: &mut Random) -> Result<(), String> {
    let dir = path.parent().unwrap_or(path);
    let mut bytes = bytes.to_vec();
    let tail = b",\n  \"xxh3\": \"";
    if let Some(at) = bytes.windows(tail.len()).rposition(|window| window == tail)
        && random.below(2) == 0
    {
        let sum = format!("{:016x}\"\n}}\n", xxh3_64(&bytes[..at]));
        bytes.splice(at + tail.len().., sum.into_bytes());
    }
    std::fs::write(dir.join("manifest.json"), bytes).map_err(|e| e.to_string())?;
    match bounded("read", SPARE, || Manifest::read(dir))? {
        Ok(manifest) => bounded("files", SPARE, || manifest.files().count()).map(drop)?,
        Err(error) => told(&error)?,
    }
    bounded("runs", SPARE, || runs(dir).map(drop))?.or_else(|error| told(&error))
}

/// Files that lowland itself writes, as seeds.
fn written(target: &str, dir: &Path) -> Vec<Vec<u8>> {
    let read = |name: &str| std::fs::read(dir.join(name)).expect("a seed");
    match target {
        "graph" => {
            let mut writer = GraphWriter::create(dir.join("g.arrow"), 3, "euclidean", true).expect("a graph");
            let ids: Vec<u32> = (0..30).map(|i| if i % 15 == 14 { MISSING } else { (i * 7) % 10 }).collect();
            let distance = |i: u32| if i % 15 == 14 { f32::INFINITY } else { (i % 3) as f32 };
            writer.write_rows(0, &ids, &(0..30).map(distance).collect::<Vec<f32>>()).expect("rows");
            writer.finish().expect("a graph");
            vec![read("g.arrow")]
        }
        "map" => {
            let names = ["m.parquet", "m.arrow", "m.npy"];
            for name in names {
                let columns = MapColumns {
                    rows: 10,
                    coordinates: vec!["x".into(), "y".into()],
                    extra: None,
                    own_id: false,
                    nullable: false,
                };
                let mut writer = MapWriter::create(dir.join(name), columns, true).expect("a map");
                let coordinates: Vec<f32> = (0..20).map(|i| (i as f32).sin()).collect();
                writer.write_rows(0, &coordinates, None).expect("rows");
                writer.finish().expect("a map");
            }
            names.map(read).to_vec()
        }
        _ => Vec::new(),
    }
}

/// Runs a target on its seeds and on what random changes make of them; the input that failed stays.
fn fuzz(target: &FuzzTarget, times: u64, seed: u64) {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz").join(format!("{}-{seed}", target.name));
    std::fs::create_dir_all(&dir).expect("a directory");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    let read = |path: PathBuf| std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut seeds: Vec<Vec<u8>> = target.seeds.iter().map(|name| read(data.join(name))).collect();
    seeds.extend(written(target.name, &dir));
    let found = std::fs::read_dir(data.join("fuzz").join(target.name)).into_iter().flatten();
    let mut found: Vec<PathBuf> = found.map(|entry| entry.expect("an entry").path()).collect();
    found.sort();
    seeds.extend(found.into_iter().map(read));

    let mut random = Random(seed);
    let path = dir.join("input");
    let began = Instant::now();
    for run in 0..times {
        let mut bytes = seeds[run as usize % seeds.len()].clone();
        if run >= seeds.len() as u64 {
            bytes = seeds[random.below(seeds.len())].clone();
            change(&mut bytes, &seeds, &mut random);
        }
        std::fs::write(&path, &bytes).expect("the input");
        if let Err(why) = (target.read)(&path, &bytes, &mut random) {
            panic!("{}: run {run} of seed {seed}: {why}; the input is {}", target.name, path.display());
        }
        if run > 0 && run % 50_000 == 0 {
            say(&format!("{}: {run} runs, {:.0} s", target.name, began.elapsed().as_secs_f64()));
        }
    }
    say(&format!("{}: {times} runs in {:.1} s", target.name, began.elapsed().as_secs_f64()));
    std::fs::remove_dir_all(&dir).expect("removed");
}

fn say(text: &str) {
    // Whoever has closed it does not want to know.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Panics that the readers turn into errors would fill the screen.
fn quiet() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !lowland_io::is_decoding() {
            usual(panic);
        }
    }));
}

/// Runs of each target in the suite.
const FEW: u64 = 2_000;

#[test]
fn any_bytes_are_read_or_refused_within_bounds() {
    quiet();
    let threads = TARGETS.map(|target| std::thread::spawn(move || fuzz(&target, FEW, 18)));
    for thread in threads {
        if let Err(why) = thread.join() {
            std::panic::resume_unwind(why);
        }
    }
}

/// `./x fuzz`: what LOWLAND_FUZZ says, as target, runs and seed.
#[test]
fn as_long_as_asked() {
    let Ok(asked) = std::env::var("LOWLAND_FUZZ") else { return };
    quiet();
    let mut words = asked.split_whitespace();
    let (name, times, seed) = (words.next().unwrap_or("all"), words.next(), words.next());
    let number = |text: Option<&str>, usual| text.map_or(usual, |n| n.parse().expect("a number"));
    let (times, seed) = (number(times, 1_000_000), number(seed, 1));
    let chosen: Vec<&FuzzTarget> = TARGETS.iter().filter(|target| name == "all" || target.name == name).collect();
    assert!(!chosen.is_empty(), "there are all, {}", TARGETS.map(|target| target.name).join(", "));
    chosen.into_iter().for_each(|target| fuzz(target, times, seed));
}
