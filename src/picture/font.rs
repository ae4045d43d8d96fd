//! The picture's font: a single-stroke alphabet drawn with a round pen, which is sharp at any size
//! and needs no font file.
//!
//! What must hold: every printable ASCII character and the ellipsis has a glyph; other characters
//! become the most similar ASCII letters or, if there are none, a box with the code point in
//! hexadecimal ([`readable`]); no text causes a failure.

use image::{Rgb, RgbImage};

/// Height of a capital letter in font units. Descenders reach 4 units below the base line.
pub(super) const CAP: f32 = 14.0;

/// Width of the pen in font units: slightly below two, so that an upright stem on a pixel edge
/// fills one pixel on either side.
const PEN: f32 = 1.85;

/// Advance width and path of the characters from ' ' to '~', then of '…'.
///
/// The base line is at 0, small letters reach 10 and capitals 14 units, y points up. `M x y` moves
/// the pen without drawing, `L x y` draws a line, `A cx cy rx ry from to` draws an elliptic arc
/// between two angles in degrees (joined to the pen if it is down), and `E cx cy rx ry` a whole
/// ellipse, after which the pen is up. All digits have the same width, so that columns of numbers
/// align.
const GLYPHS: [(f32, &str); 96] = [
    (6.0, ""),
    (6.0, "M0 14 L0 4.5 M0 0 L0 .2"),
    (8.0, "M0 14 L0 10 M3.5 14 L3.5 10"),
    (13.0, "M3.5 13 L2 1 M8 13 L6.5 1 M0 9 L9.5 9 M0 5 L9.5 5"),
    (12.0, "A4 10 4 3 30 270 A4 4 4 3 90 -150 M4 15.5 L4 -1.5"),
    (17.0, "E2.5 11 2.5 3 E10.5 3 2.5 3 M11 14 L2 0"),
    (14.0, "M10 0 L2.3 9.3 A4.6 11 2.8 3 215 -35 A3.9 3.7 3.9 3.7 125 330 L10 7"),
    (5.0, "M0 14 L0 10"),
    (7.0, "A5 5 5 10 118 242"),
    (8.0, "A-2 5 5 10 62 -62"),
    (11.0, "M3 14 L3 7 M0 12.3 L6 8.7 M6 12.3 L0 8.7"),
    (12.0, "M4 9 L4 1 M0 5 L8 5"),
    (5.0, "M.5 .2 L-.5 -3"),
    (9.0, "M0 5 L5 5"),
    (5.0, "M0 0 L0 .2"),
    (9.0, "M0 -2 L6 15"),
    // Digits.
    (12.0, "E4 7 4 7"),
    (12.0, "M1 11 L5 14 L5 0"),
    (12.0, "A4 10 4 4 160 -38 L0 0 L8 0"),
    (12.0, "A4 10.6 3.5 3.4 150 -90 A4 3.6 4 3.6 90 -150"),
    (12.0, "M6 0 L6 14 L0 4 L8.5 4"),
    (12.0, "M7.5 14 L1.3 14 L.6 7.6 A3.8 4.6 4.2 4.6 140 -150"),
    (12.0, "A8 4.5 8 9.5 97 180 E4 4.5 4 4.5"),
    (12.0, "M0 14 L8 14 L3 0"),
    (12.0, "E4 10.6 3.4 3.4 E4 3.6 4 3.6"),
    (12.0, "E4 9.5 4 4.5 A0 9.5 8 9.5 0 -83"),
    (5.0, "M0 0 L0 .2 M0 8 L0 8.2"),
    (6.0, "M.5 .2 L-.5 -3 M.5 8 L.5 8.2"),
    (12.0, "M8 10 L0 5 L8 0"),
    (12.0, "M0 7 L8 7 M0 3 L8 3"),
    (12.0, "M0 10 L8 5 L0 0"),
    (11.0, "A3.8 10.2 3.8 3.8 165 -50 L3.8 5.4 L3.8 4.4 M3.8 0 L3.8 .2"),
    (18.0, "E7 5.2 3 3.4 M10 8.6 L10 4 A12 4 2 2.4 180 360 L14 5.5 A7 5.5 7 7.5 0 300"),
    // Capitals.
    (13.0, "M0 0 L5 14 L10 0 M1.8 5 L8.2 5"),
    (13.0, "M0 7.4 L5 7.4 A5 3.7 4 3.7 90 -90 L0 0 L0 14 L5 14 A5 10.7 3.4 3.3 90 -90"),
    (14.0, "A6 7 6 7 45 315"),
    (14.0, "M0 0 L0 14 L4 14 A4 7 6 7 90 -90 L0 0"),
    (12.0, "M8 14 L0 14 L0 0 L8 0 M0 7 L7 7"),
    (11.0, "M8 14 L0 14 L0 0 M0 7 L7 7"),
    (16.0, "A6 7 6 7 45 352 L11.9 7 L7 7"),
    (15.0, "M0 0 L0 14 M10 0 L10 14 M0 7 L10 7"),
    (5.0, "M0 0 L0 14"),
    (11.0, "M6 14 L6 3.5 A3 3.5 3 3.5 0 -160"),
    (12.0, "M0 0 L0 14 M9 14 L0 5 M3 8 L9 0"),
    (10.0, "M0 14 L0 0 L7 0"),
    (17.0, "M0 0 L0 14 L6 3 L12 14 L12 0"),
    (15.0, "M0 0 L0 14 L10 0 L10 14"),
    (16.0, "E6 7 6 7"),
    (12.0, "M0 0 L0 14 L5 14 A5 10 4 4 90 -90 L0 6"),
    (16.0, "E6 7 6 7 M7.5 4 L12 -1"),
    (13.0, "M0 0 L0 14 L5 14 A5 10 4 4 90 -90 L0 6 M4.5 6 L9 0"),
    (13.0, "A4.5 10.5 4.2 3.5 30 270 A4.5 3.5 4.5 3.5 90 -150"),
    (13.0, "M0 14 L10 14 M5 14 L5 0"),
    (15.0, "M0 14 L0 5 A5 5 5 5 180 360 L10 14"),
    (13.0, "M0 14 L5 0 L10 14"),
    (17.0, "M0 14 L3.5 0 L7 13 L10.5 0 L14 14"),
    (12.0, "M0 14 L9 0 M9 14 L0 0"),
    (13.0, "M0 14 L5 7 L10 14 M5 7 L5 0"),
    (13.0, "M0 14 L9 14 L0 0 L9 0"),
    (7.0, "M4 15 L0 15 L0 -3 L4 -3"),
    (9.0, "M0 15 L6 -2"),
    (8.0, "M0 15 L4 15 L4 -3 L0 -3"),
    (12.0, "M0 8 L4 14 L8 8"),
    (12.0, "M0 -2 L8 -2"),
    (6.0, "M0 14 L2.5 11"),
    // Small letters.
    (13.0, "E4 5 4 5 M8 10 L8 0"),
    (12.0, "E4 5 4 5 M0 14 L0 0"),
    (11.0, "A4 5 4 5 50 310"),
    (13.0, "E4 5 4 5 M8 14 L8 0"),
    (12.0, "M0 5 L8 5 A4 5 4 5 0 312"),
    (8.5, "A5 10 3 4 70 180 L2 0 M0 10 L5.5 10"),
    (13.0, "E4 5 4 5 M8 10 L8 0 A4 0 4 4 0 -145"),
    (13.0, "M0 14 L0 0 M0 6 A4 6 4 4 180 0 L8 0"),
    (5.0, "M0 10 L0 0 M0 13.8 L0 14"),
    (7.0, "M2 10 L2 -1 A-1 -1 3 3 0 -80 M2 13.8 L2 14"),
    (11.0, "M0 14 L0 0 M7 10 L0 4 M2.8 6.4 L8 0"),
    (6.0, "M0 14 L0 2.5 A2.5 2.5 2.5 2.5 180 270"),
    (19.0, "M0 10 L0 0 M0 6.5 A3.5 6.5 3.5 3.5 180 0 L7 0 M7 6.5 A10.5 6.5 3.5 3.5 180 0 L14 0"),
    (13.0, "M0 10 L0 0 M0 6 A4 6 4 4 180 0 L8 0"),
    (12.0, "E4 5 4 5"),
    (12.0, "E4 5 4 5 M0 10 L0 -4"),
    (13.0, "E4 5 4 5 M8 10 L8 -4"),
    (8.0, "M0 10 L0 0 M0 6 A4 6 4 4 180 75"),
    (11.0, "A3.5 7.5 3.3 2.5 30 270 A3.5 2.5 3.5 2.5 90 -150"),
    (9.0, "M2 13 L2 3 A5 3 3 3 180 285 M0 10 L5.5 10"),
    (13.0, "M0 10 L0 4 A4 4 4 4 180 360 L8 10 M8 10 L8 0"),
    (11.0, "M0 10 L4 0 L8 10"),
    (15.0, "M0 10 L3 0 L6 9 L9 0 L12 10"),
    (11.0, "M0 10 L7.5 0 M7.5 10 L0 0"),
    (11.0, "M0 10 L4 0 M8 10 L2.4 -4"),
    (11.0, "M0 10 L7 10 L0 0 L7 0"),
    (9.0, "A5 12 3 3 90 180 L2 8 L0 6 L2 4 L2 0 A5 0 3 3 180 270"),
    (5.0, "M0 15 L0 -3"),
    (9.0, "A0 12 3 3 90 0 L3 8 L5 6 L3 4 L3 0 A0 0 3 3 0 -90"),
    (13.0, "A2.25 4.5 2.25 2 180 0 A6.75 4.5 2.25 2 180 360"),
    // The ellipsis.
    (14.0, "M0 0 L0 .2 M5 0 L5 .2 M10 0 L10 .2"),
];

