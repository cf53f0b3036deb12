//! A model that is only to be timed: a checkpoint, or random weights in a model's shapes.

use super::checkpoint::weights_sha256;
use super::hub;
use super::memory;
use super::transformer::Transformer;
use super::weights::LoadOptions;
use crate::scenario::{Dtype, ModelFile, ModelWeights, Quantization};
use anyhow::{Result, bail};
use std::path::Path;
use std::time::Instant;

/// The seed of random weights: timing does not depend on it.
const SEED: u64 = 0;
/// What stands in the place of a hash of random weights.
pub const SYNTHETIC: &str = "synthetic";

/// A transformer with what results say about it.
#[derive(Debug)]
pub struct TimedModel {
    /// The name that results use.
    pub name: String,
    pub transformer: Transformer,
    /// SHA-256 of the checkpoint's weights in hexadecimal, or `synthetic`.
    pub weights_sha256: String,
    /// From opening the files to weights in memory.
    pub load_seconds: f64,
}

impl TimedModel {
    /// Loads `model`: a file or folder, a name of `scenarios/models/NAME.toml` or under `models/`, or
    /// `hf://org/name[@revision]`. The weights are held in `dtype`, or as the model's file says, or as stored; matrices are
    /// quantised if asked for.
    pub fn load(model: &str, dtype: Option<Dtype>, quantize: Option<Quantization>) -> Result<TimedModel> {
        let file = match Path::new(model).exists() {
            true => None,
            false => ModelFile::find(&std::env::current_dir()?, model)?,
        };
        let dtype = dtype.or(file.as_ref().and_then(|file| file.dtype)).map(Into::into);
        let options = LoadOptions { dtype, quantize };
        let checkpoint = match &file {
            Some(file @ ModelFile { weights: ModelWeights::Synthetic(_), .. }) => return Self::random(file, &options),
            Some(ModelFile { weights: ModelWeights::Checkpoint(checkpoint), .. }) => checkpoint,
            None => model,
        };
        let path = hub::resolve(checkpoint)?;
        let started = Instant::now();
        let (_, transformer) = super::load(&path, &options)?;
        let load_seconds = started.elapsed().as_secs_f64();
        let of_path = || path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let name =
            file.as_ref().map_or_else(|| of_path().trim_end_matches(".gguf").to_owned(), |file| file.name.clone());
        Ok(TimedModel { name, transformer, weights_sha256: weights_sha256(&path)?, load_seconds })
    }

    /// Random weights in the shapes that `file` gives, held as `options` say or else as it does.
    pub fn random(file: &ModelFile, options: &LoadOptions) -> Result<TimedModel> {
        let ModelWeights::Synthetic(config) = &file.weights else { bail!("{} is a checkpoint", file.path.display()) };
        let options = &LoadOptions { dtype: options.dtype.or(file.dtype.map(Into::into)), ..*options };
        let started = Instant::now();
        let transformer = super::synthetic(&file.path, config, options, SEED)?;
        let load_seconds = started.elapsed().as_secs_f64();
        Ok(TimedModel { name: file.name.clone(), transformer, weights_sha256: SYNTHETIC.into(), load_seconds })
    }

    /// Whether the weights are random, so that what the model says means nothing.
    pub fn is_synthetic(&self) -> bool {
        self.weights_sha256 == SYNTHETIC
    }

    /// Refuses sequences of `longest` tokens that would outgrow the context that the model was made for, and keys and
    /// values of `tokens` tokens in all that would outgrow the memory that is free.
    pub fn check_room(&self, longest: usize, tokens: usize) -> Result<()> {
        let (name, config) = (&self.name, &self.transformer.config);
        let most = config.max_context as usize;
        if longest > most {
            return Err(crate::usage!(
                "{name}: {longest} tokens of context and forward exceed its context of {most}; lower --contexts or --widths"
            ));
        }
        memory::check_cache(Path::new(name), config, self.transformer.dtype(), tokens)
    }

