//! The executor that runs nothing: times follow from a declared cost model with declared noise, acceptance from declared
//! chances. The same seed gives the same rows everywhere, and a job that was cut short goes on with the very next one.

use super::executor::{Executor, Rules, TimedRun, TracedDraft, TracedTokens, Work};
use crate::analysis::Arm;
use crate::results::{CostRow, Mode, PromptRow, Role, RunRow, StopRuleRow};
use crate::roofline::{Ceilings, Draft, Forward, Padding, Trace, replay};
use crate::scenario::{Precision, Scenario, Simulated, SimulatedDrafter, SimulatedTarget};
use crate::stats::simulation::Disturbances;
use anyhow::{Context, Result, bail};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use std::time::Duration;

/// Tokens of every made-up prompt, unless a context is to be filled.
const PROMPT_TOKENS: usize = 128;
const CATEGORIES: [&str; 4] = ["chat", "code", "summary", "translation"];
/// Bytes a weight where nothing is said: 16 bits.
const STORED_BYTES: f64 = 2.0;

/// Seeded streams of random numbers, one a purpose, so that none depends on how often another was used.
#[derive(Clone, Copy)]
enum Stream {
    Costs,
    Runs,
    /// By prompt.
    Lengths,
    /// By prompt.
    Acceptance,
    /// By prompt and draft length.
    Interaction,
    /// By prompt.
    Ends,
}

/// A made-up target with one drafter at one operating point.
pub struct SimulatedExecutor {
    machine: Simulated,
    target: SimulatedTarget,
    name: String,
    drafter: SimulatedDrafter,
    precision: Precision,
    context: u64,
    batch: usize,
    longest: usize,
    seed: u64,
    costs: Sequence,
    runs: Sequence,
    padding: Padding,
}

/// Disturbances in the order taken.
struct Sequence {
    disturbances: Disturbances,
    rng: ChaCha8Rng,
}

impl Sequence {
    /// The disturbance of the timing that comes after `taken` others, of which an earlier launch may have done some.
    fn after(&mut self, taken: usize) -> f64 {
        while self.disturbances.taken() < taken {
            self.disturbances.next(&mut self.rng);
        }
        self.disturbances.next(&mut self.rng)
    }
}

impl SimulatedExecutor {
    /// For a validated scenario with one drafter and its `[simulated]` table.
    pub fn new(scenario: &Scenario) -> Result<SimulatedExecutor> {
        let machine = scenario.simulated.clone().context("the scenario has no [simulated] table")?;
        let [name] = scenario.drafts.as_slice() else { bail!("a simulated cell has one drafter") };
        let target = machine.targets.get(&scenario.target.model).context("simulated.targets lacks the target")?.clone();
        let drafter = machine.drafters.get(name).context("simulated.drafters lacks the drafter")?.clone();
        let longest = scenario.draft_lengths.values().last().copied().unwrap_or(0);
        // Drift reaches its full size at about the last timing.
        let samples = 5 * (scenario.draft_lengths.values().len() * 2 + scenario.widths.values().len());
        let runs = (scenario.tune_prompts + scenario.confirm_prompts) * (scenario.arms + 2);
        let sequence = |stream: Stream, timings: usize| Sequence {
            disturbances: Disturbances::new(machine.noise, timings),
            rng: rng(scenario.seed, stream, 0),
        };
        Ok(SimulatedExecutor {
            costs: sequence(Stream::Costs, samples),
            runs: sequence(Stream::Runs, runs),
            padding: Padding::default(),
            precision: Precision { dtype: scenario.target.dtype, quantize: scenario.target.quantize },
            context: context(scenario) as u64,
            batch: scenario.batch,
            seed: scenario.seed,
            name: name.clone(),
            longest,
            machine,
            target,
            drafter,
        })
    }

