//! The picture of a map: two coordinates of any number of points, shaded by density, coloured by
//! category or value, with a legend.
//!
//! What must hold: memory depends on the picture's size and the number of categories, never on the
//! number of points; the same points give the same bytes in any order and in any division into
//! batches; no coordinate, count or text causes a failure.
//!
//! The map is read twice: once for its [`Bounds`], once to fill a [`Canvas`].
//!
//! ```
//! use lowland::picture::{Bounds, Canvas, Color, ColorScale, Style, write_png};
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("map.png");
//!
//! // Batches of x, y and the code of each point's category.
//! let map = [([0.0, 1.0, 2.0], [5.0, 4.0, 3.0], [0, 0, 1]), ([3.0, 4.0, 5.0], [2.0, 1.0, 0.0], [1, 1, 0])];
//! let mut bounds = Bounds::new();
//! for (x, y, _) in &map {
//!     bounds.add(x, y);
//! }
//! let colors = ColorScale::categories(vec![("libs".into(), 3), ("games".into(), 3)]).named("section");
//! let mut canvas = Canvas::new(&Style { width: 300, height: 200, ..Style::default() }, &bounds, colors);
//! for (x, y, codes) in &map {
//!     canvas.add(x, y, Color::Category(codes));
//! }
//! assert_eq!(canvas.drawn(), 6);
//! write_png(&path, &canvas.finish())?; // "map.png"
//! # Ok::<(), lowland::picture::PictureError>(())
//! ```

mod bounds;
mod font;
mod legend;
mod palette;
mod range;
mod raster;
mod times;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{Rgb, RgbImage};
use lowland_engine::format_count;

pub use bounds::Bounds;
use legend::{LegendEntry, PictureLayout};
pub(crate) use palette::NAMED;
use palette::{Lab, Theme};
pub use range::{ValueNumber, ValueRange, ValueUnit};
use raster::{PixelGrid, PixelSums};

/// The picture could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the picture {}", path.display())]
pub struct PictureError {
    path: PathBuf,
    source: image::ImageError,
}

/// The appearance of the picture.
#[derive(Clone, Debug)]
pub struct Style {
    /// Width of the whole picture in pixels, between 16 and 8192.
    pub width: u32,
    /// Height of the whole picture in pixels, between 16 and 8192.
    pub height: u32,
    /// Whether the background is dark, with light text, instead of white with dark text.
    pub dark: bool,
    /// A title line above the map.
    pub title: Option<String>,
}

impl Default for Style {
    fn default() -> Self {
        Self { width: 1600, height: 1200, dark: false, title: None }
    }
}

