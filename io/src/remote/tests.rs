//! Objects against a server on loopback: the same bytes as from disk, few
//! requests, and what every fault is told as.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::parquet::arrow::ArrowWriter;
use ::parquet::file::properties::WriterProperties;
use arrow::array::{ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int64Array};
use arrow::datatypes::{DataType, Field};
use arrow::record_batch::RecordBatch;

use super::client::Client;
use super::store::Environment;
use crate::open::{Stop, open_columns};
use crate::vectors::ColumnRequest;
use crate::{Error, Result, Shape, Source};
use lowland_test_store::{Fault, Request, Server};

/// What the environment of a user of `server` has.
fn environment(server: &Server, more: &[(&str, &str)]) -> Environment {
    let url = server.url();
    let mut variables = vec![
        ("AWS_ENDPOINT_URL", url.as_str()),
        ("AWS_ACCESS_KEY_ID", "k"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_MAX_ATTEMPTS", "3"),
    ];
    variables.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    variables.extend(more.iter().filter(|(_, value)| !value.is_empty()));
    Environment::of(&variables)
}

fn open_as(server: &Server, paths: &[&str], want: ColumnRequest, more: &[(&str, &str)]) -> Result<Box<dyn Source>> {
    let paths: Vec<String> = paths.iter().map(|p| p.to_string()).collect();
    let environment = environment(server, more);
    open_columns(&paths, want, false, &|| Client::with(environment.clone(), None))
}

fn open(server: &Server, path: &str) -> Result<Box<dyn Source>> {
    open_as(server, &[path], ColumnRequest::Any, &[])
}

fn read(source: &dyn Source) -> Result<Vec<f32>> {
    let Shape { rows, dim } = source.shape();
    let mut all = Vec::new();
    let mut first = 0;
    while first < rows {
        let here = (rows - first).min(500);
        let mut out = vec![0.0; here as usize * dim];
        source.read_rows(first, &mut out)?;
        all.extend(out);
        first += here;
    }
    Ok(all)
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../tests/data/{name}", std::env::var("CARGO_MANIFEST_DIR").unwrap())).unwrap()
}

/// Parquet of `rows` vectors of `dim` numbers, uncompressed, and a column `n`.
fn parquet(rows: usize, dim: usize, group: usize) -> Vec<u8> {
    let values = Float32Array::from_iter_values((0..rows * dim).map(|i| (i as f32).sin()));
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let vectors: ArrayRef = Arc::new(FixedSizeListArray::new(item, dim as i32, Arc::new(values), None));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
    let batch = RecordBatch::try_from_iter([("n", numbers), ("v", vectors)]).unwrap();
    let properties = WriterProperties::builder().set_dictionary_enabled(false).set_max_row_group_row_count(Some(group));
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// An npy of `rows × dim` numbers in either order.
fn npy(rows: usize, dim: usize, fortran: bool) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let header = format!("{{'descr': '<f4', 'fortran_order': {order}, 'shape': ({rows}, {dim}), }}");
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    let value = |row: usize, column: usize| ((row * dim + column) as f32).cos();
    match fortran {
        true => (0..dim).for_each(|c| (0..rows).for_each(|r| bytes.extend(value(r, c).to_le_bytes()))),
        false => (0..rows).for_each(|r| (0..dim).for_each(|c| bytes.extend(value(r, c).to_le_bytes()))),
    }
    bytes
}

fn from_disk(bytes: &[u8], want: ColumnRequest) -> Vec<f32> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    std::fs::write(&path, bytes).unwrap();
    let none = || panic!("no address");
    read(&*open_columns(&[path.to_str().unwrap().into()], want, false, &none).unwrap()).unwrap()
}

