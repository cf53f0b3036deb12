//! Rows of what is to be timed, timed in passes in random order, and checked against the machine's bandwidth. What is timed,
//! and with which timer, is the caller's business.

use super::Progress;
use crate::results::{CostRow, Raw, Table};
use anyhow::Result;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// One sample: seconds of a forward or proposal, or why there are none, which becomes the row's error.
pub type Sample = std::result::Result<f64, String>;

/// What times rows.
pub trait Sampler {
    /// Times a row; `taken` samples were timed before it, none are counted where it is run to warm up. An error ends the
    /// measurement.
    fn time(&mut self, row: &CostRow, taken: Option<usize>) -> Result<Sample>;

    /// Asked before each row of a pass, and before it is run to warm up.
    fn go_on(&mut self, pass: u64) -> Result<bool>;

    /// The bytes a second above which a row's time cannot be.
    fn most_bandwidth(&self, row: &CostRow) -> f64;
}

/// Passes over the same rows.
#[derive(Debug, Clone, Copy)]
pub struct Passes<'a> {
    pub rows: &'a [CostRow],
    pub passes: u64,
    /// Of the random orders.
    pub seed: u64,
}

impl Passes<'_> {
    /// How many samples `table` lacks.
    pub fn missing(&self, table: &Table<CostRow>) -> u64 {
        let lacking = |pass| self.rows.iter().filter(move |row| lacks(table, row, pass)).count() as u64;
        (0..self.passes).map(lacking).sum()
    }

    /// Runs what is not in `table` yet, each row once before its first sample, and appends a row a sample. If `sampler` does
    /// not go on, the pass that was being taken comes back.
    pub fn run(
        &self,
        table: &mut Table<CostRow>,
        sampler: &mut dyn Sampler,
        progress: &mut dyn Progress,
    ) -> Result<Option<u64>> {
        let lacking = |row: &&CostRow| (0..self.passes).any(|pass| lacks(table, row, pass));
        for row in self.rows.iter().filter(lacking) {
            if !sampler.go_on(0)? {
                return Ok(Some(0));
            }
            // A shape that fails is recorded at its turn.
            let _ = sampler.time(row, None)?;
            progress.step();
        }
        let launch = self.rows.first().map_or(0, |row| row.launch);
        let mut order = table.rows().iter().filter(|row| row.launch == launch).count() as u64;
        for pass in 0..self.passes {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(pass);
            let mut rows: Vec<CostRow> = self.rows.iter().map(|row| CostRow { pass, ..row.clone() }).collect();
            rows.shuffle(&mut rng);
            // What an earlier launch did is left out after shuffling: the rest keeps its order.
            for row in rows {
                if !lacks(table, &row, pass) {
                    continue;
                }
                if !sampler.go_on(pass)? {
                    return Ok(Some(pass));
                }
                let sample = sampler.time(&row, Some(table.rows().len()))?;
                let row = CostRow { order, ..row };
                table.append(match sample {
                    Ok(seconds) => {
                        let invalid = row.bytes as f64 / seconds > sampler.most_bandwidth(&row);
                        CostRow { time_ms: Some(1e3 * seconds), invalid, ..row }
                    }
                    Err(error) => CostRow { error, ..row },
                })?;
                order += 1;
                progress.step();
            }
        }
        Ok(None)
    }
}

