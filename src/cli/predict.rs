//! `ridgepoint predict`: t(b) and the draft length of another machine, or of other acceptance.

use super::Global;
use crate::analysis::predict::{Destination, Predicted, Request, predict};
use crate::report::{
    length_table, prediction_errors, prediction_head, prediction_page, prediction_table, regret_sentence,
};
use crate::results::write_text;
use crate::scenario::Shares;
use crate::usage;
use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;

/// Predict t(b) and the best draft length of another machine from the costs measured on one; without --to, the best draft
/// length on the measured machine itself, for any acceptance and drafter. Nothing is run: every figure is a prediction
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Results folders of cost (or tune) of one machine, or a published curve
    #[arg(value_name = "DIR", required = true)]
    sources: Vec<PathBuf>,
    /// The machine to predict: a name of scenarios/machines/NAME.toml, such a file, or a results folder with its ceilings
    #[arg(long, value_name = "NAME|DIR")]
    to: Option<String>,
    /// Suppose that forwards there reach this bandwidth, 10^9 bytes a second
    #[arg(long, value_name = "N", value_parser = positive)]
    bandwidth_gb_s: Option<f64>,
    /// Suppose that forwards there reach this rate of matrix products, 10^12 FLOP a second
    #[arg(long, value_name = "N", value_parser = positive)]
    matrix_tflop_s: Option<f64>,
    /// A results folder measured there, to see how far the prediction is off; may be given several times
    #[arg(long, value_name = "DIR")]
    against: Vec<PathBuf>,
    /// Chances that a drafted token is accepted
    #[arg(long, value_name = "SHARES", default_value = "0.5-0.95+0.05")]
    alpha: Shares,
    /// A results folder of tune whose traces are replayed; may be given several times
    #[arg(long, value_name = "DIR")]
    trace: Vec<PathBuf>,
    /// What a drafted token may cost, in plain steps; measured drafters come on top
    #[arg(long, value_name = "SHARES", default_value = "0,0.05,0.1,0.2")]
    draft_cost: Shares,
    /// Write predicted_widths.csv, predicted_lengths.csv and PREDICTED.md, their tables, into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Of the resampling
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object a curve
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, _global: &Global) -> Result<()> {
    for (place, source) in args.sources.iter().enumerate() {
        if args.sources[..place].contains(source) {
            return Err(usage!("{}: is given twice; give each folder once", source.display()));
        }
    }
    let request = Request {
        sources: args.sources.clone(),
        destination: Destination {
            machine: args.to.clone(),
            bandwidth_gb_s: args.bandwidth_gb_s,
            matrix_tflop_s: args.matrix_tflop_s,
        },
        against: args.against.clone(),
        alphas: args.alpha.0.clone(),
        traces: args.trace.clone(),
        draft_costs: args.draft_cost.0.clone(),
        seed: args.seed,
    };
    let predicted = predict(&request)?;
    if let Some(out) = &args.out {
        predicted.write(out)?;
        write_text(out, "PREDICTED.md", &prediction_page(&predicted))?;
    }
    show(&predicted, args.json);
    Ok(())
}

fn show(predicted: &Predicted, as_json: bool) {
    for curve in &predicted.curves {
        if as_json {
            println!(
                "{}",
                json!({ "prediction": true, "machine": curve.there.name, "how": curve.there.how,
                        "bandwidth_gb_s": curve.there.bandwidth_bytes_per_s / 1e9,
                        "matrix_tflop_s": curve.there.matrix_flops_per_s.map(|rate| rate / 1e12),
                        "widths": curve.widths, "lengths": curve.lengths })
            );
            continue;
        }
        println!("{}\n", prediction_head(curve));
        if !curve.is_home {
            println!("{}", prediction_table(curve));
            prediction_errors(curve).iter().for_each(|line| println!("{line}"));
            println!("");
        }
        if !curve.lengths.is_empty() {
            println!("{}", length_table(&curve.lengths));
            regret_sentence(&curve.lengths).iter().for_each(|line| println!("{line}"));
            println!("");
        }
    }
    predicted.warnings.iter().for_each(|warning| eprintln!("ridgepoint: warning: {warning}"));
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err(format!("'{text}' must be a number above 0")),
    }
}
