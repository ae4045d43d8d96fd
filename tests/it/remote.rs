//! Sources in object stores, by the command line: the same maps as from files; no finished stage is lost when objects
//! are throttled, cut or changed; refusals before any work. The server is a small one for tests; one test uses moto.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lowland_test_store::{Fault, Request, Server};

use crate::harness::{CommandOutput, TestDir, answer, home, signal, skipped, soon, wait_for};
use crate::oracle::python;

/// Returns a command with the environment of a user of the store at `url`.
fn command(place: &TestDir, url: &str, arguments: &str) -> Command {
    let mut command = place.command(arguments);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
        command.env_remove(name);
    }
    let variables = [("ENDPOINT_URL", url), ("ACCESS_KEY_ID", "k"), ("SECRET_ACCESS_KEY", "s"), ("MAX_ATTEMPTS", "1")];
    for (name, value) in variables {
        command.env(format!("AWS_{name}"), value);
    }
    command
}

fn run(place: &TestDir, server: &Server, arguments: &str) -> CommandOutput {
    soon(command(place, &server.url(), arguments))
}

/// Writes 1,500 rows to a file and to `s3://b/v.parquet`; returns the bytes of the file's map.
fn vectors(place: &TestDir, server: &Server) -> Vec<u8> {
    place.vectors("v.parquet", 1_500);
    server.put("b/v.parquet", place.bytes("v.parquet"));
    place.ok("embed v.parquet -o disk.parquet --n-epochs 20 --keep label");
    place.bytes("disk.parquet")
}

const EMBED: &str = "embed s3://b/v.parquet -o map.parquet --n-epochs 20 --keep label";

#[test]
fn objects_give_the_map_that_files_give() {
    let (place, server) = (TestDir::new(), Server::start());
    let expected = vectors(&place, &server);
    let answer = run(&place, &server, &format!("{EMBED} --report r.json"));
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert_eq!(place.bytes("map.parquet"), expected);
    let url = format!("{}/b/v.parquet?X-Amz-Signature=secret", server.url());
    let command =
        format!("embed {url} -o http.parquet --n-epochs 20 --keep label --report r.json --force --run-dir run");
    let answer = run(&place, &server, &command);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert_eq!(place.bytes("http.parquet"), expected);
    for text in [answer.stderr, answer.stdout, String::from_utf8(place.bytes("r.json")).expect("text")] {
        assert!(!text.contains("secret"), "{text}");
    }
    let manifest = std::fs::read_to_string(place.path("run/manifest.json")).expect("a manifest");
    assert!(
        !manifest.contains("secret") && manifest.contains("/b/v.parquet") && manifest.contains("etag"),
        "{manifest}"
    );

    // A map that is an object is read where a file is.
    server.put("b/map.parquet", expected);
    for arguments in [
        "plan s3://b/v.parquet",
        "inspect s3://b/v.parquet",
        "knn s3://b/v.parquet -o graph.arrow",
        "pca s3://b/v.parquet -o scores.npy --n-components 3",
        "plot s3://b/map.parquet -o map.png",
        "evaluate --source s3://b/v.parquet --map s3://b/map.parquet",
        "embed s3://b/v.parquet -o again.parquet --n-epochs 5 --init s3://b/map.parquet",
    ] {
        let answer = run(&place, &server, arguments);
        assert_eq!(answer.code, 0, "{arguments}: {}", answer.stderr);
    }
}