    /// Its made-up prompts.
    pub fn prompts(scenario: &Scenario) -> Vec<PromptRow> {
        let prompt_tokens = match scenario.context.filter(|_| scenario.fill_context) {
            Some(context) => context.saturating_sub(scenario.max_tokens / 2).max(1),
            None => PROMPT_TOKENS,
        };
        let row = |place: usize| PromptRow {
            prompt: format!("p{place}"),
            category: CATEGORIES[place % CATEGORIES.len()].to_string(),
            split: if place < scenario.tune_prompts { "tune" } else { "confirm" }.to_string(),
            place: place as u64,
            prompt_tokens: prompt_tokens as u64,
            tokens_sha256: String::new(),
        };
        (0..scenario.tune_prompts + scenario.confirm_prompts).map(row).collect()
    }

    /// What the machine is said to reach.
    pub fn ceilings(&self) -> Ceilings {
        Ceilings {
            bandwidth_bytes_per_s: 1e9 * self.machine.bandwidth_gb_s,
            matrix_flops_per_s: 1e12 * self.machine.matrix_tflop_s,
            read_bytes_per_s: None,
        }
    }

    /// Seconds of a forward of the target without a disturbance.
    fn forward_s(&self, width: usize, mode: Mode) -> f64 {
        let forward = Forward { context: self.context, width: width as u64, batch: self.batch as u64 };
        let memory_s = self.work(forward).bytes as f64 / (1e9 * self.machine.bandwidth_gb_s);
        let wait_ms = if mode == Mode::Sync { self.target.wait_ms } else { 0.0 };
        let ms = self.target.overhead_ms + wait_ms + self.target.growth.ms(width * self.batch);
        memory_s + ms / 1e3
    }

    fn proposal_s(&self, length: usize) -> f64 {
        length as f64 * self.drafter.token_ms / 1e3
    }

    /// Seconds of a round that asks for `length` draft tokens and gets `drafted`.
    fn round_s(&self, length: usize, drafted: usize) -> f64 {
        let proposal_s = self.proposal_s(length);
        let verify_s = self.forward_s(self.padding.width(drafted + 1), Mode::Sync);
        (proposal_s + verify_s - self.drafter.overlap_ms / 1e3).max(proposal_s).max(verify_s)
    }

    /// The drafts at the positions of a prompt's text.
    fn drafts(&self, prompt: usize, positions: usize, draft_length: usize) -> Vec<Draft> {
        let mut rng = rng(self.seed, Stream::Acceptance, prompt as u64);
        let mut ends = self::rng(self.seed, Stream::Ends, prompt as u64);
        let mut draft = || {
            // As many numbers are drawn for each position, so that a longer draft changes none of the others.
            let accepted: Vec<bool> =
                (0..self.longest).map(|place| rng.random_bool(self.drafter.alpha(place))).collect();
            let over: Vec<bool> = (0..self.longest).map(|_| ends.random_bool(self.drafter.ends)).collect();
            let found = over.iter().position(|over| *over).map_or(self.longest, |last| last + 1);
            let drafted = found.min(draft_length);
            let matched = accepted.iter().take(drafted).take_while(|accepted| **accepted).count();
            Draft { drafted, matched }
        };
        (0..positions).map(|_| draft()).collect()
    }
}

/// Tokens in the cache in the middle of a run.
fn context(scenario: &Scenario) -> usize {
    scenario.context.unwrap_or(PROMPT_TOKENS + scenario.max_tokens / 2)
}

fn rng(seed: u64, stream: Stream, place: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Places are far below 2^56.
    rng.set_stream((1 + stream as u64) << 56 | place);
    rng
}

fn normal(seed: u64, stream: Stream, place: u64) -> f64 {
    StandardNormal.sample(&mut rng(seed, stream, place))
}

impl Executor for SimulatedExecutor {
    fn drafters(&self) -> Vec<String> {
        vec![self.name.clone()]
    }

    fn precision(&self) -> String {
        self.precision.to_string()
    }

    fn work(&self, forward: Forward) -> Work {
        let Forward { context, width, batch } = forward;
        let weight_bytes = match (self.precision.quantize, self.precision.dtype) {
            // A scale and a bias of 16 bits for each group.
            (Some(quantize), _) => f64::from(quantize.bits) / 8.0 + 4.0 / f64::from(quantize.group_size),
            (None, Some(dtype)) => dtype.bytes() as f64,
            (None, None) => STORED_BYTES,
        };
        let parameters = 1e9 * self.target.parameters_g;
        let cache = self.target.cache_bytes_per_token * (batch * (context + width)) as f64;
        Work { bytes: (parameters * weight_bytes + cache) as u64, flops: 2.0 * parameters * (batch * width) as f64 }
    }

