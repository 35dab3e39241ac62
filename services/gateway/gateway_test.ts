import assert from "node:assert/strict";
import { join } from "node:path";
import { RunState } from "../../proto/mod.ts";
import { createLogger } from "../../base/mod.ts";
import { createGateway, type Gateway, type GatewayOptions } from "./gateway.ts";
import type { Route } from "./route.ts";
import { type FakeStack, startFakeStack } from "./testing/fake_stack.ts";

const TOKEN = "a-token-of-enough-characters";
const log = createLogger({ level: "silent" });

/** Asks a gateway in front of a fake stack. */
interface Asker {
  readonly gateway: Gateway;
  readonly stack: FakeStack;
  ask(path: string, options?: RequestInit): Promise<Response>;
}

async function withGateway(
  test: (asker: Asker) => Promise<void>,
  options: Partial<GatewayOptions> = {},
): Promise<void> {
  await using stack = await startFakeStack();
  const { address: trainer, rewards, runs } = stack;
  const gateway = await createGateway({ trainer, rewards, runs, log, ...options });
  const ask = async (path: string, options?: RequestInit) =>
    await gateway.fetch(new Request(`http://localhost:8080${path}`, options));
  try {
    await test({ gateway, stack, ask });
  } finally {
    gateway.stop();
    gateway.close();
  }
}

function post(body: unknown, type = "application/json"): RequestInit {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return { method: "POST", body: text, headers: { "content-type": type } };
}

async function errorOf(response: Response): Promise<[status: number, error: unknown]> {
  return [response.status, (await response.json()).error];
}

interface Received {
  readonly event: string;
  readonly id?: string;
  // deno-lint-ignore no-explicit-any -- tests look into it
  readonly data: any;
}

async function* eventsOf(response: Response): AsyncIterable<Received> {
  assert.equal(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  let text = "";
  for await (
    const chunk of (response.body ?? new ReadableStream()).pipeThrough(new TextDecoderStream())
  ) {
    text += chunk;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const lines = text.slice(0, end).split("\n").map((line) => line.split(/: (.*)/s, 2));
      const { event = "", data = "null", id } = Object.fromEntries(lines);
      yield { event, data: JSON.parse(data), ...(id !== undefined && { id }) };
    }
  }
}

Deno.test("The verbs of the trainer are routes", () =>
  withGateway(async ({ ask }) => {
    const { runs } = await (await ask("/v1/runs")).json();
    assert.deepEqual(runs.map(({ id }: { id: string }) => id), ["foxes"]);

    const config = {
      model: "pipeline",
      max_iterations: undefined,
      iterations: 3,
      lora: { rank: 4 },
    };
    const started = await ask("/v1/runs", post({ runId: "new", config }));
    assert.equal(started.status, 201);
    assert.equal((await started.json()).created, true);
    const again = await ask("/v1/runs", post({ run_id: "new", config }));
    assert.deepEqual([again.status, (await again.json()).created], [200, false]);

    const { run } = await (await ask("/v1/runs/new")).json();
    assert.deepEqual([run.id, run.iterations, run.config.lora.rank], ["new", 3, 4]);
    assert.equal((await ask("/v1/runs/new", { method: "DELETE" })).status, 409);
    const stopped = await (await ask("/v1/runs/new/stop", { method: "POST" })).json();
    assert.equal(stopped.run.state, "RUN_STATE_STOPPED");
    const resumed = await (await ask("/v1/runs/new/resume", post({ iterations: 5 }))).json();
    assert.deepEqual([resumed.run.state, resumed.run.iterations], ["RUN_STATE_RUNNING", 5]);

    const term = { name: "clip", endpoint: "127.0.0.1:1", weight: 0.3 };
    const swap = await (await ask("/v1/runs/new/swap", post({ set: term }))).json();
    assert.deepEqual(swap.rewards.map(({ name }: { name: string }) => name), ["symmetry", "clip"]);
    const save = await (await ask("/v1/runs/new/save", { method: "POST" })).json();
    assert.equal(save.step, resumed.run.step);
    await ask("/v1/runs/new/stop", { method: "POST" });
    assert.equal((await ask("/v1/runs/new/save", { method: "POST" })).status, 409);
    assert.equal((await ask("/v1/runs/new", { method: "DELETE" })).status, 200);
    assert.deepEqual(await errorOf(await ask("/v1/runs/new")), [404, {
      code: "NOT_FOUND",
      message: "No run new",
    }]);
  }));

