//! Polars frames in and out (feature `polars`): the map is that of the same rows in a Parquet file, wherever the rows
//! come from; memory is shared and released once; what can be refused is refused before a query runs; temporary files
//! are removed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int32Array, StringArray, StructArray};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField};
use arrow::record_batch::RecordBatch;
use lowland::model::Model;
use lowland::polars::{EmbedFrame, TransformFrame, to_batches, to_frame};
use lowland::{Embed, InvalidRows, Rows};
use lowland_io::OpenOptions;
use polars::prelude::*;

const ROWS: usize = 600;
const DIM: usize = 4;

fn values(rows: usize, dim: usize) -> Vec<f32> {
    (0..rows * dim).map(|i| ((i * 37 % 1013) as f32).sin()).collect()
}

fn lists(values: &[f32], dim: usize) -> Column {
    let lists: ListChunked = values.chunks(dim).map(|row| Series::new("".into(), row)).collect();
    lists.with_name("embedding".into()).into_column()
}

fn arrays(values: &[f32], dim: usize) -> Column {
    lists(values, dim).cast(&DataType::Array(Box::new(DataType::Float32), dim)).expect("arrays")
}

/// 600 rows: vectors as arrays, as lists, and as the columns v0 to v3; and a column of each kind of type.
fn frame() -> DataFrame {
    let values = values(ROWS, DIM);
    let words: Vec<String> = (0..ROWS).map(|row| format!("word {}", row % 7)).collect();
    let levels: Vec<&str> = (0..ROWS).map(|row| ["low", "mid", "high"][row % 3]).collect();
    let whole: Vec<i64> = (0..ROWS as i64).map(|row| row * 1_000_003).collect();
    let some: Vec<Option<i64>> = whole.iter().map(|&x| (x % 5 != 0).then_some(x)).collect();
    let level = DataType::from_frozen_categories(FrozenCategories::new(["low", "mid", "high"]).expect("categories"));
    let zone = TimeZone::opt_try_new(Some("Europe/Berlin")).expect("a zone");
    let of = |name: &str, values: &[i64], kind: DataType| {
        Column::new(name.into(), values).cast(&kind).unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    let word = Column::new("word".into(), &words);
    let category = word.cast(&DataType::from_categories(Categories::global())).expect("categories");
    let small: Vec<i64> = (0..ROWS as i64).collect();
    let mut columns = vec![
        Column::new("id".into(), &whole),
        category.with_name("category".into()),
        Column::new("level".into(), &levels).cast(&level).expect("levels"),
        of("time", &whole, DataType::Datetime(TimeUnit::Microseconds, zone)),
        of("day", &small, DataType::Int32).cast(&DataType::Date).expect("days"),
        of("price", &small, DataType::Decimal(12, 2)),
        of("byte", &small.iter().map(|x| x % 200).collect::<Vec<_>>(), DataType::UInt8),
        Column::new("some".into(), &some),
        lists(&values, DIM).with_name("list".into()),
        arrays(&values, DIM),
        word,
    ];
    for c in 0..DIM {
        columns.push(Column::new(format!("v{c}").into(), values.chunks(DIM).map(|row| row[c]).collect::<Vec<_>>()));
    }
    DataFrame::new(ROWS, columns).expect("a frame")
}

const KEPT: [&str; 8] = ["word", "category", "level", "time", "day", "price", "byte", "some"];

fn options(embed: Embed) -> Embed {
    embed.id("id").keep(KEPT).n_neighbors(8).n_epochs(20).memory("600MiB")
}

fn write(frame: &DataFrame, path: &Path) {
    let file = std::fs::File::create(path).expect("a file");
    ParquetWriter::new(file).finish(&mut frame.clone()).expect("written");
}

fn bytes(embed: Embed, path: PathBuf) -> Vec<u8> {
    options(embed).force().write(&path).expect("a map");
    std::fs::read(path).expect("the map")
}

/// The frame in chunks of which none ends where one of another column does, but for the last.
fn in_pieces(frame: &DataFrame) -> DataFrame {
    let columns = frame.columns().iter().enumerate().map(|(at, column)| {
        let mut pieces = column.slice(0, 0);
        let mut first = 0;
        while first < ROWS {
            let rows = (90 + 7 * at).min(ROWS - first);
            pieces.append(&column.slice(first as i64, rows)).expect("appended");
            first += rows;
        }
        pieces
    });
    let pieces = DataFrame::new(ROWS, columns.collect()).expect("a frame");
    assert!(pieces.columns()[0].n_chunks() > 5 && pieces.should_rechunk());
    pieces
}

#[test]
fn the_map_is_that_of_a_parquet_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let (input, output) = (dir.path().join("rows.parquet"), dir.path().join("map.parquet"));
    let frame = frame();
    write(&frame, &input);
    for column in ["embedding", "list", "v*", "v0,v1,v2,v3"] {
        let of_file = bytes(lowland::embed(input.as_path()).column(column), output.clone());
        let query = frame.clone().lazy();
        let scan = LazyFrame::scan_parquet(PlRefPath::try_from_path(&input).expect("a path"), Default::default());
        let cases = [
            ("a frame", frame.clone().embed(column)),
            ("a frame in pieces", in_pieces(&frame).embed(column)),
            ("a query", query.embed(column)),
            ("a query of pieces", in_pieces(&frame).lazy().embed(column)),
            ("a query of the file", scan.expect("a query").embed(column)),
        ];
        for (what, embed) in cases {
            assert!(bytes(embed, output.clone()) == of_file, "{what}, {column}");
        }
    }
}

