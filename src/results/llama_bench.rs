//! Results of llama.cpp's `llama-bench -o json`, where they correspond: a prompt of b tokens behind a context (`-p b -d context`)
//! is a forward of width b, generation (`-n`) is plain decoding.

use super::rows::{CostRow, Mode, Role};
use crate::scenario::MAX_WIDTH;
use crate::usage;
use anyhow::Result;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// One test of a file; what else it says is not needed.
#[derive(Deserialize)]
struct Test {
    model_filename: String,
    model_type: String,
    #[serde(default)]
    cpu_info: String,
    #[serde(default)]
    gpu_info: String,
    n_batch: u64,
    n_ubatch: u64,
    n_prompt: u64,
    n_gen: u64,
    #[serde(default)]
    n_depth: u64,
    samples_ns: Vec<f64>,
}

/// The tests as rows of `cost.csv`, without bytes and FLOPs, which the file does not have; and what to know about them.
///
/// # Errors
/// A file that is not such JSON, or has no test that corresponds.
pub fn read_llama_bench(path: &Path) -> Result<(Vec<CostRow>, Vec<String>)> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| usage!("{shown}: cannot be read ({error})"))?;
    let mut from = serde_json::Deserializer::from_str(&text);
    let tests: Vec<Test> = serde_path_to_error::deserialize(&mut from).map_err(|error| {
        usage!(
            "{shown}: {}: {}; give the output of llama-bench -o json, or several files of vllm bench serve",
            error.path(),
            error.inner()
        )
    })?;
    let (mut rows, mut passes, mut left_out) = (Vec::new(), BTreeMap::new(), 0);
    for test in &tests {
        let (mode, width, chain) = match (test.n_prompt, test.n_gen) {
            (0, 0) => continue,
            // More would be several forwards.
            (width, 0) if width <= test.n_batch.min(test.n_ubatch) => (Mode::Sync, width, 1),
            (0, chain) => (Mode::Pipelined, 1, chain),
            _ => {
                left_out += 1;
                continue;
            }
        };
        let machine = if test.gpu_info.is_empty() { &test.cpu_info } else { &test.gpu_info };
        let target = Path::new(&test.model_filename).file_name().unwrap_or_default().to_string_lossy();
        let key = (target.clone(), test.model_type.clone(), test.n_depth, mode == Mode::Sync, width);
        let pass: &mut u64 = passes.entry(key).or_default();
        for ns in &test.samples_ns {
            rows.push(CostRow {
                machine: machine.clone(),
                target: target.clone().into_owned(),
                precision: test.model_type.clone(),
                context: test.n_depth,
                batch: 1,
                width,
                mode,
                pass: *pass,
                order: rows.len() as u64,
                chain,
                time_ms: Some(ns / 1e6 / chain as f64),
                ..CostRow::default()
            });
            *pass += 1;
        }
    }
    if !rows.iter().any(|row| row.mode == Mode::Sync) {
        return Err(usage!(
            "{shown}: has no test of a forward; measure with llama-bench -o json -p 1,2,4,8,16 -n 0 -d 256 -r 7"
        ));
    }
    let mut notes = vec![
        "llama-bench computes the logits of a prompt's last token only; a verification needs them at every position and takes \
         longer by that"
            .to_string(),
        "its repetitions of a width come one after the other, so that drift over the run looks like a slope in the width"
            .to_string(),
    ];
    if left_out > 0 {
        notes.push(format!(
            "{left_out} tests are no single forward (longer than a batch, or prompt and generation); left out"
        ));
    }
    Ok((rows, notes))
}

