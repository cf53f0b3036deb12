//! `ridgepoint distill`: trains a shallow drafter for a target.

use super::Global;
use super::screen::Screen;
use crate::distill::adamw::AdamW;
use crate::distill::corpus::Corpus;
use crate::distill::settings::Settings;
use crate::distill::target::Target;
use crate::distill::train::{Job, Summary};
use crate::machine::device::{self, DeviceKind};
use crate::machine::environment::Environment;
use crate::model::hub;
use crate::scenario::{Dtype, Quantization};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// The most layers a drafter may have.
const MAX_LAYERS: usize = 6;

/// Train a shallow drafter for a target, from text that the target wrote (see corpus)
///
/// The drafter shares the target's embedding and the rows of its head for the most frequent ids; its layers start as layers
/// of the target. A killed run goes on with the same command.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A GGUF file, a directory of safetensors, a name under models/, or hf://org/name[@revision]
    target: String,
    /// A folder that `ridgepoint corpus` wrote for this target; may be given several times
    #[arg(long, required = true, num_args = 1.., value_name = "DIR")]
    corpus: Vec<PathBuf>,
    /// Where the drafter goes
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Layers of the drafter
    #[arg(long, default_value_t = 3, value_name = "N", conflicts_with = "init")]
    layers: usize,
    /// The target's layers that the drafter's start as, such as 0,1,29; the first ones and the last if not given
    #[arg(long, value_delimiter = ',', value_name = "LAYER,...")]
    init: Option<Vec<usize>>,
    /// Ids that the drafter can propose: the most frequent of the corpus
    #[arg(long, default_value_t = 8192, value_name = "N")]
    head_vocabulary: usize,
    /// Let the drafter also read the target's last hidden state
    #[arg(long)]
    features: bool,
    /// With --features: drafts in a row that training follows
    #[arg(long, default_value_t = 3, value_name = "N", requires = "features")]
    rollout: usize,
    /// Steps to train
    #[arg(long, value_name = "N", required_unless_present = "minutes", conflicts_with = "minutes")]
    steps: Option<u64>,
    /// Minutes to train: steps are timed first, then their number is fixed
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Sequences a step
    #[arg(long, default_value_t = 64, value_name = "N")]
    batch: usize,
    /// The largest learning rate
    #[arg(long, default_value_t = 1e-3, value_name = "RATE")]
    learning_rate: f64,
    /// Steps in which the learning rate rises; a cosine takes it down to a tenth after them
    #[arg(long, default_value_t = 200, value_name = "N")]
    warm_up: u64,
    /// How much matrices decay, as a multiple of the learning rate
    #[arg(long, default_value_t = 0.01, value_name = "X")]
    weight_decay: f32,
    /// The largest norm that a gradient keeps
    #[arg(long, default_value_t = 1.0, value_name = "NORM")]
    clip: f32,
    /// The share of the loss on the target's most probable id alone; the rest is on its whole distribution
    #[arg(long, default_value_t = 0.3, value_name = "SHARE")]
    hard_weight: f32,
    /// Sequences that are only evaluated on
    #[arg(long, default_value_t = 256, value_name = "N")]
    held_out: usize,
    /// Steps between evaluations
    #[arg(long, default_value_t = 500, value_name = "N")]
    evaluate_every: u64,
    /// Steps between checkpoints
    #[arg(long, default_value_t = 500, value_name = "N")]
    checkpoint_every: u64,
    /// What to compute in, float32 or bfloat16; float32 on the CPU and bfloat16 on a GPU if not given
    #[arg(long)]
    dtype: Option<Dtype>,
    /// Store the drafter's matrices quantised: BITS or BITS:GROUP; float32 if not given
    #[arg(long, value_name = "BITS[:GROUP]")]
    export_quantize: Option<Quantization>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Take a corpus that another target wrote
    #[arg(long)]
    force: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    /// No progress on the terminal
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: &Args, global: &Global) -> Result<()> {
    args.check()?;
    if args.out.join("config.json").exists() {
        let shown = args.out.display();
        return Err(crate::usage!("--out {shown}: holds a finished model; remove it or name another folder"));
    }
    let kind = device::select(global.device)?;
    let target = Target::load(&hub::resolve(&args.target)?)?;
    let init = args.init_layers(target.decoder.config.num_layers as usize)?;
    let vocabulary = target.decoder.config.vocab_size as usize;
    if !(1..=vocabulary).contains(&args.head_vocabulary) {
        let given = args.head_vocabulary;
        return Err(crate::usage!("--head-vocabulary {given} is out of range: the target has {vocabulary} ids"));
    }
    let corpus = Corpus::read(&args.corpus, &target.sha256, vocabulary, args.force)?;
    let settings = args.settings(&target, &corpus, init, kind);
    corpus.split(settings.held_out, settings.batch, settings.seed)?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("--out {}: cannot be created", args.out.display()))?;
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    super::interrupt::stop_on_interrupt(&stop)?;
    let job = Job {
        target: &target,
        corpus: &corpus,
        settings,
        folder: &args.out,
        checkpoint_every: args.checkpoint_every,
        export: args.export_quantize,
        compiled: kind == DeviceKind::Gpu,
        device: Environment::detect(kind, None)?.device_name,
        stop: &stop,
    };
    let mut screen = Screen::new(args.quiet);
    let summary = job.run(&mut screen)?;
    screen.finish();
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        println!("{}", args.sentence(&summary));
    }
    Ok(())
}

