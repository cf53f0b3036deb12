//! A time budget as people write it: `90s`, `5m`, `1h 30m`.

use serde::{Deserialize, Deserializer, Serializer};
use std::time::Duration;

const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Reads a budget such as `90s`, `5m` or `1h 30m`; at least one second and at most a week.
pub fn parse_budget(text: &str) -> Result<Duration, String> {
    let expected = "write a time from 1s to 168h, such as 90s, 5m or 1h 30m";
    let parsed: jiff::SignedDuration =
        text.trim().parse().map_err(|_| format!("'{text}' is not a time; {expected}"))?;
    let budget = Duration::try_from(parsed).map_err(|_| format!("'{text}' is negative; {expected}"))?;
    if budget < Duration::from_secs(1) || budget > LONGEST {
        return Err(format!("'{text}' is out of range; {expected}"));
    }
    Ok(budget)
}

/// Writes a budget in whole seconds in the form that [`parse_budget`] reads.
pub fn format_budget(budget: Duration) -> String {
    let seconds = budget.as_secs();
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let written: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if written.is_empty() { "0s".to_string() } else { written.join(" ") }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_budget(&text).map_err(serde::de::Error::custom)
}

pub(super) fn serialize<S: Serializer>(budget: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_budget(*budget))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written_back() {
        for (text, seconds) in [("90s", 90), ("2m", 120), ("1h 30m", 5400), ("1h30m", 5400), ("168h", 604_800)] {
            let budget = parse_budget(text).unwrap();
            assert_eq!(budget.as_secs(), seconds, "{text}");
            assert_eq!(parse_budget(&format_budget(budget)).unwrap(), budget);
        }
        assert_eq!(format_budget(Duration::from_secs(3661)), "1h 1m 1s");
    }

    #[test]
    fn what_is_no_budget_is_refused() {
        for text in ["", "5", "five minutes", "-5m", "0s", "10ms", "169h", "1e9h"] {
            assert!(parse_budget(text).is_err(), "{text}");
        }
    }
}
