//! `ridgepoint plan`: prompts and minutes that a question takes, before anything is measured for it.

use super::Global;
use crate::analysis::{Goal, Need, Spread, pilot_spreads, plan};
use crate::scenario::{self, Scenario};
use crate::usage;
use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;

/// How many prompts and minutes it takes to see a difference, from a pilot's measurements or a declared spread
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The scenario's TOML file
    scenario: PathBuf,
    /// Relative difference in throughput to see, such as 2%
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    detect: f64,
    /// A results folder of the scenario, however short
    #[arg(long, value_name = "DIR", required_unless_present = "sd", conflicts_with_all = ["sd", "tok_per_s"])]
    pilot: Option<PathBuf>,
    /// Without a pilot: standard deviation over prompts of the relative difference between two lengths, such as 5%
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    sd: Option<f64>,
    /// Without a pilot: tokens a second of plain decoding, for the minutes
    #[arg(long, value_name = "N", requires = "sd")]
    tok_per_s: Option<f64>,
    /// Chance to see the difference
    #[arg(long, value_name = "SHARE", value_parser = parse_share, default_value = "80%")]
    power: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, _global: &Global) -> Result<()> {
    let scenario = scenario::load(&args.scenario)?.scenario;
    let goal = Goal { difference: args.detect, power: args.power };
    let spreads = match (&args.pilot, args.sd) {
        (Some(folder), _) => pilot_spreads(folder, &scenario)?,
        (None, Some(sd)) => vec![declared(sd, args.tok_per_s, &scenario)?],
        (None, None) => return Err(usage!("give --pilot DIR, or --sd SHARE")),
    };
    let needs = plan(&scenario, &spreads, goal).map_err(|error| usage!("{error:#}"))?;
    if args.json {
        let (prompts, confidence) = (scenario.tune_prompts, scenario.confidence);
        println!(
            "{}",
            json!({ "detect": args.detect, "power": args.power, "confidence": confidence, "tune_prompts": prompts,
                    "drafters": needs })
        );
    } else {
        needs.iter().for_each(|need| println!("{}", sentences(need, args, &scenario)));
    }
    Ok(())
}

fn declared(sd: f64, tok_per_s: Option<f64>, scenario: &Scenario) -> Result<Spread> {
    if let Some(bad) = tok_per_s.filter(|speed| !(speed.is_finite() && *speed > 0.0)) {
        return Err(usage!("--tok-per-s {bad}: must be above 0"));
    }
    let run_s = tok_per_s.map(|speed| scenario.max_tokens as f64 / speed);
    Ok(Spread { drafter: String::new(), against_plain: sd, between_lengths: sd, prompts: 0, run_s })
}

fn sentences(need: &Need, args: &Args, scenario: &Scenario) -> String {
    let percent = |share: f64| format!("{} %", (share * 1e4).round() / 1e2);
    let minutes = |minutes: Option<f64>| minutes.map_or(String::new(), |m| format!(", about {m:.0} minutes"));
    let source = match need.pilot_prompts {
        0 => format!("declared spread {}", percent(need.sd_against_plain)),
        prompts => format!(
            "{}: spread over {prompts} prompts {} against plain decoding, {} between lengths",
            need.drafter,
            percent(need.sd_against_plain),
            percent(need.sd_between_lengths)
        ),
    };
    let (difference, chance) = (percent(args.detect), percent(args.power));
    format!(
        "{source}\n  to see a difference of {difference} from plain decoding with a chance of {chance}: {} prompts{}\n  \
         to show a length within {difference} of the best, all being equally fast: {} prompts{}\n  \
         ({} confidence, {} draft lengths a drafter; the scenario has {} tuning prompts)",
        need.prompts_to_detect,
        minutes(need.minutes_to_detect),
        need.prompts_to_decide,
        minutes(need.minutes_to_decide),
        percent(scenario.confidence),
        scenario.arms,
        scenario.tune_prompts,
    )
}

/// `2%`, `2 %` or `0.02`: above 0 and below 1.
fn parse_share(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.trim().strip_suffix('%') {
        Some(number) => (number.trim(), 100.0),
        None => (text.trim(), 1.0),
    };
    let share = number.parse::<f64>().map_err(|_| format!("'{text}' is not a share; write it as 2% or 0.02"))? / scale;
    if share > 0.0 && share < 1.0 { Ok(share) } else { Err(format!("'{text}' must be above 0 and below 100%")) }
}
