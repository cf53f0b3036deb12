//! Sets of positive integers as people write them: `1,2,4`, `1-8`, `1-17+4` (step) and `1-128*2` (factor).

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest list that a range may expand to.
const MAX_VALUES: usize = 4096;

const SYNTAX: &str = "a range such as 5, 1-8, 1-17+4 or 1-128*2, or several of them separated by commas";

/// A set of integers, ascending and without repeats.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Range(Vec<usize>);

impl Range {
    /// The values, ascending.
    pub fn values(&self) -> &[usize] {
        &self.0
    }

    /// The set with one more value.
    pub fn with(mut self, value: usize) -> Range {
        if let Err(place) = self.0.binary_search(&value) {
            self.0.insert(place, value);
        }
        self
    }

    fn from_values(mut values: Vec<usize>) -> Range {
        values.sort_unstable();
        values.dedup();
        Range(values)
    }
}

/// Appends the values of one part: `a`, `a-b`, `a-b+s` or `a-b*m`, ends included.
fn expand(part: &str, values: &mut Vec<usize>) -> Result<(), String> {
    let number = |text: &str| match text.trim().parse::<u32>() {
        Ok(value) => Ok(value as usize),
        Err(_) => Err(format!("'{part}' is not a range; write {SYNTAX}")),
    };
    let Some((first, rest)) = part.split_once('-') else {
        values.push(number(part)?);
        return Ok(());
    };
    let (last, step, factor) = match (rest.split_once('+'), rest.split_once('*')) {
        (Some((last, step)), _) => (last, number(step)?, 1),
        (None, Some((last, factor))) => (last, 0, number(factor)?),
        (None, None) => (rest, 1, 1),
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("'{part}' runs backwards; write the smaller end first"));
    }
    let mut value = first;
    while value <= last {
        if values.len() >= MAX_VALUES {
            return Err(format!("'{part}' gives more than {MAX_VALUES} values; use a larger step"));
        }
        values.push(value);
        let next = value.saturating_mul(factor).saturating_add(step);
        if next <= value {
            return Err(format!(
                "'{part}' never ends; use a step of at least 1 or a factor of at least 2 from at least 1"
            ));
        }
        value = next;
    }
    Ok(())
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Range, String> {
        let mut values = Vec::new();
        for part in text.split(',') {
            expand(part.trim(), &mut values)?;
        }
        Ok(Range::from_values(values))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&parts.join(","))
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Range, D::Error> {
        deserializer.deserialize_any(RangeVisitor)
    }
}

struct RangeVisitor;

impl<'de> Visitor<'de> for RangeVisitor {
    type Value = Range;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SYNTAX}, as a string, a number or an array of both")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Range, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Range, E> {
        value.to_string().parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Range, E> {
        value.to_string().parse().map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Range, A::Error> {
        let mut values = Vec::new();
        while let Some(part) = seq.next_element::<Range>()? {
            values.extend(part.0);
        }
        Ok(Range::from_values(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Result<Vec<usize>, String> {
        text.parse::<Range>().map(|range| range.0)
    }

    #[test]
    fn every_form_is_understood() {
        assert_eq!(values("5").unwrap(), [5]);
        assert_eq!(values("1,2,4").unwrap(), [1, 2, 4]);
        assert_eq!(values("3-6").unwrap(), [3, 4, 5, 6]);
        assert_eq!(values("1-17+4").unwrap(), [1, 5, 9, 13, 17]);
        assert_eq!(values("1-16+4").unwrap(), [1, 5, 9, 13]);
        assert_eq!(values("1-128*2").unwrap(), [1, 2, 4, 8, 16, 32, 64, 128]);
        assert_eq!(values("3-20*3").unwrap(), [3, 9]);
        assert_eq!(values("0-2").unwrap(), [0, 1, 2]);
        assert_eq!(values("7-7").unwrap(), [7]);
    }

    #[test]
    fn parts_are_merged_sorted_and_deduplicated() {
        assert_eq!(values(" 8, 1-4 ,2-4+2, 16 - 32 * 2").unwrap(), [1, 2, 3, 4, 8, 16, 32]);
        assert_eq!("2,5".parse::<Range>().unwrap().with(0).with(5).with(9).values(), [0, 2, 5, 9]);
    }

    #[test]
    fn what_is_no_range_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "is not a range"),
            ("1,", "is not a range"),
            ("-3", "is not a range"),
            ("a-b", "is not a range"),
            ("1.5", "is not a range"),
            ("1-8+2*2", "is not a range"),
            ("8-1", "runs backwards"),
            ("1-8+0", "never ends"),
            ("1-8*1", "never ends"),
            ("0-8*2", "never ends"),
            ("1-99999999", "more than 4096"),
        ] {
            let error = values(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert_eq!(values("4294967295-4294967295*4294967295").unwrap(), [4294967295]);
        assert!(values("4294967296").unwrap_err().contains("is not a range"));
    }

    #[test]
    fn toml_takes_strings_numbers_and_arrays_of_both() {
        #[derive(serde::Deserialize)]
        struct File {
            widths: Range,
        }
        let read = |text: &str| toml::from_str::<File>(text).map(|file| file.widths.0);
        assert_eq!(read("widths = \"1-3\"").unwrap(), [1, 2, 3]);
        assert_eq!(read("widths = 4").unwrap(), [4]);
        assert_eq!(read("widths = [1, \"4-8+2\", 2]").unwrap(), [1, 2, 4, 6, 8]);
        assert!(read("widths = [1, -2]").is_err());
        assert!(read("widths = true").unwrap_err().to_string().contains("a range such as"));
    }
}
