import assert from "node:assert/strict";
import { createLogger } from "../../base/mod.ts";
import { createGateway, type Gateway } from "./gateway.ts";
import type { Route } from "./route.ts";
import { startFakeStack } from "./testing/fake_stack.ts";

/** What is wrong, and how it is answered. */
interface Case {
  readonly what: string;
  readonly applies: (route: Route) => boolean;
  readonly request: (route: Route) => [path: string, options: RequestInit];
  readonly status: number;
  readonly message: RegExp;
}

const METHODS = ["GET", "POST", "DELETE", "PUT", "PATCH"];

/** The route's path; names of its path are filled in, or stand for what is there. */
function pathOf({ path }: Route, names: Readonly<Record<string, string>> = {}): string {
  const known: Record<string, string> = {
    runId: "foxes",
    server: "clip",
    path: "samples/step-000020/0.png",
  };
  return path.replaceAll(/\{(\w+)\}/g, (_, name: string) => names[name] ?? known[name] ?? "");
}

/** The media type of the route's body that a message is sent in. */
const typeOf = ({ body }: Route) => Object.keys(body?.content ?? {})[0] ?? "";
const takesJson = (route: Route) => typeOf(route) === "application/json";
const sent = (route: Route, body: BodyInit, type = typeOf(route)) =>
  [pathOf(route), { method: "POST", body, headers: { "content-type": type } }] as [
    string,
    RequestInit,
  ];

const CASES: readonly Case[] = [
  {
    what: "a run that is not there",
    applies: ({ path }) => path.includes("{runId}"),
    request: (
      route,
    ) => [pathOf(route, { runId: "nobody" }), { method: route.method.toUpperCase() }],
    status: 404,
    message: /^(?:No run nobody|Run nobody has no image .*)$/,
  },
  {
    what: "a reward server that is not there",
    applies: ({ path }) => path.includes("{server}"),
    request: (
      route,
    ) => [pathOf(route, { server: "nobody" }), { method: route.method.toUpperCase() }],
    status: 404,
    message: /^No reward server nobody; there are: symmetry, clip$/,
  },
  {
    what: "a field of the query that is not known",
    applies: ({ method, path, tag }) =>
      tag !== "Gateway" && method !== "post" && !path.includes("/images/"),
    request: (route) => [`${pathOf(route)}?colour=red`, { method: route.method.toUpperCase() }],
    status: 400,
    message: /^Field colour is not known here/,
  },
  {
    what: "a query where a body is expected",
    applies: ({ method }) => method === "post",
    request: (route) => [`${pathOf(route)}?step=1`, { method: "POST" }],
    status: 400,
    message: /^Field step is in the query, expected in the body$/,
  },
  {
    what: "a field of the body that is not known",
    applies: takesJson,
    request: (route) => sent(route, '{"colour": "red"}'),
    status: 400,
    message: /^Field colour is not known here/,
  },
  {
    what: "a list for a body",
    applies: takesJson,
    request: (route) => sent(route, "[1]"),
    status: 400,
    message: /^Body is a list, expected an object$/,
  },
  {
    what: "JSON that is none",
    applies: takesJson,
    request: (route) => sent(route, '{\n  "a": }'),
    status: 400,
    message: /^Line 2, column 8: Body is not JSON, found \}$/,
  },
  {
    what: "JSON that is nested so deep that no stack holds it",
    applies: takesJson,
    request: (route) => sent(route, `{"a": ${"[".repeat(90_000)}${"]".repeat(90_000)}}`),
    status: 400,
    message: /^Body is nested more than 100 deep$/,
  },
  {
    what: "YAML that is nested so deep",
    applies: (route) => "application/yaml" in (route.body?.content ?? {}),
    request: (route) => sent(route, "[".repeat(9_000), "application/yaml"),
    status: 400,
    message: /^Line 1: Nested too deep$/,
  },
  {
    what: "JSON in another charset",
    applies: takesJson,
    request: (route) => sent(route, "{}", "application/json; charset=utf-16"),
    status: 415,
    message: /^Charset is utf-16, expected utf-8$/,
  },
  {
    what: "lines in another type",
    applies: (route) => typeOf(route) === "application/x-ndjson",
    request: (route) => sent(route, "{}", "text/csv"),
    status: 415,
    message: /^Content-Type is text\/csv, expected application\/x-ndjson or /,
  },
  {
    what: "YAML that is none",
    applies: (route) => "application/yaml" in (route.body?.content ?? {}),
    request: (route) => sent(route, "a: 1\nb: [\n", "application/yaml"),
    status: 400,
    message: /^Line [23]: /,
  },
  {
    what: "YAML that is large enough to take long",
    applies: (route) => "application/yaml" in (route.body?.content ?? {}),
    request: (route) => sent(route, "&a ".repeat(22_000), "application/yaml"),
    status: 413,
    message: /^Body is YAML of 66000 characters, expected at most 65536, or JSON$/,
  },
  {
    what: "a body of another type",
    applies: takesJson,
    request: (route) => sent(route, "a", "text/csv"),
    status: 415,
    message: /^Content-Type is text\/csv, expected application\/json or application\/yaml$/,
  },
  {
    what: "a body that is too large",
    applies: (route) => takesJson(route) && route.body?.maxBytes === undefined,
    request: (route) => sent(route, `"${"x".repeat(2 ** 20)}"`),
    status: 413,
    message: /^Body is larger than 1048576 bytes$/,
  },
];

