//! A workplace with a tiny checkpoint, drafters, prompts and a scenario, and the program run in it.
// Not every test program uses all of it.
#![allow(dead_code)]

use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ridgepoint");

/// A temporary folder with `tiny` (a llama of two layers and 256 byte tokens), `lookup.toml`, `skip.toml`, `p.jsonl` and
/// `small.toml`.
pub struct Workplace {
    root: tempfile::TempDir,
}

impl Workplace {
    pub fn new() -> Workplace {
        let place = Workplace { root: tempfile::tempdir().unwrap() };
        place.checkpoint("tiny");
        place.write("lookup.toml", "kind = \"prompt-lookup\"\nmax_ngram = 3\n");
        place.write("skip.toml", "kind = \"layer-skip\"\nlayers = 1\n");
        let prompt = |i: usize| format!("{{\"id\":\"p{i}\",\"category\":\"c\",\"prompt\":\"one two {i} one two\"}}\n");
        place.write("p.jsonl", &(0..6).map(prompt).collect::<String>());
        place.write("small.toml", SCENARIO);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The scenario with one text in the place of another, as `changed.toml`.
    pub fn change_scenario(&self, from: &str, to: &str) {
        assert!(SCENARIO.contains(from), "{from}");
        self.write("changed.toml", &SCENARIO.replace(from, to));
    }

    /// A copy of the tiny llama of the goldens under a name, with a tokenizer whose ids are bytes.
    pub fn checkpoint(&self, name: &str) {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models/llama");
        fs::create_dir(self.path(name)).unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(golden.join(file), self.path(name).join(file)).unwrap();
        }
        self.write(&format!("{name}/tokenizer.json"), &tokenizer().to_string());
    }

    /// Sets keys of a JSON file.
    pub fn set(&self, file: &str, values: &[(&str, Value)]) {
        let mut json: Value = serde_json::from_str(&fs::read_to_string(self.path(file)).unwrap()).unwrap();
        for (key, value) in values {
            json[*key] = value.clone();
        }
        self.write(file, &json.to_string());
    }

    /// The program in this folder, on the CPU and without the user's own hub cache.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.current_dir(self.root.path()).args(arguments).env("HF_HOME", self.path("home"));
        for name in ["HF_HUB_CACHE", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"] {
            command.env_remove(name);
        }
        command.args(["--device", "cpu"]).stdin(std::process::Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The same through `sh -c`; `{}` stands for the program, and a `--device cpu` must be given.
    pub fn shell(&self, line: &str) -> Output {
        let mut command = Command::new("sh");
        command.current_dir(self.root.path()).env("HF_HOME", self.path("home"));
        command.args(["-c", &line.replace("{}", PROGRAM)]).output().unwrap()
    }

    /// Runs what must fail with this code and one line that has every one of `parts`, leaving every file as it was.
    pub fn refused(&self, arguments: &[&str], code: i32, parts: &[&str]) {
        let before = self.files();
        let case = arguments.join(" ");
        check_refusal(&case, &self.run(arguments), code, parts);
        assert_eq!(self.files(), before, "{case}");
    }

    /// Every file and folder, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.root.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path.clone());
                }
                found.push(path);
            }
        }
        found.sort();
        found
    }
}

/// The outcome is this exit code, nothing on standard output, and one line with every one of `parts` besides the stages
/// that `tune` announces.
pub fn check_refusal(case: &str, output: &Output, code: i32, parts: &[&str]) {
    let message = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{case}: {message}");
    assert!(output.stdout.is_empty(), "{case}");
    let lines: Vec<&str> = message.lines().filter(|line| *line != "loading the models").collect();
    assert!(lines.len() == 1 && lines[0].starts_with("ridgepoint: "), "{case}: {message}");
    for part in parts {
        assert!(message.contains(part), "{case}: expected '{part}' in: {message}");
    }
}

const SCENARIO: &str = r#"name = "small"
drafts = ["lookup.toml", "skip.toml"]
draft_lengths = "1-3"
prompts = "p.jsonl"
tune_prompts = 3
confirm_prompts = 3
max_tokens = 8
time_budget = "10s"
[target]
model = "tiny"
"#;

/// GPT-2's alphabet without merges: one token a byte.
fn tokenizer() -> Value {
    let visible = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let (mut vocab, mut invisible) = (Map::new(), 0);
    for byte in 0..256u32 {
        let letter = if visible(byte) {
            byte
        } else {
            invisible += 1;
            255 + invisible
        };
        vocab.insert(char::from_u32(letter).unwrap().to_string(), byte.into());
    }
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let model = json!({"type": "BPE", "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []});
    json!({"version": "1.0", "added_tokens": [], "pre_tokenizer": bytes.clone(), "decoder": bytes, "model": model})
}