#[test]
fn nothing_is_lost_to_a_fault_of_the_store() {
    let (place, server) = (TestDir::new(), Server::start());
    let expected = vectors(&place, &server);
    server.no_faults();
    assert_eq!(run(&place, &server, &EMBED.replace("map", "whole")).code, 0);
    // The last requests are those of the column that is kept, when all else is done.
    let last = server.requests().len() - 1;
    type Rule = fn(usize, &Request) -> Option<Fault>;
    let faults: [(Rule, i32, &[&str]); 3] = [
        (
            |last, request| (request.number >= last).then_some(Fault::Status(503, "SlowDown")),
            1,
            &[
                "s3://b/v.parquet: the server 127.0.0.1:",
                " is too busy (503 SlowDown: so it is); try again later",
                "kept in",
                "the same command continues",
            ],
        ),
        (
            |last, request| (request.number >= last).then_some(Fault::Cut(10)),
            1,
            // A body that ends early carries no address of the server.
            &["s3://b/v.parquet: the server", " cuts its answers short", "kept in", "the same command continues"],
        ),
        (
            |last, request| (request.number >= last).then_some(Fault::Status(412, "PreconditionFailed")),
            2,
            &["s3://b/v.parquet: changed while it was in use"],
        ),
    ];
    for (rule, code, words) in faults {
        server.faults(move |request| rule(last, request));
        let failed = run(&place, &server, EMBED);
        assert_eq!(failed.code, code, "{}", failed.stderr);
        for word in words {
            assert!(failed.stderr.contains(word), "no \"{word}\" in {}", failed.stderr);
        }
        assert!(place.path("map.parquet.run/manifest.json").exists());
        server.no_faults();
        let again = run(&place, &server, &format!("{EMBED} --log-format json"));
        assert_eq!(again.code, 0, "{}", again.stderr);
        assert!(again.stderr.contains("reused") || again.stderr.contains("resumed"), "{}", again.stderr);
        assert_eq!(place.bytes("map.parquet"), expected);
        std::fs::remove_file(place.path("map.parquet")).expect("removed");
    }
    // Another object of that name is not gone on with.
    server.faults(move |request| (request.number >= last).then_some(Fault::Status(503, "SlowDown")));
    assert_eq!(run(&place, &server, EMBED).code, 1);
    server.no_faults();
    place.vectors("w.parquet", 1_600);
    server.put("b/v.parquet", place.bytes("w.parquet"));
    run(&place, &server, EMBED).refused(EMBED, &["map.parquet.run", "--restart"]);
}

#[test]
fn what_a_store_cannot_give_is_refused_before_any_work() {
    let (place, server) = (TestDir::new(), Server::start());
    place.vectors("v.npy", 200);
    server.put("b/v.npy", place.bytes("v.npy"));
    let url = server.url();
    let before = place.names();
    let refused = |arguments: &str, words: &[&str]| {
        run(&place, &server, arguments).refused(arguments, words);
        assert_eq!(place.names(), before, "{arguments}");
    };
    for outputs in [
        "embed v.npy -o s3://b/m.parquet",
        "embed v.npy -o m.npy --plot s3://b/m.png",
        "embed v.npy -o m.npy --report gs://b/r.json",
        "embed v.npy -o m.npy --run-dir s3://b/run",
        "plan v.npy -o s3://b/m.parquet",
        "knn v.npy -o s3://b/graph.arrow",
        "knn v.npy -o g.arrow --run-dir s3://b/run",
        "pca v.npy -o s3://b/m.npy",
        "pca v.npy -o m.npy --components s3://b/c.npy",
        "pca v.npy -o m.npy --report s3://b/c.json",
        "evaluate --map v.npy --source v.npy --report s3://b/r.json",
        "plot v.npy -o az://b/m.png",
    ] {
        refused(outputs, &["an address, but outputs are written to local files only"]);
    }
    refused(
        "embed --knn s3://b/graph.arrow -o m.npy",
        &["s3://b/graph.arrow: an address, but a graph is read from a local file"],
    );
    refused("embed s3://b/none.npy -o m.npy", &["s3://b/none.npy: there is no such object, and none below it (404"]);
    refused("embed s3://none/v.npy -o m.npy", &["there is no such bucket (404 NoSuchBucket"]);
    refused("embed s3://b/x*.npy -o m.npy", &["s3://b/x*.npy: no object matches it"]);
    refused("embed ftp://b/x.npy -o m.npy", &["ftp:// is not supported"]);
    refused("runs s3://b/run", &["s3://b/run: an address, and run directories are local"]);
    refused("embed s3://b/v.npy s3://b/v.npy -o m.npy", &["named twice"]);
    refused(&format!("embed {url}/b/*.npy -o m.npy"), &["cannot list objects"]);
    let signed = soon(command(&place, &url, &format!("embed v.npy -o m.npy --init {url}/b/v.npy?sig=1")));
    assert_eq!(signed.code, 2, "{}", signed.stderr);
    assert!(signed.stderr.contains("--init") && signed.stderr.contains("signed address"), "{}", signed.stderr);
    let mut alone = command(&place, &url, "embed s3://b/v.npy -o m.npy");
    alone.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").env("AWS_EC2_METADATA_DISABLED", "true");
    soon(alone)
        .refused("no credentials", &["no credentials were found; set AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE=true"]);
    assert_eq!(place.names(), before);
}

