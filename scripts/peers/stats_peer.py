#!/usr/bin/env python3
"""The whole decision through scipy and arch, timed beside ours on the same problem.

    python3 -m venv .venv-stats && .venv-stats/bin/pip install -r scripts/oracle/requirements-stats.txt
    cargo build --release --no-default-features --example decision_bench
    .venv-stats/bin/python scripts/peers/stats_peer.py

17 arms on 100 prompts: 100,000 draws of the max-t statistics of multiple comparisons with the best (scipy's multivariate
normal and chi-squared, vectorised with numpy), paired t tests with Holm, and BCa intervals of 16 speed-ups from 10,000
resamples, once by arch (IIDBootstrap, all speed-ups from the same resamples as ours) and once by scipy (stats.bootstrap,
paired and vectorised); then the second opinions (Wilcoxon, Friedman, arch's MCS with 10,000
resamples). Prints the seconds of each and the ratios to examples/decision_bench.
"""
import subprocess
import time

import numpy as np
from arch.bootstrap import MCS, IIDBootstrap
from scipy import stats

ARMS, PROMPTS, DRAWS, RESAMPLES, CONFIDENCE = 17, 100, 100_000, 10_000, 0.95


def problem():
    rng = np.random.default_rng(1)
    arm = np.arange(ARMS)
    cost = 1 - 0.25 * (1 - np.exp(-arm / 3)) + 0.004 * arm
    return cost * (1 + 0.03 * rng.uniform(-1, 1, (PROMPTS, ARMS)))


def max_t(seconds):
    """Critical value and p-value of each arm as the control; draws in parts that fit the cache."""
    rng = np.random.default_rng(2)
    residuals = seconds / seconds.mean(axis=0) - 1
    covariance = np.cov(residuals, rowvar=False)
    variance = np.diag(covariance)[:, None] + np.diag(covariance)[None, :] - 2 * covariance
    weight = np.divide(1, np.sqrt(variance), where=variance > 1e-24, out=np.zeros_like(variance))
    normal = stats.multivariate_normal(np.zeros(ARMS), covariance, allow_singular=True)
    draws = normal.rvs(DRAWS, random_state=rng)
    scale = np.sqrt((PROMPTS - 1) / stats.chi2(PROMPTS - 1).rvs(DRAWS, random_state=rng))
    differences = seconds.mean(axis=0)
    relative = np.log(differences)
    observed = ((relative[:, None] - relative[None, :]) * weight * np.sqrt(PROMPTS)).max(axis=1)
    critical, p = np.empty(ARMS), np.empty(ARMS)
    for arm in range(ARMS):
        largest = ((draws[:, [arm]] - draws) * weight[arm]).max(axis=1).clip(0) * scale
        critical[arm] = np.quantile(largest, CONFIDENCE)
        p[arm] = (1 + (largest >= observed[arm]).sum()) / (DRAWS + 1)
    return critical, p


def t_tests(seconds):
    p = [stats.ttest_rel(seconds[:, 0], seconds[:, arm]).pvalue for arm in range(1, ARMS)]
    order = np.argsort(p)
    holm = np.maximum.accumulate(np.asarray(p)[order] * np.arange(ARMS - 1, 0, -1)).clip(max=1)
    return holm


def bca_by_scipy(seconds):
    ratio = lambda plain, arm, axis=-1: plain.sum(axis=axis) / arm.sum(axis=axis)
    return [
        stats.bootstrap((seconds[:, 0], seconds[:, arm]), ratio, paired=True, vectorized=True, method="BCa",
                        n_resamples=RESAMPLES, confidence_level=CONFIDENCE, rng=np.random.default_rng(arm))
        for arm in range(1, ARMS)
    ]


def bca_by_arch(seconds):
    speedups = lambda rows: rows[:, 0].sum() / rows[:, 1:].sum(axis=0)
    return IIDBootstrap(seconds, seed=4).conf_int(speedups, reps=RESAMPLES, method="bca", size=CONFIDENCE)


def second_opinions(seconds):
    wilcoxon = [stats.wilcoxon(seconds[:, 0], seconds[:, arm]).pvalue for arm in range(1, ARMS)]
    friedman = stats.friedmanchisquare(*seconds.T)
    mcs = MCS(seconds, size=1 - CONFIDENCE, reps=RESAMPLES, block_size=5, method="R", seed=3)
    mcs.compute()
    return wilcoxon, friedman, mcs.pvalues


def timed(work, *arguments, repeats=3):
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work(*arguments)
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def ours():
    """Seconds by the first words of each line of the benchmark."""
    text = subprocess.run(["target/release/examples/decision_bench", "9"], capture_output=True, text=True, check=True).stdout
    rows = [line.rsplit(maxsplit=1) for line in text.splitlines()[1:]]
    return {name.strip(): float(seconds) for name, seconds in rows}


def main():
    seconds = problem()
    shared = {"max-t": timed(max_t, seconds), "t tests, Holm": timed(t_tests, seconds)}
    bca = {"BCa by arch": timed(bca_by_arch, seconds), "BCa by scipy": timed(bca_by_scipy, seconds)}
    opinions = timed(second_opinions, seconds)
    for name, value in {**shared, **bca, "second opinions": opinions}.items():
        print(f"{name:16} {value:9.3f} s")
    own = ours()
    mine = own[f"decision, {ARMS} arms x {PROMPTS} prompts"]
    block = own[f"sensitivity block, {ARMS} x {PROMPTS}"]
    for name, theirs, mine in [
        ("decision, intervals by arch", sum(shared.values()) + bca["BCa by arch"], mine),
        ("decision, intervals by scipy", sum(shared.values()) + bca["BCa by scipy"], mine),
        ("second opinions", opinions, block),
    ]:
        print(f"{name:30} {theirs:8.3f} s   ridgepoint {mine:8.4f} s   {theirs / mine:6.1f} times")


if __name__ == "__main__":
    main()
