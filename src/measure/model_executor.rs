//! The executor that runs a model on this machine.

use super::cost::{self, ForwardTimer, begin, proposal};
use super::executor::{Executor, Rules, TimedRun, TracedDraft, TracedToken, TracedTokens, Work};
use super::model_trace;
use super::runs::{Drafters, first_divergence, logit_margin, run_arm};
use super::samples::Limits;
use super::trace::TextChances;
use super::tune::CHAIN;
use crate::analysis::Arm;
use crate::decode::sampling::Sampling;
use crate::decode::{Request, Run, plain, prefill, prefill_hidden};
use crate::draft::{Drafter, TokenDrafts};
#[cfg(target_os = "linux")]
use crate::fused::cuda::kernels_used;
use crate::machine::device::DeviceKind;
use crate::model::cache::KvCache;
use crate::model::memory;
use crate::model::transformer::Transformer;
use crate::results::{CostRow, Mode, Role, RunRow, StopRuleRow};
use crate::roofline::{Ceilings, Forward, Padding, StopRule};
use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use std::time::{Duration, Instant};

/// Tokens of a run that warms up.
const WARM_UP_TOKENS: usize = 8;

/// What texts a target goes on with.
pub struct Texts {
    /// As it reads them.
    pub prompts: Vec<Vec<u32>>,
    pub sampling: Sampling,
    pub seed: u64,
}

impl Texts {
    /// What a run in a block is asked for: exactly `max_tokens` tokens, the end of the text ignored.
    fn request(&self, prompt: usize, block: u64, max_tokens: usize) -> Request<'_> {
        let (sampling, seed) = (self.sampling, self.block_seed(block));
        Request { prompt: &self.prompts[prompt], max_tokens, sampling, seed, end_ids: &[], read: None }
    }

    /// Of what is left to chance in a block. Those of consecutive blocks are set far apart.
    fn block_seed(&self, block: u64) -> u64 {
        self.seed.wrapping_add((block + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

/// The target.
#[derive(Clone, Copy)]
pub struct TargetModel<'a> {
    /// What messages call it.
    pub path: &'a Path,
    pub model: &'a Transformer,
}

/// A target with its drafters, and the texts.
pub struct ModelExecutor<'a> {
    path: &'a Path,
    model: &'a Transformer,
    drafters: Drafters,
    texts: Texts,
    device: DeviceKind,
    ceilings: Ceilings,
    /// When the whole job began, set-up included.
    started: Instant,
    timer: Option<ForwardTimer<'a>>,
    /// What drafters propose behind while proposals are timed.
    behind: Vec<u32>,
    /// What no sample can exceed.
    limits: Option<Limits>,
    /// The plain text of the block used last, with its number.
    plain: Option<(u64, Vec<u32>)>,
    /// The prompt used last, as the target has read it: every run of it starts from a copy.
    read: Option<(usize, KvCache)>,
    stop_rules: Vec<StopRuleRow>,
    rules: Rules,
}

impl<'a> ModelExecutor<'a> {
    pub fn new(
        TargetModel { path, model }: TargetModel<'a>,
        drafters: Drafters,
        stop_rules: Vec<StopRuleRow>,
        texts: Texts,
        device: DeviceKind,
        ceilings: Ceilings,
        started: Instant,
    ) -> Self {
        ModelExecutor {
            path,
            model,
            drafters,
            stop_rules,
            texts,
            device,
            ceilings,
            started,
            timer: None,
            behind: Vec::new(),
            limits: None,
            plain: None,
            read: None,
            rules: Rules::default(),
        }
    }

    /// For a drafter whose rule looks at every token: one that looks and keeps them all.
    fn evaluated(&self, drafter: &str) -> Option<StopRule> {
        let row = self.stop_rules.iter().find(|row| row.drafter == drafter)?;
        let looks = !["", "acceptance-average"].contains(&row.rule.as_str());
        looks.then_some(StopRule::PMin { threshold: 0.0 })
    }

    /// One run of an arm, from a copy of the prompt as the target has read it. A run in which kernels of ours were used for the first
    /// time, which had to be compiled, is done again.
    fn run_arm(
        &mut self,
        prompt: usize,
        block: u64,
        arm: &Arm,
        max_tokens: usize,
        supposed: Option<&[usize]>,
    ) -> Result<Run> {
        if self.read.as_ref().is_none_or(|(of, _)| *of != prompt) {
            let mut cache = self.model.new_cache();
            prefill(self.model, &mut cache, &self.texts.prompts[prompt])?;
            self.read = Some((prompt, cache));
        }
        let read = self.read.as_ref().map(|(_, cache)| cache);
        let request = Request { read, ..self.texts.request(prompt, block, max_tokens) };
        loop {
            let used = kernels_used();
            let run = run_arm(self.model, &mut self.drafters, arm, &self.rules, supposed, &request)?;
            if kernels_used() == used {
                return Ok(run);
            }
        }
    }

    /// A run in which a round at an output position accepts as many drafted tokens as `accepted` has there. Its text means
    /// nothing and is compared with none.
    pub fn run_supposed(
        &mut self,
        prompt: usize,
        block: u64,
        arm: &Arm,
        max_tokens: usize,
        accepted: &[usize],
    ) -> Result<TimedRun> {
        Ok(timed(&self.run_arm(prompt, block, arm, max_tokens, Some(accepted))?, None))
    }

    /// What the target commits in a block without a drafter: at least `tokens` tokens.
    fn plain_text(&mut self, prompt: usize, block: u64, tokens: usize) -> Result<&[u32]> {
        let known = matches!(&self.plain, Some((of, text)) if *of == block && text.len() >= tokens);
        if !known {
            let request = self.texts.request(prompt, block, tokens);
            let text = plain::decode(self.model, &request, &mut |_| ())?.tokens;
            self.plain = Some((block, text));
        }
        Ok(&self.plain.as_ref().expect("just decoded").1)
    }
}

/// Kernels of ours that were used.
#[cfg(not(target_os = "linux"))]
fn kernels_used() -> usize {
    0
}

fn timed(run: &Run, first_divergence: Option<(usize, f64)>) -> TimedRun {
    TimedRun {
        tokens: run.tokens.len(),
        seconds: run.seconds,
        rounds: run.rounds,
        drafted: run.drafted,
        accepted: run.accepted,
        cut_off: run.cut_off,
        first_divergence,
    }
}

fn find<'a>(drafters: &'a mut Drafters, name: &str) -> Result<&'a mut Box<dyn Drafter>> {
    drafters.get_mut(name).with_context(|| format!("there is no drafter '{name}'"))
}

