//! A checkpoint ready for text: the transformer with its tokenizer, chat template and end-of-text ids.

use super::chat::{ChatTemplate, Message};
use super::checkpoint::Checkpoint;
use super::memory;
use super::tokenizer::Tokenizer;
use super::transformer::Transformer;
use super::weights::LoadOptions;
use anyhow::Result;
use std::path::Path;
use std::time::Instant;

pub struct LanguageModel {
    pub checkpoint: Checkpoint,
    pub transformer: Transformer,
    pub tokenizer: Tokenizer,
    pub chat_template: Option<ChatTemplate>,
    /// Ids that end a text.
    pub end_ids: Vec<u32>,
    /// From opening the files to weights in memory.
    pub load_seconds: f64,
}

impl LanguageModel {
    /// Loads a GGUF file or a directory of safetensors.
    pub fn load(path: &Path, options: &LoadOptions) -> Result<Self> {
        let started = Instant::now();
        let (checkpoint, transformer) = super::load(path, options)?;
        let tokenizer = Tokenizer::from_json(&checkpoint.tokenizer_json, &checkpoint.tokenizer_config, path)?;
        let chat_template = ChatTemplate::from_config(&checkpoint.tokenizer_config, None)?;
        let end_ids = tokenizer.eos_ids(&checkpoint)?;
        let load_seconds = started.elapsed().as_secs_f64();
        Ok(LanguageModel { checkpoint, transformer, tokenizer, chat_template, end_ids, load_seconds })
    }

    /// Token ids of a text that is continued as it stands.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        self.readable(self.tokenizer.encode(text, true)?)
    }

    /// Token ids of a chat, up to where the assistant's answer begins.
    pub fn encode_chat(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let template = self.chat_template.as_ref().ok_or_else(|| self.no_chat_template())?;
        // The template writes the special tokens itself.
        self.readable(self.tokenizer.encode(&template.render(messages, true)?, false)?)
    }

    /// Refuses what no forward can read: nothing, and ids that the embedding has no rows for.
    fn readable(&self, ids: Vec<u32>) -> Result<Vec<u32>> {
        let known = self.transformer.config.vocab_size as u32;
        match ids.iter().find(|id| **id >= known) {
            _ if ids.is_empty() => Err(crate::usage!("the prompt is empty; give at least one token of text")),
            None => Ok(ids),
            Some(id) => Err(crate::usage!(
                "{}: tokenizer.json gives the id {id}, but 'vocab_size' of config.json is {known}; use a complete checkpoint",
                self.checkpoint.path.display()
            )),
        }
    }

    /// Token ids of a chat up to where the user's first words begin.
    pub fn encode_user_header(&self) -> Result<Vec<u32>> {
        const WORDS: &str = "the-first-words";
        let message = Message { role: "user".to_owned(), content: WORDS.to_owned() };
        let template = self.chat_template.as_ref().ok_or_else(|| self.no_chat_template())?;
        let text = template.render(&[message], false)?;
        let header = text.split_once(WORDS).map_or("", |(header, _)| header);
        self.readable(self.tokenizer.encode(header, false)?)
    }

    fn no_chat_template(&self) -> anyhow::Error {
        crate::usage!("{}: the checkpoint has no chat template; give plain text", self.checkpoint.path.display())
    }

    /// Refuses `batch` texts of `tokens` tokens each, as [`check_room`](Self::check_room) does one.
    pub fn check_batch(&self, batch: usize, tokens: usize) -> Result<()> {
        self.check_room(tokens)?;
        let path = &self.checkpoint.path;
        memory::check_cache(path, &self.transformer.config, self.transformer.dtype(), batch.saturating_mul(tokens))
    }

    /// Refuses a text that would outgrow the context that the model was made for, or the memory that is free.
    pub fn check_room(&self, tokens: usize) -> Result<()> {
        memory::check_room(&self.checkpoint.path, &self.transformer, tokens)
    }
}
