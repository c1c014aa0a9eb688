# Makes the reference fits of this folder again: Rscript make_lme4.R OUTPUT_FOLDER
# Needs R and the package lme4, nothing else.
suppressPackageStartupMessages(library(lme4))

models <- list(
  c("cake", "cake", "angle ~ recipe * temp + (1 | recipe:replicate)", "ML REML"),
  c("dyestuff", "Dyestuff", "Yield ~ 1 + (1 | Batch)", "ML REML"),
  c("dyestuff2", "Dyestuff2", "Yield ~ 1 + (1 | Batch)", "ML REML"),
  c("insteval-crossed", "InstEval", "y ~ 1 + (1 | s) + (1 | d)", "ML REML"),
  c("insteval-fixed-dept", "InstEval", "y ~ service * dept + (1 | s) + (1 | d)", "ML REML"),
  c("insteval-service-dept", "InstEval", "y ~ service + (1 | s) + (1 | d) + (1 | dept)", "ML REML"),
  c("pastes-nested", "Pastes", "strength ~ 1 + (1 | batch/cask)", "ML REML"),
  c("pastes-sample", "Pastes", "strength ~ 1 + (1 | sample)", "ML REML"),
  c("penicillin", "Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", "ML REML"),
  c("sleepstudy-intercept", "sleepstudy", "Reaction ~ Days + (1 | Subject)", "ML REML"),
  c("sleepstudy-slope", "sleepstudy", "Reaction ~ Days + (Days | Subject)", "ML REML"),
  c("sleepstudy-slope-only", "sleepstudy", "Reaction ~ Days + (0 + Days | Subject)", "ML REML"),
  c("sleepstudy-zerocorr", "sleepstudy", "Reaction ~ Days + (Days || Subject)", "ML REML")
)

tight <- lmerControl(
  optimizer = "nloptwrap", calc.derivs = FALSE,
  optCtrl = list(xtol_abs = 1e-12, xtol_rel = 1e-12, ftol_abs = 1e-12, ftol_rel = 1e-14, maxeval = 100000)
)

# ---- JSON, as little as is needed: a list with names is an object, one without an array --------------------------
scalar <- function(x) {
  if (is.null(x) || is.na(x)) "null"
  else if (is.character(x)) paste0('"', gsub('(["\\\\])', "\\\\\\1", x), '"')
  else if (is.logical(x)) tolower(as.character(x))
  else sprintf("%.16g", x)
}
json <- function(x) {
  if (is.list(x) && !is.null(names(x)))
    return(paste0("{", paste0('"', names(x), '": ', vapply(x, json, ""), collapse = ", "), "}"))
  if (is.list(x)) return(paste0("[", paste(vapply(x, json, ""), collapse = ", "), "]"))
  if (is.matrix(x)) return(paste0("[", paste(apply(x, 1, function(row) json(array(row))), collapse = ", "), "]"))
  if (is.array(x) || length(x) != 1) return(paste0("[", paste(vapply(x, scalar, ""), collapse = ", "), "]"))
  scalar(x)
}
rows <- function(frame) lapply(seq_len(nrow(frame)), function(i) as.list(frame[i, , drop = FALSE]))
spread <- function(n) unique(round(seq(1, n, length.out = 5)))

fixed_factors <- function(fit, data) {
  names <- intersect(all.vars(nobars(formula(fit))[[3]]), names(Filter(is.factor, data)))
  out <- lapply(names, function(v) list(levels = array(levels(data[[v]])), ordered = is.ordered(data[[v]])))
  if (length(out)) setNames(out, names) else list()
}

modes <- function(fit) {
  frame <- as.data.frame(ranef(fit, condVar = TRUE))
  columns <- getME(fit, "cnms")
  out <- list()
  for (block in seq_along(columns)) {
    group <- names(columns)[block]
    all_levels <- levels(getME(fit, "flist")[[group]])
    for (level in all_levels[spread(length(all_levels))]) for (term in columns[[block]]) {
      here <- frame[frame$grpvar == group & frame$grp == level & frame$term == term, ]
      out <- c(out, list(list(
        group = group, term = term, level = level, mode = here$condval, cond_sd = here$condsd
      )))
    }
  }
  out
}

