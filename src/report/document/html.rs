//! A report as one HTML file: no scripts, nothing from the network, for light and dark screens and for paper.

use super::{Block, Document, Picture, Table};

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub fn html(document: &Document) -> String {
    let Document { title, blocks: content } = document;
    let title = escaped(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>{title}</h1>\n{}{}</main>\n</body>\n</html>\n",
        contents(content),
        blocks(content)
    )
}

/// Links to the sections.
fn contents(blocks: &[Block]) -> String {
    let section = |block: &Block| match block {
        Block::Heading(2, text) => Some(format!("<a href=\"#{}\">{}</a>\n", anchor(text), escaped(text))),
        _ => None,
    };
    format!("<nav>\n{}</nav>\n", blocks.iter().filter_map(section).collect::<String>())
}

fn blocks(blocks: &[Block]) -> String {
    blocks.iter().map(one).collect()
}

fn one(block: &Block) -> String {
    match block {
        Block::Heading(2, text) => format!("<h2 id=\"{}\">{}</h2>\n", anchor(text), escaped(text)),
        Block::Heading(level, text) => format!("<h{level}>{}</h{level}>\n", escaped(text)),
        Block::Text(text) => format!("<p>{}</p>\n", escaped(text)),
        Block::Headline(text) => format!("<p class=\"headline\">{}</p>\n", escaped(text)),
        Block::List(items) => {
            let items: String = items.iter().map(|item| format!("<li>{}</li>\n", escaped(item))).collect();
            format!("<ul>\n{items}</ul>\n")
        }
        Block::Table(found) => table(found),
        Block::Picture(Picture { name, caption, svg }) => {
            let label = escaped(name);
            format!("<figure id=\"figure-{label}\">\n{svg}\n<figcaption>{}</figcaption>\n</figure>\n", escaped(caption))
        }
        Block::Command(text) => format!("<pre><code>{}</code></pre>\n", escaped(text)),
        Block::Beside(columns) => {
            let columns: String =
                columns.iter().map(|column| format!("<section>\n{}</section>\n", blocks(column))).collect();
            format!("<div class=\"beside\">\n{columns}</div>\n")
        }
    }
}

fn table(table: &Table) -> String {
    let row = |cells: &[String], tag: &str| {
        let cell = |(text, number): (&String, &bool)| {
            let class = if *number { " class=\"number\"" } else { "" };
            format!("<{tag}{class}>{}</{tag}>", escaped(text))
        };
        let cells: String = cells.iter().zip(&table.numbers).map(cell).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let caption = if table.caption.is_empty() {
        String::new()
    } else {
        format!("<caption>{}</caption>\n", escaped(&table.caption))
    };
    let rows: String = table.rows.iter().map(|cells| row(cells, "td")).collect();
    format!(
        "<div class=\"table\"><table>\n{caption}<thead>\n{}</thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n",
        row(&table.header, "th")
    )
}

/// A heading's place in the page.
fn anchor(heading: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    heading.chars().map(letter).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_its_element_and_texts_are_escaped() {
        let text = html(&super::super::example());
        for part in [
            "<title>A &amp; B</title>",
            "<a href=\"#first--part-\">First &lt;part&gt;</a>",
            "<h2 id=\"first--part-\">First &lt;part&gt;</h2>",
            "<p class=\"headline\">Draft 7.</p>",
            "<div class=\"beside\">\n<section>\n<p>left * 1</p>",
            "<caption>Speeds &amp; more</caption>",
            "<tr><td>a|b &lt;c&gt;</td><td class=\"number\">7</td></tr>",
            "<li>two</li>",
            "<figure id=\"figure-cost-a\">\n<svg><g/></svg>\n<figcaption>t(b)</figcaption>",
            "<pre><code>ridgepoint report x</code></pre>",
            "prefers-color-scheme: dark",
            "@media print",
        ] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
        assert!(!text.contains("<script") && !text.contains("http"));
    }
}