/// Rows of `cost.csv` as llama-bench writes its tests: the target's forwards of one sequence, samples of a width together.
/// `launch` is what the folder's stamp says of the machine. Fields that nothing here corresponds to are left out.
pub fn llama_bench_tests(rows: &[CostRow], launch: &Value) -> Vec<Value> {
    let is_kept = |row: &&CostRow| row.role == Role::Target && row.batch == 1 && !row.invalid && row.time_ms.is_some();
    let mut tests: BTreeMap<_, Vec<&CostRow>> = BTreeMap::new();
    for row in rows.iter().filter(is_kept) {
        let generated = if row.mode == Mode::Pipelined { row.chain } else { 0 };
        tests.entry((&row.target, &row.precision, row.context, generated, row.width)).or_default().push(row);
    }
    let text = |pointer: &str| launch.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let on_gpu = text("/device") == "gpu";
    let test = |((target, precision, context, generated, width), rows): (_, Vec<&CostRow>)| {
        let (prompt, tokens) = if generated > 0 { (0, generated) } else { (width, width) };
        let ns: Vec<f64> = rows.iter().filter_map(|row| Some(row.time_ms? * 1e6 * row.chain as f64)).collect();
        let rates: Vec<f64> = ns.iter().map(|ns| 1e9 * tokens as f64 / ns).collect();
        json!({
            "build_commit": text("/git_commit"),
            "cpu_info": text("/cpu_model"),
            "gpu_info": if on_gpu { text("/device_name") } else { "" },
            "backends": format!("ridgepoint, MLX {}", text("/mlx_version")),
            "model_filename": target,
            "model_type": precision,
            "n_batch": MAX_WIDTH.max(tokens as usize),
            "n_ubatch": MAX_WIDTH.max(tokens as usize),
            "n_threads": launch.pointer("/blas/threads"),
            "n_prompt": prompt,
            "n_gen": generated,
            "n_depth": context,
            "test_time": text("/time_utc"),
            "avg_ns": mean(&ns),
            "stddev_ns": deviation(&ns),
            "avg_ts": mean(&rates),
            "stddev_ts": deviation(&rates),
            "samples_ns": ns,
            "samples_ts": rates,
        })
    };
    tests.into_iter().map(test).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Of a sample, as llama-bench takes it: 0 of one value.
fn deviation(values: &[f64]) -> f64 {
    let centre = mean(values);
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    if values.len() < 2 { 0.0 } else { (squares / (values.len() - 1) as f64).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(n_prompt: u64, n_gen: u64, samples_ns: &[f64]) -> serde_json::Value {
        json!({ "model_filename": "models/tiny.gguf", "model_type": "llama Q4_0", "cpu_info": "a CPU", "gpu_info": "",
                "n_batch": 2048, "n_ubatch": 512, "n_prompt": n_prompt, "n_gen": n_gen, "n_depth": 256,
                "samples_ns": samples_ns, "other": 1 })
    }

    fn read(tests: &serde_json::Value) -> Result<(Vec<CostRow>, Vec<String>)> {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("bench.json");
        std::fs::write(&file, tests.to_string()).unwrap();
        read_llama_bench(&file)
    }

    #[test]
    fn prompts_are_widths_and_generation_is_plain_decoding() {
        let tests = json!([test(8, 0, &[4e6, 5e6]), test(0, 16, &[32e6]), test(8, 0, &[6e6]), test(1024, 0, &[1.0])]);
        let (rows, notes) = read(&tests).unwrap();
        let found: Vec<_> = rows.iter().map(|row| (row.mode, row.width, row.pass, row.chain, row.time_ms)).collect();
        assert_eq!(
            found,
            [
                (Mode::Sync, 8, 0, 1, Some(4.0)),
                (Mode::Sync, 8, 1, 1, Some(5.0)),
                (Mode::Pipelined, 1, 0, 16, Some(2.0)),
                (Mode::Sync, 8, 2, 1, Some(6.0)),
            ]
        );
        assert_eq!((rows[0].machine.as_str(), rows[0].target.as_str(), rows[0].context), ("a CPU", "tiny.gguf", 256));
        assert!(notes.len() == 3 && notes[2].starts_with("1 tests are no single forward"), "{notes:?}");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let row = |mode, width, pass, chain, time_ms| CostRow {
            target: "tiny.gguf".into(),
            precision: "float32".into(),
            context: 256,
            batch: 1,
            width,
            mode,
            pass,
            chain,
            time_ms,
            ..CostRow::default()
        };
        let rows = [
            row(Mode::Sync, 8, 0, 1, Some(4.0)),
            row(Mode::Pipelined, 1, 0, 16, Some(2.0)),
            row(Mode::Sync, 8, 1, 1, Some(6.0)),
            row(Mode::Sync, 9, 0, 1, None),
            CostRow { batch: 4, ..row(Mode::Sync, 8, 0, 1, Some(9.0)) },
            CostRow { role: Role::Drafter, ..row(Mode::Sync, 8, 2, 1, Some(9.0)) },
        ];
        let tests = llama_bench_tests(&rows, &json!({ "device": "cpu", "cpu_model": "a CPU", "device_name": "a CPU" }));
        assert_eq!(tests.len(), 2);
        let sync = tests.iter().find(|test| test["n_prompt"] == 8).unwrap();
        assert_eq!((&sync["avg_ns"], &sync["gpu_info"]), (&json!(5e6), &json!("")));
        assert!((sync["stddev_ns"].as_f64().unwrap() / (2f64.sqrt() * 1e6) - 1.0).abs() < 1e-12);
        let (read, _) = read(&json!(tests)).unwrap();
        let found = |rows: &[CostRow]| {
            let mut found: Vec<_> =
                rows.iter().map(|row| (row.width, row.pass, row.chain, row.time_ms.map(f64::to_bits))).collect();
            found.sort();
            found
        };
        assert_eq!(found(&read), found(&rows[..3]));
        assert_eq!((read[0].machine.as_str(), read[0].context), ("a CPU", 256));
    }

    #[test]
    fn what_has_no_forward_is_refused() {
        assert!(read(&json!([test(0, 16, &[1.0])])).unwrap_err().to_string().contains("has no test of a forward"));
        let error = read(&json!([{ "model_filename": 1 }])).unwrap_err().to_string();
        assert!(error.contains("[0].model_filename: invalid type"), "{error}");
    }
}
