//! What this machine moves a second: a copy, a plain read, and products of one row with float and quantised matrices of
//! several sizes.

use super::{Evidence, Experiment, Statement};
use crate::results::{SampleRow, read_raw_as};
use crate::roofline::Ceilings;
use crate::stats::summary::median;
use anyhow::Result;
use std::path::Path;

pub const EXPERIMENT: Experiment = Experiment {
    id: 1,
    name: "bandwidth",
    question: "How many bytes a second do a copy and products of one row reach here?",
    #[cfg(feature = "mlx")]
    measure: measuring::measure,
    statements,
};

#[cfg(feature = "mlx")]
mod measuring {
    use super::super::lab::{Case, Lab};
    use super::super::operations::square;
    use crate::machine::ceilings::{Copier, cpu_threads};
    use crate::results::SampleRow;
    use crate::scenario::Quantization;
    use anyhow::Result;
    use mlx_rs::Dtype;

    pub fn measure(lab: &mut Lab) -> Result<()> {
        let mut cases = Vec::new();
        for &bytes in &lab.scale.copy_bytes {
            let mut copier = Copier::new(lab.device, bytes)?;
            let row = SampleRow {
                precision: "float32".into(),
                outputs: Some(bytes / 4),
                chain: copier.chain() as u64,
                bytes: copier.moved_bytes() / copier.chain() as u64,
                ..lab.row("copy")
            };
            cases.push(Case { touched: None, row, run: Box::new(move || copier.pass()) });
        }
        if !lab.on_gpu() {
            cases.push(read(lab));
        }
        let dtype = lab.scale.dtype.into();
        let quantized = |bits| Quantization::new(bits, 64).ok();
        for &n in &lab.scale.squares {
            cases.push(square(lab, "product", n, Dtype::Float32, None)?);
            if dtype != Dtype::Float32 {
                cases.push(square(lab, "product", n, dtype, None)?);
            }
            for bits in [4, 8] {
                cases.push(square(lab, &format!("{bits}-bit product"), n, dtype, quantized(bits))?);
            }
        }
        lab.time(cases)
    }

    /// All threads read their own part of one block of memory, front to back.
    fn read(lab: &Lab) -> Case<'static> {
        let mut reader =
            crate::machine::bandwidth::Reader::new(crate::machine::bandwidth::BEYOND_CACHES, cpu_threads());
        let bytes = reader.bytes() as u64;
        let row = SampleRow { precision: "uint64".into(), outputs: Some(bytes / 8), bytes, ..lab.row("read") };
        Case { touched: None, row, run: Box::new(move || Ok(reader.pass().as_secs_f64())) }
    }
}

/// `ceilings` where this experiment, if it was made in `folder`, reached more by its largest copy and by its read.
pub(super) fn reached(folder: &Path, ceilings: Ceilings) -> Result<Ceilings> {
    let samples: Vec<SampleRow> = read_raw_as(folder, &EXPERIMENT.file())?;
    let bytes_per_s = |subject: &str| -> Result<Option<f64>> {
        let rows = || samples.iter().filter(|row| row.subject == subject && !row.invalid);
        let largest = rows().map(|row| row.bytes).max();
        let rates: Vec<f64> =
            rows().filter(|row| Some(row.bytes) == largest).filter_map(|row| row.bandwidth_gb_s).collect();
        if rates.is_empty() { Ok(None) } else { Ok(Some(1e9 * median(&rates)?)) }
    };
    let read_bytes_per_s = ceilings.read_bytes_per_s.and(bytes_per_s("read")?);
    let bandwidth_bytes_per_s = bytes_per_s("copy")?.unwrap_or(0.0);
    Ok(ceilings.best(Ceilings { bandwidth_bytes_per_s, read_bytes_per_s, ..ceilings }))
}

fn statements(evidence: &Evidence) -> Result<Vec<Statement>> {
    let ceiling = evidence.ceilings.forward_bytes_per_s() / 1e9;
    let largest = |subject: &'static str| evidence.quantity(move |pass| pass.all(subject).last()?.bandwidth_gb_s);
    // Float products of the type that models are held in here.
    let dtype = evidence.scale.dtype.to_string();
    let float = |pass: &super::evidence::Pass| {
        let mut rows = pass.all("product").into_iter().filter(|row| row.precision == dtype);
        rows.next_back()?.bandwidth_gb_s
    };
    let product_share = evidence.quantity(|pass| Some(float(pass)? / ceiling))?;
    let quantised = evidence.quantity(|pass| Some(pass.all("4-bit product").last()?.bandwidth_gb_s? / float(pass)?))?;
    let with_size = evidence.quantity(|pass| {
        let rows = pass.all("4-bit product");
        Some(rows.last()?.bandwidth_gb_s? / rows.first()?.bandwidth_gb_s?)
    })?;
    let copy = largest("copy")?;
    let note = copy.map_or(String::new(), |copy| {
        format!("the copy moves {:.1} GB/s; the ceiling of all operations is {ceiling:.1} GB/s", copy.value)
    });
    Ok(vec![
        Statement::at_least(
            "a float product of one row reads its weights nearly as fast as memory allows",
            "bandwidth of the largest float product over the ceiling",
            product_share,
            0.85,
        )
        .noting(note),
        Statement::at_most(
            "unpacking 4-bit weights costs bandwidth",
            "bandwidth of the largest 4-bit product over the float one's",
            quantised,
            0.9,
        ),
        Statement::at_least(
            "a 4-bit product's low bandwidth is a matter of its size",
            "bandwidth of the largest 4-bit product over the smallest one's",
            with_size,
            1.5,
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_copy_can_raise_the_ceiling_and_not_lower_it() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/h200/baseline");
        let ceilings =
            |bandwidth| Ceilings { bandwidth_bytes_per_s: bandwidth, read_bytes_per_s: None, matrix_flops_per_s: 1.0 };
        // The median over the passes of 01-bandwidth.csv's copies of 4.3 GB, by pandas 3.1.1.
        let raised = reached(&folder, ceilings(3e12)).unwrap();
        assert!((raised.bandwidth_bytes_per_s / 3850.7664627963927e9 - 1.0).abs() < 1e-12, "{raised:?}");
        assert_eq!(reached(&folder, ceilings(5e12)).unwrap(), ceilings(5e12));
    }
}
