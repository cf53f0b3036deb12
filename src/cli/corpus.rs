//! `ridgepoint corpus`: text for the training of a drafter, written by its target.

use super::Global;
use super::interrupt::stop_on_interrupt;
use super::screen::Screen;
use crate::corpus::store::{Manifest, SCHEMA_VERSION, Sources, Store, Text};
use crate::corpus::{Job, LEAST_SEQUENCE_TOKENS};
use crate::decode::sampling::Sampling;
use crate::machine::device::{self, DeviceKind};
use crate::model::checkpoint::weights_sha256;
use crate::model::hub;
use crate::model::language_model::LanguageModel;
use crate::model::weights::LoadOptions;
use crate::scenario::seeds::Seeds;
use crate::scenario::{Dtype, sha256_hex};
use anyhow::Result;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The prompts that are used where no others are given.
const SEEDS: &str = include_str!("../../scenarios/corpus/seeds.toml");
const SEEDS_NAME: &str = "scenarios/corpus/seeds.toml";

/// Make a corpus to train a drafter on: text that the target itself writes
///
/// The same command goes on where it was stopped. Several processes may write parts at once, each with its own --seed
/// and --out; distill takes all the folders.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The target: a GGUF file, a directory of safetensors, a name under models/, or hf://org/name[@revision]
    target: String,
    /// The folder to write, or to go on with
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Tokens to have in all
    #[arg(long, value_name = "N")]
    tokens: usize,
    /// What the target is asked; prompts that come with this program if not given
    #[arg(long, value_name = "FILE.toml")]
    seeds: Option<PathBuf>,
    /// Plain text files, which come first
    #[arg(long, value_name = "FILE", num_args = 1..)]
    text: Vec<PathBuf>,
    /// One of these in turn for each text; 0 is greedy
    #[arg(
        long,
        value_name = "T,T,...",
        value_delimiter = ',',
        default_value = "0,0.3,0.7,1",
        allow_negative_numbers = true
    )]
    temperatures: Vec<f32>,
    /// Texts to write at once; 1024 on a GPU and 16 on a CPU if not given
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Tokens of the longest text, prompt included
    #[arg(long, value_name = "N", default_value_t = 512)]
    sequence_tokens: usize,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The float type to write in; bfloat16 on a GPU and float32 on a CPU if not given
    #[arg(long)]
    dtype: Option<Dtype>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    /// No progress on the terminal
    #[arg(long, short)]
    quiet: bool,
}

/// What was done.
#[derive(Serialize)]
struct Summary {
    out: PathBuf,
    /// Whether the corpus has all the tokens that were asked for.
    complete: bool,
    shards: usize,
    sequences: usize,
    tokens: usize,
    /// Tokens that this run added, in so many seconds.
    tokens_added: usize,
    seconds: f64,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    args.check()?;
    let seeds = match &args.seeds {
        Some(file) => Seeds::read(file)?,
        None => Seeds::parse(Path::new(SEEDS_NAME), SEEDS)?,
    };
    let texts = args.text.iter().map(|file| read_text(file)).collect::<Result<Vec<_>>>()?;
    let kind = device::select(global.device)?;
    let on_gpu = kind == DeviceKind::Gpu;
    let dtype = args.dtype.unwrap_or(if on_gpu { Dtype::Bfloat16 } else { Dtype::Float32 });
    let path = hub::resolve(&args.target)?;
    let model = LanguageModel::load(&path, &LoadOptions { dtype: Some(dtype.into()), quantize: None })?;
    model.encode_user_header()?;
    let batch = args.batch.unwrap_or(if on_gpu { 1024 } else { 16 });
    model.check_batch(batch, args.sequence_tokens)?;

    let named = |(file, text): (&PathBuf, &String)| Text {
        file: file.display().to_string(),
        sha256: sha256_hex(text.as_bytes()),
    };
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let wanted = Manifest {
        schema_version: SCHEMA_VERSION,
        target: name.trim_end_matches(".gguf").to_owned(),
        target_sha256: weights_sha256(&path)?,
        vocab_size: model.transformer.config.vocab_size as u32,
        sequence_tokens: args.sequence_tokens,
        batch,
        seed: args.seed,
        temperatures: args.temperatures.clone(),
        precision: model.transformer.precision(),
        sources: Sources {
            seeds_sha256: seeds.sha256.clone(),
            texts: args.text.iter().zip(&texts).map(named).collect(),
        },
        shards: Vec::new(),
    };
    let texts = texts.iter().map(|text| model.encode_text(text)).collect::<Result<Vec<_>>>()?;
    let mut store = Store::open(&args.out, wanted)?;
    let before = store.manifest().tokens();
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_interrupt(&stop)?;
    let mut screen = Screen::new(args.quiet);
    let started = Instant::now();
    let job = Job { model: &model, seeds: &seeds, texts: &texts, tokens: args.tokens, stop: &stop };
    job.run(&mut store, &mut screen)?;
    screen.finish();
    let manifest = store.manifest();
    let summary = Summary {
        out: args.out.clone(),
        complete: manifest.tokens() >= args.tokens,
        shards: manifest.shards.len(),
        sequences: manifest.sequences(),
        tokens: manifest.tokens(),
        tokens_added: manifest.tokens() - before,
        seconds: started.elapsed().as_secs_f64(),
    };
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        println!("{}", summary.line());
    }
    if stop.load(Ordering::Relaxed) && !summary.complete {
        eprintln!("stopped; the same command goes on with shard {}", summary.shards);
    }
    Ok(())
}

impl Args {
    fn check(&self) -> Result<()> {
        if self.sequence_tokens < LEAST_SEQUENCE_TOKENS {
            let found = self.sequence_tokens;
            return Err(crate::usage!("--sequence-tokens {found} is too few; give at least {LEAST_SEQUENCE_TOKENS}"));
        }
        if self.tokens < self.sequence_tokens {
            return Err(crate::usage!(
                "--tokens {} is less than one sequence has; give at least {}, and millions to train on",
                self.tokens,
                self.sequence_tokens
            ));
        }
        if let Some(batch) = self.batch.filter(|batch| !(1..=1 << 16).contains(batch)) {
            return Err(crate::usage!("--batch {batch} is out of range: give 1 to 65536"));
        }
        for temperature in &self.temperatures {
            Sampling::new(*temperature, 1.0).map_err(|error| crate::usage!("--temperatures: {error}"))?;
        }
        Ok(())
    }
}

fn read_text(file: &Path) -> Result<String> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| crate::usage!("--text {shown}: cannot be read as text ({error})"))?;
    if text.trim().is_empty() {
        return Err(crate::usage!("--text {shown}: is empty; leave it out"));
    }
    Ok(text)
}

impl Summary {
    fn line(&self) -> String {
        let Summary { sequences, tokens, shards, tokens_added, seconds, .. } = self;
        let rate = *tokens_added as f64 / seconds;
        format!(
            "{}: {tokens} tokens in {sequences} texts and {shards} shards; {tokens_added} of them now, {rate:.0} a second",
            self.out.display()
        )
    }
}
