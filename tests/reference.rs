//! The published tables of `results/reference/m3-ultra` and what follows from them. Expected values are worked out by hand from
//! the published numbers, those with a distribution by scipy.

use assert_cmd::Command;
use ridgepoint::analysis::{Audit, Outlook, Reference, Verdict, reference};
use ridgepoint::results::PublishedTable;
use std::path::Path;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results/reference/m3-ultra");

fn table(name: &str) -> PublishedTable {
    PublishedTable::read(&Path::new(FOLDER).join(format!("{name}.csv"))).unwrap()
}

fn column(name: &str, column: &str) -> Vec<f64> {
    table(name).numbers(column).unwrap().into_iter().flatten().collect()
}

fn audit() -> Audit {
    Audit::of(Path::new(FOLDER)).unwrap().unwrap()
}

fn near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} is not {expected}");
}

#[test]
fn the_curve_is_that_of_experiment_10() {
    let (width, cost) = (table("width"), table("cost"));
    for b in ["1", "4", "32", "128"] {
        let published = width.value(&[("version", "published"), ("width", b)], "time_ms").unwrap();
        assert_eq!(cost.value(&[("width", b)], "time_ms").unwrap(), published);
        let bytes = 1e9 * table("weights").value(&[("model", "Mistral 7B")], "weights_gb").unwrap();
        assert_eq!(cost.value(&[("width", b)], "bytes").unwrap(), bytes);
        near(cost.value(&[("width", b)], "flops").unwrap(), 14e9 * b.parse::<f64>().unwrap(), 0.0);
    }
    assert_eq!(cost.rows().len(), 4);
}

#[test]
fn every_table_is_whole_and_explained() {
    let readme = std::fs::read_to_string(Path::new(FOLDER).join("README.md")).unwrap();
    let mut tables = 0;
    for entry in std::fs::read_dir(FOLDER).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name == "README.md" || readme.contains(&format!("`{name}`")), "{name} is not in README.md");
        if name.ends_with(".csv") {
            assert!(!PublishedTable::read(&path).unwrap().rows().is_empty(), "{name}");
            tables += 1;
        }
    }
    assert_eq!(tables, 21);
}

#[test]
fn published_figures_follow_from_one_another() {
    // Rates and times of the same row agree to the digits given.
    for (name, time, rate, tokens, tolerance) in [
        ("evaluation", "time_ms", "throughput_tok_per_s", None, 0.005),
        ("prefill", "time_ms", "throughput_tok_per_s", Some("tokens"), 0.005),
    ] {
        let tokens = tokens.map_or(vec![1.0; 4], |tokens| column(name, tokens));
        for ((time, rate), tokens) in column(name, time).iter().zip(column(name, rate)).zip(tokens) {
            near(1e3 * tokens / time / rate, 1.0, tolerance);
        }
    }
    let published = |column: &str, width: &str| {
        table("width").value(&[("version", "published"), ("width", width)], column).unwrap()
    };
    for width in ["1", "4", "32", "128"] {
        let rate = 1e3 * width.parse::<f64>().unwrap() / published("time_ms", width);
        near(rate / published("throughput_tok_per_s", width), 1.0, 0.002);
        near(rate / published("throughput_tok_per_s", "1"), published("throughput_ratio", width), 0.06);
    }
    for (row, time) in column("weights", "time_ms").iter().enumerate() {
        let (load, rest) = (column("weights", "load_time_ms")[row], column("weights", "rest_ms")[row]);
        near(load + rest, *time, 0.015);
        near(1e3 * column("weights", "weights_gb")[row] / 819.0, load, 0.006);
    }
    let parts = column("step-parts", "time_ms");
    near(parts[..5].iter().sum(), parts[5], 0.01);
    let components = column("components", "time_ms");
    near(components[..3].iter().sum(), components[3], 0.01);
    near(components[3] / 8.37, 7.8, 0.06);
    for (removed, change) in column("ablation", "time_ms")[1..].iter().zip(column("ablation", "change_ms")) {
        near(removed - 8.94, change, 0.006);
    }
}

#[test]
fn plain_steps_are_those_of_the_tables() {
    let steps = column("plain-steps", "throughput_tok_per_s");
    assert_eq!(steps[1..5], column("context", "throughput_tok_per_s")[..4][..]);
    for rate in [column("models", "throughput_tok_per_s")[2], column("model-bits", "throughput_tok_per_s")[0]] {
        assert!(steps.contains(&rate));
    }
    let times = column("plain-steps", "time_ms");
    let ablated = column("ablation", "time_ms")[0];
    assert_eq!(times, [8.37, column("weights", "time_ms")[2], ablated, column("width", "time_ms")[0]]);
}

