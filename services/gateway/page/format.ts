const MINUS = "−";

/** Seconds of a unit, of the one below it, and their names. */
const UNITS = [
  [60, 1, "min", "s"],
  [3600, 60, "h", "min"],
  [86400, 3600, "d", "h"],
] as const;

/** A number with so many significant digits, without exponent where it can be read. */
export function number(value: number, digits = 4): string {
  if (!Number.isFinite(value)) {
    return Number.isNaN(value) ? "not a number" : value > 0 ? "∞" : `${MINUS}∞`;
  }
  const size = Math.abs(value);
  const power = Math.floor(Math.log10(size));
  const text = size !== 0 && (size < 1e-4 || size >= 1e7)
    ? value.toExponential(digits - 1).replace("e+", "e")
    : Number.isInteger(value)
    ? String(value)
    // Values of one kind have as many decimals; smaller ones more, so that two digits are left.
    : value.toFixed(power < 0 ? Math.max(digits - 1, 1 - power) : Math.max(0, digits - 1 - power));
  return text.replaceAll("-", MINUS);
}

/** As `number`, with a sign. */
export function signed(value: number, digits = 4): string {
  return value > 0 ? `+${number(value, digits)}` : number(value, digits);
}

/** "1.24 s", "3 min 20 s", "2 h 5 min", "3 d 4 h". */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return "–";
  if (seconds < 0.0995) return `${number(seconds * 1000, 3)} ms`;
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  const whole = Math.round(seconds);
  // Rounded before the unit is chosen, or 59.9 min would be 60 min.
  const unit = UNITS.findLast(([large, small]) => Math.round(seconds / small) * small >= large);
  if (unit === undefined) return `${whole} s`;
  const [large, small, first, second] = unit;
  const count = Math.round(seconds / small);
  const [a, b] = [Math.floor(count * small / large), count % (large / small)];
  return b === 0 ? `${a} ${first}` : `${a} ${first} ${b} ${second}`;
}

/** "just now", "5 min ago", "3 d ago". */
export function ago(time: string | undefined, now = Date.now()): string {
  if (time === undefined) return "–";
  const seconds = Math.max(0, (now - Date.parse(time)) / 1000);
  if (seconds < 10) return "just now";
  return `${duration(seconds).split(" ").slice(0, 2).join(" ")} ago`;
}

/** A date and time as people here write it. */
export function dateTime(time: string | undefined): string {
  if (time === undefined) return "–";
  return new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** "42 %". */
export function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

/** The first characters of a digest. */
export function shortDigest(digest: string): string {
  return digest.slice(0, 12);
}

/** "RUN_STATE_RUNNING" as people say it. */
export function stateName(state: string): string {
  return state.replace("RUN_STATE_", "").toLowerCase();
}
