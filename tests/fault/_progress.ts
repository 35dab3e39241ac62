/** "37 of 1000, 41 min left" by the pace of this work so far. */
export function progress(
  done: number,
  { of, begun, now = performance.now() }: {
    readonly of: number;
    /** When the first began, in milliseconds. */
    readonly begun: number;
    readonly now?: number;
  },
): string {
  const left = done === 0 ? Infinity : (now - begun) / done * (of - done) / 1000;
  return `${done} of ${of}, ${duration(left)} left`;
}

/** Seconds as people say them. */
function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "unknown time";
  if (seconds < 90) return `${seconds.toFixed(0)} s`;
  if (seconds < 5400) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
