//! What a drafter's confidence is worth: how often tokens of such a confidence are accepted.

use super::stop::Source;

/// Places in the draft that are calibrated on their own; all later ones together with the last.
const PLACES: usize = 3;
/// Bins before neighbours are pooled, and the fewest tokens of one.
const BINS: usize = 12;
const FEWEST: usize = 20;

/// A drafted token that was reached: all before it were accepted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    pub source: Source,
    /// Place in the draft, from 0.
    pub place: usize,
    pub confidence: f64,
    pub accepted: bool,
}

/// Tokens of similar confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// The least confidence in it.
    pub from: f64,
    /// Tokens reached, and those of them accepted.
    pub reached: u64,
    pub accepted: u64,
}

impl Bin {
    /// The chance of acceptance, with half a token of either outcome added so that it is never 0 or 1.
    pub fn chance(&self) -> f64 {
        (self.accepted as f64 + 0.5) / (self.reached as f64 + 1.0)
    }
}

/// For each source and place in the draft, bins of rising confidence with chances that do not fall.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Calibration {
    bins: [[Vec<Bin>; PLACES]; 2],
}

impl Calibration {
    /// Bins of about equally many tokens; neighbours whose chances fall are pooled (isotonic regression by pooling adjacent
    /// violators: Ayer et al. 1955), so more confidence never means less chance.
    pub fn fit(outcomes: impl IntoIterator<Item = Outcome>) -> Calibration {
        let mut grouped: [[Vec<(f64, bool)>; PLACES]; 2] = Default::default();
        for one in outcomes {
            grouped[one.source as usize][one.place.min(PLACES - 1)].push((one.confidence, one.accepted));
        }
        Calibration { bins: grouped.map(|places| places.map(fit_bins)) }
    }

    /// The bins of a source and place, ascending; none where nothing was seen.
    pub fn bins(&self, source: Source, place: usize) -> &[Bin] {
        &self.bins[source as usize][place.min(PLACES - 1)]
    }

    /// The chance that a token of this confidence is accepted once it is reached; the confidence itself where nothing was seen.
    pub fn chance(&self, source: Source, place: usize, confidence: f64) -> f64 {
        let bins = self.bins(source, place);
        let above = bins.partition_point(|bin| bin.from <= confidence);
        bins.get(above.saturating_sub(1)).map_or(confidence, Bin::chance)
    }

    /// Every source and place that has bins, with them. The last place stands for all later ones.
    pub fn groups(&self) -> impl Iterator<Item = (Source, usize, &[Bin])> {
        let sources = [Source::Model, Source::Lookup].into_iter().zip(&self.bins);
        let groups = sources.flat_map(|(source, places)| {
            places.iter().enumerate().map(move |(place, bins)| (source, place, &bins[..]))
        });
        groups.filter(|(_, _, bins)| !bins.is_empty())
    }
}

fn fit_bins(mut tokens: Vec<(f64, bool)>) -> Vec<Bin> {
    tokens.sort_by(|a, b| a.0.total_cmp(&b.0));
    let size = tokens.len().div_ceil(BINS).max(FEWEST);
    let mut bins: Vec<Bin> = Vec::new();
    let mut rest = &tokens[..];
    while let Some(&(from, _)) = rest.first() {
        // Equal confidences stay together, and what is left at the end is not a bin of its own if it is small.
        let mut end = size.min(rest.len());
        while end < rest.len() && (rest[end].0 == rest[end - 1].0 || rest.len() - end < FEWEST) {
            end += 1;
        }
        let (bin, after) = rest.split_at(end);
        let accepted = bin.iter().filter(|(_, accepted)| *accepted).count() as u64;
        bins.push(Bin { from, reached: bin.len() as u64, accepted });
        rest = after;
        while let [.., a, b] = bins.as_slice()
            && a.accepted * b.reached > b.accepted * a.reached
        {
            let pooled = Bin { from: a.from, reached: a.reached + b.reached, accepted: a.accepted + b.accepted };
            bins.truncate(bins.len() - 2);
            bins.push(pooled);
        }
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(place: usize, tokens: impl IntoIterator<Item = (f64, bool)>) -> Vec<Outcome> {
        let outcome = |(confidence, accepted)| Outcome { source: Source::Model, place, confidence, accepted };
        tokens.into_iter().map(outcome).collect()
    }

    #[test]
    fn bins_by_hand() {
        // 20 tokens at 0.2, 5 of them accepted; 20 at 0.4 with 15; 20 at 0.6 with 10; 20 at 0.8 with 20.
        let group = |confidence: f64, accepted: usize| (0..20).map(move |n| (confidence, n < accepted));
        let tokens = group(0.2, 5).chain(group(0.4, 15)).chain(group(0.6, 10)).chain(group(0.8, 20));
        let calibration = Calibration::fit(outcomes(1, tokens));
        // 15 and 10 of 20 fall, so they are pooled.
        let expected = [(0.2, 20, 5), (0.4, 40, 25), (0.8, 20, 20)];
        assert_eq!(
            calibration.bins(Source::Model, 1),
            expected.map(|(from, reached, accepted)| Bin { from, reached, accepted })
        );
        let chance = |confidence| calibration.chance(Source::Model, 1, confidence);
        assert_eq!(
            [chance(0.0), chance(0.39), chance(0.4), chance(0.79), chance(1.0)],
            [5.5 / 21.0, 5.5 / 21.0, 25.5 / 41.0, 25.5 / 41.0, 20.5 / 21.0]
        );
        assert_eq!(calibration.chance(Source::Model, 0, 0.3), 0.3, "nothing was seen at this place");
        assert_eq!(calibration.chance(Source::Lookup, 1, 0.3), 0.3, "nor of this source");
    }

    #[test]
    fn equal_confidences_share_a_bin_and_later_places_the_last_group() {
        let tokens = (0..1000).map(|n| (if n < 300 { 0.1 } else { 0.7 }, n % 2 == 0));
        let calibration = Calibration::fit(outcomes(7, tokens));
        let bins = calibration.bins(Source::Model, 2);
        assert_eq!(bins.iter().map(|bin| bin.reached).collect::<Vec<_>>(), [300, 700]);
        assert_eq!(bins, calibration.bins(Source::Model, 99));
        assert_eq!(calibration.groups().count(), 1);
    }
}