/// Returns the width of a text in pixels at `size` pixels per font unit.
pub(super) fn width(text: &str, size: f32) -> f32 {
    // The advance of the last letter includes a gap to the next one.
    const GAP: f32 = 4.0;
    let units: f32 = ascii(text).map(advance).sum();
    (units - GAP).max(0.0) * size
}

/// Returns the text, shortened with an ellipsis if it is wider than `room` pixels.
pub(super) fn fit(text: &str, size: f32, room: f32) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    // No picture has room for more characters.
    let mut kept: Vec<char> = text.chars().take(2000).collect();
    while !kept.is_empty() {
        kept.pop();
        let short: String = kept.iter().collect::<String>().trim_end().to_owned() + "…";
        if width(&short, size) <= room {
            return short;
        }
    }
    String::new()
}

/// Draws a text with the left end of its base line at (`x`, `y`).
pub(super) fn draw(image: &mut RgbImage, x: f32, y: f32, size: f32, ink: Rgb<u8>, text: &str) {
    let (mut x, y) = (x.round(), y.round());
    let pen = (PEN * size).max(1.1);
    for c in ascii(text) {
        let place = |strokes: Vec<Segment>| -> Vec<Segment> {
            strokes.into_iter().map(|s| s.map(|(px, py)| (x + px * size, y - py * size))).collect()
        };
        match glyph(c) {
            Some((_, path)) => stroke(image, &place(flatten(path)), pen, ink),
            None => stroke(image, &place(code_box(c)), (pen * 0.55).max(0.8), ink),
        }
        x += advance(c) * size;
    }
}

