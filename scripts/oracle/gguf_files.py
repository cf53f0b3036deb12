#!/usr/bin/env python3
"""Writes the tiny GGUF files of tests/golden/gguf/ with the Python package `gguf`, and what must come out of them.

    scripts/oracle/setup && .venv/bin/python scripts/oracle/gguf_files.py

For each file NAME.gguf, NAME.json holds
  config:  the model's `config.json` on the hub,
  tensors: by name on the hub, the shape, the SHA-256 of the little-endian float32 values as the package dequantises
           them, in the hub's order of rows, and the first values of the last row,
  tokens, logits: mlx-lm's float32 logits of all positions for these values.
The quantised types are mixed within a file so that each is met in rows that GGUF permutes and in rows that it does not.
Everything is seeded, so a second run writes the same files.
"""
import hashlib
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf.quants import dequantize, quantize
from mlx_lm.utils import load_model
from safetensors.numpy import save_file

GOLDEN = Path(__file__).resolve().parents[2] / "tests/golden/gguf"
HEADS, KV_HEADS, HEAD_DIM, HIDDEN, FFN, VOCAB, CONTEXT = 4, 2, 16, 64, 96, 48, 128
TYPES = [Q.Q4_0, Q.Q4_1, Q.Q8_0, Q.BF16, Q.F16, Q.F32]
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}

COMMON = {
    "bos_token_id": 1, "eos_token_id": 2, "head_dim": HEAD_DIM, "hidden_act": "silu", "hidden_size": HIDDEN,
    "intermediate_size": FFN, "max_position_embeddings": CONTEXT, "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS, "rms_norm_eps": 1e-05, "rope_scaling": None, "vocab_size": VOCAB,
}
LLAMA = COMMON | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_theta": 10000.0,
                  "attention_bias": False, "mlp_bias": False}
CASES = {
    "llama": LLAMA | {"num_hidden_layers": 3, "tie_word_embeddings": True},
    # Biases of queries and keys are permuted too; this head count differs between the two.
    "llama-bias": LLAMA | {"num_hidden_layers": 1, "tie_word_embeddings": False, "attention_bias": True,
                           "rope_scaling": {"rope_type": "linear", "type": "linear", "factor": 4.0}},
    "llama-rope-factors": LLAMA | {"num_hidden_layers": 1, "tie_word_embeddings": True, "rope_theta": 500000.0,
                                   "rope_scaling": LLAMA3},
    "qwen2": COMMON | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "rope_theta": 1000000.0,
                       "num_hidden_layers": 1, "tie_word_embeddings": True, "use_sliding_window": False},
    "qwen3": COMMON | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "rope_theta": 1000000.0,
                       "num_hidden_layers": 2, "tie_word_embeddings": False, "attention_bias": False,
                       "use_sliding_window": False},
}


def tensors(config, rng):
    """(name in the file, name on the hub, values) of every tensor, in the hub's order of rows."""
    def matrix(rows, columns):
        return rng.normal(0, 0.2, (rows, columns)).astype(np.float32)

    def vector(size, mean=0.0):
        return rng.normal(mean, 0.1, size).astype(np.float32)

    yield "token_embd.weight", "model.embed_tokens.weight", matrix(VOCAB, HIDDEN)
    attention_bias = config.get("attention_bias", config["model_type"] == "qwen2")
    for i in range(config["num_hidden_layers"]):
        here, there = f"blk.{i}.", f"model.layers.{i}."
        yield here + "attn_norm.weight", there + "input_layernorm.weight", vector(HIDDEN, 1.0)
        for part, long, rows in [("q", "q_proj", HEADS), ("k", "k_proj", KV_HEADS), ("v", "v_proj", KV_HEADS)]:
            rows *= HEAD_DIM
            yield f"{here}attn_{part}.weight", f"{there}self_attn.{long}.weight", matrix(rows, HIDDEN)
            if attention_bias:
                yield f"{here}attn_{part}.bias", f"{there}self_attn.{long}.bias", vector(rows)
        if config["model_type"] == "qwen3":
            yield here + "attn_q_norm.weight", there + "self_attn.q_norm.weight", vector(HEAD_DIM, 1.0)
            yield here + "attn_k_norm.weight", there + "self_attn.k_norm.weight", vector(HEAD_DIM, 1.0)
        yield here + "attn_output.weight", there + "self_attn.o_proj.weight", matrix(HIDDEN, HEADS * HEAD_DIM)
        if config["model_type"] == "llama" and attention_bias:
            yield here + "attn_output.bias", there + "self_attn.o_proj.bias", vector(HIDDEN)
        yield here + "ffn_norm.weight", there + "post_attention_layernorm.weight", vector(HIDDEN, 1.0)
        yield here + "ffn_gate.weight", there + "mlp.gate_proj.weight", matrix(FFN, HIDDEN)
        yield here + "ffn_up.weight", there + "mlp.up_proj.weight", matrix(FFN, HIDDEN)
        yield here + "ffn_down.weight", there + "mlp.down_proj.weight", matrix(HIDDEN, FFN)
    yield "output_norm.weight", "model.norm.weight", vector(HIDDEN, 1.0)
    if not config["tie_word_embeddings"]:
        yield "output.weight", "lm_head.weight", matrix(VOCAB, HIDDEN)