#[test]
fn a_map_is_a_frame_or_a_scan() {
    let frame = frame();
    let map = options(frame.clone().embed("embedding")).frame().expect("a map");
    assert_eq!(map.shape(), (ROWS, 3 + KEPT.len()));
    for name in ["id"].iter().chain(&KEPT) {
        let (is, was) = (map.column(name).expect("a column"), frame.column(name).expect("a column"));
        assert!(is.equals_missing(was), "{name}: {is:?} {was:?}");
        assert_eq!(is.dtype(), was.dtype(), "{name}");
    }
    let nulls = map.column("x").expect("x").f32().expect("f32").is_nan().any();
    assert!(!nulls && map.column("y").expect("y").dtype() == &DataType::Float32);

    // Names that Polars would take for patterns, addresses or columns.
    let dir = tempfile::tempdir().expect("a directory");
    let within = dir.path().join("day=1").join("[ab]*");
    std::fs::create_dir_all(&within).expect("a directory");
    for name in ["map.parquet", "map[1]*?.parquet", "a{b,c}.PARQUET", "a%20b é.parquet"] {
        let path = within.join(name);
        let scan = options(frame.clone().lazy().embed("embedding")).scan(&path).expect("a map");
        assert!(path.exists());
        let found = scan.collect().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(found.equals_missing(&map), "{name}: {found:?}\n{map:?}");
    }

    // Rows that are not of a frame.
    let map = lowland::embed((values(ROWS, DIM), DIM)).n_epochs(20).memory("600MiB").frame().expect("a map");
    let id = map.column("id").expect("an id").u64().expect("u64");
    assert_eq!((map.shape(), id.get(ROWS - 1)), ((ROWS, 3), Some(ROWS as u64 - 1)));
}

/// A query that counts the rows that it computes, and fails at the row `bad`, by a panic if `panics`.
fn counted(bad: Option<usize>, panics: bool) -> (LazyFrame, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let rows = 3 * 4096;
    let columns = vec![
        Column::new("id".into(), (0..rows as u32).collect::<Vec<_>>()),
        arrays(&values(rows, DIM), DIM),
        Column::new("unused".into(), vec![0u8; rows]),
    ];
    let seen = move |ids: Column| {
        counter.fetch_add(ids.len(), Ordering::SeqCst);
        if let Some(bad) = bad
            && ids.u32()?.iter().any(|id| id == Some(bad as u32))
        {
            assert!(!panics, "row {bad} panics");
            return Err(PolarsError::ComputeError(format!("row {bad} cannot be computed").into()));
        }
        Ok(ids)
    };
    let frame = DataFrame::new(rows, columns).expect("a frame");
    (frame.lazy().with_columns([col("id").map(seen, |_, field| Ok(field.clone()))]), count)
}

