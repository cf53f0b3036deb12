//! The widths that verifications run at.

use super::curve::CostCurve;

/// For each width the one to run it at: a wider one where that is cheaper. Without any every width runs as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Padding {
    /// By width less one.
    to: Vec<usize>,
}

impl Padding {
    /// By a measured curve, for widths up to `widest`.
    pub fn of(curve: &CostCurve, widest: usize) -> Padding {
        Padding { to: (1..=widest).map(|width| curve.padded(width)).collect() }
    }

    /// The width that a forward of `width` tokens runs at.
    pub fn width(&self, width: usize) -> usize {
        self.to.get(width.wrapping_sub(1)).copied().unwrap_or(width)
    }

    /// The most tokens that any forward up to `width` wide is padded with.
    pub fn most(&self, width: usize) -> usize {
        (1..=width).map(|width| self.width(width) - width).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_follow_the_curve_and_stay_without_one() {
        let curve = CostCurve::from_samples([(1, 1.0), (2, 3.0), (3, 4.0), (4, 2.0)]).unwrap();
        let padding = Padding::of(&curve, 4);
        assert_eq!([1, 2, 3, 4, 5].map(|width| padding.width(width)), [1, 4, 4, 4, 5]);
        assert_eq!((padding.most(1), padding.most(4)), (0, 2));
        assert_eq!((Padding::default().width(3), Padding::default().most(9)), (3, 0));
    }
}
