//! Every kernel against float64, at every row count, with awkward shapes, strides and values.

use proptest::prelude::*;

use super::grouped::{Rows, group, grouped_len};
use super::kernel::{self, BytesProduct, GROUP, GroupedProduct, Product};
use super::pool::Pool;
use super::product::Engine;

/// A product with its memory. Rows are longer than they need to be and start off alignment; what lies between them
/// in A and B is NaN, so that reading it shows, and a mark in C, so that writing it shows.
#[derive(Clone, Debug)]
struct Case {
    rows: usize,
    columns: usize,
    depth: usize,
    layout: Layout,
    add: bool,
    /// Floats before the first row and after each row of A, B and C.
    gaps: [usize; 3],
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

/// How B is stored: as rows of the depth, as columns of it, or as rows that were put into groups.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    Transposed,
    Plain,
    Grouped,
}

const LAYOUTS: [Layout; 3] = [Layout::Transposed, Layout::Plain, Layout::Grouped];

const MARK: f32 = 12345.0;

/// `rows` by `length` random values between gaps.
fn matrix(rows: usize, length: usize, gap: usize, between: f32, seed: &mut u64) -> Vec<f32> {
    let mut out = vec![between; gap];
    for _ in 0..rows {
        for _ in 0..length {
            *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            out.push((*seed >> 40) as f32 / (1 << 23) as f32 - 1.0);
        }
        out.extend(std::iter::repeat_n(between, gap));
    }
    out
}

impl Case {
    fn new(
        (rows, columns, depth): (usize, usize, usize),
        layout: Layout,
        add: bool,
        gaps: [usize; 3],
        seed: u64,
    ) -> Case {
        let mut seed = seed;
        let (b_rows, b_length) = if layout != Layout::Plain { (columns, depth) } else { (depth, columns) };
        Case {
            rows,
            columns,
            depth,
            layout,
            add,
            gaps,
            a: matrix(rows, depth, gaps[0], f32::NAN, &mut seed),
            b: matrix(b_rows, b_length, gaps[1], f32::NAN, &mut seed),
            c: matrix(rows, columns, gaps[2], MARK, &mut seed),
        }
    }

    fn a(&self, row: usize, k: usize) -> f32 {
        self.a[self.gaps[0] + row * (self.depth + self.gaps[0]) + k]
    }

    fn b(&self, k: usize, column: usize) -> f32 {
        let (row, item, length) =
            if self.layout != Layout::Plain { (column, k, self.depth) } else { (k, column, self.columns) };
        self.b[self.gaps[1] + row * (length + self.gaps[1]) + item]
    }

    fn c_index(&self, row: usize, column: usize) -> usize {
        self.gaps[2] + row * (self.columns + self.gaps[2]) + column
    }

    /// C after computing the first `rows` rows.
    fn run(&self, engine: &Engine, rows: usize) -> Vec<f32> {
        let mut c = self.c.clone();
        let b_length = if self.layout != Layout::Plain { self.depth } else { self.columns };
        let product = Product {
            rows,
            columns: self.columns,
            depth: self.depth,
            a: self.a[self.gaps[0]..].as_ptr(),
            a_stride: self.depth + self.gaps[0],
            b: self.b[self.gaps[1]..].as_ptr(),
            b_stride: b_length + self.gaps[1],
            c: c[self.gaps[2]..].as_mut_ptr(),
            c_stride: self.columns + self.gaps[2],
            add: self.add,
        };
        // SAFETY: the vectors hold what the products describe.
        unsafe {
            if self.layout == Layout::Grouped {
                let Product { rows, columns, depth, a, a_stride, b, b_stride, c, c_stride, add } = product;
                let mut groups = vec![f32::NAN; grouped_len(columns, depth)];
                group(&[Rows { first: b, stride: b_stride, count: columns }], depth, groups.as_mut_ptr());
                let b = groups.as_ptr();
                engine.multiply_grouped(&GroupedProduct { rows, columns, depth, a, a_stride, b, c, c_stride, add });
            } else {
                engine.multiply(&product, self.layout == Layout::Transposed);
            }
        }
        c
    }