fn text<T>(result: lowland::Result<T>) -> String {
    result.err().expect("an error").to_string()
}

fn check_refused(what: impl FnOnce(LazyFrame) -> String, expected: &[&str]) {
    let (query, count) = counted(None, false);
    let error = what(query);
    for part in expected {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0, "the query ran: {error}");
}

#[test]
fn what_can_be_refused_is_refused_before_the_query_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("there.parquet"), "").expect("a file");
    let columns = ["the frame", "\"key\"", "embedding", "unused"];
    check_refused(|query| text(query.embed("embedding").id("key").frame()), &columns);
    check_refused(|query| text(query.embed("embedding").keep(["key"]).scan(path("map.parquet"))), &columns);
    check_refused(|query| text(query.embed("key").plan()), &columns);
    check_refused(|query| text(query.embed("k*").run()), &["the frame", "k*"]);
    check_refused(
        |query| text(query.embed("embedding").scan(path("map.arrow"))),
        &["map.arrow", ".parquet", "`write`"],
    );
    check_refused(|query| text(query.embed("embedding").scan(path("map"))), &["map: ", ".parquet"]);
    check_refused(|query| text(query.embed("embedding").write(path("map.csv"))), &["map.csv", ".parquet"]);
    check_refused(|query| text(query.embed("embedding").scan(path("there.parquet"))), &["there.parquet"]);
    check_refused(|query| text(query.embed("embedding").scan(path("none/map.parquet"))), &["does not exist"]);
    check_refused(|query| text(query.embed("embedding").perplexity(9.0).frame()), &["perplexity"]);
    check_refused(|query| text(query.embed("embedding").n_components(65).frame()), &["n_components"]);
    // The same of a frame.
    let error = text(frame().embed("embedding").id("key").frame());
    assert!(error.contains("\"key\"") && error.contains("word"), "{error}");
    // A query that does not know its columns.
    let error = text(frame().lazy().select([col("nobody")]).embed("embedding").frame());
    assert!(error.starts_with("the frame: ") && error.contains("nobody"), "{error}");
}

#[test]
fn only_the_columns_that_are_read_are_computed() {
    let (query, count) = counted(None, false);
    let source = Rows::from(query.clone());
    let options = OpenOptions { column: Some("embedding".into()), ..OpenOptions::default() };
    let source = source.open(&options, &[]).expect("a source");
    assert_eq!((source.columns(), count.load(Ordering::SeqCst)), (vec!["embedding".to_string()], 0));
    let source = Rows::from(query).open(&options, &["id".into()]).expect("a source");
    assert_eq!((source.columns(), source.shape().rows), (vec!["id".into(), "embedding".into()], 3 * 4096));
    assert_eq!(count.load(Ordering::SeqCst), 3 * 4096);
    // A column is named as it is: Polars has patterns too.
    let columns = ["*", "^e.*$", "a"].map(|name| Column::new(name.into(), values(ROWS, 1)));
    let frame = DataFrame::new(ROWS, columns.into()).expect("a frame");
    let options = OpenOptions { column: Some("a".into()), ..OpenOptions::default() };
    for rows in [Rows::from(frame.clone()), Rows::from(frame.lazy())] {
        let source = rows.open(&options, &["*".into(), "^e.*$".into()]).expect("a source");
        assert_eq!(source.columns(), ["*", "^e.*$", "a"]);
    }
}

