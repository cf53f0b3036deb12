# %% Results in R with readr: the same questions as in with_pandas.py, and the same answers.
#
#     Rscript scripts/notebooks/with_readr.R [TUNE_FOLDER [COST_FOLDER]]

arguments <- commandArgs(trailingOnly = TRUE)
tune <- if (length(arguments) > 0) arguments[1] else "results/linux-cpu-2core/quickstart"
cost <- if (length(arguments) > 1) arguments[2] else "results/linux-cpu-2core/cost-SmolLM2-135M-Instruct.Q4_1-float32"

# Types follow from the whole file: a column may be empty for its first thousand rows.
read <- function(folder, file) {
  readr::read_csv(file.path(folder, file), guess_max = Inf, show_col_types = FALSE, progress = FALSE)
}
say <- function(...) cat(sprintf(...), sep = "\n")

# %% What was decided.
decision <- read(tune, "decision.csv")
say(
  "decision %s %s %s", decision$drafter,
  ifelse(is.na(decision$draft_length), "undecided", decision$draft_length),
  ifelse(is.na(decision$speedup_confirmed), "unconfirmed", sprintf("%.3f", decision$speedup_confirmed))
)

# %% What verifying b tokens costs in single ones.
widths <- read(cost, "cost_widths.csv")
widths <- widths[widths$role == "target" & widths$mode == "sync", ]
one <- widths$time_ms[widths$width == 1]
some <- widths[widths$width %in% c(2, 8, 32, 128), ]
say("cost %d %.3f", as.integer(some$width), some$time_ms / one)

# %% Acceptance of the first drafted token by category.
acceptance <- read(tune, "acceptance.csv")
first <- acceptance[acceptance$draft_position == 1, ]
first <- aggregate(cbind(accepted, reached) ~ category + drafter, data = first, FUN = sum)
say("acceptance %s %s %.3f", first$drafter, first$category, first$accepted / first$reached)

# %% Raw rows: throughput of every arm over the complete blocks, as the ratio of sums.
runs <- read(tune, "runs.csv")
runs <- runs[runs$split == "tune" & is.na(runs$error), ]
speed <- aggregate(cbind(tokens, seconds) ~ draft_length, data = runs, FUN = sum)
say("runs %d %.3f", as.integer(speed$draft_length), speed$tokens / speed$seconds)