# lme4 calls the second term on a factor g "g.1": that name goes to `block`, the factor's to `group`
components <- function(fit) {
  out <- as.data.frame(VarCorr(fit))
  names(out)[1] <- "group"
  lapply(rows(out), function(row) {
    factor <- sub("\\.[0-9]+$", "", row$group)
    if (row$group %in% c(names(ngrps(fit)), "Residual") || !factor %in% names(ngrps(fit))) return(row)
    c(replace(row, "group", factor), block = row$group)
  })
}

one <- function(name, table, text, method) {
  data <- get(data(list = table, package = "lme4"))
  said <- character(0)
  fitting <- function(control) withCallingHandlers(
    lmer(as.formula(text), data, REML = method == "REML", control = control),
    warning = function(w) { said <<- c(said, trimws(conditionMessage(w))); invokeRestart("muffleWarning") },
    message = function(m) { said <<- c(said, trimws(conditionMessage(m))); invokeRestart("muffleMessage") }
  )
  seconds <- system.time(fit <- fitting(tight))[["elapsed"]]
  value <- -2 * as.numeric(logLik(fit))
  theta <- getME(fit, "theta")
  criterion <- update(fit, devFunOnly = TRUE)
  start <- getME(fit, "lower") == 0
  trials <- list(as.numeric(start), ifelse(start, 0.5, 0.1), as.numeric(theta))
  at <- spread(nrow(data))
  summary_of <- coef(summary(fit))
  fields <- list(
    name = paste0(name, "-", tolower(method)), data = tolower(table), formula = text,
    family = "gaussian", link = "identity", method = method,
    n_rows_in_file = nrow(data), n = nobs(fit),
    software = paste("lme4", packageDescription("lme4")$Version, "under R", getRversion()), seconds = seconds,
    converged = fit@optinfo$conv$opt >= 0, singular = isSingular(fit), warnings = array(unique(said)),
    logLik = as.numeric(logLik(fit)), m2logLik = value
  )
  fields <- c(fields, if (method == "ML") list(deviance = value) else list(
    REML_criterion = value, ML_deviance_at_REML_estimates = as.numeric(deviance(fit, REML = FALSE))
  ))
  fields <- c(fields, list(
    npar = attr(logLik(fit), "df"), AIC = AIC(fit), BIC = BIC(fit),
    fixed_effects = lapply(seq_along(fixef(fit)), function(i) list(
      name = names(fixef(fit))[i], estimate = fixef(fit)[[i]], se = summary_of[i, "Std. Error"]
    )),
    vcov_fixed = if (length(fixef(fit)) <= 10) unname(as.matrix(vcov(fit))),
    sigma = sigma(fit), theta = array(unname(theta)),
    variance_components = components(fit),
    n_levels = as.list(ngrps(fit)), factor_levels = fixed_factors(fit, data),
    conditional_modes = modes(fit),
    predictions = lapply(at, function(i) list(
      row0 = i - 1, conditional = fitted(fit)[[i]], population = predict(fit, re.form = NA)[[i]]
    )),
    objective_at = lapply(trials, function(t) list(theta = array(t), value = criterion(t))),
    default_settings_m2logLik = -2 * as.numeric(logLik(fitting(lmerControl())))
  ))
  fields <- Filter(Negate(is.null), fields)
  lines <- paste0(' "', names(fields), '": ', vapply(fields, json, ""), collapse = ",\n")
  writeLines(paste0("{\n", lines, "\n}"), file.path(folder, paste0(fields$name, ".json")))
}

folder <- commandArgs(trailingOnly = TRUE)[1]
if (is.na(folder)) stop("usage: Rscript make_lme4.R OUTPUT_FOLDER")
dir.create(folder, showWarnings = FALSE, recursive = TRUE)
for (m in models) for (method in strsplit(m[4], " ")[[1]]) one(m[1], m[2], m[3], method)
