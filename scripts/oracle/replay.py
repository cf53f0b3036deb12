#!/usr/bin/env python3
"""Speculative decoding simulated token by token, with nothing but the standard library.

Writes tests/golden/replay.json: for random committed texts and random drafts, what a decoder that really compares
tokens does at every draft length, what it takes in a made-up cost table, and the cheapest way that a decoder with
foresight could take, found by trying all of them. The Rust code gets only match lengths and must agree.

    python3 scripts/oracle/replay.py > tests/golden/replay.json
"""

import functools
import json
import platform
import random
import sys


def propose(rng, text, position, longest, quality, lookup):
    """A draft for the text from `position` on: each token right with chance `quality`; a lookup may be short."""
    length = rng.choice([0, 0, longest, rng.randint(0, longest)]) if lookup else longest
    draft = []
    for place in range(length):
        right = text[position + place]
        draft.append(right if rng.random() < quality else (right + rng.randint(1, 6)) % 7)
    return draft


def decode(text, drafts, budget, draft_length):
    """Runs the rounds: verify the draft token by token, commit the prefix that is right and the target's own token."""
    committed = []
    counts = {"rounds": 0, "drafted": 0, "accepted": 0, "cut_off": 0}
    widths = []
    places = [0] * draft_length
    while len(committed) < budget:
        draft = drafts[len(committed)][:draft_length]
        start = len(committed)
        new = []
        for token in draft:
            if token != text[start + len(new)]:
                break
            new.append((token, True))
        new.append((text[start + len(new)], False))
        for place, (token, drafted) in enumerate(new):
            if len(committed) < budget:
                committed.append(token)
            else:
                counts["cut_off"] += 1
            if drafted:
                counts["accepted"] += 1
                places[place] += 1
        counts["rounds"] += 1
        counts["drafted"] += len(draft)
        widths.append(len(draft) + 1)
    assert committed == text[:budget]
    return counts, widths, places


def acceptance(text, drafts, budget, longest):
    """Reached and accepted by place, over every position within the budget."""
    reached = [0] * longest
    accepted = [0] * longest
    for position in range(budget):
        for place in range(longest):
            reached[place] += 1
            draft = drafts[position]
            if place >= len(draft) or draft[place] != text[position + place]:
                break
            accepted[place] += 1
    return reached, accepted


def foresight(text, drafts, budget, longest, costs):
    """The least time over all sequences of draft lengths."""

    @functools.cache
    def best(position):
        if position >= budget:
            return 0.0
        options = [min(costs["plain_s"], costs["target_s"][0]) + best(position + 1)]
        for length in range(1, longest + 1):
            draft = drafts[position][:length]
            right = 0
            while right < len(draft) and draft[right] == text[position + right]:
                right += 1
            time = costs["draft_s"][length - 1] + costs["target_s"][len(draft)]
            options.append(time + best(position + right + 1))
        return min(options)

    return best(0)


def case(seed):
    rng = random.Random(seed)
    budget = rng.choice([1, 2, 5, 16, 40, 64])
    longest = rng.choice([1, 2, 5, 8, 16])
    quality = rng.choice([0.0, 0.3, 0.7, 0.9, 1.0])
    lookup = rng.random() < 0.5
    costs = {
        "plain_s": 0.9 + rng.random() / 5,
        "draft_s": [rng.choice([0.001, 0.05, 0.3]) * (0.2 + length) for length in range(1, longest + 1)],
        "target_s": [1.0 + 0.05 * width + (0.4 if width >= 8 else 0.0) for width in range(longest + 1)],
    }
    # The text goes on beyond the budget, as a draft near the end does.
    text = [rng.randrange(7) for _ in range(budget + longest + 1)]
    drafts = [propose(rng, text, position, longest, quality, lookup) for position in range(budget)]
    matched = []
    for position, draft in enumerate(drafts):
        right = 0
        while right < len(draft) and draft[right] == text[position + right]:
            right += 1
        matched.append(right)
    reached, accepted = acceptance(text, drafts, budget, longest)
    runs = []
    for draft_length in range(longest + 1):
        counts, widths, places = decode(text, drafts, budget, draft_length)
        proposal = costs["draft_s"][draft_length - 1] if draft_length else 0.0
        seconds = sum(proposal + costs["target_s"][width - 1] for width in widths)
        runs.append(
            {"draft_length": draft_length, **counts, "accepted_by_place": places, "seconds_per_token": seconds / budget}
        )
    return {
        "draft_length_max": longest,
        "drafted": [len(draft) for draft in drafts],
        "matched": matched,
        "costs": costs,
        "reached": reached,
        "accepted": accepted,
        "runs": runs,
        "oracle_seconds_per_token": foresight(text, drafts, budget, longest, costs) / budget,
    }


def main():
    document = {"made_by": f"scripts/oracle/replay.py, Python {platform.python_version()}"}
    document["cases"] = [case(seed) for seed in range(40)]
    json.dump(document, sys.stdout, indent=None, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