/// The colours of a batch of points: one entry for each point.
#[derive(Clone, Copy, Debug)]
pub enum Color<'a> {
    /// No colours: density alone.
    None,
    /// Indices into the list given to [`ColorScale::categories`]. A code beyond the list is drawn
    /// grey.
    Category(&'a [u32]),
    /// Places along the scale, from 0 to 1 ([`ValueRange::place`]). NaN is drawn grey.
    Value(&'a [f64]),
}

/// The mapping of categories or values to colours, and the text of the legend.
#[derive(Clone, Debug)]
pub struct ColorScale {
    kind: ScaleKind,
    heading: Option<String>,
}

#[derive(Clone, Debug)]
enum ScaleKind {
    Density,
    /// The categories, most frequent first; the code of each; and the number of points in other
    /// categories.
    Categories(Vec<(String, u64)>, Vec<usize>, u64),
    Values(ValueRange),
}

impl ColorScale {
    /// Returns a scale without colours and legend, for density alone.
    pub fn density() -> Self {
        Self::new(ScaleKind::Density)
    }

    /// Returns a scale with a colour for each of the most frequent categories (22, or as many as
    /// the legend has lines for), and grey for all others. The legend lists the categories by
    /// count; equal counts in the order given.
    pub fn categories(names_with_counts: Vec<(String, u64)>) -> Self {
        let mut ranked: Vec<(usize, (String, u64))> = names_with_counts.into_iter().enumerate().collect();
        ranked.sort_by_key(|(_, (_, count))| std::cmp::Reverse(*count));
        let (codes, names) = ranked.into_iter().unzip();
        Self::new(ScaleKind::Categories(names, codes, 0))
    }

    /// Adds points of categories that are not in the list to the grey "other" points.
    #[must_use]
    pub fn and_others(mut self, points: u64) -> Self {
        if let ScaleKind::Categories(_, _, others) = &mut self.kind {
            *others = points;
        }
        self
    }

    /// Returns the categories with their numbers of points, most frequent first; none of a scale of
    /// values.
    pub fn ranked(&self) -> &[(String, u64)] {
        match &self.kind {
            ScaleKind::Categories(ranked, ..) => ranked,
            _ => &[],
        }
    }

    /// Returns the range of a scale of values; `None` of categories.
    pub fn range(&self) -> Option<&ValueRange> {
        match &self.kind {
            ScaleKind::Values(range) => Some(range),
            _ => None,
        }
    }

    /// Returns the number of points of all categories.
    pub fn total(&self) -> u64 {
        let others = if let ScaleKind::Categories(_, _, others) = self.kind { others } else { 0 };
        self.ranked().iter().map(|(_, count)| count).sum::<u64>() + others
    }

    /// Returns a sequential colour scale along a range of values.
    pub fn values(range: ValueRange) -> Self {
        Self::new(ScaleKind::Values(range))
    }

    /// Sets the heading of the legend, such as the column's name.
    #[must_use]
    pub fn named(mut self, heading: impl Into<String>) -> Self {
        self.heading = Some(heading.into());
        self
    }

    fn new(kind: ScaleKind) -> Self {
        Self { kind, heading: None }
    }

    /// Returns the preferred width of the legend for a text size and at most `lines` lines; `None`
    /// if there is no legend.
    fn width(&self, theme: &Theme, size: f32, lines: usize) -> Option<f32> {
        let heading = self.heading.as_deref();
        match &self.kind {
            ScaleKind::Density => None,
            ScaleKind::Categories(ranked, _, others) => {
                let entries = legend::entries(ranked, *others, theme, self.entry_lines(lines));
                let width = legend::list_width(&entries, heading, size);
                (!entries.is_empty()).then_some(width)
            }
            ScaleKind::Values(range) => Some(legend::bar_width(range, self.full_heading().as_deref(), size)),
        }
    }

    /// Returns the heading, with the time zone if values are times.
    fn full_heading(&self) -> Option<String> {
        let remark = match &self.kind {
            ScaleKind::Values(range) => range.remark(),
            _ => None,
        };
        match (&self.heading, remark) {
            (Some(heading), Some(remark)) => Some(format!("{heading} ({remark})")),
            (heading, remark) => heading.clone().or(remark),
        }
    }

    /// Returns the number of lines that are left for entries under the heading.
    fn entry_lines(&self, lines: usize) -> usize {
        lines.saturating_sub(usize::from(self.heading.is_some()))
    }
}

/// A picture to which points are added.
///
/// Each point covers a small disc, whose size falls with the number of points; with several points
/// to a pixel, a point covers only its pixel. A pixel shows the mixture of its points' colours (for
/// values, the colour of the mean value), stronger for more points; see the tone curve in
/// `raster.rs`. Both axes have the same scale. Points outside the frame that [`Bounds`] chose are
/// not drawn; the footer gives their number.
///
/// Memory is 32 bytes for each pixel and 24 for each category.
#[derive(Debug)]
pub struct Canvas {
    title: Option<String>,
    heading: Option<String>,
    size: (u32, u32),
    theme: Theme,
    layout: PictureLayout,
    paint: CanvasPaint,
    view: MapView,
    grid: PixelGrid,
    drawn: u64,
    outside: u64,
    skipped: u64,
}

/// What a point adds to the three sums of a pixel, and the meaning of the sums.
#[derive(Debug)]
enum CanvasPaint {
    Density,
    /// Sums of red, green and blue light. The last paint is for the other categories.
    Categories {
        entries: Vec<LegendEntry>,
        paints: Vec<[u64; 3]>,
    },
    /// The weight of points with a value, and the sum of places, scaled to 0 … `LIGHT`.
    Values {
        range: ValueRange,
    },
}

/// The maximum of a colour component, and of a place, in a pixel's sums.
const LIGHT: f64 = 65_535.0;

impl Canvas {
    /// Returns an empty picture of the frame that the bounds choose.
    pub fn new(style: &Style, bounds: &Bounds, colors: ColorScale) -> Self {
        let size = (style.width.clamp(16, 8192), style.height.clamp(16, 8192));
        let theme = Theme::new(style.dark);
        let layout = PictureLayout::new(size, style.title.is_some(), |size, lines| colors.width(&theme, size, lines));
        let lines = layout.legend.map_or(0, |_| colors.entry_lines(layout.lines));
        let heading = colors.full_heading();
        let paint = match colors.kind {
            ScaleKind::Density => CanvasPaint::Density,
            ScaleKind::Values(range) => CanvasPaint::Values { range },
            ScaleKind::Categories(ranked, codes, others) => {
                let named = legend::shown(ranked.len() + usize::from(others > 0), lines).min(ranked.len());
                let mut paints = vec![light(theme.other); ranked.len() + 1];
                for (rank, &code) in codes[..named].iter().enumerate() {
                    paints[code] = light(theme.category(rank));
                }
                CanvasPaint::Categories { entries: legend::entries(&ranked, others, &theme, lines), paints }
            }
        };
        let (width, height) = (layout.map[2] as usize, layout.map[3] as usize);
        Self {
            title: style.title.clone(),
            heading,
            size,
            theme,
            paint,
            view: MapView::new(bounds, width, height),
            grid: PixelGrid::new(width, height, bounds.points()),
            layout,
            drawn: 0,
            outside: 0,
            skipped: 0,
        }
    }

    /// Draws one batch. A colour of another kind than the scale's counts as missing.
    ///
    /// # Panics
    ///
    /// If the slices differ in length.
    pub fn add(&mut self, x: &[f64], y: &[f64], color: Color<'_>) {
        assert_eq!(x.len(), y.len(), "one x and one y for every point");
        // Moved out, so that the closures can borrow it while the sums change.
        let paint = std::mem::replace(&mut self.paint, CanvasPaint::Density);
        match (&paint, color) {
            (CanvasPaint::Density | CanvasPaint::Values { .. }, Color::None | Color::Category(_))
            | (CanvasPaint::Density, Color::Value(_)) => self.scatter(x, y, |_| [0; 3]),
            (CanvasPaint::Categories { paints, .. }, Color::Category(codes)) => {
                assert_eq!(x.len(), codes.len(), "one code for every point");
                let other = paints.len() - 1;
                self.scatter(x, y, |i| paints[(codes[i] as usize).min(other)]);
            }
            (CanvasPaint::Categories { paints, .. }, Color::None | Color::Value(_)) => {
                let other = paints[paints.len() - 1];
                self.scatter(x, y, |_| other);
            }
            (CanvasPaint::Values { .. }, Color::Value(places)) => {
                assert_eq!(x.len(), places.len(), "one place for every point");
                self.scatter(x, y, |i| {
                    let place = places[i];
                    if place.is_nan() { [0; 3] } else { [1, (place * LIGHT + 0.5).clamp(0.0, LIGHT) as u64, 0] }
                });
            }
        }
        self.paint = paint;
    }

    #[inline]
    fn scatter(&mut self, x: &[f64], y: &[f64], paint: impl Fn(usize) -> [u64; 3]) {
        for (i, (&x, &y)) in x.iter().zip(y).enumerate() {
            if !(x.is_finite() && y.is_finite()) {
                self.skipped += 1;
                continue;
            }
            let (x, y) = self.view.place(x, y);
            if self.grid.add(x, y, paint(i)) {
                self.drawn += 1;
            } else {
                self.outside += 1;
            }
        }
    }

    /// Returns the number of points drawn so far.
    pub fn drawn(&self) -> u64 {
        self.drawn
    }

    /// Returns the number of points so far that lie outside the frame.
    pub fn outside(&self) -> u64 {
        self.outside
    }

    /// Returns the number of points so far without a finite position.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Returns the texts around the map with characters that the picture's font lacks. Such
    /// characters are drawn as boxes with their code points.
    pub fn unreadable(&self) -> Vec<&str> {
        let entries = match (&self.paint, self.layout.legend) {
            (CanvasPaint::Categories { entries, .. }, Some(_)) => entries.as_slice(),
            _ => &[],
        };
        let heading = self.heading.as_deref().filter(|_| self.layout.legend.is_some());
        let title = self.title.as_deref().filter(|_| self.layout.worded);
        let texts = entries.iter().map(|entry| entry.name.as_str()).chain(heading).chain(title);
        texts.filter(|text| !font::readable(text)).collect()
    }

    /// Shades the map and draws title, legend and footer.
    pub fn finish(self) -> RgbImage {
        let (theme, layout) = (&self.theme, &self.layout);
        let mut image = RgbImage::from_pixel(self.size.0, self.size.1, theme.ground);
        self.shade(&mut image);
        let heading = self.heading.as_deref();
        match &self.paint {
            CanvasPaint::Density => {}
            CanvasPaint::Categories { entries, .. } => {
                legend::draw_list(&mut image, layout, theme, heading, entries);
            }
            CanvasPaint::Values { range } => {
                legend::draw_bar(&mut image, layout, theme, heading, range);
            }
        }
        let footer = self.footer();
        legend::draw_words(&mut image, layout, theme, self.title.as_deref(), &footer);
        image
    }

    fn shade(&self, image: &mut RgbImage) {
        let tone = self.grid.tone();
        let [left, top, ..] = self.layout.map;
        let brush = PixelBrush::new(&self.theme, &self.paint);
        for (row, cells) in self.grid.rows().enumerate() {
            for (column, cell) in cells.iter().enumerate() {
                if cell[0] > 0 {
                    let color = brush.color(cell, tone.at(cell[0]));
                    image.put_pixel(left + column as u32, top + row as u32, color);
                }
            }
        }
    }

    fn footer(&self) -> String {
        let points = if self.drawn == 1 { "point" } else { "points" };
        let mut footer = format!("{} {points}", format_count(self.drawn));
        for (count, what) in [(self.outside, "outside the frame"), (self.skipped, "without a position")] {
            if count > 0 {
                footer += &format!(", {} {what}", format_count(count));
            }
        }
        footer
    }
}

/// Maps the map's coordinates to pixels of its rectangle.
#[derive(Debug)]
struct MapView {
    center: (f64, f64),
    scale: f64,
    middle: (f64, f64),
}

impl MapView {
    fn new(bounds: &Bounds, width: usize, height: usize) -> Self {
        let frame = bounds.frame();
        let room = |pixels: usize| {
            let free = raster::radius(width, height, bounds.points()) + 2.0;
            (pixels as f64 - 2.0 * free).max(1.0)
        };
        // If neither axis has an extent, any scale is right.
        let scale = frame
            .iter()
            .zip([room(width), room(height)])
            // Halved first, because the extent may exceed the largest number.
            .map(|((low, high), room)| room / 2.0 / (high / 2.0 - low / 2.0))
            .fold(f64::INFINITY, f64::min);
        let center = frame.map(|(low, high)| low + (high / 2.0 - low / 2.0));
        Self {
            center: (center[0], center[1]),
            scale: if scale.is_finite() { scale } else { 1.0 },
            middle: (width as f64 / 2.0, height as f64 / 2.0),
        }
    }

    /// Returns the pixel position; y points up in the map, and rows count down in the picture.
    #[inline]
    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        (self.middle.0 + (x - self.center.0) * self.scale, self.middle.1 - (y - self.center.1) * self.scale)
    }
}

