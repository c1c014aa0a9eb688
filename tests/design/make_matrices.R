# Writes matrices.json, the reference for test_matrix.py: Rscript make_matrices.R > matrices.json
# Base R and its package splines only. Every formula is given to model.matrix on `d` and, with what was learned
# there, on `n`: new rows, some outside the range of `d`.
library(splines)
options(warn = -1)
d <- data.frame(
  a = factor(c("a1", "a2", "a2", "a1", "a1", "a2", "a2", "a1", "a2", "a1", "a1", "a2", "a2", "a1")),
  b = factor(c("b1", "b2", "b3", "b3", "b1", "b2", "b1", "b2", "b3", "b1", "b3", "b2", "b3", "b2")),
  c = factor(c("c4", "c1", "c2", "c3", "c1", "c1", "c4", "c2", "c3", "c4", "c2", "c3", "c1", "c2")),
  o = factor(c("low", "mid", "high", "top", "max", "low", "mid", "high", "top", "max", "mid", "mid", "top", "low"),
             levels = c("low", "mid", "high", "top", "max"), ordered = TRUE),
  l = c(TRUE, FALSE, FALSE, TRUE, TRUE, FALSE, TRUE, TRUE, FALSE, TRUE, FALSE, FALSE, TRUE, FALSE),
  x = c(3, 1.5, 4, 7, 2, 9, 6, 5, 3.5, 8, 10, 12, 11, 6.5),
  z = c(0.5, 2, 1, 0.25, 3, 4, 2.5, 1.5, 0.75, 5, 1, 2, 3, 0.5)
)
n <- d[c(2, 5, 3, 14, 9), ]
n$x <- c(-1, 4.25, 20, 2, 11)
n$z <- c(6, 1.25, 0.1, 2, 3)

special <- c(
  "~ 1", "~ 0", "~ x", "~ a", "~ b", "~ c", "~ o", "~ l", "~ 0 + a", "~ 0 + o", "~ 0 + l", "~ 0 + x + a",
  "~ 0 + x + x:a", "~ a:x + a:b", "~ 0 + b:x + a:x", "~ a + a:b + b:o", "~ x:z + a:x:z", "~ a * b * l", "~ 0 + a:b:c",
  "~ x > 3", "~ 0 + (x > 3)", "~ I(x > 3)", "~ I(x > 3):a", "~ x * (z >= 1)", "~ !l", "~ I(!l)", "~ I(l & x > 3)",
  "~ I(l | x > 3)", "~ I(l * x)", "~ as.numeric(l)", "~ I(l)", "~ I(a)", "~ I(a == \"a1\")", "~ I(\"b2\" != b)",
  "~ I(x^2)", "~ I(x^2 * z)", "~ I((x + 1) * 2)", "~ I(-x)", "~ I(-x^2)", "~ I(2^-x)", "~ I(x - (z - 1))", "~ I(x/z/2)",
  "~ I(x %% 3)", "~ I(-x %% 3)", "~ I(-x %/% 3)", "~ I(x%/%0.5)", "~ I(x == 4)", "~ I(x != 4):l", "~ log(x + 2)",
  "~ log(z, 2)", "~ log(z, base = 10)", "~ log(z, 3)", "~ log2(z) + log10(z) + log1p(z)", "~ exp(z) + expm1(z) + sqrt(z)",
  "~ abs(x - 6)", "~ scale(x)", "~ scale(x, scale = FALSE)", "~ scale(x, center = FALSE)", "~ scale(x, center = 2, scale = 3)",
  "~ scale(x, center = FALSE, scale = FALSE)", "~ scale(x):a", "~ scale(log(x + 2)) * b", "~ I(scale(x)^2)", "~ factor(x > 3)", "~ factor(l)",
  "~ factor(z)", "~ ordered(b)", "~ factor(o)", "~ a:ordered(b)",
  "~ poly(x, 1)", "~ poly(x, 2)", "~ poly(x, degree = 3)", "~ poly(x, 5)", "~ poly(x, 2, raw = TRUE)", "~ a * poly(x, 2)",
  "~ poly(x, 2):a", "~ poly(x, 2):poly(z, 2)", "~ poly(log(z), 2)",
  "~ bs(x)", "~ bs(x, df = 4)", "~ bs(x, 6)", "~ bs(x, knots = c(4, 8))", "~ bs(x, knots = 5, degree = 2)", "~ bs(x, degree = 1)",
  "~ 0 + bs(x, df = 5, intercept = TRUE)", "~ bs(x, df = 4, degree = 2):a", "~ bs(log(z), 5)",
  "~ ns(x)", "~ ns(x, df = 1)", "~ ns(x, df = 3)", "~ ns(x, 5)", "~ ns(x, knots = c(4, 8))", "~ ns(x, knots = 6):l",
  "~ 0 + ns(x, df = 4, intercept = TRUE)", "~ ns(log(z), df = 3) * a",
  "~ C(a, contr.sum)", "~ C(b, sum)", "~ C(b, \"contr.sum\")", "~ C(c, helmert)", "~ C(c, contr.helmert):x", "~ C(c, poly)",
  "~ C(b, contr.treatment, base = 2)", "~ C(o, treatment)", "~ C(o)", "~ 0 + C(o)", "~ 0 + C(b, sum)", "~ C(b, sum):a",
  "~ a + C(b, sum):a", "~ C(b, sum) * C(c, helmert)", "~ C(factor(l), sum)", "~ C(factor(x > 3), sum)"
)
set.seed(20)
products <- character(0)
while (length(products) < 80) {
  terms <- replicate(sample(1:4, 1), paste(sample(c("a", "b", "c", "o", "l", "x", "z"), sample(1:3, 1, prob = c(3, 4, 2))),
                                           collapse = sample(c(":", "*"), 1)))
  f <- paste("~", paste(c(sample(c("0", "1"), 1), terms), collapse = " + "))
  if (ncol(model.matrix(as.formula(f), d)) <= 20) products <- c(products, f)
}

