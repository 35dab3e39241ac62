import assert from "node:assert/strict";
import { Counter, formatMetrics, gauge, Histogram, serveMetrics } from "./mod.ts";

Deno.test("Counters, gauges and histograms are written as Prometheus reads them", () => {
  const counter = new Counter("a_total", "Things.");
  counter.add({ name: 'quoted "x"\\\n' });
  counter.add({ name: 'quoted "x"\\\n' }, 2);
  const empty = new Counter("b_total", "Nothing yet.");
  const seconds = new Histogram("c_seconds", "Durations.");
  for (const value of [0.004, 0.005, 3, 100]) seconds.observe({ reward: "clip" }, value);
  const up = gauge("up", "Up.", { samples: [[{}, Infinity], [{ x: 1 }, NaN]] });
  const text = formatMetrics([counter.family(), empty.family(), seconds.family(), up]);
  assert.ok(text.startsWith(
    "# HELP a_total Things.\n# TYPE a_total counter\n" +
      'a_total{name="quoted \\"x\\"\\\\\\n"} 3\n# HELP b_total Nothing yet.\n# TYPE b_total counter\n',
  ));
  const buckets = [...text.matchAll(/^c_seconds_bucket\{reward="clip",le="(.*)"\} (\d+)$/gm)];
  // Cumulative; a bound belongs to its bucket.
  assert.deepEqual(buckets.map(([, le, n]) => `${le}: ${n}`), [
    ...["0.005: 2", "0.01: 2", "0.025: 2", "0.05: 2", "0.1: 2", "0.25: 2", "0.5: 2", "1: 2"],
    ...["2.5: 2", "5: 3", "10: 3", "30: 3", "60: 3", "+Inf: 4"],
  ]);
  assert.match(text, /^c_seconds_sum\{reward="clip"\} 103\.009$/m);
  assert.match(text, /^c_seconds_count\{reward="clip"\} 4$/m);
  assert.match(text, /^up \+Inf\nup\{x="1"\} NaN\n/m);
});

Deno.test("Metrics are served beside what the process takes; a port in use is said at start", async () => {
  const counter = new Counter("a_total", "Things.");
  const server = serveMetrics(() => [counter.family()], { host: "127.0.0.1", port: 0 });
  counter.add({});
  const response = await fetch(`http://${server.address}/metrics`);
  assert.equal(response.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  const text = await response.text();
  assert.match(text, /^a_total 1$/m);
  for (const name of ["resident_memory_bytes", "cpu_seconds_total", "start_time_seconds"]) {
    assert.match(text, new RegExp(`^process_${name} \\d{1,12}`, "m"));
  }
  const other = await fetch(`http://${server.address}/`);
  assert.deepEqual([other.status, await other.text()], [404, "Not found, expected /metrics\n"]);
  const port = Number(server.address.split(":")[1]);
  assert.throws(
    () => serveMetrics(() => [], { host: "127.0.0.1", port }),
    /^Error: Cannot serve metrics on 127\.0\.0\.1:\d+: the port is in use$/,
  );
  await server.stop();
});
