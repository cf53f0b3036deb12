//! What statistics refuse, by name. Checks every public function shares.

/// Result of a statistical function.
pub type Result<T> = std::result::Result<T, StatsError>;

/// Input that no honest answer can be computed from.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatsError {
    #[error("{what}: {found} given, at least {needed} needed; measure more")]
    TooFew { what: String, needed: usize, found: usize },
    #[error("{what}, entry {index}: {value} is not a finite number; remove or measure it again")]
    NotFinite { what: String, index: usize, value: f64 },
    #[error("{what}, entry {index}: {value} must be above zero; check the clock and the import")]
    NotPositive { what: String, index: usize, value: f64 },
    #[error("{what}: length {found} where {expected} is expected; only complete blocks can be compared")]
    Length { what: String, expected: usize, found: usize },
    #[error("{what}: {found} where at most {most} is possible; check the counts")]
    Beyond { what: String, found: u64, most: u64 },
    #[error("{name} = {value} is out of range: it must be {allowed}")]
    Parameter { name: &'static str, value: f64, allowed: &'static str },
    #[error("{what} is given twice; give each once")]
    Duplicate { what: String },
    #[error("{what}: all values are equal, so their spread cannot be estimated")]
    NoSpread { what: String },
}

/// At least `needed` values, all finite.
pub fn check_finite(what: &str, values: &[f64], needed: usize) -> Result<()> {
    if values.len() < needed {
        return Err(StatsError::TooFew { what: what.into(), needed, found: values.len() });
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(StatsError::NotFinite { what: what.into(), index, value: values[index] }),
        None => Ok(()),
    }
}

/// At least `needed` values, all finite and above zero (times, counts).
pub fn check_positive(what: &str, values: &[f64], needed: usize) -> Result<()> {
    check_finite(what, values, needed)?;
    match values.iter().position(|&v| v <= 0.0) {
        Some(index) => Err(StatsError::NotPositive { what: what.into(), index, value: values[index] }),
        None => Ok(()),
    }
}

/// Two samples of the same units have the same length.
pub fn check_length(what: &str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(StatsError::Length { what: what.into(), expected, found }) }
}

/// A parameter strictly between two limits.
pub fn check_between(name: &'static str, value: f64, low: f64, high: f64, allowed: &'static str) -> Result<()> {
    if value > low && value < high { Ok(()) } else { Err(StatsError::Parameter { name, value, allowed }) }
}

/// A confidence level strictly between 0 and 1.
pub fn check_confidence(confidence: f64) -> Result<()> {
    check_between("confidence", confidence, 0.0, 1.0, "between 0 and 1, for example 0.95")
}
