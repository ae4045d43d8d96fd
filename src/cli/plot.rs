//! `lowland plot`: the picture of a map that is there.

use std::path::PathBuf;

use lowland::check_output;
use lowland::picture::Style;
use lowland::plot::{self, ColorBy};

use super::Failure;
use crate::progress::Console;

const EXAMPLES: &str = "\
Examples:
  lowland plot map.parquet -o map.png --color section
  lowland plot map.npy -o map.png --dark --width 2400 --height 2400 --title 'Debian 12'";

/// Draw a map
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", super::EXIT_CODES))]
pub(super) struct Args {
    /// The map: .parquet, .arrow or .npy, with x and y or two other columns of floats
    #[arg(value_name = "MAP", help_heading = "Input")]
    map: PathBuf,
    /// The picture
    #[arg(short, long, value_name = "FILE.png", help_heading = "Output")]
    output: PathBuf,
    /// Replace a picture that exists
    #[arg(long, help_heading = "Output")]
    force: bool,
    /// Column of the map that colours it: categories or values
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
}

pub(super) fn run(args: &Args, console: &Console) -> Result<(), Failure> {
    if args.output.extension().is_none_or(|e| !e.eq_ignore_ascii_case("png")) {
        return Err(Failure::usage(format!("--output: {} does not end in .png", args.output.display())));
    }
    check_output(&args.output, args.force)?;
    let style = Style { width: args.width, height: args.height, dark: args.dark, title: args.title.clone() };
    let color = args.color.clone().map(|column| ColorBy { column, source: None });
    let picture = plot::draw(&args.map, color.as_ref(), &style, console)?;
    plot::write(&args.output, &picture)?;
    Ok(())
}
