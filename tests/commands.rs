//! The program's commands, run as a user runs them. One program of many files, because linking one takes longer than
//! running it.

#[cfg(feature = "mlx")]
#[path = "support/hub_server.rs"]
mod hub_server;
#[path = "support/results_folder.rs"]
mod results_folder;
#[cfg(feature = "mlx")]
#[path = "support/tiny.rs"]
mod tiny;

mod analyze;
mod bad_models;
mod bad_scenarios;
mod baseline;
mod cli_simulate;
mod conditioned;
mod convert;
mod corpus;
mod distill;
mod distilled;
mod doctor;
mod export;
mod fetch;
mod notebooks;
mod padding;
mod plan;
mod predict;
mod reference;
mod regime_page;
mod regimes;
mod report;
mod results_readme;
mod scenarios;
mod schema;
mod shards;
mod supposed;
mod sweep;
mod sweep_models;
mod tune_rules;
