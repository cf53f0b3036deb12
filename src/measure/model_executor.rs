//! The executor that runs a model on this machine.

use super::cost::{ForwardTimer, begin, proposal};
use super::executor::{Executor, TimedRun, TracedDraft, Work};
use super::runs::{Drafters, first_divergence, logit_margin, run_arm};
use super::samples::Limits;
use super::tune::CHAIN;
use crate::analysis::Arm;
use crate::decode::sampling::Sampling;
use crate::decode::{Request, plain, prefill_hidden};
use crate::machine::device::DeviceKind;
use crate::model::language_model::LanguageModel;
use crate::results::{CostRow, Mode, Role, RunRow};
use crate::roofline::{Ceilings, Forward};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// Tokens of a run that warms up.
const WARM_UP_TOKENS: usize = 8;

/// A target with its drafters, and the prompts as it reads them.
pub struct ModelExecutor<'a> {
    target: &'a LanguageModel,
    drafters: Drafters,
    prompts: Vec<Vec<u32>>,
    device: DeviceKind,
    ceilings: Ceilings,
    /// When the whole job began, set-up included.
    started: Instant,
    timer: Option<ForwardTimer<'a>>,
    /// What drafters propose behind while proposals are timed.
    behind: Vec<u32>,
    /// What no sample can exceed.
    limits: Option<Limits>,
    /// The plain text of the prompt used last, with its place.
    plain: Option<(usize, Vec<u32>)>,
}

impl<'a> ModelExecutor<'a> {
    pub fn new(
        target: &'a LanguageModel,
        drafters: Drafters,
        prompts: Vec<Vec<u32>>,
        device: DeviceKind,
        ceilings: Ceilings,
        started: Instant,
    ) -> Self {
        let (timer, behind, limits, plain) = (None, Vec::new(), None, None);
        ModelExecutor { target, drafters, prompts, device, ceilings, started, timer, behind, limits, plain }
    }

    /// What the target commits to a prompt without a drafter: at least `tokens` tokens.
    fn plain_text(&mut self, prompt: usize, tokens: usize) -> Result<&[u32]> {
        let known = matches!(&self.plain, Some((place, text)) if *place == prompt && text.len() >= tokens);
        if !known {
            let prompt_tokens = &self.prompts[prompt];
            let request = Request {
                prompt: prompt_tokens,
                max_tokens: tokens,
                sampling: Sampling::GREEDY,
                seed: 0,
                end_ids: &[],
            };
            let text = plain::decode(&self.target.transformer, &request, &mut |_| ())?.tokens;
            self.plain = Some((prompt, text));
        }
        Ok(&self.plain.as_ref().expect("just decoded").1)
    }
}

impl Executor for ModelExecutor<'_> {
    fn drafters(&self) -> Vec<String> {
        self.drafters.keys().cloned().collect()
    }

    fn precision(&self) -> String {
        self.target.transformer.precision()
    }

    fn work(&self, forward: Forward) -> Work {
        let shape = self.target.transformer.shape();
        Work { bytes: shape.bytes(forward), flops: shape.flops(forward) as f64 }
    }

    /// A drafter that runs a model does one forward of width 1 for each token; a lookup moves nothing to speak of.
    fn draft_work(&self, drafter: &str, context: u64) -> Work {
        let forward = Forward { context, width: 1, batch: 1 };
        let shape = self.drafters.get(drafter).and_then(|drafter| drafter.shape());
        shape.map_or(Work::default(), |shape| Work { bytes: shape.bytes(forward), flops: shape.flops(forward) as f64 })
    }

    fn check_room(&self, tokens: usize) -> Result<()> {
        self.target.check_room(tokens)
    }

    fn warm_up(&mut self, arm: &Arm) -> Result<()> {
        run_arm(&self.target.transformer, &mut self.drafters, arm, &self.prompts[0], WARM_UP_TOKENS).map(drop)
    }

    fn prepare(&mut self, samples: &[CostRow]) -> Result<()> {
        let context = samples.first().map_or(0, |row| row.context as usize);
        let widest =
            |role: Role| samples.iter().filter(|row| row.role == role).map(|row| row.width as usize).max().unwrap_or(0);
        let text: Vec<u32> = self.prompts.concat();
        self.timer =
            Some(ForwardTimer::new(&self.target.transformer, &text, context, widest(Role::Target).max(CHAIN), 1)?);
        self.behind = text.iter().copied().cycle().take(context.max(1)).collect();
        for drafter in self.drafters.values_mut() {
            begin(drafter.as_mut(), &self.behind, (context + widest(Role::Drafter)) as i32)?;
        }
        self.limits = Some(Limits::measure(self.device, self.ceilings.bandwidth_bytes_per_s, samples));
        Ok(())
    }

    fn time(&mut self, sample: &CostRow, _taken: Option<usize>) -> Result<f64> {
        let timer = self.timer.as_mut().context("the samples were not prepared")?;
        match (sample.role, sample.mode) {
            (Role::Drafter, _) => {
                let drafter = self.drafters.get_mut(&sample.drafter).context("a sample of an unknown drafter")?;
                proposal(drafter.as_mut(), &self.behind, sample.width as usize)
            }
            (Role::Target, Mode::Pipelined) => timer.pipelined(CHAIN),
            (Role::Target, Mode::Sync) => timer.forward(sample.width as usize),
        }
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
        let text = self.plain_text(prompt, positions + draft_length)?.to_vec();
        let start = self.prompts[prompt].len();
        let whole = [&self.prompts[prompt][..], &text].concat();
        let drafter = self.drafters.get_mut(drafter).with_context(|| format!("there is no drafter '{drafter}'"))?;
        if drafter.hidden_size().is_some() {
            let model = &self.target.transformer;
            let hidden = prefill_hidden(model, &mut model.new_cache(), &whole)?;
            drafter.begin(&whole[..1], whole.len() as i32)?;
            drafter.observe(&hidden)?;
        }
        let matches = drafter.matches(&whole, start, positions, draft_length)?;
        let traced = |(position, found): (usize, &super::trace::Match)| TracedDraft {
            token: text[position],
            drafted: found.proposed,
            matched: found.matched,
        };
        Ok(matches.iter().enumerate().map(traced).collect())
    }

    fn run(&mut self, prompt: usize, arm: &Arm, max_tokens: usize, _taken: &[RunRow]) -> Result<TimedRun> {
        let run = run_arm(&self.target.transformer, &mut self.drafters, arm, &self.prompts[prompt], max_tokens)?;
        let plain = match arm.draft_length {
            // A block begins with plain decoding, which the others are compared with.
            0 if !matches!(&self.plain, Some((place, _)) if *place == prompt) => {
                self.plain = Some((prompt, run.tokens.clone()));
                None
            }
            _ => first_divergence(self.plain_text(prompt, max_tokens)?, &run.tokens),
        };
        let plain_text = self.plain.as_ref().map_or(&[][..], |(_, text)| text);
        let margin = |position: usize| -> Result<(usize, f64)> {
            let text = [&self.prompts[prompt][..], &plain_text[..position]].concat();
            Ok((position, logit_margin(&self.target.transformer, &text)?.into()))
        };
        Ok(TimedRun {
            tokens: run.tokens.len(),
            seconds: run.seconds,
            rounds: run.rounds,
            drafted: run.drafted,
            accepted: run.accepted,
            cut_off: run.cut_off,
            first_divergence: plain.map(margin).transpose()?,
        })
    }

    fn started_s(&self, _taken: &[RunRow]) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
