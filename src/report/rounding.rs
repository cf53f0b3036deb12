//! Numbers rounded by their uncertainty, so that no digit is printed that the data do not support.

/// A value and its interval with as many decimals as leave two significant digits of half the interval's width; the ends are
/// rounded outwards, so that the interval covers no less. Without an interval three significant digits of the value.
pub fn rounded(value: f64, low: Option<f64>, high: Option<f64>) -> (String, String) {
    match (low, high) {
        (Some(low), Some(high)) if high > low => {
            let half = (high - low) / 2.0;
            let place = 1 - half.log10().floor() as i32;
            let outwards = |end: f64, round: fn(f64) -> f64, slack: f64| {
                let unit = 10f64.powi(-place);
                at(round(end / unit + slack) * unit, place)
            };
            (at(value, place), format!("{} to {}", outwards(low, f64::floor, 1e-9), outwards(high, f64::ceil, -1e-9)))
        }
        _ => (significant(value), String::new()),
    }
}

/// Three significant digits; all before the point.
pub fn significant(value: f64) -> String {
    let place = if value == 0.0 || !value.is_finite() { 0 } else { 2 - value.abs().log10().floor() as i32 };
    at(value, place.max(0))
}

/// Rounded to the decimal place: 1 is tenths, -1 tens.
fn at(value: f64, place: i32) -> String {
    if place >= 0 {
        return format!("{value:.*}", place.min(9) as usize);
    }
    let unit = 10f64.powi(-place);
    format!("{:.0}", (value / unit).round() * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits_of_the_uncertainty_are_kept() {
        let of = |value, low, high| rounded(value, Some(low), Some(high));
        assert_eq!(of(1.50148, 1.21816, 2.03034), ("1.50".to_string(), "1.21 to 2.04".to_string()));
        assert_eq!(of(0.824576, 0.813829, 0.838620), ("0.825".to_string(), "0.813 to 0.839".to_string()));
        assert_eq!(of(12345.6, 11000.0, 13000.0), ("12300".to_string(), "11000 to 13000".to_string()));
        assert_eq!(of(1.169, 0.9959, 1.394), ("1.17".to_string(), "0.99 to 1.40".to_string()));
        assert_eq!(of(57.256, 50.0, 70.0), ("57".to_string(), "50 to 70".to_string()));
    }

    #[test]
    fn without_an_interval_three_digits_are() {
        assert_eq!(rounded(1.23456, None, Some(2.0)), ("1.23".to_string(), String::new()));
        assert_eq!(rounded(2.0, Some(2.0), Some(2.0)), ("2.00".to_string(), String::new()));
        assert_eq!([0.0, 1234.5, 0.012345].map(significant), ["0", "1234", "0.0123"]);
    }
}
