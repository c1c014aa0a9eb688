# Rscript lme4.R TABLE.csv FACTORS FORMULA ml|reml REPEATS ENOUGH_SECONDS: tab-separated lines on stdout.
# Only lmer is timed; reading the file and loading the package are not.
suppressPackageStartupMessages(library(lme4))
argument <- commandArgs(trailingOnly = TRUE)
data <- read.csv(argument[1])
for (name in strsplit(argument[2], ",")[[1]]) data[[name]] <- factor(data[[name]])
formula <- as.formula(argument[3])

seconds <- numeric(0)
while (length(seconds) <= as.integer(argument[5]) && sum(seconds) < as.numeric(argument[6])) {
  invisible(gc())
  spent <- system.time(fit <- lmer(formula, data, REML = argument[4] == "reml"))[["elapsed"]]
  seconds <- c(seconds, spent)
}

say <- function(...) cat(..., sep = "\t", fill = FALSE)
for (s in seconds) say("seconds", sprintf("%.6f\n", s))
say("m2loglik", sprintf("%.17g\n", -2 * as.numeric(logLik(fit))))
parts <- as.data.frame(VarCorr(fit))
for (i in seq_len(nrow(parts))) {
  label <- paste(na.omit(unlist(parts[i, c("grp", "var1", "var2")])), collapse = " ")
  say("component", label, sprintf("%.17g\n", parts$vcov[i]))
}
status <- if (file.exists("/proc/self/status")) readLines("/proc/self/status") else character(0)
peak <- sub("[^0-9]*([0-9]+).*", "\\1", grep("^VmHWM", status, value = TRUE))
if (length(peak)) say("peak_kib", paste0(peak, "\n"))