/// Returns whether every character of a text has a glyph or a similar letter.
pub(super) fn readable(text: &str) -> bool {
    ascii(text).all(|c| glyph(c).is_some())
}

/// The two ends of a straight stroke.
pub(super) type Segment = [(f32, f32); 2];

/// Draws strokes with a round, anti-aliased pen. The strokes are one shape: crossings are not
/// darker.
pub(super) fn stroke(image: &mut RgbImage, strokes: &[Segment], pen: f32, ink: Rgb<u8>) {
    let reach = pen / 2.0 + 1.0;
    let ends = || strokes.iter().flatten();
    let min_x = ends().map(|e| e.0).fold(f32::INFINITY, f32::min) - reach;
    let max_x = ends().map(|e| e.0).fold(f32::NEG_INFINITY, f32::max) + reach;
    let min_y = ends().map(|e| e.1).fold(f32::INFINITY, f32::min) - reach;
    let max_y = ends().map(|e| e.1).fold(f32::NEG_INFINITY, f32::max) + reach;
    // Casts from float saturate, so an empty or distant box covers no pixels.
    let columns = min_x.max(0.0) as u32..(max_x.max(0.0) as u32).min(image.width());
    let rows = min_y.max(0.0) as u32..(max_y.max(0.0) as u32).min(image.height());
    for row in rows {
        for column in columns.clone() {
            let at = (column as f32 + 0.5, row as f32 + 0.5);
            let nearest = strokes.iter().map(|s| distance(at, s)).fold(f32::INFINITY, f32::min);
            let cover = (pen / 2.0 + 0.5 - nearest).clamp(0.0, 1.0);
            if cover > 0.0 {
                let pixel = image.get_pixel_mut(column, row);
                for (old, new) in pixel.0.iter_mut().zip(ink.0) {
                    let (from, to) = (f32::from(*old), f32::from(new));
                    *old = (from + (to - from) * cover).round() as u8;
                }
            }
        }
    }
}

fn distance(p: (f32, f32), [a, b]: &Segment) -> f32 {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length2 = dx * dx + dy * dy;
    let along = if length2 > 0.0 { (((p.0 - a.0) * dx + (p.1 - a.1) * dy) / length2).clamp(0.0, 1.0) } else { 0.0 };
    (p.0 - a.0 - along * dx).hypot(p.1 - a.1 - along * dy)
}

