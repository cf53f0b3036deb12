#!/usr/bin/env Rscript
# Reads every committed CSV with R's readr, as a user of R would, and fails on any warning or parsing problem:
#
#   sudo apt-get install -y r-base-core r-cran-readr
#   Rscript scripts/oracle/readr.R [FOLDER]      (results/ if none is named)
options(warn = 2)
suppressPackageStartupMessages(library(readr))

folder <- c(commandArgs(trailingOnly = TRUE), "results")[1]
files <- list.files(folder, pattern = "\\.csv$", recursive = TRUE, full.names = TRUE)
if (length(files) == 0) stop(folder, ": has no CSV")
rows <- 0
for (file in files) {
  # Columns are guessed from all rows: a column that is empty at first may have values later.
  table <- read_csv(file, guess_max = Inf, show_col_types = FALSE, progress = FALSE)
  found <- problems(table)
  if (nrow(found) > 0) {
    print(found)
    stop(file, ": readr has problems with it")
  }
  lines <- length(read_lines(file))
  if (nrow(table) != lines - 1) stop(file, ": ", lines - 1, " lines but ", nrow(table), " rows")
  if (any(names(table) != strsplit(read_lines(file, n_max = 1), ",")[[1]])) stop(file, ": columns were renamed")
  rows <- rows + nrow(table)
}
cat(length(files), "files with", rows, "rows read without a warning by readr", as.character(packageVersion("readr")), "\n")
