//! What to know about the results: warnings, what they were measured with, and how the report is rebuilt.

use super::{Page, table};
use crate::report::document::{Block, Table};
use crate::report::material::{Folder, Material};
use crate::results::Stamp;
use serde_json::Value;

pub fn warnings(page: &mut Page, material: &Material) {
    let mut found = Vec::new();
    for folder in &material.tunes {
        let of = |warning: &String| format!("{}: {warning}", folder.name);
        found.extend(folder.derived.warnings.iter().map(of));
        for regime in &folder.derived.choices {
            let drafter = &regime.choice.drafter;
            found.extend(regime.choice.warnings.iter().map(|warning| format!("{}, {drafter}: {warning}", folder.name)));
        }
    }
    for folder in &material.cells {
        for regime in &folder.derived.choices {
            let (drafter, warnings) = (&regime.choice.drafter, &regime.choice.warnings);
            found.extend(warnings.iter().map(|warning| format!("{}, {drafter}: {warning}", folder.name)));
        }
    }
    // Those of the folders as wholes stand above already.
    let own = |warning: &&String| {
        !material.tunes.iter().any(|folder| warning.starts_with(&folder.path.display().to_string()))
    };
    found.extend(material.map.warnings.iter().filter(own).cloned());
    for folder in &material.costs {
        found.extend(folder.derived.warnings.iter().map(|warning| format!("{}: {warning}", folder.name)));
    }
    page.section("Warnings");
    page.add(if found.is_empty() { Block::Text("None.".to_string()) } else { Block::List(found) });
}

pub fn environment(page: &mut Page, material: &Material) {
    page.section("Environment");
    let header = [
        "folder",
        "path",
        "kind",
        "target",
        "device",
        "MLX",
        "BLAS",
        "ridgepoint",
        "commit",
        "launches",
        "first launch",
    ];
    let tunes = material.tunes.iter().chain(&material.cells).map(described);
    let costs = material.costs.iter().map(described);
    let rows = tunes.chain(costs).chain(material.baselines.iter().map(described));
    page.document.blocks.extend(table(Table::new("", &header, header.len()).with_rows(rows)));
    let hashes = ["folder", "scenario SHA-256", "prompts SHA-256", "weights SHA-256"];
    let rows = material.tunes.iter().map(|folder| {
        let identity = &folder.stamp.identity;
        [&folder.name, &identity.scenario_sha256, &identity.prompts_sha256, &identity.weights_sha256].map(String::clone)
    });
    page.document.blocks.extend(table(Table::new("", &hashes, hashes.len()).with_rows(rows)));
}

fn described<T>(folder: &Folder<T>) -> [String; 11] {
    let Stamp { identity, launches, .. } = &folder.stamp;
    let first = launches.first().unwrap_or(&Value::Null);
    let text = |pointer: &str| match first.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let joined = |parts: &[String]| parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" ");
    let threads = text("/blas/threads");
    let threads = if threads.is_empty() { threads } else { format!("{threads} threads") };
    let commit: String = text("/git_commit").chars().take(12).collect();
    [
        folder.name.clone(),
        folder.path.display().to_string(),
        identity.kind.name().to_string(),
        identity.target.clone(),
        text("/device_name"),
        joined(&[text("/mlx_version"), text("/mlx_build")]),
        joined(&[text("/blas/name"), text("/blas/kernel"), threads]),
        text("/ridgepoint_version"),
        commit,
        launches.len().to_string(),
        text("/time_utc"),
    ]
}

pub fn rebuilt(page: &mut Page, command: &str) {
    page.section("Rebuilding this report");
    page.add(Block::Text(format!(
        "Written by ridgepoint {} from the raw files of the folders above; the same files give the same bytes.",
        env!("CARGO_PKG_VERSION")
    )));
    page.add(Block::Command(command.to_string()));
}
