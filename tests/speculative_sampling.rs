//! Speculative sampling commits tokens with the target's distribution, whatever the drafter's is: goodness of fit over
//! a small vocabulary with known conditional probabilities, and proof that the test can tell a wrong rule.
#![cfg(feature = "mlx")]

use anyhow::Result;
use mlx_rs::ops::{arange, concatenate, full, indexing::argmax_axis, maximum, select, zeros};
use mlx_rs::{Array, random};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use ridgepoint::decode::accept::{Accepted, rejection};
use ridgepoint::decode::keys::KeyStream;
use ridgepoint::decode::sampling::{Sampling, draw};
use statrs::distribution::{ChiSquared, ContinuousCDF};

const VOCABULARY: usize = 12;
const TEXTS: usize = 100_000;
/// Enough to see through a wrong rule.
const FEWER_TEXTS: usize = 20_000;
/// Tokens of each text that are looked at, as two pairs.
const LENGTH: usize = 4;
const FIRST: usize = 5;

/// Everything below is a chance of at most this if the rule is right.
const SIGNIFICANCE: f64 = 1e-3;
/// A wrong rule must look this unlikely.
const POWER: f64 = 1e-12;

type Rule = dyn Fn(&Array, Option<&Array>, &Array, &Array) -> Result<Accepted>;

/// A language of one-token memory: row t holds the chances of what follows t.
struct Bigrams {
    logits: Array,
    chances: Vec<f64>,
}

impl Bigrams {
    /// Logits spread evenly over -`spread`..`spread`.
    fn random(seed: u64, spread: f32) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let logits: Vec<f32> = (0..VOCABULARY * VOCABULARY)
            .map(|_| spread * (2.0 * (generator.next_u32() >> 8) as f32 / (1 << 24) as f32 - 1.0))
            .collect();
        let chances = logits.chunks(VOCABULARY).flat_map(|row| {
            let weights: Vec<f64> = row.iter().map(|&x| f64::from(x).exp()).collect();
            let total: f64 = weights.iter().sum();
            weights.into_iter().map(move |weight| weight / total)
        });
        Self { chances: chances.collect(), logits: Array::from_slice(&logits, &[VOCABULARY as i32; 2]) }
    }

    /// Probabilities `[texts, V]` after the tokens `[texts]`.
    fn after(&self, tokens: &Array) -> Result<Array> {
        Sampling::new(1.0, 1.0)?.probabilities(&self.logits.take_axis(tokens, 0)?)
    }

    /// The chance of each pair of tokens `skipped` places after [`FIRST`].
    fn pairs(&self, skipped: usize) -> Vec<f64> {
        let mut place = vec![0.0; VOCABULARY];
        place[FIRST] = 1.0;
        for _ in 0..skipped + 1 {
            place = (0..VOCABULARY)
                .map(|next| (0..VOCABULARY).map(|t| place[t] * self.chances[t * VOCABULARY + next]).sum())
                .collect();
        }
        let pair = |(i, chance): (usize, &f64)| place[i / VOCABULARY] * chance;
        self.chances.iter().enumerate().map(pair).collect()
    }
}

enum Drafter {
    Stochastic(Bigrams),
    /// Always proposes the most probable successor.
    OneHot(Bigrams),
}

impl Drafter {
    /// `[texts, γ]` drafts after the tokens `[texts]`, and their distributions `[texts, γ, V]`.
    fn propose(&self, last: &Array, draft_length: usize, keys: &mut KeyStream) -> Result<(Array, Option<Array>)> {
        let (mut last, mut drafts, mut rows) = (last.clone(), Vec::new(), Vec::new());
        for _ in 0..draft_length {
            last = match self {
                Self::Stochastic(bigrams) => {
                    let row = bigrams.after(&last)?;
                    let token = draw(&row, &keys.next_key()?)?;
                    rows.push(row.expand_dims(1)?);
                    token
                }
                Self::OneHot(bigrams) => argmax_axis(bigrams.after(&last)?, -1, false)?,
            };
            drafts.push(last.expand_dims(1)?);
        }
        Ok((concatenate(&drafts, 1)?, if rows.is_empty() { None } else { Some(concatenate(&rows, 1)?) }))
    }
}

/// Decodes `number` texts side by side until each has at least [`LENGTH`] tokens.
fn decode(
    number: usize,
    target: &Bigrams,
    drafter: &Drafter,
    draft_length: usize,
    rule: &Rule,
) -> Result<Vec<Vec<u32>>> {
    let mut keys = KeyStream::new(2026);
    let mut texts = vec![vec![FIRST as u32]; number];
    while texts.iter().any(|text| text.len() <= LENGTH) {
        let last: Vec<u32> = texts.iter().map(|text| text[text.len() - 1]).collect();
        let last = Array::from_slice(&last, &[number as i32]);
        let (drafts, rows) = drafter.propose(&last, draft_length, &mut keys)?;
        let read = concatenate(&[&last.expand_dims(1)?, &drafts], 1)?;
        let accepted = rule(&drafts, rows.as_ref(), &target.after(&read)?, &keys.next_key()?)?;
        let counts = accepted.count.to_vec_exact::<i32>()?;
        let tokens = accepted.tokens.to_vec_exact::<u32>()?;
        for ((text, count), tokens) in texts.iter_mut().zip(counts).zip(tokens.chunks(draft_length + 1)) {
            text.extend_from_slice(&tokens[..=count as usize]);
        }
    }
    Ok(texts.into_iter().map(|text| text[1..=LENGTH].to_vec()).collect())
}

