//! Colours: the categories' palette, the colour scales for values and for density, and the
//! perceptual colour space OKLab, in which colours are blended with the background.
//!
//! What must hold: colours that meet in one pixel are averaged as light (linear RGB); fading
//! towards the background happens in OKLab, in which a tint keeps its hue and its perceived
//! strength.

use std::sync::LazyLock;

use image::Rgb;

/// Twenty-two colours in the order in which categories take them. Chosen greedily for the largest
/// distance in OKLab from the colours before (with normal sight and with simulated deuteranopia and
/// protanopia, Machado 2009), from white, and from the grey of "other".
const PALETTE: [u32; 22] = [
    0x1f6fc4, 0xe8890c, 0x12966a, 0xd1352b, 0x8a4fc2, 0x3cb4dc, 0x70394b, 0x3ede8d, 0xe86fa5, 0xac307a, 0x7f8cf9,
    0x4435a7, 0xddbc1a, 0x75227d, 0x9c0b02, 0x87ac69, 0x69d3c7, 0x726da1, 0xf493fd, 0x58714f, 0x12687a, 0xb372d8,
];

/// The sequential scale as lightness, chroma and hue: from dark violet through blue and green to
/// yellow; lighter at every step, with the hue turning in one direction.
const SEQUENTIAL: [[f32; 3]; 9] = [
    [0.28, 0.13, 300.0],
    [0.36, 0.14, 285.0],
    [0.44, 0.125, 262.0],
    [0.52, 0.105, 240.0],
    [0.59, 0.10, 205.0],
    [0.66, 0.12, 168.0],
    [0.73, 0.15, 145.0],
    [0.80, 0.17, 122.0],
    [0.87, 0.17, 103.0],
];

/// Density alone on white: from light blue to dark indigo.
const DENSITY_ON_WHITE: [[f32; 3]; 4] =
    [[0.90, 0.045, 235.0], [0.70, 0.12, 245.0], [0.47, 0.16, 265.0], [0.24, 0.11, 285.0]];

/// Density alone on a dark background: from deep blue to pale yellow.
const DENSITY_ON_DARK: [[f32; 3]; 4] =
    [[0.32, 0.09, 275.0], [0.52, 0.14, 255.0], [0.76, 0.11, 205.0], [0.97, 0.07, 105.0]];

/// The number of categories with a colour of their own.
pub(crate) const NAMED: usize = PALETTE.len();

/// The colours around the points.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    pub(super) dark: bool,
    pub(super) ground: Rgb<u8>,
    pub(super) text: Rgb<u8>,
    pub(super) muted: Rgb<u8>,
    /// The colour of points in other categories or without a value.
    pub(super) other: Lab,
}

impl Theme {
    pub(super) fn new(dark: bool) -> Self {
        if dark {
            Self {
                dark,
                ground: Rgb([0x10, 0x13, 0x19]),
                text: Rgb([0xe2, 0xe5, 0xea]),
                muted: Rgb([0x8d, 0x95, 0xa1]),
                other: Lab::from_hex(0x737880),
            }
        } else {
            Self {
                dark,
                ground: Rgb([0xff, 0xff, 0xff]),
                text: Rgb([0x1d, 0x22, 0x2b]),
                muted: Rgb([0x6b, 0x73, 0x80]),
                other: Lab::from_hex(0xacb0b6),
            }
        }
    }

    /// Returns the colour of the `rank`-th most frequent category.
    pub(super) fn category(&self, rank: usize) -> Lab {
        let color = Lab::from_hex(PALETTE[rank % NAMED]);
        if self.dark {
            // The darkest colours of the palette would be hard to see.
            color.lighter(0.37 - 0.55 * color.l)
        } else {
            color
        }
    }

    /// Returns the colour of a value, given as its place from 0 to 1.
    pub(super) fn value(&self, t: f32) -> Lab {
        let color = ramp(&SEQUENTIAL, t);
        // The dark end would be hard to see on a dark background.
        let lift = if self.dark { 0.14 * (1.0 - t) } else { 0.0 };
        color.lighter(lift)
    }

    /// Returns the colour of a density, from 0 to 1, in pictures without colours.
    pub(super) fn density(&self, t: f32) -> Lab {
        let anchors = if self.dark { &DENSITY_ON_DARK } else { &DENSITY_ON_WHITE };
        ramp(anchors, t)
    }
}

/// Interpolates between evenly spaced anchors.
fn ramp(anchors: &[[f32; 3]], t: f32) -> Lab {
    let at = t.clamp(0.0, 1.0) * (anchors.len() - 1) as f32;
    let low = (at as usize).min(anchors.len() - 2);
    Lab::from_lch(anchors[low]).mix(Lab::from_lch(anchors[low + 1]), at - low as f32)
}