#[test]
fn empty_frames_and_frames_without_vectors_are_refused() {
    let none = frame().slice(0, 0);
    for rows in [Rows::from(none.clone()), Rows::from(none.lazy())] {
        let error = text(lowland::embed(rows).column("embedding").id("id").frame());
        assert_eq!(error, "the frame: has no rows");
    }
    let error = text(lowland::embed(DataFrame::empty()).frame());
    assert!(error.starts_with("the frame: "), "{error}");
    let error = text(frame().embed("word").frame());
    assert!(error.contains("\"word\""), "{error}");
    // A type that Arrow data of Polars cannot name matters only where it is read.
    let field = Series::new("a\0b".into(), vec![1i32; ROWS]);
    let odd = StructChunked::from_series("odd\0".into(), ROWS, [&field].into_iter()).expect("structs");
    let mut frame = frame();
    frame.with_column(odd.into_column()).expect("added");
    for query in [false, true] {
        let rows = || if query { Rows::from(frame.clone().lazy()) } else { Rows::from(frame.clone()) };
        options(lowland::embed(rows()).column("embedding")).frame().expect("a map");
        let error = text(options(lowland::embed(rows()).column("embedding")).keep(["odd\0"]).frame());
        assert!(error.contains("zero byte") && error.contains("leave it out"), "{error}");
    }
}

#[test]
fn rows_without_vectors_are_handled_as_invalid_says() {
    let valid = |row: usize| row % 100 != 5;
    let values = values(ROWS, DIM);
    let vectors: ListChunked = values
        .chunks(DIM)
        .enumerate()
        .map(|(row, values)| valid(row).then(|| Series::new("".into(), values)))
        .collect();
    let vectors = vectors.with_name("embedding".into()).into_column();
    let ids = Column::new("id".into(), (0..ROWS as u32).collect::<Vec<_>>());
    for kind in [vectors.clone(), vectors.cast(&DataType::Array(Box::new(DataType::Float32), DIM)).expect("arrays")] {
        let frame = DataFrame::new(ROWS, vec![ids.clone(), kind]).expect("a frame");
        for rows in [|frame: DataFrame| Rows::from(frame), |frame: DataFrame| Rows::from(frame.lazy())] {
            let embed =
                || lowland::embed(rows(frame.clone())).column("embedding").id("id").n_epochs(20).memory("600MiB");
            let error = text(embed().frame());
            assert!(error.contains("6 of 600 rows") && error.contains("the frame: row 5"), "{error}");
            let map = embed().invalid(InvalidRows::Drop).frame().expect("a map");
            let ids: Vec<u32> = map.column("id").expect("ids").u32().expect("u32").iter().flatten().collect();
            assert_eq!(ids, (0..ROWS as u32).filter(|&row| valid(row as usize)).collect::<Vec<_>>());
            let map = embed().invalid(InvalidRows::Null).frame().expect("a map");
            let x = map.column("x").expect("x").clone();
            assert_eq!((map.height(), x.null_count(), x.get(5).expect("a value")), (ROWS, 6, AnyValue::Null));
        }
    }
}

