//! This program's plain decoding against mlx-lm's `stream_generate`, in processes of their own, one after the other.

use super::{Evidence, Experiment, Statement};
use anyhow::Result;

pub const EXPERIMENT: Experiment = Experiment {
    id: 12,
    name: "peer",
    question: "Is this program's own loop as fast as mlx-lm's?",
    #[cfg(feature = "mlx")]
    measure: measuring::measure,
    statements,
};

const OURS: &str = "ridgepoint, a token";
const SAME_BLAS: &str = "ridgepoint on mlx-lm's BLAS, a token";
const THEIRS: &str = "mlx-lm, a token";
const OUR_PROMPT: &str = "ridgepoint, prompt";
const THEIR_PROMPT: &str = "mlx-lm, prompt";

#[cfg(feature = "mlx")]
mod measuring {
    use super::super::lab::Lab;
    use super::{OUR_PROMPT, OURS, SAME_BLAS, THEIR_PROMPT, THEIRS};
    use crate::machine::device;
    use crate::results::SampleRow;
    use anyhow::{Context, Result, bail};
    use serde::Deserialize;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    const TOKENS: &str = "48";
    /// What mlx_lm_side.py generates first.
    const WARM_UP: &str = "8";
    const MODEL: &str = "SmolLM2-135M-Instruct";

    /// The peers' environment, which scripts/bench-peers makes.
    struct Peers {
        root: PathBuf,
        python: PathBuf,
    }

    #[derive(Deserialize)]
    struct Prompt {
        name: String,
        file: String,
    }

    /// What both sides print.
    #[derive(Deserialize)]
    struct Run {
        tokens: Vec<u32>,
        prompt_tokens: u64,
        seconds: f64,
        prefill_seconds: f64,
    }

    pub fn measure(lab: &mut Lab) -> Result<()> {
        let peers = Peers::find()?;
        let [pairs, _] = lab.scale.passes;
        let prompts = peers.prompts(pairs)?;
        let checkpoint = format!(".venv/peers/{MODEL}-float32");
        // What is decoded with there: 16-bit floats are a GPU's, and slow on MLX's CPU backend.
        let (device, precision) = if lab.on_gpu() { ("gpu", "bfloat16") } else { ("cpu", "float32") };
        let program = std::env::current_exe()?;
        let mut order = 0;
        for (pass, prompt) in (0..pairs).zip(&prompts) {
            let mut sides = vec![(OURS, Some(OUR_PROMPT)), (THEIRS, Some(THEIR_PROMPT))];
            if cfg!(target_os = "linux") && !lab.on_gpu() {
                sides.push((SAME_BLAS, None));
            }
            if pass % 2 == 1 {
                sides.reverse();
            }
            for (subject, prompt_subject) in sides {
                let mut command = if subject == THEIRS {
                    let mut command = Command::new(&peers.python);
                    command.args(["scripts/peers/mlx_lm_side.py", &checkpoint]);
                    for name in device::own_defaults() {
                        command.env_remove(name);
                    }
                    command
                } else {
                    let mut command = Command::new(&program);
                    command.args(["generate", &checkpoint, "--ignore-eos", "--json"]);
                    command.args(["--warm-up", WARM_UP]);
                    command
                };
                command.args(["--prompt-file", &prompt.file, "--max-tokens", TOKENS]);
                command.args(["--dtype", precision, "--device", device]);
                if subject == SAME_BLAS {
                    command.args(["--blas", "system"]);
                }
                let run: Run = peers.run(&mut command).with_context(|| format!("{subject}, prompt {}", prompt.name))?;
                let row = SampleRow {
                    model: MODEL.into(),
                    precision: precision.into(),
                    context: Some(run.prompt_tokens),
                    batch: Some(1),
                    width: Some(1),
                    pass,
                    order,
                    chain: run.tokens.len() as u64,
                    time_ms: Some(1e3 * run.seconds / run.tokens.len() as f64),
                    ..lab.row(subject)
                };
                order += 1;
                let reading = prompt_subject.map(|subject| SampleRow {
                    subject: subject.into(),
                    chain: 1,
                    width: Some(run.prompt_tokens - 1),
                    context: Some(0),
                    time_ms: Some(1e3 * run.prefill_seconds),
                    ..row.clone()
                });
                for row in [row].into_iter().chain(reading) {
                    lab.count(row)?;
                }
            }
        }
        Ok(())
    }

