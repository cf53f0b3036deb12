//! LaTeX: tables for `booktabs`, and macros for numbers, so that a paper never retypes one.

use super::Table;
use std::collections::BTreeMap;

/// A `tabular`; the document needs `\usepackage{booktabs}`.
pub fn booktabs(table: &Table) -> String {
    let columns: String = table.numbers.iter().map(|number| if *number { 'r' } else { 'l' }).collect();
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| escaped(cell)).collect();
        format!("  {} \\\\\n", cells.join(" & "))
    };
    let rows: String = table.rows.iter().map(|row| line(row)).collect();
    let caption = if table.caption.is_empty() { String::new() } else { format!("% {}\n", table.caption) };
    format!(
        "{caption}\\begin{{tabular}}{{{columns}}}\n  \\toprule\n{}  \\midrule\n{rows}  \\bottomrule\n\\end{{tabular}}\n",
        line(&table.header)
    )
}

/// Macros by name, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Macros(BTreeMap<String, (String, String)>);

impl Macros {
    /// Defines `\rp<Of><What>` as `value`. Of two of one name the second is told apart by a letter.
    pub fn define(&mut self, of: &str, what: &str, value: &str, meaning: &str) {
        let name = format!("rp{}{}", letters(of), letters(what));
        let others =
            self.0.keys().filter(|other| other.strip_prefix(&name).is_some_and(|rest| rest.len() <= 1)).count();
        let apart = if others == 0 { String::new() } else { char::from(b'A' + others as u8 % 26).to_string() };
        self.0.insert(name + &apart, (value.to_string(), meaning.to_string()));
    }

    /// One `\newcommand` a line.
    pub fn text(&self) -> String {
        let line = |(name, (value, meaning)): (&String, &(String, String))| {
            format!("\\newcommand{{\\{name}}}{{{}}} % {meaning}\n", escaped(value))
        };
        self.0.iter().map(line).collect()
    }
}

/// The letters of a name, digits as words, each part with a capital: `h100-quickstart` is `HOneZeroZeroQuickstart`.
fn letters(name: &str) -> String {
    const DIGITS: [&str; 10] = ["Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine"];
    let mut text = String::new();
    let mut capital = true;
    for letter in name.chars() {
        match letter {
            '0'..='9' => text += DIGITS[letter as usize - '0' as usize],
            'a'..='z' if capital => text.push(letter.to_ascii_uppercase()),
            'a'..='z' | 'A'..='Z' => text.push(letter),
            _ => {}
        }
        capital = !letter.is_ascii_alphabetic();
    }
    text
}

/// Text for LaTeX: its own characters escaped, the Greek that we use as mathematics.
fn escaped(text: &str) -> String {
    let mut latex = String::new();
    for letter in text.chars() {
        match letter {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                latex.push('\\');
                latex.push(letter);
            }
            '\\' => latex += "\\textbackslash{}",
            '~' => latex += "\\textasciitilde{}",
            '^' => latex += "\\textasciicircum{}",
            '<' => latex += "$<$",
            '>' => latex += "$>$",
            'γ' => latex += "$\\gamma$",
            'τ' => latex += "$\\tau$",
            'α' => latex += "$\\alpha$",
            'Σ' => latex += "$\\Sigma$",
            'µ' => latex += "$\\mu$",
            '→' => latex += "$\\to$",
            '×' => latex += "$\\times$",
            '≤' => latex += "$\\le$",
            '≥' => latex += "$\\ge$",
            '·' => latex += "$\\cdot$",
            // Thin: between a number and its unit.
            '\u{202f}' => latex += "\\,",
            '−' => latex += "$-$",
            '–' => latex += "--",
            letter => latex.push(letter),
        }
    }
    latex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_a_tabular_with_three_rules() {
        let table = Table::new("Speeds", &["drafter", "γ"], 1).with_rows([["a_b & 5%".to_string(), "7".to_string()]]);
        assert_eq!(
            booktabs(&table),
            "% Speeds\n\\begin{tabular}{lr}\n  \\toprule\n  drafter & $\\gamma$ \\\\\n  \\midrule\n  a\\_b \\& 5\\% & 7 \\\\\n  \
             \\bottomrule\n\\end{tabular}\n"
        );
    }

    #[test]
    fn macros_have_names_of_letters_and_none_is_lost() {
        let mut macros = Macros::default();
        macros.define("h100 quickstart", "speedup", "1.50", "of γ=7");
        macros.define("h100 quickstart", "speedup", "1.60", "of another folder");
        assert_eq!(
            macros.text(),
            "\\newcommand{\\rpHOneZeroZeroQuickstartSpeedup}{1.50} % of γ=7\n\
             \\newcommand{\\rpHOneZeroZeroQuickstartSpeedupB}{1.60} % of another folder\n"
        );
    }
}
