//! `ridgepoint fetch` against a hub on loopback.
#![cfg(feature = "mlx")]

use crate::hub_server::{COMMIT, HubServer};
use assert_cmd::Command;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const WEIGHTS: &str = "model.safetensors";

/// Weights of a size that takes several reads.
fn weights() -> Vec<u8> {
    (0..3_000_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A repository as most are: a checkpoint, and files that no loader reads.
fn server() -> HubServer {
    HubServer::start(&[
        ("config.json", b"{\"model_type\": \"llama\"}"),
        ("tokenizer.json", b"{}"),
        (WEIGHTS, &weights()),
        ("pytorch_model.bin", b"a copy for another program"),
        ("consolidated.safetensors", b"a copy for another program"),
        ("README.md", b"# tiny"),
    ])
}

/// The command with nothing of the user's own hub settings.
fn ridgepoint(server: &HubServer, home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("ridgepoint").expect("built with the tests");
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy().to_uppercase();
        if name_text.starts_with("HF_") || name_text.ends_with("_PROXY") {
            command.env_remove(&name);
        }
    }
    command.env("HF_HOME", home).env("HF_ENDPOINT", &server.endpoint).args(arguments);
    command
}

fn fetch(server: &HubServer, home: &Path) -> Command {
    ridgepoint(server, home, &["fetch", "hf://org/tiny"])
}

/// Runs a command that must fail with one line, and returns that line.
fn failure(command: &mut Command, code: i32) -> String {
    let output = command.assert().code(code).get_output().clone();
    let message = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(message.trim_end().lines().count(), 1, "{message}");
    assert!(output.stdout.is_empty());
    message
}

fn snapshot(home: &Path) -> PathBuf {
    home.join("hub/models--org--tiny/snapshots").join(COMMIT)
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Nothing that a loader would take for the model.
fn assert_not_there(home: &Path) {
    assert!(!snapshot(home).exists());
    assert!(!home.join("hub/models--org--tiny/refs/main").exists());
}

fn assert_complete(home: &Path) {
    assert_eq!(names_in(&snapshot(home)), ["config.json", WEIGHTS, "tokenizer.json"]);
    assert!(std::fs::read(snapshot(home).join(WEIGHTS)).unwrap() == weights(), "the weights differ");
    assert_eq!(std::fs::read_to_string(home.join("hub/models--org--tiny/refs/main")).unwrap(), COMMIT);
    let blobs = names_in(&home.join("hub/models--org--tiny/blobs"));
    assert!(blobs.iter().all(|name| !name.ends_with(".incomplete")), "{blobs:?}");
}

#[test]
fn a_checkpoint_is_fetched_once_and_without_what_no_loader_reads() {
    let (server, home) = (server(), tempfile::tempdir().unwrap());
    let output = fetch(&server, home.path()).assert().success().get_output().clone();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), snapshot(home.path()).to_str().unwrap());
    assert!(output.stderr.is_empty(), "no progress bar outside a terminal");
    assert_complete(home.path());

    fetch(&server, home.path()).assert().success();
    assert_eq!(server.requests("GET", "/storage/").len(), 1, "the second run fetches nothing again");
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_its_storage() {
    let (server, home) = (server(), tempfile::tempdir().unwrap());
    server.set(|behaviour| behaviour.token = Some("secret".into()));
    let message = failure(&mut fetch(&server, home.path()), 1);
    assert!(message.contains("401") && message.contains("HF_TOKEN") && message.contains("hf://org/tiny"), "{message}");
    assert_not_there(home.path());

    let message = failure(fetch(&server, home.path()).env("HF_TOKEN", "wrong"), 1);
    assert!(message.contains("HF_TOKEN") && message.contains("accept the model's terms"), "{message}");
    assert!(!message.contains("wrong"), "no message shows a token: {message}");

    fetch(&server, home.path()).env("HF_TOKEN", "secret").assert().success();
    assert_complete(home.path());
    let to_storage = server.requests("GET", "/storage/");
    assert!(!to_storage.is_empty() && to_storage.iter().all(|r| !r.headers.contains_key("authorization")));
}

#[test]
fn the_token_file_is_read_too() {
    let (server, home) = (server(), tempfile::tempdir().unwrap());
    server.set(|behaviour| behaviour.token = Some("secret".into()));
    std::fs::write(home.path().join("token"), "secret\n").unwrap();
    fetch(&server, home.path()).assert().success();
}

#[test]
fn what_is_not_found_is_named() {
    let (server, home) = (server(), tempfile::tempdir().unwrap());
    for (model, part) in [
        ("hf://org/other", "no repository org/other"),
        ("hf://org/tiny@v9", "no revision 'v9'"),
        ("hf://org/tiny/tiny.Q8_0.gguf", "no tiny.Q8_0.gguf"),
    ] {
        let message = failure(&mut ridgepoint(&server, home.path(), &["fetch", model]), 1);
        assert!(message.contains(part), "{message}");
    }
    server.set(|behaviour| drop(behaviour.files.remove("config.json")));
    let message = failure(&mut fetch(&server, home.path()), 1);
    assert!(message.contains("config.json"), "{message}");
    failure(&mut ridgepoint(&server, home.path(), &["fetch", "org/tiny"]), 2);
    assert_not_there(home.path());
}

#[test]
fn a_connection_that_breaks_is_resumed_where_it_broke() {
    let (server, home) = (server(), tempfile::tempdir().unwrap());
    server.set(|behaviour| (behaviour.breaks, behaviour.break_after) = (2, 1_000_000));
    fetch(&server, home.path()).assert().success();
    assert_complete(home.path());
    let ranges: Vec<_> =
        server.requests("GET", "/storage/").iter().map(|request| request.headers.get("range").cloned()).collect();
    assert_eq!(ranges, [None, Some("bytes=1000000-".into()), Some("bytes=2000000-".into())]);
}

#[test]
fn a_storage_that_ignores_ranges_is_read_from_the_start() {
    let (server, home) = (server(), tempfile::tempdir().unwrap());
    server.set(|behaviour| {
        (behaviour.breaks, behaviour.break_after, behaviour.ignores_ranges) = (1, 1_000_000, true);
    });
    fetch(&server, home.path()).assert().success();
    assert_complete(home.path());
}

#[test]
fn a_wrong_checksum_is_refused_and_deleted() {
    let (server, home) = (server(), tempfile::tempdir().unwrap());
    server.set(|behaviour| behaviour.corrupts = true);
    let message = failure(&mut fetch(&server, home.path()), 1);
    assert!(message.contains(WEIGHTS) && message.contains("SHA-256"), "{message}");
    assert_not_there(home.path());
    let blobs = names_in(&home.path().join("hub/models--org--tiny/blobs"));
    assert_eq!(blobs.len(), 2, "only the two small files are kept: {blobs:?}");

    server.set(|behaviour| behaviour.corrupts = false);
    fetch(&server, home.path()).assert().success();
    assert_complete(home.path());
}

#[test]
fn offline_never_touches_the_network() {
    let (server, home) = (server(), tempfile::tempdir().unwrap());
    let message = failure(fetch(&server, home.path()).env("HF_HUB_OFFLINE", "1"), 1);
    assert!(message.contains("HF_HUB_OFFLINE") && message.contains("hf://org/tiny"), "{message}");
    assert!(server.requests("GET", "").is_empty() && server.requests("HEAD", "").is_empty());

    fetch(&server, home.path()).assert().success();
    let before = server.requests("GET", "").len();
    let output = fetch(&server, home.path()).env("HF_HUB_OFFLINE", "1").assert().success().get_output().clone();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), snapshot(home.path()).to_str().unwrap());
    assert_eq!(server.requests("GET", "").len(), before);
}

