//! Distributions at a temperature and top-p against scipy and mlx-lm (`scripts/oracle/sampling.py`).
#![cfg(feature = "mlx")]

use mlx_rs::Array;
use ridgepoint::decode::keys::KeyStream;
use ridgepoint::decode::sampling::Sampling;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    temperature: f32,
    top_p: f32,
    logits: Vec<f32>,
    probabilities: Vec<f64>,
}

fn golden() -> Golden {
    mlx_rs::Device::set_default(&mlx_rs::Device::cpu());
    serde_json::from_str(include_str!("golden/sampling.json")).unwrap()
}

impl Case {
    fn row(&self) -> Array {
        Array::from_slice(&self.logits, &[1, self.logits.len() as i32])
    }

    fn sampling(&self) -> Sampling {
        Sampling::new(self.temperature, self.top_p).unwrap()
    }

    fn label(&self) -> String {
        format!("{} logits, temperature {}, top-p {}", self.name, self.temperature, self.top_p)
    }
}

#[test]
fn probabilities_equal_those_of_others() {
    for case in golden().cases {
        let ours = case.sampling().probabilities(&case.row()).unwrap().to_vec_exact::<f32>().unwrap();
        assert_eq!(ours.len(), case.probabilities.len());
        for (token, (&ours, &theirs)) in ours.iter().zip(&case.probabilities).enumerate() {
            let close = (f64::from(ours) - theirs).abs() <= 1e-6 * theirs.max(0.01);
            // What float32 cannot hold may be 0 too.
            let same_support = (ours == 0.0) == (theirs < 1e-38);
            assert!(close && same_support, "{}, token {token}: {ours}, {theirs}", case.label());
        }
    }
}

/// `sample` must draw from what `probabilities` says: frequencies of 20,000 draws within 5 standard errors.
#[test]
fn samples_follow_the_probabilities() {
    const DRAWS: i32 = 20_000;
    let mut keys = KeyStream::new(3);
    for case in golden().cases {
        let rows = mlx_rs::ops::broadcast_to(case.row(), &[DRAWS, case.logits.len() as i32]).unwrap();
        let tokens = case.sampling().sample(&rows, &keys.next_key().unwrap()).unwrap();
        let mut counts = vec![0u32; case.logits.len()];
        tokens.to_vec_exact::<u32>().unwrap().iter().for_each(|&token| counts[token as usize] += 1);
        for (token, (&count, &chance)) in counts.iter().zip(&case.probabilities).enumerate() {
            let (expected, n) = (chance * f64::from(DRAWS), f64::from(DRAWS));
            let error = (n * chance * (1.0 - chance)).sqrt();
            // A rare token's count is not normal: the 3 more keep a false alarm as unlikely.
            let allowed = if chance == 0.0 { 0.0 } else { 5.0 * error + 3.0 };
            let off = (f64::from(count) - expected).abs();
            assert!(off <= allowed, "{}, token {token}: drawn {count} times, expected {expected:.1}", case.label());
        }
    }
}