#[test]
fn objects_give_the_bytes_that_files_give() {
    let server = Server::start();
    for name in [
        "numpy_f16.npy",
        "numpy_fortran.npy",
        "numpy_i64.npy",
        "pyarrow_list_f32.parquet",
        "pyarrow_zstd_f32.parquet",
        "polars_list_f64.arrow",
        "pyarrow_lz4_f32.arrow",
        "pyarrow_f32.arrows",
        "pyarrow_dictionary_f32.arrow",
    ] {
        let bytes = fixture(name);
        let expected = from_disk(&bytes, ColumnRequest::Any);
        server.put(&format!("bucket/{name}"), bytes);
        for url in [format!("s3://bucket/{name}"), format!("{}/bucket/{name}", server.url())] {
            let source = open(&server, &url).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(read(&*source).unwrap(), expected, "{url}");
            source.release();
            assert_eq!(read(&*source).unwrap(), expected, "{url} after release");
            let prints = source.fingerprints().unwrap();
            assert_eq!(prints[0].path, Path::new(&url));
            assert!(prints[0].etag.as_ref().is_some_and(|tag| tag.starts_with('"')), "{prints:?}");
            if !name.ends_with("npy") && source.columns().contains(&"name".into()) {
                assert_eq!(source.read_columns(&["name".into()], 3, 2).unwrap().num_rows(), 2);
            }
        }
    }
    let scalars = ColumnRequest::Asked("pc*".into());
    let bytes = fixture("pyarrow_scalars.parquet");
    server.put("bucket/scalars", bytes.clone());
    let source = open_as(&server, &["s3://bucket/scalars"], scalars.clone(), &[]).unwrap();
    assert_eq!(read(&*source).unwrap(), from_disk(&bytes, scalars));
}

/// How many requests it takes to open an object and to read it once.
fn requests(server: &Server, name: &str, bytes: Vec<u8>) -> [usize; 2] {
    let expected = from_disk(&bytes, ColumnRequest::Any);
    server.put(&format!("b/{name}"), bytes);
    server.no_faults();
    let source = open(server, &format!("s3://b/{name}")).unwrap();
    let opening = server.requests().len();
    assert_eq!(read(&*source).unwrap(), expected);
    [opening, server.requests().len() - opening]
}

#[test]
fn a_scan_takes_few_requests_and_holds_what_it_says() {
    let server = Server::start();
    // 8 MB in 8 row groups, of which a reader holds 1 MiB, in pieces of 256 KiB.
    let [opening, reading] = requests(&server, "x.parquet", parquet(32_000, 64, 4_000));
    assert!(opening <= 2, "{opening} to open");
    assert!(reading <= 8_200_000 / (256 << 10) + 8, "{reading} to read");
    let asked: u64 = server.requests().iter().filter_map(|r| r.range).map(|(first, last)| last + 1 - first).sum();
    // The column n, 256,000 bytes of it, is not read.
    assert!(asked < 8_192_000 + 300_000, "{asked} bytes");

    let [opening, reading] = requests(&server, "x.npy", npy(32_000, 64, false));
    assert!(opening <= 2 && reading <= 8_200_000 / (256 << 10) + 6, "{opening} to open, {reading} to read");
    // By columns: a block of all rows lies together.
    let [_, reading] = requests(&server, "f.npy", npy(32_000, 64, true));
    assert!(reading <= 4, "{reading} to read by columns");
    // A small object is read with its first bytes.
    let [opening, reading] = requests(&server, "s.npy", npy(100, 8, false));
    assert_eq!((opening, reading), (1, 1));
}

#[test]
fn what_is_read_ahead_is_within_its_budget() {
    let server = Server::start();
    let bytes = npy(200_000, 16, false);
    server.put("b/x", bytes.clone());
    let client = Client::with(environment(&server, &[]), None).unwrap();
    let object = client.find("s3://b/x").unwrap().remove(0);
    for streams in [1, 3, 40] {
        let reader = object.reader(streams, Vec::new());
        let most = object.ahead_bytes(streams);
        let step = bytes.len() as u64 / streams;
        let mut out = vec![0; 30_000];
        for round in 0..20.min(step / 30_000) {
            for stream in 0..streams {
                let at = (stream * step + round * 30_000).min(bytes.len() as u64);
                let mut done = 0;
                while done < out.len() {
                    let read = reader.read_at(at + done as u64, &mut out[done..]).unwrap();
                    assert!(reader.held() <= most, "{} of {most} with {streams}", reader.held());
                    if read == 0 {
                        break;
                    }
                    done += read;
                }
                let end = bytes.len().min(at as usize + done);
                assert_eq!(out[..done], bytes[at as usize..end]);
            }
        }
    }
    // Each place's own pieces go on: none of the 15 MB is read again and again.
    let asked: u64 = server.requests().iter().filter_map(|r| r.range).map(|(first, last)| last + 1 - first).sum();
    assert!(asked < 2 * bytes.len() as u64, "{asked} bytes");
}

