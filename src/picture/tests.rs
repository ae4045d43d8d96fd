//! Tests of the whole picture: the same bytes for the same points, points at their positions, and
//! no input that fails.

use super::*;

const WHITE: Rgb<u8> = Rgb([255; 3]);

struct TestMap {
    x: Vec<f64>,
    y: Vec<f64>,
    codes: Vec<u32>,
    values: Vec<f64>,
}

/// Points on a curved grid, including some that cannot be drawn.
fn map(n: usize) -> TestMap {
    let mut map = TestMap { x: Vec::new(), y: Vec::new(), codes: Vec::new(), values: Vec::new() };
    for i in 0..n {
        let t = i as f64;
        map.x.push(if i % 97 == 3 { f64::NAN } else { (t * 0.7).sin() * (t * 0.01).cos() });
        map.y.push((t * 1.3).cos());
        map.codes.push((i % 7) as u32);
        map.values.push(if i % 50 == 9 { f64::NAN } else { t.sqrt() / 700.0 });
    }
    map
}

fn scales() -> [ColorScale; 3] {
    let names = (0..6).map(|i| (format!("name {i}"), 100 - i)).collect();
    [
        ColorScale::density(),
        ColorScale::categories(names).named("kind"),
        ColorScale::values(ValueRange::floats(0.0, 40.0)).named("root"),
    ]
}

fn render(map: &TestMap, style: &Style, scale: &ColorScale, batch: usize) -> RgbImage {
    let mut bounds = Bounds::new();
    for (x, y) in map.x.chunks(batch).zip(map.y.chunks(batch)) {
        bounds.add(x, y);
    }
    let mut canvas = Canvas::new(style, &bounds, scale.clone());
    for start in (0..map.x.len()).step_by(batch) {
        let part = start..map.x.len().min(start + batch);
        let color = match scale.kind {
            ScaleKind::Density => Color::None,
            ScaleKind::Categories(..) => Color::Category(&map.codes[part.clone()]),
            ScaleKind::Values(..) => Color::Value(&map.values[part.clone()]),
        };
        canvas.add(&map.x[part.clone()], &map.y[part], color);
    }
    canvas.finish()
}

fn style(width: u32, height: u32) -> Style {
    Style { width, height, title: Some("A title".into()), ..Style::default() }
}

/// Returns a picture without texts, in which the map fills everything.
fn bare(points: &[(f64, f64)]) -> RgbImage {
    let (x, y): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
    let mut bounds = Bounds::new();
    bounds.add(&x, &y);
    let mut canvas = Canvas::new(&style(160, 160), &bounds, ColorScale::density());
    canvas.add(&x, &y, Color::None);
    canvas.finish()
}

fn inked(image: &RgbImage) -> usize {
    image.pixels().filter(|&&p| p != WHITE).count()
}

#[test]
fn picture_is_independent_of_batches_and_order() {
    for n in [300, 40_000, 400_000] {
        let whole = map(n);
        // Interleaved and reversed: another order of the same points.
        let order: Vec<usize> = (0..n).rev().step_by(2).chain((0..n - 1).rev().step_by(2)).collect();
        let turned = TestMap {
            x: order.iter().map(|&i| whole.x[i]).collect(),
            y: order.iter().map(|&i| whole.y[i]).collect(),
            codes: order.iter().map(|&i| whole.codes[i]).collect(),
            values: order.iter().map(|&i| whole.values[i]).collect(),
        };
        for scale in scales() {
            let style = style(400, 300);
            let once = render(&whole, &style, &scale, n);
            assert!(once == render(&whole, &style, &scale, 77), "{n}: {scale:?}");
            assert!(once == render(&turned, &style, &scale, 1013), "{n}: {scale:?}");
        }
    }
}

#[test]
fn points_are_where_they_belong() {
    let names = vec![("up".into(), 3), ("left".into(), 2), ("right".into(), 1)];
    let (x, y) = ([0.0, -1.0, 1.0], [1.0, 0.0, 0.0]);
    let mut bounds = Bounds::new();
    bounds.add(&x, &y);
    let mut canvas = Canvas::new(&style(160, 160), &bounds, ColorScale::categories(names));
    canvas.add(&x, &y, Color::Category(&[0, 1, 2]));
    let image = canvas.finish();
    let theme = Theme::new(false);
    // The extent is the picture's width minus margin and disc, half as high, and centred.
    for (rank, (column, row)) in [(80, 43), (8, 115), (151, 115)].into_iter().enumerate() {
        // The edge of a disc is fainter, but has the same hue.
        let seen = Lab::from_rgb(*image.get_pixel(column, row));
        let wanted = theme.category(rank);
        assert!(seen.l < 0.9, "{rank}: {seen:?}");
        assert!((seen.hue() - wanted.hue()).abs() < 0.1, "{rank}: {seen:?}");
    }
    assert_eq!(*image.get_pixel(80, 115), WHITE);
}

