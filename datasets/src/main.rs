//! `lowland-datasets`: writes a generated data set to a file.
//!
//! `cargo run --release -p lowland-datasets -- mixture --rows 2000000 --dim 128 --seed 7 -o big.parquet`

use std::{io::Write as _, num::NonZero, path::PathBuf, process::ExitCode, time::Instant};

use clap::{Parser, ValueEnum, builder::PossibleValuesParser};
use lowland_datasets::{Compression, DatasetKind, Error, Generator, Mixture, OutputDtype, WriteOptions, write};

/// Writes a generated data set to a .parquet, .arrow or .npy file.
///
/// Row i depends on the seed and i alone: a longer file starts with the rows of a shorter one.
#[derive(Debug, Parser)]
#[command(version)]
struct DatasetsCli {
    /// What to generate; datasets/README.md describes each.
    #[arg(value_parser = PossibleValuesParser::new(DatasetKind::NAMES))]
    name: String,
    /// Number of rows.
    #[arg(long, default_value_t = 100_000)]
    rows: u64,
    /// Components of each row.
    #[arg(long, default_value_t = 128)]
    dim: usize,
    /// The seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The file; its extension says the format.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The components' type.
    #[arg(long, value_enum, default_value_t = DtypeArg::F32)]
    dtype: DtypeArg,
    /// Compression; without it zstd for .parquet and none for the others.
    #[arg(long, value_enum)]
    compression: Option<CompressionArg>,
    /// Rows of a Parquet row group or an Arrow record batch.
    #[arg(long, default_value = "100000", value_name = "ROWS")]
    group_rows: NonZero<usize>,
    /// Threads that make rows; without it one for each core.
    #[arg(long)]
    threads: Option<NonZero<usize>>,
    /// mixture, duplicates: number of components.
    #[arg(long)]
    components: Option<u32>,
    /// mixture, duplicates: standard deviation of the centres' coordinates.
    #[arg(long)]
    centre_scale: Option<f32>,
    /// mixture, duplicates: standard deviation of a coordinate within a component.
    #[arg(long)]
    spread: Option<f32>,
    /// duplicates: share of rows that copy an earlier one.
    #[arg(long)]
    share: Option<f32>,
    /// blobs_far: number of blobs.
    #[arg(long)]
    blobs: Option<u32>,
    /// moons, swiss_roll: standard deviation of the noise.
    #[arg(long)]
    noise: Option<f32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DtypeArg {
    F16,
    F32,
    F64,
    U8,
    I8,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CompressionArg {
    None,
    Zstd,
}

impl DatasetsCli {
    /// Returns the named kind with the given parameters. Parameters of other kinds are ignored.
    fn kind(&self) -> Result<DatasetKind, Error> {
        let with = |mixture: Mixture| Mixture {
            components: self.components.unwrap_or(mixture.components),
            centre_scale: self.centre_scale.unwrap_or(mixture.centre_scale),
            spread: self.spread.unwrap_or(mixture.spread),
        };
        Ok(match self.name.parse()? {
            DatasetKind::Mixture(mixture) => DatasetKind::Mixture(with(mixture)),
            DatasetKind::Duplicates { mixture, share } => {
                DatasetKind::Duplicates { mixture: with(mixture), share: self.share.unwrap_or(share) }
            }
            DatasetKind::BlobsFar { blobs } => DatasetKind::BlobsFar { blobs: self.blobs.unwrap_or(blobs) },
            DatasetKind::Moons { noise } => DatasetKind::Moons { noise: self.noise.unwrap_or(noise) },
            DatasetKind::SwissRoll { noise } => DatasetKind::SwissRoll { noise: self.noise.unwrap_or(noise) },
            other => other,
        })
    }

    fn options(&self) -> WriteOptions {
        let defaults = WriteOptions::default();
        WriteOptions {
            dtype: match self.dtype {
                DtypeArg::F16 => OutputDtype::F16,
                DtypeArg::F32 => OutputDtype::F32,
                DtypeArg::F64 => OutputDtype::F64,
                DtypeArg::U8 => OutputDtype::U8,
                DtypeArg::I8 => OutputDtype::I8,
            },
            compression: self.compression.map(|compression| match compression {
                CompressionArg::None => Compression::None,
                CompressionArg::Zstd => Compression::Zstd,
            }),
            group_rows: self.group_rows,
            threads: self.threads.unwrap_or(defaults.threads),
        }
    }
}

fn run(cli: &DatasetsCli) -> Result<(), Error> {
    let start = Instant::now();
    let generator = Generator::new(cli.kind()?, cli.rows, cli.dim, cli.seed)?;
    write(&generator, &cli.output, &cli.options())?;
    // A failure to print is ignored, because the file is complete.
    let _ = writeln!(
        std::io::stderr(),
        "{}: {} × {} of {}, seed {}, in {:.1} s",
        cli.output.display(),
        cli.rows,
        cli.dim,
        cli.name,
        cli.seed,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn main() -> ExitCode {
    match run(&DatasetsCli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "lowland-datasets: {error}");
            ExitCode::FAILURE
        }
    }
}
