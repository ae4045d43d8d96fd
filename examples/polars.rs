//! Maps of Polars frames, and as Polars frames.
//!
//! ```sh
//! cargo run --release --example polars --features polars
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it did")]

use lowland::polars::EmbedFrame;
use polars::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // 2,000 rows on a ring of 8 components: an id, a label, and the vectors.
    let rows = 2000;
    let angle = |row: u32| row as f32 * std::f32::consts::TAU / rows as f32;
    let vectors: ListChunked = (0..rows)
        .map(|row| Series::new("".into(), (1..=8).map(|c| (angle(row) * c as f32).sin()).collect::<Vec<_>>()))
        .collect();
    let columns = vec![
        Column::new("id".into(), (0..rows).collect::<Vec<_>>()),
        Column::new("label".into(), (0..rows).map(|row| if row % 2 == 0 { "even" } else { "odd" }).collect::<Vec<_>>()),
        vectors.with_name("embedding".into()).into_column(),
    ];
    let frame = DataFrame::new(rows as usize, columns)?;

    // A frame in, a frame out. The vectors are read where they are.
    let map = frame.clone().embed("embedding").id("id").keep(["label"]).memory("600MiB").frame()?;
    println!("{} rows, columns {:?}", map.height(), map.get_column_names());

    // A query in, a query out: the streaming engine gives the rows in batches, and the map is a Parquet file.
    let directory = tempfile::tempdir()?;
    let map = frame
        .lazy()
        .filter(col("label").eq(lit("even")))
        .embed("embedding")
        .id("id")
        .memory("600MiB")
        .scan(directory.path().join("map.parquet"))?;
    let left = map.filter(col("x").lt(lit(0.0))).collect()?;
    println!("{} of the even rows are on the left", left.height());
    Ok(())
}