#[test]
fn prefixes_and_globs_follow_the_rules_of_directories() {
    let server = Server::start();
    server.habits(|habits| habits.page = 3);
    let npy = |n: u8| {
        let mut bytes = fixture("numpy_f32.npy");
        *bytes.last_mut().unwrap() = n;
        bytes
    };
    let odd = "p/d+e/a b#%20?é&.npy";
    for (i, key) in [
        "p/dt=1/lang=d%20e/x.npy",
        "p/dt=2/lang=en/y.npy",
        "p/dt=2/lang=en/z",
        "p/dt=2/_hidden/1.npy",
        "p/dt=2/.2.npy",
        odd,
        "q/x.parquet/1.npy",
        "run [v2]/1.npy",
        "run v/1.npy",
    ]
    .iter()
    .enumerate()
    {
        server.put(&format!("b/{key}"), npy(i as u8));
    }
    server.put("b/p/dt=2/lang=en/README", "read me, who reads this?");
    server.put("b/p/_SUCCESS", "");
    // A directory's mark.
    server.put("b/q/x.parquet", "");
    let found = |given: &str| -> Result<String> {
        let prints = open(&server, given)?.fingerprints()?;
        let names = prints.iter().map(|p| p.path.to_str().unwrap().strip_prefix("s3://b/").unwrap().to_string());
        Ok(names.collect::<Vec<_>>().join(" "))
    };
    let all = format!("{odd} p/dt=1/lang=d%20e/x.npy p/dt=2/lang=en/y.npy p/dt=2/lang=en/z");
    assert_eq!(found("s3://b/p/").unwrap(), all);
    assert_eq!(found("s3://b/p").unwrap(), all);
    assert_eq!(found("s3://b/p/**").unwrap(), all);
    assert_eq!(found(&format!("s3://b/{odd}")).unwrap(), odd);
    assert_eq!(found("s3://b/p/**/*.npy").unwrap(), all.strip_suffix(" p/dt=2/lang=en/z").unwrap());
    assert_eq!(found("s3://b/p/dt={2,1}/*/?.npy").unwrap(), "p/dt=2/lang=en/y.npy p/dt=1/lang=d%20e/x.npy");
    assert_eq!(found("s3://b/p/dt=[2]").unwrap(), "p/dt=2/lang=en/y.npy p/dt=2/lang=en/z");
    assert_eq!(found("s3://b/p/dt=2/_*/*").unwrap(), "p/dt=2/_hidden/1.npy");
    assert_eq!(found("s3://b/q").unwrap(), "q/x.parquet/1.npy");
    assert_eq!(found("s3://b/run [v2]/*").unwrap(), "run [v2]/1.npy");
    assert_eq!(found("s3://b/run [u-w]/*").unwrap(), "run v/1.npy");
    let source = open(&server, "s3://b/p/dt=1/").unwrap();
    let told = source.read_columns(&["dt".into(), "lang".into()], 0, 1).unwrap();
    let told: Vec<&str> = told.columns().iter().map(|c| c.as_string::<i32>().value(0)).collect();
    assert_eq!(told, ["1", "d e"]);

    let refused = |given: &[&str], words: &str| {
        let error = open_as(&server, given, ColumnRequest::Any, &[]).err().unwrap_or_else(|| panic!("{given:?}"));
        assert!(error.is_bad_input() && error.to_string().contains(words), "{given:?}: {error}");
    };
    refused(&["s3://b/none"], "s3://b/none: there is no such object, and none below it (404 NoSuchKey");
    refused(&["s3://b/none/"], "s3://b/none/: there is no object below it");
    refused(&["s3://b/p/*.npy"], "s3://b/p/*.npy: no object matches it");
    refused(&["s3://b/p/dt=2/.2.npy/"], "there is no object below it");
    refused(&["s3://nowhere/x"], "s3://nowhere/x: there is no such bucket (404 NoSuchBucket");
    refused(&["s3://b/p//x"], "its key has an empty name");
    refused(&["s3://b/p/[/1.npy"], "not a pattern");
    refused(&["s3://b/q", "s3://b/q/x.parquet/1.npy"], "named twice");
    let http = format!("{}/b/*.npy", server.url());
    refused(&[&http], "cannot list objects");
    refused(&[&format!("{}/b/p/", server.url())], "cannot list objects");
    refused(&["ftp://h/x"], "is not supported");
    server.put("only/README", "read me, who reads this?");
    refused(&["s3://only/"], "contains no Parquet, Arrow or npy object");
    server.put("b/empty.npy", "");
    refused(&["s3://b/empty.npy"], "empty (0 bytes)");
}

