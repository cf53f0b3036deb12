//! The executor that runs a model with random weights, on which acceptance is supposed: times are measured, and how many
//! drafted tokens a round accepts is drawn from the chances that the scenario declares.

use super::executor::{Executor, Rules, TimedRun, TracedDraft, TracedTokens, Work};
use super::model_executor::ModelExecutor;
use crate::analysis::Arm;
use crate::results::{CostRow, RunRow, StopRuleRow};
use crate::roofline::Forward;
use crate::scenario::Supposed;
use anyhow::{Context, Result, bail};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::time::Duration;

pub struct SupposedExecutor<'a> {
    model: ModelExecutor<'a>,
    /// By the name that results use: the drafter that is run, and the chance with which each of its tokens is accepted.
    supposed: BTreeMap<String, (String, f64)>,
    /// The longest draft.
    longest: usize,
    seed: u64,
}

impl<'a> SupposedExecutor<'a> {
    /// Every drafter of `model` at every chance. Nothing is drafted longer than `longest`.
    pub fn new(model: ModelExecutor<'a>, supposed: &Supposed, longest: usize, seed: u64) -> Self {
        let variants = |draft: String| {
            supposed.acceptance.iter().map(move |&alpha| (Supposed::name(&draft, alpha), (draft.clone(), alpha)))
        };
        let supposed = model.drafters().into_iter().flat_map(variants).collect();
        SupposedExecutor { model, supposed, longest, seed }
    }

    fn find(&self, drafter: &str) -> Result<&(String, f64)> {
        self.supposed.get(drafter).with_context(|| format!("there is no drafter '{drafter}'"))
    }

    /// The arm that is run, and its chance.
    fn arm(&self, arm: &Arm) -> Result<(Arm, f64)> {
        if arm.draft_length == 0 {
            return Ok((arm.clone(), 0.0));
        }
        let (drafter, alpha) = self.find(&arm.drafter)?;
        Ok((Arm { drafter: drafter.clone(), ..arm.clone() }, *alpha))
    }

    /// Tokens accepted at each of the first `positions` positions of a text. Every drafter and every chance sees the same coins.
    fn accepted(&self, prompt: usize, positions: usize, alpha: f64) -> Vec<usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(prompt as u64);
        let mut at_position = || {
            let coins: Vec<f64> = (0..self.longest).map(|_| rng.random()).collect();
            coins.iter().take_while(|coin| **coin < alpha).count()
        };
        (0..positions).map(|_| at_position()).collect()
    }
}

impl Executor for SupposedExecutor<'_> {
    fn drafters(&self) -> Vec<String> {
        self.supposed.keys().cloned().collect()
    }

    fn precision(&self) -> String {
        self.model.precision()
    }

    fn work(&self, forward: Forward) -> Work {
        self.model.work(forward)
    }

    fn draft_work(&self, drafter: &str, context: u64) -> Work {
        self.find(drafter).map_or(Work::default(), |(drafter, _)| self.model.draft_work(drafter, context))
    }

    fn check_room(&self, tokens: usize) -> Result<()> {
        self.model.check_room(tokens)
    }

    fn warm_up(&mut self, arm: &Arm) -> Result<()> {
        let (arm, _) = self.arm(arm)?;
        self.model.warm_up(&arm)
    }

    fn overlaps(&self) -> bool {
        self.model.overlaps()
    }

    fn prepare(&mut self, samples: &[CostRow]) -> Result<()> {
        self.model.prepare(samples)
    }

    fn time(&mut self, sample: &CostRow, taken: Option<usize>) -> Result<f64> {
        let Some((drafter, _)) = self.supposed.get(&sample.drafter) else { return self.model.time(sample, taken) };
        self.model.time(&CostRow { drafter: drafter.clone(), ..sample.clone() }, taken)
    }

    fn most_bandwidth(&self, sample: &CostRow) -> f64 {
        self.model.most_bandwidth(sample)
    }

    fn trace(&mut self, prompt: usize, drafter: &str, positions: usize, longest: usize) -> Result<Vec<TracedDraft>> {
        let accepted = self.accepted(prompt, positions, self.find(drafter)?.1);
        let drafts = accepted.iter().enumerate();
        Ok(drafts.map(|(at, accepted)| TracedDraft::greedy(at as u32, longest, (*accepted).min(longest))).collect())
    }

    /// Random weights are sure of nothing.
    fn stop_rules(&self) -> Vec<StopRuleRow> {
        Vec::new()
    }

    fn trace_tokens(&mut self, _: usize, drafter: &str, _: usize, _: usize) -> Result<Vec<TracedTokens>> {
        bail!("{drafter}: random weights have no confidence")
    }

    fn use_rules(&mut self, rules: Rules) {
        self.model.use_rules(rules);
    }

    fn run(&mut self, prompt: usize, block: u64, arm: &Arm, max_tokens: usize, _taken: &[RunRow]) -> Result<TimedRun> {
        let (arm, alpha) = self.arm(arm)?;
        let accepted = self.accepted(prompt, max_tokens, alpha);
        self.model.run_supposed(prompt, block, &arm, max_tokens, &accepted)
    }

    fn started_s(&self, taken: &[RunRow]) -> f64 {
        self.model.started_s(taken)
    }

    fn elapsed(&self) -> Duration {
        self.model.elapsed()
    }
}
