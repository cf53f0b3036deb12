//! Throws damaged input at everything that reads files: whatever the bytes, the outcome is a value or an error, never a panic,
//! and never a second's wait.
//!
//!     cargo run --release --example fuzz -- all 1000000 [SEED]
//!     cargo run --release --example fuzz -- scenario 1000000
//!
//! Mutates committed files and the corpus in `fuzz/corpus/TARGET/` (bits, bytes, lengths, pieces of other seeds, words of a
//! dictionary); it is not guided by coverage. An input that fails is written to `fuzz/corpus/TARGET/` and ends the run with exit
//! code 1; keep it there once it is mended. How to add a target: one line in [`TARGETS`].

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ridgepoint::{results, scenario};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longer than any input of this size may take.
const SLOW: Duration = Duration::from_secs(1);

struct Target {
    name: &'static str,
    /// Committed files that are mutated, below the checkout; folders with an ending.
    seeds: &'static [(&'static str, &'static str)],
    /// Only so many bytes of a seed are kept: what is read is at the beginning.
    kept: usize,
    run: fn(&[u8], &Path),
}

const TARGETS: &[Target] = &[
    Target { name: "scenario", seeds: &[("scenarios", "toml")], kept: 1 << 14, run: read_scenario },
    Target { name: "draft", seeds: &[("drafts", "toml")], kept: 1 << 12, run: read_draft },
    Target {
        name: "machine-and-model",
        seeds: &[("scenarios/machines", "toml"), ("scenarios/models", "toml")],
        kept: 1 << 12,
        run: read_named,
    },
    Target { name: "prompts", seeds: &[("scenarios/prompts", "jsonl")], kept: 2000, run: read_prompts },
    Target { name: "csv", seeds: &[("results/linux-cpu-2core/quickstart", "csv")], kept: 2500, run: read_csv },
    Target { name: "csv-import", seeds: &[("fuzz/corpus/csv-import", "csv")], kept: 1 << 12, run: read_import },
    #[cfg(feature = "mlx")]
    Target { name: "gguf", seeds: &[("tests/golden/gguf", "gguf")], kept: 1 << 14, run: read_gguf },
    #[cfg(feature = "mlx")]
    Target {
        name: "safetensors",
        seeds: &[("tests/golden/models/qwen3", "safetensors")],
        kept: 1 << 13,
        run: read_safetensors,
    },
    #[cfg(feature = "mlx")]
    Target { name: "tokenizer", seeds: &[("tests/golden/gguf", "gguf")], kept: 1 << 14, run: read_tokenizer },
];

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn read_scenario(bytes: &[u8], place: &Path) {
    if let Ok(scenario) = scenario::parse(&place.join("s.toml"), &text(bytes)) {
        // What is accepted can be written and read again.
        let written = toml::to_string(&scenario).expect("an accepted scenario is written");
        let again = scenario::parse(&place.join("s.toml"), &written).expect("and read again");
        assert!(again == scenario || written.contains("nan"), "{written}");
    }
}

fn read_draft(bytes: &[u8], place: &Path) {
    let _ = scenario::DraftSpec::parse(&place.join("d.toml"), &text(bytes));
}

fn read_named(bytes: &[u8], place: &Path) {
    let file = place.join("m.toml");
    fs::write(&file, bytes).expect("the folder can be written to");
    let _ = (scenario::MachineFile::read(&file), scenario::ModelFile::read(&file));
}

fn read_prompts(bytes: &[u8], place: &Path) {
    let file = place.join("p.jsonl");
    fs::write(&file, bytes).expect("the folder can be written to");
    let _ = scenario::load_prompts(&file);
}

fn read_csv(bytes: &[u8], place: &Path) {
    let (file, text) = (place.join("x.csv"), text(bytes));
    // Each file's columns differ: only its own reader goes beyond the first line.
    let _ = results::parse_rows::<results::RunRow>(&file, &text);
    let _ = results::parse_rows::<results::CostRow>(&file, &text);
    let _ = results::parse_rows::<results::TraceRow>(&file, &text);
    let _ = results::parse_rows::<results::PromptRow>(&file, &text);
    let _ = results::parse_rows::<results::DecisionRow>(&file, &text);
}

fn read_import(bytes: &[u8], place: &Path) {
    let file = place.join("i.csv");
    fs::write(&file, bytes).expect("the folder can be written to");
    if let Ok(runs) = ridgepoint::analysis::read_minimal(&file) {
        let _ = ridgepoint::analysis::complete_blocks(&runs, "tune", &[]);
    }
}

#[cfg(feature = "mlx")]
fn read_gguf(bytes: &[u8], _place: &Path) {
    // The file may be longer than what is kept of it.
    let _ = ridgepoint::model::gguf::header::parse(bytes, 1 << 20);
}

#[cfg(feature = "mlx")]
fn read_tokenizer(bytes: &[u8], _place: &Path) {
    if let Ok(header) = ridgepoint::model::gguf::header::parse(bytes, 1 << 20) {
        let _ = ridgepoint::model::gguf::tokenizer::read(&header.metadata);
    }
}