Deno.test("A run may be started with YAML", () =>
  withGateway(async ({ ask }) => {
    const yaml = "run_id: y\nconfig:\n  model: pipeline\n  optimizer: { learning_rate: 5.0e-4 }\n";
    assert.equal((await ask("/v1/runs", post(yaml, "application/yaml"))).status, 201);
    const { run } = await (await ask("/v1/runs/y")).json();
    assert.equal(run.config.optimizer.learningRate, 5e-4);
  }));

Deno.test("Bad requests are told what is wrong, and where", () =>
  withGateway(async ({ ask }) => {
    const cases: [RequestInit, number, { message: string | RegExp; [key: string]: unknown }][] = [
      [post({ runId: "a", config: { lora: { rank: "many" } } }), 400, {
        message: 'Field config.lora.rank is "many", expected a number',
        field: "config.lora.rank",
        line: 1,
      }],
      [post("run_id: a\nconfig:\n  batch:\n    size: 1.5\n", "text/yaml"), 400, {
        message: "Field config.batch.size is 1.5, expected a whole number",
        field: "config.batch.size",
        line: 4,
      }],
      [post({ runId: "a", config: { lora: { ranks: 4 } } }), 400, {
        message: "Field config.lora.ranks is not known here, did you mean rank?",
        field: "config.lora.ranks",
        line: 1,
      }],
      [post({ config: { prompts: { file: "a", list: { prompts: ["b"] } } } }), 400, {
        message: "Field config.prompts.file stands beside list, expected one of list, file",
        field: "config.prompts.file",
        line: 1,
      }],
      [post({ config: { guidance: { gradient: "NONE" } } }), 400, {
        message: 'Field config.guidance.gradient is "NONE", expected one of ' +
          "GUIDANCE_GRADIENT_UNSPECIFIED, GUIDANCE_GRADIENT_BOTH, GUIDANCE_GRADIENT_CONDITIONAL, " +
          "GUIDANCE_GRADIENT_NONE",
        field: "config.guidance.gradient",
        line: 1,
      }],
      // Refused by the trainer itself.
      [post({ runId: "a" }), 400, {
        message: 'Field model is "", expected a model folder',
        field: "model",
      }],
      [post([1]), 400, { message: "Body is a list, expected an object" }],
      [post("{", "application/json"), 400, {
        message: "Line 1, column 2: Body is not JSON, it ends there",
        line: 1,
      }],
      [post("a: [", "application/yaml"), 400, { message: /^Line 1: /, line: 1 }],
      [post(bomb(), "application/yaml"), 400, {
        message: "Line 12: More than 100 aliases",
        line: 12,
      }],
      [post("a", "text/plain"), 415, {
        message: "Content-Type is text/plain, expected application/json or application/yaml",
      }],
      [post(`{"runId": "${"x".repeat(2 ** 20)}"}`), 413, {
        code: "RESOURCE_EXHAUSTED",
        message: "Body is larger than 1048576 bytes",
      }],
    ];
    for (const [request, status, expected] of cases) {
      const [found, error] = await errorOf(await ask("/v1/runs", request));
      const { message, ...rest } = expected;
      assert(typeof error === "object" && error !== null && "message" in error);
      const { message: text, ...others } = error;
      if (message instanceof RegExp) assert.match(String(text), message);
      else assert.equal(text, message);
      assert.deepEqual([found, others], [status, { code: "INVALID_ARGUMENT", ...rest }]);
    }
    assert.deepEqual(await errorOf(await ask("/v1/runs/foxes/events?fromStep=x")), [400, {
      code: "INVALID_ARGUMENT",
      message: 'Field fromStep is "x", expected a number',
      field: "fromStep",
    }]);
    assert.deepEqual(await errorOf(await ask("/v1/runs/foxes/lora?steps=1")), [400, {
      code: "INVALID_ARGUMENT",
      message: "Field steps is not known here, expected one of runId, step, format, precision",
      field: "steps",
    }]);
    assert.equal((await ask("/v1/runs/foxes/stop", post({ runId: "other" }))).status, 400);
  }));

