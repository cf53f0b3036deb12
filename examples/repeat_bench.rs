//! What a forward costs behind one of another width and behind one or more of its own, one CSV line a forward.
//!
//!     cargo run --release --example repeat_bench MODEL [BITS [WIDEST [PASSES [RUNS]]]]
//!
//! MODEL is a name of scenarios/models/ (mistral-7b) or a checkpoint; BITS quantises it in groups of 64, 0 leaves it as it
//! is. Behind 256 tokens, every pass runs the widths 1 to WIDEST (16) in a random order of its own, each RUNS (2) times in a
//! row; there are PASSES (20), after one that compiles. Medians of each run's time over the first's come last, with their 95 %
//! intervals. See `runs_a_sample` in `src/measure/cost.rs`.

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use ridgepoint::machine::device;
use ridgepoint::measure::cost::ForwardTimer;
use ridgepoint::model::timed::TimedModel;
use ridgepoint::scenario::Quantization;
use ridgepoint::stats::summary::{median, median_interval};

const CONTEXT: usize = 256;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let name = args.next().context("usage: repeat_bench MODEL [BITS [WIDEST [PASSES [RUNS]]]]")?;
    let mut number = |name: &'static str, default: usize| {
        args.next().map_or(Ok(default), |n| n.parse()).with_context(|| format!("{name} is no number"))
    };
    let (bits, widest, passes) = (number("BITS", 0)?, number("WIDEST", 16)?, number("PASSES", 20)?);
    let runs = number("RUNS", 2)?;
    device::set_cuda_defaults();
    device::select(None)?;
    let quantize = (bits > 0).then_some(Quantization { bits: bits as i32, group_size: 64 });
    let model = TimedModel::load(&name, None, quantize)?;
    let mut timer = ForwardTimer::new(&model.transformer, &model.tokens(CONTEXT + widest), CONTEXT, widest, 1)?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut ratios = vec![Vec::new(); runs];
    println!("pass,width,run,time_ms");
    for pass in 0..=passes {
        let mut widths: Vec<usize> = (1..=widest).collect();
        widths.shuffle(&mut rng);
        for width in widths {
            let times = (0..runs).map(|_| timer.forward(width)).collect::<Result<Vec<_>>>()?;
            for (run, time) in times.iter().enumerate().filter(|_| pass > 0) {
                println!("{pass},{width},{},{}", run + 1, 1e3 * time);
                ratios[run].push(time / times[0]);
            }
        }
    }
    for (run, ratios) in ratios.iter().enumerate().skip(1) {
        eprintln!(
            "run {} over the first: median {:.4}, {:.4?}",
            run + 1,
            median(ratios)?,
            median_interval(ratios, 0.95)?
        );
    }
    Ok(())
}
