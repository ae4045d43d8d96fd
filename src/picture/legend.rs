//! Everything around the map: layout, list of categories, colour bar, title and footer.
//!
//! What must hold: texts stay within their place (they are cut with an ellipsis); a picture that is
//! too small for a legend has only the map.

use image::{Rgb, RgbImage};
use lowland_engine::format_count;

use super::font;
use super::palette::{Lab, NAMED, Theme};
use super::range::ValueRange;

/// The layout of a picture, in pixels.
#[derive(Clone, Debug)]
pub(super) struct PictureLayout {
    /// Pixels per font unit.
    pub(super) size: f32,
    pub(super) margin: u32,
    /// Whether there is room for texts at all.
    pub(super) worded: bool,
    /// The title's base line.
    pub(super) title_y: u32,
    /// Left, top, width and height of the map.
    pub(super) map: [u32; 4],
    /// Left, top, width and height of the legend, if there is one.
    pub(super) legend: Option<[u32; 4]>,
    /// The number of lines that fit beside the map.
    pub(super) lines: usize,
    /// The footer's base line.
    pub(super) footer_y: u32,
}

impl PictureLayout {
    /// Lays out a picture. `legend` returns the preferred width of the legend for a text size and a
    /// number of lines, if there is a legend.
    pub(super) fn new(
        (width, height): (u32, u32),
        titled: bool,
        legend: impl FnOnce(f32, usize) -> Option<f32>,
    ) -> Self {
        // Quarter steps keep upright stems near pixel edges.
        let fit = (width as f32 / 1600.0).min(height as f32 / 1200.0);
        let size = ((fit * 4.0).round() / 4.0).max(0.75);
        let px = |units: f32| (units * size).round() as u32;
        // Texts need room; a thumbnail has only the map.
        let worded = width >= 300 && height >= 200;
        let margin = if worded { px(36.0) } else { width.min(height) / 32 };
        let title_y = margin + px(TITLE * font::CAP);
        let top = if titled && worded { title_y + px(26.0) } else { margin };
        let footer_y = height - px(22.0).min(height);
        let bottom = if worded { footer_y - px(30.0) } else { height - margin };
        let tall = bottom.saturating_sub(top).max(1);
        let lines = (tall as f32 / (LINE * size)) as usize;
        let right = width - margin;
        let wide = (worded.then(|| legend(size, lines)).flatten()).map(|wish| (wish.ceil() as u32).min(width * 3 / 10));
        let map_right = wide.map_or(right, |wide| right - wide - px(28.0));
        Self {
            size,
            margin,
            worded,
            title_y,
            map: [margin, top, map_right.saturating_sub(margin).max(1), tall],
            legend: wide.map(|wide| [right - wide, top, wide, tall]),
            lines,
            footer_y,
        }
    }
}

/// The distance of the list's base lines, in font units.
const LINE: f32 = 34.0;
/// The room for a category's dot, left of its name.
const DOT: f32 = 26.0;
/// The smallest gap between a name and its count.
const GAP: f32 = 24.0;
/// The relative text sizes of the title and the footer.
const TITLE: f32 = 1.5;
const FOOTER: f32 = 0.85;
/// The width of the colour bar, and the gap to its labels.
const BAR: f32 = 24.0;
const TICK: f32 = 16.0;

/// One line of the list.
#[derive(Clone, Debug)]
pub(super) struct LegendEntry {
    pub(super) color: Lab,
    pub(super) name: String,
    pub(super) count: u64,
}

/// Returns the preferred width of a list.
pub(super) fn list_width(entries: &[LegendEntry], heading: Option<&str>, size: f32) -> f32 {
    let line = |entry: &LegendEntry| {
        let words = font::width(&entry.name, size) + font::width(&format_count(entry.count), size);
        (DOT + GAP) * size + words
    };
    entries.iter().map(line).chain(heading.map(|h| font::width(h, size))).fold(0.0, f32::max)
}

