//! Lists of shares as people write them: `0.7`, `0.5,0.8` or `0.5-0.95+0.05`.

use std::str::FromStr;

const SYNTAX: &str = "write shares from 0 to 1 such as 0.7, 0.5,0.8 or 0.5-0.95+0.05";
/// The longest list.
const MAX_VALUES: usize = 1000;

/// Shares from 0 to 1 in the order given.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shares(pub Vec<f64>);

impl FromStr for Shares {
    type Err = String;

    fn from_str(text: &str) -> Result<Shares, String> {
        let mut values = Vec::new();
        for part in text.split(',') {
            let number = |word: &str| match word.trim().parse::<f64>() {
                Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
                _ => Err(format!("'{part}' is no share; {SYNTAX}")),
            };
            let Some((first, rest)) = part.split_once('-') else {
                values.push(number(part)?);
                continue;
            };
            let (last, step) = rest.split_once('+').ok_or_else(|| format!("'{part}' has no step; {SYNTAX}"))?;
            let (first, last, step) = (number(first)?, number(last)?, number(step)?);
            let count = (last - first) / step + 1e-9;
            if !(0.0..MAX_VALUES as f64).contains(&count) {
                return Err(format!("'{part}' runs backwards or gives more than {MAX_VALUES} values; {SYNTAX}"));
            }
            // Multiples of the step without the last digits' error, which would be written out.
            values.extend((0..=count as usize).map(|n| ((first + n as f64 * step) * 1e9).round() / 1e9));
        }
        Ok(Shares(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood() {
        let values = |text: &str| text.parse::<Shares>().map(|shares| shares.0);
        assert_eq!(values("0.7").unwrap(), [0.7]);
        assert_eq!(values("0.5, 0.8").unwrap(), [0.5, 0.8]);
        let steps = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];
        assert_eq!(values("0.5-0.95+0.05").unwrap(), steps);
        for text in ["", "x", "1.5", "0.5-0.9", "0.9-0.5+0.1", "0.5-0.9+0", "0-1+0.0001", "nan"] {
            assert!(values(text).unwrap_err().contains("write shares"), "{text}");
        }
    }
}
