//! What a measured cost says: an interval a width, cliffs and falls, the width to pad to, a fitted model, the ridge, and the
//! regime of each stretch. A curve of few widths or samples gets fewer answers, and says which are missing.

mod curve;
mod fold;
mod ridge;
mod stretches;

pub use curve::{CurveAnalysis, Settings, analyze_curves};
pub use fold::{CostDerived, derive_cost};
