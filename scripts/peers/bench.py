#!/usr/bin/env python3
"""Side-by-side measurements against mlx-lm and, if asked, llama.cpp. Called by scripts/bench-peers.

A pair is one run of ridgepoint and one of the peer, each in a fresh process, one right after the other, on the same
prompt with the same token budget; which side goes first alternates from pair to pair, the prompt changes with every
pair, and the pairs of all tasks are interleaved. On Linux, where ridgepoint has float32 products of its own, tasks
that end in 'same BLAS' have it use the BLAS that mlx-lm uses. Both sides time the same span: from the last prompt token to the last
output token, all output tokens counted. Both sides read the same float32 checkpoint (llama.cpp: the same weights as a
float32 GGUF), decode greedily, and their tokens are compared. See ratios.py for the interval.

Writes runs/<machine>/peers.csv and beside it peers_raw.csv, one row a process in the order taken.
"""
import argparse
import csv
import ctypes
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import prepare
import ratios
import round_overhead

COLUMNS = ["peer", "task", "unit", "ours", "theirs", "ratio_median", "ratio_low", "ratio_high", "pairs"]
RAW = ["peer", "task", "side", "pair", "place", "prompt", "prompt_tokens", "tokens", "rounds", "drafted", "accepted",
       "seconds", "prefill_seconds", "load_seconds", "peak_memory_bytes", "peak_resident_bytes", "first_divergence"]
# What OpenBLAS calls the oldest processors with these instructions.
CORES = {"avx512f": "SkylakeX", "avx2": "Haswell"}
HERE = Path(__file__).resolve().parent


@dataclass
class Task:
    """One thing that both sides are timed at, and the runs so far, pair by pair."""
    peer: str
    name: str
    ours: list
    theirs: list
    max_tokens: int
    pairs: list = field(default_factory=list)