/** Thirteen lines that stand for 10^12 values. */
function bomb(): string {
  const lines = Array.from(
    { length: 12 },
    (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i},`.repeat(10)}]`,
  );
  return ["a0: &a0 x", ...lines].join("\n");
}

Deno.test("Unknown paths and methods are errors in JSON too", () =>
  withGateway(async ({ ask }) => {
    const [status, error] = await errorOf(await ask("/v1/nothing"));
    assert.deepEqual([status, error], [404, {
      code: "NOT_FOUND",
      message: "No route GET /v1/nothing; see /openapi.json",
    }]);
    const put = await ask("/v1/runs/foxes", { method: "PUT" });
    assert.equal(put.headers.get("allow"), "GET, DELETE");
    assert.deepEqual(await errorOf(put), [405, {
      code: "UNIMPLEMENTED",
      message: "Method is PUT, expected GET, DELETE",
    }]);
  }));

Deno.test("A run's events are replayed from a step, then end with the run", () =>
  withGateway(async ({ ask }) => {
    const replay = async (query: string, headers = {}) => {
      const events = [];
      for await (const event of eventsOf(await ask(`/v1/runs/foxes/events${query}`, { headers }))) {
        events.push(event);
      }
      return events;
    };
    const all = await replay("");
    const steps = all.filter(({ event }) => event === "step");
    assert.deepEqual(
      steps.map(({ data }) => data.step),
      Array.from({ length: 21 }, (_, i) => i),
    );
    assert.deepEqual(steps.map(({ id }) => id), steps.map(({ data }) => String(data.step)));
    assert.deepEqual(all.filter(({ event }) => event !== "step").map(({ event }) => event), [
      "state",
      "checkpoint",
      "swap",
      "checkpoint",
      "state",
      "end",
    ]);
    assert.equal(all[0]?.data.state, "RUN_STATE_FINISHED");
    const tail = (events: Received[]) => events.filter(({ event }) => event === "step").length;
    assert.equal(tail(await replay("?fromStep=19")), 2);
    assert.equal(tail(await replay("?fromStep=1", { "last-event-id": "19" })), 1);
    assert.equal((await ask("/v1/runs/none/events")).status, 404);
  }));

Deno.test("New events arrive while a run goes on, and stopping the gateway ends the stream", () =>
  withGateway(async ({ ask, gateway, stack }) => {
    await stack.trainer.add({ id: "live", state: RunState.RUNNING });
    const events = eventsOf(await ask("/v1/runs/live/events"))[Symbol.asyncIterator]();
    assert.equal((await events.next()).value?.event, "state");
    for (const step of [0, 1, 2]) {
      if (step > 0) await stack.trainer.step("live");
      assert.equal((await events.next()).value?.data.step, step);
    }
    assert.match(await (await ask("/metrics")).text(), /^drtune_gateway_streams 1$/m);
    gateway.stop();
    assert.deepEqual((await events.next()).value, {
      event: "error",
      data: { error: { code: "UNAVAILABLE", message: "The gateway is stopping" } },
    });
    assert.equal((await events.next()).done, true);
    assert.match(await (await ask("/metrics")).text(), /^drtune_gateway_streams 0$/m);
    assert.equal((await ask("/readyz")).status, 503);
    assert.equal((await ask("/healthz")).status, 200);
  }));

Deno.test("Images are drawn, runs evaluated and LoRAs downloaded", () =>
  withGateway(async ({ ask }) => {
    const drawn = [];
    const request = { prompts: ["a", "b"], step: 20 };
    for await (
      const { event, data } of eventsOf(await ask("/v1/runs/foxes/sample", post(request)))
    ) {
      if (event === "message") drawn.push([data.prompt, data.png.slice(0, 8)]);
    }
    assert.deepEqual(drawn, [["a", "iVBORw0K"], ["b", "iVBORw0K"]]);
    assert.equal((await ask("/v1/runs/foxes/sample", post({ step: 3 }))).status, 404);

    const names = [];
    for await (const { event } of eventsOf(await ask("/v1/runs/foxes/evaluate", post({})))) {
      names.push(event);
    }
    assert.deepEqual(names, ["pair", "pair", "pair", "pair", "summary", "end"]);

    const lora = await ask("/v1/runs/foxes/lora?step=10&format=LORA_FORMAT_KOHYA");
    assert.equal(
      lora.headers.get("content-disposition"),
      'attachment; filename="pytorch_lora_weights.safetensors"',
    );
    assert.deepEqual([lora.headers.get("x-step"), lora.headers.get("content-length")], ["10", "6"]);
    assert.deepEqual(await lora.bytes(), Uint8Array.of(1, 2, 3, 4, 5, 6));
  }));

