#!/usr/bin/env python3
"""SmolLM2-135M-Instruct for the Python side: a checkpoint folder made from the GGUF, and goldens of greedy decoding.

    .venv/bin/python scripts/oracle/smollm2.py GGUF FOLDER     writes a float32 checkpoint as on the hub
    .venv/bin/python scripts/oracle/smollm2.py GGUF --golden   writes tests/golden/models/smollm2/greedy.json

The conversion uses numpy and the `gguf` package only, none of ridgepoint's code. The goldens are mlx-lm's: float32 on
the CPU, greedy, 128 tokens for each of three chats, end of text ignored. `margin` is the gap between the two largest
logits at each step: where it is tiny, another BLAS may legitimately choose the other token.
"""
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

GOLDEN = Path(__file__).resolve().parents[2] / "tests/golden/models/smollm2/greedy.json"
TOKENS = 128
TOP_AT = [0, 1, 2, 7, 31, 63, 127]  # steps whose five largest logits are kept
CHATS = {
    "free-chat": [{"role": "user", "content": "Name three ways to save energy at home and say why each one helps."}],
    "code": [
        {"role": "system", "content": "You write short, correct Python."},
        {"role": "user", "content": "Write a function that counts how often each word occurs in a text, and explain it."},
    ],
    "passage": [
        {"role": "user", "content": "Summarize this: The lighthouse at the northern cape was built in 1871, after "
         "three ships were lost in a single winter. For ninety years a keeper and his family lived in it, 40 km from "
         "the next village. Since 1962 it has run by itself; today it is a museum, and 12,000 people a year climb its "
         "214 steps."},
        {"role": "assistant", "content": "It is an old lighthouse that became a museum."},
        {"role": "user", "content": "Who lived in it, and what is it used for now?"},
    ],
}
LAYER_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
SPECIAL = 3  # token_type of control tokens in a GGUF


def hub_name(name):
    """model.layers.3.self_attn.q_proj.weight for blk.3.attn_q.weight"""
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, kind, suffix = name.split(".")
    return f"model.layers.{layer}.{LAYER_NAMES[kind]}.{suffix}"


def rotary_halves(weight, heads):
    """GGUF stores the rows of a query or key head as interleaved pairs; checkpoints store two halves."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def read_weights(reader, heads, key_heads):
    weights = {}
    for tensor in reader.tensors:
        value = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if ".attn_q." in tensor.name:
            value = rotary_halves(value, heads)
        if ".attn_k." in tensor.name:
            value = rotary_halves(value, key_heads)
        weights[hub_name(tensor.name)] = np.ascontiguousarray(value)
    return weights


def read_tokenizer(field):
    """Byte-level BPE; llama.cpp's pre-tokenizer 'smollm' takes digits one by one, then splits as GPT-2 does."""
    assert field("tokenizer.ggml.pre") == "smollm"
    pieces, kinds = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in field("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False)
                                  for piece, kind in zip(pieces, kinds) if kind == SPECIAL])
    return tokenizer


def write_checkpoint(gguf_path, folder, layers=None):
    """A float32 checkpoint folder; `layers` keeps only the first so many layers, with the final norm and the head."""
    reader = gguf.GGUFReader(gguf_path)

    def field(key):
        return reader.get_field(key).contents()

    heads, key_heads = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    layers = layers or field("llama.block_count")
    weights = {name: value for name, value in read_weights(reader, heads, key_heads).items()
               if not name.startswith("model.layers.") or int(name.split(".")[2]) < layers}
    pieces, eos = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.eos_token_id")
    bos = field("tokenizer.ggml.bos_token_id")
    config = {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": bos,
        "eos_token_id": eos, "hidden_act": "silu", "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "max_position_embeddings": field("llama.context_length"), "mlp_bias": False, "model_type": "llama",
        "num_attention_heads": heads, "num_hidden_layers": layers, "num_key_value_heads": key_heads,
        # The GGUF has the float32 nearest to the decimal that the checkpoint had.
        "rms_norm_eps": float(str(np.float32(field("llama.attention.layer_norm_rms_epsilon")))),
        "rope_scaling": None, "rope_theta": field("llama.rope.freq_base"), "tie_word_embeddings": True,
        "torch_dtype": "float32", "vocab_size": field("llama.vocab_size"),
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": pieces[bos], "eos_token": pieces[eos],
        "unk_token": pieces[field("tokenizer.ggml.unknown_token_id")],
        "pad_token": pieces[field("tokenizer.ggml.padding_token_id")], "add_prefix_space": False,
        "clean_up_tokenization_spaces": False, "model_max_length": field("llama.context_length"),
        "chat_template": field("tokenizer.chat_template"),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=2) + "\n")
    read_tokenizer(field).save(str(folder / "tokenizer.json"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def greedy(model, tokenizer, messages):
    """mlx-lm's own greedy loop; the logits are looked at on their way, not changed."""
    import mlx.core as mx
    from mlx_lm.generate import generate_step

    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    seen = []

    def look(_, logits):
        seen.append(logits[0])
        return logits

    tokens = [int(token) for token, _ in generate_step(mx.array(ids), model, max_tokens=TOKENS, logits_processors=[look])]
    logits = np.array(mx.stack(seen[:TOKENS]))
    order = np.argsort(-logits, axis=-1, kind="stable")[:, :5]
    assert order[:, 0].tolist() == tokens
    best = np.take_along_axis(logits, order, axis=-1)
    return {
        "messages": messages, "prompt": prompt, "prompt_tokens": ids, "tokens": tokens, "text": tokenizer.decode(tokens),
        "margin": [float(str(value)) for value in best[:, 0] - best[:, 1]],
        "top": [{"step": step, "tokens": order[step].tolist(), "logits": [float(str(value)) for value in best[step]]}
                for step in TOP_AT],
    }


def write_golden(gguf_path):
    import mlx.core as mx
    import mlx_lm
    import transformers

    mx.set_default_device(mx.cpu)
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(gguf_path, folder)
        model, tokenizer = mlx_lm.load(folder)
    assert model.model.embed_tokens.weight.dtype == mx.float32
    golden = {
        "versions": {"mlx": mx.__version__, "mlx-lm": mlx_lm.__version__, "transformers": transformers.__version__,
                     "gguf-sha256": hashlib.sha256(Path(gguf_path).read_bytes()).hexdigest()},
        "dtype": "float32", "chats": {},
    }
    for name, messages in CHATS.items():
        chat = golden["chats"][name] = greedy(model, tokenizer, messages)
        print(f"{name}: {len(chat['prompt_tokens'])} prompt tokens, smallest margin {min(chat['margin']):.4f}, "
              f"ends text at {chat['tokens'].index(2) if 2 in chat['tokens'] else None}\n{chat['text']}\n")
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    GOLDEN.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case [gguf_path, "--golden"]:
            write_golden(gguf_path)
        case [gguf_path, folder]:
            write_checkpoint(gguf_path, folder)
        case _:
            sys.exit("usage: smollm2.py GGUF FOLDER | smollm2.py GGUF --golden")
