# Rscript families.R FOLDER FAMILY FORMULA FIRST STEP: fits every STEP-th of FOLDER/*.csv, from FIRST; tab-separated lines.
# Of a data set: fixed effects (or thresholds) with their standard errors, sds, -2 log-likelihood, seconds, convergence.
suppressPackageStartupMessages({library(lme4); library(ordinal)})
argument <- commandArgs(trailingOnly = TRUE)
files <- sort(list.files(argument[1], pattern = "[.]csv$", full.names = TRUE))
formula <- as.formula(argument[3])
for (file in files[seq(as.integer(argument[4]), length(files), by = as.integer(argument[5]))]) {
  data <- read.csv(file)
  for (name in c("user", "item")) data[[name]] <- factor(data[[name]])
  if (argument[2] == "ordinal") data$y <- factor(data$y, ordered = TRUE)
  say <- function(name, estimate, se = NA) {
    cat(basename(file), name, sprintf("%.12g", estimate), sprintf("%.12g\n", se), sep = "\t")
  }
  complained <- FALSE
  spent <- system.time(fit <- tryCatch(withCallingHandlers(
    if (argument[2] == "ordinal") clmm(formula, data) else
      glmer(formula, data, family = if (argument[2] == "poisson") poisson else binomial),
    warning = function(w) { complained <<- TRUE; invokeRestart("muffleWarning") }
  ), error = function(e) NULL))[["elapsed"]]
  say("failed", as.numeric(is.null(fit)))
  if (is.null(fit)) next
  at <- coef(summary(fit))
  for (i in seq_len(nrow(at))) say(rownames(at)[i], at[i, 1], at[i, 2])
  for (name in c("user", "item")) say(paste0("sd_(Intercept)|", name), sqrt(VarCorr(fit)[[name]][1, 1]))
  say("deviance", -2 * as.numeric(logLik(fit)))
  say("seconds", spent)
  say("complained", as.numeric(complained))
}
