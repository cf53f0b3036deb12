//! Weights of 4 bits against weights of 8, as single products and as a whole model.

use super::{Evidence, Experiment, Statement};
use anyhow::Result;

pub const EXPERIMENT: Experiment = Experiment {
    id: 11,
    name: "bits",
    question: "What do 8 bits a weight cost over 4, in a product and in a model?",
    #[cfg(feature = "mlx")]
    measure: measuring::measure,
    statements,
};

#[cfg(feature = "mlx")]
mod measuring {
    use super::super::lab::Lab;
    use super::super::operations::{square, steps};
    use super::super::scale::ModelAt;
    use crate::scenario::Quantization;
    use anyhow::Result;

    pub fn measure(lab: &mut Lab) -> Result<()> {
        let (at, context) = (lab.scale.main.clone(), lab.scale.context);
        let mut models = Vec::new();
        let mut cases = Vec::new();
        for bits in [4, 8] {
            let quantize = Quantization::new(bits, 64).ok();
            for &n in lab.scale.squares.iter().rev().take(2) {
                cases.push(square(lab, &format!("{bits}-bit product"), n, lab.scale.dtype.into(), quantize)?);
            }
            models.push(lab.model(&ModelAt { quantize, ..at.clone() })?);
        }
        for (bits, model) in [4, 8].iter().zip(&models) {
            let mut case = steps(lab, model, context)?;
            case.row.subject = format!("{bits}-bit step");
            cases.push(case);
        }
        lab.time(cases)
    }
}

fn statements(evidence: &Evidence) -> Result<Vec<Statement>> {
    let product = evidence.quantity(|pass| {
        let time = |subject: &str| pass.all(subject).last()?.time_ms;
        Some(time("8-bit product")? / time("4-bit product")?)
    })?;
    let step = evidence.quantity(|pass| Some(pass.ms("8-bit step")? / pass.ms("4-bit step")?))?;
    let bytes = |subject: &str| evidence.samples.iter().find(|row| row.subject == subject).map(|row| row.bytes as f64);
    let note = match (bytes("8-bit step"), bytes("4-bit step")) {
        (Some(eight), Some(four)) => format!("8 bits move {:.2} times the bytes", eight / four),
        _ => String::new(),
    };
    let efficiency = evidence
        .quantity(|pass| Some(pass.one("8-bit step")?.bandwidth_gb_s? / pass.one("4-bit step")?.bandwidth_gb_s?))?;
    Ok(vec![
        Statement::at_most(
            "an 8-bit product takes hardly longer than a 4-bit one",
            "time of the largest 8-bit product over the 4-bit one's",
            product,
            1.05,
        ),
        Statement::between(
            "an 8-bit model takes about half as long again for a step",
            "time of an 8-bit step over a 4-bit one's",
            step,
            1.35,
            1.65,
        )
        .noting(note),
        Statement::at_least(
            "an 8-bit model uses the bandwidth better",
            "bandwidth of the 8-bit step over the 4-bit one's",
            efficiency,
            1.05,
        ),
    ])
}
