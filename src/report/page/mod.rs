//! The report on results folders: which sections there are, in which order, and the figures in them.
//!
//! How to add a section: one file here that adds its blocks (and figures) to the [`Page`], one line in [`page`].

mod about;
mod baselines;
mod costs;
mod decisions;
mod evidence;

pub(super) use decisions::decision_table;

#[cfg(feature = "plot")]
use super::document::Picture;
use super::document::{Block, Document, Table};
#[cfg(feature = "plot")]
use super::figure::Figure;
use super::material::Material;
use super::width::Width;

/// A report as it grows.
pub struct Page {
    pub document: Document,
    /// The figures of the document, in order.
    #[cfg(feature = "plot")]
    pub figures: Vec<Figure>,
    #[cfg_attr(not(feature = "plot"), allow(dead_code))]
    width: Width,
}

/// The whole report; `command` is what rebuilds it.
pub fn page(material: &Material, width: Width, command: &str) -> Page {
    let mut page = Page {
        document: Document { title: title(material), blocks: Vec::new() },
        #[cfg(feature = "plot")]
        figures: Vec::new(),
        width,
    };
    decisions::decisions(&mut page, material);
    decisions::regimes(&mut page, material);
    costs::costs(&mut page, material);
    evidence::throughput(&mut page, material);
    evidence::acceptance(&mut page, material);
    baselines::rooflines(&mut page, material);
    evidence::rounds(&mut page, material);
    evidence::sensitivity(&mut page, material);
    baselines::hypotheses(&mut page, material);
    about::warnings(&mut page, material);
    about::environment(&mut page, material);
    about::rebuilt(&mut page, command);
    page
}

/// Which machines the report is on.
fn title(material: &Material) -> String {
    let tunes = material.tunes.iter().chain(&material.cells).map(|folder| &folder.stamp);
    let costs = material.costs.iter().map(|folder| &folder.stamp);
    let stamps = tunes.chain(costs).chain(material.baselines.iter().map(|folder| &folder.stamp));
    let mut machines: Vec<&str> = stamps.map(|stamp| stamp.identity.machine.as_str()).collect();
    machines.sort_unstable();
    machines.dedup();
    format!("Speculative decoding on {}", machines.join(", "))
}

impl Page {
    fn add(&mut self, block: Block) {
        self.document.blocks.push(block);
    }

    fn section(&mut self, name: &str) {
        self.add(Block::Heading(2, name.to_string()));
    }

    /// Blocks side by side; one alone takes the whole width.
    fn beside(&mut self, mut columns: Vec<Vec<Block>>) {
        columns.retain(|column| !column.is_empty());
        match columns.len() {
            0 => {}
            1 => self.document.blocks.extend(columns.remove(0)),
            _ => self.add(Block::Beside(columns)),
        }
    }

    /// Keeps a figure and returns its place in the document; nothing if there is none.
    #[cfg(feature = "plot")]
    fn picture(&mut self, figure: Option<Figure>) -> Vec<Block> {
        let Some(figure) = figure else { return Vec::new() };
        let (name, caption) = (figure.name.clone(), figure.caption.clone());
        let picture = Picture { name, caption, svg: figure.inline_svg() };
        self.figures.push(figure);
        vec![Block::Picture(picture)]
    }
}

fn heading(text: impl Into<String>) -> Block {
    Block::Heading(3, text.into())
}

/// A table, or nothing if it has no rows.
fn table(table: Table) -> Vec<Block> {
    if table.is_empty() { Vec::new() } else { vec![Block::Table(table)] }
}