/// Maps a pixel's sums to its colour.
struct PixelBrush<'a> {
    theme: &'a Theme,
    paint: &'a CanvasPaint,
    ground: Lab,
}

impl<'a> PixelBrush<'a> {
    fn new(theme: &'a Theme, paint: &'a CanvasPaint) -> Self {
        Self { theme, paint, ground: Lab::from_rgb(theme.ground) }
    }

    fn color(&self, cell: &PixelSums, tone: f32) -> Rgb<u8> {
        /// The tone with full colour. Above it the lightness moves away from the background's, so
        /// that dense regions still show structure.
        const PURE: f32 = 0.7;
        /// The change of lightness for the densest pixel.
        const DEEP: f32 = 0.16;
        let weight = cell[0] as f64;
        let color = match self.paint {
            CanvasPaint::Density => {
                let color = self.theme.density(tone);
                // Only the faint edge of a single point fades into the background.
                return self.ground.mix(color, (tone / 0.25).min(1.0)).to_rgb();
            }
            CanvasPaint::Categories { .. } => {
                let light = [cell[1], cell[2], cell[3]].map(|sum| (sum as f64 / weight / LIGHT) as f32);
                let color = Lab::from_linear(light);
                if tone > PURE {
                    let deeper = (tone - PURE) / (1.0 - PURE) * DEEP;
                    let sign = if self.theme.dark { 1.0 } else { -1.0 };
                    color.lighter(sign * deeper)
                } else {
                    self.ground.mix(color, tone / PURE)
                }
            }
            CanvasPaint::Values { .. } => {
                let valued = cell[1] as f64;
                let mean = cell[2] as f64 / valued.max(1.0) / LIGHT;
                let missing = (1.0 - valued / weight) as f32;
                let color = self.theme.value(mean as f32).mix(self.theme.other, missing);
                // Lightness encodes the value, so density only fades the colour.
                self.ground.mix(color, tone.sqrt())
            }
        };
        color.to_rgb()
    }
}

