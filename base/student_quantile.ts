/**
 * The two-sided 95 % quantile of Student's t, that is the 97.5 % quantile, to 1e-12.
 *
 * For whole degrees of freedom the distribution is a finite sum of powers of cos(atan(t / sqrt(freedom)))
 * (Abramowitz and Stegun 26.7.3 and 26.7.4), which halving of an interval inverts.
 *
 * @param freedom degrees of freedom, a whole number of 1 or more
 */
export function studentQuantile(freedom: number): number {
  let [low, high] = [0, 13];
  while (high - low > 1e-13 * high) {
    const middle = (low + high) / 2;
    if (middle <= low || middle >= high) break;
    if (within(middle, freedom) < 0.95) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** The probability that |t| is at most this. */
function within(t: number, freedom: number): number {
  const angle = Math.atan(t / Math.sqrt(freedom));
  const [sine, cosine] = [Math.sin(angle), Math.cos(angle)];
  const isOdd = freedom % 2 === 1;
  let term = isOdd ? cosine : 1;
  let sum = freedom === 1 ? 0 : term;
  for (let k = isOdd ? 3 : 2; k < freedom; k += 2) {
    term *= (k - 1) / k * cosine * cosine;
    sum += term;
    if (term < 1e-18 * sum) break;
  }
  return isOdd ? 2 / Math.PI * (angle + sine * sum) : sine * sum;
}
