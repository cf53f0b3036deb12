#!/usr/bin/env python3
"""One measurement of mlx-lm in a fresh process; prints what `ridgepoint generate --json` prints.

    mlx_lm_side.py MODEL --prompt-file FILE --max-tokens N [--dtype DTYPE] [--draft-model DIR --draft-length N [--round-cost]]

mlx-lm decodes by its own `stream_generate` (pipelined; its speculative loop if there is a draft model), after a short
run of the same kind has warmed everything up. Prefill takes all prompt tokens but the last, into the caches that
`stream_generate` is then given, so that its clock runs from the last prompt token to the last output token and counts
every output token, the first round's included: ridgepoint's `seconds` mean the same.
"""
import argparse
import json
import time
from pathlib import Path

import mlx.core as mx
import mlx_lm
from mlx_lm.generate import generation_stream
from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

PREFILL_STEP = 2048  # stream_generate's own
WARM_UP_TOKENS = 8
COST_PASSES = 15


def main():
    args = arguments()
    mx.set_default_device({"cpu": mx.cpu, "gpu": mx.gpu}[args.device])
    started = time.perf_counter()
    model, tokenizer = mlx_lm.load(args.model)
    load_seconds = time.perf_counter() - started
    draft = mlx_lm.load(args.draft_model)[0] if args.draft_model else None
    for loaded in (model, draft):
        if args.dtype and loaded:
            loaded.set_dtype(getattr(mx, args.dtype))
            mx.eval(loaded.parameters())
    tokenizer.eos_token_ids = set()  # the token budget alone ends a run
    prompt = tokenizer.encode(Path(args.prompt_file).read_text(), add_special_tokens=False)
    decode(model, tokenizer, prompt, WARM_UP_TOKENS, draft, args.draft_length)
    run = decode(model, tokenizer, prompt, args.max_tokens, draft, args.draft_length)
    run |= {"load_seconds": load_seconds, "prompt_tokens": len(prompt), "peak_memory_bytes": mx.get_peak_memory()}
    if args.round_cost:
        context = prompt + run["tokens"][: args.max_tokens // 2]
        run |= round_cost(model, draft, context, args.draft_length)
    print(json.dumps(run))


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--prompt-file", required=True)
    parser.add_argument("--max-tokens", type=int, required=True)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"])  # as it is stored, without
    parser.add_argument("--draft-model")
    parser.add_argument("--draft-length", type=int, default=0)
    parser.add_argument("--round-cost", action="store_true")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    return parser.parse_args()


def prefill(model, prompt):
    """A cache that holds all of `prompt` but its last token."""
    cache = make_prompt_cache(model)
    with mx.stream(generation_stream):
        for start in range(0, len(prompt) - 1, PREFILL_STEP):
            model(mx.array(prompt[start:min(start + PREFILL_STEP, len(prompt) - 1)])[None], cache=cache)
            mx.eval([layer.state for layer in cache])
            mx.clear_cache()
    return cache


def decode(model, tokenizer, prompt, max_tokens, draft, draft_length):
    started = time.perf_counter()
    cache = prefill(model, prompt)
    extra = {}
    if draft is not None:
        cache += prefill(draft, prompt)
        extra = {"draft_model": draft, "num_draft_tokens": draft_length}
    prefill_seconds = time.perf_counter() - started

    tokens, from_draft, text = [], [], ""
    started = time.perf_counter()
    for response in mlx_lm.stream_generate(
            model, tokenizer, prompt[-1:], max_tokens=max_tokens, prompt_cache=cache, **extra):
        tokens.append(response.token)
        from_draft.append(response.from_draft)
        text += response.text
        ended = time.perf_counter()
    assert len(tokens) == max_tokens
    rounds, drafted = count_rounds(from_draft, draft_length)
    return {"tokens": tokens, "text": text, "rounds": rounds, "drafted": drafted, "accepted": sum(from_draft),
            "seconds": ended - started, "prefill_seconds": prefill_seconds}


def count_rounds(from_draft, draft_length):
    """Rounds and drafted tokens: a round ends with a token of the target's own, or with the budget."""
    rounds = drafted = done = 0
    while done < len(from_draft):
        rounds += 1
        drafted += min(len(from_draft) - done, draft_length)
        accepted = 0
        while done + accepted < len(from_draft) and from_draft[done + accepted]:
            accepted += 1
        done += accepted + 1
    return rounds, drafted


def round_cost(model, draft, context, draft_length):
    """What a round must do at least, timed alone: the drafting chain and the verification, each one evaluation."""
    cache, draft_cache = prefill(model, context), prefill(draft, context)
    verify, chain = [], []
    for _ in range(COST_PASSES + 2):
        started = time.perf_counter()
        token, drafts = mx.array(context[-1:]), []
        for _ in range(draft_length):
            token = mx.argmax(draft(token[None], cache=draft_cache)[:, -1, :], axis=-1)
            drafts.append(token)
        mx.eval(drafts)
        chain.append(time.perf_counter() - started)
        trim_prompt_cache(draft_cache, draft_length)

        tokens = mx.concatenate([mx.array(context[-1:]), *drafts])
        mx.eval(tokens)
        started = time.perf_counter()
        mx.eval(mx.argmax(model(tokens[None], cache=cache), axis=-1))
        verify.append(time.perf_counter() - started)
        trim_prompt_cache(cache, draft_length + 1)
    return {"draft_seconds": sorted(chain[2:])[COST_PASSES // 2], "verify_seconds": sorted(verify[2:])[COST_PASSES // 2]}


if __name__ == "__main__":
    main()
