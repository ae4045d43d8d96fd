//! The program under test: runs of the binary in a directory that is removed when the test ends, and what it prints.

use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use lowland_datasets::{DatasetKind, Generator, OutputDtype, WriteOptions, write};
use serde_json::Value;

/// The result of a run of the program.
#[derive(Debug)]
pub(crate) struct CommandOutput {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl CommandOutput {
    /// Panics unless the program refused the arguments with one line that contains all of `words`.
    pub(crate) fn refused(&self, arguments: &str, words: &[&str]) {
        assert_eq!(self.code, 2, "{arguments}: {}", self.stderr);
        assert_eq!(self.stdout, "", "{arguments}");
        let errors: Vec<&str> = self.stderr.lines().filter(|l| l.starts_with("lowland: error: ")).collect();
        let [error] = errors.as_slice() else { panic!("{arguments}: {}", self.stderr) };
        assert_eq!(self.stderr.lines().last(), Some(*error), "{arguments}");
        for word in words {
            assert!(error.contains(word), "{arguments}: no \"{word}\" in {error}");
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}

/// A directory of one test.
pub(crate) struct TestDir {
    dir: tempfile::TempDir,
}

impl TestDir {
    pub(crate) fn new() -> Self {
        TestDir { dir: tempfile::tempdir().expect("a directory") }
    }

    /// A directory below cargo's target directory, which is on a disk; the system's directory for temporary files may
    /// be in memory.
    pub(crate) fn on_disk() -> Self {
        TestDir { dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The names in the directory, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).expect("the directory");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// A mixture of 16 components; one seed, so files of all formats hold the same rows.
    pub(crate) fn vectors(&self, name: &str, rows: u64) -> String {
        self.wide_vectors(name, rows, 16, OutputDtype::F32)
    }

    /// The same of `dim` components of another type.
    pub(crate) fn wide_vectors(&self, name: &str, rows: u64, dim: usize, dtype: OutputDtype) -> String {
        let generator =
            Generator::new("mixture".parse::<DatasetKind>().expect("a kind"), rows, dim, 7).expect("a generator");
        let options = WriteOptions { dtype, ..WriteOptions::default() };
        write(&generator, &self.path(name), &options).expect("written");
        name.into()
    }

    /// The program, run in this directory, with `arguments` split at spaces.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lowland"));
        command.args(arguments.split_whitespace()).current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &str) -> CommandOutput {
        answer(self.command(arguments))
    }

    /// Runs with `input` on standard input.
    pub(crate) fn pipe(&self, arguments: &str, input: &[u8]) -> CommandOutput {
        let mut command = self.command(arguments);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the binary runs");
        // It may stop reading where the input is bad.
        let _ = child.stdin.take().expect("piped").write_all(input);
        told(child.wait_with_output().expect("an end"))
    }

    /// Runs the program, which must succeed.
    pub(crate) fn ok(&self, arguments: &str) -> CommandOutput {
        let answer = self.run(arguments);
        assert_eq!(answer.code, 0, "{arguments}: {}", answer.stderr);
        answer
    }

    /// Runs the program, which must refuse the arguments with one line that contains all of `words`, and must leave no
    /// file.
    pub(crate) fn refused(&self, arguments: &str, words: &[&str]) {
        let before = self.names();
        self.run(arguments).refused(arguments, words);
        assert_eq!(self.names(), before, "{arguments}");
    }
}

/// Runs a command; one that takes longer than a minute is killed, and fails the test.
pub(crate) fn soon(mut command: Command) -> CommandOutput {
    const LIMIT: Duration = Duration::from_secs(60);
    let file = || tempfile::tempfile().expect("a file");
    let (mut out, mut err) = (file(), file());
    let [to_out, to_err] = [&out, &err].map(|f| f.try_clone().expect("a handle"));
    let mut child = command.stdout(to_out).stderr(to_err).spawn().expect("the binary runs");
    let began = Instant::now();
    let status = loop {
        match child.try_wait().expect("a child") {
            Some(status) => break status,
            None if began.elapsed() < LIMIT => std::thread::sleep(Duration::from_millis(2)),
            None => {
                child.kill().expect("killed");
                child.wait().expect("an end");
                panic!("{command:?} hangs");
            }
        }
    };
    let text = |file: &mut std::fs::File| {
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("what was told");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    // A signal's end is no exit code.
    CommandOutput { code: status.code().unwrap_or(-1), stdout: text(&mut out), stderr: text(&mut err) }
}

/// Runs a command to its end.
pub(crate) fn answer(mut command: Command) -> CommandOutput {
    told(command.output().expect("the binary runs"))
}

fn told(output: std::process::Output) -> CommandOutput {
    CommandOutput {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Starts the program with events as JSON on standard error.
pub(crate) fn start(place: &TestDir, arguments: &str) -> (Child, BufReader<ChildStderr>) {
    let mut command = place.command(&format!("{arguments} --log-format json"));
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the binary runs");
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    (child, stderr)
}

/// Whether an event is the start of `stage`.
pub(crate) fn started(stage: &str) -> impl Fn(&Value) -> bool {
    move |event| event["event"] == "start" && event["stage"] == stage
}

/// Reads a JSON log until an event for which `wanted` returns true; gives the lines read.
pub(crate) fn wait_for(stderr: &mut impl std::io::BufRead, wanted: impl Fn(&serde_json::Value) -> bool) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        let mut line = String::new();
        assert!(stderr.read_line(&mut line).expect("a line") > 0, "it ended before that: {told:?}");
        let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        told.push(line);
        if wanted(&event) {
            return told;
        }
    }
}

/// The exit code, and the events until the end.
pub(crate) fn end(mut child: Child, stderr: BufReader<ChildStderr>) -> (i32, Vec<Value>) {
    let events = stderr.lines().map(|line| {
        let line = line.expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    });
    let events: Vec<Value> = events.collect();
    (child.wait().expect("an end").code().unwrap_or(-1), events)
}

/// The message of the one error among `events`, and the stage during which it occurred: the last that started, or
/// `waited`, which started before `events`.
pub(crate) fn failure(events: &[Value], waited: &str) -> (String, String) {
    let errors: Vec<&Value> = events.iter().filter(|e| e["event"] == "error").collect();
    let [error] = errors.as_slice() else { panic!("{events:?}") };
    assert_eq!(events.last(), Some(*error), "the error is the last that is told");
    let stage = events.iter().rev().find(|e| e["event"] == "start").map(|e| e["stage"].as_str().expect("a stage"));
    let message = error["message"].as_str().expect("a message");
    assert!(!message.contains('\n'), "{message}");
    (message.into(), stage.unwrap_or(waited).into())
}

/// The layout goes on from epoch `epoch`, if it is above 0.
pub(crate) fn check_layout_resumed(told: &[String], epoch: u64) {
    let events: Vec<Value> = told.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let reused = events.iter().filter(|e| e["event"] == "unit" && e["stage"] == "layout" && e["reused"] == true);
    assert_eq!(reused.count(), usize::from(epoch > 0));
    let first = events.iter().find(|e| e["event"] == "advance" && e["stage"] == "layout").expect("an epoch");
    assert_eq!(first["done"].as_u64(), Some(epoch.max(1)), "where it goes on");
}

/// Sends a signal.
pub(crate) fn signal(child: &std::process::Child, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
    assert!(status.expect("kill runs").success());
}

/// The directory of the package. Asked at run time, because one build directory may serve several clones.
pub(crate) fn home() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(PathBuf::new, PathBuf::from)
}

/// A fixture of `tests/data`.
pub(crate) fn fixture(name: &str) -> String {
    home().join("tests/data").join(name).to_string_lossy().into_owned()
}

/// A map's coordinates and, as text, its other columns, row by row.
pub(crate) fn rows_of(map: &Path, coordinates: &str) -> (Vec<f32>, Vec<Vec<String>>) {
    let source = lowland::open(&[map.to_string_lossy()], Some(coordinates)).expect("a map");
    let shape = source.shape();
    let mut values = vec![0.0; shape.rows as usize * shape.dim];
    source.read_rows(0, &mut values).expect("coordinates");
    let others: Vec<String> =
        source.columns().into_iter().filter(|c| !coordinates.split(',').any(|x| x == c)).collect();
    let batch = source.read_columns(&others, 0, shape.rows as usize).expect("columns");
    let texts = batch.columns().iter().map(|column| {
        let text = arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8).expect("text");
        let text = arrow::array::AsArray::as_string::<i32>(&text).clone();
        text.iter().map(|t| t.unwrap_or("null").to_string()).collect::<Vec<_>>()
    });
    let columns: Vec<Vec<String>> = texts.collect();
    let rows = (0..shape.rows as usize).map(|row| columns.iter().map(|c| c[row].clone()).collect()).collect();
    (values, rows)
}

/// The names of a directory's files, sorted; none where there is no such directory.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        entries => entries.expect("a directory"),
    };
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Prints that a part of a test cannot run on this machine.
#[expect(clippy::print_stderr, reason = "what a test leaves out must be told")]
pub(crate) fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// Prints the figures of a test.
#[expect(clippy::print_stderr, reason = "figures of a long test")]
pub(crate) fn note(what: &str) {
    eprintln!("{what}");
}