#[test]
fn a_killed_download_leaves_nothing_that_counts_and_goes_on_later() {
    let (server, home) = (server(), tempfile::tempdir().unwrap());
    let (go_on, stall) = mpsc::channel();
    server.set(|behaviour| behaviour.stall = Some(stall));
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_ridgepoint"))
        .env("HF_HOME", home.path())
        .env("HF_ENDPOINT", &server.endpoint)
        .env("NO_PROXY", "*")
        .env_remove("HF_TOKEN")
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .args(["fetch", "hf://org/tiny"])
        .spawn()
        .unwrap();
    let half = weights().len() as u64 / 2;
    let deadline = Instant::now() + Duration::from_secs(60);
    while incomplete_bytes(home.path()) < half {
        assert!(Instant::now() < deadline, "the first half never arrives");
        std::thread::sleep(Duration::from_millis(5));
    }
    let message = failure(&mut fetch(&server, home.path()), 1);
    assert!(message.contains("another process is fetching it"), "{message}");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(go_on);
    assert_not_there(home.path());
    failure(fetch(&server, home.path()).env("HF_HUB_OFFLINE", "1"), 1);

    fetch(&server, home.path()).assert().success();
    assert_complete(home.path());
    let last = server.requests("GET", "/storage/").pop().unwrap();
    assert_eq!(last.headers["range"], format!("bytes={half}-"));
}

