//! `cells.csv`: what became of the cells of a sweep.

use super::rows::one_line;
use super::wire::{Raw, Wire};
use serde::{Deserialize, Serialize};

/// What became of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellState {
    #[default]
    Done,
    Failed,
}

/// `cells.csv`: one attempt at a cell of a sweep.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CellRow {
    /// The cell's name, which is its folder beside this file.
    pub cell: String,
    /// Which attempt, from 0.
    pub attempt: u64,
    pub target: String,
    pub drafter: String,
    /// As asked for.
    pub precision: String,
    /// Tokens in the cache that were asked for; empty if that follows from the prompts.
    pub context: Option<u64>,
    pub batch: u64,
    pub state: CellState,
    /// Seconds that the attempt took in the launch that ended it; of a simulated cell those of all its timings.
    pub seconds: f64,
    /// Why it failed; empty if it did not.
    #[serde(serialize_with = "one_line")]
    pub error: String,
}

impl Wire for CellRow {
    const FILE: &'static str = "cells.csv";
}

impl Raw for CellRow {
    type Key = (String, u64);
    fn key(&self) -> Self::Key {
        (self.cell.clone(), self.attempt)
    }
}

/// What is still to be done of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    /// The number of the attempt.
    Attempt(u64),
    Done,
    /// Failed, and not to be tried again.
    Failed,
}

/// What is to be done of a cell, given the attempts at it so far.
pub fn pending(cell: &str, rows: &[CellRow], retry: bool) -> Pending {
    let attempts = rows.iter().filter(|row| row.cell == cell);
    match attempts.max_by_key(|row| row.attempt) {
        None => Pending::Attempt(0),
        Some(last) if last.state == CellState::Done => Pending::Done,
        Some(last) if retry => Pending::Attempt(last.attempt + 1),
        Some(_) => Pending::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pending_follows_from_the_last_attempt() {
        let row = |attempt: u64, state: CellState| CellRow { cell: "a".into(), attempt, state, ..CellRow::default() };
        assert_eq!(pending("a", &[], false), Pending::Attempt(0));
        let failed = [row(0, CellState::Failed)];
        assert_eq!((pending("a", &failed, false), pending("a", &failed, true)), (Pending::Failed, Pending::Attempt(1)));
        assert_eq!(pending("b", &failed, false), Pending::Attempt(0));
        let mended = [row(0, CellState::Failed), row(1, CellState::Done)];
        assert_eq!(pending("a", &mended, true), Pending::Done);
    }
}
