//! The engine's steps on this machine, one CSV line a sample, for a comparison with scripts/peers/engine_peer.py.
//!
//!     cargo run --release --example engine_bench MODEL [BITS [REPEATS [system]]]
//!
//! MODEL is a name of scenarios/models/ (mistral-7b) or a checkpoint; BITS quantises it in groups of 64, 0 leaves it as it
//! is; `system` leaves all to MLX. After a context of 256 tokens it times: `plain`, a token of pipelined greedy decoding;
//! `t(b)`, one synchronous forward of b tokens with the choice of the next ones; `build(b)`, what describing its graph
//! takes; `round`, a speculative round of 4 drafted tokens by the target's own first two layers.

use anyhow::{Context, Result, ensure};
use mlx_rs::Array;
use mlx_rs::ops::indexing::argmax_axis;
use ridgepoint::decode::sampling::Sampling;
use ridgepoint::decode::{Request, plain, prefill, speculative};
use ridgepoint::draft::model::ModelDrafter;
use ridgepoint::machine::device;
use ridgepoint::model::cache::KvCache;
use ridgepoint::model::timed::TimedModel;
use ridgepoint::model::transformer::{Logits, Transformer};
use ridgepoint::scenario::Quantization;
use std::time::Instant;

const CONTEXT: usize = 256;
const WIDTHS: [usize; 4] = [1, 2, 5, 8];
const STEPS: usize = 15;
const TOKENS: usize = 96;
const DRAFT_LENGTH: usize = 4;
const DRAFT_LAYERS: usize = 2;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let model = args.next().context("usage: engine_bench MODEL [BITS [REPEATS [system]]]")?;
    let bits: i32 = args.next().map_or(Ok(0), |bits| bits.parse()).context("BITS is no number")?;
    let repeats: usize = args.next().map_or(Ok(5), |repeats| repeats.parse()).context("REPEATS is no number")?;
    let system = args.next().is_some_and(|who| who == "system");
    #[cfg(target_os = "linux")]
    if system {
        ridgepoint::blas::configure(ridgepoint::blas::Choice::System, None);
    }
    ensure!(!system || cfg!(target_os = "linux"), "our kernels serve on Linux alone");
    device::set_cuda_defaults();
    device::select(None)?;
    let quantize = (bits > 0).then_some(Quantization { bits, group_size: 64 });
    let model = TimedModel::load(&model, None, quantize)?;
    let text = model.tokens(CONTEXT);
    println!("side,bits,quantity,repeat,time_ms");
    // The first pass compiles kernels and is not printed.
    for repeat in 0..=repeats {
        let print = |quantity: &str, seconds: f64| {
            if repeat > 0 {
                println!("ridgepoint,{bits},{quantity},{repeat},{}", 1e3 * seconds);
            }
        };
        steps(&model.transformer, &text, &print)?;
        decoding(&model.transformer, &text, &print)?;
    }
    Ok(())
}

/// Synchronous forwards, and their graphs alone.
fn steps(model: &Transformer, text: &[u32], print: &dyn Fn(&str, f64)) -> Result<()> {
    let mut cache = model.new_cache();
    cache.reserve((text.len() + 16) as i32);
    prefill(model, &mut cache, text)?;
    for width in WIDTHS {
        let tokens = Array::from_slice(&text[..width], &[1, width as i32]);
        step(model, &mut cache, &tokens)?;
        for _ in 0..STEPS {
            print(&format!("t({width})"), step(model, &mut cache, &tokens)?);
        }
        // Apart, so that no forward finds its own description in the processor's caches.
        for _ in 0..STEPS {
            let started = Instant::now();
            model.build_only(&tokens, &mut cache)?;
            print(&format!("build({width})"), started.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

/// Seconds until the next tokens are there.
fn step(model: &Transformer, cache: &mut KvCache, tokens: &Array) -> Result<f64> {
    let before = cache.len();
    let started = Instant::now();
    argmax_axis(model.forward(tokens, cache, Logits::All)?, -1, false)?.eval()?;
    let seconds = started.elapsed().as_secs_f64();
    cache.truncate(before);
    Ok(seconds)
}

/// Plain and speculative decoding as `tune` times them.
fn decoding(model: &Transformer, text: &[u32], print: &dyn Fn(&str, f64)) -> Result<()> {
    let request =
        Request { prompt: text, max_tokens: TOKENS, sampling: Sampling::GREEDY, seed: 0, end_ids: &[], read: None };
    let run = plain::decode(model, &request, &mut |_| ())?;
    print("plain", run.seconds / run.tokens.len() as f64);
    let mut drafter = ModelDrafter::new(model.truncated(DRAFT_LAYERS));
    let run = speculative::decode(model, &mut drafter, DRAFT_LENGTH, &request, &mut |_| ())?;
    print("round", run.seconds / run.rounds as f64);
    Ok(())
}