Deno.test("Sample images: only what a run's events name, inside its folder, no links", () =>
  withGateway(async ({ ask, stack }) => {
    const { runs } = stack;
    const image = await ask("/v1/runs/foxes/images/samples/step-000020/0.png");
    assert.equal(image.headers.get("content-type"), "image/png");
    const file = join(runs, "foxes/samples/step-000020/0.png");
    assert.deepEqual(await image.bytes(), await Deno.readFile(file));
    const etag = image.headers.get("etag") ?? "";
    const cached = await ask("/v1/runs/foxes/images/samples/step-000020/0.png", {
      headers: { "if-none-match": etag },
    });
    assert.equal(cached.status, 304);

    await stack.trainer.add({ id: "young", state: RunState.RUNNING });
    assert.equal((await ask("/v1/runs/young/images/samples/step-000000/0.png")).status, 200);

    await Deno.writeTextFile(join(runs, "secret.txt"), "secret");
    await Deno.writeTextFile(join(runs, "foxes/config.json"), "secret");
    for (
      const path of [
        "foxes/images/config.json",
        "foxes/images/samples/step-000020/9.png",
        "foxes/images/samples/step-000020",
        "foxes/images/..%2Fsecret.txt",
        "foxes/images/samples%2F..%2F..%2Fsecret.txt",
        "foxes/images/%2Fetc%2Fpasswd",
        "..%2Fruns%2Ffoxes/images/samples/step-000020/0.png",
        "foxes%00/images/samples/step-000020/0.png",
        "none/images/samples/step-000020/0.png",
      ]
    ) assert.equal((await ask(`/v1/runs/${path}`)).status, 404, path);

    // Even a path that the events name, once there is a link in it.
    await Deno.remove(file);
    await Deno.symlink(join(runs, "secret.txt"), file);
    assert.equal((await ask("/v1/runs/foxes/images/samples/step-000020/0.png")).status, 404);
    await Deno.rename(join(runs, "foxes/samples/step-000010"), join(runs, "elsewhere"));
    await Deno.symlink(join(runs, "elsewhere"), join(runs, "foxes/samples/step-000010"));
    assert.equal((await ask("/v1/runs/foxes/images/samples/step-000010/0.png")).status, 404);
  }));

Deno.test("The verbs of a reward are routes", () =>
  withGateway(async ({ ask }) => {
    const { rewards } = await (await ask("/v1/rewards/clip")).json();
    assert.equal(rewards[0].digest, "0f".repeat(32));
    assert.deepEqual(await errorOf(await ask("/v1/rewards/other")), [404, {
      code: "NOT_FOUND",
      message: "No reward server other; there are: symmetry, clip",
    }]);

    const encoded = (bytes: number) => ({ encoded: new Uint8Array(bytes).toBase64() });
    const body = post({ images: [encoded(5), encoded(7)], prompts: ["a"] });
    assert.deepEqual((await (await ask("/v1/rewards/clip/score", body)).json()).scores, [5, 7]);
    assert.deepEqual((await (await ask("/v1/rewards/clip/gradient", body)).json()).scores, [5, 7]);
    const tensor = { images: [{ tensor: { shape: [1] } }] };
    assert.equal((await ask("/v1/rewards/clip/score", post(tensor))).status, 400);

    const form = new FormData();
    form.append("image", new Blob([new Uint8Array(9)]), "a.png");
    form.append("prompt", "a cat");
    const scored = await ask("/v1/rewards/clip/score", { method: "POST", body: form });
    assert.deepEqual((await scored.json()).scores, [9]);
    form.append("images", "x");
    const wrong = await ask("/v1/rewards/clip/score", { method: "POST", body: form });
    assert.deepEqual(await errorOf(wrong), [400, {
      code: "INVALID_ARGUMENT",
      message: "Field images is not known here, expected one of image, prompt, reward",
      field: "images",
    }]);

    const lines = [3, 4].map((n) => JSON.stringify({ index: n, image: encoded(n * 10) })).join(
      "\n",
    );
    const answers = [];
    const stream = await ask("/v1/rewards/clip/evaluate", post(lines, "application/x-ndjson"));
    for await (const { event, data } of eventsOf(stream)) {
      if (event === "message") answers.push([data.index, data.evaluation.score]);
    }
    assert.deepEqual(answers, [[3, 30], [4, 40]]);
    const broken = await ask("/v1/rewards/clip/evaluate", post('{"index": "x"}'));
    assert.deepEqual((await errorOf(broken))[1], {
      code: "INVALID_ARGUMENT",
      message: 'Line 1: Field index is "x", expected a number',
      field: "index",
      line: 1,
    });
  }));