async function withGateway(test: (gateway: Gateway) => Promise<void>): Promise<void> {
  await using stack = await startFakeStack();
  const { address: trainer, rewards, runs } = stack;
  const log = createLogger({ level: "silent" });
  const gateway = await createGateway({ trainer, rewards, runs, log });
  try {
    await test(gateway);
  } finally {
    gateway.stop();
    gateway.close();
  }
}

/** Asks; answers status and message, and checks that an error has the form of all. */
async function ask(gateway: Gateway, path: string, options: RequestInit = {}) {
  const response = await gateway.fetch(new Request(`http://localhost${path}`, options));
  const text = await response.text();
  assert.ok(response.status >= 400, `${options.method ?? "GET"} ${path}: ${response.status}`);
  const { error } = JSON.parse(text);
  assert.match(error.code, /^[A-Z_]+$/);
  return { status: response.status, message: String(error.message), headers: response.headers };
}

for (const { what, applies, request, status, message } of CASES) {
  Deno.test(`Every route that can be sent ${what} says so with ${status}`, () =>
    withGateway(async (gateway) => {
      const routes = gateway.routes.filter(applies);
      assert.ok(routes.length > 0);
      for (const route of routes) {
        const found = await ask(gateway, ...request(route));
        assert.equal(found.status, status, `${route.operationId}: ${found.message}`);
        assert.match(found.message, message, route.operationId);
      }
    }));
}

Deno.test("Every route refuses other methods, and names its own", () =>
  withGateway(async (gateway) => {
    for (const route of gateway.routes) {
      const own = gateway.routes.filter(({ path }) => path === route.path)
        .map(({ method }) => method.toUpperCase());
      for (const method of METHODS.filter((method) => !own.includes(method))) {
        const { status, message, headers } = await ask(gateway, pathOf(route), { method });
        assert.equal(status, 405, `${method} ${route.path}`);
        assert.equal(headers.get("allow"), own.join(", "));
        assert.equal(message, `Method is ${method}, expected ${own.join(", ")}`);
      }
    }
  }));

Deno.test("A step that events cannot go on from is refused before the stream begins", () =>
  withGateway(async (gateway) => {
    const events = "/v1/runs/foxes/events";
    for (
      const [text, expected] of [
        ["x", "a number"],
        ["", "a number"],
        ["-1", "0 or more"],
        ["1.5", "a whole number"],
        ["1e99", "9007199254740991 or less"],
        ["99999999999", "2147483647 or less"],
      ] as const
    ) {
      const { status, message } = await ask(gateway, `${events}?fromStep=${text}`);
      assert.equal(status, 400, text);
      assert.match(message, new RegExp(`^Field fromStep is .*, expected ${expected}$`));
      const last = await ask(gateway, events, { headers: { "last-event-id": text || "?" } });
      assert.equal(last.status, 400, text);
      assert.match(last.message, /^Header last-event-id is ".*", expected 0 to 2147483646$/);
    }
    const twice = await ask(gateway, `${events}?fromStep=1&fromStep=2`);
    assert.equal(twice.message, "Field fromStep is given 2 times");
  }));

Deno.test("No path of an image leads out of what the run's events name", () =>
  withGateway(async (gateway) => {
    for (
      const path of [
        "config.json",
        // Plain "..", as in a browser, are gone before the request is sent.
        "samples/step-000020/%2e%2e%2fstep-000020/0.png",
        "..%2F..%2Fetc%2Fpasswd",
        "%2e%2e%2f%2e%2e%2fsecret",
        "samples%2Fstep-000020%2F..%2F0.png",
        "%2Fetc%2Fpasswd",
        "samples/step-000020/0.png%00",
        "samples%5Cstep-000020%5C0.png",
        "samples/step-000020/0.png/",
        "samples//step-000020/0.png",
        "%",
      ]
    ) {
      const { status, message } = await ask(gateway, `/v1/runs/foxes/images/${path}`);
      assert.equal(status, 404, `${path}: ${message}`);
    }
    const { status } = await ask(gateway, "/v1/runs/..%2Ffoxes/images/samples/step-000020/0.png");
    assert.equal(status, 404);
  }));
