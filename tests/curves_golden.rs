//! What is found in a cost curve against scipy and limma: `scripts/oracle/stats.py` and `moderated.R` made the expected values.

use crate::stats_golden::{cases, close};
use ridgepoint::stats::change_points::change_points;
use ridgepoint::stats::cost_model::{Shape, choose_model};
use ridgepoint::stats::moderated::moderated;
use serde::Deserialize;
use std::collections::BTreeMap;

#[test]
fn cost_models_at_widths_left_out() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        widths: Vec<f64>,
        seconds: Vec<f64>,
        errors: BTreeMap<Shape, f64>,
    }
    for case in cases::<Case>("cost_models") {
        let found = choose_model(&case.widths, &case.seconds).unwrap();
        assert_eq!(found.fits.len(), case.errors.len());
        for fit in found.fits {
            close(&case.name, fit.error_left_out, case.errors[&fit.curve.shape]);
        }
    }
}

#[test]
fn falls_of_a_cost_curve() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        first: Vec<f64>,
        second: Vec<f64>,
        p: f64,
    }
    for case in cases::<Case>("falls") {
        let found = change_points(&[1, 2], &[case.first, case.second], 0.5, 0.05).unwrap();
        close(&case.name, found.falls[0].p_holm, case.p);
    }
}

#[test]
fn moderated_variances_and_widths_to_pad() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        samples: Vec<Vec<f64>>,
        log_variances: Vec<f64>,
        /// None is infinite.
        prior_freedom: Option<f64>,
        prior_variance: f64,
        variances: Vec<f64>,
        /// By width from the first on, those below the confidence.
        pad_to: BTreeMap<usize, usize>,
        p: BTreeMap<usize, f64>,
    }
    for case in cases::<Case>("moderated") {
        let freedom: Vec<f64> = case.samples.iter().map(|passes| passes.len() as f64 - 1.0).collect();
        let found = moderated(&case.log_variances, &freedom).unwrap();
        match case.prior_freedom {
            Some(freedom) => close(&case.name, found.prior_freedom / freedom, 1.0),
            None => assert!(found.prior_freedom.is_infinite(), "{}", case.name),
        }
        close(&case.name, found.prior_variance, case.prior_variance);
        found.variances.iter().zip(&case.variances).for_each(|(found, expected)| close(&case.name, *found, *expected));
        let widths: Vec<usize> = (1..=case.samples.len()).collect();
        let paddings = change_points(&widths, &case.samples, 0.95, 0.05).unwrap().paddings;
        let pad_to: BTreeMap<usize, usize> = paddings.iter().map(|padding| (padding.width, padding.pad_to)).collect();
        assert_eq!(pad_to, case.pad_to, "{}", case.name);
        paddings.iter().for_each(|padding| close(&case.name, padding.p_holm, case.p[&padding.width]));
    }
}
