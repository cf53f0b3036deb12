"""Recomputes the derived files of a folder of `ridgepoint cost` from its cost.csv with pandas, numpy and scipy.

    python -W error scripts/oracle/cost.py results/<machine>/cost-<model>-<precision>
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

CURVE = ["machine", "target", "precision", "role", "drafter", "context", "batch"]


def read(folder, name):
    frame = pd.read_csv(folder / f"{name}.csv", dtype={"drafter": object})
    return frame.assign(drafter=frame.drafter.fillna("")) if "drafter" in frame else frame


def same(found, expected, what):
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=what)


def interval(times, confidence):
    """The narrowest pair of order statistics, symmetric in rank, that covers the median."""
    times = np.sort(times)
    covers = [r for r in range((len(times) + 1) // 2) if 1 - 2 * stats.binom.cdf(r, len(times), 0.5) >= confidence]
    return (times[covers[-1]], times[-1 - covers[-1]]) if covers else (np.nan, np.nan)


def check_widths(widths, samples, confidence):
    for (mode, width), times in samples.groupby(["mode", "width"]):
        row = widths[(widths["mode"] == mode) & (widths.width == width)].iloc[0]
        median = times.time_ms.median()
        same(row.time_ms, median, f"median at {width}")
        same([row.time_low_ms, row.time_high_ms], interval(times.time_ms, confidence), f"interval at {width}")
        same(row.bandwidth_gb_s, times.bytes.iloc[0] / median / 1e6, f"bandwidth at {width}")
        same(row.rate_gflop_s, times.flops.iloc[0] / median / 1e6, f"rate at {width}")
        assert row.samples == len(times)
    assert len(widths) == samples.groupby(["mode", "width"]).ngroups


def check_stretches(stretches, samples, confidence, ceilings):
    sync = samples[samples["mode"] == "sync"]
    covered = []
    for row in stretches.itertuples():
        part = sync[sync.width.between(row.from_width, row.to_width)]
        covered += sorted(part.width.unique())
        if part.width.nunique() >= 3:
            # A pass that was cut short has not all widths.
            whole = [one for _, one in part.groupby("pass") if len(one) == part.width.nunique()]
            slopes = [np.polyfit(one.width, one.time_ms, 1)[0] for one in whole]
            mean, error = np.mean(slopes), stats.sem(slopes)
            low, high = stats.t.interval(confidence, len(slopes) - 1, mean, error)
            same([row.slope_ms, row.slope_low_ms, row.slope_high_ms], [mean, low, high], "slope")
        medians = part.groupby("width").agg(time=("time_ms", "median"), bytes=("bytes", "first"), flops=("flops", "first"))
        medians = medians[medians.bytes > 0]
        share = (medians.bytes / ceilings["bandwidth_bytes_per_s"] * 1e3 / medians.time).median()
        same(row.memory_share, share, "memory share")
        share = (medians.flops / ceilings["matrix_flops_per_s"] * 1e3 / medians.time).median()
        same(row.compute_share, share, "compute share")
    assert covered == sorted(sync.width.unique()), "stretches cover every width once"


def check_models(models, widths):
    """The straight line by weighted least squares, and its error at widths that are left out."""
    sync = widths[widths["mode"] == "sync"]

    def line(rows):
        return np.polyfit(rows.width, rows.time_ms, 1, w=1 / rows.time_ms)

    errors = [abs(np.polyval(line(sync.drop(at)), sync.width[at]) / sync.time_ms[at] - 1) for at in sync.index]
    linear = models[models["shape"] == "linear"].iloc[0]
    slope, level = line(sync)
    same([linear.slope_ms, linear.level_ms], [slope, level + slope * sync.width.min()], "line")
    same(linear.error_left_out, np.mean(errors), "error left out")


def main(folder):
    environment = json.loads((folder / "environment.json").read_text())
    confidence = environment["scenario"]["confidence"]
    ceilings = environment["launches"][-1]["ceilings"]
    # On a CPU what is only read cannot come faster than a plain read.
    ceilings["bandwidth_bytes_per_s"] = ceilings.get("read_bytes_per_s", ceilings["bandwidth_bytes_per_s"])
    names = ["cost", "cost_curves", "cost_widths", "cost_stretches", "cost_changes", "cost_models"]
    cost, curves, widths, stretches, changes, models = (read(folder, name) for name in names)
    valid = cost[~cost.invalid & cost.time_ms.notna()]
    for curve in curves.itertuples():
        samples = valid
        for column in CURVE:
            samples = samples[samples[column] == getattr(curve, column)]
        of = lambda rows: rows[rows.curve == curve.curve]
        assert curve.samples == len(samples)
        check_widths(of(widths), samples, confidence)
        check_stretches(of(stretches), samples, confidence, ceilings)
        check_models(of(models), of(widths))
        same(curve.ridge_flop_per_byte, ceilings["matrix_flops_per_s"] / ceilings["bandwidth_bytes_per_s"], "ridge")
        counts = of(changes).kind.value_counts()
        assert (curve.cliffs, curve.falls) == (counts.get("cliff", 0), counts.get("fall", 0))
    print(f"{len(curves)} curves agree")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
