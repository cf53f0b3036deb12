//! Curves made up so that what must be found is known.

use super::*;

fn settings() -> Settings {
    Settings { confidence: 0.95, smallest_change: 0.05, ceilings: None, spec: None }
}

fn row(width: u64, pass: u64, time_ms: f64) -> CostRow {
    CostRow { width, pass, time_ms: Some(time_ms), context: 64, batch: 1, ..CostRow::default() }
}

/// A number between -1 and 1 that looks random.
fn noise(width: u64, pass: u64) -> f64 {
    let mixed = (1000 * width + pass).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / (1u64 << 23) as f64 - 1.0
}

fn only(rows: &[CostRow], settings: &Settings) -> CurveAnalysis {
    let mut curves = analyze_curves(rows, settings).unwrap();
    assert_eq!(curves.len(), 1);
    curves.remove(0)
}

/// As in published tables: five widths, one time each, nothing else.
#[test]
fn five_published_widths_get_a_shape_and_no_invention() {
    let times = [(1, 8.84), (4, 13.02), (16, 20.0), (32, 36.72), (128, 87.46)];
    let rows: Vec<CostRow> = times.iter().map(|(width, time)| row(*width, 0, *time)).collect();
    let curve = only(&rows, &settings());
    assert_eq!((curve.row.widths, curve.row.samples, curve.row.narrowest_ms), (5, 5, 8.84));
    assert_eq!((curve.row.cliffs, curve.row.falls, curve.row.padded_widths), (None, None, None));
    assert!(curve.changes.is_empty() && curve.row.ridge_width.is_none() && curve.row.shape == "linear");
    assert!(curve.widths.iter().all(|row| row.time_low_ms.is_none() && row.pad_to.is_none() && row.regime.is_empty()));
    let [stretch] = curve.stretches.as_slice() else { panic!("{:?}", curve.stretches) };
    assert_eq!((stretch.from_width, stretch.to_width, stretch.slope_low_ms), (1, 128, None));
    let cannot_say: Vec<&str> = curve.row.cannot_say.split(" | ").collect();
    let expected = [
        "no interval at 5 of 5 widths: 6 samples are needed for 0.95",
        "cliffs, falls and padding: one sample a width cannot be told from noise",
        "5 widths do not support the shapes one-kink and steps",
        "regimes and ridge: no ceilings were measured",
    ];
    assert_eq!(cannot_say, expected);
    let ceilings = Some(Ceilings { bandwidth_bytes_per_s: 669e9, read_bytes_per_s: None, matrix_flops_per_s: 20e12 });
    let curve = only(&rows, &Settings { ceilings, ..settings() });
    assert!(curve.row.cannot_say.ends_with("the bytes of a forward are not known"), "{}", curve.row.cannot_say);
    let curve = only(&rows[..2], &settings());
    assert!(curve.row.cannot_say.contains("the shape of the curve: 2 widths, 3 are needed"));
}

/// Whole passes are up to 60 % slower than others, widths differ by 20 % at one place.
#[test]
fn a_slow_pass_hides_no_cliff() {
    let time = |width: u64, pass: u64| {
        let level = if width > 20 { 12.0 } else { 10.0 };
        level * [1.0, 1.6, 1.1, 1.4, 1.2, 1.0, 1.5][pass as usize] * (1.0 + 0.01 * noise(width, pass))
    };
    let grid =
        |widths: u64| (0..7).flat_map(move |pass| (1..=widths).map(move |width| row(width, pass, time(width, pass))));
    let curve = only(&grid(40).collect::<Vec<_>>(), &settings());
    let found: Vec<_> = curve.changes.iter().map(|row| (row.kind.as_str(), row.from_width, row.to_width)).collect();
    assert_eq!(found, [("cliff", 20, 21)]);
    assert!(curve.changes[0].low < 0.2 && curve.changes[0].high > 0.2 && curve.changes[0].low > 0.15);
    assert_eq!(curve.stretches.len(), 2);
    // 7 samples: the median and the two extremes, which cover it with 1 - 2/128.
    let first = &curve.widths[0];
    assert!(first.samples == 7 && (first.confidence.unwrap() - (1.0 - 2.0 / 128.0)).abs() < 1e-12);
    assert!(first.time_low_ms.unwrap() < 10.2 && first.time_high_ms.unwrap() > 15.8);
}

#[test]
fn invalid_and_failed_samples_are_counted_and_left_out() {
    let mut rows: Vec<CostRow> = (0..7).flat_map(|pass| (1..=4).map(move |width| row(width, pass, 10.0))).collect();
    rows[0] = CostRow { invalid: true, time_ms: Some(0.01), ..rows[0].clone() };
    rows[1] = CostRow { time_ms: None, error: "no memory".to_string(), ..rows[1].clone() };
    rows.push(CostRow { mode: Mode::Pipelined, chain: 16, ..row(1, 0, 8.0) });
    let curve = only(&rows, &settings());
    assert_eq!((curve.row.samples, curve.row.invalid, curve.row.failed), (27, 1, 1));
    assert_eq!(curve.widths.iter().map(|row| row.samples).collect::<Vec<_>>(), [6, 6, 7, 7, 1]);
    assert_eq!((curve.row.narrowest_ms, curve.row.pipelined_ms), (10.0, Some(8.0)));
    let broken: Vec<CostRow> = rows.iter().map(|row| CostRow { time_ms: None, ..row.clone() }).collect();
    assert_eq!(analyze_curves(&broken, &settings()).unwrap(), []);
}

#[test]
fn curves_are_told_apart_and_numbered_targets_first() {
    let other = |change: fn(&mut CostRow)| {
        let mut rows: Vec<CostRow> = (1..=3).map(|width| row(width, 0, 1.0)).collect();
        rows.iter_mut().for_each(change);
        rows
    };
    let rows = [
        other(|row| (row.role, row.drafter) = (Role::Drafter, "skip".to_string())),
        other(|row| row.context = 128),
        other(|row| row.batch = 2),
        other(|_| ()),
        // Rounds are no proposals.
        other(|row| {
            (row.role, row.drafter, row.mode) = (Role::Drafter, "skip".to_string(), Mode::Round);
            (row.width, row.time_ms) = (row.width + 1, Some(9.0));
        }),
    ]
    .concat();
    let curves = analyze_curves(&rows, &settings()).unwrap();
    assert_eq!(curves[3].widths.iter().map(|row| row.time_ms).collect::<Vec<_>>(), [1.0; 3]);
    let named: Vec<_> =
        curves.iter().map(|curve| (curve.row.curve, &*curve.row.drafter, curve.row.context, curve.row.batch)).collect();
    assert_eq!(named, [(0, "", 64, 1), (1, "", 64, 2), (2, "", 128, 1), (3, "skip", 64, 1)]);
    assert!(curves.iter().all(|curve| curve.widths.iter().all(|row| row.curve == curve.row.curve)));
}
