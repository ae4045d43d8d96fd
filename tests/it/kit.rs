//! A directory that goes when the test ends, and the binary run in it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lowland_datasets::{Generator, Kind, Options, write};

/// What a run of the binary gave.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A directory of one test.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Place { dir: tempfile::tempdir().expect("a directory") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// What is in the directory, by name.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).expect("the directory");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// A mixture of 16 components; one seed, so files of all formats hold the same rows.
    pub(crate) fn vectors(&self, name: &str, rows: u64) -> String {
        let generator = Generator::new("mixture".parse::<Kind>().expect("a kind"), rows, 16, 7).expect("a generator");
        write(&generator, &self.path(name), &Options::default()).expect("written");
        name.into()
    }

    /// The binary, in this directory, with `arguments` split at blanks.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lowland"));
        command.args(arguments.split_whitespace()).current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &str) -> Answer {
        answer(self.command(arguments).output().expect("the binary runs"))
    }

    /// Runs with `input` on standard input.
    pub(crate) fn pipe(&self, arguments: &str, input: &[u8]) -> Answer {
        let mut command = self.command(arguments);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the binary runs");
        // It may stop reading where the input is bad.
        let _ = child.stdin.take().expect("piped").write_all(input);
        answer(child.wait_with_output().expect("an end"))
    }

    /// Runs what must succeed.
    pub(crate) fn ok(&self, arguments: &str) -> Answer {
        let answer = self.run(arguments);
        assert_eq!(answer.code, 0, "{arguments}: {}", answer.stderr);
        answer
    }

    /// Runs what must be refused with one line that has all of `words`, and must leave nothing.
    pub(crate) fn refused(&self, arguments: &str, words: &[&str]) {
        let before = self.names();
        let answer = self.run(arguments);
        assert_eq!(answer.code, 2, "{arguments}: {}", answer.stderr);
        assert_eq!(answer.stdout, "", "{arguments}");
        let errors: Vec<&str> = answer.stderr.lines().filter(|l| l.starts_with("lowland: error: ")).collect();
        let [error] = errors.as_slice() else { panic!("{arguments}: {}", answer.stderr) };
        assert_eq!(answer.stderr.lines().last(), Some(*error), "{arguments}");
        for word in words {
            assert!(error.contains(word), "{arguments}: no \"{word}\" in {error}");
        }
        assert!(!answer.stderr.contains("panicked"), "{}", answer.stderr);
        assert_eq!(self.names(), before, "{arguments}");
    }
}

fn answer(output: std::process::Output) -> Answer {
    Answer {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A fixture of `tests/data`.
pub(crate) fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name).to_string_lossy().into_owned()
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

/// Waits until a JSON log tells something that `wanted` accepts; gives what was told so far.
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

/// Sends a signal.
pub(crate) fn signal(child: &std::process::Child, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
    assert!(status.expect("kill runs").success());
}

/// Says that a part of a test could not be done here.
#[expect(clippy::print_stderr, reason = "what a test leaves out must be told")]
pub(crate) fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}
