#!/usr/bin/env python3
"""Writes tests/golden/distill/: one step of distillation on a tiny corpus, computed in float64 by JAX and optax.

    python3 -m venv V && V/bin/pip install jax optax numpy safetensors && V/bin/python scripts/oracle/distill.py

The target is tests/golden/models/llama. Nothing is shared with the program: the decoder is written here in jax.numpy and
checked against that model's golden logits (which mlx-lm computed), gradients are JAX's, AdamW and clipping are optax's.
Written: the corpus (corpus.json, one shard), and step.json with the loss, the gradients' norm and the weights after two
steps for a drafter that reads tokens and one that reads features with a rollout of three.
"""
import hashlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from safetensors.numpy import load_file, save_file

jax.config.update("jax_enable_x64", True)
ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests/golden/models/llama"
OUT = ROOT / "tests/golden/distill"
CONFIG = json.loads((MODEL / "config.json").read_text())
HEADS, KV_HEADS = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"]
HIDDEN, EPS, THETA = CONFIG["hidden_size"], CONFIG["rms_norm_eps"], CONFIG["rope_theta"]
HEAD_DIM = HIDDEN // HEADS
WIDTH, SEQUENCES, BATCH = 48, 12, 4
# What the test passes to the program.
RATE, WARM_UP, STEPS = 2e-3, 4, 2
BETAS, EPSILON, DECAY, CLIP, HARD, HEAD = (0.9, 0.95), 1e-8, 0.05, 0.5, 0.3, 100


def norm(x, weight):
    return x / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True) + EPS) * weight


def rotate(x):
    """x: [b, heads, head_dim] at positions 0, 1, ...; the two halves of a head are a pair's coordinates."""
    half = HEAD_DIM // 2
    angles = jnp.arange(x.shape[0])[:, None, None] * THETA ** (-jnp.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * jnp.cos(angles) - b * jnp.sin(angles), b * jnp.cos(angles) + a * jnp.sin(angles)], -1)


def heads(w, layer, x):
    at = f"model.layers.{layer}"
    y = norm(x, w[f"{at}.input_layernorm.weight"])
    split = lambda part, n: (y @ w[f"{at}.self_attn.{part}_proj.weight"].T).reshape(len(x), n, HEAD_DIM)
    spread = lambda z: jnp.repeat(z, HEADS // KV_HEADS, 1)
    return rotate(split("q", HEADS)), spread(rotate(split("k", KV_HEADS))), spread(split("v", KV_HEADS))


def rest(w, layer, x, y):
    at = f"model.layers.{layer}"
    x = x + y.reshape(len(x), -1) @ w[f"{at}.self_attn.o_proj.weight"].T
    z = norm(x, w[f"{at}.post_attention_layernorm.weight"])
    gate = z @ w[f"{at}.mlp.gate_proj.weight"].T
    return x + (jax.nn.silu(gate) * (z @ w[f"{at}.mlp.up_proj.weight"].T)) @ w[f"{at}.mlp.down_proj.weight"].T


def attend(held):
    """Attention of pass n = len(held) - 1, from a table of which pass each key comes from: a draft at t is the n-th of a
    round whose committed text ends at t - n, so position p <= t - n is of pass 0 and position p beyond it of pass
    p - (t - n). Before position n there is no such round; those rows do not count, and see the first token."""
    last, width = len(held) - 1, len(held[0][0])
    position, time = np.meshgrid(np.arange(width), np.arange(width))
    source = np.clip(position - (time - last), 0, last)
    seen = (position <= time) & ((time >= last) | (position == 0))
    source[time < last] = 0
    of = lambda part: jnp.stack([heads[part] for heads in held])[source, position]  # [t, p, heads, head_dim]
    scores = jnp.einsum("qhd,qkhd->hqk", held[last][0], of(1)) / HEAD_DIM ** 0.5
    shares = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), -1)
    return jnp.einsum("hqk,qkhd->qhd", shares, of(2))


def causal(q, k, v):
    scores = jnp.einsum("qhd,khd->hqk", q, k) / HEAD_DIM ** 0.5
    scores = jnp.where(jnp.tril(jnp.ones(scores.shape[1:], bool)), scores, -jnp.inf)
    return jnp.einsum("hqk,khd->qhd", jax.nn.softmax(scores, -1), v)


def decoder(w, layers, x):
    for layer in range(layers):
        x = rest(w, layer, x, causal(*heads(w, layer, x)))
    return norm(x, w["model.norm.weight"])


def later(x):
    return jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])


def passes(w, layers, embedded, target, count):
    held, hidden = [[] for _ in range(layers)], []
    for n in range(count):
        before = later(hidden[-1] if hidden else target)
        x = jnp.concatenate([embedded, before], -1) @ w["fc.weight"].T
        for layer in range(layers):
            held[layer].append(heads(w, layer, x))
            x = rest(w, layer, x, causal(*held[layer][0]) if n == 0 else attend(held[layer]))
        hidden.append(norm(x, w["model.norm.weight"]))
    return hidden