/// Draws the list with its heading, centred vertically in its place.
pub(super) fn draw_list(
    image: &mut RgbImage,
    layout: &PictureLayout,
    theme: &Theme,
    heading: Option<&str>,
    entries: &[LegendEntry],
) {
    let Some(place) = layout.legend else { return };
    let size = layout.size;
    let lines = entries.len() + usize::from(heading.is_some());
    let [left, mut y, width] = start(place, lines as f32 * LINE * size);
    y += (LINE + font::CAP) / 2.0 * size;
    if let Some(heading) = heading {
        let heading = font::fit(heading, size, width);
        font::draw(image, left, y, size, theme.muted, &heading);
        y += LINE * size;
    }
    for entry in entries {
        let count = format_count(entry.count);
        let count_width = font::width(&count, size);
        let name_room = width - count_width - (DOT + GAP) * size;
        let name = font::fit(&entry.name, size, name_room);
        let dot = (left + 8.0 * size, y.round() - font::CAP / 2.0 * size);
        font::stroke(image, &[[dot, dot]], 15.0 * size, entry.color.to_rgb());
        font::draw(image, left + DOT * size, y, size, theme.text, &name);
        let right = left + width - count_width;
        font::draw(image, right, y, size, theme.muted, &count);
        y += LINE * size;
    }
}

/// Returns the preferred width of a colour bar with its labels.
pub(super) fn bar_width(range: &ValueRange, heading: Option<&str>, size: f32) -> f32 {
    range
        .ticks()
        .iter()
        .map(|(_, label)| (BAR + TICK) * size + font::width(label, size))
        .chain(heading.map(|h| font::width(h, size)))
        .fold(0.0, f32::max)
}

/// Draws the colour bar, smallest value at the bottom, with its heading.
pub(super) fn draw_bar(
    image: &mut RgbImage,
    layout: &PictureLayout,
    theme: &Theme,
    heading: Option<&str>,
    range: &ValueRange,
) {
    let Some(place) = layout.legend else { return };
    let size = layout.size;
    let head = if heading.is_some() { LINE * size } else { 0.0 };
    let height = (place[3] as f32 * 0.6).min(560.0 * size).round();
    let [left, y, width] = start(place, height + head);
    if let Some(heading) = heading {
        let heading = font::fit(heading, size, width);
        let line = y + font::CAP * size;
        font::draw(image, left, line, size, theme.muted, &heading);
    }
    let top = (y + head).round() as u32;
    let bar = (BAR * size).round() as u32;
    let rows = (height as u32).max(2);
    for row in 0..rows {
        let t = 1.0 - row as f32 / (rows - 1) as f32;
        let color = theme.value(t).to_rgb();
        for column in 0..bar {
            put(image, left as u32 + column, top + row, color);
        }
    }
    // Labels closer than this would overlap.
    let apart = 1.6 * font::CAP * size / height;
    let all = range.ticks();
    let (ends, inner) = all.split_at(2.min(all.len()));
    let inner = inner.iter().filter(|(at, _)| ends.iter().all(|(end, _)| (at - end).abs() > apart));
    for (at, label) in ends.iter().chain(inner) {
        let y = top + ((1.0 - at) * (rows - 1) as f32).round() as u32;
        for column in 0..(6.0 * size) as u32 {
            put(image, left as u32 + bar + column, y, theme.muted);
        }
        let x = left + (BAR + TICK) * size;
        let label = font::fit(label, size, width - (BAR + TICK) * size);
        let line = y as f32 + font::CAP / 2.0 * size;
        font::draw(image, x, line, size, theme.text, &label);
    }
}

/// Returns left, top and width of a block of the given height, centred vertically in its place.
fn start([left, top, width, height]: [u32; 4], block: f32) -> [f32; 3] {
    let free = (height as f32 - block).max(0.0);
    [left as f32, top as f32 + (free / 2.0).round(), width as f32]
}

