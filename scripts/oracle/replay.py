#!/usr/bin/env python3
"""Speculative decoding simulated token by token, with nothing but the standard library.

Writes tests/golden/replay.json: for random committed texts and random drafts, what a decoder that really compares
tokens does at every draft length, what it takes in a made-up cost table, and the cheapest way that a decoder with
foresight could take, found by trying all of them. The Rust code gets only match lengths and must agree.

For sampled texts (`sampled`) every draft, every coin and every correction of speculative sampling over a tiny vocabulary
is gone through with exact fractions, each text's share of them is kept, and so what runs that commit a given text do on
average. The Rust code gets p and q of the text's own tokens and must agree.

    python3 scripts/oracle/replay.py > tests/golden/replay.json
"""

import functools
import itertools
import json
import math
import platform
import random
import sys
from fractions import Fraction

VOCABULARY = 3


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


def distribution(rng, certain):
    """Random chances of the tokens of a tiny vocabulary, some of them 0; all on one token if `certain`."""
    if certain:
        weights = [0] * VOCABULARY
        weights[rng.randrange(VOCABULARY)] = 1
    else:
        weights = [rng.choice([0, 1, 2, 5]) for _ in range(VOCABULARY)]
        weights[rng.randrange(VOCABULARY)] += 1
    return [Fraction(weight, sum(weights)) for weight in weights]


def one_round(target, drafter, text, draft_length):
    """Every way a round behind `text` can go: (chance, committed tokens, how many of them are accepted drafts)."""
    for draft in itertools.product(range(VOCABULARY), repeat=draft_length):
        chance, committed = Fraction(1), ()
        for token in draft:
            chance *= drafter(text + draft[: len(committed)])[token]
            committed += (token,)
        if chance == 0:
            continue
        for accepted in range(draft_length + 1):
            prefix = text + draft[:accepted]
            p = target(prefix)
            if accepted == draft_length:
                rest = p
                refused = Fraction(1)
            else:
                q = drafter(prefix)
                token = draft[accepted]
                refused = 1 - min(Fraction(1), p[token] / q[token])
                residual = [max(Fraction(0), a - b) for a, b in zip(p, q)]
                rest = [mass / sum(residual) for mass in residual] if refused else []
            for token, share in enumerate(rest):
                if chance * refused * share:
                    yield chance * refused * share, draft[:accepted] + (token,), accepted
            if accepted < draft_length:
                chance *= 1 - refused


def sampled_runs(target, drafter, budget, draft_length, tokens):
    """For every text of `tokens` tokens: its chance, and the rounds and accepted drafts of the runs that commit it, on
    average. Rounds that start at or beyond the budget are not counted."""
    open_texts = {(): (Fraction(1), Fraction(0), Fraction(0))}
    whole = {}
    while open_texts:
        text = min(open_texts, key=len)
        mass, rounds, accepted = open_texts.pop(text)
        counts = len(text) < budget
        for chance, new, kept in one_round(target, drafter, text, draft_length):
            longer = (text + new)[:tokens]
            place = whole if len(longer) == tokens else open_texts
            old = place.get(longer, (Fraction(0), Fraction(0), Fraction(0)))
            added = (chance * mass, chance * (rounds + counts * mass), chance * (accepted + counts * kept * mass))
            place[longer] = tuple(a + b for a, b in zip(old, added))
    assert sum(mass for mass, _, _ in whole.values()) == 1
    return {text: (mass, rounds / mass, accepted / mass) for text, (mass, rounds, accepted) in whole.items()}


def sampled_case(seed):
    """Chances depend on the last two tokens. A case is about one text, drawn from the target."""
    rng = random.Random(f"sampled {seed}")
    longest = rng.choice([1, 2, 3])
    budget = rng.choice([1, 2, 3])
    certain = rng.random() < 0.3
    tables = [
        {key: distribution(rng, sure) for key in itertools.product(range(-1, VOCABULARY), repeat=2)}
        for sure in (False, certain)
    ]
    target, drafter = (lambda text, table=table: table[((-1, -1) + text)[-2:]] for table in tables)
    runs, text = [], None
    for draft_length in range(1, longest + 1):
        texts = sampled_runs(target, drafter, budget, draft_length, budget + longest)
        if text is None:
            text = rng.choices(list(texts), [float(mass) for mass, _, _ in texts.values()])[0]
            own = math.prod(target(text[:place])[token] for place, token in enumerate(text))
        mass, rounds, accepted = texts[text]
        assert mass == own, "speculation must not change the text's chance"
        runs.append({"draft_length": draft_length, "rounds": float(rounds), "accepted": float(accepted)})
    chances = [(target(text[:place])[token], drafter(text[:place])[token]) for place, token in enumerate(text)]
    return {
        "draft_length_max": longest,
        "budget": budget,
        "p": [float(p) for p, _ in chances],
        "q": [float(q) for _, q in chances],
        "runs": runs,
    }


def main():
    document = {"made_by": f"scripts/oracle/replay.py, Python {platform.python_version()}"}
    document["cases"] = [case(seed) for seed in range(40)]
    document["sampled"] = [sampled_case(seed) for seed in range(40)]
    json.dump(document, sys.stdout, indent=None, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
