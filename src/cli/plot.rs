//! `lowland plot`: draws the picture of an existing map.

use std::path::PathBuf;

use lowland::picture::Style;
use lowland::plot::{self, ColorBy};
use lowland::{Coordinates, check_output};

use super::Failure;
use super::options::ProgressArgs;
use crate::progress::Console;

const EXAMPLES: &str = "\
Examples:
  lowland plot map.parquet -o map.png --color section
  lowland plot table.parquet -o map.png --coordinates umap_x,umap_y
  lowland plot map.npy -o map.png --dark --width 2400 --height 2400 --title 'Debian 12'";

/// Draw a map
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", super::EXIT_CODES))]
pub(super) struct PlotArgs {
    /// The map: .parquet, .arrow or .npy
    #[arg(value_name = "MAP", help_heading = "Input")]
    map: PathBuf,
    /// Columns of the map's coordinates, such as 'umap_x,umap_y' [default: x and y, else c0 and c1,
    /// of any type of numbers; else the only column of lists of 2 or 3]
    #[arg(long, value_name = "COLS", help_heading = "Input")]
    coordinates: Option<String>,
    /// The picture
    #[arg(short, long, value_name = "FILE.png", help_heading = "Output")]
    output: PathBuf,
    /// Replace a picture that exists
    #[arg(long, help_heading = "Output")]
    force: bool,
    /// Column of the map that colours it. Texts, truth values and integers of up to 22 different
    /// values are categories; other numbers, dates and times are a scale
    #[arg(long, value_name = "COL", help_heading = "Picture")]
    color: Option<String>,
    /// Width in pixels, from 16 to 8192
    #[arg(long, value_name = "PIXELS", default_value_t = 1600, value_parser = clap::value_parser!(u32).range(16..=8192), help_heading = "Picture")]
    width: u32,
    /// Height in pixels, from 16 to 8192
    #[arg(long, value_name = "PIXELS", default_value_t = 1200, value_parser = clap::value_parser!(u32).range(16..=8192), help_heading = "Picture")]
    height: u32,
    /// Light on a dark ground
    #[arg(long, help_heading = "Picture")]
    dark: bool,
    /// A line above the map
    #[arg(long, value_name = "TEXT", help_heading = "Picture")]
    title: Option<String>,
    #[command(flatten)]
    pub(super) progress: ProgressArgs,
}

pub(super) fn run(args: &PlotArgs, console: &Console) -> Result<(), Failure> {
    if args.output.extension().is_none_or(|e| !e.eq_ignore_ascii_case("png")) {
        return Err(Failure::usage(format!("--output: {} does not end in .png", args.output.display())));
    }
    check_output(&args.output, args.force)?;
    let style = Style { width: args.width, height: args.height, dark: args.dark, title: args.title.clone() };
    let color = args.color.clone().map(|column| ColorBy { column, source: None });
    let coordinates = args.coordinates.clone().map_or(Coordinates::Usual, Coordinates::Asked);
    let picture = plot::draw(&args.map, &coordinates, color.as_ref(), &style, console)?;
    plot::write(&args.output, &picture)?;
    Ok(())
}