    /// A drafter's times are declared and not explained.
    fn draft_work(&self, _drafter: &str, _context: u64) -> Work {
        Work::default()
    }

    fn check_room(&self, tokens: usize) -> Result<()> {
        match self.target.max_context {
            Some(most) if tokens > most => {
                bail!("{tokens} tokens of prompt, text and draft exceed its context of {most}")
            }
            _ => Ok(()),
        }
    }

    fn warm_up(&mut self, _arm: &Arm) -> Result<()> {
        Ok(())
    }

    fn overlaps(&self) -> bool {
        self.drafter.overlap_ms > 0.0
    }

    fn prepare(&mut self, _samples: &[CostRow]) -> Result<()> {
        Ok(())
    }

    fn time(&mut self, sample: &CostRow, taken: Option<usize>) -> Result<f64> {
        let width = sample.width as usize;
        let seconds = match (sample.role, sample.mode) {
            (Role::Target, mode) => self.forward_s(width, mode),
            (Role::Drafter, Mode::Round) => self.round_s(width, width),
            (Role::Drafter, _) => self.proposal_s(width),
        };
        let disturbance = taken.map_or(0.0, |taken| self.costs.after(taken));
        // A time is positive, whatever the noise, and a lookup takes some.
        Ok(seconds.max(1e-9) * (1.0 + disturbance).max(0.05))
    }

    /// Times are declared: none is impossible.
    fn most_bandwidth(&self, _sample: &CostRow) -> f64 {
        f64::INFINITY
    }

    fn trace(&mut self, prompt: usize, _drafter: &str, positions: usize, longest: usize) -> Result<Vec<TracedDraft>> {
        let drafts = self.drafts(prompt, positions, longest);
        let drafts = drafts.iter().enumerate();
        Ok(drafts.map(|(at, draft)| TracedDraft::greedy(at as u32, draft.drafted, draft.matched)).collect())
    }

    /// Confidences are not made up.
    fn stop_rules(&self) -> Vec<StopRuleRow> {
        Vec::new()
    }

    fn trace_tokens(&mut self, _: usize, drafter: &str, _: usize, _: usize) -> Result<Vec<TracedTokens>> {
        bail!("{drafter}: a simulated drafter has no confidences")
    }

    fn use_rules(&mut self, rules: Rules) {
        self.padding = rules.padding;
    }

    fn run(&mut self, prompt: usize, _block: u64, arm: &Arm, max_tokens: usize, taken: &[RunRow]) -> Result<TimedRun> {
        let length = arm.draft_length as usize;
        let trace = Trace::new(self.drafts(prompt, max_tokens, self.longest), self.longest)?;
        let replayed = replay(&trace, length)?;
        let seconds = match length {
            0 => replayed.rounds * self.forward_s(1, Mode::Pipelined),
            _ => {
                let rounds = replayed.rounds_by_drafted.iter().enumerate();
                rounds.map(|(drafted, count)| count * self.round_s(length, drafted)).sum()
            }
        };
        let noise = self.machine.noise;
        let of_prompt = (noise.prompt_sd * normal(self.seed, Stream::Lengths, prompt as u64)).exp();
        let place = prompt as u64 * 1000 + arm.draft_length;
        let interaction = 1.0 + noise.interaction_sd * normal(self.seed, Stream::Interaction, place);
        let disturbed = interaction * (1.0 + self.runs.after(taken.len()));
        Ok(TimedRun {
            tokens: max_tokens,
            seconds: seconds * of_prompt * disturbed.max(0.05),
            rounds: replayed.rounds as usize,
            drafted: replayed.drafted as usize,
            accepted: replayed.accepted as usize,
            cut_off: replayed.cut_off as usize,
            first_divergence: None,
        })
    }

    /// Runs follow one another without a pause.
    fn started_s(&self, taken: &[RunRow]) -> f64 {
        taken.last().map_or(0.0, |run| run.started_s + run.seconds.unwrap_or(0.0))
    }

