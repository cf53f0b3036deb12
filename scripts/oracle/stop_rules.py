#!/usr/bin/env python3
"""Stopping rules written down a second time, with nothing but the standard library.

Writes tests/golden/stop_rules.json: for random traces what a drafter does round by round under each rule; for random
confidences what isotonic regression over bins makes of them; and for the cost-aware rule the best decisions, found by
following every outcome of every token to come instead of by thresholds on a grid.

    python3 scripts/oracle/stop_rules.py > tests/golden/stop_rules.json
"""

import json
import math
import platform
import random
import sys
from fractions import Fraction


def rounds(trace, longest, rule):
    """[computed, drafted, accepted] of each round. A position is {lookup, tokens: [[confidence, entropy]], matched}."""
    found = []
    averages = {False: 0.5, True: 0.5}
    position = 0
    while position < len(trace):
        draft = trace[position]
        tokens = draft["tokens"][:longest]
        average = averages[draft["lookup"]]
        expected = longest if average == 1.0 else max(1, math.ceil(average / (1.0 - average)))
        computed = drafted = 0
        for confidence, entropy in tokens:
            if rule["kind"] == "average" and drafted == min(expected, longest):
                break
            computed += 1
            if rule["kind"] == "p-min" and confidence < rule["threshold"]:
                break
            if rule["kind"] == "entropy" and not draft["lookup"]:
                if 1.0 - math.sqrt(rule["weight"] * entropy) < rule["threshold"]:
                    break
            drafted += 1
        accepted = min(draft["matched"], drafted)
        for place in range(drafted):
            outcome = 1.0 if place < accepted else 0.0
            average += (outcome - average) / rule.get("memory", 1.0)
            if outcome == 0.0:
                break
        averages[draft["lookup"]] = average
        found.append([0 if draft["lookup"] else computed, drafted, accepted])
        position += accepted + 1
    return found


def trace_case(seed):
    rng = random.Random(seed)
    longest = rng.choice([1, 3, 8])
    trace = []
    for _ in range(rng.choice([1, 10, 60])):
        lookup = rng.random() < 0.3
        count = rng.randint(0, longest) if lookup else longest
        tokens, matched, going = [], 0, True
        for _ in range(count):
            confidence = rng.random() ** 0.5
            entropy = 0.0 if lookup else 4.0 * (1.0 - confidence) * rng.random()
            going = going and rng.random() < confidence
            matched += going
            tokens.append([confidence, entropy])
        trace.append({"lookup": lookup, "tokens": tokens, "matched": matched})
    rules = [{"kind": "none"}, {"kind": "p-min", "threshold": 0.6}, {"kind": "p-min", "threshold": 0.9}]
    rules += [{"kind": "entropy", "weight": 0.2, "threshold": 0.6}, {"kind": "average", "memory": 4.0}]
    runs = [{"rule": rule, "rounds": rounds(trace, longest, rule)} for rule in rules]
    return {"draft_length": longest, "trace": trace, "runs": runs}


def isotonic(bins):
    """The non-decreasing shares closest in weighted squares, by the max-min formula, as runs of bins: [from, n, k]."""
    share = lambda part: Fraction(sum(b[2] for b in part), sum(b[1] for b in part))
    fit = []
    for i in range(len(bins)):
        fit.append(max(min(share(bins[a : b + 1]) for b in range(i, len(bins))) for a in range(i + 1)))
    pooled = []
    for value, one in zip(fit, bins):
        if pooled and pooled[-1][0] == value and share([one]) != value:
            pooled[-1][1][1] += one[1]
            pooled[-1][1][2] += one[2]
        elif pooled and pooled[-1][0] == value and share([pooled[-1][1]]) != value:
            pooled[-1][1][1] += one[1]
            pooled[-1][1][2] += one[2]
        else:
            pooled.append([value, list(one)])
    return [one for _, one in pooled]


def calibration_case(seed):
    rng = random.Random(seed)
    count = rng.choice([5, 40, 300, 1000])
    steps = rng.choice([7, 10**6])
    tokens = []
    for _ in range(count):
        confidence = rng.randint(0, steps) / steps
        tokens.append([confidence, rng.random() < 0.1 + 0.8 * confidence**2])
    ordered = sorted(tokens, key=lambda token: token[0])
    size = max(math.ceil(count / 12), 20)
    bins, start = [], 0
    while start < count:
        end = min(start + size, count)
        while end < count and (ordered[end][0] == ordered[end - 1][0] or count - end < 20):
            end += 1
        part = ordered[start:end]
        bins.append([part[0][0], len(part), sum(accepted for _, accepted in part)])
        start = end
    return {"tokens": tokens, "steps": isotonic(bins)}


def value(kept, chance, case):
    """The most tokens to come less the price of time to come, with `kept` tokens that are all accepted with `chance`."""
    stop = -case["rate"] * case["target_s"][kept]
    return max(stop, compute(kept, chance, case)) if kept < len(case["draft_s"]) else stop


def compute(kept, chance, case):
    before = case["draft_s"][kept - 1] if kept else 0.0
    expected = 0.0
    for share, accepted in case["bins"]:
        expected += share * max(-case["rate"] * case["target_s"][kept], keep(kept, chance * accepted, case))
    return expected - case["rate"] * (case["draft_s"][kept] - before)


def keep(kept, chance, case):
    return chance + value(kept + 1, chance, case)


def cost_case(seed):
    rng = random.Random(seed)
    longest = rng.choice([1, 2, 4, 5])
    # Counts of 20 tokens or more a bin, with rising shares.
    reached = [rng.randint(20, 60) for _ in range(rng.choice([1, 2, 3]))]
    shares = sorted(rng.random() for _ in reached)
    counts = [[n, round(n * share)] for n, share in zip(reached, shares)]
    if any(a[1] * b[0] >= b[1] * a[0] for a, b in zip(counts, counts[1:])):
        return cost_case(seed + 1000)
    token_s = rng.choice([0.02, 0.1, 0.3])
    # A width that is cheaper than those before it, now and then.
    target_s = [1.0 + rng.choice([0.02, 0.2, 0.5]) * width for width in range(longest + 1)]
    if rng.random() < 0.4:
        target_s[-1] = target_s[0] * (0.9 + 0.2 * rng.random())
    total = sum(n for n, _ in counts)
    case = {
        "counts": counts,
        "bins": [[n / total, (k + 0.5) / (n + 1)] for n, k in counts],
        "rate": 0.5 + rng.random(),
        "draft_s": [token_s * length for length in range(1, longest + 1)],
        "target_s": target_s,
    }
    decisions = []
    for kept in range(longest):
        for _ in range(12):
            chance = rng.random()
            stop = -case["rate"] * target_s[kept]
            gains = [compute(kept, chance, case) - stop, keep(kept, chance, case) - stop]
            decisions.append({"kept": kept, "chance": chance, "gains": gains})
    return {**case, "decisions": decisions}


def main():
    document = {"made_by": f"scripts/oracle/stop_rules.py, Python {platform.python_version()}"}
    document["traces"] = [trace_case(seed) for seed in range(24)]
    document["calibrations"] = [calibration_case(seed) for seed in range(12)]
    document["costs"] = [cost_case(seed) for seed in range(40)]
    json.dump(document, sys.stdout, indent=None, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
