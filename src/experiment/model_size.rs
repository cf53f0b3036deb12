//! The share of the bandwidth ceiling that a step reaches, over models of growing size.

use super::{Evidence, Experiment, Statement};
use anyhow::Result;

pub const EXPERIMENT: Experiment = Experiment {
    id: 7,
    name: "model-size",
    question: "Do larger models use the bandwidth better?",
    #[cfg(feature = "mlx")]
    measure: measuring::measure,
    statements,
};

#[cfg(feature = "mlx")]
mod measuring {
    use super::super::lab::Lab;
    use super::super::operations::steps;
    use anyhow::Result;

    pub fn measure(lab: &mut Lab) -> Result<()> {
        let context = lab.scale.context;
        let mut models = Vec::new();
        for at in lab.scale.family.clone() {
            models.push(lab.model(&at)?);
        }
        let mut cases = Vec::new();
        for model in &models {
            // A model that cannot be run leaves the others.
            match steps(lab, model, context) {
                Ok(case) => cases.push(case),
                Err(error) => lab.note_failure(&model.name, &error)?,
            }
        }
        lab.time(cases)
    }
}

fn statements(evidence: &Evidence) -> Result<Vec<Statement>> {
    let ceiling = evidence.ceilings.forward_bytes_per_s() / 1e9;
    // The family is listed by ascending size; the rows of a pass by ascending bytes.
    let mut note = Vec::new();
    for at in &evidence.scale.family {
        let share = evidence
            .quantity(|pass| Some(pass.find("step", |row| row.model == at.model)?.bandwidth_gb_s? / ceiling))?;
        note.extend(share.map(|share| format!("{} {:.0} %", at.model, 100.0 * share.value)));
    }
    let [first, last] = [evidence.scale.family.first(), evidence.scale.family.last()];
    let ends = evidence.quantity(|pass| {
        let rate = |model: &str| pass.find("step", |row| row.model == model)?.bandwidth_gb_s;
        let (first, last) = (&first?.model, &last?.model);
        (first != last).then_some(rate(first)? / rate(last)?)
    })?;
    Ok(vec![
        Statement::at_most(
            "the smallest model reaches far less of the bandwidth than the largest",
            "bandwidth of the smallest model over the largest one's",
            ends,
            0.75,
        )
        .noting(format!("share of the ceiling: {}", note.join(", "))),
    ])
}