fn incomplete_bytes(home: &Path) -> u64 {
    let blobs = home.join("hub/models--org--tiny/blobs");
    let parts = names_in(&blobs).into_iter().filter(|name| name.ends_with(".incomplete"));
    parts.filter_map(|name| std::fs::metadata(blobs.join(name)).ok()).map(|data| data.len()).max().unwrap_or(0)
}

#[test]
fn shards_are_fetched_as_the_index_lists_them() {
    let index =
        br#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    let server = HubServer::start(&[
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("model-00001-of-00002.safetensors", b"first"),
        ("model-00002-of-00002.safetensors", b"second"),
        ("model-old.safetensors", b"not listed"),
    ]);
    let home = tempfile::tempdir().unwrap();
    fetch(&server, home.path()).assert().success();
    let names = names_in(&snapshot(home.path()));
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    assert_eq!(names, ["config.json", shards[0], shards[1], "model.safetensors.index.json"]);

    server.set(|behaviour| drop(behaviour.files.remove(shards[1])));
    let message = failure(&mut fetch(&server, tempfile::tempdir().unwrap().path()), 1);
    assert!(message.contains(shards[1]), "{message}");
}

#[test]
fn one_gguf_file_of_a_repository_can_be_fetched() {
    let server = HubServer::start(&[("tiny.Q4_0.gguf", b"four"), ("tiny.Q8_0.gguf", b"eight")]);
    let home = tempfile::tempdir().unwrap();
    let message = failure(&mut fetch(&server, home.path()), 1);
    assert!(message.contains("hf://org/tiny/tiny.Q"), "{message}");
    ridgepoint(&server, home.path(), &["fetch", "hf://org/tiny/tiny.Q8_0.gguf"]).assert().success();
    assert_eq!(names_in(&snapshot(home.path())), ["tiny.Q8_0.gguf"]);
}

#[test]
fn a_hub_that_cannot_be_reached_is_named() {
    let (mut server, home) = (server(), tempfile::tempdir().unwrap());
    // Port 9 of loopback: nothing listens on it.
    server.endpoint = String::from("http://127.0.0.1:9");
    let message = failure(&mut fetch(&server, home.path()), 1);
    assert!(message.contains("http://127.0.0.1:9") && message.contains("HF_HUB_OFFLINE"), "{message}");
    server.endpoint = String::from("127.0.0.1");
    let message = failure(&mut fetch(&server, home.path()), 2);
    assert!(message.contains("HF_ENDPOINT"), "{message}");
}
