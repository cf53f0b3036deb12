//! Figures for papers: from rows to a drawing and the data that it is drawn from, in one style and at a paper's width.
//!
//! How to add one: one file here with a function from rows to a [`Figure`], one `pub use` here, one line in
//! `src/report/page/` where it belongs.

mod acceptance;
mod cost;
mod dashes;
mod data;
mod files;
mod regimes;
mod roofline;
mod round;
mod speedup;
pub(super) mod style;
mod throughput;

pub use acceptance::acceptance_figure;
pub use cost::relative_cost_figure;
pub use files::Figure;
pub(super) use files::renumbered;
pub use regimes::{regime_figure, regime_map_figure};
pub use roofline::roofline_figure;
pub use round::round_figure;
pub use speedup::speedup_figure;
pub use throughput::throughput_figure;

use super::width::Width;
