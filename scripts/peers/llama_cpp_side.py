#!/usr/bin/env python3
"""One measurement of llama.cpp (through llama-cpp-python) in a fresh process, plain decoding only.

    llama_cpp_side.py GGUF --prompt-file FILE --max-tokens N

Prints what `ridgepoint generate --json` prints; `seconds` run from the last prompt token to the last output token.
"""
import argparse
import json
import os
import time
from pathlib import Path

import llama_cpp

WARM_UP_TOKENS = 8


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--prompt-file", required=True)
    parser.add_argument("--max-tokens", type=int, required=True)
    parser.add_argument("--device", choices=["cpu"], default="cpu")
    args = parser.parse_args()
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    started = time.perf_counter()
    model = llama_cpp.Llama(args.model, n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False)
    load_seconds = time.perf_counter() - started
    prompt = model.tokenize(Path(args.prompt_file).read_bytes(), add_bos=False, special=True)
    decode(model, prompt, WARM_UP_TOKENS)
    run = decode(model, prompt, args.max_tokens)
    text = model.detokenize(run["tokens"], special=True).decode(errors="replace")
    print(json.dumps(run | {"text": text, "load_seconds": load_seconds, "prompt_tokens": len(prompt)}))


def decode(model, prompt, max_tokens):
    """Greedy decoding with llama.cpp's own sampler, straight on its C interface."""
    sampler = llama_cpp.llama_sampler_init_greedy()
    model.reset()  # the next `eval` drops what the cache holds
    started = time.perf_counter()
    model.eval(prompt[:-1])
    prefill_seconds = time.perf_counter() - started
    context, token, tokens = model.ctx, prompt[-1], []
    started = time.perf_counter()
    for _ in range(max_tokens):
        one = (llama_cpp.llama_token * 1)(token)
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(one, 1)) != 0:
            raise RuntimeError("llama_decode failed")
        token = llama_cpp.llama_sampler_sample(sampler, context, -1)
        tokens.append(token)
    seconds = time.perf_counter() - started
    llama_cpp.llama_sampler_free(sampler)
    return {"tokens": tokens, "rounds": max_tokens, "drafted": 0, "accepted": 0, "seconds": seconds,
            "prefill_seconds": prefill_seconds}


if __name__ == "__main__":
    main()