#[test]
fn a_stalled_store_does_not_hold_a_signal_up() {
    let (place, server) = (TestDir::new(), Server::start());
    place.vectors("v.npy", 20_000);
    server.put("b/v.npy", place.bytes("v.npy"));
    // When it is open, nothing more comes.
    server.faults(|request| (request.number > 1).then_some(Fault::Stall(Duration::from_secs(50))));
    let mut command = command(&place, &server.url(), "embed s3://b/v.npy -o m.npy --log-format json");
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    wait_for(&mut stderr, |event| event.to_string().contains("\"scan\""));
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    signal(&child, "INT");
    let status = child.wait().expect("an end");
    assert_eq!(status.code(), Some(130));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn objects_of_moto_give_the_map_that_files_give() {
    let Some(python) = python() else { return };
    let place = TestDir::new();
    for name in ["p/dt=1/a b+c.parquet", "p/dt=2/é#1.parquet"] {
        std::fs::create_dir_all(place.path(name).parent().expect("a directory")).expect("made");
        place.vectors(name, if name.contains("=1") { 700 } else { 800 });
    }
    place.ok("embed p -o disk.parquet --n-epochs 20 --keep label,dt");
    let mut script = Command::new(python);
    script.arg(home().join("tests/oracle/moto_server.py")).arg(place.path("p")).stdin(Stdio::piped());
    let mut moto = script.stdout(Stdio::piped()).spawn().expect("Python runs");
    let mut line = String::new();
    BufReader::new(moto.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let Some(port) = line.trim().strip_prefix("port ") else {
        moto.wait().expect("an end");
        return skipped(&format!("moto: {line}"));
    };
    let upstream = format!("127.0.0.1:{port}").parse().expect("an address");
    let url = format!("http://127.0.0.1:{port}");
    let embed = |source: &str, map: &str| format!("embed {source} -o {map} --n-epochs 20 --keep label,dt");
    for (source, map) in [("s3://bucket/p/", "a.parquet"), ("s3://bucket/p/dt=*/*.parquet", "b.parquet")] {
        let told = answer(command(&place, &url, &embed(source, map)));
        assert_eq!(told.code, 0, "{}", told.stderr);
        assert_eq!(place.bytes(map), place.bytes("disk.parquet"), "{source}");
    }
    // The same by way of a door that throttles and cuts.
    let door = Server::before(upstream);
    door.faults(|request| match request.number % 4 {
        1 => Some(Fault::Status(503, "SlowDown")),
        2 => Some(Fault::Cut(1_000)),
        _ => None,
    });
    let mut throttled = command(&place, &door.url(), &embed("s3://bucket/p/", "c.parquet"));
    throttled.env("AWS_MAX_ATTEMPTS", "11");
    let told = soon(throttled);
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert_eq!(place.bytes("c.parquet"), place.bytes("disk.parquet"));
    // An object that is written anew while it is read.
    door.faults(|request| (request.number == 5).then_some(Fault::Status(503, "SlowDown")));
    let first = answer(command(&place, &door.url(), &embed("s3://bucket/p/", "d.parquet")));
    assert_eq!(first.code, 1, "{}", first.stderr);
    let stdin = moto.stdin.as_mut().expect("piped");
    stdin.write_all(b"change\n").and_then(|()| stdin.flush()).expect("it listens");
    std::thread::sleep(Duration::from_millis(500));
    door.no_faults();
    let changed = answer(command(&place, &door.url(), &embed("s3://bucket/p/", "d.parquet")));
    if first.stderr.contains("kept in") {
        changed.refused("a changed object", &["--restart"]);
    }
    // It ends with its input.
    drop(moto.stdin.take());
    moto.wait().expect("an end");
}
