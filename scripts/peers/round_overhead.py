"""How much of a speculative round is not the models' forwards.

Measured inside one process on each side, as (γ draft steps + t(γ+1)) / round: the share of the round that its forwards
would take alone, 1 at best. So it needs no interleaving, as a drift of the machine cancels; a pair is a prompt.
Ours comes from the raw tables of `ridgepoint tune` (cost.csv and runs.csv); theirs from mlx_lm_side.py --round-cost.
"""
import csv
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import prepare
import ratios

DRAFTER = "layer-skip-2"
MAX_TOKENS = 48
SCENARIO = """\
name = "round-overhead"
drafts = ["drafts/{drafter}.toml"]
draft_lengths = "{length}"
prompts = "round-overhead.jsonl"
tune_prompts = {prompts}
max_tokens = {max_tokens}
arms = 1
time_budget = "10m"

[target]
model = {model}
dtype = "float32"
"""


def compare(args, prompts):
    """One row for the middle of the draft lengths asked for."""
    length = sorted(args.draft_lengths)[len(args.draft_lengths) // 2]
    ours = our_shares(args, prompts, length)
    theirs = [their_share(args, prompt, length) for prompt in prompts]
    row = {"peer": "mlx-lm", "task": f"forwards in a round {DRAFTER} {length}", "unit": "share"}
    return [row | ratios.compare(ours, theirs, higher_is_better=True)]


def our_shares(args, prompts, length):
    results = prepare.CACHE / "results"
    shutil.rmtree(results, ignore_errors=True)
    lines = [json.dumps(prompt["line"], ensure_ascii=False) for prompt in prompts]
    (prepare.CACHE / "round-overhead.jsonl").write_text("\n".join(lines) + "\n")
    scenario = prepare.CACHE / "round-overhead.toml"
    scenario.write_text(SCENARIO.format(drafter=DRAFTER, length=length, prompts=len(prompts), max_tokens=MAX_TOKENS,
                                        model=json.dumps(str(prepare.TARGET))))
    command = [args.program, "tune", str(scenario), "--results", str(results), "--machine", "peers", "--device",
               args.device, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=prepare.ROOT)
    if done.returncode != 0:
        sys.exit(f"bench-peers: {' '.join(command)}\nended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return shares(results / "peers/round-overhead", [prompt["name"] for prompt in prompts], length)


def shares(folder, names, length):
    cost, runs = table(folder / "cost.csv"), table(folder / "runs.csv")
    verify = statistics.median(float(row["time_ms"]) for row in cost
                               if row["role"] == "target" and row["mode"] == "sync" and int(row["width"]) == length + 1)
    draft = statistics.median(float(row["time_ms"]) for row in cost
                              if row["role"] == "drafter" and row["mode"] == "sync" and row["drafter"] == DRAFTER
                              and int(row["width"]) == length)
    out = []
    for name in names:
        mine = [row for row in runs if row["prompt"] == name and int(row["draft_length"]) == length and not row["error"]]
        round_ms = 1e3 * sum(float(row["seconds"]) for row in mine) / sum(int(row["rounds"]) for row in mine)
        out.append((draft + verify) / round_ms)
    return out


def table(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def their_share(args, prompt, length):
    command = [sys.executable, str(Path(__file__).with_name("mlx_lm_side.py")), str(prepare.TARGET), "--device",
               args.device, "--draft-model", str(prepare.DRAFTERS[DRAFTER]), "--draft-length", str(length),
               "--prompt-file", prompt["file"], "--max-tokens", str(MAX_TOKENS), "--round-cost"]
    run = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return (run["draft_seconds"] + run["verify_seconds"]) / (run["seconds"] / run["rounds"])
