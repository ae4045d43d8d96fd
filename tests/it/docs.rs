//! The documentation: its examples run, its links and file names lead to files that exist, and its table of methods has
//! the defaults of the code. `docs/README.md` describes the conventions for examples and the files that they use.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Int64Array, ListArray, RecordBatch,
    StringArray, StructArray,
};
use arrow::datatypes::{DataType, Field, Float32Type};
use arrow::ipc::writer::FileWriter;
use lowland_datasets::{DatasetKind, Generator, WriteOptions, write};

use crate::harness::{TestDir, answer, home};

/// What may follow the opening fence of a block. Only `sh` blocks are run here. `rust,no_run` blocks are compiled as
/// documentation tests (`src/lib.rs`), and `python` blocks are run by the tests of the Python package.
const BLOCKS: [&str; 8] = ["", "sh", "sh ignore", "text", "rust", "rust,no_run", "python", "python ignore"];

/// A fenced block.
struct Block<'a> {
    /// The text after the opening fence.
    info: &'a str,
    /// The number of the block's first line in its page, from 1.
    line: usize,
    lines: Vec<&'a str>,
}

/// Returns the README, ARCHITECTURE.md and the pages of `docs/`: path from the repository's root, and text.
fn pages() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(home().join("docs")).expect("the directory docs");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut paths: Vec<String> = names.filter(|n| n.ends_with(".md")).map(|n| format!("docs/{n}")).collect();
    paths.sort();
    paths.splice(0..0, ["README.md".to_string(), "ARCHITECTURE.md".into()]);
    let read = |path: String| {
        let text = std::fs::read_to_string(home().join(&path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let (mut blocks, mut open): (Vec<Block<'_>>, Option<Block<'_>>) = (Vec::new(), None);
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => blocks.push(block),
            (Some(info), None) => open = Some(Block { info: info.trim(), line: number + 2, lines: Vec::new() }),
            (None, Some(mut block)) => {
                block.lines.push(line);
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block has no end");
    blocks
}

fn array(values: impl Array + 'static) -> ArrayRef {
    Arc::new(values)
}

fn arrow_file(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("a batch");
    let mut writer = FileWriter::try_new(std::fs::File::create(path).expect("a file"), &batch.schema()).expect("begun");
    writer.write(&batch).expect("written");
    writer.finish().expect("finished");
}

/// Writes the files that `docs/README.md` lists.
fn inputs(place: &TestDir) {
    const ROWS: usize = 300;
    for name in ["vectors.parquet", "vectors.arrow", "vectors.npy"] {
        place.vectors(name, 600);
    }
    // The first rows do not depend on the number of rows.
    place.vectors("today.parquet", 620);
    let generator = |seed| Generator::new("mixture".parse::<DatasetKind>().expect("a kind"), ROWS as u64, 16, seed);
    std::fs::create_dir(place.path("parts")).expect("made");
    for (number, day) in ["days/dt=2024-01-01/lang=de", "days/dt=2024-01-02/lang=fr"].into_iter().enumerate() {
        let part = place.path(&format!("parts/part-{number}.parquet"));
        write(&generator(number as u64).expect("a generator"), &part, &WriteOptions::default()).expect("written");
        std::fs::create_dir_all(place.path(day)).expect("made");
        std::fs::copy(part, place.path(day).join("part.parquet")).expect("copied");
    }

    let values = generator(2).expect("a generator").table(0, ROWS);
    let rows: Vec<&[f32]> = values.chunks(16).collect();
    let column = |c: usize| array(Float32Array::from_iter_values(rows.iter().map(|row| row[c])));
    let bytes = |of: fn(&[f32]) -> Vec<u8>| {
        array(FixedSizeBinaryArray::try_from_iter(rows.iter().map(|row| of(row))).expect("bytes"))
    };
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    // An Arrow file, which readers tell by its first bytes. The real file takes too long.
    let embedding = FixedSizeListArray::new(item.clone(), 16, Arc::new(Float32Array::from(values.clone())), None);
    std::fs::create_dir(place.path("datasets")).expect("made");
    arrow_file(
        &place.path("datasets/debian-packages-64.parquet"),
        vec![
            ("name", array(StringArray::from_iter_values((0..ROWS).map(|row| format!("package {row}"))))),
            ("section", array(StringArray::from_iter_values((0..ROWS).map(|row| format!("section {}", row % 7))))),
            ("embedding", array(embedding)),
        ],
    );

    let lists = Float32Array::from_iter_values(rows.iter().flat_map(|row| row[..8].iter().copied()));
    let lists = array(FixedSizeListArray::new(item, 8, Arc::new(lists), None));
    let within = Arc::new(Field::new("values", lists.data_type().clone(), true));
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("name", array(StringArray::from_iter_values((0..ROWS).map(|row| format!("row {row}"))))),
        ("emb", array(StructArray::from(vec![(within, lists)]))),
        ("blob", bytes(|row| row[..8].iter().flat_map(|x| x.to_le_bytes()).collect())),
        ("codes", bytes(|row| row[..2].iter().map(|x| x.to_bits().to_le_bytes()[1]).collect())),
    ];
    columns.extend(["a", "b", "c"].into_iter().enumerate().map(|(c, name)| (name, column(c))));
    columns.extend(["pc0", "pc1", "pc2", "pc3"].into_iter().enumerate().map(|(c, name)| (name, column(4 + c))));
    arrow_file(&place.path("table.arrow"), columns);

    let vector = |(row, values): (usize, &&[f32])| {
        (row != 3 && row != 7).then(|| values.iter().copied().map(Some).collect::<Vec<_>>())
    };
    let gaps = ListArray::from_iter_primitive::<Float32Type, _, _>(rows.iter().enumerate().map(vector));
    let ids = Int64Array::from_iter_values(0..ROWS as i64);
    arrow_file(&place.path("gaps.arrow"), vec![("id", array(ids)), ("embedding", array(gaps))]);
}

/// Returns the directory of the program.
fn programs() -> PathBuf {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_lowland"));
    binary.parent().expect("a directory").to_path_buf()
}

/// Runs the `sh` blocks of a page in `place`, from top to bottom, and names the line that failed. Returns their number.
fn run_blocks(place: &TestDir, page: &str, text: &str) -> usize {
    let others = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([programs()].into_iter().chain(std::env::split_paths(&others))).expect("a PATH");
    let (scripts, mut ran) = (TestDir::new(), 0);
    for block in blocks(text).into_iter().filter(|block| block.info == "sh") {
        // Empty lines in front, so that bash counts the lines as the page does.
        let script = "\n".repeat(block.line - 1) + &block.lines.join("\n") + "\n";
        std::fs::write(scripts.path("block.sh"), script).expect("written");
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c"]);
        command.arg(format!(r#"trap 'echo "{page}:$LINENO: $BASH_COMMAND" >&2' ERR; . "$0""#));
        command.arg(scripts.path("block.sh")).env("PATH", &path).current_dir(place.path(".")).stdin(Stdio::null());
        let told = answer(command);
        assert_eq!(told.code, 0, "{page}, the block at line {}:\n{}", block.line, told.stderr);
        ran += 1;
    }
    ran
}

#[test]
fn the_examples_run() {
    let mut ran = 0;
    for (page, text) in pages() {
        let place = TestDir::new();
        inputs(&place);
        ran += run_blocks(&place, &page, &text);
    }
    assert!(ran >= 25, "only {ran} blocks were run");
}

/// The commands that `docs/nightly.md` gives to cron and systemd run, with a directory of the test in place of
/// `/srv/maps`.
#[test]
fn the_commands_of_cron_and_systemd_run() {
    let text = std::fs::read_to_string(home().join("docs/nightly.md")).expect("the page");
    let place = TestDir::new();
    inputs(&place);
    // The page's first commands make the model and the script.
    let (before, _) = text.split_once("## Something went wrong").expect("a heading");
    run_blocks(&place, "docs/nightly.md", before);
    place.vectors("today.parquet", 640);
    let here = place.path(".").to_string_lossy().into_owned();
    let run = |line: &str| {
        let bin = format!("{}:/usr/bin:/bin", programs().display());
        let line = line.replace("/usr/local/bin:/usr/bin:/bin", &bin).replace("/srv/maps", &here);
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(&line).env("PATH", &bin).current_dir("/").stdin(Stdio::null());
        (answer(command), line)
    };
    // Five fields of time, then the command, in which a percent sign has a backslash.
    let line = text.lines().find(|line| line.contains("nightly.sh $(date")).expect("a line of a crontab");
    let command: Vec<&str> = line.split_whitespace().skip(5).collect();
    let (told, ran) = run(&command.join(" ").replace("\\%", "%"));
    let log = std::fs::read_to_string(place.path("nightly.log")).unwrap_or_default();
    assert_eq!(told.code, 0, "{ran}\n{}\n{log}", told.stderr);
    // The same night again, by systemd: the run is published, and that is no failure.
    let setting = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name}")).replace("%%", "%")
    };
    let (told, ran) = run(&setting("ExecStart"));
    assert_eq!(told.code.to_string(), setting("SuccessExitStatus"), "{ran}\n{}", told.stderr);
}

#[test]
fn every_block_says_what_it_is() {
    for (page, text) in pages() {
        for block in blocks(&text) {
            assert!(
                BLOCKS.contains(&block.info),
                "{page}:{}: \"{}\" is none of {BLOCKS:?}",
                block.line - 1,
                block.info
            );
        }
    }
}

#[test]
fn the_readme_and_the_glossary_are_short() {
    let read = |name: &str| std::fs::read_to_string(home().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let lines = read("README.md").lines().count();
    assert!(lines <= 120, "the README has {lines} lines; move some to docs/");
    let page = read("ARCHITECTURE.md");
    let (_, glossary) = page.split_once("## Glossary").expect("a glossary");
    let terms = glossary.lines().filter(|line| line.starts_with("| ")).count() - 1;
    assert!((15..=25).contains(&terms), "the glossary has {terms} terms");
}

/// Returns a heading's anchor, by GitHub's rule.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Returns the lines that are outside of fenced blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut within = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.starts_with("```");
        within ^= fence;
        (!within && !fence).then_some((number + 1, line))
    })
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let mut followed = 0;
    for (page, text) in pages() {
        let beside = home().join(&page).parent().expect("a directory").to_path_buf();
        for (number, line) in prose(&text) {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if target.contains("://") {
                    continue;
                }
                let (file, heading) = target.split_once('#').unwrap_or((target, ""));
                let path = if file.is_empty() { home().join(&page) } else { beside.join(file) };
                assert!(path.exists(), "{page}:{number}: there is no {target}");
                if !heading.is_empty() {
                    let there = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{target}: {e}"));
                    let mut headings = prose(&there).filter(|(_, line)| line.starts_with('#'));
                    let found = headings.any(|(_, line)| anchor(line.trim_start_matches('#')) == heading);
                    assert!(found, "{page}:{number}: {file} has no heading #{heading}");
                }
                followed += 1;
            }
        }
    }
    assert!(followed > 80, "only {followed} links");
}

