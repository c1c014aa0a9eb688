# Rscript families.R FOLDER FAMILY FORMULA FIRST STEP CONTROL: fits every STEP-th of FOLDER/*.csv, from FIRST; tab-separated
# lines. CONTROL is "default", or "tight": glmer's tolerances as small as they go.
# Of a data set: fixed effects (or thresholds) with their standard errors, sds, -2 log-likelihood, seconds, convergence.
suppressPackageStartupMessages({library(lme4); library(ordinal)})
argument <- commandArgs(trailingOnly = TRUE)
files <- sort(list.files(argument[1], pattern = "[.]csv$", full.names = TRUE))
formula <- as.formula(argument[3])
control <- if (argument[6] == "default") glmerControl() else glmerControl(
  optimizer = "nloptwrap", tolPwrss = 1e-13,
  optCtrl = list(xtol_abs = 1e-12, xtol_rel = 1e-12, ftol_abs = 1e-12, ftol_rel = 1e-14, maxeval = 100000)
)
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
      glmer(formula, data, family = if (argument[2] == "poisson") poisson else binomial, control = control),
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
