//! The training loop: batches in, a drafter folder out.

use super::acceptance::{Acceptance, DRAFT_LENGTH, Shares};
use super::adamw::{Schedule, State};
use super::checkpoint::{self, Progress};
use super::corpus::{Corpus, Order, Sequence};
use super::export::{self, Description};
use super::graph::{self, Batch, Frozen, Graph};
use super::settings::Settings;
use super::target::Target;
use crate::measure;
use crate::results::{TrainingRow, Wire, read_rows, write_rows};
use crate::scenario::Quantization;
use anyhow::{Result, bail};
use mlx_rs::transforms::{async_eval, compile::compile, eval};
use mlx_rs::{Array, Dtype};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Widths of batches are multiples of this, so that few shapes are compiled.
const WIDTH_STEP: usize = 128;
/// Of a launch's steps, those whose time decides how many fit into the minutes given: the ones before warm up.
const TIMED_STEPS: std::ops::Range<u64> = 20..60;

/// A training run.
pub struct Job<'a> {
    pub target: &'a Target,
    pub corpus: &'a Corpus,
    pub settings: Settings,
    /// Where the drafter goes.
    pub folder: &'a Path,
    pub checkpoint_every: u64,
    pub export: Option<Quantization>,
    /// Whether steps are compiled: on a GPU. MLX compiles for the CPU with the system's C++ compiler, which gains nothing.
    pub compiled: bool,
    /// The device's name, for the drafter's description.
    pub device: String,
    /// Set from outside to end after the step at hand.
    pub stop: &'a AtomicBool,
}

/// What a run came to.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Whether it was stopped before its end: there is a checkpoint then, and no drafter.
    pub stopped: bool,
    pub step: u64,
    pub steps: Option<u64>,
    /// Tokens read, padding left out.
    pub tokens: u64,
    pub seconds: f64,
    /// The most memory that arrays took at a time in this launch.
    pub peak_memory_bytes: u64,
    /// Bytes of the drafter's files.
    pub bytes: Option<u64>,
    /// Of the weights as exported, on what was held out.
    pub exported: Option<Evaluation>,
}

/// How a drafter does on what is held out.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Evaluation {
    /// Cross-entropy in nats a position.
    pub loss: f64,
    /// None where no held-out text has room for a round.
    pub acceptance: Option<Shares>,
}

type Function = Box<dyn FnMut(&[Array]) -> mlx_rs::error::Result<Vec<Array>>>;

/// A run under way.
struct Training<'a> {
    job: &'a Job<'a>,
    graph: Graph,
    frozen: Frozen,
    held_out: Vec<Sequence>,
    order: Order,
    /// [`Order::mean_positions`]
    positions: Array,
    step: Function,
    evaluate: Function,
    state: State,
    progress: Progress,
    rows: Vec<TrainingRow>,
    /// Losses that nobody has waited for.
    losses: Vec<Array>,
}

impl Job<'_> {
    /// Trains to the end, or until stopped; goes on where a checkpoint lies.
    pub fn run(&self, screen: &mut dyn measure::Progress) -> Result<Summary> {
        let mut training = Training::new(self)?;
        let steps = training.progress.steps.map_or(0, |steps| steps - training.progress.step);
        screen.stage("training", steps);
        if training.progress.step > 0 {
            screen.note(&format!("goes on after step {}", training.progress.step));
        }
        training.run(screen)?;
        training.finish()
    }
}

