//! Sums of rows of a matrix, over and over, as a bootstrap takes them.

use std::iter;

use multiversion::multiversion;

/// A matrix whose rows are added up, each filled up with zeros to whole vectors.
pub(super) struct Rows {
    values: Vec<f64>,
    width: usize,
}

impl Rows {
    pub fn new<T>(rows: &[Vec<T>], value: impl Fn(&T) -> f64) -> Self {
        let width = rows[0].len().next_multiple_of(VECTOR);
        let filled = |row: &Vec<T>| row.iter().map(&value).chain(iter::repeat(0.0)).take(width).collect::<Vec<_>>();
        Rows { values: rows.iter().flat_map(filled).collect(), width }
    }

    /// The sum of the rows `chosen`.
    pub fn sums(&self, chosen: &[usize]) -> Vec<f64> {
        let mut sums = vec![0.0; self.width];
        sum_rows(&self.values, self.width, chosen, &mut sums);
        sums
    }
}

/// Columns of a vector.
const VECTOR: usize = 4;

/// Adds up the rows `chosen` of a matrix of `width` columns, a multiple of [`VECTOR`].
#[multiversion(targets("x86_64+avx2"))]
fn sum_rows(values: &[f64], width: usize, chosen: &[usize], sums: &mut [f64]) {
    let mut at = 0;
    while at < width {
        let columns = (values, width, at);
        // As many sums as registers hold: none is written before all rows have gone by.
        at += match width - at {
            24.. => sum_columns::<24>(columns, chosen, sums),
            20 => sum_columns::<20>(columns, chosen, sums),
            16 => sum_columns::<16>(columns, chosen, sums),
            12 => sum_columns::<12>(columns, chosen, sums),
            8 => sum_columns::<8>(columns, chosen, sums),
            _ => sum_columns::<VECTOR>(columns, chosen, sums),
        };
    }
}

/// The sums of `N` columns; how many they are.
#[inline(always)]
fn sum_columns<const N: usize>(
    (values, width, at): (&[f64], usize, usize),
    chosen: &[usize],
    sums: &mut [f64],
) -> usize {
    let mut own = [0.0; N];
    for row in chosen {
        let values: &[f64; N] = values[row * width + at..][..N].try_into().expect("a slice of that length");
        for column in 0..N {
            own[column] += values[column];
        }
    }
    sums[at..at + N].copy_from_slice(&own);
    N
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_each_column_in_the_order_of_the_rows() {
        for width in [1, 4, 17, 24, 25, 61] {
            let rows: Vec<Vec<f64>> =
                (0..9).map(|row| (0..width).map(|at| 1.0 / (1 + row * width + at) as f64).collect()).collect();
            let chosen = [3, 0, 8, 8, 1];
            let sums = Rows::new(&rows, |value| *value).sums(&chosen);
            for at in 0..width {
                assert_eq!(sums[at], chosen.iter().fold(0.0, |sum, row| sum + rows[*row][at]), "{at} of {width}");
            }
        }
    }
}
