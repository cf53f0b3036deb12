#!/usr/bin/env python3
"""Writes the tiny random checkpoints of tests/golden/models/ and their logits as mlx-lm computes them in float32.

    scripts/oracle/setup && .venv/bin/python scripts/oracle/models.py [NAME ...]

Each folder looks as a checkpoint of its family does on the hub (config.json, model*.safetensors), only smaller.
`logits.json` holds, for one fixed token sequence,
  prefill: the logits of all positions from one forward without a cache,
  decode:  the logits after each token, the first `prompt_length` of which go through the cache in one forward and
           the others one by one; row 0 belongs to position prompt_length - 1.
Everything is seeded, so a second run writes the same checkpoints.
"""
import json
import shutil
import sys
from pathlib import Path

import mlx.core as mx
import mlx_lm
import numpy as np
from mlx.utils import tree_map
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model, quantize_model, save_config, save_model
from safetensors.numpy import save_file

GOLDEN = Path(__file__).resolve().parents[2] / "tests/golden/models"
PROMPT_LENGTH, SEQUENCE_LENGTH = 9, 24

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 64, "initializer_range": 0.02, "intermediate_size": 80,
    "max_position_embeddings": 256, "mlp_bias": False, "model_type": "llama", "num_attention_heads": 4,
    "num_hidden_layers": 2, "num_key_value_heads": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None,
    "rope_theta": 10000.0, "tie_word_embeddings": True, "torch_dtype": "float32", "use_cache": True, "vocab_size": 256,
}
MISTRAL = {
    "architectures": ["MistralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
    "hidden_act": "silu", "hidden_size": 64, "initializer_range": 0.02, "intermediate_size": 80,
    "max_position_embeddings": 256, "model_type": "mistral", "num_attention_heads": 4, "num_hidden_layers": 2,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "sliding_window": None,
    "tie_word_embeddings": False, "torch_dtype": "float32", "use_cache": True, "vocab_size": 128,
}
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
    "hidden_act": "silu", "hidden_size": 64, "initializer_range": 0.02, "intermediate_size": 80,
    "max_position_embeddings": 256, "max_window_layers": 2, "model_type": "qwen2", "num_attention_heads": 4,
    "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
    "sliding_window": 256, "tie_word_embeddings": True, "torch_dtype": "float32", "use_cache": True,
    "use_sliding_window": False, "vocab_size": 256,
}
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 1,
    "eos_token_id": 2, "head_dim": 32, "hidden_act": "silu", "hidden_size": 64, "initializer_range": 0.02,
    "intermediate_size": 48, "max_position_embeddings": 256, "max_window_layers": 2, "model_type": "qwen3",
    "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
    "rope_scaling": None, "rope_theta": 1000000.0, "sliding_window": None, "tie_word_embeddings": True,
    "torch_dtype": "float32", "use_cache": True, "use_sliding_window": False, "vocab_size": 96,
}
LLAMA3_ROPE = {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 32,
               "rope_type": "llama3"}


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


