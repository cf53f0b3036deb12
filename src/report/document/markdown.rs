//! A report as Markdown with tables as on GitHub; figures are linked where they lie.

use super::{Block, Document, Picture, Table};

/// The whole report.
pub fn markdown(document: &Document) -> String {
    format!("# {}\n{}", escaped(&document.title), blocks(&document.blocks))
}

fn blocks(blocks: &[Block]) -> String {
    blocks.iter().map(|block| format!("\n{}\n", one(block).trim_end())).collect()
}

fn one(block: &Block) -> String {
    match block {
        Block::Heading(level, text) => format!("{} {}", "#".repeat(usize::from(*level)), escaped(text)),
        Block::Text(text) => escaped(text),
        Block::Headline(text) => format!("**{}**", escaped(text)),
        Block::List(items) => items.iter().map(|item| format!("* {}\n", escaped(item))).collect(),
        Block::Table(found) => table(found),
        Block::Picture(Picture { name, caption, .. }) => {
            format!("![{}](figures/{name}.svg)\n\n{}", escaped(name), escaped(caption))
        }
        Block::Command(text) => format!("    {text}"),
        Block::Beside(columns) => {
            columns.iter().map(|column| blocks(column)).collect::<String>().trim_start().to_string()
        }
    }
}

fn table(table: &Table) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| escaped(cell)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule: Vec<&str> = table.numbers.iter().map(|number| if *number { "---:" } else { "---" }).collect();
    let caption = if table.caption.is_empty() { String::new() } else { format!("{}\n\n", escaped(&table.caption)) };
    let rows: String = table.rows.iter().map(|row| line(row)).collect();
    format!("{caption}{}| {} |\n{rows}", line(&table.header), rule.join(" | "))
}

/// Without what Markdown would take for markup.
fn escaped(text: &str) -> String {
    let mut plain = String::new();
    for letter in text.chars() {
        if matches!(letter, '|' | '*' | '_' | '`' | '<' | '[' | ']' | '\\' | '#') {
            plain.push('\\');
        }
        plain.push(letter);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_its_markup_and_texts_are_escaped() {
        let text = markdown(&super::super::example());
        for part in [
            "# A & B\n",
            "\n## First \\<part>\n",
            "\n**Draft 7.**\n",
            "\nleft \\* 1\n",
            "\nSpeeds & more\n\n| name | γ |\n| --- | ---: |\n| a\\|b \\<c> | 7 |\n",
            "\n* one\n* two\n",
            "\n![cost-a](figures/cost-a.svg)\n\nt(b)\n",
            "\n    ridgepoint report x\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
    }
}
