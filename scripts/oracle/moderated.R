#!/usr/bin/env Rscript
# Moderated variances by limma, and the widths of made-up cost curves that are worth padding by t tests with them. Writes
# tests/golden/stats/moderated.json:
#
#   sudo apt-get install -y r-bioc-limma
#   Rscript scripts/oracle/moderated.R > tests/golden/stats/moderated.json
suppressPackageStartupMessages(library(limma))
set.seed(7)

number <- function(x) ifelse(is.finite(x), sprintf("%.17g", x), "null")
list_of <- function(x) paste0("[", paste(number(x), collapse = ", "), "]")
table_of <- function(keys, values) {
  paste0("{", paste(sprintf("\"%d\": %s", keys, number(values)), collapse = ", "), "}")
}

case <- function(name, samples) {
  logs <- lapply(samples, log)
  d <- sapply(logs, length) - 1
  own <- sapply(logs, var)
  fit <- squeezeVar(own, d)
  means <- sapply(logs, mean)
  k <- length(samples)
  best <- sapply(1:(k - 1), function(i) i + which.min(means[(i + 1):k]))
  parts <- fit$var.post / (d + 1)
  freedom <- pmin(d + fit$df.prior / 2, sum(d))
  p <- sapply(1:(k - 1), function(i) {
    j <- best[i]
    variance <- parts[i] + parts[j]
    df <- variance^2 / (parts[i]^2 / freedom[i] + parts[j]^2 / freedom[j])
    (k - i) * pt((means[i] - means[j]) / sqrt(variance), df, lower.tail = FALSE)
  })
  adjusted <- p.adjust(pmin(p, 1), "holm")
  found <- which(adjusted <= 1 - 0.95)
  paste0("{\"name\": \"", name, "\", \"samples\": [", paste(sapply(samples, list_of), collapse = ", "),
         "], \"log_variances\": ", list_of(own), ", \"prior_freedom\": ", number(fit$df.prior),
         ", \"prior_variance\": ", number(fit$var.prior), ", \"variances\": ", list_of(fit$var.post),
         ", \"pad_to\": ", table_of(found, best[found]), ", \"p\": ", table_of(found, adjusted[found]), "}")
}

curve <- function(k, passes, noise, level) lapply(1:k, function(b) level(b) * exp(noise(b) * rnorm(passes(b))))
dear <- function(b) if (b %in% 4:7) 1 + 0.3 * (b - 3) else 1
cases <- c(
  case("even noise", curve(24, function(b) 7, function(b) 0.03, dear)),
  case("noisier widths", curve(40, function(b) 7, function(b) 0.02 * exp((b * 7 %% 11) / 40), dear)),
  case("unequal passes", curve(16, function(b) 3 + b %% 5, function(b) 0.01 * (1 + b %% 3), dear)),
  case("two widths", curve(2, function(b) 6, function(b) 0.05, function(b) 3 - b)))
cat("{\"made_with\": {\"limma\": \"", as.character(packageVersion("limma")), "\", \"R\": \"", as.character(getRversion()),
    "\"}, \"cases\": [\n", paste(cases, collapse = ",\n"), "\n]}\n", sep = "")