    /// Compares with float64: the error of adding up in float32 in any order, and C untouched elsewhere.
    fn check(&self, engine: &Engine) {
        let c = self.run(engine, self.rows);
        let mut expected = self.c.clone();
        for row in 0..self.rows {
            for column in 0..self.columns {
                let terms = (0..self.depth).map(|k| f64::from(self.a(row, k)) * f64::from(self.b(k, column)));
                let start = if self.add { f64::from(self.c[self.c_index(row, column)]) } else { 0.0 };
                let (mut sum, mut size) = (start, start.abs());
                terms.for_each(|term| {
                    sum += term;
                    size += term.abs();
                });
                let found = c[self.c_index(row, column)];
                let bound = (self.depth + 2) as f64 * f64::from(f32::EPSILON) * size;
                let close = if sum.is_finite() {
                    (f64::from(found) - sum).abs() <= bound
                } else {
                    f64::from(found).to_bits() == sum.to_bits() || (found.is_nan() && sum.is_nan())
                };
                let name = engine.kernel.name;
                assert!(close, "{name}: {found} for {sum} at ({row}, {column}), error allowed {bound}");
                expected[self.c_index(row, column)] = found;
            }
        }
        assert_eq!(bits(&c), bits(&expected), "{}: wrote outside C", engine.kernel.name);
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn engines(threads: usize) -> Vec<Engine> {
    kernel::all().into_iter().map(|kernel| Engine { kernel, pool: Pool::new(threads) }).collect()
}

fn shapes() -> impl Strategy<Value = (usize, usize, usize)> {
    // Depths and columns around one vector, one cache line and one panel; now and then a large one, which Miri would be hours at.
    let large: [usize; 3] = if cfg!(miri) { [21, 50, 120] } else { [70, 130, 900] };
    let rows = prop_oneof![4 => 1usize..20, 1 => 20..large[0]];
    let columns = prop_oneof![Just(1), 1usize..9, 9..large[1]];
    let depth = prop_oneof![0usize..17, 17usize..100, 100..large[2]];
    (rows, columns, depth)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 150 }))]

    #[test]
    fn agrees_with_float64(
        shape in shapes(),
        layout in prop::sample::select(&LAYOUTS[..]),
        add: bool,
        gaps in [0usize..5, 0usize..5, 0usize..5],
        threads in 1usize..4,
        seed: u64,
    ) {
        let case = Case::new(shape, layout, add, gaps, seed);
        engines(threads).iter().for_each(|engine| case.check(engine));
    }

    #[test]
    fn infinities_and_nans_arrive_as_ieee_says(
        shape in (1usize..14, 1usize..40, 1usize..70),
        layout in prop::sample::select(&LAYOUTS[..]),
        value in prop_oneof![Just(f32::INFINITY), Just(f32::NEG_INFINITY), Just(f32::NAN)],
        place: prop::sample::Index,
        seed: u64,
    ) {
        let mut case = Case::new(shape, layout, false, [0, 0, 0], seed);
        let at = place.index(case.a.len());
        case.a[at] = value;
        let at = place.index(case.b.len());
        case.b[at] = -value;
        engines(1).iter().for_each(|engine| case.check(engine));
    }
}