#[test]
fn throttled_and_cut_answers_are_asked_for_again() {
    let server = Server::start();
    let bytes = parquet(4_000, 64, 2_000);
    let expected = from_disk(&bytes, ColumnRequest::Any);
    server.put("b/x", bytes);
    let url = format!("{}/b/x", server.url());
    for etags in [true, false] {
        server.habits(|habits| habits.etags = etags);
        for given in ["s3://b/x", &url] {
            server.faults(|request| match request.number {
                0 | 3 => Some(Fault::Status(503, "SlowDown")),
                1 | 4 | 6 => Some(Fault::Cut(2_000)),
                _ => None,
            });
            let source = open_as(&server, &[given], ColumnRequest::Any, &[("AWS_MAX_ATTEMPTS", "11")]);
            let source = source.unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(read(&*source).unwrap(), expected, "{given}");
        }
    }
}

/// Opens an object and reads on while `server` is as `rule` has it; gives the error.
fn failing(server: &Server, rule: impl FnMut(&Request) -> Option<Fault> + Send + 'static) -> Error {
    server.no_faults();
    let source = open(server, "s3://b/x").unwrap();
    server.faults(rule);
    let error = read(&*source).unwrap_err();
    assert!(error.to_string().starts_with("s3://b/x: "), "{error}");
    error
}

#[test]
fn what_a_store_refuses_in_the_end_is_told() {
    let server = Server::start();
    for bytes in [parquet(4_000, 64, 2_000), npy(4_000, 64, false), fixture("pyarrow_zstd_f32.arrow")] {
        server.put("b/x", bytes);
        let error = failing(&server, |_| Some(Fault::Status(503, "SlowDown")));
        assert!(error.to_string().contains("too busy (503 SlowDown: so it is)"), "{error}");
        assert!(!error.is_bad_input(), "{error}");
        let error = failing(&server, |_| Some(Fault::Status(403, "ExpiredToken")));
        assert!(error.to_string().contains("credentials are not valid now (403 ExpiredToken"), "{error}");
        assert!(!error.is_bad_input(), "{error}");
        let error = failing(&server, |_| Some(Fault::Cut(100)));
        assert!(matches!(error, Error::Store { input: false, .. }), "{error}");
        assert!(error.to_string().contains("cuts its answers short"), "{error}");
    }
    let refused = |more: &[(&str, &str)], words: &str| {
        let error = open_as(&server, &["s3://b/x"], ColumnRequest::Any, more).err().unwrap();
        assert!(error.is_bad_input() && error.to_string().contains(words), "{error}");
    };
    server.faults(|_| Some(Fault::Status(403, "AccessDenied")));
    refused(&[], "s3://b/x: access denied (403 AccessDenied: so it is); set AWS_ACCESS_KEY_ID");
    server.faults(|_| Some(Fault::Status(301, "PermanentRedirect")));
    refused(&[], "set AWS_REGION");
    refused(
        &[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""), ("AWS_EC2_METADATA_DISABLED", "true")],
        "no credentials were found; set AWS_ACCESS_KEY_ID",
    );
    refused(&[("AWS_SECRET_ACCESS_KEY", "")], "set AWS_ACCESS_KEY_ID");
    // Nobody answers for the machine.
    let begin = Instant::now();
    let nobody =
        [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""), ("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")];
    refused(&nobody, "no credentials were found");
    assert!(begin.elapsed() < Duration::from_secs(10));
    server.faults(|_| Some(Fault::Status(403, "AccessDenied")));
    for endpoint in ["127.0.0.1:9000", "", "http:///x", "https://a b"] {
        let error = open_as(&server, &["s3://b/x"], ColumnRequest::Any, &[("AWS_ENDPOINT_URL_S3", endpoint)]);
        match endpoint {
            // As if it were not set.
            "" => assert!(error.is_err_and(|e| e.to_string().contains("403"))),
            _ => assert!(error.is_err_and(|e| e.to_string().contains("AWS_ENDPOINT_URL_S3 is not a URL"))),
        }
    }
    for attempts in ["abc", "0", "-1", "1.5"] {
        refused(&[("AWS_MAX_ATTEMPTS", attempts)], &format!("AWS_MAX_ATTEMPTS is \"{attempts}\"; set it to a whole"));
    }
    // Such an endpoint makes the library panic.
    refused(&[("AWS_ENDPOINT_URL", "http://[x")], "s3://b/x: the library for object stores panicked");
    server.no_faults();
    let public = [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""), ("AWS_SKIP_SIGNATURE", "true")];
    open_as(&server, &["s3://b/x"], ColumnRequest::Any, &public).unwrap();
    // Switches whose names speak of endpoints, and endpoints of other stores, are no URLs of this one.
    let public = [
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_SKIP_SIGNATURE", "1"),
        ("AWS_STS_REGIONAL_ENDPOINTS", "regional"),
        ("AWS_USE_FIPS_ENDPOINT", "true"),
        ("AZURE_ENDPOINT", "none"),
    ];
    open_as(&server, &["s3://b/x"], ColumnRequest::Any, &public).unwrap();
    server.stop();
    let error = open_as(&server, &["s3://b/x"], ColumnRequest::Any, &[("AWS_MAX_ATTEMPTS", "1")]).err().unwrap();
    assert!(!error.is_bad_input() && error.to_string().contains("cannot be reached (Connection refused"), "{error}");
}

