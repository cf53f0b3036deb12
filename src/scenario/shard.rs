//! A part of a sweep: `2/4` is every fourth cell from the second on, so that parts take about as long.

use std::fmt;
use std::str::FromStr;

/// The most parts.
const MAX_SHARDS: usize = 10_000;

/// Which part, from 1, of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    pub index: usize,
    pub of: usize,
}

impl Shard {
    /// The cells of this part. The parts of one plan are disjoint and together the plan.
    pub fn of<T>(self, cells: Vec<T>) -> Vec<T> {
        cells.into_iter().skip(self.index - 1).step_by(self.of).collect()
    }

    /// What a part's folder is named in addition.
    pub fn suffix(self) -> String {
        format!("-shard-{}-of-{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|number| (1..=MAX_SHARDS).contains(number));
        let parts = text.split_once('/').and_then(|(index, of)| Some((number(index)?, number(of)?)));
        match parts {
            Some((index, of)) if index <= of => Ok(Shard { index, of }),
            _ => Err(format!("'{text}' is no part; write 1/4 to 4/4 for the four parts of four")),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_part_is_read_and_written_back() {
        let shard: Shard = "2/4".parse().unwrap();
        assert_eq!(
            (shard.index, shard.of, shard.to_string().as_str(), &*shard.suffix()),
            (2, 4, "2/4", "-shard-2-of-4")
        );
        assert_eq!(shard.of(vec![1, 2, 3, 4, 5, 6, 7]), [2, 6]);
        for text in ["", "1", "0/4", "5/4", "1/0", "a/b", "1/4/2", "-1/4", "1/99999999999"] {
            assert!(text.parse::<Shard>().unwrap_err().contains("write 1/4"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parts_are_disjoint_and_together_the_plan(cells in 0..60usize, of in 1..12usize) {
            let plan: Vec<usize> = (0..cells).collect();
            let mut together: Vec<usize> = (1..=of).flat_map(|index| Shard { index, of }.of(plan.clone())).collect();
            together.sort_unstable();
            prop_assert_eq!(together, plan);
        }
    }
}