    impl Peers {
        /// Beside the working directory or above it.
        fn find() -> Result<Peers> {
            let here = std::env::current_dir()?;
            let root = here.ancestors().find(|folder| folder.join("scripts/peers/mlx_lm_side.py").is_file());
            let python = root.map(|root| root.join(".venv/bin/python")).filter(|python| python.is_file());
            match (root, python) {
                (Some(root), Some(python)) => Ok(Peers { root: root.to_path_buf(), python }),
                _ => bail!("not run: there is no mlx-lm here; scripts/oracle/setup installs it beside the sources"),
            }
        }

        /// Makes the checkpoint and the prompts that both sides read, if they are not there yet.
        fn prompts(&self, count: u64) -> Result<Vec<Prompt>> {
            let gguf = Path::new("models").join(format!("{MODEL}.Q4_1.gguf"));
            if !self.root.join(&gguf).exists() {
                bail!("not run: {} is missing; run scripts/fetch-model", gguf.display());
            }
            let mut command = Command::new(&self.python);
            command.arg("scripts/peers/prepare.py").arg(&gguf).arg(count.to_string());
            self.run(&mut command)
        }

        /// What a program prints, as JSON.
        fn run<T: serde::de::DeserializeOwned>(&self, command: &mut Command) -> Result<T> {
            let output = command.current_dir(&self.root).output().with_context(|| format!("{command:?}"))?;
            if !output.status.success() {
                let errors = String::from_utf8_lossy(&output.stderr);
                let last = errors.trim().lines().last().unwrap_or("without a word");
                if last.starts_with("ModuleNotFoundError") {
                    bail!("not run: {last}; scripts/oracle/setup installs it");
                }
                bail!("it failed: {last}");
            }
            serde_json::from_slice(&output.stdout).context("it printed something else than JSON")
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_missing_package_says_what_installs_it() {
            let peers = Peers { root: ".".into(), python: "sh".into() };
            let error = |script: &str| {
                let error = peers.run::<Run>(Command::new(&peers.python).args(["-c", script])).err().unwrap();
                error.to_string()
            };
            assert_eq!(
                error("echo Traceback >&2; echo \"ModuleNotFoundError: No module named 'gguf'\" >&2; exit 1"),
                "not run: ModuleNotFoundError: No module named 'gguf'; scripts/oracle/setup installs it"
            );
            assert_eq!(error("echo out of memory >&2; exit 1"), "it failed: out of memory");
        }
    }
}

fn statements(evidence: &Evidence) -> Result<Vec<Statement>> {
    let gain = |ours: &'static str, theirs: &'static str| {
        evidence.quantity(move |pass| Some(pass.ms(theirs)? / pass.ms(ours)?))
    };
    let missing = evidence.why_missing("experiment");
    let mut statements = vec![
        Statement::at_least(
            "this program decodes at least as fast as mlx-lm",
            "mlx-lm's time a token over ours",
            gain(OURS, THEIRS)?,
            1.0,
        )
        .noting(&*missing),
        Statement::at_least(
            "this program reads a prompt at least as fast as mlx-lm",
            "mlx-lm's time for the prompt over ours",
            gain(OUR_PROMPT, THEIR_PROMPT)?,
            1.0,
        )
        .noting(&*missing),
    ];
    if evidence.samples.iter().any(|row| row.subject == SAME_BLAS) {
        let text = "on the same BLAS the two loops are within 10 % of each other";
        let of = "mlx-lm's time a token over ours";
        statements.push(Statement::between(text, of, gain(SAME_BLAS, THEIRS)?, 0.9, 1.1));
    }
    Ok(statements)
}