/// An owner of numbers that tells when it is dropped.
struct Owner(Vec<f32>, Arc<AtomicUsize>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

/// Vectors in memory that an [`Owner`] holds, of which every tenth is null, beside text and a struct.
fn owned(dropped: &Arc<AtomicUsize>) -> (RecordBatch, *const f32) {
    let owner = Owner(values(ROWS, DIM), dropped.clone());
    let (pointer, length) = (owner.0.as_ptr(), owner.0.len() * size_of::<f32>());
    let bytes = std::ptr::NonNull::new(pointer.cast_mut().cast()).expect("a pointer");
    // SAFETY: the owner holds the numbers, which do not move, for as long as the buffer exists.
    #[expect(unsafe_code, reason = "a buffer whose owner tells when it is dropped")]
    let buffer = unsafe { Buffer::from_custom_allocation(bytes, length, Arc::new(owner)) };
    let numbers = Float32Array::new(ScalarBuffer::from(buffer), None);
    let item = Arc::new(ArrowField::new("item", ArrowType::Float32, true));
    let nulls = (0..ROWS).map(|row| row % 10 != 3).collect::<Vec<_>>().into();
    let vectors = FixedSizeListArray::new(item, DIM as i32, Arc::new(numbers), Some(nulls));
    let words =
        arrow::array::StringViewArray::from_iter_values((0..ROWS).map(|row| format!("a word of many bytes {row}")));
    let number: Arc<dyn Array> = Arc::new(Int32Array::from_iter_values(0..ROWS as i32));
    let pairs = StructArray::from(vec![(Arc::new(ArrowField::new("n", ArrowType::Int32, true)), number)]);
    let columns: [(&str, Arc<dyn Array>); 3] =
        [("embedding", Arc::new(vectors)), ("word", Arc::new(words)), ("pair", Arc::new(pairs))];
    (RecordBatch::try_from_iter(columns).expect("a batch"), pointer)
}

#[test]
fn memory_is_shared_and_released_once() {
    let dropped = Arc::new(AtomicUsize::new(0));
    for round in 0..200 {
        let (batch, pointer) = owned(&dropped);
        let given = [batch.slice(0, 250), batch.slice(250, ROWS - 250)];
        let frame = to_frame(&given).expect("a frame");
        assert_eq!((frame.height(), frame.columns()[0].n_chunks()), (ROWS, 2));
        let (schema, batches) = to_batches(&frame).expect("batches");
        assert_eq!(schema, batches[0].schema());
        for (back, was) in batches.iter().zip(&given) {
            let (vectors, first) = (back.column(0).as_fixed_size_list(), was.column(0).as_fixed_size_list());
            let [is, from] =
                [vectors, first].map(|vectors| vectors.values().as_primitive::<arrow::datatypes::Float32Type>());
            assert_eq!((is, vectors.nulls()), (from, first.nulls()));
            assert_eq!(is.values().as_ptr(), from.values().as_ptr());
            assert_eq!(back.column(1).as_string_view(), was.column(1).as_string_view());
            assert_eq!(back.column(2).as_struct(), was.column(2).as_struct());
        }
        assert_eq!(
            batches[0]
                .column(0)
                .as_fixed_size_list()
                .values()
                .as_primitive::<arrow::datatypes::Float32Type>()
                .values()
                .as_ptr(),
            pointer
        );
        let part = frame.slice(100, 300);
        let again = to_batches(&part).expect("batches").1;
        let source = Rows::from(frame.clone()).open(&OpenOptions::default(), &["word".into()]).expect("a source");
        // Whatever is dropped last releases the memory, and nothing else does.
        let mut holders: Vec<Box<dyn std::any::Any>> = vec![
            Box::new(batch),
            Box::new(given),
            Box::new(frame),
            Box::new(batches),
            Box::new(part),
            Box::new(again),
            Box::new(source.clone()),
        ];
        holders.rotate_left(round % 7);
        if round % 2 == 0 {
            holders.reverse();
        }
        drop(source);
        for holder in holders {
            assert_eq!(dropped.load(Ordering::SeqCst), round);
            drop(holder);
        }
        assert_eq!(dropped.load(Ordering::SeqCst), round + 1);
    }
}

#[test]
fn every_type_comes_back() {
    let mut frame = frame();
    let whole: Vec<Option<i64>> = (0..ROWS as i64).map(|row| (row % 3 != 1).then_some(row * 86_399)).collect();
    let whole = Column::new("whole".into(), whole);
    for kind in [
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float16,
        DataType::Float64,
        DataType::Duration(TimeUnit::Milliseconds),
        DataType::Datetime(TimeUnit::Nanoseconds, None),
        DataType::Time,
        DataType::Decimal(38, 6),
        DataType::String,
    ] {
        let column = whole.strict_cast(&kind).or_else(|_| (&whole % 100).cast(&kind)).expect("a column");
        frame.with_column(column.with_name(format!("{kind}").into())).expect("added");
    }
    let words = frame.column("word").expect("words").clone();
    let bytes = words.cast(&DataType::Binary).expect("bytes").with_name("bytes".into());
    let nested = words.cast(&DataType::List(Box::new(DataType::String))).expect("lists").with_name("nested".into());
    let nulls = Column::full_null("nulls".into(), ROWS, &DataType::Null);
    for column in [bytes, nested, nulls] {
        frame.with_column(column).expect("added");
    }
    for frame in [frame.clone(), in_pieces(&frame), frame.slice(17, 301)] {
        let (schema, batches) = to_batches(&frame).expect("batches");
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), frame.height());
        assert_eq!(schema.fields().len(), frame.width());
        let back = to_frame(&batches).expect("a frame");
        assert_eq!(back.schema(), frame.schema());
        for (is, was) in back.columns().iter().zip(frame.columns()) {
            assert!(is.equals_missing(was), "{}: {is:?} {was:?}", was.name());
        }
    }
}

