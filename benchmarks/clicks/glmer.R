# Rscript glmer.R TABLE.csv FACTORS FORMULA: tab-separated lines on stdout. Only glmer is timed.
suppressPackageStartupMessages(library(lme4))
argument <- commandArgs(trailingOnly = TRUE)
data <- read.csv(argument[1])
for (name in strsplit(argument[2], ",")[[1]]) data[[name]] <- factor(data[[name]])
spent <- system.time(fit <- glmer(as.formula(argument[3]), data, family = binomial, nAGQ = 1))[["elapsed"]]
say <- function(...) cat(..., sep = "\t", fill = FALSE)
say("seconds", sprintf("%.6f\n", spent))
say("m2loglik", sprintf("%.17g\n", -2 * as.numeric(logLik(fit))))
say("intercept", sprintf("%.17g\n", fixef(fit)[[1]]))
say("se", sprintf("%.17g\n", sqrt(vcov(fit)[1, 1])))
parts <- as.data.frame(VarCorr(fit))
for (i in seq_len(nrow(parts))) say("variance", parts$grp[i], sprintf("%.17g\n", parts$vcov[i]))