#[test]
fn a_pixel_shows_the_mixture_of_its_categories() {
    let names = vec![("a".into(), 2), ("b".into(), 1)];
    let mut bounds = Bounds::new();
    bounds.add(&[0.0; 4], &[0.0; 4]);
    let mut canvas = Canvas::new(&style(160, 160), &bounds, ColorScale::categories(names));
    canvas.add(&[0.0; 4], &[0.0; 4], Color::Category(&[0, 1, 0, 1]));
    let image = canvas.finish();
    let theme = Theme::new(false);
    let light = [0, 1].map(|rank| theme.category(rank).to_linear());
    let middle = Lab::from_linear(std::array::from_fn(|i| (light[0][i] + light[1][i]) / 2.0));
    let seen = Lab::from_rgb(*image.get_pixel(80, 80));
    // Density may change the lightness, but not the hue.
    let hue = Lab::hue;
    assert!((hue(seen) - hue(middle)).abs() < 0.1, "{seen:?} {middle:?}");
}

#[test]
fn odd_maps_have_sensible_pictures() {
    assert_eq!(inked(&bare(&[])), 0);
    assert_eq!(inked(&bare(&[(f64::NAN, 0.0), (0.0, f64::NEG_INFINITY)])), 0);
    for at in [(0.0, 0.0), (3.5, -1e30), (f64::MAX, f64::MIN), (1e9, 1e-310)] {
        for n in [1, 5, 5000] {
            let image = bare(&vec![at; n]);
            assert_ne!(*image.get_pixel(80, 80), WHITE, "{at:?} × {n}");
            assert!(inked(&image) < 160 * 160 / 50, "{at:?} × {n}");
        }
    }
    for scale in [1.0, 1e-300, 1e30, f64::MAX] {
        let line: Vec<(f64, f64)> = (-100..=100).map(|i| (f64::from(i) / 100.0 * scale, 7.0)).collect();
        let image = bare(&line);
        for column in [8, 80, 151] {
            assert_ne!(*image.get_pixel(column, 80), WHITE, "{scale}");
        }
        assert_eq!(*image.get_pixel(80, 60), WHITE, "{scale}");
    }
}

#[test]
fn outliers_are_counted_and_do_not_shrink_the_rest() {
    let mut points = map(10_000);
    points.x.push(f64::MAX);
    points.y.push(-1e30);
    let mut bounds = Bounds::new();
    bounds.add(&points.x, &points.y);
    let mut canvas = Canvas::new(&style(160, 160), &bounds, ColorScale::density());
    canvas.add(&points.x, &points.y, Color::None);
    assert_eq!(canvas.outside(), 1);
    assert_eq!(canvas.skipped(), bounds.skipped());
    assert_eq!(canvas.drawn() + canvas.outside(), bounds.points());
    let footer = canvas.footer();
    assert!(footer.starts_with("9,8") && footer.ends_with("1 outside the frame, 104 without a position"), "{footer}");
    assert!(inked(&canvas.finish()) > 160 * 160 / 3);
}

#[test]
fn any_size_scale_and_colour_make_a_picture() {
    let points = map(500);
    let long = "Zażółć gęślą jaźń 漢字 ".repeat(50);
    let mut all = scales().to_vec();
    all.push(ColorScale::categories(vec![]));
    all.push(ColorScale::categories(vec![(long.clone(), u64::MAX); 60]).named(long.clone()));
    all.push(ColorScale::values(ValueRange::floats(f64::NAN, f64::INFINITY)));
    all.push(ColorScale::values(ValueRange::floats(f64::MIN, f64::MAX)));
    all.push(ColorScale::values(ValueRange::wholes(3, 3, ValueUnit::Date)));
    let mut bounds = Bounds::new();
    bounds.add(&points.x, &points.y);
    for scale in all {
        for (width, height) in [(0, 0), (16, 500), (300, 200), (640, 480)] {
            let style = Style { dark: true, title: Some(long.clone()), ..style(width, height) };
            let mut canvas = Canvas::new(&style, &bounds, scale.clone());
            let beyond = vec![u32::MAX; 500];
            for color in
                [Color::None, Color::Category(&points.codes), Color::Category(&beyond), Color::Value(&points.values)]
            {
                canvas.add(&points.x, &points.y, color);
            }
            let image = canvas.finish();
            assert_eq!(image.dimensions(), (width.max(16), height.max(16)));
        }
    }
}

#[test]
fn png_is_written_or_the_path_named() {
    let image = bare(&[(0.0, 0.0)]);
    let path = std::env::temp_dir().join(format!("lowland-picture-{}.png", std::process::id()));
    write_png(&path, &image).unwrap();
    assert!(image::open(&path).unwrap().to_rgb8() == image);
    std::fs::remove_file(&path).unwrap();
    let error = write_png("/nonexistent/map.png", &image).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/map.png"), "{error}");
}
