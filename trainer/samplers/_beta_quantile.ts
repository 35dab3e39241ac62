/** The quantile of the symmetric Beta(a, a) distribution at p of 0 to 1, to 1e-15. */
export function betaQuantile(p: number, a: number): number {
  if (p <= 0) return 0;
  if (p >= 1) return 1;
  // Symmetric: the lower half is enough, where a small x keeps its relative precision.
  if (p > 0.5) return 1 - betaQuantile(1 - p, a);
  let [low, high] = [0, 0.5];
  // Bisection in x: 60 halvings reach a float64's spacing.
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (incompleteBeta(middle, a) < p) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/**
 * The regularised incomplete beta function I_x(a, a) for x up to 1/2. Its series in x (Abramowitz and Stegun 26.5.4)
 * converges like 2^-n there; the constant is what makes I_{1/2} = 1/2.
 */
function incompleteBeta(x: number, a: number): number {
  return 0.5 * unscaled(x, a) / unscaled(0.5, a);
}

/** x^a (1-x)^a (1 + sum of B(a+1, n+1)/B(2a, n+1) x^(n+1)). */
function unscaled(x: number, a: number): number {
  let [term, sum] = [1, 1];
  for (let n = 0; n < 200 && term > 1e-17 * sum; n++) {
    term *= x * (2 * a + n) / (a + 1 + n);
    sum += term;
  }
  return (x * (1 - x)) ** a * sum;
}
