# %% [markdown]
# Results in pandas. Columns carry their units, an empty field is a missing value, one row is one observation;
# results/README.md says what every column means. Cells are marked as Jupyter, VS Code and Spyder take them.
#
#     python scripts/notebooks/with_pandas.py [TUNE_FOLDER [COST_FOLDER]]

# %%
import sys
from pathlib import Path

import pandas as pd

tune = Path(sys.argv[1] if len(sys.argv) > 1 else "results/linux-cpu-2core/quickstart")
cost = Path(sys.argv[2] if len(sys.argv) > 2 else "results/linux-cpu-2core/cost-SmolLM2-135M-Instruct.Q4_1-float32")

# %% [markdown]
# What was decided. A draft length is an integer that may be missing ("undecided"), which plain NumPy integers cannot be.

# %%
decision = pd.read_csv(tune / "decision.csv", dtype={"draft_length": "Int64", "confidence_set": "string"})
for row in decision.itertuples():
    length = "undecided" if pd.isna(row.draft_length) else row.draft_length
    speedup = "unconfirmed" if pd.isna(row.speedup_confirmed) else f"{row.speedup_confirmed:.3f}"
    print(f"decision {row.drafter} {length} {speedup}")

# %% [markdown]
# What verifying b tokens costs in single ones.

# %%
widths = pd.read_csv(cost / "cost_widths.csv")
t = widths[(widths["role"] == "target") & (widths["mode"] == "sync")].set_index("width")["time_ms"]
for width in (2, 8, 32, 128):
    print(f"cost {width} {t[width] / t[1]:.3f}")

# %% [markdown]
# Acceptance of the first drafted token by category: sum the counts, then divide.

# %%
acceptance = pd.read_csv(tune / "acceptance.csv")
first = acceptance[acceptance["draft_position"] == 1].groupby(["drafter", "category"])[["accepted", "reached"]].sum()
for (drafter, category), row in first.sort_index().iterrows():
    print(f"acceptance {drafter} {category} {row.accepted / row.reached:.3f}")

# %% [markdown]
# Raw rows: throughput of every arm over the complete blocks, as the ratio of sums.

# %%
runs = pd.read_csv(tune / "runs.csv")
runs = runs[(runs["split"] == "tune") & runs["error"].isna()]
speed = runs.groupby("draft_length")[["tokens", "seconds"]].sum()
for length, row in speed.sort_index().iterrows():
    print(f"runs {length} {row.tokens / row.seconds:.3f}")