#[test]
fn experiment_2_an_evaluation_takes_a_fifth_of_a_millisecond() {
    // (53.8 - 6.5) / 223
    near(audit().evaluation_ms, 0.2121, 5e-5);
    let (least, most) = audit().isolated_us;
    assert_eq!((least, most), (205.0, 302.0));
    let claimed = table("findings").value(&[("experiment", "2")], "low").unwrap();
    near(1e3 * audit().evaluation_ms / claimed, 1060.5, 0.1);
}

#[test]
fn experiment_4_the_cache_takes_a_quarter_megabyte_over_all_layers() {
    // (4.82 - 3.86) GB over 4131 - 67 tokens
    near(audit().cache_mb_per_token, 0.2362, 5e-5);
    let [at_547, at_1059, at_4131] = audit().context_changes_percent;
    assert!(at_547 < at_4131 && at_4131 < at_1059, "not monotone");
}

#[test]
fn experiment_6_efficiency_depends_on_what_is_counted() {
    // 120 tok/s over 819 GB/s times 5.5237, 5.1507 and 4.61385 GB
    for (found, expected) in audit().efficiency_percent.iter().zip([80.93, 75.47, 67.60]) {
        near(*found, expected, 0.005);
    }
}

#[test]
fn experiment_8_the_rest_depends_on_the_ceiling_and_is_not_constant() {
    // 8.79 - 4077/819 and 8.79 - 4077/669
    near(audit().rest_ms.0, 3.812, 5e-4);
    near(audit().rest_ms.1, 2.696, 5e-4);
    assert_eq!(audit().rest_range_ms, (3.48, 5.24));
}

#[test]
fn experiment_9_an_ablated_step_would_need_twice_the_bandwidth() {
    // 4.077 GB less 0.755 GB of attention and 0.074 GB of embedding, over 1.92 ms
    near(audit().ablated_gb, 3.248, 5e-4);
    near(audit().ablated_bandwidth_gb_s, 1692.0, 0.5);
    near(1e3 * audit().ablated_gb / 819.0, 3.97, 0.005);
    assert_eq!(audit().attention_ms, (7.02, 1.5));
}

#[test]
fn experiment_10_four_tokens_are_not_free_and_the_rate_is_lower() {
    near(audit().verification_of_4, 1.473, 5e-4);
    // (87.46 - 36.72) / 96 and 14 GFLOP over it
    near(audit().last_slope_ms, 0.5285, 5e-5);
    near(audit().slope_tflop_s, 26.49, 5e-3);
    near(audit().first_slope_ms, 1.3933, 5e-5);
    assert!(audit().earlier_16_over_32 > 1.0);
}

#[test]
fn experiment_11_slower_by_a_third_is_longer_by_a_half() {
    near(audit().slower_percent.0, 34.4, 0.05);
    near(audit().slower_percent.1, 52.5, 0.05);
}

#[test]
fn a_small_model_is_a_dear_drafter() {
    near(audit().draft_cost, 0.476, 5e-4);
    // (1 + 0.8 + 0.64 + 0.512) / (3 * 0.4762 + 1.4729)
    near(audit().gain_of_3, 1.017, 5e-4);
}

fn found() -> Reference {
    reference(Path::new(FOLDER)).unwrap()
}

fn outlook(reference: &Reference, cost: f64, alpha: f64) -> Outlook {
    let fits = |outlook: &&Outlook| (outlook.draft_cost - cost).abs() < 0.01 && outlook.alpha == alpha;
    reference.outlooks.iter().find(fits).unwrap().clone()
}

#[test]
fn intervals_come_from_the_scatter_between_experiments() {
    let scatter = found().scatter.unwrap();
    assert_eq!(scatter.steps, 14);
    // numpy: std of the logarithms with ddof=1; scipy: exp(t.ppf(.975, 13) * sd * sqrt(2))
    near(scatter.relative_sd, 0.035862226103981855, 1e-12);
    near(scatter.ratio_factor, 1.1157949222016235, 1e-9);
    let four = found().points[1];
    let bounds = four.ratio_bounds.unwrap();
    near(bounds.low, 1.4729 / 1.1158, 1e-4);
    near(bounds.high, 1.4729 * 1.1158, 1e-4);
    assert_eq!(found().points[0].ratio_bounds.unwrap().high, 1.0);
}

