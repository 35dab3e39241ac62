/**
 * The probability that Student's |t| is at most this, for whole degrees of freedom: a finite sum of powers of
 * cos(atan(t / sqrt(freedom))) (Abramowitz and Stegun 26.7.3 and 26.7.4), to 1e-14.
 *
 * @param freedom degrees of freedom, a whole number of 1 or more
 */
export function studentWithin(t: number, freedom: number): number {
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
