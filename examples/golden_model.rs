//! Makes the golden model of `tests/data/model-v1` anew: `tests/it/model/golden.rs` says what it has, and when it is
//! made.
//!
//! ```text
//! cargo run --release --example golden_model
//! ```

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use arrow::ipc::writer::FileWriter;
use lowland::model::{ExportJob, History, Model, UpdateJob, UpdateMode};
use lowland::{Config, Job, MapFile};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const DIM: usize = 4;

/// Rows that come from one mixture of clouds, by their numbers.
fn write(path: &str, rows: impl Iterator<Item = usize> + Clone) -> Outcome<()> {
    let generator = lowland_datasets::Generator::new("mixture".parse()?, 400, DIM, 7)?;
    let all = generator.table(0, 400);
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values(rows.clone().map(|row| format!("row {row:03}"))));
    let values = Float32Array::from_iter_values(rows.clone().flat_map(|row| all[row * DIM..][..DIM].to_vec()));
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let vectors: ArrayRef = Arc::new(FixedSizeListArray::new(item, DIM as i32, Arc::new(values), None));
    let labels: ArrayRef = Arc::new(StringArray::from_iter_values(rows.map(|row| format!("label {}", row % 3))));
    let batch = RecordBatch::try_from_iter([("id", ids), ("vector", vectors), ("label", labels)])?;
    let mut writer = FileWriter::try_new(File::create(path)?, &batch.schema())?;
    writer.write(&batch)?;
    Ok(writer.finish()?)
}

fn main() -> Outcome<()> {
    let golden = std::path::PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("tests/data/model-v1");
    if golden.exists() {
        std::fs::remove_dir_all(&golden)?;
    }
    std::fs::create_dir_all(&golden)?;
    // Sources are named as they are typed: from where they are.
    std::env::set_current_dir(&golden)?;
    write("t.arrow", 0..300)?;
    write("new.arrow", 320..360)?;
    write("second.arrow", 10..320)?;
    write("tonight.arrow", 10..325)?;

    let mut job = Job::new();
    job.source = Some(lowland::open(&["t.arrow"], None)?);
    job.id = Some("id".into());
    job.config = Config { n_neighbors: Some(5), n_epochs: Some(60), ..Config::default() };
    job.embed_model(Path::new("model"), &[], None, &())?;
    History::open("model")?.tag("first", None, &())?;
    let mut update = UpdateJob::new("model", lowland::open(&["second.arrow"], None)?);
    update.mode = UpdateMode::Transform;
    update.run_id = Some("second".into());
    update.run(&())?;

    let model = Model::open("model")?;
    model.transform(lowland::open(&["new.arrow"], None)?).write(&MapFile::new("placed.npy"), &())?;
    ExportJob { model: Model::open("model")? }.write(&MapFile::new("map.arrow"), &())?;
    // Who held it last is nobody's concern, and Git keeps no empty directories.
    std::fs::remove_file("model/LOCK")?;
    std::fs::remove_file("second.arrow")?;
    Ok(())
}