Deno.test("The overview tells what there is, then what changes", () =>
  withGateway(async ({ ask, stack }) => {
    await stack.stopReward("clip");
    const events = eventsOf(await ask("/v1/overview"))[Symbol.asyncIterator]();
    const next = async () => (await events.next()).value;
    const first = [];
    for (let event; event?.event !== "ready";) first.push(event = await next());
    const services = first.find((event) => event?.event === "services")?.data;
    assert.deepEqual([services.trainer.ready, services.trainer.address], [true, stack.address]);
    assert.deepEqual(
      services.rewards.map((r: Record<string, unknown>) => [r.name, r.ready]),
      [["symmetry", true], ["clip", false]],
    );
    assert.match(
      services.rewards[1].reason,
      /^Cannot connect to 127\.0\.0\.1:\d+: nothing listens there$/,
    );
    assert.equal(services.rewards[0].rewards[0].digest, "0f".repeat(32));
    assert.deepEqual(
      first.filter((event) => event?.event === "run").map((event) => event?.data.id),
      ["foxes"],
    );
    await stack.trainer.add({ id: "second", state: RunState.RUNNING, steps: 2 });
    const changed = await next();
    assert.deepEqual([changed?.event, changed?.data.id, changed?.data.step], ["run", "second", 2]);
    await ask("/v1/runs/second/stop", { method: "POST" });
    await ask("/v1/runs/second", { method: "DELETE" });
    let last;
    do last = await next(); while (last?.event !== "deleted");
    assert.deepEqual(last.data, { id: "second" });
    await events.return?.();
  }));

Deno.test("Presets can be started as they are; where they are wrong, the line is told", () =>
  withGateway(async ({ ask, stack }) => {
    const { presets } = await (await ask("/v1/presets")).json();
    const symmetry = presets.find(({ name }: { name: string }) => name === "symmetry");
    assert.match(symmetry.description, /^Mirror symmetry/);
    const checked = await ask("/v1/configs/check", post(symmetry.yaml, "application/yaml"));
    const { rewards } = await checked.json();
    assert.deepEqual(rewards.map(({ name }: { name: string }) => name), [...stack.rewards.keys()]);
    const file = new URL("../../configs/symmetry.yaml", import.meta.url);
    assert.equal(symmetry.yaml, await Deno.readTextFile(file));
    const wrong = symmetry.yaml.replace("seed: 0", "seed: -1");
    const [status, error] = await errorOf(
      await ask("/v1/configs/check", post(wrong, "application/yaml")),
    );
    const line = symmetry.yaml.split("\n").indexOf("seed: 0") + 1;
    assert.deepEqual([status, error], [400, {
      code: "INVALID_ARGUMENT",
      message: "Field seed is -1, expected 0 or more",
      field: "seed",
      line,
    }]);
  }));

