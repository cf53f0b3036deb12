//! A figure in the formats that papers and pages take.

use super::Width;
use super::dashes::in_pieces;
use super::data::Data;
use super::style::{GRID, INK};
use anyhow::{Context, Result, anyhow};
use kuva::backend::pdf::{PageSize, PdfBackend};
use kuva::backend::png::PngBackend;
use kuva::backend::svg::SvgBackend;
use kuva::render::render::Scene;
use std::path::Path;

/// Dots an inch of PNG files.
const DOTS_PER_INCH: f64 = 300.0;

/// A drawing with its data.
pub struct Figure {
    /// The name of its files, without ending.
    pub name: String,
    /// What it shows, so that it can be read without the text around it.
    pub caption: String,
    pub data: Data,
    width: Width,
    scene: Scene,
}

impl Figure {
    pub fn new(name: String, caption: String, data: Data, width: Width, scene: Scene) -> Figure {
        Figure { name, caption, data, width, scene }
    }

    /// For a file: of its width on paper, on white.
    pub fn svg(&self) -> String {
        let (wide, high) = (self.scene.width, self.scene.height);
        let (width, height) = (self.width.inches(), self.width.inches() * high / wide);
        sized(&self.drawn(), &format!("width=\"{width:.4}in\" height=\"{height:.4}in\" viewBox=\"0 0 {wide} {high}\""))
    }

    /// For a page: as wide as there is room, on its ground, in the colour of its text.
    pub fn inline_svg(&self) -> String {
        let (wide, high) = (self.scene.width, self.scene.height);
        let svg = sized(&self.drawn(), &format!("viewBox=\"0 0 {wide} {high}\" role=\"img\""));
        let svg = svg.replace("<rect width=\"100%\" height=\"100%\" fill=\"white\" />", "");
        let svg = svg
            .replace("fill=\"black\"", "fill=\"currentColor\"")
            .replace("stroke=\"black\"", "stroke=\"currentColor\"");
        let svg = svg.replace(&format!("\"{INK}\""), "\"currentColor\"");
        svg.replace(&format!("stroke=\"{GRID}\""), "class=\"grid\"")
    }

    /// With text as text, in an embedded font.
    pub fn pdf(&self) -> Result<Vec<u8>> {
        let points = self.width.points;
        let page = PageSize::points(points, points * self.scene.height / self.scene.width);
        let drawn = PdfBackend::new().with_page_size(page).render_scenes(std::slice::from_ref(&self.scene));
        drawn.map_err(|error| anyhow!("{}.pdf: {error}", self.name))
    }

    /// At 300 dots an inch.
    pub fn png(&self) -> Result<Vec<u8>> {
        let scale = DOTS_PER_INCH * self.width.inches() / self.scene.width;
        let drawn = PngBackend::new().with_scale(scale as f32).render_scene(&in_pieces(&self.scene));
        drawn.map_err(|error| anyhow!("{}.png: {error}", self.name))
    }

    /// Writes `NAME.svg`, `.pdf`, `.png` and `.csv` into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let Figure { name, .. } = self;
        let files = [
            ("svg", self.svg().into_bytes()),
            ("pdf", self.pdf()?),
            ("png", self.png()?),
            ("csv", self.data.csv().into_bytes()),
        ];
        for (ending, bytes) in files {
            let file = folder.join(format!("{name}.{ending}"));
            std::fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }

    fn drawn(&self) -> String {
        renumbered(&SvgBackend.render_scene(&self.scene), &self.name)
    }
}

/// A drawing whose root element has another size.
fn sized(svg: &str, size: &str) -> String {
    let Some((start, rest)) = svg.split_once(" width=\"") else { return svg.to_string() };
    let end = rest.split_once(" height=\"").and_then(|(_, rest)| rest.split_once('"')).map_or("", |(_, rest)| rest);
    format!("{start} {size}{end}")
}

/// A drawing with its clip paths numbered from 0 and named after it: the library numbers them through the whole process, and
/// a page holds several drawings.
pub fn renumbered(svg: &str, name: &str) -> String {
    const NAME: &str = "kuva-clip-";
    let mut parts = svg.split(NAME);
    let mut text = parts.next().unwrap_or_default().to_string();
    let mut seen: Vec<&str> = Vec::new();
    for part in parts {
        let (number, rest) = part.split_at(part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len()));
        let place = seen.iter().position(|other| *other == number).unwrap_or_else(|| {
            seen.push(number);
            seen.len() - 1
        });
        text += &format!("{name}-clip-{place}{rest}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clip_paths_are_numbered_within_a_figure() {
        let svg = "<a id=\"kuva-clip-12\"/><b id=\"kuva-clip-7\"/><c clip=\"kuva-clip-12\"/>";
        assert_eq!(renumbered(svg, "x"), "<a id=\"x-clip-0\"/><b id=\"x-clip-1\"/><c clip=\"x-clip-0\"/>");
    }

    #[test]
    fn the_root_gets_a_size_on_paper() {
        let svg = "<svg xmlns=\"x\" width=\"468\" height=\"300\" fill=\"black\"><rect width=\"9\"/></svg>";
        assert_eq!(
            sized(svg, "width=\"3in\""),
            "<svg xmlns=\"x\" width=\"3in\" fill=\"black\"><rect width=\"9\"/></svg>"
        );
    }
}
