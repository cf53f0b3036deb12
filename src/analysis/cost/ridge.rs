//! The ridge of a curve: where its FLOPs take as long as its bytes.

use crate::roofline::Ceilings;
use crate::scenario::MachineFile;

/// What a data sheet says of a machine for products in one type.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SpecSheet {
    pub bandwidth_bytes_per_s: Option<f64>,
    pub matrix_flops_per_s: Option<f64>,
}

impl SpecSheet {
    pub fn of(machine: Option<&MachineFile>, precision: &str) -> SpecSheet {
        SpecSheet {
            bandwidth_bytes_per_s: machine.and_then(MachineFile::bandwidth_bytes_per_s),
            matrix_flops_per_s: machine.and_then(|machine| machine.matrix_flops_per_s(precision)),
        }
    }

    /// Both, if the sheet has both.
    pub fn ceilings(self) -> Option<Ceilings> {
        let SpecSheet { bandwidth_bytes_per_s, matrix_flops_per_s } = self;
        Some(Ceilings {
            bandwidth_bytes_per_s: bandwidth_bytes_per_s?,
            read_bytes_per_s: None,
            matrix_flops_per_s: matrix_flops_per_s?,
        })
    }
}

/// The width at which the FLOPs take as long as the bytes, linear between measured widths (bytes are linear in the width, FLOPs
/// almost); the narrowest if it is beyond the ridge already, none if the widest is not. `points` are (width, bytes, FLOPs),
/// ascending widths.
pub fn ridge_width(ceilings: &Ceilings, points: &[(u64, u64, f64)]) -> Option<f64> {
    // Seconds by which computing takes longer than moving.
    let excess = |&(width, bytes, flops): &(u64, u64, f64)| {
        (width as f64, flops / ceilings.matrix_flops_per_s - ceilings.memory_s(bytes))
    };
    let points: Vec<(f64, f64)> = points.iter().filter(|point| point.1 > 0 && point.2 > 0.0).map(excess).collect();
    let at = points.iter().position(|(_, excess)| *excess >= 0.0)?;
    let (width, above) = points[at];
    let Some(&(before, below)) = at.checked_sub(1).and_then(|before| points.get(before)) else { return Some(width) };
    Some(before + (width - before) * below / (below - above))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights of 1000 bytes and 500 FLOPs a token: at 10 bytes and 200 FLOPs a second, 100 s against 2.5 s a token.
    #[test]
    fn the_ridge_lies_where_both_take_as_long() {
        let ceilings = Ceilings { bandwidth_bytes_per_s: 10.0, read_bytes_per_s: None, matrix_flops_per_s: 200.0 };
        let points =
            |widths: &[u64]| widths.iter().map(|width| (*width, 1000, 500.0 * *width as f64)).collect::<Vec<_>>();
        assert_eq!(ridge_width(&ceilings, &points(&[1, 32, 64])), Some(40.0));
        assert_eq!(ridge_width(&ceilings, &points(&[40, 64])), Some(40.0));
        assert_eq!(ridge_width(&ceilings, &points(&[50, 64])), Some(50.0));
        assert_eq!(ridge_width(&ceilings, &points(&[1, 39])), None);
        assert_eq!(ridge_width(&ceilings, &[(1, 0, 0.0), (64, 0, 0.0)]), None);
    }

    #[test]
    fn a_sheet_without_a_rate_has_no_ridge() {
        assert_eq!(SpecSheet { bandwidth_bytes_per_s: Some(1.0), ..SpecSheet::default() }.ceilings(), None);
        assert_eq!(SpecSheet::of(None, "float32"), SpecSheet::default());
    }
}
