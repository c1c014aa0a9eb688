# Rscript glmer.R TABLE.csv FORMULA: a logistic fit's seconds and standard deviations, tab-separated lines on stdout.
# Only glmer is timed; reading the file and loading the package are not.
suppressPackageStartupMessages(library(lme4))
argument <- commandArgs(trailingOnly = TRUE)
data <- read.csv(argument[1])
for (name in setdiff(names(data), "y")) data[[name]] <- factor(data[[name]])
spent <- system.time(fit <- glmer(as.formula(argument[2]), data, family = binomial))[["elapsed"]]
cat("seconds", sprintf("%.6f\n", spent), sep = "\t")
parts <- as.data.frame(VarCorr(fit))
for (i in seq_len(nrow(parts))) cat("sd", parts$grp[i], sprintf("%.17g\n", parts$sdcor[i]), sep = "\t")
