//! The library without files: rows in memory, maps in memory, batches, and anybody's sink give what
//! the command line writes; plans and reports as JSON; the identity of sources; colours of a column.

use std::sync::{Arc, Mutex};

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, Float64Array, RecordBatch, StringArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Float32Type, UInt64Type};
use lowland::picture::ValueNumber;
use lowland::plot::{PortionColors, survey};
use lowland::{Init, InvalidRows, MapSink, MemorySource, Method, Plan, Report, Rows, Source};
use lowland_io::{IdentifiedSource, SourceId};

use crate::harness::TestDir;

const DIM: usize = 6;

/// Rows in three groups.
fn values(rows: usize) -> Vec<f32> {
    (0..rows * DIM).map(|i| ((i / DIM % 3) * 20) as f32 + ((i * 7919 % 1009) as f32).sin()).collect()
}

fn batch(values: Vec<f32>, valid: impl Fn(usize) -> bool) -> RecordBatch {
    let rows = values.len() / DIM;
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let nulls = (0..rows).map(valid).collect::<Vec<bool>>().into();
    let vectors = FixedSizeListArray::new(item, DIM as i32, Arc::new(Float32Array::from(values)), Some(nulls));
    let names: StringArray = (0..rows).map(|i| Some(format!("row {i}"))).collect();
    let columns: [(&str, ArrayRef); 2] = [("vector", Arc::new(vectors)), ("name", Arc::new(names))];
    RecordBatch::try_from_iter(columns).expect("a batch")
}

/// The options of all maps here.
fn begun(rows: impl Into<Rows>) -> lowland::Embed {
    lowland::embed(rows).n_epochs(20).memory("1GiB").threads(2)
}

/// Collects batches.
fn batches(embed: lowland::Embed) -> Vec<RecordBatch> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let to = all.clone();
    embed
        .batches(move |batch| {
            to.lock().expect("one thread").push(batch);
            Ok(())
        })
        .expect("a map");
    std::mem::take(&mut all.lock().expect("one thread"))
}

fn column(batches: &[RecordBatch], name: &str) -> Vec<f32> {
    let of = |batch: &RecordBatch| {
        let array = batch.column_by_name(name).expect("a column").as_primitive::<Float32Type>().clone();
        (0..array.len()).map(move |i| if array.is_null(i) { f32::NAN } else { array.value(i) }).collect::<Vec<_>>()
    };
    batches.iter().flat_map(of).collect()
}

#[test]
fn a_map_of_rows_in_memory_is_that_of_the_same_rows_in_a_file() {
    let place = TestDir::new();
    let array = begun((values(500), DIM)).run().expect("a map");
    assert_eq!((array.rows(), array.n_components), (500, 2));
    begun((values(500), DIM)).write(place.path("m.npy")).expect("a map");
    let file = place.bytes("m.npy");
    let bytes: Vec<u8> = array.coordinates.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert!(file.ends_with(&bytes) && file.len() < bytes.len() + 200);
    assert!(!place.path("m.npy.run").exists(), "the run directory of a finished run is gone");

    let found = batches(begun(batch(values(500), |_| true)).id("name").keep(["vector"]));
    let pairs: Vec<f32> = column(&found, "x").into_iter().zip(column(&found, "y")).flat_map(|(x, y)| [x, y]).collect();
    assert!(pairs == array.coordinates);
    let names: Vec<&str> = found.iter().map(|b| b.schema_ref().field(0).name().as_str()).collect();
    assert!(names.iter().all(|name| *name == "name"), "{names:?}");
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 500);
}

#[test]
fn rows_that_are_left_out_have_their_place_in_memory_too() {
    let valid = |i: usize| i % 50 != 3;
    let rows = || batch(values(400), valid);
    assert!(begun(rows()).run().expect_err("null rows").is_bad_input());

    let null = begun(rows()).invalid(InvalidRows::Null).run().expect("a map");
    assert_eq!(null.rows(), 400);
    for row in 0..400 {
        assert_eq!(null.row(row)[0].is_nan(), !valid(row), "row {row}");
    }
    let found = batches(begun(rows()).invalid(InvalidRows::Drop));
    let ids: Vec<u64> = found.iter().flat_map(|b| b.column(0).as_primitive::<UInt64Type>().values().to_vec()).collect();
    let expected: Vec<u64> = (0..400).filter(|&i| valid(i as usize)).collect();
    assert_eq!(UInt64Array::from(ids), UInt64Array::from(expected));
    let placed: Vec<f32> = (0..400).filter(|&i| valid(i)).map(|i| null.row(i)[0]).collect();
    assert!(column(&found, "x") == placed);
}

#[test]
fn a_run_over_rows_in_memory_goes_on_only_with_the_same_rows() {
    let place = TestDir::new();
    let run = || begun((values(500), DIM)).run_dir(place.path("run"));
    let first = run().run().expect("a map");
    assert!(first.report.reused.is_empty());
    let again = run().run().expect("a map");
    assert!(!again.report.reused.is_empty(), "the same rows, so finished stages are used again");
    assert!(again.coordinates == first.coordinates);
    let mut other = values(500);
    other[7] += 0.5;
    let refused = begun((other, DIM)).run_dir(place.path("run")).run().expect_err("other rows").to_string();
    assert!(refused.contains("holds a run whose sources"), "{refused}");
}