impl Args {
    /// What can be said about the numbers alone.
    fn check(&self) -> Result<()> {
        let wrong = |flag: &str, value: String, expected: &str| Err(crate::usage!("{flag} {value}: give {expected}"));
        let counts = [
            ("--batch", self.batch as u64),
            ("--held-out", self.held_out as u64),
            ("--evaluate-every", self.evaluate_every),
            ("--checkpoint-every", self.checkpoint_every),
            ("--rollout", self.rollout as u64),
            ("--steps", self.steps.unwrap_or(1)),
        ];
        if let Some((flag, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return wrong(flag, "0".into(), "at least 1");
        }
        if self.rollout > 8 {
            return wrong("--rollout", self.rollout.to_string(), "1 to 8");
        }
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if let Some(minutes) = self.minutes.filter(|minutes| !positive(*minutes)) {
            return wrong("--minutes", minutes.to_string(), "a number above 0");
        }
        if !positive(self.learning_rate) {
            return wrong("--learning-rate", self.learning_rate.to_string(), "a number above 0");
        }
        if !positive(self.clip.into()) {
            return wrong("--clip", self.clip.to_string(), "a number above 0");
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return wrong("--weight-decay", self.weight_decay.to_string(), "a number from 0 on");
        }
        if !(0.0..=1.0).contains(&self.hard_weight) {
            return wrong("--hard-weight", self.hard_weight.to_string(), "0 to 1");
        }
        if self.dtype == Some(Dtype::Float16) {
            return wrong("--dtype", "float16".into(), "float32 or bfloat16: gradients leave float16's range");
        }
        Ok(())
    }

    /// The target's layers that the drafter's start as.
    fn init_layers(&self, target: usize) -> Result<Vec<usize>> {
        let Some(init) = &self.init else {
            let most = MAX_LAYERS.min(target);
            if !(1..=most).contains(&self.layers) {
                return Err(crate::usage!(
                    "--layers {}: give 1 to {most}; the target has {target} layers",
                    self.layers
                ));
            }
            return Ok((0..self.layers - 1).chain([target - 1]).collect());
        };
        if init.len() > MAX_LAYERS {
            return Err(crate::usage!("--init names {} layers; give 1 to {MAX_LAYERS}", init.len()));
        }
        match init.iter().find(|layer| **layer >= target) {
            Some(layer) => Err(crate::usage!("--init {layer}: the target has layers 0 to {}", target - 1)),
            None => Ok(init.clone()),
        }
    }

    fn settings(&self, target: &Target, corpus: &Corpus, init: Vec<usize>, kind: DeviceKind) -> Settings {
        let usual = if kind == DeviceKind::Gpu { Dtype::Bfloat16 } else { Dtype::Float32 };
        Settings {
            target_sha256: target.sha256.clone(),
            corpus: corpus.sha256.clone(),
            init,
            head_vocabulary: self.head_vocabulary,
            features: self.features,
            rollout: if self.features { self.rollout } else { 1 },
            batch: self.batch,
            steps: self.steps,
            minutes: self.minutes,
            learning_rate: self.learning_rate,
            warm_up: self.warm_up,
            adamw: AdamW { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: self.weight_decay, clip: self.clip },
            hard_weight: self.hard_weight,
            held_out: self.held_out,
            evaluate_every: self.evaluate_every,
            dtype: self.dtype.unwrap_or(usual),
            seed: self.seed,
        }
    }

    fn sentence(&self, summary: &Summary) -> String {
        let out = self.out.display();
        if summary.stopped {
            return format!("Stopped after step {}; the same command goes on from there.", summary.step);
        }
        let tau = summary.exported.and_then(|exported| exported.acceptance).map(|shares| shares.tau);
        let tau = tau.map_or(String::new(), |tau| format!(", τ(4) {tau:.3} on held-out text"));
        format!(
            "{out}: {:.1} MB after {} steps of {} tokens in {:.0} s{tau}.",
            summary.bytes.unwrap_or_default() as f64 / 1e6,
            summary.step,
            summary.tokens / summary.step.max(1),
            summary.seconds,
        )
    }
}