#[test]
fn the_ridge_by_several_accounts() {
    let ridge = found().ridge;
    // 4.077/819 s over 14/30000 s is 10.7; 6.094 ms over 0.5285 ms is 11.5
    assert_eq!((ridge.data_sheet_width, ridge.measured_width), (11, Some(12)));
    near(ridge.slope_flops_per_s.unwrap(), 26.49e12, 5e9);
    // 128 - (87.46 - 8.84)/0.52854: the line lies above t(1) at every width.
    near(ridge.line_meets_plain_width.unwrap(), -20.75, 0.01);
    near(ridge.slopes_ratio.unwrap(), 2.636, 1e-3);
}

#[test]
fn draft_lengths_are_implied_only_where_the_curve_carries_them() {
    let found = found();
    let lookup = outlook(&found, 0.0, 0.8);
    // 2.952 / 1.4729, and with the interval of t(4) / t(1)
    assert_eq!((lookup.known_length, lookup.verdict), (3, Verdict::Draft));
    near(lookup.known_speedup, 2.0043, 1e-3);
    near(lookup.known_bounds.unwrap().low, 2.0043 / 1.1158, 1e-3);
    // No textbook optimum: without cost the longest draft is best, (1 - 0.8^128) / 0.2.
    assert_eq!(lookup.textbook_length, 127);
    near(lookup.textbook_speedup, 5.0, 1e-9);
    // γ=30 has the width 31 of the stretch after t(4): up to 5.00/1.32 = 3.78 beats the 1.80 that is certain;
    // γ=31 is t(32)'s, at most 5.00/3.72 = 1.34.
    assert_eq!(lookup.may_be_best, Some((1, 30)));

    let small = outlook(&found, 0.476, 0.8);
    assert_eq!((small.verdict, small.textbook_length), (Verdict::CannotSay, 2));
    near(small.known_speedup, 1.017, 5e-4);
    // 2.952 / (3 * 0.4762 * 1.1158 + 1.6434)
    near(small.known_bounds.unwrap().low, 0.9115, 5e-4);

    assert_eq!(outlook(&found, 0.92, 0.5).verdict, Verdict::DoNotDraft);
    assert_eq!(outlook(&found, 0.92, 0.5).may_be_best, Some((0, 0)));
}

#[test]
fn without_repeats_there_are_no_intervals_and_nothing_is_concluded() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["cost.csv", "reference.toml"] {
        std::fs::copy(Path::new(FOLDER).join(file), folder.path().join(file)).unwrap();
    }
    let found = reference(folder.path()).unwrap();
    assert!(found.scatter.is_none() && found.audit.is_none());
    assert!(found.outlooks.iter().all(|outlook| outlook.verdict == Verdict::CannotSay));
    assert!(found.outlooks.iter().all(|outlook| outlook.known_bounds.is_none() && outlook.may_be_best.is_none()));
}

#[test]
fn the_command_prints_the_curve_and_refuses_a_damaged_folder() {
    let analyze = |folder: &Path| {
        let mut command = Command::cargo_bin("ridgepoint").unwrap();
        command.arg("analyze").arg(folder);
        command
    };
    let text = analyze(Path::new(FOLDER)).assert().success().get_output().stdout.clone();
    let text = String::from_utf8(text).unwrap();
    for line in ["Ridge of the data sheet (819 GB/s, 30 TFLOP/s): width 11.", "cannot say", "0.2 µs: 0.21 ms"] {
        assert!(text.contains(line), "{text}");
    }
    let output = analyze(Path::new(FOLDER)).arg("--json").assert().success().get_output().stdout.clone();
    let json: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(json["outlooks"].as_array().unwrap().len(), 36);

    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::read_to_string(Path::new(FOLDER).join("reference.toml")).unwrap();
    for (from, to, expected) in [
        ("confidence = 0.95", "confidence = 95", "reference.toml: confidence: must be 0.5 to 0.9999, got 95"),
        ("bandwidth_gb_s = 819", "bandwidth = 819", "unknown field `bandwidth`"),
        ("matrix_tflop_s = 30", "matrix_tflop_s = 0", "reference.toml: matrix_tflop_s: must be above 0, got 0"),
    ] {
        std::fs::write(folder.path().join("reference.toml"), file.replacen(from, to, 1)).unwrap();
        let error = analyze(folder.path()).assert().code(2).get_output().stderr.clone();
        let error = String::from_utf8(error).unwrap();
        assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
    }
    std::fs::write(folder.path().join("reference.toml"), file).unwrap();
    analyze(folder.path()).assert().code(1).stderr(
        "ridgepoint: ".to_string()
            + &folder.path().join("cost.csv").display().to_string()
            + ": there is no valid time of a target forward; measure t(b) first\n",
    );
}
