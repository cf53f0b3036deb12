//! One file from the hub into the cache: resumed where it broke off, checked, and renamed only when it is right.

use super::client::{Client, Failure, RemoteFile};
use super::reference::Reference;
use anyhow::{Context, Result, anyhow, bail};
use indicatif::{HumanBytes, ProgressBar};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Tries in a row that bring no new bytes before a download is given up.
const MAX_IDLE_TRIES: u32 = 5;
const BUFFER_BYTES: usize = 1 << 18;

/// Where a file of the hub goes.
pub struct Destination {
    /// The complete file.
    pub blob: PathBuf,
    /// Held while the file is written; the same file as the hub's own tools use.
    pub lock: PathBuf,
}

/// Brings a file into the cache unless it is there. What arrived before a failure is kept in a file that ends in
/// `.incomplete`, and the next call goes on from there. `pause` is waited after the first try without new bytes, and
/// twice as long after each further one.
pub fn download(
    client: &Client,
    reference: &Reference,
    file: &RemoteFile,
    to: &Destination,
    pause: Duration,
    bar: &ProgressBar,
) -> Result<()> {
    if std::fs::metadata(&to.blob).is_ok_and(|data| data.len() == file.size_bytes) {
        bar.inc(file.size_bytes);
        return Ok(());
    }
    let _lock = lock(&to.lock).with_context(|| format!("{reference}: {}", file.name))?;
    let mut part = Part::open(incomplete(&to.blob), file, bar)?;
    let mut idle_tries = 0;
    while part.length < file.size_bytes {
        let before = part.length;
        let failure = match client.content(reference, file, part.length) {
            Ok(content) => part.append(content.start, content.reader, file, bar)?,
            Err(Failure::Passing(error)) => Some(error),
            Err(Failure::Final(error)) => return Err(error),
        };
        let Some(error) = failure else { break };
        idle_tries = if part.length > before { 0 } else { idle_tries + 1 };
        if idle_tries >= MAX_IDLE_TRIES {
            let (have, want) = (HumanBytes(part.length), HumanBytes(file.size_bytes));
            return Err(anyhow!(
                "{reference}: {}: the download broke off at {have} of {want} ({error:#}); run the same command again to go on",
                file.name
            ));
        }
        if idle_tries > 0 {
            std::thread::sleep(pause * 2u32.pow(idle_tries - 1));
        }
    }
    part.finish(file, &to.blob).with_context(|| reference.to_string())
}

fn incomplete(blob: &Path) -> PathBuf {
    let mut name = blob.as_os_str().to_owned();
    name.push(".incomplete");
    PathBuf::from(name)
}

/// Takes the lock, which ends with the process if not before. Network disks that know no locks go without.
fn lock(path: &Path) -> Result<File> {
    create_folder_of(path)?;
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => bail!("another process is fetching it; wait until that has ended"),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Makes the folder that `path` is to lie in.
pub fn create_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().with_context(|| format!("{} lies in no folder", path.display()))?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))
}

/// What has arrived of a file.
struct Part {
    path: PathBuf,
    file: File,
    length: u64,
    hash: Sha256,
}

impl Part {
    /// Opens what an earlier download left, or begins anew.
    fn open(path: PathBuf, file: &RemoteFile, bar: &ProgressBar) -> Result<Part> {
        create_folder_of(&path)?;
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let disk = opened.with_context(|| format!("cannot write {}", path.display()))?;
        let mut part = Part { path, file: disk, length: 0, hash: Sha256::new() };
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = part.file.read(&mut buffer).with_context(|| format!("cannot read {}", part.path.display()))?;
            if count == 0 {
                break;
            }
            part.hash.update(&buffer[..count]);
            part.length += count as u64;
        }
        bar.inc(part.length);
        if part.length > file.size_bytes {
            part.restart(bar)?;
        }
        Ok(part)
    }

    /// Appends what the server sends from `start` on. The inner error is a connection that broke, worth another try;
    /// the outer one is this machine's disk.
    fn append(
        &mut self,
        start: u64,
        reader: Box<dyn Read>,
        file: &RemoteFile,
        bar: &ProgressBar,
    ) -> Result<Option<anyhow::Error>> {
        if start == 0 && self.length > 0 {
            self.restart(bar)?;
        }
        if start != self.length {
            return Ok(Some(anyhow!("the server sends bytes from {start} on, not from {}", self.length)));
        }
        // One byte more than expected tells a file that is too long, without taking all of it.
        let mut reader = reader.take(file.size_bytes - self.length + 1);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) if self.length < file.size_bytes => return Ok(Some(anyhow!("the connection was closed"))),
                Ok(0) => return Ok(None),
                Ok(count) => count,
                Err(error) => return Ok(Some(error.into())),
            };
            self.file.write_all(&buffer[..count]).with_context(|| {
                let needed = HumanBytes(file.size_bytes - self.length);
                format!(
                    "cannot write {}: {} needs {needed} more; free them, or set HF_HUB_CACHE to a folder with room",
                    self.path.display(),
                    file.name
                )
            })?;
            self.hash.update(&buffer[..count]);
            self.length += count as u64;
            bar.inc(count as u64);
        }
    }

    fn restart(&mut self, bar: &ProgressBar) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.with_context(|| format!("cannot write {}", self.path.display()))?;
        bar.dec(self.length);
        self.length = 0;
        self.hash = Sha256::new();
        Ok(())
    }

    /// Checks size and SHA-256 and gives the file its name. A wrong file is deleted: it can never become right.
    fn finish(self, file: &RemoteFile, blob: &Path) -> Result<()> {
        let found = hex(&self.hash.finalize());
        let wrong = if self.length != file.size_bytes {
            Some(format!("it has more than the {} bytes that the hub announces", file.size_bytes))
        } else {
            let expected = file.sha256().filter(|expected| !expected.eq_ignore_ascii_case(&found));
            expected.map(|expected| format!("its SHA-256 is {found}, the hub says {expected}"))
        };
        if let Some(wrong) = wrong {
            std::fs::remove_file(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))?;
            bail!(
                "{} did not arrive as it is on the hub: {wrong}; it was deleted, run the same command again",
                file.name
            );
        }
        let kept = self.file.sync_all().and_then(|()| std::fs::rename(&self.path, blob));
        kept.with_context(|| format!("cannot write {}", blob.display()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