def corpus(rng, vocab):
    """Random tokens, with a skew so that some ids are frequent."""
    tokens = np.minimum(rng.integers(0, vocab, (SEQUENCES, WIDTH)), rng.integers(0, vocab, (SEQUENCES, WIDTH)))
    lengths = rng.integers(WIDTH // 2, WIDTH + 1, SEQUENCES)
    loss_from = rng.integers(0, 12, SEQUENCES)
    for row, length in zip(tokens, lengths):
        row[length:] = 0
    return tokens.astype(np.uint32), lengths.astype(np.uint32), loss_from.astype(np.uint32)


def train(weights, batches, ids, count):
    """Two steps of a drafter that starts as the target's layers 1 and 0; `count` is the passes, 0 for one that reads tokens
    only."""
    embedding = weights["model.embed_tokens.weight"]
    layers = 2
    swap = lambda name: name.replace(".0.", ".x.").replace(".1.", ".0.").replace(".x.", ".1.")
    w = {swap(name): value for name, value in weights.items() if name != "model.embed_tokens.weight"}
    if count:
        w["fc.weight"] = jnp.eye(HIDDEN, 2 * HIDDEN)

    def loss(w, batch):
        sums, positions = np.zeros(max(count, 1)).tolist(), np.zeros(max(count, 1))
        for tokens, length, start in batch:
            embedded = embedding[tokens]
            target = decoder(weights, CONFIG["num_hidden_layers"], embedded)
            logits = target @ embedding.T
            soft = jax.nn.softmax(logits, -1)[:, ids]
            hard = (jnp.argmax(logits, -1)[:, None] == ids[None, :]).astype(float)
            t = (1 - HARD) * soft + HARD * hard
            hidden = passes(w, layers, embedded, target, count) if count else [decoder(w, layers, embedded)]
            for n, h in enumerate(hidden):
                q = jax.nn.log_softmax(h @ embedding[ids].T, -1)
                first = max(start, 1) - 1 + n  # the input position whose prediction counts first
                rows = slice(first, length - 1)
                sums[n] = sums[n] - jnp.sum(t[rows] * q[rows])
                positions[n] += length - max(start, 1)
        return sum(s / p for s, p in zip(sums, positions)) / len(sums)

    decayed = {name: value.ndim > 1 for name, value in w.items()}
    rate = lambda step: RATE * (step + 1) / WARM_UP
    optimiser = optax.chain(optax.clip_by_global_norm(CLIP),
                            optax.adamw(rate, *BETAS, EPSILON, weight_decay=DECAY, mask=decayed))
    state, record = optimiser.init(w), []
    for batch in batches:
        value, gradient = jax.value_and_grad(loss)(w, batch)
        record.append({"loss": float(value), "norm": float(optax.global_norm(gradient))})
        updates, state = optimiser.update(gradient, state, w)
        w = optax.apply_updates(w, updates)
    sample = lambda x: np.asarray(x).ravel()[:: max(1, x.size // 16)][:16].tolist()
    return {"steps": record, "weights": {name: {"sum": float(jnp.sum(x)), "square_sum": float(jnp.sum(x * x)),
                                                "sample": sample(x)} for name, x in sorted(w.items())}}


def main():
    weights = {name: jnp.asarray(value, jnp.float64) for name, value in load_file(MODEL / "model.safetensors").items()}
    golden = json.loads((MODEL / "logits.json").read_text())
    embedding = weights["model.embed_tokens.weight"]
    ours = decoder(weights, CONFIG["num_hidden_layers"], embedding[np.array(golden["tokens"])]) @ embedding.T
    assert np.abs(np.asarray(ours) - np.array(golden["prefill"])).max() < 1e-4

    rng = np.random.default_rng(20)
    tokens, lengths, loss_from = corpus(rng, CONFIG["vocab_size"])
    OUT.mkdir(parents=True, exist_ok=True)
    save_file({"tokens": tokens, "lengths": lengths, "loss_from": loss_from}, OUT / "shard-00000.safetensors")
    sha256 = hashlib.sha256((MODEL / "model.safetensors").read_bytes()).hexdigest()
    manifest = {"schema_version": 1, "target": "llama", "target_sha256": sha256, "vocab_size": CONFIG["vocab_size"],
                "sequence_tokens": WIDTH, "seed": 20, "temperatures": [], "sources": ["random"],
                "shards": [{"file": "shard-00000.safetensors", "sequences": SEQUENCES, "tokens": int(lengths.sum())}]}
    (OUT / "corpus.json").write_text(json.dumps(manifest, indent=2) + "\n")

    # The batches and the head that the test hands to the program's graph: no order of the program's own is involved.
    rows = [(tokens[i], int(lengths[i]), int(loss_from[i])) for i in range(SEQUENCES)]
    batches = [rows[:BATCH], rows[BATCH:2 * BATCH]]
    ids = np.sort(rng.permutation(CONFIG["vocab_size"])[:HEAD])
    result = {"batch": BATCH, "draft_ids": ids.tolist(), "learning_rate": RATE, "warm_up": WARM_UP,
              "beta1": BETAS[0], "beta2": BETAS[1], "epsilon": EPSILON, "weight_decay": DECAY, "clip": CLIP,
              "hard_weight": HARD, "tokens": train(weights, batches, ids, 0),
              "features": train(weights, batches, ids, 3)}
    (OUT / "step.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({kind: result[kind]["steps"] for kind in ("tokens", "features")}, indent=1))


if __name__ == "__main__":
    main()
