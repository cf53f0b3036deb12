//! The cost-aware rule: draft on as long as a token is expected to gain more than its time is worth.
//!
//! The aim is tokens a second over the whole run, a ratio of sums: what is maximised in each round is tokens less r times
//! seconds, where r is the highest rate that can be had (Dinkelbach 1967, "On nonlinear fractional programming"; `fit_rule`
//! finds r). With k tokens kept, all accepted with chance P by the calibrated confidences, stopping costs r t(k+1).
//! Drafting on costs r times the next distribution's time; if it is then kept, one token more is expected with chance P
//! times its own. The best choice follows by backward induction from the longest draft, so the steps of t(b) ahead count
//! as well as the next token's. The confidence of a token not yet computed is that of the traced tokens at its place.

use super::calibration::Calibration;
use super::predict::Costs;
use super::stop::Source;

/// Values of P at which the induction is carried out.
const GRID: usize = 256;
/// No P reaches this.
const NEVER: f64 = 2.0;

/// The rule for drafts of up to some length, as thresholds on P.
#[derive(Debug, Clone, PartialEq)]
pub struct CostAware {
    calibration: Calibration,
    /// r, tokens a second.
    rate: f64,
    /// r t(k+1), by tokens kept.
    price: Vec<f64>,
    /// From which P on another distribution is computed, by tokens kept.
    wants_from: Vec<f64>,
    /// From which P on, its own chance included, a computed token is kept, by tokens kept before.
    keeps_from: Vec<f64>,
}

impl CostAware {
    /// The best rule for drafts of up to `longest` tokens where a second is worth `rate` tokens. Lengths whose time is not
    /// known are never drafted.
    pub fn solve(calibration: Calibration, rate: f64, longest: usize, costs: &Costs) -> CostAware {
        let price: Vec<f64> =
            (0..=longest).map(|kept| costs.verify_s(kept + 1).map_or(f64::INFINITY, |time| rate * time)).collect();
        let (mut wants_from, mut keeps_from) = (vec![NEVER; longest], vec![NEVER; longest]);
        // The most that tokens to come less the price of time to come can be, by P on the grid.
        let mut most: Vec<f64> = vec![-price[longest]; GRID + 1];
        for kept in (0..longest).rev() {
            let stop = -price[kept];
            let keep = |all: f64| all + interpolate(&most, all);
            keeps_from[kept] = least(|all| keep(all) > stop);
            let draft_s = costs.proposal_s(kept + 1).zip(costs.proposal_s(kept)).map(|(to, from)| to - from);
            let bins = calibration.bins(Source::Model, kept);
            let reached: u64 = bins.iter().map(|bin| bin.reached).sum();
            // Where nothing was seen nothing can be expected.
            let Some(draft_s) = draft_s.filter(|_| reached > 0) else {
                most = vec![stop; GRID + 1];
                continue;
            };
            let go_on = |all: f64| -> f64 {
                let expected = bins.iter().map(|bin| bin.reached as f64 * keep(all * bin.chance()).max(stop));
                expected.sum::<f64>() / reached as f64 - rate * draft_s
            };
            wants_from[kept] = least(|all| go_on(all) > stop);
            most = (0..=GRID).map(|n| go_on(n as f64 / GRID as f64).max(stop)).collect();
        }
        CostAware { calibration, rate, price, wants_from, keeps_from }
    }

    /// r, tokens a second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// By tokens kept: from which chance of all of them on another is computed, and from which it is kept, itself included.
    pub fn thresholds(&self) -> impl Iterator<Item = (f64, f64)> {
        self.wants_from.iter().copied().zip(self.keeps_from.iter().copied())
    }

    pub fn chance(&self, source: Source, place: usize, confidence: f64) -> f64 {
        self.calibration.chance(source, place, confidence)
    }

    /// Whether to compute another distribution when `kept` tokens are all accepted with chance `all`.
    pub fn wants(&self, kept: usize, all: f64) -> bool {
        self.wants_from.get(kept).is_some_and(|from| all >= *from)
    }

    /// Whether to keep the token after `kept` others if all of them, itself included, are accepted with chance `all`.
    pub fn keeps(&self, kept: usize, all: f64) -> bool {
        self.keeps_from.get(kept).is_some_and(|from| all >= *from)
    }

    /// How many of a lookup's tokens are worth their verification: the most tokens less the price of the forward.
    pub fn cut(&self, confidences: &[f64]) -> usize {
        let (mut all, mut gained) = (1.0, 0.0);
        let mut best = (0, -self.price[0]);
        for (place, (confidence, price)) in confidences.iter().zip(&self.price[1..]).enumerate() {
            all *= self.chance(Source::Lookup, place, *confidence);
            gained += all;
            if gained - price > best.1 {
                best = (place + 1, gained - price);
            }
        }
        best.0
    }
}

