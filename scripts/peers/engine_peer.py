#!/usr/bin/env python3
"""mlx-lm's side of examples/engine_bench.rs: the same quantities, context and shapes, one CSV line a sample.

    engine_peer.py MODEL.toml [BITS [REPEATS]]

MODEL.toml is a file of scenarios/models/ with a [config]; mlx-lm gets random weights in those shapes. `plain` is
`stream_generate`'s own pipelined loop (generate_step) and `round` its speculative one (speculative_generate_step) with
the target's first two layers as drafter, 4 tokens a round. `plain-whole` and `round-whole` count from the last prompt
token on, as ridgepoint's `plain` and `round` do. `plain` and `round` leave out the first 16 tokens or rounds: in them
mlx-lm grows its cache, and gives its free memory back after the first token, which would be held against it here.
"""
import sys
import time
import tomllib

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.generate import generate_step, speculative_generate_step
from mlx_lm.models import llama
from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

CONTEXT, STEPS, SKIPPED, TOKENS, DRAFT_LENGTH, DRAFT_LAYERS = 256, 15, 16, 96, 4, 2
WIDTHS = [1, 2, 5, 8]


def main():
    if len(sys.argv) < 2:
        sys.exit("engine_peer: usage: engine_peer.py MODEL.toml [BITS [REPEATS]]")
    bits, repeats = [int(value) for value in (sys.argv[2:] + ["0", "5"][len(sys.argv) - 2:])[:2]]
    with open(sys.argv[1], "rb") as file:
        config = tomllib.load(file)["config"]
    model = build(config, bits)
    draft = llama.Model(arguments(config | {"num_hidden_layers": DRAFT_LAYERS}))
    draft.model.embed_tokens, draft.model.norm = model.model.embed_tokens, model.model.norm
    draft.model.layers, draft.lm_head = model.model.layers[:DRAFT_LAYERS], model.lm_head
    text = [place * 2654435761 % config["vocab_size"] for place in range(CONTEXT)]
    print("side,bits,quantity,repeat,time_ms")
    for repeat in range(repeats + 1):  # the first compiles kernels and is not printed
        for quantity, seconds in [*steps(model, text), *decoding(model, draft, text)]:
            if repeat:
                print(f"mlx-lm,{bits},{quantity},{repeat},{1e3 * seconds}", flush=True)


def arguments(config):
    return llama.ModelArgs.from_dict(config | {"model_type": "llama"})


def build(config, bits):
    model = llama.Model(arguments(config))
    model.set_dtype(mx.bfloat16)
    if bits:
        nn.quantize(model, group_size=64, bits=bits)
    mx.eval(model.parameters())
    return model


def prefilled(model, text):
    cache = make_prompt_cache(model)
    model(mx.array(text[:-1])[None], cache=cache)
    mx.eval([layer.state for layer in cache])
    return cache


def steps(model, text):
    cache = prefilled(model, text)
    for width in WIDTHS:
        tokens = mx.array(text[:width])[None]
        for step in range(STEPS + 1):
            started = time.perf_counter()
            following = mx.argmax(model(tokens, cache=cache), axis=-1)
            built = time.perf_counter()
            mx.eval(following)
            done = time.perf_counter()
            trim_prompt_cache(cache, width)
            if step:
                yield f"build({width})", built - started
                yield f"t({width})", done - started


def decoding(model, draft, text):
    last = mx.array(text[-1:])
    tokens = SKIPPED + TOKENS
    cache = prefilled(model, text)
    yield from timed("plain", ((token, False) for token, _ in generate_step(
        last, model, max_tokens=tokens, prompt_cache=cache)))
    cache = prefilled(model, text) + prefilled(draft, text)
    yield from timed("round", ((token, from_draft) for token, _, from_draft in speculative_generate_step(
        last, model, draft, num_draft_tokens=DRAFT_LENGTH, max_tokens=tokens, prompt_cache=cache)))


def timed(quantity, tokens):
    """Seconds a step. Each step ends with a token of the target's own."""
    started, steps, drafted = time.perf_counter(), 0, 0
    for _, from_draft in tokens:
        drafted += from_draft
        steps += not from_draft
        if steps == SKIPPED and not from_draft:
            settled = time.perf_counter()
    done = time.perf_counter()
    yield quantity, (done - settled) / (steps - SKIPPED)
    yield f"{quantity}-whole", (done - started) / steps
    if drafted:
        print(f"engine_peer: {drafted} drafted tokens accepted in {steps} rounds", file=sys.stderr)


if __name__ == "__main__":
    main()