#[test]
fn equal_rows_have_an_equal_identity() {
    let options = OpenOptions { column: Some("embedding".into()), ..OpenOptions::default() };
    let id = |rows: Rows| rows.open(&options, &["category".into()]).expect("a source").id().expect("an identity");
    let of_query = id(frame().lazy().into());
    assert!(of_query.is_lasting());
    assert_eq!(of_query, id(in_pieces(&frame()).lazy().into()));
    assert_ne!(of_query, id(frame().lazy().filter(col("id").gt(lit(0))).into()));
    assert_eq!(id(frame().into()), id(frame().into()));
}

#[test]
fn batches_of_other_columns_are_no_frame() {
    let (batch, _) = owned(&Arc::default());
    let error = text(to_frame(&[batch.clone(), batch.project(&[0]).expect("a column")]));
    assert!(error.contains("batch 1 has other columns"), "{error}");
    // As many columns of the same type, but of another name; and one of the same name, but of another type.
    let of = |name: &str, array: ArrayRef| RecordBatch::try_from_iter([(name, array)]).expect("a batch");
    let (numbers, texts): (ArrayRef, ArrayRef) =
        (Arc::new(Int32Array::from(vec![1])), Arc::new(StringArray::from(vec!["1"])));
    let error = text(to_frame(&[of("a", numbers.clone()), of("b", numbers.clone())]));
    assert!(error.contains("batch 1 has other columns"), "{error}");
    let error = text(to_frame(&[of("a", numbers), of("a", texts)]));
    assert!(error.contains("\"a\"") && error.contains("another batch"), "{error}");
    assert_eq!(to_frame(&[]).expect("a frame").shape(), (0, 0));
    assert!(to_batches(&DataFrame::empty()).expect("batches").1.is_empty());
}

#[test]
fn the_memory_of_a_frame_counts() {
    let options = OpenOptions { column: Some("embedding".into()), ..OpenOptions::default() };
    let frame = frame();
    let source = Rows::from(frame.clone()).open(&options, &["id".into()]).expect("a source");
    let (least, most) = ((ROWS * DIM * 4 + ROWS * 8) as u64, frame.estimated_size() as u64);
    assert!((least..most).contains(&source.resident_bytes()), "{least} {} {most}", source.resident_bytes());
    let source = Rows::from(frame.lazy()).open(&options, &["id".into()]).expect("a source");
    assert_eq!(source.resident_bytes(), 0);
    // The budget is that of a run and of the frame.
    let rows = 100_000;
    let frame = DataFrame::new(rows, vec![arrays(&values(rows, 64), 64)]).expect("a frame");
    let needed = |rows: Rows| match lowland::embed(rows).memory("8MiB").plan().expect_err("too little") {
        lowland::Error::Engine(lowland_engine::Error::Budget { needed, .. }) => needed,
        other => panic!("{other}"),
    };
    let (held, streamed) = (needed(frame.clone().into()), needed(frame.lazy().into()));
    assert!(held > streamed + 20_000_000, "{held} {streamed}");
}