/// Every path of the repository in backticks, such as `engine/src/work/mod.rs` or `tests/it/`, exists.
#[test]
fn files_that_are_named_exist() {
    const ROOTS: [&str; 8] = ["engine/", "io/", "src/", "tests/", "benches/", "docs/", "datasets/", "examples/"];
    let mut named = 0;
    for (page, text) in pages() {
        for (number, line) in prose(&text) {
            for code in line.split('`').skip(1).step_by(2) {
                let path = code.split("::").next().unwrap_or(code);
                let is_path = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
                if is_path && ROOTS.iter().any(|root| path.starts_with(root)) {
                    assert!(home().join(path).exists(), "{page}:{number}: there is no {path}");
                    named += 1;
                }
            }
        }
    }
    assert!(named > 150, "only {named} files");
}

/// The table of stages in ARCHITECTURE.md has the stages of a plan, in order, and the stages whose files they read.
#[test]
fn the_table_of_stages_is_that_of_a_plan() {
    let page = std::fs::read_to_string(home().join("ARCHITECTURE.md")).expect("the page");
    let (_, table) = page.split_once("|---|---|---|---|\n").expect("the table of stages");
    let written = table.lines().take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        // Behind a semicolon is what other kinds of runs read.
        let mut reads: Vec<&str> = cells[2].split(';').next().unwrap_or("").split(", ").collect();
        reads.sort_unstable();
        (cells[1], reads)
    });
    let shape = lowland::Shape { rows: 1000, dim: 16 };
    let input =
        lowland::PlanInput { shape, dtype: lowland::Dtype::F32, graph_k: None, source_bytes: 0, resident_bytes: 0 };
    let graph = lowland::Config::default().plan(&input).expect("a plan").graph();
    let expected = graph.nodes().iter().map(|node| {
        let mut reads: Vec<&str> = node.reads.iter().map(|stage| stage.name()).collect();
        reads.extend(node.source.then_some("source"));
        reads.sort_unstable();
        (node.stage.name(), reads)
    });
    assert_eq!(written.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

/// Every option of every command is named on some page.
#[test]
fn every_option_is_documented() {
    let place = TestDir::new();
    let all: String = pages().into_iter().map(|(_, text)| text).collect();
    let ends = |rest: &str| !rest.starts_with(|c: char| c == '-' || c.is_ascii_lowercase());
    let mut found = 0;
    let commands = [
        "embed",
        "knn",
        "pca",
        "plan",
        "evaluate",
        "inspect",
        "plot",
        "runs",
        "transform",
        "update",
        "versions",
        "diff",
        "rollback",
        "gc",
        "tag",
        "verify",
        "export",
    ];
    for command in commands {
        let help = place.ok(&format!("{command} --help")).stdout;
        let options = help.lines().filter_map(|line| {
            // `  -o, --output <FILE>  …` or `      --column <COL>  …`
            let (_, rest) = Some(line.trim_start()).filter(|line| line.starts_with('-'))?.split_once("--")?;
            rest.split(|c: char| c != '-' && !c.is_ascii_lowercase()).next()
        });
        for option in options.filter(|option| *option != "help") {
            let flag = format!("--{option}");
            let named = all.match_indices(&flag).any(|(at, _)| ends(&all[at + flag.len()..]));
            assert!(named, "no page names {flag} of lowland {command}");
            found += 1;
        }
    }
    assert!(found > 100, "only {found} options");
}

/// The defaults in the tables of `docs/methods.md` are those of the table of options.
#[test]
fn the_defaults_in_the_tables_are_those_of_the_code() {
    let text = std::fs::read_to_string(home().join("docs/methods.md")).expect("the page");
    let mut compared = 0;
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let Some(method) = line.split('`').nth(1).and_then(lowland::Method::from_name) else { continue };
        for opt in lowland::MethodOption::ALL {
            let flag = format!("`--{}` ", opt.name().replace('_', "-"));
            let Some((_, rest)) = line.split_once(&flag) else { continue };
            let number: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            if !number.is_empty() {
                assert_eq!(number, opt.default_of(method), "{method}: {flag}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 8, "only {compared} defaults were found");
}
