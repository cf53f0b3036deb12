//! Generated text as it appears, and what is said about it at the end.

use std::io::{IsTerminal, Result, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

const DRAFTED: Style = AnsiColor::Green.on_default();

/// Writes committed text as soon as it is there; where colour is on, accepted drafts are green.
///
/// The text itself passes through unchanged, so without colour the output is the generated text, byte by byte.
#[derive(Debug)]
pub struct TextStream<W: Write> {
    out: W,
    colour: bool,
    /// Whether what was written last is in the drafts' colour.
    in_draft: bool,
}

impl<W: Write> TextStream<W> {
    pub fn new(out: W, colour: bool) -> Self {
        Self { out, colour, in_draft: false }
    }

    /// Shows `text`; `from_draft` says that a drafter proposed it and the target accepted.
    pub fn committed(&mut self, text: &str, from_draft: bool) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.switch(from_draft)?;
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Ends the text with a line break.
    pub fn finish(mut self) -> Result<()> {
        self.switch(false)?;
        writeln!(self.out)?;
        self.out.flush()
    }

    fn switch(&mut self, to_draft: bool) -> Result<()> {
        if self.colour && to_draft != self.in_draft {
            if to_draft {
                write!(self.out, "{DRAFTED}")?
            } else {
                write!(self.out, "{DRAFTED:#}")?
            }
            self.in_draft = to_draft;
        }
        Ok(())
    }
}

/// Whether output to `stream` should be coloured: it is a terminal that can, and nobody set `NO_COLOR`
/// (<https://no-color.org>).
pub fn wants_colour(stream: &impl IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// One generation, as `generate --json` prints it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Committed token ids, without the prompt.
    pub tokens: Vec<u32>,
    /// What they spell.
    pub text: String,
    /// Target forwards after the prompt.
    pub rounds: usize,
    /// Tokens proposed by the drafter.
    pub drafted: usize,
    /// Proposed tokens that the target accepted.
    pub accepted: usize,
    /// From the end of prefill to the last token.
    pub seconds: f64,
    pub prompt_tokens: usize,
    /// Reading the prompt.
    pub prefill_seconds: f64,
    /// Loading the models.
    pub load_seconds: f64,
    /// The most memory that MLX held at one time.
    pub peak_memory_bytes: u64,
}

impl Summary {
    /// Committed tokens a second; none where nothing was timed.
    pub fn tokens_per_second(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.tokens.len() as f64 / self.seconds)
    }

    /// τ: tokens that a round commits, the target's own included. The last round counts in full even where the token
    /// budget or the end of the text cut it.
    pub fn acceptance_length(&self) -> Option<f64> {
        (self.rounds > 0).then(|| 1.0 + self.accepted as f64 / self.rounds as f64)
    }

    /// Accepted of drafted tokens; none where nothing was drafted.
    pub fn acceptance_rate(&self) -> Option<f64> {
        (self.drafted > 0).then(|| self.accepted as f64 / self.drafted as f64)
    }

    /// `96 tokens in 2.00 s: 48.0 tok/s, τ 2.40, acceptance 56.0 % (56 of 100 drafted tokens, 40 rounds)`
    pub fn line(&self) -> String {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let mut line = format!("{} in {:.2} s", count(self.tokens.len(), "token"), self.seconds);
        if let Some(speed) = self.tokens_per_second() {
            line += &format!(": {speed:.1} tok/s");
        }
        if let (Some(length), Some(rate)) = (self.acceptance_length(), self.acceptance_rate()) {
            let drafted = count(self.drafted, "drafted token");
            let rounds = count(self.rounds, "round");
            let percent = 100.0 * rate;
            line += &format!(", τ {length:.2}, acceptance {percent:.1} % ({} of {drafted}, {rounds})", self.accepted);
        } else {
            line += ", nothing drafted";
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(colour: bool) -> String {
        let mut out = Vec::new();
        let mut stream = TextStream::new(&mut out, colour);
        for (text, from_draft) in
            [("a", false), ("b\u{1b}[1m", true), ("", false), ("c", true), ("é", false), ("d", true)]
        {
            stream.committed(text, from_draft).unwrap();
        }
        stream.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn without_colour_the_text_is_unchanged() {
        assert_eq!(shown(false), "ab\u{1b}[1mcéd\n");
    }

    #[test]
    fn accepted_drafts_are_coloured_and_nothing_else() {
        assert_eq!(shown(true), "a\u{1b}[32mb\u{1b}[1mc\u{1b}[0mé\u{1b}[32md\u{1b}[0m\n");
    }

    #[test]
    fn text_is_flushed_at_once() {
        let out = std::io::BufWriter::new(Vec::new());
        let mut stream = TextStream::new(out, false);
        stream.committed("now", false).unwrap();
        assert_eq!(stream.out.get_ref(), b"now");
    }

    #[test]
    fn a_file_is_not_coloured() {
        assert!(!wants_colour(&tempfile::tempfile().unwrap()));
    }

    #[test]
    fn the_line_and_the_json_say_what_happened() {
        let mut summary =
            Summary { tokens: vec![7; 96], rounds: 40, drafted: 100, accepted: 56, seconds: 2.0, ..Summary::default() };
        let expected =
            "96 tokens in 2.00 s: 48.0 tok/s, τ 2.40, acceptance 56.0 % (56 of 100 drafted tokens, 40 rounds)";
        assert_eq!(summary.line(), expected);
        (summary.drafted, summary.accepted) = (0, 0);
        assert_eq!(summary.line(), "96 tokens in 2.00 s: 48.0 tok/s, nothing drafted");
        assert_eq!(Summary::default().line(), "0 tokens in 0.00 s, nothing drafted");

        summary.tokens = vec![1, 2];
        summary.text = "a\n".into();
        assert_eq!(
            serde_json::to_string(&summary).unwrap(),
            r#"{"tokens":[1,2],"text":"a\n","rounds":40,"drafted":0,"accepted":0,"seconds":2.0,"prompt_tokens":0,"#
                .to_owned()
                + r#""prefill_seconds":0.0,"load_seconds":0.0,"peak_memory_bytes":0}"#
        );
    }
}