    /// `count` token ids that it can read, the same every time. Which tokens are read makes no difference to time.
    pub fn tokens(&self, count: usize) -> Vec<u32> {
        let vocab = self.transformer.config.vocab_size as u64;
        // Knuth's multiplicative hash: spread over the whole vocabulary.
        (0..count as u64).map(|place| (place.wrapping_mul(2_654_435_761) % vocab) as u32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::transformer::Logits;
    use crate::scenario::ModelWeights;
    use mlx_rs::Array;
    use mlx_rs::Dtype as MlxDtype;

    /// Sizes as the models' publishers give them.
    #[test]
    fn shapes_are_those_of_the_models() {
        for (name, parameters) in [
            ("smollm2-135m", 134_515_008),
            ("smollm2-360m", 361_821_120),
            ("smollm2-1.7b", 1_711_376_384),
            ("llama-3.2-1b", 1_235_814_400),
            ("llama-3.2-3b", 3_212_749_824),
            ("qwen3-0.6b", 596_049_920),
            ("qwen3-4b", 4_022_468_096),
            ("qwen3-8b", 8_190_735_360),
            ("mistral-7b", 7_248_023_552_u64),
        ] {
            let file = ModelFile::find(Path::new(env!("CARGO_MANIFEST_DIR")), name).unwrap().unwrap();
            let ModelWeights::Synthetic(config) = &file.weights else { panic!("{name} has no shapes") };
            assert_eq!(crate::model::config_of(name, config).unwrap().parameters(), parameters, "{name}");
        }
    }

    #[test]
    fn random_weights_have_the_precision_asked_for_and_finite_logits() {
        crate::machine::device::select(Some(crate::machine::device::DeviceKind::Cpu)).unwrap();
        let config = serde_json::json!({ "model_type": "qwen3", "hidden_size": 128, "intermediate_size": 256,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 500,
            "tie_word_embeddings": true });
        for (dtype, quantize, precision, bits) in [
            (Dtype::Float32, None, "float32", 32.0),
            (Dtype::Bfloat16, None, "bfloat16", 16.0),
            (Dtype::Float32, Some("4:64"), "4-bit:64 float32", 4.0 + 64.0 / 64.0),
            (Dtype::Bfloat16, Some("8:32"), "8-bit:32 bfloat16", 8.0 + 32.0 / 32.0),
        ] {
            let quantize = quantize.map(|text: &str| text.parse().unwrap());
            let options = LoadOptions { dtype: Some(dtype.into()), quantize };
            let model = crate::model::synthetic(Path::new("m.toml"), &config, &options, 1).unwrap();
            assert_eq!(model.precision(), precision);
            // Matrices of 2 layers (q 128x128, k, v 128x64, o, and 3 of 128x256) and the head, norms aside.
            let matrices = 2.0 * (2.0 * 128.0 * 128.0 + 2.0 * 128.0 * 64.0 + 3.0 * 128.0 * 256.0) + 500.0 * 128.0;
            let found = model.shape().weight_bytes() as f64 / (matrices * bits / 8.0);
            assert!((1.0..1.03).contains(&found), "{precision}: {found}");
            let logits = model.forward(&Array::from_slice(&[1u32, 2], &[1, 2]), &mut model.new_cache(), Logits::All);
            let logits = logits.unwrap().as_dtype(MlxDtype::Float32).unwrap();
            logits.eval().unwrap();
            assert!(logits.try_as_slice::<f32>().unwrap().iter().all(|logit| logit.is_finite()), "{precision}");
        }
    }

    #[test]
    fn shapes_that_are_not_ours_are_refused() {
        let config = serde_json::json!({ "model_type": "gpt2" });
        let error = crate::model::synthetic(Path::new("m.toml"), &config, &LoadOptions::default(), 1).unwrap_err();
        assert!(error.to_string().starts_with("m.toml: 'model_type' = \"gpt2\""), "{error}");
    }
}
