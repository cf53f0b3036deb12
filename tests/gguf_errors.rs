//! What is wrong with a GGUF file is said by name. The files are built here, byte by byte.
#![cfg(feature = "mlx")]

use ridgepoint::model::weights::{self, LoadOptions};

const U32: u32 = 4;
const F32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// A metadata pair: key, type, encoded value.
type Pair = (String, u32, Vec<u8>);

fn u32_pair(key: &str, value: u32) -> Pair {
    (key.into(), U32, value.to_le_bytes().into())
}

fn f32_pair(key: &str, value: f32) -> Pair {
    (key.into(), F32, value.to_le_bytes().into())
}

fn string_pair(key: &str, value: &str) -> Pair {
    (key.into(), STRING, string(value))
}

/// A tensor: name, dimensions as in the file, type, offset, bytes of data.
type Tensor = (String, Vec<u64>, u32, u64, usize);

#[derive(Clone)]
struct File {
    version: u32,
    metadata_count: Option<u64>,
    tensor_count: Option<u64>,
    metadata: Vec<Pair>,
    tensors: Vec<Tensor>,
    tail: usize,
}

/// A valid head of a llama model without layers' tensors: enough to be opened.
fn valid() -> File {
    let tokens = [&STRING.to_le_bytes()[..], &3u64.to_le_bytes(), &string("a"), &string("b"), &string("ab")].concat();
    let types = [&5u32.to_le_bytes()[..], &3u64.to_le_bytes(), &[1, 0, 0, 0].repeat(3)].concat();
    let merges = [&STRING.to_le_bytes()[..], &1u64.to_le_bytes(), &string("a b")].concat();
    File {
        version: 3,
        metadata_count: None,
        tensor_count: None,
        metadata: vec![
            string_pair("general.architecture", "llama"),
            u32_pair("llama.context_length", 64),
            u32_pair("llama.embedding_length", 32),
            u32_pair("llama.block_count", 1),
            u32_pair("llama.feed_forward_length", 32),
            u32_pair("llama.attention.head_count", 2),
            u32_pair("llama.attention.head_count_kv", 1),
            f32_pair("llama.attention.layer_norm_rms_epsilon", 1e-5),
            f32_pair("llama.rope.freq_base", 10000.0),
            string_pair("tokenizer.ggml.model", "gpt2"),
            string_pair("tokenizer.ggml.pre", "smollm"),
            ("tokenizer.ggml.tokens".into(), ARRAY, tokens),
            ("tokenizer.ggml.token_type".into(), ARRAY, types),
            ("tokenizer.ggml.merges".into(), ARRAY, merges),
        ],
        tensors: vec![
            ("token_embd.weight".into(), vec![32, 3], 0, 0, 384),
            ("blk.0.attn_q.weight".into(), vec![32, 32], 8, 384, 1088),
        ],
        tail: 0,
    }
}

impl File {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        bytes.extend(self.metadata_count.unwrap_or(self.metadata.len() as u64).to_le_bytes());
        for (key, kind, value) in &self.metadata {
            bytes.extend(string(key));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value);
        }
        for (name, dimensions, kind, offset, _) in &self.tensors {
            bytes.extend(string(name));
            bytes.extend((dimensions.len() as u32).to_le_bytes());
            dimensions.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        let data: usize = self.tensors.iter().map(|(.., bytes)| bytes.next_multiple_of(32)).sum();
        bytes.resize(bytes.len() + data + self.tail, 0);
        bytes
    }

    fn set(&mut self, pair: Pair) {
        self.metadata.retain(|(key, ..)| *key != pair.0);
        self.metadata.push(pair);
    }

    /// The message on opening it, without the file's name.
    fn error(&self) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.gguf");
        std::fs::write(&path, self.bytes()).unwrap();
        let error = weights::load(&path, &LoadOptions::default()).err()?;
        let message = format!("{error:#}");
        Some(message.strip_prefix(&format!("{}: ", path.display())).expect("the file is named").to_owned())
    }
}

/// `change` to a valid file gives `message`.
fn check(message: &str, change: impl FnOnce(&mut File)) {
    let mut file = valid();
    change(&mut file);
    assert_eq!(file.error().as_deref(), Some(message));
}

#[test]
fn the_unchanged_file_is_valid() {
    assert_eq!(valid().error(), None);
    assert_eq!(File { version: 2, ..valid() }.error(), None);
}

#[test]
fn heads_of_the_file() {
    check("GGUF version 1 is not supported (2 and 3 are)", |file| file.version = 1);
    check("a big-endian GGUF file, which is not supported", |file| file.version = 3 << 24);
    check("the header claims 18446744073709551615 tensors, more than the file can hold", |file| {
        file.tensor_count = Some(u64::MAX);
    });
    check("the header claims 281474976710656 metadata pairs, more than the file can hold", |file| {
        file.metadata_count = Some(1 << 48);
    });
    check("there are no tensors in this GGUF version 3 file (a vocabulary alone is not a model)", |file| {
        file.tensors.clear();
    });
    check("32 bytes follow the last tensor, which the header does not account for", |file| file.tail = 32);
}

