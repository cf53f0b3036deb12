//! A step of the whole model against steps of the model without one of its parts.

use super::{Evidence, Experiment, Statement};
use anyhow::Result;

pub const EXPERIMENT: Experiment = Experiment {
    id: 9,
    name: "ablation",
    question: "How much faster is a step without its MLP, its attention, its norms, its rotary embedding?",
    #[cfg(feature = "mlx")]
    measure: measuring::measure,
    statements,
};

const ROPE: &str = "without rotary embedding";
const NORMS: &str = "without norms";
const MLP: &str = "without MLP";
const ATTENTION: &str = "without attention over the cache";

#[cfg(feature = "mlx")]
mod measuring {
    use super::super::lab::Lab;
    use super::super::operations::{STEPS, steps, steps_of};
    use super::{ATTENTION, MLP, NORMS, ROPE};
    use crate::model::transformer::parts::Part;
    use crate::results::SampleRow;
    use crate::roofline::{Forward, ModelShape};
    use anyhow::Result;

    pub fn measure(lab: &mut Lab) -> Result<()> {
        let (at, context) = (lab.scale.main.clone(), lab.scale.context);
        let model = lab.model(&at)?;
        let mut ablated = Vec::new();
        for (subject, part) in
            [(ROPE, Part::Rope), (NORMS, Part::Norms), (MLP, Part::Mlp), (ATTENTION, Part::Attention)]
        {
            match model.transformer.without(part) {
                Ok(transformer) => ablated.push((subject, part, transformer)),
                Err(error) => lab.note_failure(subject, &error)?,
            }
        }
        let mut cases = vec![steps(lab, &model, context)?];
        for (subject, part, transformer) in &ablated {
            let mut case = steps_of(lab, &model, transformer, subject, context)?;
            let (bytes, flops) = left(&model.transformer.shape(), *part, context + STEPS as u64 / 2);
            case.row = SampleRow { bytes, flops, ..case.row };
            case.touched = Some(bytes);
            cases.push(case);
        }
        lab.time(cases)
    }

    /// What a step must still move and compute. Less time than that takes means that more was left out than should be.
    fn left(shape: &ModelShape, part: Part, context: u64) -> (u64, f64) {
        let forward = Forward { context, width: 1, batch: 1 };
        match part {
            Part::Mlp => {
                let rest = ModelShape { intermediate: 0, ..shape.clone() };
                (rest.bytes(forward), rest.flops(forward) as f64)
            }
            Part::Attention => {
                let pairs = 4 * shape.layers * shape.heads * shape.head_dim * (context + 1);
                (shape.weight_bytes(), (shape.flops(forward) - pairs) as f64)
            }
            // Their weights are a thousandth of the rest.
            _ => (
                shape.bytes(forward) - 2 * shape.layers * shape.hidden * shape.activation_bytes,
                shape.flops(forward) as f64,
            ),
        }
    }
}

fn statements(evidence: &Evidence) -> Result<Vec<Statement>> {
    let share = |subject: &'static str| evidence.quantity(move |pass| Some(1.0 - pass.ms(subject)? / pass.ms("step")?));
    let parts = [
        ("the MLP is more than half of a step", MLP, 0.5, f64::INFINITY),
        ("attention over the cache is less than half of a step", ATTENTION, f64::NEG_INFINITY, 0.5),
        ("norms are at least a twentieth of a step", NORMS, 0.05, f64::INFINITY),
        ("rotary embedding is at most a twentieth of a step", ROPE, f64::NEG_INFINITY, 0.05),
    ];
    let mut statements = Vec::new();
    for (text, subject, low, high) in parts {
        let of = format!("share of the step's time that is saved {subject}");
        let whole = Statement::between(text, &of, share(subject)?, low, high);
        let (at_least, at_most) =
            (whole.at_least.filter(|low| low.is_finite()), whole.at_most.filter(|high| high.is_finite()));
        statements.push(Statement { at_least, at_most, ..whole }.noting(evidence.why_missing(subject)));
    }
    let all = evidence.quantity(|pass| {
        let step = pass.ms("step")?;
        [MLP, ATTENTION, NORMS].iter().map(|subject| Some(1.0 - pass.ms(subject)? / step)).sum::<Option<f64>>()
    })?;
    statements.push(Statement::at_most(
        "what the parts save does not add up to more than a step",
        "sum of the shares saved without MLP, attention and norms",
        all,
        1.0,
    ));
    Ok(statements)
}