/// A colour in OKLab.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lab {
    pub(super) l: f32,
    a: f32,
    b: f32,
}

impl Lab {
    fn from_lch([l, chroma, hue]: [f32; 3]) -> Self {
        let (sin, cos) = hue.to_radians().sin_cos();
        Self { l, a: chroma * cos, b: chroma * sin }
    }

    fn from_hex(hex: u32) -> Self {
        let [_, r, g, b] = hex.to_be_bytes();
        Self::from_rgb(Rgb([r, g, b]))
    }

    pub(super) fn from_rgb(Rgb(rgb): Rgb<u8>) -> Self {
        Self::from_linear(rgb.map(decode))
    }

    pub(super) fn from_linear([r, g, b]: [f32; 3]) -> Self {
        let l = (0.412_221_46 * r + 0.536_332_55 * g + 0.051_445_995 * b).cbrt();
        let m = (0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_96 * b).cbrt();
        let s = (0.088_302_46 * r + 0.281_718_85 * g + 0.629_978_7 * b).cbrt();
        Self {
            l: 0.210_454_26 * l + 0.793_617_8 * m - 0.004_072_047 * s,
            a: 1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s,
            b: 0.025_904_037 * l + 0.782_771_77 * m - 0.808_675_77 * s,
        }
    }

    pub(super) fn to_linear(self) -> [f32; 3] {
        let Self { l, a, b } = self;
        let cube = |v: f32| v * v * v;
        let x = cube(l + 0.396_337_78 * a + 0.215_803_76 * b);
        let y = cube(l - 0.105_561_346 * a - 0.063_854_17 * b);
        let z = cube(l - 0.089_484_18 * a - 1.291_485_5 * b);
        [
            4.076_741_7 * x - 3.307_711_6 * y + 0.230_969_94 * z,
            -1.268_438 * x + 2.609_757_4 * y - 0.341_319_4 * z,
            -0.004_196_086_3 * x - 0.703_418_6 * y + 1.707_614_7 * z,
        ]
        .map(|v| v.clamp(0.0, 1.0))
    }

    pub(super) fn to_rgb(self) -> Rgb<u8> {
        Rgb(self.to_linear().map(encode))
    }

    /// Returns this colour with its lightness raised by `by` (lowered if negative).
    pub(super) fn lighter(self, by: f32) -> Self {
        Self { l: (self.l + by).clamp(0.0, 1.0), ..self }
    }

    /// Returns the hue angle in radians.
    #[cfg(test)]
    pub(super) fn hue(self) -> f32 {
        self.b.atan2(self.a)
    }

    /// Returns the mixture of this colour and `share` of another colour.
    pub(super) fn mix(self, other: Self, share: f32) -> Self {
        let mix = |from: f32, to: f32| from + (to - from) * share;
        Self { l: mix(self.l, other.l), a: mix(self.a, other.a), b: mix(self.b, other.b) }
    }
}

fn decode(byte: u8) -> f32 {
    let v = f32::from(byte) / 255.0;
    if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
}

/// Converts linear light to an sRGB byte through a table, because a picture has millions of pixels
/// and the power function is the slowest step. The table is indexed by the square root, which
/// spreads the entries evenly over the bytes.
fn encode(v: f32) -> u8 {
    const LAST: usize = 4095;
    static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        (0..=LAST)
            .map(|i| {
                let v = (i as f32 / LAST as f32).powi(2);
                let v = if v <= 0.003_130_8 { 12.92 * v } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 };
                (v * 255.0).round() as u8
            })
            .collect()
    });
    TABLE[(v.clamp(0.0, 1.0).sqrt() * LAST as f32).round() as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_round_trip() {
        for byte in 0..=255u8 {
            for rgb in [Rgb([byte; 3]), Rgb([byte, 40, 200]), Rgb([255, byte, 0])] {
                assert_eq!(Lab::from_rgb(rgb).to_rgb(), rgb);
            }
        }
    }

    #[test]
    fn ramps_rise_and_palette_is_distinct() {
        for dark in [false, true] {
            let theme = Theme::new(dark);
            for i in 1..=100 {
                let (t, before) = (i as f32 / 100.0, (i - 1) as f32 / 100.0);
                assert!(theme.value(t).l > theme.value(before).l);
                assert_eq!(theme.density(t).l > theme.density(before).l, dark);
            }
            let colors: Vec<Rgb<u8>> = (0..NAMED).map(|i| theme.category(i).to_rgb()).collect();
            for (i, a) in colors.iter().enumerate() {
                assert!(!colors[..i].contains(a));
            }
        }
    }
}
