//! Bad models and bad flags, as somebody meets them on the command line: one line that says what is wrong and what to
//! do, the right exit code, and nothing left behind.
#![cfg(feature = "mlx")]

use crate::tiny::{Workplace, check_refusal};
use serde_json::json;
use std::fs;

/// Commands that load the model they name.
fn loaders(model: &str) -> [Vec<&str>; 2] {
    [vec!["generate", model, "-p", "one", "-n", "4"], vec!["convert", model, "new"]]
}

fn refused_by_loaders(place: &Workplace, model: &str, code: i32, parts: &[&str]) {
    for arguments in loaders(model) {
        place.refused(&arguments, code, parts);
    }
}

#[test]
fn the_tiny_model_is_sound() {
    let place = Workplace::new();
    for arguments in loaders("tiny") {
        let output = place.run(&arguments);
        assert!(output.status.success(), "{output:?}");
    }
    assert!(place.run(&["generate", "new", "-p", "one", "-n", "4"]).status.success());
}

#[test]
fn models_that_are_not_there() {
    let place = Workplace::new();
    refused_by_loaders(&place, "nothing", 2, &["model 'nothing'", "hf://org/name"]);
    refused_by_loaders(&place, "org/name", 2, &["write hf://org/name"]);
    refused_by_loaders(&place, "hf://org/name", 2, &["not in the cache", "run: ridgepoint fetch hf://org/name"]);
    refused_by_loaders(&place, "hf://org", 2, &["hf://org"]);
    refused_by_loaders(&place, "tiny/model.safetensors", 2, &["tiny/model.safetensors", "name the directory"]);
    fs::create_dir(place.path("empty")).unwrap();
    refused_by_loaders(&place, "empty", 2, &["empty: has no config.json", "ridgepoint fetch"]);
    fs::remove_file(place.path("tiny/model.safetensors")).unwrap();
    refused_by_loaders(&place, "tiny", 1, &["tiny", "safetensors"]);
}

#[test]
fn gguf_files_that_are_none() {
    let place = Workplace::new();
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf/llama.gguf");
    let whole = fs::read(golden).unwrap();
    for (bytes, part) in [(&whole[..0], "a.gguf"), (b"not a model", "a.gguf"), (&whole[..5000], "a.gguf")] {
        fs::write(place.path("a.gguf"), bytes).unwrap();
        refused_by_loaders(&place, "a.gguf", 1, &[part]);
    }
    let mut corrupt = whole.clone();
    corrupt[8] ^= 0x55;
    fs::write(place.path("a.gguf"), corrupt).unwrap();
    refused_by_loaders(&place, "a.gguf", 1, &["a.gguf"]);
    // Sound, but its tokenizer is a fragment.
    fs::write(place.path("a.gguf"), whole).unwrap();
    place.refused(&["generate", "a.gguf", "-p", "one"], 1, &["a.gguf", "tokenizer"]);
}

#[test]
fn directories_that_are_damaged() {
    for (file, length, part) in [
        ("model.safetensors", 0, "model.safetensors"),
        ("model.safetensors", 5000, "model.safetensors"),
        ("config.json", 0, "config.json"),
        ("config.json", 100, "config.json"),
    ] {
        let place = Workplace::new();
        let path = place.path("tiny").join(file);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..length]).unwrap();
        refused_by_loaders(&place, "tiny", 1, &["tiny", part]);
    }
    let place = Workplace::new();
    for text in ["", "{", "[1]"] {
        place.write("tiny/tokenizer.json", text);
        place.refused(&["generate", "tiny", "-p", "one"], 1, &["tiny", "tokenizer"]);
    }
}

#[test]
fn configurations_that_cannot_be() {
    for (key, value, part) in [
        ("num_attention_heads", json!(0), "'num_attention_heads' is 0, expected a whole number from 1"),
        ("num_attention_heads", json!(-4), "'num_attention_heads' is -4"),
        ("num_attention_heads", json!(5), "num_attention_heads"),
        ("num_key_value_heads", json!(3), "'num_key_value_heads' is 3, expected a divisor of num_attention_heads = 4"),
        ("head_dim", json!(17), "'head_dim' is 17, expected an even number"),
        ("hidden_size", json!(-64), "'hidden_size' is -64"),
        ("num_hidden_layers", json!(1.5), "'num_hidden_layers' is 1.5"),
        ("rms_norm_eps", json!(-1e-5), "'rms_norm_eps'"),
        ("rope_theta", json!("big"), "'rope_theta' is \"big\""),
        ("model_type", json!("gpt9"), "'model_type' = \"gpt9\" is not supported"),
        ("hidden_act", json!("gelu"), "'hidden_act' = \"gelu\" is not supported"),
    ] {
        let place = Workplace::new();
        place.set("tiny/config.json", &[(key, value)]);
        refused_by_loaders(&place, "tiny", 2, &["tiny", part]);
    }
    // What only the tensors can contradict.
    for (key, value) in [("vocab_size", json!(300)), ("hidden_size", json!(128)), ("num_hidden_layers", json!(3))] {
        let place = Workplace::new();
        place.set("tiny/config.json", &[(key, value)]);
        place.refused(&["generate", "tiny", "-p", "one"], 1, &["tiny", "model."]);
    }
}

