//! How wide a figure is on paper.

/// A width on paper, in points (1/72 inch).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Width {
    pub points: f64,
}

impl Width {
    /// As declared: `3.25in`, `8.25cm`, `82mm` or `234pt`.
    ///
    /// # Errors
    /// Another unit, or a width that no figure can have: below 2 or above 20 inches.
    pub fn parse(text: &str) -> Result<Width, String> {
        let text = text.trim();
        let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
        let points = match unit {
            "in" => 72.0,
            "cm" => 72.0 / 2.54,
            "mm" => 7.2 / 2.54,
            "pt" => 1.0,
            _ => return Err(format!("'{text}' is no width; write it as 3.25in, 8.25cm, 82mm or 234pt")),
        };
        let number: f64 = number.trim().parse().map_err(|_| format!("'{text}' is no width; write it as 3.25in"))?;
        let width = Width { points: number * points };
        if !(2.0..=20.0).contains(&(width.points / 72.0)) {
            return Err(format!("'{text}' must be from 2in to 20in; one column is about 3.25in, two are 6.75in"));
        }
        Ok(width)
    }

    pub fn inches(self) -> f64 {
        self.points / 72.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_come_in_four_units() {
        for (text, points) in [("3.25in", 234.0), ("234pt", 234.0), ("25.4 cm", 720.0), ("254mm", 720.0)] {
            assert!((Width::parse(text).unwrap().points - points).abs() < 1e-9, "{text}");
        }
        for text in ["3.25", "3.25px", "in", "0.5in", "30in", "NaNin", ""] {
            assert!(Width::parse(text).is_err(), "{text}");
        }
    }
}