/// Converts a path to straight strokes. A malformed number in the table would only spoil its
/// letter; the tests check for such numbers.
fn flatten(path: &str) -> Vec<Segment> {
    let mut strokes = Vec::new();
    let mut pen: Option<(f32, f32)> = None;
    let mut numbers: Vec<f32> = Vec::new();
    let mut words = path.split(' ').peekable();
    while let Some(word) = words.next() {
        let Some(command) = word.chars().next() else {
            continue;
        };
        numbers.clear();
        numbers.extend(word[1..].parse::<f32>());
        while let Some(n) = words.peek().and_then(|w| w.parse::<f32>().ok()) {
            numbers.push(n);
            words.next();
        }
        let mut go = |to: (f32, f32)| {
            if let Some(from) = pen {
                strokes.push([from, to]);
            }
            pen = Some(to);
        };
        match (command, numbers.as_slice()) {
            ('L', &[x, y]) => go((x, y)),
            ('A', &[cx, cy, rx, ry, from, to]) => arc((cx, cy), (rx, ry), (from, to), go),
            ('M', &[x, y]) => pen = Some((x, y)),
            ('E', &[cx, cy, rx, ry]) => {
                pen = None;
                let go = |to| {
                    if let Some(from) = pen {
                        strokes.push([from, to]);
                    }
                    pen = Some(to);
                };
                arc((cx, cy), (rx, ry), (0.0, 360.0), go);
                pen = None;
            }
            _ => pen = None,
        }
    }
    strokes
}

fn arc(center: (f32, f32), radius: (f32, f32), turn: (f32, f32), mut go: impl FnMut((f32, f32))) {
    const STEPS: u32 = 24;
    for i in 0..=STEPS {
        let angle = turn.0 + (turn.1 - turn.0) * i as f32 / STEPS as f32;
        let (sin, cos) = angle.to_radians().sin_cos();
        go((center.0 + radius.0 * cos, center.1 + radius.1 * sin));
    }
}

fn glyph(c: char) -> Option<(f32, &'static str)> {
    match c {
        ' '..='~' => Some(GLYPHS[c as usize - ' ' as usize]),
        '…' => Some(GLYPHS[95]),
        _ => None,
    }
}

fn advance(c: char) -> f32 {
    glyph(c).map_or_else(|| code_columns(c) * CODE_COLUMN + 6.0, |(advance, _)| advance)
}

/// Width of a column of digits in the box of a code point, in font units.
const CODE_COLUMN: f32 = 6.5;

/// Returns the digits in each of the box's two rows: two, or three for code points above U+FFFF.
fn code_columns(c: char) -> f32 {
    if u32::from(c) > 0xffff { 3.0 } else { 2.0 }
}

/// Returns the strokes of the box for a character without a glyph: a frame with the small code
/// point.
fn code_box(c: char) -> Vec<Segment> {
    const SMALL: f32 = 0.45;
    let columns = code_columns(c);
    let (right, bottom, top) = (columns * CODE_COLUMN + 2.5, -2.0, 16.5);
    let mut strokes = flatten(&format!("M0 {bottom} L{right} {bottom} L{right} {top} L0 {top} L0 {bottom}"));
    let digits = format!("{:0>width$X}", u32::from(c), width = 2 * columns as usize);
    for (i, digit) in digits.chars().enumerate() {
        let (row, column) = (i / columns as usize, i % columns as usize);
        let (x, y) = (2.0 + column as f32 * CODE_COLUMN, if row == 0 { 8.4 } else { 0.0 });
        let path = glyph(digit).map_or("", |(_, path)| path);
        strokes.extend(flatten(path).into_iter().map(|s| s.map(|(px, py)| (x + px * SMALL, y + py * SMALL))));
    }
    strokes
}