number <- function(v) ifelse(v == round(v), sprintf("%.0f", v), sprintf("%.17g", v))
rows <- function(m) paste0("[", paste(apply(m, 1, function(r) paste0("[", paste(number(r), collapse = ","), "]")), collapse = ","), "]")
text <- function(s) paste0("[", paste(encodeString(s, quote = "\""), collapse = ","), "]")
column <- function(v) {
  if (is.numeric(v)) paste0("[", paste(number(v), collapse = ","), "]") else text(as.character(v))
}
frame <- function(f) paste0("{", paste0("\"", names(f), "\":", vapply(f, column, ""), collapse = ","), "}")
case <- function(f) {
  fr <- model.frame(as.formula(f), d)
  m <- model.matrix(attr(fr, "terms"), fr)
  p <- tryCatch(rows(model.matrix(attr(fr, "terms"),
                                  model.frame(attr(fr, "terms"), n, xlev = .getXlevels(attr(fr, "terms"), fr)),
                                  contrasts.arg = attr(m, "contrasts"))),
                error = function(e) "null")
  # R forgets what scale() learned inside another call; factor(z) has new levels in n
  if (f %in% c("~ I(scale(x)^2)", "~ factor(z)")) p <- "null"
  width <- if (ncol(m)) c(rows(m), p) else c("[]", "[]")
  paste0("{\"formula\":", encodeString(f, quote = "\""), ",\"names\":", if (ncol(m)) text(colnames(m)) else "[]",
         ",\"labels\":", if (length(attr(attr(fr, "terms"), "term.labels"))) text(attr(attr(fr, "terms"), "term.labels")) else "[]",
         ",\"assign\":[", paste(attr(m, "assign"), collapse = ","), "],\n \"matrix\":", width[1], ",\n \"new\":", width[2], "}")
}
cat("{\"made_by\":", encodeString(paste(R.version.string, "- Rscript make_matrices.R"), quote = "\""),
    ",\n\"data\":", frame(d), ",\n\"newdata\":", frame(n), ",\n\"cases\":[\n", sep = "")
cat(vapply(c(special, products), case, ""), sep = ",\n")
cat("]}\n")