impl<'a> Training<'a> {
    fn new(job: &'a Job<'a>) -> Result<Training<'a>> {
        let (settings, target) = (&job.settings, job.target);
        let (held_out, train) = job.corpus.split(settings.held_out, settings.batch, settings.seed)?;
        let (drafter, weights) = target.drafter(&settings.init, settings.features)?;
        let dtype: Dtype = settings.dtype.into();
        let graph = Graph {
            drafter,
            target: target.decoder.clone(),
            adamw: settings.adamw,
            hard_weight: settings.hard_weight,
            dtype,
            rollout: settings.features.then_some(settings.rollout),
        };
        let vocabulary = target.decoder.config.vocab_size as usize;
        let ids = job.corpus.most_frequent(&train, vocabulary, settings.head_vocabulary);
        let draft_ids = Array::from_slice(&ids, &[ids.len() as i32]);
        let frozen = Frozen {
            target: target.weights.iter().map(|weight| weight.as_dtype(dtype)).collect::<Result<_, _>>()?,
            embedding: target.embedding.as_dtype(dtype)?,
            draft_head: target.head.take_axis(&draft_ids, 0)?,
            head: target.head.clone(),
            draft_ids,
        };
        eval(frozen.target.iter().chain([&frozen.embedding, &frozen.draft_head]))?;
        let resumed = checkpoint::load(job.folder, &graph.drafter.tensors, settings)?;
        let (state, progress) = match resumed {
            Some(resumed) => resumed,
            None => (State::new(weights)?, Progress::new(settings)),
        };
        eval(state.arrays())?;
        let path = job.folder.join(TrainingRow::FILE);
        let mut rows = if progress.step > 0 { read_rows(&path)? } else { Vec::new() };
        rows.retain(|row: &TrainingRow| row.step <= progress.step);
        let (step, evaluate) = (graph.clone(), graph.clone());
        let step = move |inputs: &[Array]| step.step(inputs);
        let evaluate = move |inputs: &[Array]| evaluate.evaluate(inputs, DRAFT_LENGTH);
        let (step, evaluate): (Function, Function) = if job.compiled {
            (Box::new(compile(step, None)), Box::new(compile(evaluate, None)))
        } else {
            (Box::new(step), Box::new(evaluate))
        };
        let order = Order::new(train, settings.batch, settings.seed);
        let positions = Array::from_f32(order.mean_positions() as f32);
        let losses = Vec::new();
        Ok(Training { job, graph, frozen, held_out, order, positions, step, evaluate, state, progress, rows, losses })
    }

    fn run(&mut self, screen: &mut dyn measure::Progress) -> Result<()> {
        let (settings, every) = (&self.job.settings, self.job.checkpoint_every);
        let mut started = Instant::now();
        if self.rows.is_empty() {
            self.log(screen, &mut started)?;
        }
        let first = self.progress.step;
        let mut timed = started;
        while self.progress.steps.is_none_or(|steps| self.progress.step < steps) {
            if self.job.stop.load(Ordering::Relaxed) {
                self.save(&mut started)?;
                return Ok(());
            }
            self.one_step()?;
            screen.step();
            let step = self.progress.step;
            if let (Some(minutes), None) = (settings.minutes, self.progress.steps) {
                if step == first + TIMED_STEPS.start {
                    self.wait()?;
                    timed = Instant::now();
                } else if step == first + TIMED_STEPS.end {
                    self.wait()?;
                    let step_seconds = timed.elapsed().as_secs_f64() / TIMED_STEPS.count() as f64;
                    self.count_time(&mut started);
                    self.progress.steps = Some(step + self.fitting(minutes, step_seconds)?);
                    screen.stage("training", self.progress.steps.unwrap_or_default() - step);
                }
            }
            let last = self.progress.steps == Some(step);
            if last || step.is_multiple_of(settings.evaluate_every) {
                self.log(screen, &mut started)?;
            }
            if !last && step.is_multiple_of(every) {
                self.save(&mut started)?;
            }
        }
        Ok(())
    }

    /// One step, submitted before the last one is waited for.
    fn one_step(&mut self) -> Result<()> {
        let settings = &self.job.settings;
        let step = self.progress.step;
        let sequences = self.order.batch(step);
        let longest = sequences.iter().map(|sequence| sequence.length).max().unwrap_or_default();
        let read: usize = sequences.iter().map(|sequence| sequence.length).sum();
        let mut batch = batch(self.job.corpus, sequences, longest.next_multiple_of(WIDTH_STEP));
        // The same for all batches, so that a position counts alike whichever batch it is in.
        batch.positions = self.positions.clone();
        let scalars = settings.adamw.scalars(self.schedule().learning_rate(step + 1), step + 1);
        let inputs = graph::step_inputs(&self.state, &Array::from_slice(&scalars, &[3]), &batch, &self.frozen);
        let outputs = (self.step)(&inputs)?;
        // Nothing else holds the old state now, so that its memory can be written over.
        drop(inputs);
        self.state = State::from_arrays(&outputs[2..]);
        async_eval(&outputs)?;
        if let Some(last) = self.losses.last() {
            last.eval()?;
        }
        self.losses.push(outputs[0].clone());
        self.progress.step += 1;
        self.progress.tokens += read as u64;
        Ok(())
    }

    fn schedule(&self) -> Schedule {
        let settings = &self.job.settings;
        Schedule { peak: settings.learning_rate, warm_up: settings.warm_up, steps: self.progress.steps }
    }

    /// Waits for all steps and adds up their losses.
    fn wait(&mut self) -> Result<()> {
        eval(self.state.arrays().chain(&self.losses))?;
        for loss in std::mem::take(&mut self.losses) {
            let loss = loss.item_exact::<f32>();
            if !loss.is_finite() {
                bail!("the loss is {loss} by step {}; lower --learning-rate and start again", self.progress.step);
            }
            self.progress.loss_sum += f64::from(loss);
            self.progress.loss_count += 1;
        }
        Ok(())
    }

    /// How many more steps fit into the minutes given, from the time of one and of an evaluation; at least one.
    fn fitting(&mut self, minutes: f64, step_seconds: f64) -> Result<u64> {
        let started = Instant::now();
        self.evaluation(&self.state.weights.clone())?;
        let evaluation_seconds = started.elapsed().as_secs_f64();
        let each = step_seconds + evaluation_seconds / self.job.settings.evaluate_every as f64;
        // One evaluation has just been made, one comes at the end, and one of what is exported.
        let left = minutes * 60.0 - self.progress.seconds - 3.0 * evaluation_seconds;
        Ok(((left / each) as u64).max(1))
    }

    fn count_time(&mut self, started: &mut Instant) {
        self.progress.seconds += started.elapsed().as_secs_f64();
        *started = Instant::now();
    }

    /// Evaluates, and adds a row to `training.csv`.
    fn log(&mut self, screen: &mut dyn measure::Progress, started: &mut Instant) -> Result<()> {
        self.wait()?;
        let evaluation = self.evaluation(&self.state.weights.clone())?;
        self.count_time(started);
        let Progress { step, tokens, seconds, loss_sum, loss_count, .. } = self.progress;
        let alpha = |place: usize| evaluation.acceptance.and_then(|shares| shares.alpha[place]);
        let row = TrainingRow {
            step,
            tokens,
            seconds,
            loss: (loss_count > 0).then(|| loss_sum / loss_count as f64),
            learning_rate: if step == 0 { 0.0 } else { self.schedule().learning_rate(step) },
            held_out_loss: evaluation.loss,
            alpha_1: alpha(0),
            alpha_2: alpha(1),
            alpha_3: alpha(2),
            alpha_4: alpha(3),
            tau_4: evaluation.acceptance.map(|shares| shares.tau),
        };
        (self.progress.loss_sum, self.progress.loss_count) = (0.0, 0);
        screen.note(&describe(&row, self.rows.last()));
        self.rows.push(row);
        write_rows(&self.job.folder.join(TrainingRow::FILE), &self.rows)
    }

    fn evaluation(&mut self, weights: &[Array]) -> Result<Evaluation> {
        let (mut loss, mut positions) = (0.0, 0);
        let mut acceptance = Acceptance::default();
        let width = self.held_out.iter().map(|sequence| sequence.length).max().unwrap_or_default();
        for sequences in self.held_out.chunks(self.job.settings.batch) {
            let batch = batch(self.job.corpus, sequences, width.next_multiple_of(WIDTH_STEP));
            let outputs = (self.evaluate)(&graph::evaluation_inputs(weights, &batch, &self.frozen))?;
            let [mean, hits] = &outputs[..] else { bail!("an evaluation gave {} arrays", outputs.len()) };
            eval([mean, hits])?;
            let counted: usize = sequences.iter().map(|sequence| sequence.length - sequence.loss_from).sum();
            loss += f64::from(mean.item_exact::<f32>()) * counted as f64;
            positions += counted;
            let (passes, rows, width) = (hits.dim(0) as usize, hits.dim(1) as usize, hits.dim(2) as usize);
            let hits = hits.try_as_slice::<bool>()?;
            for (row, sequence) in sequences.iter().enumerate() {
                // A drafter that reads tokens only has one pass, whatever the place in the draft.
                let hit = |place: usize, at: usize| hits[(place.min(passes - 1) * rows + row) * width + at];
                acceptance.add(sequence.loss_from - 1..sequence.length - 1, hit);
            }
        }
        Ok(Evaluation { loss: loss / positions.max(1) as f64, acceptance: acceptance.shares() })
    }

    fn save(&mut self, started: &mut Instant) -> Result<()> {
        self.wait()?;
        self.count_time(started);
        checkpoint::save(self.job.folder, &self.graph.drafter.tensors, &self.state, &self.progress)
    }

    fn finish(mut self) -> Result<Summary> {
        let Progress { step, steps, tokens, seconds, .. } = self.progress;
        let peak_memory_bytes = mlx_rs::memory::peak_memory()? as u64;
        let (bytes, exported) = (None, None);
        let mut summary = Summary { stopped: true, step, steps, tokens, seconds, peak_memory_bytes, bytes, exported };
        if steps != Some(step) {
            return Ok(summary);
        }
        let stored = export::stored(&self.graph.drafter.tensors, &self.state.weights, self.job.export)?;
        let exported = self.evaluation(&stored.as_read)?;
        let bytes = export::write(self.job.folder, &stored, &self.description(&exported))?;
        checkpoint::remove(self.job.folder)?;
        summary = Summary { stopped: false, bytes: Some(bytes), exported: Some(exported), ..summary };
        Ok(summary)
    }

    fn description(&self, exported: &Evaluation) -> Description<'_> {
        let (settings, target) = (&self.job.settings, self.job.target);
        Description {
            target: &target.name,
            target_sha256: &target.sha256,
            target_config: &target.config_json,
            layers: settings.init.len(),
            features: settings.features,
            draft_ids: &self.frozen.draft_ids,
            training: self.record(exported),
        }
    }

    fn record(&self, exported: &Evaluation) -> Value {
        json!({
            "settings": self.job.settings,
            "steps": self.progress.step,
            "tokens": self.progress.tokens,
            "seconds": self.progress.seconds,
            "device": self.job.device,
            "corpus_sequences": self.job.corpus.sequences.len(),
            "corpus_tokens": self.job.corpus.token_count(),
            "held_out": exported,
        })
    }
}