#[test]
fn a_tokenizer_with_ids_that_the_model_lacks() {
    let place = Workplace::new();
    let text = fs::read_to_string(place.path("tiny/tokenizer.json")).unwrap();
    assert!(text.contains("\"o\":111"));
    place.write("tiny/tokenizer.json", &text.replace("\"o\":111", "\"o\":4000"));
    place.refused(&["generate", "tiny", "-p", "one"], 2, &["tiny", "the id 4000", "'vocab_size'"]);
}

#[test]
fn flags_of_generate() {
    let place = Workplace::new();
    place.write("none.toml", "kind = \"magic\"");
    place.write("bad.toml", "kind = \"model\"\npath = \"nothing\"");
    place.checkpoint("other");
    let tokenizer = fs::read_to_string(place.path("other/tokenizer.json")).unwrap();
    let swapped = tokenizer.replace("\"o\":111", "\"o\":112").replace("\"p\":112", "\"p\":111");
    place.write("other/tokenizer.json", &swapped);
    place.write("other.toml", "kind = \"model\"\npath = \"other\"");
    place.write("deep.toml", "kind = \"layer-skip\"\nlayers = 2");
    place.write("blank.txt", "");
    fs::write(place.path("binary.txt"), [0xff, 0xfe, 0]).unwrap();
    for (flags, code, parts) in [
        (&["--max-tokens", "0"][..], 2, &["--max-tokens 0", "give at least 1"][..]),
        (&["--max-tokens", "-1"], 2, &["--max-tokens"]),
        (&["--max-tokens", "many"], 2, &["'many'", "--max-tokens"]),
        (&["--max-tokens", "300"], 2, &["tiny", "context of 256", "lower the number of tokens"]),
        (&["--max-tokens", "18446744073709551615"], 2, &["tiny", "context of 256"]),
        (&["--draft-length", "2"], 2, &["--draft <FILE>"]),
        (&["--draft", "lookup.toml", "--draft-length", "128"], 2, &["--draft-length 128", "0 to 127"]),
        (&["--draft", "absent.toml"], 2, &["absent.toml", "check the path"]),
        (&["--draft", "none.toml"], 2, &["none.toml: kind: there is no kind 'magic'"]),
        (&["--draft", "bad.toml"], 2, &["bad.toml: path: there is no model 'nothing'"]),
        (&["--draft", "deep.toml"], 2, &["deep.toml: layers: 2 is not below the target's 2"]),
        (&["--draft", "other.toml"], 2, &["other.toml: path", "id 111 is \"o\" for the target and \"p\""]),
        (&["--temperature", "-1"], 2, &["temperature -1 is out of range"]),
        (&["--top-p", "0"], 2, &["top-p"]),
        (&["--dtype", "float8"], 2, &["--dtype", "float32, float16 or bfloat16"]),
        (&["--quantize", "7"], 2, &["--quantize", "7 bits"]),
        (&["--chat"], 2, &["tiny", "no chat template"]),
        (&["--device", "tpu"], 2, &["--device", "tpu"]),
        (&["--threads", "0"], 2, &["--threads"]),
        (&["--speed", "9"], 2, &["'--speed'"]),
    ] {
        let arguments = [&["generate", "tiny", "-p", "one"][..], flags].concat();
        // The workplace adds its own --device; one given twice is a usage error of its own.
        if flags[0] == "--device" {
            let output = place.shell(&format!("{{}} {}", arguments.join(" ")));
            check_refusal("--device", &output, code, parts);
        } else {
            place.refused(&arguments, code, parts);
        }
    }
    for (file, parts) in [
        ("absent.txt", &["--prompt-file absent.txt"][..]),
        ("binary.txt", &["--prompt-file binary.txt"]),
        ("blank.txt", &["the prompt is empty"]),
    ] {
        place.refused(&["generate", "tiny", "--prompt-file", file], 2, parts);
    }
}

