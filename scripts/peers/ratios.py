"""Ratios of paired measurements and an interval for their median.

The interval is the order-statistics interval of the median (Hahn and Meeker, Statistical Intervals, 1991, chapter 5):
it runs from the k-th smallest to the k-th largest pair ratio, with the largest k whose confidence, from the binomial
distribution with chance one half, is at least 95 %. It assumes nothing about the ratios' distribution but that pairs
are independent. Fewer than six pairs cannot reach 95 %: then it is their range, and its confidence is lower.
"""
import math
import statistics

CONFIDENCE = 0.95


def order_interval(values):
    """(low, high, confidence reached)"""
    ordered, n = sorted(values), len(values)
    best = 1
    while best < n // 2 and order_confidence(n, best + 1) >= CONFIDENCE:
        best += 1
    return ordered[best - 1], ordered[n - best], order_confidence(n, best)


def order_confidence(n, k):
    """The chance that the median lies between the k-th smallest and the k-th largest of n."""
    return 1 - 2 * sum(math.comb(n, i) for i in range(k)) / 2**n


def compare(ours, theirs, higher_is_better):
    """Medians of both sides, and the median of the pair ratios with its interval; above 1 means ours is better."""
    ratios = [a / b if higher_is_better else b / a for a, b in zip(ours, theirs, strict=True)]
    low, high, _ = order_interval(ratios)
    return {"ours": statistics.median(ours), "theirs": statistics.median(theirs),
            "ratio_median": statistics.median(ratios), "ratio_low": low, "ratio_high": high, "pairs": len(ratios)}