/// Returns a colour's linear components, scaled for a pixel's sums.
fn light(color: Lab) -> [u64; 3] {
    color.to_linear().map(|v| (f64::from(v) * LIGHT).round() as u64)
}

/// Writes a picture as PNG.
///
/// # Errors
///
/// If the file cannot be created or written.
pub fn write_png(path: impl AsRef<Path>, image: &RgbImage) -> Result<(), PictureError> {
    let path = path.as_ref();
    let write = || -> Result<(), image::ImageError> {
        let mut file = BufWriter::new(File::create(path)?);
        encode_png(&mut file, image)?;
        Ok(file.flush()?)
    };
    write().map_err(|source| PictureError { path: path.to_owned(), source })
}

/// Returns a picture as the bytes of a PNG.
///
/// # Errors
/// If the picture cannot be encoded.
pub fn png_bytes(image: &RgbImage) -> Result<Vec<u8>, PictureError> {
    let mut bytes = Vec::new();
    match encode_png(&mut bytes, image) {
        Ok(()) => Ok(bytes),
        Err(source) => Err(PictureError { path: "the picture".into(), source }),
    }
}

fn encode_png(to: impl Write, image: &RgbImage) -> Result<(), image::ImageError> {
    image.write_with_encoder(PngEncoder::new_with_quality(to, CompressionType::Default, FilterType::Adaptive))
}

#[cfg(test)]
mod tests;