#[test]
fn a_sink_that_fails_ends_the_run_with_its_error() {
    struct Full;
    impl MapSink for Full {
        fn write(&mut self, first: u64, _: &[f32]) -> lowland_engine::Result<()> {
            Err(lowland_io::Error::format("the caller's table", format!("no room at row {first}")).into())
        }
    }
    let (job, _) = begun((values(300), DIM)).job().expect("a job");
    let plan = job.plan().expect("a plan");
    let error = job.embed_to(&plan, &mut Full, &()).expect_err("a full sink").to_string();
    assert!(error.contains("the caller's table: no room at row 0"), "{error}");
}

#[test]
fn options_that_are_not_understood_are_told_before_any_row_is_read() {
    let error = lowland::embed("no-such-file.npy").memory("much").run().expect_err("no size").to_string();
    assert!(error.contains("memory") && error.contains("4GiB"), "{error}");
    let error = lowland::embed("no-such-file.npy").run().expect_err("no file").to_string();
    assert!(error.contains("no-such-file.npy"), "{error}");
    assert!(lowland::embed((values(300), DIM)).n_neighbors(300).plan().expect_err("too many").is_bad_input());
}

#[test]
fn plans_and_reports_are_read_from_json_as_they_were_written() {
    for method in [Method::UMAP, Method::from_name("tsne-exact").expect("a method")] {
        let all_pairs = method.is_all_pairs();
        // Rows far from 0, of which some have no vector, so that the report has a shift and flaws.
        let far = Float64Array::from_iter_values(values(300).iter().map(|&x| f64::from(x) + 1e7));
        let item = Arc::new(Field::new("item", DataType::Float64, true));
        let valid: Vec<bool> = (0..300).map(|i| i % 50 != 3).collect();
        let far: ArrayRef = Arc::new(FixedSizeListArray::new(item, DIM as i32, Arc::new(far), Some(valid.into())));
        let rows = RecordBatch::try_from_iter([("vector", far)]).expect("a batch");
        let mut begun = begun(rows).method(method).invalid(InvalidRows::Drop);
        if all_pairs {
            begun = begun.perplexity(9.0);
        }
        let (job, _) = begun.job().expect("a job");
        let plan = job.plan().expect("a plan");
        let stored = serde_json::to_string(&plan).expect("JSON");
        let read = Plan::from_json(&stored).expect("a plan");
        assert_eq!(read, plan);
        assert_eq!(read.identity(), plan.identity());
        // A plan that was read makes the same map.
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let report = job.embed_to(&plan, &mut first, &()).expect("a map");
        job.embed_to(&read, &mut second, &()).expect("a map");
        assert!(first == second && !first.is_empty());

        assert!(report.shift.is_some() && report.left_out.is_some() && report.quality.is_some());
        assert_eq!((report.all_pairs.is_some(), report.affinity.is_some()), (all_pairs, !all_pairs));
        let told = serde_json::to_string(&report).expect("JSON");
        assert_eq!(Report::from_json(&told).expect("a report"), report);
        assert_eq!(serde_json::from_str::<Report>(&told).expect("a report"), report);

        // A newer format is refused by its number, whatever else is in it.
        for (text, what) in [(&stored, "plan"), (&told, "report")] {
            let newer = text.replacen("\"format\":1", "\"format\":2", 1);
            assert_ne!(&newer, text);
            for newer in [newer, "{\"a\": 1, \"format\": 2}".into()] {
                let (plan, report) = (Plan::from_json(&newer).err(), Report::from_json(&newer).err());
                let error = if what == "plan" { plan } else { report }.expect("refused").to_string();
                assert!(error.contains("has format 2") && error.contains("up to format 1"), "{error}");
            }
            assert!(Plan::from_json("{}").expect_err("no plan").to_string().contains("not a plan of lowland"));
        }
        let newer = told.replacen("\"format\":1", "\"format\":2", 1);
        assert!(serde_json::from_str::<Report>(&newer).expect_err("refused").to_string().contains("has format 2"));
        // A plan of other rows, or with numbers that cannot be used, is refused before any work.
        let (other, _) = self::begun((values(301), DIM)).job().expect("a job");
        let error = other.embed_to(&plan, &mut Vec::new(), &()).expect_err("other rows").to_string();
        assert!(
            error.contains("the plan is for 294 rows of 6 components, but the input has 301 rows of 6 components"),
            "{error}"
        );
        type Change = fn(&mut serde_json::Value);
        let edits: [(Change, &str); 3] = [
            (|plan| plan["config"]["n_components"] = 0.into(), "n_components: 0"),
            // All-pairs methods have no number of neighbours.
            match plan.all_pairs() {
                None => (|plan| plan["config"]["n_neighbors"] = 0.into(), "n_neighbors: 0"),
                Some(_) => (|plan| plan["config"]["spread"] = 0.into(), "spread: 0 is not above 0"),
            },
            (|plan| plan["graph_k"] = 7.into(), "and a graph of 7 neighbours, but the input has"),
        ];
        for (change, words) in edits {
            let mut edited = serde_json::from_str(&stored).expect("JSON");
            change(&mut edited);
            let edited = Plan::from_json(&edited.to_string()).expect("a plan");
            let error = job.embed_to(&edited, &mut Vec::new(), &()).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}

/// A source without a lasting identity. With first positions from a file, the run has a fingerprint all the same.
#[test]
fn a_run_of_rows_without_identity_is_never_resumed() {
    let place = TestDir::new();
    begun((values(500), DIM)).write(place.path("first.npy")).expect("a map");
    let once = |values: Vec<f32>| -> Arc<dyn Source> {
        Arc::new(IdentifiedSource::new(
            Arc::new(MemorySource::from_vec("rows", values, DIM).expect("rows")),
            SourceId::Once,
        ))
    };
    let init = Init::File(place.path("first.npy"));
    let run = |values: Vec<f32>| begun(once(values)).init(init.clone()).run_dir(place.path("run"));
    run(values(500)).run().expect("a map");
    assert!(place.path("run").exists());
    let mut other = values(500);
    other.iter_mut().for_each(|x| *x = x.cos());
    let map = run(other.clone()).run().expect("a map");
    assert!(map.report.reused.is_empty(), "{:?}", map.report.reused);
    assert!(map.coordinates == begun((other.clone(), DIM)).init(init.clone()).run().expect("a map").coordinates);

    // The run of another source in the directory is not replaced by chance.
    begun((values(500), DIM)).run_dir(place.path("kept")).run().expect("a map");
    let refused = begun(once(other)).run_dir(place.path("kept")).run().expect_err("another run").to_string();
    assert!(refused.contains("holds a run whose sources"), "{refused}");
    // A run that fails leaves nothing, because nothing could be resumed.
    struct Full;
    impl MapSink for Full {
        fn write(&mut self, _: u64, _: &[f32]) -> lowland_engine::Result<()> {
            Err(lowland_io::Error::format("a table", "full").into())
        }
    }
    let (job, _) = begun(once(values(300))).run_dir(place.path("failed")).job().expect("a job");
    assert!(!job.is_resumable().expect("known"));
    job.embed_to(&job.plan().expect("a plan"), &mut Full, &()).expect_err("a full sink");
    assert!(!place.path("failed").exists());
    let (job, _) = begun((values(300), DIM)).run_dir(place.path("failed")).job().expect("a job");
    assert!(job.is_resumable().expect("known"));
    job.embed_to(&job.plan().expect("a plan"), &mut Full, &()).expect_err("a full sink");
    assert!(place.path("failed").exists());
}

#[test]
fn a_survey_gives_the_colours_of_a_column() {
    // 150,000 different texts: more than are counted.
    let rows = 300_000;
    let text = |i: usize| if i.is_multiple_of(2) { "often".to_string() } else { format!("rare {i}") };
    let texts: ArrayRef = Arc::new((0..rows).map(|i| Some(text(i))).collect::<StringArray>());
    let numbers: ArrayRef = Arc::new(Float32Array::from_iter_values((0..rows).map(|i| i as f32)));
    let whole: ArrayRef = Arc::new(UInt64Array::from_iter_values((0..rows as u64).map(|i| i % 3)));
    let list: ArrayRef = batch(vec![0.0; rows * DIM], |_| true).column(0).clone();
    let columns = [("text", texts.clone()), ("number", numbers.clone()), ("whole", whole.clone()), ("list", list)];
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let options = lowland_io::OpenOptions { column: Some("number".into()), ..lowland_io::OpenOptions::default() };
    let table = MemorySource::new("table", batch.schema(), vec![batch], &options).expect("a source");

    let colors = survey(&table, "text", &()).expect("colours");
    assert_eq!(colors.scale().ranked()[0], ("often".to_string(), rows as u64 / 2));
    assert_eq!(colors.scale().total(), rows as u64);
    let PortionColors::Categories(codes) = colors.of(&texts).expect("codes") else { panic!("categories") };
    assert!(codes.len() == rows && codes.iter().step_by(2).all(|&code| code == codes[0] && code != u32::MAX));
    assert!(colors.of(&numbers).is_err() || matches!(colors.of(&numbers), Ok(PortionColors::Categories(_))));

    let colors = survey(&table, "number", &()).expect("colours");
    let last = (rows - 1) as f64;
    assert_eq!(colors.scale().range().expect("a range").ends(), (ValueNumber::Float(0.0), ValueNumber::Float(last)));
    let PortionColors::Places(places) = colors.of(&numbers).expect("places") else { panic!("places") };
    assert_eq!((places[0], places[rows - 1]), (0.0, 1.0));
    let colors = survey(&table, "whole", &()).expect("colours");
    assert_eq!(colors.of(&whole.slice(1, 2)).expect("codes"), PortionColors::Categories(vec![1, 2]));

    assert!(survey(&table, "none", &()).is_err());
    let error = survey(&table, "list", &()).expect_err("no colours").to_string();
    assert!(error.contains("list") && error.contains("neither text, number nor time"), "{error}");
}
