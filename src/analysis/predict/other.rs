//! Which machine is predicted, and what forwards can reach there.

use super::carry::OtherMachine;
use super::source::CostFolder;
use crate::results::Stamp;
use crate::scenario::{MachineFile, REFERENCE_FILE};
use anyhow::{Context, Result};
use std::path::Path;

/// How the other machine is named.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Destination {
    /// A name of `scenarios/machines`, its file, or a results folder with measured ceilings. The measured machine itself,
    /// or that of the folder to compare with, if not given.
    pub machine: Option<String>,
    /// What forwards are supposed to reach, in 10^9 bytes a second; in the place of what the machine's file says.
    pub bandwidth_gb_s: Option<f64>,
    /// Likewise, in 10^12 floating-point operations a second.
    pub matrix_tflop_s: Option<f64>,
}

impl Destination {
    /// What the other machine reaches for products of this precision. A data sheet's figures are scaled by the share of its
    /// own sheet that the source machine reached, where the source has a sheet.
    pub(super) fn resolve(
        &self,
        source: &CostFolder,
        precision: &str,
        against: Option<&CostFolder>,
    ) -> Result<OtherMachine> {
        let mut machine = match (&self.machine, against) {
            (Some(named), _) => named_machine(named, source, precision)?,
            (None, Some(against)) if against.machine != source.machine => measured(against),
            (None, _) => measured(source),
        };
        if let Some(bandwidth) = self.bandwidth_gb_s {
            machine.bandwidth_bytes_per_s = 1e9 * bandwidth;
        }
        if let Some(rate) = self.matrix_tflop_s {
            machine.matrix_flops_per_s = Some(1e12 * rate);
        }
        let supposed = [
            self.bandwidth_gb_s.map(|bandwidth| format!("{bandwidth} GB/s")),
            self.matrix_tflop_s.map(|rate| format!("{rate} TFLOP/s")),
        ];
        let supposed: Vec<String> = supposed.into_iter().flatten().collect();
        if !supposed.is_empty() {
            machine.how = format!("{} supposed, else {}", supposed.join(" and "), machine.how);
            if self.machine.is_none() && against.is_none() {
                machine.name = format!("{} with {}", machine.name, supposed.join(" and "));
            }
        }
        Ok(machine)
    }
}

fn measured(folder: &CostFolder) -> OtherMachine {
    OtherMachine {
        name: folder.machine.clone(),
        bandwidth_bytes_per_s: folder.ceilings.forward_bytes_per_s(),
        matrix_flops_per_s: Some(folder.ceilings.matrix_flops_per_s),
        how: format!("ceilings of {}", folder.folder),
    }
}

fn named_machine(named: &str, source: &CostFolder, precision: &str) -> Result<OtherMachine> {
    let folder = Path::new(named);
    if folder.join(REFERENCE_FILE).exists() {
        return Ok(measured(&CostFolder::read(folder)?));
    }
    if folder.is_dir() {
        let stamp = Stamp::read(folder)?.with_context(|| format!("--to {named}: has no environment.json"))?;
        let ceilings =
            stamp.ceilings().with_context(|| format!("--to {named}: environment.json: no launch has ceilings"))?;
        return Ok(OtherMachine {
            name: stamp.identity.machine,
            bandwidth_bytes_per_s: ceilings.forward_bytes_per_s(),
            matrix_flops_per_s: Some(ceilings.matrix_flops_per_s),
            how: format!("ceilings of {named}"),
        });
    }
    let here = std::env::current_dir().context("the current folder cannot be told")?;
    let sheet = MachineFile::named(&here, "--to", named)?;
    let bandwidth = sheet.bandwidth_bytes_per_s();
    let bandwidth = bandwidth
        .ok_or_else(|| crate::usage!("--to {named}: its file has no bandwidth_gb_s; give --bandwidth-gb-s"))?;
    let reached = source.ceilings;
    let share = source.sheet_bytes_per_s.map(|sheet| reached.forward_bytes_per_s() / sheet);
    let own_rate = source.sheet.as_ref().and_then(|own| own.matrix_flops_per_s(precision));
    let rate_share = own_rate.map_or(1.0, |own| reached.matrix_flops_per_s / own);
    Ok(OtherMachine {
        name: sheet.name.clone(),
        bandwidth_bytes_per_s: bandwidth * share.unwrap_or(1.0),
        matrix_flops_per_s: sheet.matrix_flops_per_s(precision).map(|rate| rate * rate_share),
        how: match share {
            Some(share) => format!("data sheet, {:.0} % of it reached as on {}", 100.0 * share, source.machine),
            None => format!("data sheet as it is, as {} has none to compare with", source.machine),
        },
    })
}