#[test]
fn a_changed_object_is_noticed() {
    let server = Server::start();
    let (before, mut after) = (npy(20_000, 32, false), npy(20_000, 32, false));
    after[2_000_000] ^= 1;
    for (etags, told) in [(true, "ETag \""), (false, "bytes before")] {
        server.habits(|habits| habits.etags = etags);
        server.put("b/x", before.clone());
        let source = open(&server, "s3://b/x").unwrap();
        let mut out = vec![0.0; 32 * 1000];
        source.read_rows(0, &mut out).unwrap();
        if !etags {
            after.push(0);
        }
        server.put("b/x", after.clone());
        let error = read(&*source).unwrap_err();
        assert!(matches!(error, Error::Changed { .. }) && error.to_string().contains(told), "{error}");
        server.remove("b/x");
        source.release();
        server.put("b/y", before.clone());
        let error = read(&*source).unwrap_err();
        assert!(error.to_string().contains("it no longer exists"), "{error}");
    }
    // In the middle of what is being decoded.
    let server = Server::start();
    server.put("b/x", parquet(8_000, 64, 2_000));
    let error = failing(&server, |request| (request.number > 2).then_some(Fault::Status(412, "PreconditionFailed")));
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    // Two openings of two versions differ.
    server.no_faults();
    let first = open(&server, "s3://b/x").unwrap().fingerprints().unwrap();
    server.put("b/x", parquet(8_000, 64, 1_000));
    let second = open(&server, "s3://b/x").unwrap().fingerprints().unwrap();
    assert!(crate::check_unchanged(&first, &second).is_err());
}