Deno.test("Fields of a configuration change in its text, where all else stays; runs are planned by HTTP", () =>
  withGateway(async ({ ask }) => {
    const yaml = "# mine\nmodel: pipeline # tiny\nlora: { rank: 4 }\nsample_every: 5\n";
    const edit = async (changes: unknown, text = yaml) =>
      await ask(
        "/v1/configs/edit",
        post(JSON.stringify({ yaml: text, changes }), "application/json"),
      );
    const changes = [
      { path: ["lora", "rank"], value: 8 },
      { path: ["sampleEvery"], value: 10 },
      { path: ["method", "k"], value: 2 },
      { path: ["lora", "rankPattern"], value: { to_q: 4 } },
    ];
    const answer = await (await edit(changes)).json();
    assert.equal(
      answer.yaml,
      "# mine\nmodel: pipeline # tiny\nlora: { rank: 8, rankPattern: { to_q: 4 } }\nsample_every: 10\nmethod:\n  k: 2\n",
    );
    assert.deepEqual([answer.config.lora.rank, answer.config.method.k], [8, 2]);
    // Keys of maps are no fields.
    assert.deepEqual(answer.config.lora.rankPattern, { to_q: 4 });
    // What is taken away takes along what would be empty.
    const back = await (await edit([{ path: ["method", "k"], value: null }], answer.yaml)).json();
    assert.doesNotMatch(back.yaml, /method/);
    assert.deepEqual(await errorOf(await edit([], "model: a\nlora:\n  rank: x\n")), [400, {
      code: "INVALID_ARGUMENT",
      message: 'Field lora.rank is "x", expected a number',
      field: "lora.rank",
      line: 3,
    }]);
    const aliased = "lora: &same {}\noptimizer: *same\n";
    const [status, error] = await errorOf(await edit([{ path: ["lora"], value: null }], aliased));
    assert.equal(status, 400);
    assert.match(
      JSON.stringify(error),
      /"Field changes cannot be made in this text: Unresolved alias/,
    );
    assert.deepEqual(await errorOf(await edit([{ path: [], value: 1 }])), [400, {
      code: "INVALID_ARGUMENT",
      message: "Field changes.0.path is [], expected at least 1 entries",
      field: "changes.0.path",
    }]);

    const config = { model: "pipeline", batch: { size: 4 } };
    const plan = await (await ask("/v1/plan", post(JSON.stringify({ config }), "application/json")))
      .json();
    assert.deepEqual([plan.memory, plan.secondsPerIteration, plan.missing], [1, 2, []]);
    const { models } = await (await ask("/v1/trainer")).json();
    assert.deepEqual(models.map(({ path }: { path: string }) => path), [
      ...["pipeline", "flow_pipeline", "broken"],
    ]);
  }));

