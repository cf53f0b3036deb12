# %% [markdown]
# Results in Polars: the same questions as in with_pandas.py, and the same answers.
#
#     python scripts/notebooks/with_polars.py [TUNE_FOLDER [COST_FOLDER]]

# %%
import sys
from pathlib import Path

import polars as pl

tune = Path(sys.argv[1] if len(sys.argv) > 1 else "results/linux-cpu-2core/quickstart")
cost = Path(sys.argv[2] if len(sys.argv) > 2 else "results/linux-cpu-2core/cost-SmolLM2-135M-Instruct.Q4_1-float32")


def read(file: Path) -> pl.DataFrame:
    """Types follow from the whole file: a column may be empty for its first thousand rows."""
    return pl.read_csv(file, infer_schema_length=None)


# %% [markdown]
# What was decided.

# %%
for row in read(tune / "decision.csv").iter_rows(named=True):
    length = "undecided" if row["draft_length"] is None else row["draft_length"]
    speedup = "unconfirmed" if row["speedup_confirmed"] is None else f"{row['speedup_confirmed']:.3f}"
    print(f"decision {row['drafter']} {length} {speedup}")

# %% [markdown]
# What verifying b tokens costs in single ones.

# %%
widths = read(cost / "cost_widths.csv").filter((pl.col("role") == "target") & (pl.col("mode") == "sync"))
one = widths.filter(pl.col("width") == 1)["time_ms"].item()
for row in widths.filter(pl.col("width").is_in([2, 8, 32, 128])).sort("width").iter_rows(named=True):
    print(f"cost {row['width']} {row['time_ms'] / one:.3f}")

# %% [markdown]
# Acceptance of the first drafted token by category.

# %%
first = (
    read(tune / "acceptance.csv")
    .filter(pl.col("draft_position") == 1)
    .group_by("drafter", "category")
    .agg(pl.col("accepted").sum() / pl.col("reached").sum())
    .sort("drafter", "category")
)
for drafter, category, alpha in first.iter_rows():
    print(f"acceptance {drafter} {category} {alpha:.3f}")

# %% [markdown]
# Raw rows: throughput of every arm over the complete blocks, as the ratio of sums.

# %%
speed = (
    read(tune / "runs.csv")
    .filter((pl.col("split") == "tune") & pl.col("error").is_null())
    .group_by("draft_length")
    .agg(pl.col("tokens").sum() / pl.col("seconds").sum())
    .sort("draft_length")
)
for length, tok_per_s in speed.iter_rows():
    print(f"runs {length} {tok_per_s:.3f}")
