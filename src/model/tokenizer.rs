//! Text to token ids and back, from a checkpoint's `tokenizer.json` and `tokenizer_config.json`.

use super::checkpoint::Checkpoint;
use super::token_stream::{Spelling, TokenStream};
use crate::usage;
use anyhow::{Result, anyhow, bail};
use serde_json::Value;
use std::path::Path;

/// A checkpoint's tokenizer. Cheap to share by reference, and usable from several threads.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    spelling: Spelling,
    bos_id: Option<u32>,
    eos_id: Option<u32>,
}

/// The first token id that two vocabularies spell differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    pub id: u32,
    pub ours: String,
    pub theirs: String,
}

impl Tokenizer {
    /// Reads the text of a `tokenizer.json`. `config` is the `tokenizer_config.json` beside it (null where there is
    /// none), `source` the file or directory that messages name.
    ///
    /// As in transformers, truncation and padding that the file may carry are not applied, and its own template for
    /// special tokens has precedence over `add_bos_token` in the configuration.
    ///
    /// # Errors
    /// A text that is no `tokenizer.json`, or a decoder of no supported family.
    pub fn from_json(text: &str, config: &Value, source: &Path) -> Result<Self> {
        let source = source.display();
        if text.is_empty() {
            bail!("{source}: it has no tokenizer (a directory needs tokenizer.json); use a complete checkpoint");
        }
        let mut inner: tokenizers::Tokenizer = text.parse().map_err(|error: tokenizers::Error| {
            let reason = error.to_string().replace('\n', " ");
            anyhow!("{source}: tokenizer.json cannot be read ({reason}); fetch the checkpoint again")
        })?;
        inner.with_truncation(None).map_err(|error| anyhow!("{source}: tokenizer.json: {error}"))?;
        inner.with_padding(None);

        let spelling =
            Spelling::of(inner.get_decoder()).map_err(|reason| usage!("{source}: tokenizer.json: {reason}"))?;
        let id_of = |key| special_token(config, key).and_then(|token| inner.token_to_id(token));
        let (bos_id, eos_id) = (id_of("bos_token"), id_of("eos_token"));
        Ok(Tokenizer { inner, spelling, bos_id, eos_id })
    }

    /// Token ids of `text`. Special tokens written out in the text are recognised either way; `add_special_tokens`
    /// decides whether the model's own frame (such as a beginning-of-text token) is put around it. A rendered chat
    /// template already has that frame.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, add_special_tokens)
            .map_err(|error| anyhow!("the text cannot be turned into tokens: {error}"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of `ids`; bytes that are no UTF-8 become U+FFFD, ids outside the vocabulary nothing.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
        self.inner
            .decode(ids, skip_special_tokens)
            .map_err(|error| anyhow!("the tokens cannot be turned into text: {error}"))
    }

    /// A decoder that takes one token at a time.
    pub fn stream(&self, skip_special_tokens: bool) -> TokenStream<'_> {
        TokenStream::new(self, skip_special_tokens)
    }

    /// The vocabulary's own spelling of a token (`Ġthe`, `▁the`, `<0x0A>`); `None` for an id that it lacks.
    pub fn piece(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether the token is one that `skip_special_tokens` leaves out.
    pub fn is_special(&self, id: u32) -> bool {
        self.piece(id).is_some_and(|piece| self.inner.get_added_vocabulary().is_special_token(&piece))
    }

    pub(super) fn spelling(&self) -> Spelling {
        self.spelling
    }

    /// Number of pieces. Checkpoints often pad their embedding to more rows than this.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The beginning-of-text token of `tokenizer_config.json`, whether or not `encode` puts it in front.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos_id
    }

    /// The ids that end a text: those of `generation_config.json`, else of `config.json`, else the `eos_token` of
    /// `tokenizer_config.json` (the order of precedence of mlx-lm).
    ///
    /// # Errors
    /// No file names one, or an entry is not a token id.
    pub fn eos_ids(&self, checkpoint: &Checkpoint) -> Result<Vec<u32>> {
        let source = checkpoint.path.display();
        for (file, config) in
            [("generation_config.json", &checkpoint.generation_config), ("config.json", &checkpoint.config)]
        {
            let field = &config["eos_token_id"];
            let ids = match field {
                Value::Null => continue,
                Value::Array(ids) => ids.iter().map(token_id).collect(),
                id => token_id(id).map(|id| vec![id]),
            };
            match ids {
                Some(ids) if !ids.is_empty() => return Ok(ids),
                _ => bail!("{source}: {file}: eos_token_id is {field}, not a token id or a list of them; correct it"),
            }
        }
        match self.eos_id {
            Some(id) => Ok(vec![id]),
            None => bail!(
                "{source}: no end-of-text token: add eos_token_id to config.json, or eos_token to tokenizer_config.json"
            ),
        }
    }

    /// The first id that both vocabularies have and spell differently; `None` where they agree. A draft and a target
    /// can be paired only if they agree.
    pub fn vocabulary_mismatch(&self, other: &Tokenizer) -> Option<Mismatch> {
        let mut ids: Vec<u32> = self.inner.get_vocab(true).into_values().collect();
        ids.sort_unstable();
        ids.into_iter().find_map(|id| {
            let (ours, theirs) = (self.piece(id)?, other.piece(id)?);
            (ours != theirs).then_some(Mismatch { id, ours, theirs })
        })
    }
}

/// A special token of `tokenizer_config.json`, which is a string or an object with a `content`.
pub(super) fn special_token<'a>(config: &'a Value, key: &str) -> Option<&'a str> {
    let token = config.get(key)?;
    token.as_str().or_else(|| token.get("content")?.as_str())
}

fn token_id(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}