Deno.test("Health and metrics say how the gateway and its runs are", () =>
  withGateway(async ({ ask }) => {
    assert.deepEqual(await (await ask("/readyz")).json(), { status: "ok" });
    await ask("/v1/runs/none");
    await ask("/made/up");
    const text = await (await ask("/metrics")).text();
    for (
      const line of [
        'drtune_gateway_requests_total{method="GET",route="/readyz",status="200"} 1',
        'drtune_gateway_requests_total{method="other",route="none",status="404"} 2',
        "drtune_trainer_up 1",
        'drtune_run_step{run="foxes"} 20',
        'drtune_run_state{run="foxes",state="finished"} 1',
      ]
    ) assert(text.split("\n").includes(line), line);
    assert.match(text, /^drtune_run_reward\{run="foxes",reward="symmetry"\} 0\.\d+$/m);
    assert.doesNotMatch(text, /made|none"\} 1/);
  }));

Deno.test("Without its trainer the gateway lives, is not ready, and says why", () =>
  withGateway(async ({ ask }) => {
    assert.equal((await ask("/healthz")).status, 200);
    const [status, error] = await errorOf(await ask("/readyz"));
    assert.equal(status, 503);
    assert.deepEqual(error, {
      code: "UNAVAILABLE",
      message: "The trainer does not answer; GET /v1/services says why",
    });
    assert.equal((await ask("/v1/runs")).status, 503);
    assert.match(await (await ask("/metrics")).text(), /^drtune_trainer_up 0$/m);
  }, { trainer: "127.0.0.1:9" }));

/** A request for each row of the route table. */
function requestOf({ path, method }: Route): [path: string, options: RequestInit] {
  const filled = path.replaceAll(/\{(\w+)\}/g, "foxes");
  return [filled, { method: method.toUpperCase() }];
}

Deno.test("With a token, every route asks for it but those that probes ask", () =>
  withGateway(async ({ ask, gateway }) => {
    assert(gateway.routes.length >= 24);
    for (const path of ["/healthz", "/readyz"]) {
      const answered = await ask(path);
      assert.deepEqual([answered.status, await answered.text()], [200, '{"status":"ok"}']);
    }
    for (const route of gateway.routes.filter(({ path }) => !/^\/(?:health|ready)z$/.test(path))) {
      const [path, options] = requestOf(route);
      for (
        const authorization of [
          undefined,
          "",
          TOKEN,
          "Bearer",
          `Bearer ${TOKEN}x`,
          `Basic ${TOKEN}`,
        ]
      ) {
        const headers = authorization === undefined ? {} : { authorization };
        const response = await ask(path, { ...options, headers });
        assert.equal(response.status, 401, `${options.method} ${path} ${authorization}`);
        assert.equal((await response.json()).error.code, "UNAUTHENTICATED");
        assert.match(response.headers.get("www-authenticate") ?? "", /^Bearer/);
      }
      const response = await ask(path, {
        ...options,
        headers: { authorization: `Bearer ${TOKEN}` },
      });
      await response.body?.cancel();
      assert.notEqual(response.status, 401, path);
    }
    assert.equal((await ask(`/v1/runs?token=${TOKEN}`)).status, 401);
    const image = "/v1/runs/foxes/images/samples/step-000020/0.png";
    assert.equal((await ask(image)).status, 401);
    assert.equal((await ask("/v1/nothing")).status, 401);
    // The page that asks for the token holds nothing else.
    assert.equal((await ask("/")).status, 200);
  }, { token: TOKEN }));

Deno.test("Without a token, pages of other sites are refused", () =>
  withGateway(async ({ ask }) => {
    const stop = (headers: Record<string, string>) =>
      ask("/v1/runs/foxes/stop", { method: "POST", headers });
    assert.equal((await stop({ origin: "http://localhost:8080" })).status, 200);
    for (
      const headers of [
        { origin: "http://evil.example" },
        { origin: "null" },
        { origin: "http://localhost:8081" },
        { "sec-fetch-site": "cross-site" },
        // Somebody else's name that points here.
        { host: "evil.example", origin: "http://evil.example" },
      ]
    ) assert.deepEqual((await stop(headers)).status, 403, JSON.stringify(headers));
  }));

Deno.test("Every answer carries the policy that keeps the page to its own programs", () =>
  withGateway(async ({ ask }) => {
    for (const path of ["/", "/page/index.html", "/openapi.json", "/v1/runs", "/nothing"]) {
      const { headers } = await ask(path);
      const policy = headers.get("content-security-policy") ?? "";
      for (const part of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"]) {
        assert.ok(policy.split("; ").includes(part), `${path}: ${policy}`);
      }
      assert.equal(headers.get("x-content-type-options"), "nosniff", path);
      assert.equal(headers.get("x-frame-options"), "DENY", path);
    }
  }));

Deno.test("The OpenAPI document lists every route, and every word of it is explained", () =>
  withGateway(async ({ ask, gateway }) => {
    const document = await (await ask("/openapi.json")).json();
    assert.equal(document.openapi, "3.1.0");
    const listed = Object.entries<Record<string, unknown>>(document.paths)
      .flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method} ${path}`));
    assert.deepEqual(
      listed.sort(),
      gateway.routes.map(({ method, path }) => `${method} ${path}`).sort(),
    );
    const ids = gateway.routes.map(({ operationId }) => operationId);
    assert.equal(new Set(ids).size, ids.length);
    for (const verb of ["startRun", "watchRun", "sample", "exportLora", "scoreAndGradient"]) {
      assert(ids.includes(verb), verb);
    }

    assert.deepEqual(Object.keys(document.paths["/v1/runs"].post.responses), [
      "200",
      "201",
      "default",
    ]);

    const { schemas } = document.components;
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]*)"/g)];
    assert(references.length > 50);
    for (const [, reference = ""] of references) {
      const [, kind = "", name = ""] = /^#\/components\/(\w+)\/(\w+)$/.exec(reference) ?? [];
      assert(document.components[kind]?.[name], reference);
    }
    assert.doesNotMatch(JSON.stringify(document), /\$id|\$schema|inline:/);
    for (const [name, schema] of Object.entries<Record<string, unknown>>(schemas)) {
      assert(schema.description, name);
      const properties = name === "Services" ? {} : schema.properties ?? {};
      for (const [field, property] of Object.entries(properties)) {
        assert(property.description, `${name}.${field}`);
      }
    }
    assert.match(schemas.LoraConfig.properties.rank.description, /^1 to 4096\. Default 16/);
    assert.match(schemas.RunState.description, /- `RUN_STATE_PAUSED`: A reward is away/);
    assert.equal(schemas.StopRunRequestBody, undefined);
  }));