def main():
    args = arguments()
    # In a process of its own: what this one has held counts as the peak memory of every program that it starts.
    made = [sys.executable, str(HERE / "prepare.py"), args.gguf, str(args.pairs), *args.others]
    prompts = json.loads(subprocess.run(made, check=True, stdout=subprocess.PIPE, text=True).stdout)
    tasks = make_tasks(args)
    know_the_processor()
    folder = prepare.ROOT / "runs" / args.machine
    folder.mkdir(parents=True, exist_ok=True)
    if (busy := os.getloadavg()[0]) > 0.5:
        warn(f"other programs keep {busy:.1f} cores busy; end them for numbers that can be cited")
    with (folder / "peers_raw.csv").open("w", newline="") as raw:
        take_pairs(tasks, prompts, args, raw)
    rows = [row for task in tasks for row in summarise(task)]
    if "round-overhead" in args.tasks:
        rows += round_overhead.compare(args, prompts)
    write_summary(folder / "peers.csv", rows)
    show(rows, folder)


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench-peers", description="Compares ridgepoint with its peers.")
    parser.add_argument("--with", dest="others", action="append", default=[], choices=["llama.cpp"],
                        help="compare with this peer too")
    parser.add_argument("--pairs", type=int, default=6, help="pairs a task, at least 5; 6 give a 95 %% interval [6]")
    parser.add_argument("--tasks", default="plain,speculative,round-overhead", help="comma-separated [all three]")
    parser.add_argument("--max-tokens", type=int, default=128, help="token budget of plain decoding [128]")
    parser.add_argument("--draft-max-tokens", type=int, default=32, help="token budget of speculative decoding [32]")
    parser.add_argument("--draft-lengths", default="2", help="comma-separated draft lengths [2]")
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"], help="for both sides [cpu]")
    parser.add_argument("--machine", default=machine(), help=f"folder under runs/ [{machine()}]")
    parser.add_argument("--gguf", default=str(prepare.ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"),
                        help="the model, as scripts/fetch-model leaves it")
    parser.add_argument("--program", default=str(prepare.ROOT / "target/release/ridgepoint"), help="our side")
    args = parser.parse_args()
    args.tasks = args.tasks.split(",")
    args.draft_lengths = [int(length) for length in args.draft_lengths.split(",")]
    if args.pairs < 5:
        parser.error("--pairs must be at least 5")
    if unknown := set(args.tasks) - {"plain", "speculative", "round-overhead"}:
        parser.error(f"--tasks: there is no task {', '.join(sorted(unknown))}")
    if not Path(args.gguf).exists():
        parser.error(f"--gguf: {args.gguf} is missing; run scripts/fetch-model")
    return args


def know_the_processor():
    """Has OpenBLAS use kernels for this processor where it takes it for one without AVX: an old release does so with every new one."""
    if platform.system() != "Linux" or "OPENBLAS_CORETYPE" in os.environ:
        return
    openblas = ctypes.CDLL("libopenblas.so.0")
    openblas.openblas_get_corename.restype = ctypes.c_char_p
    taken_for = openblas.openblas_get_corename().decode()
    flags = Path("/proc/cpuinfo").read_text().split()
    fitting = next((core for flag, core in CORES.items() if flag in flags), None)
    if taken_for in ("Prescott", "Core2", "Generic") and fitting:
        warn(f"OpenBLAS takes this processor for a {taken_for}; OPENBLAS_CORETYPE={fitting} is set for both sides")
        os.environ["OPENBLAS_CORETYPE"] = fitting


def machine():
    if platform.system() == "Darwin":
        return "mac-" + platform.machine()
    return f"linux-cpu-{len(os.sched_getaffinity(0))}core"


def make_tasks(args):
    ours = [args.program, "generate", str(prepare.TARGET), "--dtype", "float32", "--ignore-eos", "--json"]
    # As many as the others generate first.
    ours += ["--device", args.device, "--warm-up", "8"]
    mlx_lm = [sys.executable, str(HERE / "mlx_lm_side.py"), str(prepare.TARGET), "--device", args.device]
    tasks = []

    def against_mlx_lm(name, ours, theirs, max_tokens):
        tasks.append(Task("mlx-lm", name, ours, theirs, max_tokens))
        if platform.system() == "Linux" and args.device == "cpu":
            tasks.append(Task("mlx-lm", f"{name}, same BLAS", [*ours, "--blas", "system"], theirs, max_tokens))

    if "plain" in args.tasks:
        against_mlx_lm("plain", ours, mlx_lm, args.max_tokens)
        if "llama.cpp" in args.others:
            llama_cpp = [sys.executable, str(HERE / "llama_cpp_side.py"), str(prepare.LLAMA_CPP)]
            tasks.append(Task("llama.cpp", "plain", ours, llama_cpp, args.max_tokens))
    if "speculative" in args.tasks:
        for drafter, checkpoint in prepare.DRAFTERS.items():
            for length in args.draft_lengths:
                against_mlx_lm(
                    f"speculative {drafter} {length}",
                    [*ours, "--draft", str(prepare.ROOT / f"drafts/{drafter}.toml"), "--draft-length", str(length)],
                    [*mlx_lm, "--draft-model", str(checkpoint), "--draft-length", str(length)],
                    args.draft_max_tokens)
    return tasks


def take_pairs(tasks, prompts, args, raw):
    """Runs every pair; each process is a row of `raw`, flushed as soon as its pair is complete."""
    writer = csv.DictWriter(raw, RAW, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for pair, prompt in enumerate(prompts):
        for task in tasks:
            progress(f"pair {pair + 1} of {args.pairs}: {task.peer}, {task.name}")
            sides = ["ours", "theirs"] if pair % 2 == 0 else ["theirs", "ours"]
            runs = {side: run(getattr(task, side), prompt, task.max_tokens) for side in sides}
            check(task, prompt, runs)
            task.pairs.append(runs)
            for place, side in enumerate(sides):
                writer.writerow({"peer": task.peer, "task": task.name, "side": side, "pair": pair, "place": place,
                                 "prompt": prompt["name"], **runs[side], "tokens": len(runs[side]["tokens"])})
            raw.flush()
    progress("")


def run(command, prompt, max_tokens):
    """Runs one process and adds its peak resident memory to the JSON that it prints."""
    command = [*command, "--prompt-file", prompt["file"], "--max-tokens", str(max_tokens)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, stdin=subprocess.DEVNULL, cwd=prepare.ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
            sys.exit(f"bench-peers: {' '.join(command)}\nended with {process.returncode}: {' '.join(last)}")
        result = json.loads(out.read())
    result["peak_resident_bytes"] = usage.ru_maxrss * (1 if platform.system() == "Darwin" else 1024)
    return result


def check(task, prompt, runs):
    """Both sides must have read the same prompt and committed as many tokens; other differences are reported."""
    ours, theirs = runs["ours"], runs["theirs"]
    where = f"{task.peer}, {task.name}, prompt {prompt['name']}"
    for side, result in runs.items():
        if result["prompt_tokens"] != prompt["tokens"]:
            sys.exit(f"bench-peers: {where}: {side} read {result['prompt_tokens']} prompt tokens, not {prompt['tokens']}")
        if len(result["tokens"]) != task.max_tokens:
            sys.exit(f"bench-peers: {where}: {side} made {len(result['tokens'])} tokens, not {task.max_tokens}")
    differ = [i for i, (a, b) in enumerate(zip(ours["tokens"], theirs["tokens"])) if a != b]
    ours["first_divergence"] = theirs["first_divergence"] = differ[0] if differ else ""
    if differ:
        warn(f"{where}: the texts differ from token {differ[0]} on")
    elif abs(ours["accepted"] - theirs["accepted"]) > 0.02 * theirs["drafted"] + 1:
        warn(f"{where}: {ours['accepted']} of {ours['drafted']} draft tokens accepted against {theirs['accepted']} of "
             f"{theirs['drafted']}; the drafters are not the same")


def summarise(task):
    def row(name, unit, measure, higher_is_better):
        sides = [[measure(pair[side]) for pair in task.pairs] for side in ("ours", "theirs")]
        return {"peer": task.peer, "task": name, "unit": unit} | ratios.compare(*sides, higher_is_better)

    yield row(task.name, "tok/s", lambda run: len(run["tokens"]) / run["seconds"], True)
    if task.name.startswith("plain"):
        of = task.name.removeprefix("plain")
        yield row(f"prefill{of}", "tok/s", lambda run: (run["prompt_tokens"] - 1) / run["prefill_seconds"], True)
        yield row(f"load{of}", "s", lambda run: run["load_seconds"], False)
        # Weights that are only read when first used would make loading look free.
        yield row(f"load and prefill{of}", "s", lambda run: run["load_seconds"] + run["prefill_seconds"], False)
        if all("peak_memory_bytes" in pair["theirs"] for pair in task.pairs):
            yield row(f"peak MLX memory{of}", "MB", lambda run: run["peak_memory_bytes"] / 1e6, False)
        yield row(f"peak resident memory{of}", "MB", lambda run: run["peak_resident_bytes"] / 1e6, False)


def write_summary(path, rows):
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.rename(path)


def show(rows, folder):
    for row in rows:
        print(f"{row['peer']:10} {row['task']:32} {row['ours']:9.4g} against {row['theirs']:9.4g} {row['unit']:6} "
              f"ratio {row['ratio_median']:.3f} ({row['ratio_low']:.3f} to {row['ratio_high']:.3f}, {row['pairs']} pairs)")
    if rows:
        _, _, confidence = ratios.order_interval([0.0] * min(row["pairs"] for row in rows))
        print(f"interval of the median ratio: order statistics, {confidence:.1%} confidence or more")
    print(f"written: {(folder / 'peers.csv').relative_to(prepare.ROOT)}")


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def warn(text):
    progress("")
    print(f"bench-peers: warning: {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