/// Shows a drafter that reads the target's hidden states those of a text that it is to be traced on.
fn show(drafter: &mut dyn Drafter, target: &Transformer, text: &[u32]) -> Result<()> {
    if drafter.hidden_size().is_some() {
        let hidden = prefill_hidden(target, &mut target.new_cache(), text)?;
        drafter.begin(&text[..1], text.len() as i32)?;
        drafter.observe(&hidden)?;
    }
    Ok(())
}

impl Executor for ModelExecutor<'_> {
    fn drafters(&self) -> Vec<String> {
        self.drafters.keys().cloned().collect()
    }

    fn precision(&self) -> String {
        self.model.precision()
    }

    fn work(&self, forward: Forward) -> Work {
        let shape = self.model.shape();
        Work { bytes: shape.bytes(forward), flops: shape.flops(forward) as f64 }
    }

    /// A drafter that runs a model does one forward of width 1 for each token; a lookup moves nothing to speak of.
    fn draft_work(&self, drafter: &str, context: u64) -> Work {
        let forward = Forward { context, width: 1, batch: 1 };
        let shape = self.drafters.get(drafter).and_then(|drafter| drafter.shape());
        shape.map_or(Work::default(), |shape| Work { bytes: shape.bytes(forward), flops: shape.flops(forward) as f64 })
    }

    fn check_room(&self, tokens: usize) -> Result<()> {
        memory::check_room(self.path, self.model, tokens)
    }

    fn warm_up(&mut self, arm: &Arm) -> Result<()> {
        let stop = self.evaluated(&arm.drafter).map(|rule| (arm.clone(), rule)).into_iter().collect();
        let rules = Rules { stop, padding: Padding::default() };
        let request = self.texts.request(0, 0, WARM_UP_TOKENS);
        run_arm(self.model, &mut self.drafters, arm, &rules, None, &request).map(drop)
    }

    /// On a GPU the processor adds the verification while the proposal is computed, and there is one wait instead of two.
    fn overlaps(&self) -> bool {
        self.device == DeviceKind::Gpu
    }

    fn prepare(&mut self, samples: &[CostRow]) -> Result<()> {
        let context = samples.first().map_or(0, |row| row.context as usize);
        let widest =
            |role: Role| samples.iter().filter(|row| row.role == role).map(|row| row.width as usize).max().unwrap_or(0);
        let text: Vec<u32> = self.texts.prompts.concat();
        let widest_target = widest(Role::Target).max(CHAIN);
        let timer = ForwardTimer::new(self.model, &text, context, widest_target, 1)?;
        self.timer = Some(timer.sampled(self.texts.sampling));
        self.behind = text.iter().copied().cycle().take(context.max(1)).collect();
        let evaluated: Vec<_> = self.drafters.keys().map(|name| self.evaluated(name)).collect();
        for (drafter, rule) in self.drafters.values_mut().zip(evaluated) {
            drafter.stop_by(rule);
            begin(drafter.as_mut(), &self.behind, (context + widest(Role::Drafter)) as i32)?;
        }
        self.limits = Some(Limits::measure(self.device, self.ceilings.bandwidth_bytes_per_s, samples));
        Ok(())
    }

    fn time(&mut self, sample: &CostRow, taken: Option<usize>) -> Result<f64> {
        let timer = self.timer.as_mut().context("the samples were not prepared")?;
        let width = sample.width as usize;
        cost::sample(taken, || match (sample.role, sample.mode) {
            (Role::Drafter, mode) => {
                let drafter = find(&mut self.drafters, &sample.drafter)?.as_mut();
                match mode {
                    Mode::Round => timer.round(drafter, &self.behind, width),
                    _ => proposal(drafter, &self.behind, width, &self.texts.sampling),
                }
            }
            (Role::Target, Mode::Pipelined) => timer.pipelined(CHAIN),
            (Role::Target, _) => timer.forward(width),
        })
    }

    fn most_bandwidth(&self, sample: &CostRow) -> f64 {
        self.limits.as_ref().map_or(f64::INFINITY, |limits| limits.most(sample))
    }

    fn trace(
        &mut self,
        prompt: usize,
        drafter: &str,
        positions: usize,
        draft_length: usize,
    ) -> Result<Vec<TracedDraft>> {
        // The text of the prompt's first block.
        let text = self.plain_text(prompt, prompt as u64, positions + draft_length)?.to_vec();
        let first = self.texts.prompts[prompt].len();
        let whole = [&self.texts.prompts[prompt][..], &text].concat();
        let drafter = find(&mut self.drafters, drafter)?;
        show(drafter.as_mut(), self.model, &whole)?;
        let sampling = &self.texts.sampling;
        if sampling.is_greedy() {
            let matches = drafter.matches(&whole, first, positions, draft_length)?;
            let drafts = matches.iter().zip(text);
            return Ok(drafts
                .map(|(found, token)| TracedDraft::greedy(token, found.proposed, found.matched))
                .collect());
        }
        let target = model_trace::probabilities(self.model, &whole, first, text.len(), sampling)?;
        let drafts = drafter.text_chances(&whole, first, positions, draft_length, sampling)?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.texts.block_seed(prompt as u64));
        // Another stream than the text's own.
        rng.set_stream(1);
        let traced = |(position, draft): (usize, TextChances)| {
            let chances = draft.acceptance(&target[position..]);
            // As many coins at each position, so that the draws of one do not depend on the others.
            let coins: Vec<f32> = (0..draft_length).map(|_| rng.random()).collect();
            let matched = chances.iter().zip(coins).take_while(|(chance, coin)| coin < *chance).count();
            TracedDraft { token: text[position], drafted: draft.proposed, matched, chances }
        };
        Ok(drafts.into_iter().enumerate().map(traced).collect())
    }

    fn stop_rules(&self) -> Vec<StopRuleRow> {
        self.stop_rules.clone()
    }

    fn trace_tokens(
        &mut self,
        prompt: usize,
        drafter: &str,
        positions: usize,
        draft_length: usize,
    ) -> Result<Vec<TracedTokens>> {
        let text = self.plain_text(prompt, prompt as u64, positions + draft_length)?.to_vec();
        let first = self.texts.prompts[prompt].len();
        let whole = [&self.texts.prompts[prompt][..], &text].concat();
        let drafter = find(&mut self.drafters, drafter)?;
        show(drafter.as_mut(), self.model, &whole)?;
        let drafts = drafter.token_drafts(&whole, first, positions, draft_length)?;
        let traced = |(position, drafts): (usize, TokenDrafts)| {
            let tokens = drafts.tokens.iter().zip(drafts.seen).zip(&text[position..]);
            let token =
                |((&token, seen), &there): ((&u32, _), &u32)| TracedToken { token, seen, matches: token == there };
            TracedTokens { token: text[position], source: drafts.source, drafts: tokens.map(token).collect() }
        };
        Ok(drafts.into_iter().enumerate().map(traced).collect())
    }

    fn use_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    fn run(&mut self, prompt: usize, block: u64, arm: &Arm, max_tokens: usize, _taken: &[RunRow]) -> Result<TimedRun> {
        let run = self.run_arm(prompt, block, arm, max_tokens, None)?;
        let plain = match arm.draft_length {
            // A block begins with plain decoding, which the others are compared with.
            0 if !matches!(&self.plain, Some((of, _)) if *of == block) => {
                self.plain = Some((block, run.tokens.clone()));
                None
            }
            // A sampled text is another one with each draft length.
            1.. if !self.texts.sampling.is_greedy() => None,
            _ => first_divergence(self.plain_text(prompt, block, max_tokens)?, &run.tokens),
        };
        let plain_text = self.plain.as_ref().map_or(&[][..], |(_, text)| text);
        let margin = |position: usize| -> Result<(usize, f64)> {
            let text = [&self.texts.prompts[prompt][..], &plain_text[..position]].concat();
            Ok((position, logit_margin(self.model, &text)?.into()))
        };
        Ok(timed(&run, plain.map(margin).transpose()?))
    }

    fn started_s(&self, _taken: &[RunRow]) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