/// Pearson's chi-squared test: the chance of a deviation as large from these expectations.
fn goodness_of_fit(observed: &[u64], chances: &[f64]) -> f64 {
    let total = observed.iter().sum::<u64>() as f64;
    assert!(chances.iter().all(|chance| chance * total >= 5.0), "a cell expects too little for the approximation");
    let cells = observed.iter().zip(chances);
    let statistic: f64 = cells.map(|(&seen, chance)| (seen as f64 - chance * total).powi(2) / (chance * total)).sum();
    ChiSquared::new((observed.len() - 1) as f64).unwrap().sf(statistic)
}

/// The p-values of the joint distributions of tokens 1 and 2 and of tokens 3 and 4.
fn p_values(number: usize, drafter: &Drafter, draft_length: usize, rule: &Rule) -> [f64; 2] {
    mlx_rs::Device::set_default(&mlx_rs::Device::cpu());
    let target = Bigrams::random(1, 1.2);
    let texts = decode(number, &target, drafter, draft_length, rule).unwrap();
    [0, 2].map(|skipped| {
        let mut observed = vec![0; VOCABULARY * VOCABULARY];
        for text in &texts {
            observed[text[skipped] as usize * VOCABULARY + text[skipped + 1] as usize] += 1;
        }
        goodness_of_fit(&observed, &target.pairs(skipped))
    })
}

fn drafters() -> [(&'static str, Drafter); 3] {
    [
        ("stochastic", Drafter::Stochastic(Bigrams::random(2, 1.2))),
        ("the target itself", Drafter::Stochastic(Bigrams::random(1, 1.2))),
        ("one-hot", Drafter::OneHot(Bigrams::random(2, 1.2))),
    ]
}

#[test]
fn committed_tokens_have_the_targets_distribution() {
    for (name, drafter) in drafters() {
        for draft_length in [1, 3] {
            let p = p_values(TEXTS, &drafter, draft_length, &rejection);
            assert!(p.iter().all(|&p| p > SIGNIFICANCE), "{name}, draft length {draft_length}: p-values {p:?}");
        }
    }
}

/// Whatever a draft's origin, to take it as certain loses acceptance, never the distribution.
#[test]
fn a_stochastic_draft_may_be_taken_as_certain() {
    let [(_, stochastic), ..] = drafters();
    let p = p_values(TEXTS, &stochastic, 3, &|d, _, p, key| rejection(d, None, p, key));
    assert!(p.iter().all(|&p| p > SIGNIFICANCE), "p-values {p:?}");
}

/// The accepted drafts of `accepted`, then a draw from the row of `weights` that follows them.
fn with_own_token_from(weights: &Array, accepted: Accepted, key: &Array) -> Result<Accepted> {
    let Accepted { count, tokens } = accepted;
    let is_own = arange::<_, i32>(None, weights.dim(-2), None)?.eq(count.expand_dims(-1)?)?;
    Ok(Accepted { count, tokens: select(is_own, draw(weights, key)?, tokens)? })
}

/// Right acceptance, but the correction is drawn from p, not from the residual.
fn resample_from_the_target(d: &Array, q: Option<&Array>, p: &Array, key: &Array) -> Result<Accepted> {
    let (rule_key, draw_key) = random::split(key, 2)?;
    with_own_token_from(p, rejection(d, q, p, &rule_key)?, &draw_key)
}

/// Right residual, but a draft is accepted with probability p(x), not min(1, p(x)/q(x)).
fn accept_with_the_targets_chance(d: &Array, q: Option<&Array>, p: &Array, key: &Array) -> Result<Accepted> {
    let (rule_key, draw_key) = random::split(key, 2)?;
    let nothing = zeros::<f32>(&[d.dim(0), 1, VOCABULARY as i32])?;
    let q = concatenate(&[q.expect("a stochastic drafter"), &nothing], 1)?;
    let residual = maximum(p.subtract(q)?, Array::from_f32(0.0))?;
    with_own_token_from(&residual, rejection(d, None, p, &rule_key)?, &draw_key)
}

/// Every draft is accepted.
fn accept_everything(d: &Array, _: Option<&Array>, p: &Array, key: &Array) -> Result<Accepted> {
    let count = full::<i32>(&[d.dim(0)], Array::from_int(d.dim(1)))?;
    let tokens = concatenate(&[d, &zeros::<u32>(&[d.dim(0), 1])?], 1)?;
    with_own_token_from(p, Accepted { count, tokens }, key)
}

#[test]
fn the_test_can_tell_wrong_rules() {
    let [(_, stochastic), _, (_, one_hot)] = drafters();
    let cases: [(&str, &Drafter, &Rule); 4] = [
        ("resample from the target", &stochastic, &resample_from_the_target),
        ("resample from the target, one-hot", &one_hot, &resample_from_the_target),
        ("accept with p", &stochastic, &accept_with_the_targets_chance),
        ("accept everything", &stochastic, &accept_everything),
    ];
    for (name, drafter, rule) in cases {
        for draft_length in [1, 3] {
            let p = p_values(FEWER_TEXTS, drafter, draft_length, rule);
            assert!(p.iter().all(|&p| p < POWER), "{name}, draft length {draft_length}: p-values {p:?}");
        }
    }
}