/// Returns the characters that are drawn for a text: Latin letters without accents, plain dashes
/// and quotes. Characters without a similar letter are returned unchanged.
fn ascii(text: &str) -> impl Iterator<Item = char> {
    // Combining accents, and characters that only join others or select their shape.
    let marks = |c: &char| !matches!(c, '\u{300}'..='\u{36f}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}');
    text.chars().filter(marks).flat_map(|c| {
        let likeness: &'static str = match c {
            ' '..='~' | '…' => "",
            '\t' | '\n' | '\r' | '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' => " ",
            'À'..='Å' | 'Ā' | 'Ă' | 'Ą' => "A",
            'à'..='å' | 'ā' | 'ă' | 'ą' => "a",
            'Æ' => "AE",
            'æ' => "ae",
            'Ç' | 'Ć' | 'Č' => "C",
            'ç' | 'ć' | 'č' => "c",
            'Ď' | 'Đ' | 'Ð' => "D",
            'ď' | 'đ' | 'ð' => "d",
            'È'..='Ë' | 'Ē' | 'Ę' | 'Ě' => "E",
            'è'..='ë' | 'ē' | 'ę' | 'ě' => "e",
            'Ğ' => "G",
            'ğ' => "g",
            'Ì'..='Ï' | 'İ' => "I",
            'ì'..='ï' | 'ı' => "i",
            'Ł' => "L",
            'ł' => "l",
            'Ñ' | 'Ń' | 'Ň' => "N",
            'ñ' | 'ń' | 'ň' => "n",
            'Ò'..='Ö' | 'Ø' | 'Ő' => "O",
            'ò'..='ö' | 'ø' | 'ő' => "o",
            'Œ' => "OE",
            'œ' => "oe",
            'Ř' => "R",
            'ř' => "r",
            'Ś' | 'Ş' | 'Š' => "S",
            'ś' | 'ş' | 'š' => "s",
            'ß' => "ss",
            'Ţ' | 'Ť' => "T",
            'ţ' | 'ť' => "t",
            'Ù'..='Ü' | 'Ů' | 'Ű' => "U",
            'ù'..='ü' | 'ů' | 'ű' => "u",
            'Ý' | 'Ÿ' => "Y",
            'ý' | 'ÿ' => "y",
            'Ź' | 'Ż' | 'Ž' => "Z",
            'ź' | 'ż' | 'ž' => "z",
            '‐'..='―' | '−' => "-",
            '‘' | '’' | '´' => "'",
            '“' | '”' | '„' | '«' | '»' => "\"",
            '·' | '•' => ".",
            '×' => "x",
            'µ' | 'μ' => "u",
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => " ",
            _ => "",
        };
        likeness.chars().chain(likeness.is_empty().then_some(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_glyph_parses_and_stays_in_its_cell() {
        for (i, (advance, path)) in GLYPHS.iter().enumerate() {
            let c = char::from_u32(32 + i as u32).unwrap();
            let strokes = flatten(path);
            assert_eq!(strokes.is_empty(), c == ' ', "{c}");
            for (x, y) in strokes.into_iter().flatten() {
                assert!((-1.5..=advance - 2.0).contains(&x), "{c} x {x}");
                assert!((-4.1..=15.6).contains(&y), "{c} y {y}");
            }
            let commands = path.matches(char::is_alphabetic).count();
            let words = path.split_whitespace().count();
            let parsed = path
                .split_whitespace()
                .filter(|w| w.trim_start_matches(char::is_alphabetic).parse::<f32>().is_ok())
                .count();
            assert_eq!((words, commands > 0), (parsed, c != ' '), "{c}");
        }
    }

    #[test]
    fn text_is_transliterated() {
        let seen: String = ascii("Škoda – naïve strae\u{301}ße… a\u{200d}b 漢").collect();
        assert_eq!(seen, "Skoda - naive straesse… ab 漢");
        assert!(readable("Škoda – naïve straße…\u{7}") && !readable("Škoda 漢") && !readable("🙂"));
    }

    #[test]
    fn what_has_no_letter_is_a_box_with_its_code_point() {
        for c in ['漢', '字', '🙂', 'Ж', '\u{10ffff}'] {
            let strokes = code_box(c);
            assert!(strokes.len() > 20, "{c}");
            for (x, y) in strokes.into_iter().flatten() {
                assert!((0.0..=advance(c) - 2.0).contains(&x), "{c} x {x}");
                assert!((-2.1..=16.6).contains(&y), "{c} y {y}");
            }
        }
        assert_ne!(code_box('漢'), code_box('字'));
        let mut image = RgbImage::new(40, 40);
        draw(&mut image, 4.0, 30.0, 1.0, Rgb([255; 3]), "漢");
        assert!(image.pixels().filter(|p| p.0[0] > 100).count() > 60);
    }

    #[test]
    fn fitting_truncates_with_an_ellipsis() {
        assert_eq!(fit("libs", 1.0, 1000.0), "libs");
        let short = fit("a-very-long-section-name", 1.0, 100.0);
        assert!(short.ends_with('…') && width(&short, 1.0) <= 100.0, "{short}");
        assert_eq!(fit("anything", 1.0, 1.0), "");
    }

    #[test]
    fn drawing_beyond_the_image_is_harmless() {
        let mut image = RgbImage::new(20, 20);
        draw(&mut image, -50.0, 500.0, 3.0, Rgb([255; 3]), "Hello");
        draw(&mut image, 1e9, f32::NAN, 1.0, Rgb([255; 3]), "Hello");
    }
}