# Name: (config, how the weights are stored). Quantised ones are written by mlx-lm's own functions.
CASES = {
    "llama": (LLAMA, {}),
    "llama-untied": (without(LLAMA, "num_key_value_heads")  # as many key heads as query heads: the old default
                     | {"tie_word_embeddings": False, "vocab_size": 96, "intermediate_size": 64}, {}),
    "llama-bias": (LLAMA | {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1}, {}),
    "llama-rope-scaled": (LLAMA | {"rope_scaling": LLAMA3_ROPE}, {}),
    "llama-rope-linear": (LLAMA | {"rope_scaling": {"factor": 4.0, "type": "linear"}}, {}),
    "llama-bfloat16": (LLAMA | {"num_hidden_layers": 3, "torch_dtype": "bfloat16"}, {}),
    "llama-sharded": (LLAMA | {"tie_word_embeddings": False, "vocab_size": 96}, {"shards": 3}),
    "llama-quantized-4bit": (LLAMA | {"intermediate_size": 128}, {"bits": 4, "group_size": 64}),
    "llama-quantized-8bit": (LLAMA | {"intermediate_size": 128, "tie_word_embeddings": False,
                                      "torch_dtype": "bfloat16"}, {"bits": 8, "group_size": 32}),
    "mistral": (MISTRAL, {}),
    "mistral-head-dim": (MISTRAL | {"head_dim": 32, "intermediate_size": 40, "vocab_size": 64}, {}),
    "qwen2": (QWEN2, {}),
    "qwen2-untied": (QWEN2 | {"tie_word_embeddings": False, "vocab_size": 96}, {}),
    "qwen2-quantized-4bit": (QWEN2 | {"intermediate_size": 128}, {"bits": 4, "group_size": 32}),
    "qwen3": (QWEN3, {}),
    # transformers 5 writes `dtype` and nests the rotary settings.
    "qwen3-rope-parameters": (
        without(QWEN3, "rope_scaling", "rope_theta", "torch_dtype")
        | {"dtype": "float32", "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"},
           "num_key_value_heads": 1, "tie_word_embeddings": False, "vocab_size": 96}, {}),
    "qwen3-quantized-mixed": (QWEN3 | {"intermediate_size": 128}, {"bits": 4, "group_size": 64, "mixed": True}),
}