fn lacks(table: &Table<CostRow>, row: &CostRow, pass: u64) -> bool {
    !table.contains(&CostRow { pass, ..row.clone() }.key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Identity, ResultsDir};

    /// Takes what `time` says, and goes on `left` times.
    struct Scripted<T> {
        time: T,
        left: usize,
        most_bandwidth: f64,
        timed: Vec<u64>,
    }

    impl<T: Fn(u64) -> Sample> Scripted<T> {
        fn new(time: T) -> Self {
            Scripted { time, left: usize::MAX, most_bandwidth: f64::INFINITY, timed: Vec::new() }
        }
    }

    impl<T: Fn(u64) -> Sample> Sampler for Scripted<T> {
        fn time(&mut self, row: &CostRow, _: Option<usize>) -> Result<Sample> {
            self.timed.push(row.width);
            Ok((self.time)(row.width))
        }

        fn go_on(&mut self, _: u64) -> Result<bool> {
            self.left = self.left.saturating_sub(1);
            Ok(self.left > 0)
        }

        fn most_bandwidth(&self, _: &CostRow) -> f64 {
            self.most_bandwidth
        }
    }

    fn rows(bytes: u64) -> Vec<CostRow> {
        (1..=4).map(|width| CostRow { width, bytes, ..CostRow::default() }).collect()
    }

    fn table() -> (tempfile::TempDir, Table<CostRow>) {
        let folder = tempfile::tempdir().unwrap();
        let results = ResultsDir::open(folder.path(), &Identity::default(), &()).unwrap();
        (folder, results.table().unwrap())
    }

    #[test]
    fn every_pass_has_every_row_once_in_an_order_of_its_own() {
        let (_folder, mut table) = table();
        let rows = rows(0);
        let passes = Passes { rows: &rows, passes: 5, seed: 1 };
        assert_eq!(passes.missing(&table), 20);
        let mut sampler = Scripted::new(|width| Ok(width as f64));
        assert_eq!(passes.run(&mut table, &mut sampler, &mut ()).unwrap(), None);
        assert_eq!((sampler.timed.len(), passes.missing(&table)), (24, 0));
        assert_eq!(sampler.timed[..4], [1, 2, 3, 4], "warmed up first");
        let orders: Vec<Vec<u64>> =
            table.rows().chunks(4).map(|pass| pass.iter().map(|row| row.width).collect()).collect();
        assert!(orders.iter().any(|order| *order != orders[0]), "{orders:?}");
        for (pass, order) in orders.iter().enumerate() {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [1, 2, 3, 4], "pass {pass}");
        }
        assert!(table.rows().iter().all(|row| row.time_ms == Some(1e3 * row.width as f64)));
    }

    #[test]
    fn what_moves_more_than_the_machine_can_is_marked_and_what_fails_is_a_row() {
        let (_folder, mut table) = table();
        let rows = rows(11);
        let passes = Passes { rows: &rows, passes: 1, seed: 1 };
        let mut sampler = Scripted::new(|width| match width {
            1 => Ok(10.0),
            2 => Ok(9.9),
            _ => Err("no\nmemory".to_string()),
        });
        sampler.most_bandwidth = 1.1;
        passes.run(&mut table, &mut sampler, &mut ()).unwrap();
        let of_width = |width| table.rows().iter().find(|row| row.width == width).unwrap();
        assert_eq!((of_width(1).invalid, of_width(2).invalid), (false, true));
        assert_eq!((of_width(3).time_ms, of_width(3).error.as_str()), (None, "no\nmemory"));
    }

    #[test]
    fn a_stop_between_samples_is_gone_on_from_without_repeats_in_the_same_order() {
        let (_folder, mut table) = table();
        let rows = rows(0);
        let passes = Passes { rows: &rows, passes: 3, seed: 1 };
        let whole = {
            let (_folder, mut table) = self::table();
            passes.run(&mut table, &mut Scripted::new(|_| Ok(1.0)), &mut ()).unwrap();
            table.rows().iter().map(|row| (row.pass, row.width)).collect::<Vec<_>>()
        };
        let mut sampler = Scripted::new(|_| Ok(1.0));
        sampler.left = 4 + 6 + 1;
        assert_eq!(passes.run(&mut table, &mut sampler, &mut ()).unwrap(), Some(1));
        assert_eq!((table.rows().len(), passes.missing(&table)), (6, 6));
        assert_eq!(passes.run(&mut table, &mut Scripted::new(|_| Ok(1.0)), &mut ()).unwrap(), None);
        assert_eq!(table.rows().iter().map(|row| (row.pass, row.width)).collect::<Vec<_>>(), whole);
    }
}