fn put(image: &mut RgbImage, x: u32, y: u32, color: Rgb<u8>) {
    if let Some(pixel) = image.get_pixel_mut_checked(x, y) {
        *pixel = color;
    }
}

/// Draws the title at the top and the footer at the bottom.
pub(super) fn draw_words(
    image: &mut RgbImage,
    layout: &PictureLayout,
    theme: &Theme,
    title: Option<&str>,
    footer: &str,
) {
    if !layout.worded {
        return;
    }
    let left = layout.margin as f32;
    let room = image.width() as f32 - 2.0 * left;
    if let Some(title) = title {
        let size = TITLE * layout.size;
        let title = font::fit(title, size, room);
        font::draw(image, left, layout.title_y as f32, size, theme.text, &title);
    }
    let size = FOOTER * layout.size;
    let footer = font::fit(footer, size, room);
    font::draw(image, left, layout.footer_y as f32, size, theme.muted, &footer);
}

/// Returns the entries of a list of at most `lines` lines: the most frequent categories and, if
/// others remain, one line for all of these.
///
/// `ranked` is sorted by descending count; `others` is the number of points in categories that were
/// not counted individually.
pub(super) fn entries(ranked: &[(String, u64)], others: u64, theme: &Theme, lines: usize) -> Vec<LegendEntry> {
    let named = shown(ranked.len() + usize::from(others > 0), lines).min(ranked.len());
    let mut entries: Vec<LegendEntry> = ranked[..named]
        .iter()
        .enumerate()
        .map(|(rank, (name, count))| LegendEntry { color: theme.category(rank), name: name.clone(), count: *count })
        .collect();
    let rest = &ranked[named..];
    if !rest.is_empty() || others > 0 {
        let name = if others > 0 { "other".into() } else { format!("other ({})", format_count(rest.len() as u64)) };
        let count = rest.iter().fold(others, |sum, (_, n)| sum.saturating_add(*n));
        entries.push(LegendEntry { color: theme.other, name, count });
    }
    entries.truncate(lines);
    entries
}

/// Returns how many of `total` categories have a colour of their own.
pub(super) fn shown(total: usize, lines: usize) -> usize {
    // Without a legend no line needs to be reserved for the others.
    let lines = if lines == 0 { NAMED } else { lines.min(NAMED + 1) };
    if total <= lines.min(NAMED) { total } else { (lines - 1).min(NAMED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_categories_are_one_line() {
        let theme = Theme::new(false);
        let ranked = |n: u64| (0..n).map(|i| (format!("c{i}"), 100 - i)).collect::<Vec<_>>();
        assert_eq!(entries(&ranked(5), 0, &theme, 30).len(), 5);
        assert_eq!(entries(&ranked(22), 0, &theme, 30).len(), 22);
        let many = entries(&ranked(58), 0, &theme, 30);
        assert_eq!((many.len(), many[22].name.as_str()), (23, "other (36)"));
        assert_eq!(many[22].count, (0..36).map(|i| 100 - 22 - i).sum::<u64>());
        assert_eq!(entries(&ranked(58), 0, &theme, 8).len(), 8);
        assert_eq!(entries(&ranked(58), 0, &theme, 8)[7].name, "other (51)");
        let uncounted = entries(&ranked(58), 1_000, &theme, 8);
        assert_eq!((uncounted[7].name.as_str(), uncounted[7].count > 1_000), ("other", true));
        assert!(entries(&ranked(58), 0, &theme, 0).is_empty());
        assert!(entries(&[], 0, &theme, 9).is_empty());
    }

    #[test]
    fn layouts_of_any_size_stay_inside() {
        for (width, height) in [(16, 16), (300, 200), (299, 4000), (1600, 1200), (4000, 210)] {
            let layout = PictureLayout::new((width, height), true, |_, _| Some(1e9));
            for [left, top, w, h] in [Some(layout.map), layout.legend].into_iter().flatten() {
                assert!(left + w <= width && top + h <= height, "{width}x{height}");
            }
        }
    }
}
