"""Expected values for tests/stats_golden.rs, from scipy, statsmodels, arch and scikit-posthocs.

Needs the packages pinned in scripts/oracle/requirements-stats.txt. Run from the repository root:
    python scripts/oracle/stats.py
It rewrites tests/golden/stats/*.json; each file names the versions that made it. Names of goldens as arguments make only those.
"""

import itertools
import json
import pathlib
import sys
from importlib.metadata import version

import numpy as np
import pandas as pd
import scikit_posthocs
from arch.bootstrap import MCS
from scipy import optimize, stats
from statsmodels.formula.api import ols
from statsmodels.regression.linear_model import OLS, WLS
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.diagnostic import acorr_ljungbox
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired
from statsmodels.tsa.stattools import acf

OUT = pathlib.Path("tests/golden/stats")
MADE_WITH = {name: version(name) for name in ["numpy", "scipy", "statsmodels", "arch", "scikit-posthocs"]}


def write(name, cases):
    text = json.dumps({"made_with": MADE_WITH, "cases": cases}, allow_nan=False)
    (OUT / f"{name}.json").write_text(text.replace('{"name"', '\n{"name"') + "\n")


def floats(values):
    return [float(v) for v in np.ravel(values)]


def pairs():
    """Paired samples: sizes 3 to 500, ties, zeros, heavy tails, strong skew."""
    rng = np.random.default_rng(11)
    for n in [3, 4, 5, 8, 12, 20, 50, 100, 101, 500]:
        base = rng.gamma(4, 0.5, n)
        yield f"plain {n}", base, base * 1.02 + rng.normal(0, 0.05, n)
    for n in [5, 9, 13, 30, 120]:
        yield f"ties {n}", rng.integers(1, 6, n).astype(float), rng.integers(1, 6, n).astype(float)
    for n in [6, 13, 40]:
        a = rng.integers(1, 4, n).astype(float)
        b = a.copy()
        b[: n // 2] += rng.choice([-1.0, 1.0, 2.0], n // 2)
        yield f"zeros {n}", a, b
    yield "heavy tails 25", rng.standard_t(2, 25) + 20, rng.standard_t(2, 25) + 20.5
    yield "skewed 40", rng.lognormal(0, 1.5, 40), rng.lognormal(0.3, 1.5, 40)


def paired():
    cases = []
    for name, a, b in pairs():
        t = stats.ttest_rel(a, b)
        interval = t.confidence_interval(0.9)
        d = a - b
        case = {
            "name": name, "first": floats(a), "second": floats(b),
            "t": float(t.statistic), "p_t": float(t.pvalue), "low_90": float(interval.low), "high_90": float(interval.high),
            "rank_sum": float(stats.wilcoxon(a, b, alternative="greater").statistic),
            "p_normal": float(stats.wilcoxon(a, b, method="approx", correction=True).pvalue),
            "p_exact": None,
        }
        nonzero = d[d != 0]
        if len(np.unique(np.abs(nonzero))) == len(nonzero) and len(nonzero) <= 100:
            case["p_exact"] = float(stats.wilcoxon(nonzero, method="exact").pvalue)
        elif len(nonzero) <= 13:
            case["p_exact"] = float(stats.wilcoxon(d, method=stats.PermutationMethod(n_resamples=10**6)).pvalue)
        cases.append(case)
    write("paired", cases)


def holm():
    rng = np.random.default_rng(12)
    samples = {"one": [0.03], "equal": [0.02] * 5, "ends": [0.0, 1.0, 0.5], "two": [0.04, 0.01]}
    samples |= {f"random {n}": floats(rng.beta(0.5, 3, n)) for n in [3, 16, 136]}
    write("holm", [{"name": k, "p": p, "adjusted": floats(multipletests(p, method="holm")[1])} for k, p in samples.items()])


def equivalence():
    cases = []
    for name, a, b in pairs():
        scale = 0.05 * float(np.mean(b))
        p, lower, upper = ttost_paired(a, b, -scale, 2 * scale)
        case = {"name": name, "first": floats(a), "second": floats(b), "low": -scale, "high": 2 * scale,
                "p_lower": float(lower[1]), "p_upper": float(upper[1]), "p": float(p), "ratio": None}
        if (a > 0).all() and (b > 0).all():
            margin = 0.03
            case["ratio"] = {
                "margin": margin,
                "p_lower": float(stats.ttest_rel(a, b / (1 + margin), alternative="greater").pvalue),
                "p_upper": float(stats.ttest_rel(a, b * (1 + margin), alternative="less").pvalue),
            }
        cases.append(case)
    write("equivalence", cases)


def friedman():
    rng = np.random.default_rng(13)
    blocks = {f"{n} x {k}": rng.lognormal(0, 0.3, (n, k)) * np.linspace(1, 1.2, k) for n, k in [(3, 3), (8, 5), (40, 17), (500, 4)]}
    blocks |= {f"ties {n} x {k}": rng.integers(1, 5, (n, k)).astype(float) for n, k in [(4, 3), (20, 6)]}
    cases = []
    for name, x in blocks.items():
        n, k = x.shape
        r = stats.friedmanchisquare(*x.T)
        f = (n - 1) * r.statistic / (n * (k - 1) - r.statistic)
        cases.append({"name": name, "blocks": [floats(row) for row in x], "chi_squared": float(r.statistic), "p_chi_squared": float(r.pvalue),
                      "p_iman_davenport": float(stats.f.sf(f, k - 1, (k - 1) * (n - 1))),
                      "mean_ranks": floats(np.mean([stats.rankdata(row) for row in x], axis=0))})
    write("friedman", cases)


def bca():
    """Ratio of sums; the resampled prompts and the replicates are written down, so that nothing random is compared."""
    rng = np.random.default_rng(14)
    cases = []
    for n, resamples, confidence in [(3, 200, 0.9), (5, 400, 0.95), (12, 400, 0.95), (24, 400, 0.99), (60, 150, 0.8)]:
        plain = rng.gamma(3, 1, n)
        arm = plain / rng.normal(1.3, 0.2, n).clip(0.6)
        drawn = []

        def ratio(index, axis=-1):
            index = np.asarray(index)
            if index.ndim == 2 and index.shape == (resamples, n):
                drawn.append(index.copy())
            return plain[index].sum(axis) / arm[index].sum(axis)

        r = stats.bootstrap((np.arange(n),), ratio, n_resamples=resamples, confidence_level=confidence, method="BCa", rng=rng)
        cases.append({"name": f"{n} prompts", "plain": floats(plain), "arm": floats(arm), "confidence": confidence,
                      "resamples": drawn[0].tolist(), "estimate": float(plain.sum() / arm.sum()),
                      "low": float(r.confidence_interval.low), "high": float(r.confidence_interval.high)})
    write("bca", cases)


def summary():
    rng = np.random.default_rng(15)
    cases = []
    for n in [1, 2, 3, 6, 9, 20, 51, 500]:
        x = rng.lognormal(0, 1, n)
        intervals = []
        for confidence in [0.8, 0.95, 0.99]:
            # The quantile test of scipy gives the same order statistics; the coverage is the binomial's.
            ranks = [r for r in range((n + 1) // 2) if 1 - 2 * stats.binom.cdf(r, n, 0.5) >= confidence]
            s = np.sort(x)
            intervals.append(None if not ranks else {"low": float(s[ranks[-1]]), "high": float(s[n - 1 - ranks[-1]]),
                                                     "achieved": float(1 - 2 * stats.binom.cdf(ranks[-1], n, 0.5))})
        cases.append({"name": f"{n}", "x": floats(x), "mean": float(x.mean()), "sd": float(x.std(ddof=1)) if n > 1 else None,
                      "quantiles": {str(q): float(np.quantile(x, q)) for q in [0.0, 0.05, 0.25, 0.5, 0.9, 1.0]},
                      "mad": float(stats.median_abs_deviation(x)), "median_intervals": dict(zip(["0.8", "0.95", "0.99"], intervals))})
    write("summary", cases)


def max_t():
    """Critical values c with P(max_j T_gj <= c) = level for one control g: multivariate t by scipy, Dunnett's balanced case first."""
    rng = np.random.default_rng(16)
    cases = []

    def add(name, covariance, freedom, level, control):
        k = len(covariance)
        contrasts = np.array([np.eye(k)[control] - np.eye(k)[j] for j in range(k) if j != control])
        of_differences = contrasts @ covariance @ contrasts.T
        sd = np.sqrt(np.diag(of_differences))
        shape = of_differences / np.outer(sd, sd)

        def excess(c):
            p = stats.multivariate_t.cdf(np.full(k - 1, c), shape=shape, df=freedom, maxpts=400_000, random_state=1)
            return p - level

        c = optimize.brentq(excess, 0.5, 6, xtol=2e-4)
        cases.append({"name": name, "covariance": floats(covariance), "arms": k, "degrees_of_freedom": freedom, "level": level,
                      "control": control, "critical_value": float(c)})

    # For two arms the maximum is one t statistic; for balanced groups it is Dunnett's (checked with scipy.stats.dunnett).
    groups = [rng.normal(0, 1, 8) for _ in range(5)]
    add("dunnett 5 x 8", np.eye(5), 35, 0.95, 0)
    one_sided = stats.dunnett(*groups[1:], control=groups[0], alternative="greater", random_state=2)
    largest = one_sided.statistic.max()
    p = 1 - stats.multivariate_t.cdf(np.full(4, largest), shape=(np.eye(4) + 1) / 2, df=35, maxpts=400_000, random_state=1)
    assert abs(p - one_sided.pvalue.min()) < 5e-3, (p, one_sided.pvalue)
    add("two arms", np.eye(2), 19, 0.95, 0)
    add("17 balanced", np.eye(17), 99, 0.95, 3)
    for k, freedom, level in [(3, 5, 0.9), (6, 19, 0.95), (9, 60, 0.99)]:
        a = rng.normal(0, 1, (k, k + 2))
        add(f"random {k}", a @ a.T / (k + 2) + 0.5, freedom, level, int(rng.integers(k)))
    write("max_t", cases)


def sign_flips():
    """One-sided paired sign-flip tests over all sign vectors, by scipy's permutation test."""
    rng = np.random.default_rng(17)
    cases = []
    for n in [2, 3, 5, 8, 12]:
        for kind, d in [("plain", rng.normal(0.4, 1, n)), ("ties and zeros", rng.integers(-1, 3, n).astype(float))]:
            r = stats.permutation_test((d,), lambda x, axis: x.mean(axis), permutation_type="samples", n_resamples=10**6,
                                       vectorized=True, alternative="greater")
            # An arm that is not slower on average is no evidence against itself.
            cases.append({"name": f"{kind} {n}", "differences": floats(d), "p": float(r.pvalue) if d.mean() > 0 else 1.0})
    write("sign_flip", cases)


def model_confidence_set():
    """arch's MCS, method R; its resampled indices are written down."""
    rng = np.random.default_rng(18)
    cases = []
    for n, k, block, reps in [(12, 3, 1, 200), (30, 5, 3, 150), (40, 17, 4, 100)]:
        losses = rng.lognormal(0, 0.2, (n, 1)) * (1 + rng.normal(0, 0.05, (n, k))) * np.linspace(1, 1.1, k)
        mcs = MCS(losses, size=0.05, reps=reps, block_size=block, method="R", bootstrap="circular", seed=19)
        mcs.compute()
        p = mcs.pvalues["Pvalue"]
        cases.append({"name": f"{n} x {k}", "blocks": [floats(row) for row in losses], "resamples": [i.tolist() for i in mcs._bootstrap_indices],
                      "p": [float(p.loc[arm]) for arm in range(k)]})
    write("mcs", cases)


def validity():
    rng = np.random.default_rng(20)
    cases = []
    for n in [4, 9, 60]:
        t = np.sort(rng.uniform(0, 10, n))
        x = 1 + 0.02 * t + rng.normal(0, 0.05, n)
        x[n // 2] += 1
        line = stats.linregress(t, x)
        box = acorr_ljungbox(x, lags=[1])
        cases.append({"name": f"series {n}", "times": floats(t), "values": floats(x), "slope": float(line.slope), "slope_se": float(line.stderr),
                      "slope_p": float(line.pvalue), "lag_1": float(acf(x, nlags=1)[1]), "lag_1_p": float(box["lb_pvalue"].iloc[0]),
                      "z_scores": floats(0.6745 * (x - np.median(x)) / stats.median_abs_deviation(x))})
    write("series", cases)
    cases = []
    for shape in [(5, 8), (3, 6, 4), (4, 2, 3, 5)]:
        effects = 0
        for depth in range(1, len(shape) + 1):
            effects = effects + rng.normal(0, 0.5 + depth, shape[:depth]).reshape(shape[:depth] + (1,) * (len(shape) - depth))
        x = np.broadcast_to(effects, shape)
        names = [f"l{i}" for i in range(len(shape) - 1)]
        frame = pd.DataFrame({name: np.indices(shape)[i].ravel() for i, name in enumerate(names)} | {"x": x.ravel()})
        # Sequential sums of squares of the nested model give the mean squares; expected mean squares give the components.
        nested = [":".join(f"C({name})" for name in names[: i + 1]) for i in range(len(names))]
        table = anova_lm(ols("x ~ " + " + ".join(nested), frame).fit(), typ=1)
        squares = floats(table["sum_sq"] / table["df"])
        below = [int(np.prod(shape[i + 1 :])) for i in range(len(names))]
        components = [max((squares[i] - squares[i + 1]) / below[i], 0.0) for i in range(len(names))] + [squares[-1]]
        cases.append({"name": str(shape), "shape": list(shape), "values": floats(x), "components": components})
    write("nested", cases)


def power():
    solver = TTestPower()
    grid = [(n, effect, alpha) for n in [2, 3, 8, 24, 100, 500] for effect in [0.1, 0.5, 1.5] for alpha in [0.05, 0.05 / 16]]
    powers = [float(solver.power(effect, n, alpha, alternative="two-sided")) for n, effect, alpha in grid]
    # scipy's noncentral t has no value for a few far corners.
    cases = [{"name": f"{n} {effect} {alpha}", "prompts": n, "effect": effect, "alpha": alpha, "power": value}
             for (n, effect, alpha), value in zip(grid, powers) if np.isfinite(value)]
    write("power", cases)


def wilcoxon_holm():
    """All pairs of arms by signed ranks, Holm-adjusted, by scikit-posthocs."""
    rng = np.random.default_rng(21)
    cases = []
    for n, k in [(8, 3), (20, 5)]:
        x = rng.lognormal(0, 0.2, (n, 1)) * (1 + rng.normal(0, 0.1, (n, k))) * np.linspace(1, 1.2, k)
        long = pd.DataFrame({"seconds": x.ravel(), "arm": np.tile(np.arange(k), n)}).sort_values("arm", kind="stable")
        p = scikit_posthocs.posthoc_wilcoxon(long, val_col="seconds", group_col="arm", p_adjust="holm").to_numpy()
        cases.append({"name": f"{n} x {k}", "blocks": [floats(row) for row in x], "p": [floats(row) for row in p]})
    write("wilcoxon_holm", cases)


def acceptance_by_level():
    """Equal acceptance over levels: least squares on level dummies with cluster-robust covariance, prompts as clusters."""
    rng = np.random.default_rng(22)
    cases = []
    for n, rates in [(12, [0.6, 0.6]), (30, [0.5, 0.55, 0.6, 0.7]), (25, [0.7] * 5)]:
        q = len(rates) - 1
        reached = rng.integers(3, 25, (n, q + 1))
        accepted = rng.binomial(reached, (np.array(rates) + rng.uniform(-0.2, 0.2, (n, 1))).clip(0, 1))
        prompt, level = [np.repeat(index.ravel(), reached.ravel()) for index in np.indices(reached.shape)]
        hits = np.concatenate([np.r_[np.ones(a), np.zeros(r - a)] for r, a in zip(reached.ravel(), accepted.ravel())])
        fitted = OLS(hits, np.eye(q + 1)[level]).fit(cov_type="cluster", cov_kwds={"groups": prompt, "use_correction": False})
        contrasts = np.eye(q + 1)[1:] - np.eye(q + 1)[:-1]
        chi2 = float(fitted.wald_test(contrasts, use_f=False, scalar=True).statistic)
        # The covariance without correction is (n - 1) / n of ours; then Hotelling's T squared to F.
        f = chi2 * (n - 1) / n * (n - q) / (q * (n - 1))
        cases.append({"name": f"{n} x {q + 1}", "reached": reached.tolist(), "accepted": accepted.tolist(), "acceptance": floats(fitted.params),
                      "f": f, "p": float(stats.f.sf(f, q, n - q))})
    write("acceptance_by_level", cases)


def cost_models():
    """Leave-one-width-out errors by weighted least squares; bends and steps by trying all of them."""
    rng = np.random.default_rng(23)

    def straight(x, y, terms):
        return WLS(y, terms(x), weights=y**-2.0).fit().params, terms

    def level(y):
        return np.average(y, weights=y**-2.0)

    def fit(shape, x, y):
        if shape == "constant":
            return lambda w: level(y)
        if shape == "linear":
            b, terms = straight(x, y, lambda v: np.column_stack([np.ones_like(v), v]))
            return lambda w: (terms(np.array([w])) @ b)[0]
        if shape == "one_kink":
            fits = [straight(x, y, lambda v, c=c: np.column_stack([np.ones_like(v), v, np.maximum(v - c, 0)])) for c in x[1:-1]]
            b, terms = min(fits, key=lambda f: np.sum((f[1](x) @ f[0] / y - 1) ** 2))
            return lambda w: (terms(np.array([w])) @ b)[0]
        n = len(x)
        best = None
        for count in range(1, min(16, n // 2) + 1):
            ways = [(0, *inner, n) for inner in itertools.combinations(range(1, n), count - 1)]
            errors = [sum(np.sum((level(y[a:b]) / y[a:b] - 1) ** 2) for a, b in itertools.pairwise(cuts)) for cuts in ways]
            at = int(np.argmin(errors))
            criterion = n * np.log((errors[at] + 1e-8 * n) / n) + 2 * count * np.log(n)
            if best is None or criterion < best[0]:
                best = (criterion, ways[at])
        cuts = best[1]
        starts = [-np.inf] + [(x[c - 1] + x[c]) / 2 for c in cuts[1:-1]]
        levels = [level(y[a:b]) for a, b in itertools.pairwise(cuts)]
        return lambda w: levels[np.searchsorted(starts, w, side="right") - 1]

    cases = []
    for name, curve in [("flat", lambda x: 3 + 0 * x), ("line", lambda x: 2 + 0.4 * x), ("bend", lambda x: 3 + np.maximum(x - 5, 0)),
                        ("steps", lambda x: np.where(x > 6, 5.0, np.where(x > 3, 3.0, 2.0)))]:
        x = np.arange(1.0, 11.0)
        y = curve(x) * (1 + rng.normal(0, 0.02, len(x)))
        errors = {shape: float(np.mean([abs(fit(shape, np.delete(x, i), np.delete(y, i))(x[i]) / y[i] - 1) for i in range(len(x))]))
                  for shape in ["constant", "linear", "one_kink", "steps"]}
        cases.append({"name": name, "widths": floats(x), "seconds": floats(y), "errors": errors})
    write("cost_models", cases)


def falls():
    """Two widths of which the wider is cheaper: Welch's one-sided test."""
    rng = np.random.default_rng(24)
    cases = []
    for m, n in [(3, 3), (5, 9), (20, 6)]:
        a, b = rng.normal(2, 0.1, m), rng.normal(1.5, 0.2, n)
        cases.append({"name": f"{m} and {n}", "first": floats(a), "second": floats(b),
                      "p": float(stats.ttest_ind(b, a, equal_var=False, alternative="less").pvalue)})
    write("falls", cases)


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    makers = [summary, paired, holm, equivalence, friedman, bca, max_t, sign_flips, model_confidence_set, validity, power, wilcoxon_holm, acceptance_by_level, cost_models, falls]
    for make in makers:
        if not sys.argv[1:] or make.__name__ in sys.argv[1:]:
            make()