#[test]
fn components_and_graphs_of_a_query() {
    let dir = tempfile::tempdir().expect("a directory");
    let input = dir.path().join("rows.parquet");
    write(&frame(), &input);
    let options = OpenOptions { column: Some("embedding".into()), ..OpenOptions::default() };
    let source = Rows::from(frame().lazy()).open(&options, &["id".into()]).expect("a source");
    let found =
        [source, lowland::open(&[input.to_str().expect("text")], Some("embedding")).expect("a source")].map(|source| {
            let mut job = lowland::Job::new();
            job.source = Some(source);
            job.config.memory = 600 << 20;
            let path = dir.path().join("graph.parquet");
            job.knn(&job.plan_graph().expect("a plan"), &path, true, &()).expect("a graph");
            std::fs::read(path).expect("a graph")
        });
    assert!(found[0] == found[1]);
}

/// The environment variable that marks the process of [`alone`].
const ALONE: &str = "LOWLAND_TEST_ALONE";

/// Returns whether this process was started by [`alone`].
fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// Runs the test `name` once more, in a process of its own, whose temporary files are in `directory`.
fn alone(name: &str, directory: &Path) {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "--nocapture", name]).env("TMPDIR", directory).env(ALONE, "1");
    let output = command.output().expect("started");
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("1 passed"), "{name}: {told}");
}

fn entries() -> usize {
    std::fs::read_dir(std::env::temp_dir()).expect("a directory").count()
}

#[test]
fn temporary_files_are_removed() {
    if is_alone() {
        return check_temporary_files();
    }
    let dir = tempfile::tempdir().expect("a directory");
    alone("temporary_files_are_removed", dir.path());
    assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0);
}

/// Counts the files of a process in which no other test makes any.
fn check_temporary_files() {
    let options = OpenOptions { column: Some("embedding".into()), ..OpenOptions::default() };
    let open = |query: LazyFrame| Rows::from(query).open(&options, &["id".into()]);
    assert_eq!(entries(), 0);
    let source = open(counted(None, false).0).expect("a source");
    let other = source.clone();
    assert_eq!(entries(), 1);
    drop(source);
    assert_eq!(entries(), 1);
    drop(other);
    assert_eq!(entries(), 0);
    // A query that fails after its first batches, and one that panics.
    let error = text(open(counted(Some(9000), false).0));
    assert!(error.contains("row 9000 cannot be computed"), "{error}");
    let error = text(open(counted(Some(9000), true).0));
    assert!(error.contains("row 9000 panics") && error.contains("collect"), "{error}");
    assert_eq!(entries(), 0);
    // A run that fails after the query.
    let (query, _) = counted(None, false);
    assert!(text(query.embed("embedding").id("id").memory("1MiB").frame()).contains("memory"));
    assert_eq!(entries(), 0);
    let (query, _) = counted(None, false);
    query.embed("embedding").n_epochs(5).memory("600MiB").frame().expect("a map");
    assert_eq!(entries(), 0);
}

/// The shape of a table of 98 MiB, and how often a query has it: 586 MiB.
const LARGE: (usize, usize) = (200_000, 128);
const TIMES: usize = 6;