#[test]
fn a_wait_ends_when_it_is_to_stop() {
    let server = Server::start();
    server.put("b/x", npy(20_000, 32, false));
    let stopped = Arc::new(AtomicBool::new(false));
    let (came, environment) = (stopped.clone(), environment(&server, &[]));
    let stop = Stop::when(move || came.load(Ordering::Relaxed));
    let connect = || Client::with(environment.clone(), Some(stop.clone()));
    let source = open_columns(&["s3://b/x".into()], ColumnRequest::Any, false, &connect).unwrap();
    server.faults(|_| Some(Fault::Stall(Duration::from_secs(20))));
    let begin = Instant::now();
    let stopping = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        stopped.store(true, Ordering::Relaxed);
    });
    let error = read(&*source).unwrap_err();
    assert!(matches!(error, Error::Stopped { .. }), "{error}");
    stopping.join().unwrap();
    // So does one for an answer that is not read ahead.
    let error = open_columns(&["s3://b/x".into()], ColumnRequest::Any, false, &connect).err().unwrap();
    assert!(matches!(error, Error::Stopped { .. }), "{error}");
    drop(source);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[test]
fn servers_of_http_differ() {
    let server = Server::start();
    let bytes = npy(2_000, 32, false);
    server.put("b/a b.npy", bytes.clone());
    server.put("b/other", bytes.clone());
    let url = format!("{}/b/a%20b.npy?X-Amz-Signature=secret", server.url());
    for (etags, weak) in [(true, false), (true, true), (false, false)] {
        server.habits(|habits| (habits.etags, habits.weak) = (etags, weak));
        let source = open(&server, &url).unwrap();
        assert_eq!(read(&*source).unwrap(), from_disk(&bytes, ColumnRequest::Any));
        let print = source.fingerprints().unwrap().remove(0);
        assert_eq!(print.path.to_str(), url.strip_suffix("?X-Amz-Signature=secret"));
        assert_eq!((print.etag.is_some(), print.header != 0), (etags, !etags));
    }
    assert!(server.requests().iter().all(|request| request.query == "X-Amz-Signature=secret"));
    let refused = |words: &str| {
        let error = open(&server, &url).err().unwrap();
        assert!(error.is_bad_input(), "{error}");
        let error = error.to_string();
        assert!(error.contains(words) && !error.contains("secret"), "{error}");
    };
    server.habits(|habits| habits.ranges = false);
    refused("does not support range requests; download the file first");
    server.habits(|habits| habits.ranges = true);
    server.faults(|_| Some(Fault::Status(403, "AccessDenied")));
    refused("access denied (403 AccessDenied: so it is); a signed address may have expired");
    server.no_faults();
    server.remove("b/a b.npy");
    refused("there is no such object (404 NoSuch");
}

#[test]
fn many_objects_are_one_source() {
    let server = Server::start();
    for i in 0..120 {
        server.put(&format!("b/p/{i:03}.npy"), npy(10, 4, false));
    }
    let source = open(&server, "s3://b/p/").unwrap();
    assert_eq!(source.shape(), Shape { rows: 1200, dim: 4 });
    server.no_faults();
    let once = from_disk(&npy(10, 4, false), ColumnRequest::Any);
    assert_eq!(read(&*source).unwrap(), once.repeat(120));
    assert_eq!(server.requests().len(), 120);
}

#[test]
fn objects_are_opened_without_waiting_for_each_alone() {
    let server = Server::start();
    let bytes = parquet(2_000, 16, 1_000);
    for i in 0..40 {
        server.put(&format!("b/p/{i:03}.parquet"), bytes.clone());
    }
    server.faults(|_| Some(Fault::Late(Duration::from_millis(50))));
    let begin = Instant::now();
    let source = open(&server, "s3://b/p/").unwrap();
    assert_eq!(source.shape(), Shape { rows: 80_000, dim: 16 });
    // The beginning and the end of each.
    assert_eq!(server.requests().len(), 80);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn a_sample_of_one_row_group_decodes_it_once() {
    let server = Server::start();
    let bytes = parquet(32_000, 64, 32_000);
    let whole = from_disk(&bytes, ColumnRequest::Any);
    server.put("b/x.parquet", bytes);
    let source = open(&server, "s3://b/x.parquet").unwrap();
    server.no_faults();
    for first in (0..32_000).step_by(2_000) {
        let mut out = vec![0.0; 64 * 10];
        source.read_rows(first, &mut out).unwrap();
        assert_eq!(out, whole[first as usize * 64..][..640]);
    }
    let asked: u64 = server.requests().iter().filter_map(|r| r.range).map(|(first, last)| last + 1 - first).sum();
    assert!(asked < 9_000_000, "{asked} bytes");
}