#[cfg(feature = "mlx")]
fn read_safetensors(bytes: &[u8], place: &Path) {
    let folder = place.join("model");
    if !folder.exists() {
        fs::create_dir(&folder).expect("the folder can be written to");
        fs::write(folder.join("config.json"), r#"{"model_type": "qwen3"}"#).expect("the folder can be written to");
    }
    fs::write(folder.join("model.safetensors"), bytes).expect("the folder can be written to");
    let _ = ridgepoint::model::safetensors::open(&folder);
}

/// Words and numbers that readers branch on.
const DICTIONARY: &[&str] = &[
    "\"",
    "'",
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    ",",
    "\n",
    "\r\n",
    "\\",
    "\u{0}",
    "#",
    "-",
    "..",
    "1-128",
    "1-8+0",
    "0-4294967295",
    "1-9*1",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "-1",
    "0",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "true",
    "null",
    "é",
    "\u{feff}",
    "kind",
    "name",
    "drafts",
    "[simulated]",
    "[sweep]",
    "time_budget = \"1e9h\"",
    "a.b.c",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.merges",
    "tokenizer.ggml.model",
    "dtype",
    "shape",
    "data_offsets",
    "F32",
];

fn mutate(seeds: &[Vec<u8>], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let pick = |rng: &mut ChaCha8Rng| &seeds[rng.random_range(0..seeds.len())];
    let mut bytes = pick(rng).clone();
    for _ in 0..rng.random_range(1..6) {
        if bytes.is_empty() {
            bytes.push(rng.random());
        }
        let at = rng.random_range(0..bytes.len());
        let length = rng.random_range(1..=16.min(bytes.len() - at));
        match rng.random_range(0..9) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..at + length)),
            4 => {
                let piece = bytes[at..at + length].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let word = DICTIONARY[rng.random_range(0..DICTIONARY.len())];
                bytes.splice(at..at + if rng.random() { length } else { 0 }, word.bytes());
            }
            6 => {
                let other = pick(rng);
                let from = rng.random_range(0..other.len().max(1)).min(other.len());
                let to = (from + rng.random_range(0..64)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            7 => {
                // A number of a binary file, or one that is close to a bound.
                let value: u64 =
                    [0, 1, u64::MAX, u64::MAX / 2, 1 << 32, u64::from(rng.random::<u16>())][rng.random_range(0..6)];
                for (byte, new) in bytes[at..].iter_mut().zip(value.to_le_bytes()) {
                    *byte = new;
                }
            }
            _ => {
                let to = rng.random_range(0..bytes.len());
                bytes.swap(at, to);
            }
        }
    }
    bytes.truncate(1 << 16);
    bytes
}

fn seeds(target: &Target, root: &Path) -> Vec<Vec<u8>> {
    let corpus = format!("fuzz/corpus/{}", target.name);
    let folders = target.seeds.iter().map(|(folder, end)| (folder.to_string(), *end)).chain([(corpus, "")]);
    let mut seeds = Vec::new();
    for (folder, end) in folders {
        let mut files: Vec<PathBuf> = fs::read_dir(root.join(folder))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        files.sort();
        files.retain(|file| file.is_file() && (end.is_empty() || file.extension().is_some_and(|found| found == end)));
        for file in files {
            let mut bytes = fs::read(file).expect("a committed file can be read");
            bytes.truncate(target.kept);
            seeds.push(bytes);
        }
    }
    assert!(!seeds.is_empty(), "{}: no seeds", target.name);
    seeds
}

/// Runs a target; the input that failed, if one did.
fn fuzz(target: &Target, executions: u64, seed: u64, place: &Path) -> Result<(), Vec<u8>> {
    let seeds = seeds(target, Path::new(env!("CARGO_MANIFEST_DIR")));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let attempt = |bytes: &[u8]| {
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes, place)));
        outcome.is_ok() && started.elapsed() < SLOW
    };
    // As they are, first.
    if let Some(seed) = seeds.iter().find(|seed| !attempt(seed)) {
        return Err(seed.clone());
    }
    for _ in 0..executions {
        let bytes = mutate(&seeds, &mut rng);
        if !attempt(&bytes) {
            return Err(bytes);
        }
    }
    Ok(())
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let usage = "fuzz all|TARGET EXECUTIONS [SEED]";
    let executions: u64 = words.get(1).and_then(|word| word.parse().ok()).expect(usage);
    let seed: u64 = words.get(2).map_or(0, |word| word.parse().expect(usage));
    let place = std::env::temp_dir().join(format!("ridgepoint-fuzz-{}", std::process::id()));
    fs::create_dir_all(&place).expect("a temporary folder");
    let mut failed = false;
    for target in TARGETS.iter().filter(|target| words[0] == "all" || words[0] == target.name) {
        let started = Instant::now();
        match fuzz(target, executions, seed, &place) {
            Ok(()) => println!("{}: {executions} executions in {:.0} s", target.name, started.elapsed().as_secs_f64()),
            Err(bytes) => {
                let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
                let file = folder.join(format!("failed-{seed}-{}", bytes.len()));
                fs::create_dir_all(&folder)
                    .and_then(|()| fs::write(&file, &bytes))
                    .expect("the corpus can be written to");
                println!("{}: FAILED or too slow, input kept in {}", target.name, file.display());
                failed = true;
            }
        }
    }
    let _ = fs::remove_dir_all(&place);
    std::process::exit(i32::from(failed));
}