#[test]
fn a_query_is_never_in_memory_as_a_whole() {
    if is_alone() {
        return check_memory();
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (rows, dim) = LARGE;
    let numbers: Vec<f32> = (0..rows * dim).map(|i| i as f32).collect();
    let shape = [ReshapeDimension::Infer, ReshapeDimension::new_dimension(dim as u64)];
    let vectors = Series::new("embedding".into(), numbers).reshape_array(&shape).expect("vectors");
    let mut frame = DataFrame::new(rows, vec![vectors.into_column()]).expect("a frame");
    let file = std::fs::File::create(dir.path().join("rows.parquet")).expect("a file");
    ParquetWriter::new(file).with_row_group_size(Some(8192)).finish(&mut frame).expect("written");
    alone("a_query_is_never_in_memory_as_a_whole", dir.path());
}

fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Measures the memory of a process in which no other test takes any.
fn check_memory() {
    let path = PlRefPath::try_from_path(&std::env::temp_dir().join("rows.parquet")).expect("a path");
    let scan = LazyFrame::scan_parquet(path, ScanArgsParquet::default()).expect("a query");
    let query = concat(vec![scan; TIMES], UnionArgs::default()).expect("a query");
    let before = peak_memory();
    let source = Rows::from(query).open(&OpenOptions::default(), &[]).expect("a source");
    let grown = (peak_memory() - before) >> 20;
    let (rows, dim) = LARGE;
    assert_eq!((source.shape().rows, source.shape().dim), ((TIMES * rows) as u64, dim));
    let mut row = vec![0.0; dim];
    source.read_rows((TIMES * rows) as u64 - 1, &mut row).expect("a row");
    assert_eq!(row[dim - 1], (rows * dim - 1) as f32);
    // The engine and the allocator keep about 140 MiB, of a table of any length.
    assert!(grown < 250, "{grown} MiB for rows of 586 MiB");
}

/// Makes a model of the rows with even numbers.
fn model(path: &Path) {
    let even = frame().lazy().filter((col("id") % lit(2)).eq(lit(0)));
    let (job, _) = even.embed("embedding").id("id").n_neighbors(8).n_epochs(20).memory("600MiB").job().expect("a job");
    job.embed_model(path, &[], None, &()).expect("a model");
}

#[test]
fn frames_are_placed_on_a_model_as_files_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    model(&at("map.lowland"));
    let open = || Model::open(at("map.lowland")).expect("the model");
    write(&frame(), &at("rows.parquet"));

    let source =
        lowland::open(&[at("rows.parquet").to_string_lossy().into_owned()], Some("embedding")).expect("a source");
    let mut job = open().transform(source);
    job.id = Some("id".into());
    let table = lowland::MapTable { keep: KEPT.map(String::from).to_vec(), ..lowland::MapTable::default() };
    let file = lowland::MapFile { path: at("told.parquet"), table, force: false };
    job.write(&file, &()).expect("placed rows");
    let told = std::fs::read(at("told.parquet")).expect("the rows");

    // The model's column is found among the others.
    let cases = [
        frame().transform_onto(open()),
        in_pieces(&frame()).transform_onto(open()),
        frame().lazy().transform_onto(open()).memory("600MiB").threads(1),
        frame().lazy().transform_onto(open()).column("v*"),
    ];
    for (at_case, case) in cases.into_iter().enumerate() {
        let path = at(&format!("placed-{at_case}.parquet"));
        case.id("id").keep(KEPT).write(&path).expect("placed rows");
        assert!(std::fs::read(path).expect("the rows") == told, "case {at_case}");
    }
    let placed = frame().transform_onto(open()).frame().expect("placed rows");
    assert_eq!(placed.get_column_names(), ["id", "x", "y", "outlier"]);
    assert_eq!(placed.height(), ROWS);
    let scanned = frame().lazy().transform_onto(open()).scan(at("scanned.parquet")).expect("a scan");
    assert!(scanned.collect().expect("the rows").equals(&placed));
}

#[test]
fn frames_that_cannot_be_placed_are_refused_before_a_query_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("map.lowland");
    model(&path);
    let open = || Model::open(&path).expect("the model");
    let csv = dir.path().join("placed.csv");
    check_refused(|query| text(query.transform_onto(open()).column("nothing").frame()), &["nothing"]);
    check_refused(|query| text(query.transform_onto(open()).keep(["nothing"]).frame()), &["nothing"]);
    check_refused(|query| text(query.transform_onto(open()).memory("much").frame()), &["memory"]);
    check_refused(|query| text(query.transform_onto(open()).scan(&csv)), &["placed.csv", ".parquet"]);
    check_refused(|query| text(query.transform_onto(open()).write(&csv)), &["placed.csv"]);
    let error = text(frame().transform_onto(open()).column("v0,v1").frame());
    assert!(error.contains("2 components"), "{error}");
}
