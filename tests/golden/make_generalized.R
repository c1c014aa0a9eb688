# Fits the models of the other families again: Rscript make_generalized.R OUTPUT_FOLDER
# Needs R and the packages lme4, ordinal and MASS. Writes the fields that tests read; glmmTMB's fits are not among them.
suppressPackageStartupMessages({library(lme4); library(ordinal)})

# name, package of the table, table, formula, family or link, nAGQ
glmms <- list(
  c("bacteria-laplace", "MASS", "bacteria", "y ~ trt + I(week > 2) + (1 | ID)", "binomial", 1),
  c("bacteria-agq15", "MASS", "bacteria", "y ~ trt + I(week > 2) + (1 | ID)", "binomial", 15),
  c("cbpp-laplace", "lme4", "cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial", 1),
  c("cbpp-nagq0", "lme4", "cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial", 0),
  c("cbpp-agq25", "lme4", "cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial", 25),
  c("epil-laplace", "MASS", "epil", "y ~ lbase * trt + lage + V4 + (1 | subject)", "poisson", 1),
  c("grouseticks-laplace", "lme4", "grouseticks",
    "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)", "poisson", 1),
  c("verbagg-laplace", "lme4", "VerbAgg",
    "r2 ~ 1 + Anger + Gender + btype + situ + (1 | id) + (1 | item)", "binomial", 1),
  c("verbagg-nagq0", "lme4", "VerbAgg",
    "r2 ~ 1 + Anger + Gender + btype + situ + (1 | id) + (1 | item)", "binomial", 0)
)
clmms <- list(
  c("soup-clmm-logit", "soup", "SURENESS ~ PROD + DAY + (1 | RESP)", "logit", 1),
  c("soup-clmm-probit", "soup", "SURENESS ~ PROD + (1 | RESP) + (1 | PROD:RESP)", "probit", 1),
  c("wine-clmm-logit", "wine", "rating ~ temp + contact + (1 | judge)", "logit", 1),
  c("wine-clmm-logit-agq10", "wine", "rating ~ temp + contact + (1 | judge)", "logit", 10),
  c("wine-clmm-logit-two-terms", "wine", "rating ~ temp + contact + (1 | judge) + (1 | bottle)", "logit", 1),
  c("wine-clmm-probit", "wine", "rating ~ temp + contact + (1 | judge)", "probit", 1)
)

tight <- function(nagq) glmerControl(
  optimizer = "nloptwrap", calc.derivs = nagq > 0, tolPwrss = 1e-13, nAGQ0initStep = TRUE,
  optCtrl = list(xtol_abs = 1e-12, xtol_rel = 1e-12, ftol_abs = 1e-12, ftol_rel = 1e-14, maxeval = 100000)
)

number <- function(x) ifelse(is.na(x), "null", sprintf("%.16g", x))
entries <- function(names, estimates, errors) paste0(
  "[", paste0('{"name": "', names, '", "estimate": ', number(estimates), ', "se": ', number(errors), "}",
              collapse = ", "), "]"
)
variances <- function(frame) paste0(
  "[", paste0('{"group": "', frame$grp, '", "var1": "', frame$var1, '", "vcov": ', number(frame$vcov),
              ', "sdcor": ', number(frame$sdcor), "}", collapse = ", "), "]"
)
write <- function(name, fields) writeLines(
  paste0("{\n", paste0(' "', names(fields), '": ', unlist(fields), collapse = ",\n"), "\n}"),
  file.path(folder, paste0(name, ".json"))
)

folder <- commandArgs(trailingOnly = TRUE)[1]
if (is.na(folder)) stop("usage: Rscript make_generalized.R OUTPUT_FOLDER")
dir.create(folder, showWarnings = FALSE, recursive = TRUE)

for (m in glmms) {
  data <- get(data(list = m[3], package = m[2]))
  nagq <- as.integer(m[6])
  fit <- glmer(as.formula(m[4]), data, family = m[5], nAGQ = nagq, control = tight(nagq))
  at <- coef(summary(fit))
  write(m[1], list(
    name = paste0('"', m[1], '"'), m2logLik = number(-2 * as.numeric(logLik(fit))),
    fixed_effects = entries(rownames(at), at[, 1], at[, 2]),
    variance_components = variances(as.data.frame(VarCorr(fit)))
  ))
}
for (m in clmms) {
  data <- get(data(list = m[2], package = "ordinal"))
  fit <- clmm(as.formula(m[3]), data, link = m[4], nAGQ = as.integer(m[5]), control = clmm.control(
    gradTol = 1e-8, innerCtrl = "noWarn", grtol = 1e-8
  ))
  at <- coef(summary(fit))
  own <- rownames(at) %in% names(fit$beta)
  variance <- vapply(VarCorr(fit), function(v) v[1, 1], 0)
  write(m[1], list(
    name = paste0('"', m[1], '"'), m2logLik = number(-2 * as.numeric(logLik(fit))),
    thresholds = entries(rownames(at)[!own], at[!own, 1], at[!own, 2]),
    fixed_effects = entries(rownames(at)[own], at[own, 1], at[own, 2]),
    variance_components = variances(data.frame(
      grp = names(variance), var1 = "(Intercept)", vcov = variance, sdcor = sqrt(variance)
    ))
  ))
}