/// A function of P known on the grid, between its points.
fn interpolate(values: &[f64], all: f64) -> f64 {
    let place = all * GRID as f64;
    let below = place as usize;
    if below >= GRID {
        return values[GRID];
    }
    let share = place - below as f64;
    values[below] * (1.0 - share) + values[below + 1] * share
}

/// The least P for which a condition that holds from some P on holds; [`NEVER`] if it does nowhere.
fn least(holds: impl Fn(f64) -> bool) -> f64 {
    if !holds(1.0) {
        return NEVER;
    }
    if holds(0.0) {
        return 0.0;
    }
    let (mut below, mut from) = (0.0, 1.0);
    for _ in 0..40 {
        let middle = (below + from) / 2.0;
        if holds(middle) { from = middle } else { below = middle }
    }
    from
}

#[cfg(test)]
mod tests {
    use super::super::calibration::Outcome;
    use super::super::curve::CostCurve;
    use super::*;

    /// Half of the first drafts have confidence 0.9 and are accepted 19 times in 20, the others 0.1 and 1 in 20; the same at
    /// every place.
    fn calibration() -> Calibration {
        let outcomes = (0..3).flat_map(|place| {
            (0..400).map(move |n| {
                let sure = n % 2 == 0;
                let accepted = if sure { n % 40 != 0 } else { n % 40 == 1 };
                Outcome { source: Source::Model, place, confidence: if sure { 0.9 } else { 0.1 }, accepted }
            })
        });
        Calibration::fit(outcomes)
    }

    fn costs(draft: &[f64], target: &[f64]) -> Costs {
        let curve =
            |times: &[f64]| CostCurve::from_samples(times.iter().enumerate().map(|(n, &time)| (n + 1, time))).unwrap();
        Costs { plain_s: 1.0, draft: curve(draft), target: curve(target), overlap_s: 0.0, pad: false }
    }

    #[test]
    fn one_token_by_hand() {
        let costs = costs(&[0.1], &[1.0, 1.5]);
        let rule = CostAware::solve(calibration(), 1.0, 1, &costs);
        // A computed token is kept where P > t(2) - t(1) = 0.5.
        let thresholds: Vec<_> = rule.thresholds().collect();
        assert!((thresholds[0].1 - 0.5).abs() < 0.005, "{thresholds:?}");
        // Computing it: half the time it is the sure one, which gains P 0.948 - 0.5, for 0.1.
        let sure = rule.chance(Source::Model, 0, 0.9);
        assert!((thresholds[0].0 - 0.7 / sure).abs() < 0.005, "{thresholds:?}");
        assert!(rule.wants(0, 1.0) && !rule.keeps(0, 0.49) && rule.keeps(0, 0.51) && !rule.wants(1, 1.0));
    }

    #[test]
    fn a_cheaper_width_ahead_is_worth_a_token_that_alone_is_not() {
        let dear = costs(&[0.01, 0.02, 0.03], &[1.0, 1.8, 1.8, 1.8]);
        let rule = CostAware::solve(calibration(), 1.0, 3, &dear);
        // The first token alone would need P > 0.8; with those that follow for next to nothing less will do.
        let keeps: Vec<f64> = rule.thresholds().map(|(_, keeps)| keeps).collect();
        assert!(keeps[0] < 0.6, "{keeps:?}");
        assert!(keeps[1] < 0.01 && keeps[2] < 0.01, "{keeps:?}");
    }

    #[test]
    fn nothing_is_drafted_where_time_is_worth_more() {
        let costs = costs(&[0.5, 1.0], &[1.0, 1.5, 2.0]);
        let rule = CostAware::solve(calibration(), 1.0, 2, &costs);
        assert!(!rule.wants(0, 1.0));
        let unseen = CostAware::solve(Calibration::default(), 0.001, 2, &costs);
        assert!(!unseen.wants(0, 1.0));
    }

    #[test]
    fn a_lookup_is_cut_where_its_gain_is_largest() {
        let rule = CostAware::solve(Calibration::default(), 1.0, 3, &costs(&[0.1, 0.2, 0.3], &[1.0, 1.5, 2.0, 2.1]));
        // Gains less prices: 0 - 1; 0.9 - 1.5; 1.71 - 2; 2.2 - 2.1 or with an unsure last one 1.8 - 2.1.
        assert_eq!(rule.cut(&[0.9, 0.9, 0.6]), 3);
        assert_eq!(rule.cut(&[0.9, 0.9, 0.1]), 2);
        assert_eq!(rule.cut(&[0.4, 0.9, 0.1]), 0);
        assert_eq!(rule.cut(&[0.9]), 1);
    }
}