#[test]
fn metadata_that_cannot_be_read() {
    check("metadata key 'general.architecture' occurs twice", |file| {
        file.metadata.push(string_pair("general.architecture", "llama"));
    });
    check("metadata key 'x': unknown type 13", |file| file.metadata.push(("x".into(), 13, vec![0])));
    check("metadata key 'x': the byte 2 is neither true nor false", |file| {
        file.metadata.push(("x".into(), BOOL, vec![2]));
    });
    check("metadata key 'x': its value is not UTF-8", |file| {
        file.metadata.push(("x".into(), STRING, [&1u64.to_le_bytes()[..], &[0xff]].concat()));
    });
    check(
        "metadata key 'x': its value claims 9223372036854775808 bytes, more than there can be; the file is damaged",
        |file| {
            file.metadata.push(("x".into(), STRING, (1u64 << 63).to_le_bytes().into()));
        },
    );
    check("metadata key 'x': an array of arrays is not supported", |file| {
        file.metadata.push(("x".into(), ARRAY, [&ARRAY.to_le_bytes()[..], &1u64.to_le_bytes()].concat()));
    });
    check("metadata key 'x': claims 4611686018427387905 elements, more than the file can hold", |file| {
        let value = [&U32.to_le_bytes()[..], &((1u64 << 62) + 1).to_le_bytes()].concat();
        file.metadata.push(("x".into(), ARRAY, value));
    });
    check("metadata key 'general.alignment' is 24, not a power of two of a reasonable size", |file| {
        file.set(u32_pair("general.alignment", 24));
    });
}

#[test]
fn tensors_that_cannot_be_there() {
    check("tensor 'token_embd.weight' occurs twice", |file| file.tensors[1] = file.tensors[0].clone());
    check("tensor 'blk.0.attn_q.weight' is at offset 320 of the data, where 384 must follow", |file| {
        file.tensors[1].3 = 320;
    });
    check(
        "tensor 'blk.0.attn_q.weight' reaches beyond the end of the file (2272 bytes); the file is cut short",
        |file| file.tensors[1].1 = vec![32, 1 << 40],
    );
    check("tensor 'blk.0.attn_q.weight': its shape [32, 18446744073709551615] is impossible", |file| {
        file.tensors[1].1 = vec![32, u64::MAX];
    });
    check("tensor 'blk.0.attn_q.weight': its shape [32, 0] is impossible", |file| file.tensors[1].1 = vec![32, 0]);
    check("tensor 'blk.0.attn_q.weight': it has 5 dimensions, not 1 to 4", |file| file.tensors[1].1 = vec![32; 5]);
    check("tensor 'blk.0.attn_q.weight': its rows of 33 values are not whole Q8_0 blocks of 32", |file| {
        file.tensors[1].1 = vec![33, 32];
    });
    check(
        "tensor 'blk.0.attn_q.weight': type Q4_K is not supported; use a file of this model in one of F32, F16, Q4_0, Q4_1, Q8_0, BF16",
        |file| file.tensors[1].2 = 12,
    );
    check(
        "tensor 'blk.0.attn_q.weight': type number 77 is not supported; use a file of this model in one of F32, F16, Q4_0, Q4_1, Q8_0, BF16",
        |file| file.tensors[1].2 = 77,
    );
    check("tensor 'blk.0.attn_qkv.weight' is not part of the architecture 'llama'", |file| {
        file.tensors[1].0 = "blk.0.attn_qkv.weight".into();
    });
    check("tensors 'blk.0.attn_q.weight' and 'blk.00.attn_q.weight' are the same one", |file| {
        let copy = &file.tensors[1];
        file.tensors.push(("blk.00.attn_q.weight".into(), copy.1.clone(), copy.2, 1472, copy.4));
    });
    check("tensor 'token_embd.weight' is missing", |file| file.tensors[0].0 = "output_norm.weight".into());
}

#[test]
fn impossible_configurations() {
    check("'general.architecture' = \"gemma\" is not supported (llama, qwen2, qwen3 are)", |file| {
        file.set(string_pair("general.architecture", "gemma"));
    });
    check("metadata key 'llama.attention.head_count' is 0, not from 1 to 2147483647", |file| {
        file.set(u32_pair("llama.attention.head_count", 0));
    });
    check("metadata key 'llama.rope.freq_base' is NaN, not a number above 0", |file| {
        file.set(f32_pair("llama.rope.freq_base", f32::NAN));
    });
    check("metadata key 'llama.attention.layer_norm_rms_epsilon' is -1, not a number above 0", |file| {
        file.set(f32_pair("llama.attention.layer_norm_rms_epsilon", -1.0));
    });
    check("metadata key 'llama.block_count' is a string, not an integer that is not negative", |file| {
        file.set(string_pair("llama.block_count", "1"));
    });
    check("metadata key 'llama.context_length' is missing", |file| {
        file.metadata.retain(|pair| !pair.0.ends_with("context_length"))
    });
    check("metadata key 'llama.embedding_length' = 32 is no multiple of the 5 heads", |file| {
        file.set(u32_pair("llama.attention.head_count", 5));
    });
    check("metadata key 'llama.rope.dimension_count' = 8 differs from the head size 16; not supported", |file| {
        file.set(u32_pair("llama.rope.dimension_count", 8));
    });
    check("metadata key 'llama.vocab_size' = 4 differs from the 3 rows of 'token_embd.weight'", |file| {
        file.set(u32_pair("llama.vocab_size", 4));
    });
    check("metadata key 'llama.expert_count' = 8: mixtures of experts are not supported", |file| {
        file.set(u32_pair("llama.expert_count", 8));
    });
    check("metadata key 'llama.rope.scaling.type' = \"yarn\" is not supported (none and linear are)", |file| {
        file.set(string_pair("llama.rope.scaling.type", "yarn"));
    });
    check(
        "metadata key 'llama.attention.scale' is not known, so the model might be run wrongly; use another checkpoint",
        |file| file.set(f32_pair("llama.attention.scale", 2.0)),
    );
    check("metadata key 'qwen2.rope.freq_base' belongs to another architecture than 'llama'", |file| {
        file.set(f32_pair("qwen2.rope.freq_base", 1e6));
    });
    check("'split.count' = 2: one part of a split file; merge the parts first (llama-gguf-split --merge)", |file| {
        file.set(u32_pair("split.count", 2));
    });
}