impl Progress {
    fn new(settings: &Settings) -> Self {
        let steps = settings.steps;
        Progress { settings: settings.clone(), step: 0, steps, tokens: 0, seconds: 0.0, loss_sum: 0.0, loss_count: 0 }
    }
}

/// `sequences` as rows of `width`, zeros behind their ends.
pub fn batch(corpus: &Corpus, sequences: &[Sequence], width: usize) -> Batch {
    let (mut tokens, mut counted) = (vec![0u32; sequences.len() * width], vec![0f32; sequences.len() * width]);
    for (row, sequence) in sequences.iter().enumerate() {
        let first = row * width;
        tokens[first..][..sequence.length].copy_from_slice(corpus.tokens(*sequence));
        counted[first + sequence.loss_from - 1..first + sequence.length - 1].fill(1.0);
    }
    let shape = [sequences.len() as i32, width as i32];
    Batch {
        tokens: Array::from_slice(&tokens, &shape),
        counted: Array::from_slice(&counted, &shape),
        positions: Array::from_f32(counted.iter().sum()),
    }
}

/// A row for people, with the tokens a second since the row `before`.
fn describe(row: &TrainingRow, before: Option<&TrainingRow>) -> String {
    let tau = row.tau_4.map_or(String::from("no round"), |tau| format!("τ(4) {tau:.3}"));
    let loss = row.loss.map_or(String::new(), |loss| format!("loss {loss:.4}, "));
    let speed = before.map_or(String::new(), |before| {
        let speed = (row.tokens - before.tokens) as f64 / (row.seconds - before.seconds).max(1e-9);
        format!(", {speed:.0} tokens/s")
    });
    format!("step {}: {loss}held out {:.4}, {tau}{speed}", row.step, row.held_out_loss)
}