#[test]
fn convert_fetch_and_the_command_itself() {
    let place = Workplace::new();
    place.refused(&["convert", "tiny", "tiny"], 2, &["tiny: exists already"]);
    place.refused(&["convert", "tiny", "absent/new"], 1, &["absent", "cannot be created"]);
    place.refused(&["convert", "tiny", "lookup.toml/new"], 1, &["lookup.toml", "cannot be created"]);
    place.refused(&["convert", "tiny", ".."], 2, &["..: exists already"]);
    place.refused(&["convert", "tiny"], 2, &["<DIRECTORY>"]);
    for wrong in ["tiny", "hf://", "hf://org", "hf://org/a b", "hf://org/name@", "https://example.org"] {
        place.refused(&["fetch", wrong], 2, &[wrong]);
    }
    place.refused(&["doctor", "--machine-name"], 2, &["--machine-name"]);
    place.refused(&["tun"], 2, &["'tun'", "'tune'"]);
}

#[test]
fn a_model_larger_than_memory_is_refused_before_it_is_read() {
    let place = Workplace::new();
    // A sparse file: 2 TiB of zeros take no disk.
    let (rows, columns) = (1u64 << 24, 1u64 << 15);
    let bytes = 4 * rows * columns;
    let head =
        json!({"model.embed_tokens.weight": {"dtype": "F32", "shape": [rows, columns], "data_offsets": [0, bytes]}});
    let head = head.to_string();
    let mut file = (head.len() as u64).to_le_bytes().to_vec();
    file.extend(head.as_bytes());
    let length = file.len() as u64 + bytes;
    fs::write(place.path("tiny/model.safetensors"), file).unwrap();
    let file = fs::File::options().write(true).open(place.path("tiny/model.safetensors")).unwrap();
    if let Err(error) = file.set_len(length) {
        eprintln!("SKIPPED: this file system has no sparse files of 2 TiB ({error})");
        return;
    }
    place.set("tiny/config.json", &[("vocab_size", json!(rows)), ("hidden_size", json!(columns))]);
    let parts = ["tiny", "2048.00 GiB of memory", "GiB are free"];
    refused_by_loaders(&place, "tiny", 1, &parts);
    place.refused(&["tune", "small.toml"], 1, &parts);
}

#[test]
fn a_text_larger_than_memory_is_refused_before_it_is_begun() {
    let place = Workplace::new();
    place.set("tiny/config.json", &[("max_position_embeddings", json!(i32::MAX))]);
    // Two layers, two heads of 16 values, keys and values, four bytes each: 512 bytes a token.
    let parts = ["tiny", "the keys and values of 2000000003 tokens take 953.67 GiB", "lower the number of tokens"];
    place.refused(&["generate", "tiny", "-p", "one", "-n", "2000000000"], 1, &parts);
    place.change_scenario("max_tokens = 8", "max_tokens = 8\ncontext = 1000000000");
    place.refused(&["tune", "changed.toml"], 2, &["changed.toml: context: must be 0 to"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_limit_on_the_process_counts_as_memory() {
    let place = Workplace::new();
    place.set("tiny/config.json", &[("max_position_embeddings", json!(i32::MAX))]);
    let line = "ulimit -v 4000000 && {} generate tiny -p one -n 9000000 --device cpu";
    check_refusal(line, &place.shell(line), 1, &["4.29 GiB of memory", "GiB are free"]);
}

#[test]
fn output_that_cannot_be_written() {
    let place = Workplace::new();
    // A reader that has gone away ends the program by the signal for it (128 + 13), which is no panic.
    for arguments in ["generate tiny -p one -n 100", "generate tiny -p one -n 4 --json", "--help"] {
        place.shell(&format!("(sleep 0.2; {{}} {arguments} --device cpu; echo $? > code) | true"));
        assert_eq!(fs::read_to_string(place.path("code")).unwrap(), "141\n", "{arguments}");
    }
    place.shell("(sleep 0.2; {} generate absent -p one --device cpu 2>&1; echo $? > code) | true");
    assert_eq!(fs::read_to_string(place.path("code")).unwrap(), "141\n");
    if !std::path::Path::new("/dev/full").exists() {
        eprintln!("SKIPPED: there is no /dev/full");
        return;
    }
    for arguments in ["generate tiny -p one -n 4 --json", "generate tiny -p one -n 4", "doctor"] {
        let output = place.shell(&format!("{{}} {arguments} --device cpu > /dev/full"));
        check_refusal(arguments, &output, 1, &["standard output"]);
    }
}