def random_weights(config, rng):
    """A hub checkpoint's tensors by name; scaled so that every one of them matters for the logits."""
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads = config["num_attention_heads"]
    key_heads = config.get("num_key_value_heads", heads)
    head = config.get("head_dim", hidden // heads)
    family = config["model_type"]
    projection_bias = config.get("attention_bias", False)
    weights = {"model.embed_tokens.weight": rng.normal(0, 1, (vocab, hidden))}

    def linear(name, rows, columns, gain, bias):
        weights[f"{name}.weight"] = rng.normal(0, gain / columns**0.5, (rows, columns))
        if bias:
            weights[f"{name}.bias"] = rng.normal(0, 0.3, rows)

    def norm(name, size):
        weights[f"{name}.weight"] = rng.normal(1, 0.2, size)

    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        norm(f"{at}.input_layernorm", hidden)
        linear(f"{at}.self_attn.q_proj", heads * head, hidden, 1.5, projection_bias or family == "qwen2")
        linear(f"{at}.self_attn.k_proj", key_heads * head, hidden, 1.5, projection_bias or family == "qwen2")
        linear(f"{at}.self_attn.v_proj", key_heads * head, hidden, 1.5, projection_bias or family == "qwen2")
        linear(f"{at}.self_attn.o_proj", hidden, heads * head, 1.5, projection_bias)
        if family == "qwen3":
            norm(f"{at}.self_attn.q_norm", head)
            norm(f"{at}.self_attn.k_norm", head)
        norm(f"{at}.post_attention_layernorm", hidden)
        linear(f"{at}.mlp.gate_proj", inner, hidden, 1.5, config.get("mlp_bias", False))
        linear(f"{at}.mlp.up_proj", inner, hidden, 1.5, config.get("mlp_bias", False))
        linear(f"{at}.mlp.down_proj", hidden, inner, 1.5, config.get("mlp_bias", False))
    norm("model.norm", hidden)
    if not config["tie_word_embeddings"]:
        linear("lm_head", vocab, hidden, 3.0, False)
    else:
        weights["model.embed_tokens.weight"] *= 0.4
    return {name: value.astype(np.float32) for name, value in weights.items()}


def write_floats(folder, config, weights, shards):
    """model.safetensors, or shards with their index, in the precision that the config names."""
    if config.get("torch_dtype") == "bfloat16":
        arrays = {name: mx.array(value).astype(mx.bfloat16) for name, value in weights.items()}
        mx.save_safetensors(str(folder / "model.safetensors"), arrays, metadata={"format": "pt"})
    elif shards == 1:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        names = list(weights)
        place = {name: f"model-{i * shards // len(names) + 1:05}-of-{shards:05}.safetensors"
                 for i, name in enumerate(names)}
        for file in sorted(set(place.values())):
            part = {name: weights[name] for name in names if place[name] == file}
            save_file(part, folder / file, metadata={"format": "pt"})
        index = {"metadata": {"total_size": sum(w.nbytes for w in weights.values())}, "weight_map": place}
        write_json(folder / "model.safetensors.index.json", index)


def quantize(folder, config, store):
    """Replaces the float checkpoint by what mlx-lm's converter writes for it."""
    def mixed(path, module):
        if path.endswith("v_proj"):
            return {"bits": 8, "group_size": 32}
        return not path.endswith("layers.0.mlp.down_proj")

    model, config = load_model(folder)
    model, config = quantize_model(model, config, store["group_size"], store["bits"],
                                   quant_predicate=mixed if store.get("mixed") else None)
    if store.get("mixed"):
        # The converter notes only layers with settings of their own; a layer left in floats it notes by having no scales.
        assert any(isinstance(value, dict) for value in config["quantization"].values())
    save_model(folder, model)
    save_config(config, folder / "config.json")


def logits(folder, vocab_size, seed):
    """The goldens of one checkpoint, all arithmetic in float32 whatever the file's precision."""
    model, _ = load_model(folder)
    model.update(tree_map(lambda w: w.astype(mx.float32) if mx.issubdtype(w.dtype, mx.floating) else w,
                          model.parameters()))
    tokens = np.random.default_rng(seed).integers(0, vocab_size, SEQUENCE_LENGTH).tolist()
    prefill = model(mx.array([tokens]))[0]
    cache = make_prompt_cache(model)
    decode = [model(mx.array([tokens[:PROMPT_LENGTH]]), cache=cache)[0, -1]]
    for token in tokens[PROMPT_LENGTH:]:
        decode.append(model(mx.array([[token]]), cache=cache)[0, -1])
    decode = mx.stack(decode)
    mx.eval(prefill, decode)
    assert prefill.dtype == mx.float32
    gap = mx.abs(prefill[PROMPT_LENGTH - 1:] - decode).max().item()
    assert gap < 5e-5, f"{folder.name}: mlx-lm's cache changes its logits by {gap}"
    return {
        "versions": {"mlx": mx.__version__, "mlx-lm": mlx_lm.__version__},
        "dtype": "float32", "tokens": tokens, "prompt_length": PROMPT_LENGTH,
        "prefill": rows(prefill), "decode": rows(decode),
    }


def rows(array):
    """Shortest decimals that read back as the same float32."""
    return [[float(str(value)) for value in row] for row in np.array(array)]


def write_json(path, value):
    rows_inside = {"prefill", "decode"}
    if rows_inside <= value.keys():  # one row a line keeps differences readable
        lines = [f'  "{key}": ' + ("[\n    " + ",\n    ".join(map(json.dumps, item)) + "\n  ]"
                                   if key in rows_inside else json.dumps(item)) for key, item in value.items()]
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    else:
        path.write_text(json.dumps(value, indent=2) + "\n")


def make(name, seed):
    config, store = CASES[name]
    folder = GOLDEN / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_json(folder / "config.json", dict(sorted(config.items())))
    write_floats(folder, config, random_weights(config, np.random.default_rng(seed)), store.get("shards", 1))
    if "bits" in store:
        quantize(folder, config, store)
    golden = logits(folder, config["vocab_size"], seed)
    write_json(folder / "logits.json", golden)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    spread = np.abs(golden["prefill"]).max()
    print(f"{name:24} {size / 1e3:7.1f} kB   largest logit {spread:.2f}")


def main():
    mx.set_default_device(mx.cpu)
    wanted = sys.argv[1:] or CASES
    for seed, name in enumerate(CASES, start=1):
        if name in wanted:
            make(name, seed)


if __name__ == "__main__":
    main()