    /// Made-up time is not limited: a job that goes on after a kill must plan what it had planned.
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCENARIO: &str = r#"
name = "s"
drafts = ["d"]
draft_lengths = "0-4"
tune_prompts = 4
max_tokens = 40
seed = 3
context = 100
[target]
model = "t"
quantize = "4:64"
[simulated]
bandwidth_gb_s = 100
matrix_tflop_s = 10
noise = { prompt_sd = 0.0, interaction_sd = 0.0, timing_sd = 0.0 }
[simulated.targets.t]
parameters_g = 1.0
cache_bytes_per_token = 1e5
overhead_ms = 1.0
wait_ms = 0.5
growth = { shape = "kink", kink = 3, token_ms = 2.0 }
[simulated.drafters.d]
token_ms = 0.25
acceptance = [0.8, 0.5]
"#;

    fn executor(text: &str) -> SimulatedExecutor {
        SimulatedExecutor::new(&toml::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn times_are_bytes_over_bandwidth_plus_what_was_declared() {
        let executor = executor(SCENARIO);
        // 4.5 bits a weight, and 101 tokens of cache.
        let bytes = 1e9 * 4.5 / 8.0 + 101.0 * 1e5;
        assert_eq!(executor.work(Forward { context: 100, width: 1, batch: 1 }).bytes as f64, bytes);
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        close(executor.forward_s(1, Mode::Pipelined), bytes / 100e9 + 1e-3);
        close(executor.forward_s(1, Mode::Sync), bytes / 100e9 + 1.5e-3);
        close(executor.forward_s(5, Mode::Sync), (bytes + 4e5) / 100e9 + 1.5e-3 + 4e-3);
        close(executor.proposal_s(4), 1e-3);
    }

    #[test]
    fn runs_are_those_of_the_trace() {
        let mut executor = executor(SCENARIO);
        let traced = executor.trace(2, "d", 40, 4).unwrap();
        let drafts = traced.iter().map(|draft| Draft { drafted: draft.drafted, matched: draft.matched }).collect();
        let expected = replay(&Trace::new(drafts, 4).unwrap(), 3).unwrap();
        let arm = Arm { drafter: "d".into(), draft_length: 3 };
        let run = executor.run(2, 2, &arm, 40, &[]).unwrap();
        assert_eq!((run.rounds as f64, run.accepted as f64), (expected.rounds, expected.accepted));
        let round_s = executor.proposal_s(3) + executor.forward_s(4, Mode::Sync);
        assert!((run.seconds - expected.rounds * round_s).abs() < 1e-12);
    }

    #[test]
    fn acceptance_has_the_chances_that_were_declared() {
        let mut executor = executor(SCENARIO);
        let traced: Vec<TracedDraft> = (0..500).flat_map(|p| executor.trace(p, "d", 40, 4).unwrap()).collect();
        let share = |least: usize, of: usize| {
            let count = |least: usize| traced.iter().filter(|draft| draft.matched >= least).count() as f64;
            count(least) / count(of)
        };
        // 20 000 positions: three standard errors are below 0.011.
        assert!((share(1, 0) - 0.8).abs() < 0.011);
        assert!((share(2, 1) - 0.5).abs() < 0.013);
        assert!((share(3, 2) - 0.5).abs() < 0.018);
    }

    #[test]
    fn a_later_launch_goes_on_with_the_next_disturbance() {
        let noisy = SCENARIO.replace("timing_sd = 0.0", "timing_sd = 0.1, autocorrelation = 0.5, drift = 0.2");
        let sample = CostRow { width: 1, ..CostRow::default() };
        let mut whole = executor(&noisy);
        let times: Vec<f64> = (0..20).map(|taken| whole.time(&sample, Some(taken)).unwrap()).collect();
        let mut resumed = executor(&noisy);
        resumed.time(&sample, None).unwrap();
        let rest: Vec<f64> = (7..20).map(|taken| resumed.time(&sample, Some(taken)).unwrap()).collect();
        assert_eq!(rest, times[7..]);
        assert!(times[3] != times[4]);
    }
}