def interleave(values, heads):
    """The order of query and key rows that llama.cpp's converter writes for the llama architecture."""
    return values.reshape(heads, 2, HEAD_DIM // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def llama3_factors(config):
    scaling = config["rope_scaling"]
    frequencies = 1.0 / config["rope_theta"] ** (np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    old = scaling["original_max_position_embeddings"]
    factors = []
    for frequency in frequencies:
        length = 2 * np.pi / frequency
        if length < old / scaling["high_freq_factor"]:
            factors.append(1.0)
        elif length > old / scaling["low_freq_factor"]:
            factors.append(scaling["factor"])
        else:
            smooth = (old / length - scaling["low_freq_factor"]) / (scaling["high_freq_factor"] - scaling["low_freq_factor"])
            factors.append(1.0 / ((1 - smooth) / scaling["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def add_metadata(writer, config):
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    if config["model_type"] == "qwen3":
        writer.add_key_length(HEAD_DIM)
        writer.add_value_length(HEAD_DIM)
    else:
        writer.add_rope_dimension_count(HEAD_DIM)
    if (config["rope_scaling"] or {}).get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config["rope_scaling"]["factor"])
    letters = ["<unk>", "<s>", "</s>"] + [chr(ord("!") + i) for i in range(VOCAB - 4)] + ["ab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(letters)
    writer.add_token_types([3, 3, 3] + [1] * (VOCAB - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def logits(config, values):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "config.json").write_text(json.dumps(config))
        save_file(values, folder / "model.safetensors", metadata={"format": "mlx"})
        model, _ = load_model(folder)
    tokens = [(7 * i + 3) % VOCAB for i in range(12)]
    return tokens, np.array(model(mx.array([tokens])))[0]


def write(name, config):
    rng = np.random.default_rng(sum(name.encode()))
    writer = gguf.GGUFWriter(GOLDEN / f"{name}.gguf", config["model_type"])
    add_metadata(writer, config)
    expected, values = {}, {}
    if (config["rope_scaling"] or {}).get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config))
    turn = len(name)
    for here, there, dense in tensors(config, rng):
        kind = Q.F32
        if dense.ndim == 2:
            kind, turn = TYPES[turn % len(TYPES)], turn + 1
        stored = dense
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(here.split(".")[-2])
        if config["model_type"] == "llama" and heads:
            stored = interleave(dense, heads)
        writer.add_tensor(here, quantize(stored, kind), raw_dtype=kind)
        dense = dequantize(quantize(dense, kind), kind).astype("<f4").reshape(dense.shape) + 0.0  # no negative zeros
        values[there] = dense
        expected[there] = {"type": kind.name, "shape": list(dense.shape), "sha256": hashlib.sha256(dense.tobytes()).hexdigest(),
                           "last_row": [float(x) for x in np.atleast_2d(dense)[-1][:4]]}
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tokens, rows = logits(config, values)
    result = {
        "made_by": {package: version(package) for package in ["gguf", "mlx", "mlx-lm", "numpy"]},
        "config": config, "tensors": expected, "tokens": tokens,
        "logits": [[round(float(x), 7) for x in row] for row in rows],
    }
    (GOLDEN / f"{name}.json").write_text(json.dumps(result, indent=1).replace("\n    ", " ") + "\n")


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for case in sys.argv[1:] or CASES:
        write(case, CASES[case])
        print(case, (GOLDEN / f"{case}.gguf").stat().st_size, "bytes")
