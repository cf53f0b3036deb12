//! The parts of a sweep as one folder, as if one process had run all cells.

use super::cells::CellRow;
use super::environment::{Stamp, mixed};
use super::store::{lock, read_raw};
use super::wire::{header, line, write_atomically};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Joins the folders of all parts of one sweep into `out`, which must not be there yet: it appears whole or not at all.
///
/// # Errors
/// If the parts are of different sweeps, machines or versions, a part or cell is missing or there twice, or one is in use.
pub fn merge_shards(shards: &[PathBuf], out: &Path) -> Result<()> {
    let mut stamps: Vec<Stamp> = Vec::new();
    for shard in shards {
        let stamp = Stamp::read(shard)?.filter(|stamp| stamp.identity.shard.is_some());
        let shown = shard.display();
        stamps
            .push(stamp.ok_or_else(|| crate::usage!("{shown}: is no part of a sweep; name folders of sweep --shard"))?);
    }
    let merged = merged_stamp(shards, &stamps)?;
    let _locks = shards.iter().map(|shard| lock(shard)).collect::<Result<Vec<_>>>()?;
    let mut rows: Vec<CellRow> = Vec::new();
    let mut launches = merged.launches.clone();
    let mut homes: BTreeMap<String, &Path> = BTreeMap::new();
    for shard in shards {
        for row in read_raw::<CellRow>(shard)? {
            let cell = shard.join(&row.cell);
            if homes.insert(row.cell.clone(), shard).is_none()
                && let Some(stamp) = Stamp::read(&cell)?
            {
                launches.extend(stamp.launches);
            }
            rows.push(row);
        }
    }
    if let Some(difference) = mixed(&launches) {
        bail!("{}: the parts are of several machines or versions ({difference}); run them alike", shards[0].display());
    }
    let of = stamps[0].identity.shard.as_ref().context("every stamp has a part")?.clone();
    let numbers: BTreeSet<u64> = homes.keys().filter_map(|name| name.get(..3)?.parse().ok()).collect();
    if let Some(missing) = (1..=of.cells).find(|number| !numbers.contains(number)) {
        let shard = (missing - 1) % of.of + 1;
        bail!(
            "cell {missing} of {} was not run; run sweep --shard {shard}/{} to its end, then merge again",
            of.cells,
            of.of
        );
    }
    // As one process would have gone through them: the plan, then what was tried again.
    rows.sort_by(|a, b| (a.attempt, &a.cell).cmp(&(b.attempt, &b.cell)));
    write_folder(out, &merged, &rows, &homes)
}

/// The stamp of the whole, and that the parts belong together.
fn merged_stamp(shards: &[PathBuf], stamps: &[Stamp]) -> Result<Stamp> {
    let whole = |stamp: &Stamp| super::Identity { shard: None, ..stamp.identity.clone() };
    let first = &stamps[0];
    let mut seen = BTreeSet::new();
    let mut launches = Vec::new();
    for (shard, stamp) in shards.iter().zip(stamps) {
        let shown = shard.display().to_string();
        if let Some((part, there, other)) = whole(first).difference(&whole(stamp)) {
            let first = shards[0].display();
            bail!(
                "{shown}: {part} is '{other}', that of {first} is '{there}'; merge parts of one sweep, machine and version"
            );
        }
        let (part, of) = (stamp.identity.shard.as_ref(), first.identity.shard.as_ref());
        let (part, of) = part.zip(of).context("every stamp has a part")?;
        if (part.of, part.cells) != (of.of, of.cells) {
            bail!("{shown}: is part {part} of {} cells, not of {} parts of {} cells", part.cells, of.of, of.cells);
        }
        if !seen.insert(part.index) {
            bail!("{shown}: part {part} is given twice; give each once");
        }
        for launch in &stamp.launches {
            // Launches of a made-up machine are all one.
            if !launches.contains(launch) {
                launches.push(launch.clone());
            }
        }
    }
    Ok(Stamp { identity: whole(first), launches, ..first.clone() })
}

fn write_folder(out: &Path, stamp: &Stamp, rows: &[CellRow], homes: &BTreeMap<String, &Path>) -> Result<()> {
    let shown = out.display();
    if out.exists() {
        bail!("{shown}: is there already; name another folder with --out or remove it");
    }
    let name = out.file_name().with_context(|| format!("{shown}: is no name for a folder"))?.to_string_lossy();
    let temporary = out.with_file_name(format!(".{name}.merging"));
    let written = (|| {
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        fs::create_dir_all(&temporary)?;
        stamp.write(&temporary)?;
        let lines: Vec<String> = rows.iter().map(line).collect::<Result<_>>()?;
        write_atomically(&temporary.join("cells.csv"), (header::<CellRow>() + &lines.concat()).as_bytes())?;
        for (cell, shard) in homes {
            copy(&shard.join(cell), &temporary.join(cell))?;
        }
        fs::rename(&temporary, out)?;
        Ok::<_, anyhow::Error>(())
    })();
    if written.is_err() {
        let _ = fs::remove_dir_all(&temporary);
    }
    written.with_context(|| format!("cannot write {shown}; check the folder's permissions and free space"))
}

/// Copies a cell's folder but for hidden files; nothing if the cell failed before it had one.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(name))?
        } else {
            fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}
