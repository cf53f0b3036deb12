//! What drafters that look text up cost on the host: microseconds a proposal and a committed token behind 32,768 tokens.
//!
//!     cargo run --release --example lookup_bench [TOKENS]

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ridgepoint::draft::host::Lookup;
use ridgepoint::draft::lookup::PromptLookup;
use ridgepoint::draft::suffix::Suffix;
use ridgepoint::scenario::DraftSpec;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

const DRAFT_LENGTH: usize = 16;
/// Timed rounds, and tokens that each commits.
const ROUNDS: usize = 2000;
const COMMITTED: usize = 3;

/// Text that repeats itself as prose and code do: half of it are phrases from earlier on, with a change now and then; the
/// rest are tokens of a vocabulary of 49,152 that are rarer the higher their id.
fn text(tokens: usize) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut text: Vec<u32> = Vec::with_capacity(tokens + 64);
    while text.len() < tokens {
        let length = rng.random_range(3..40usize);
        if text.len() > 100 && rng.random_bool(0.5) {
            let start = rng.random_range(0..text.len() - 50);
            for place in 0..length {
                let kept = rng.random_bool(0.97);
                text.push(if kept { text[start + place] } else { rng.random_range(0..49152) });
            }
        } else {
            text.extend((0..length).map(|_| (49152.0 * rng.random::<f64>().powi(6)) as u32));
        }
    }
    text.truncate(tokens);
    text
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn measure(name: &str, lookup: &mut dyn Lookup, text: &[u32]) {
    let (prompt, rest) = text.split_at(text.len() - ROUNDS * COMMITTED);
    let started = Instant::now();
    lookup.reset(prompt);
    let prefill_ms = 1e3 * started.elapsed().as_secs_f64();
    let (mut proposals, mut tokens, mut drafted) = (Vec::new(), Vec::new(), 0);
    for committed in rest.chunks(COMMITTED) {
        let started = Instant::now();
        let draft = black_box(lookup.draft(DRAFT_LENGTH));
        proposals.push(1e6 * started.elapsed().as_secs_f64());
        drafted += draft.tokens.len();
        let started = Instant::now();
        lookup.extend(black_box(committed));
        tokens.push(1e6 * started.elapsed().as_secs_f64() / COMMITTED as f64);
    }
    let mut sorted = proposals.clone();
    sorted.sort_by(f64::total_cmp);
    let slow = sorted[sorted.len() * 99 / 100];
    println!(
        "{name:14} proposal {:6.2} µs (99 % below {slow:6.2}), committed token {:5.2} µs, prompt {prefill_ms:7.1} ms, {:.1} tokens drafted",
        median(proposals),
        median(tokens),
        drafted as f64 / ROUNDS as f64
    );
}

fn main() {
    let argument = std::env::args().nth(1);
    let tokens = argument.map_or(32768, |tokens| tokens.parse().expect("TOKENS is a number"));
    assert!(tokens > ROUNDS * COMMITTED, "TOKENS must be above {}", ROUNDS * COMMITTED);
    let text = text(tokens);
    println!("{tokens} tokens, drafts of up to {DRAFT_LENGTH}");
    let file = Path::new("suffix.toml");
    let Ok(DraftSpec::Suffix(spec)) = DraftSpec::parse(file, "kind = \"suffix\"") else { unreachable!("is valid") };
    measure("prompt-lookup", &mut PromptLookup::new(3, 2).expect("is valid"), &text);
    measure("suffix", &mut Suffix::new(&spec, &[]), &text);
    measure("suffix, corpus", &mut Suffix::new(&spec, std::slice::from_ref(&text)), &text);
}
