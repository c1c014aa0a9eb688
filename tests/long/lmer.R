# Rscript lmer.R CASES.tsv: fits each line's model with lme4, prints tab-separated lines "case, kind, name, value".
# Columns of CASES.tsv: name, file (CSV), factors (numeric columns that are grouping factors, by comma), formula,
# weights (a column or nothing), method (ml or reml), df (yes: degrees of freedom by lmerTest).
suppressPackageStartupMessages(library(lme4))
with_df <- suppressPackageStartupMessages(requireNamespace("lmerTest", quietly = TRUE))
cases <- read.delim(commandArgs(trailingOnly = TRUE)[1], colClasses = "character", quote = "")
control <- lmerControl(
  optimizer = "bobyqa", calc.derivs = FALSE, check.conv.singular = "ignore",
  optCtrl = list(rhobeg = 0.2, rhoend = 1e-9, maxfun = 1e5)
)
tell <- function(case, kind, name, value) {
  cat(paste(case, kind, name, sprintf("%.17g", value), sep = "\t"), sep = "\n")
}
for (i in seq_len(nrow(cases))) {
  case <- cases[i, ]
  data <- read.csv(case$file, stringsAsFactors = TRUE)
  for (name in strsplit(case$factors, ",")[[1]]) data[[name]] <- factor(data[[name]])
  if (nzchar(case$weights)) data$.weights <- data[[case$weights]] else data$.weights <- 1
  lmer_from <- function(start) {
    lmer(as.formula(case$formula), data, REML = case$method == "reml", weights = .weights, control = control, start = start)
  }
  fit <- lmer_from(NULL)
  # a search that ends at the boundary may be stuck there: the best of several starts
  if (isSingular(fit)) for (size in c(0.1, 0.3, 3)) {
    again <- lmer_from(ifelse(getME(fit, "lower") == 0, size, size / 4))
    if (logLik(again) > logLik(fit)) fit <- again
  }
  tell(case$name, "deviance", "", -2 * as.numeric(logLik(fit)))
  tell(case$name, "singular", "", as.numeric(isSingular(fit)))
  table <- coef(summary(fit))
  tell(case$name, "estimate", rownames(table), table[, "Estimate"])
  tell(case$name, "se", rownames(table), table[, "Std. Error"])
  parts <- as.data.frame(VarCorr(fit))
  tell(case$name, "vcov", paste(parts$grp, parts$var1, parts$var2, sep = "|"), parts$vcov)
  if (with_df && case$df == "yes" && !isSingular(fit)) {
    table <- coef(summary(lmerTest::as_lmerModLmerTest(fit)))
    tell(case$name, "df", rownames(table), table[, "df"])
  }
}