#[test]
fn a_row_does_not_depend_on_the_rows_computed_with_it() {
    let shapes: &[_] = if cfg!(miri) { &[(9, 7, 40)] } else { &[(128, 67, 576), (70, 200, 1000), (40, 9, 13)] };
    for &shape in shapes {
        for (layout, add) in LAYOUTS.into_iter().flat_map(|layout| [(layout, false), (layout, true)]) {
            let case = Case::new(shape, layout, add, [1, 2, 3], 7);
            for engine in engines(2) {
                let wide = bits(&case.run(&engine, case.rows));
                for rows in (1..=32).chain([33, 47, 64, 100]).filter(|rows| *rows < case.rows) {
                    let narrow = bits(&case.run(&engine, rows));
                    let end = case.c_index(rows - 1, case.columns);
                    assert!(narrow[..end] == wide[..end], "{} differs at {rows} rows", engine.kernel.name);
                }
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let shape = if cfg!(miri) { (5, 20, 64) } else { (23, 300, 700) };
    for layout in LAYOUTS {
        let case = Case::new(shape, layout, false, [0, 0, 0], 11);
        let alone: Vec<_> = engines(1).iter().map(|engine| bits(&case.run(engine, case.rows))).collect();
        for threads in 2..5 {
            for (engine, alone) in engines(threads).iter().zip(&alone) {
                assert!(
                    bits(&case.run(engine, case.rows)) == *alone,
                    "{} threads change {}",
                    threads,
                    engine.kernel.name
                );
            }
        }
    }
}

/// Attention masks the positions that a row must not see: their weights are zero, and a row that is decoded alone
/// does not have them at all.
#[test]
fn zeros_at_the_end_of_a_row_change_nothing() {
    for depth in [1, 8, 31, 256, 300] {
        let short = Case::new((1, 64, depth), Layout::Plain, false, [0, 0, 0], 3);
        let mut long = short.clone();
        long.depth = depth + 31;
        long.a.resize(long.depth, 0.0);
        long.b.resize(long.depth * 64, 0.75);
        for engine in engines(1) {
            assert_eq!(bits(&short.run(&engine, 1)), bits(&long.run(&engine, 1)), "{}", engine.kernel.name);
        }
    }
}

#[test]
fn an_output_comes_out_of_its_group_as_it_went_in() {
    let (outputs, inputs) = (100, 37);
    let rows: Vec<f32> = (0..outputs * inputs).map(|place| place as f32).collect();
    let mut groups = vec![f32::NAN; grouped_len(outputs, inputs)];
    // SAFETY: the vectors hold what the sizes say.
    // In two parts, as matrices that are multiplied together come.
    let part = |first: usize, count| Rows { first: rows[first * inputs..].as_ptr(), stride: inputs, count };
    unsafe { group(&[part(0, outputs / 3), part(outputs / 3, outputs - outputs / 3)], inputs, groups.as_mut_ptr()) };
    for (output, row) in rows.chunks_exact(inputs).enumerate() {
        let mut found = vec![0.0; inputs];
        // SAFETY: as above.
        unsafe { super::grouped::ungroup(groups.as_ptr(), output, &mut found) };
        assert_eq!(found, row);
    }
}

/// 8-bit weights for `columns` outputs: bytes, scales and offsets as rows, and the same in groups.
struct ByteWeights {
    columns: usize,
    depth: usize,
    block: usize,
    bytes: Vec<u8>,
    /// Scale and offset of each output and block.
    scales: Vec<[f32; 2]>,
}

impl ByteWeights {
    fn new(columns: usize, blocks: usize, block: usize, seed: &mut u64) -> ByteWeights {
        let depth = blocks * block;
        let bytes = matrix(columns, depth, 0, 0.0, seed).iter().map(|value| (127.5 * (value + 1.0)) as u8).collect();
        let scales = matrix(columns, 2 * blocks, 0, 0.0, seed).chunks(2).map(|pair| [pair[0], pair[1]]).collect();
        ByteWeights { columns, depth, block, bytes, scales }
    }

    fn weight(&self, column: usize, k: usize) -> f64 {
        let [scale, offset] = self.scales[(column * self.depth + k) / self.block].map(f64::from);
        scale * f64::from(self.bytes[column * self.depth + k]) + offset
    }

    fn grouped(&self) -> (Vec<u8>, Vec<f32>) {
        let (groups, blocks) = (self.columns.div_ceil(GROUP), self.depth / self.block);
        let mut bytes = vec![0; groups * self.depth * GROUP];
        let mut scales = vec![f32::NAN; groups * blocks * 2 * GROUP];
        for column in 0..self.columns {
            let (group, lane) = (column / GROUP, column % GROUP);
            for k in 0..self.depth {
                bytes[(group * self.depth + k) * GROUP + lane] = self.bytes[column * self.depth + k];
            }
            for block in 0..blocks {
                for part in 0..2 {
                    let to = ((group * blocks + block) * 2 + part) * GROUP + lane;
                    scales[to] = self.scales[column * blocks + block][part];
                }
            }
        }
        (bytes, scales)
    }
}

#[test]
fn products_with_bytes_agree_with_float64_and_do_not_depend_on_rows_or_threads() {
    let mut seed = 5;
    let shapes: &[_] = if cfg!(miri) { &[(3, 50, 1, 4)] } else { &[(1, 1, 1, 32), (37, 131, 3, 32), (19, 96, 9, 64)] };
    for &(rows, columns, blocks, block) in shapes {
        let weights = ByteWeights::new(columns, blocks, block, &mut seed);
        let (bytes, scales) = weights.grouped();
        let (depth, gap) = (weights.depth, 3);
        let a = matrix(rows, depth, gap, f32::NAN, &mut seed);
        let before = matrix(rows, columns, gap, MARK, &mut seed);
        let run = |engine: &Engine, rows: usize, add: bool| {
            let mut c = before.clone();
            let product = BytesProduct {
                rows,
                columns,
                depth,
                block,
                a: a[gap..].as_ptr(),
                a_stride: depth + gap,
                a_sums: std::ptr::null(),
                b: bytes.as_ptr(),
                scales: scales.as_ptr(),
                c: c[gap..].as_mut_ptr(),
                c_stride: columns + gap,
                add,
            };
            // SAFETY: the vectors hold what the product describes.
            unsafe { engine.multiply_bytes(&product) };
            c
        };
        for (engine, add) in engines(2).iter().flat_map(|engine| [(engine, false), (engine, true)]) {
            let name = engine.kernel.name;
            let c = run(engine, rows, add);
            let mut expected = before.clone();
            for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                let at = gap + row * (columns + gap) + column;
                let start = if add { f64::from(before[at]) } else { 0.0 };
                let terms = (0..depth).map(|k| f64::from(a[gap + row * (depth + gap) + k]) * weights.weight(column, k));
                let (sum, size) = terms.fold((start, start.abs()), |(sum, size), term| (sum + term, size + term.abs()));
                // Scale and offset enter apart, so sums may be larger than their difference.
                let bound = 300.0 * f64::from(f32::EPSILON) * (size + depth as f64);
                assert!((f64::from(c[at]) - sum).abs() <= bound, "{name}: {} for {sum} at ({row}, {column})", c[at]);
                expected[at] = c[at];
            }
            assert_eq!(bits(&c), bits(&expected), "{name}: wrote outside C");
            for narrow in (1..=rows.min(17)).filter(|narrow| *narrow < rows) {
                let end = gap + (narrow - 1) * (columns + gap) + columns;
                assert!(bits(&run(engine, narrow, add))[..end] == bits(&c)[..end], "{name} differs at {narrow} rows");
            }
        }
        for (one, two) in engines(1).iter().zip(&engines(3)) {
            assert_eq!(bits(&run(one, rows, false)), bits(&run(two, rows, false)), "{}", one.kernel.name);
        }
    }
}
