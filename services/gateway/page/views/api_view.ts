import { request } from "../api.ts";
import {
  type Contract,
  isNumber,
  messageName,
  readContract,
  resolve,
  type Schema,
  valuesOf,
} from "../contract.ts";
import { faultText, textFault } from "../dialog.ts";
import { button, field, h, replace } from "../dom.ts";
import { saveFile } from "../save_file.ts";
import type { View, ViewContext } from "./view.ts";

interface MediaType {
  readonly schema?: Schema;
  readonly "x-events"?: Readonly<Record<string, Schema>>;
}

interface Operation {
  readonly tags: readonly string[];
  readonly operationId: string;
  readonly summary: string;
  readonly description?: string;
  readonly parameters?: readonly {
    readonly name: string;
    readonly in: string;
    readonly required: boolean;
    readonly description?: string;
    readonly schema: Schema;
  }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, MediaType>> };
  readonly responses: Readonly<
    Record<
      string,
      { readonly description?: string; readonly content?: Readonly<Record<string, MediaType>> }
    >
  >;
}

interface Document extends Contract {
  readonly info: { readonly title: string; readonly description: string };
  readonly tags: readonly { readonly name: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly security: readonly unknown[];
}

/** Longest answer that is shown. */
const MAX_SHOWN = 20_000;

/** The API's description, to read and to try. */
export function apiView({ signal }: ViewContext): View {
  const body = h("div", { class: "api" }, h("p", { class: "empty" }, "Loading…"));
  readContract<Document>(signal).then(
    (document) => replace(body, ...describe(document, signal)),
    (error) => {
      if (!signal.aborted) replace(body, h("p", { class: "fault" }, faultText(error)));
    },
  );
  return {
    title: "API",
    content: [
      h(
        "div",
        { class: "page-head" },
        h("h1", {}, "API"),
        h("a", { class: "button", href: "/openapi.json", onclick: openWithToken }, "openapi.json"),
      ),
      body,
    ],
  };
}

/** A link carries no token. */
async function openWithToken(event: Event): Promise<void> {
  event.preventDefault();
  saveFile(await (await request("/openapi.json")).blob(), "openapi.json");
}

function describe(document: Document, signal: AbortSignal): HTMLElement[] {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation }))
  );
  return [
    h("p", {}, document.info.description),
    ...document.tags.map(({ name }) =>
      h(
        "section",
        { "aria-label": name },
        h("h2", {}, name),
        ...operations.filter(({ operation }) => operation.tags.includes(name))
          .map((entry) => describeOperation(entry, document, signal)),
      )
    ),
  ];
}

function describeOperation(
  { path, method, operation }: {
    readonly path: string;
    readonly method: string;
    readonly operation: Operation;
  },
  document: Document,
  signal: AbortSignal,
): HTMLElement {
  const { parameters = [], requestBody, responses, summary, description } = operation;
  const inside = h("div", { class: "operation" });
  const details = h(
    "details",
    {},
    h(
      "summary",
      {},
      h("span", { class: `method ${method}` }, method.toUpperCase()),
      h("code", {}, path),
      h("span", { class: "sub" }, summary),
    ),
    inside,
  );
  // Built when somebody looks: there are many.
  details.addEventListener("toggle", () => {
    if (inside.childElementCount > 0) return;
    replace(
      inside,
      ...(description ?? "").split("\n\n").map((text) => h("p", {}, text)),
      parameters.length > 0 && h("h3", {}, "Parameters"),
      parameters.length > 0 &&
        h(
          "dl",
          { class: "schema" },
          ...parameters.flatMap(({ name, in: where, required, schema, description }) => [
            h(
              "dt",
              {},
              h("code", {}, name),
              h(
                "span",
                { class: "sub" },
                `${typeName(schema)}, ${where}${required ? ", required" : ""}`,
              ),
            ),
            h("dd", {}, description ?? ""),
          ]),
        ),
      ...(requestBody ? [h("h3", {}, "Body"), ...contents(requestBody.content, document)] : []),
      ...Object.entries(responses).filter(([status]) => status !== "default")
        .flatMap(([status, response]) => [
          h("h3", {}, `Answer ${status}`),
          h("p", {}, response.description ?? ""),
          ...contents(response.content ?? {}, document),
        ]),
      h("h3", {}, "Try it"),
      tryIt({ path, method, operation }, document, signal),
    );
  }, { once: true });
  return details;
}

function contents(content: Readonly<Record<string, MediaType>>, document: Document): HTMLElement[] {
  // JSON and YAML say the same.
  const shown = Object.entries(content).filter(([type]) =>
    type !== "application/yaml" || !("application/json" in content)
  );
  return shown.map(([type, media]) => {
    const both = type === "application/json" && "application/yaml" in content;
    const events = Object.entries(media["x-events"] ?? {});
    return h(
      "div",
      {},
      h("p", { class: "sub mono" }, both ? "application/json, application/yaml" : type),
      ...events.map(([name, schema]) =>
        h(
          "div",
          { class: "event" },
          h("p", {}, "Event ", h("code", {}, name)),
          schemaView(schema, document),
        )
      ),
      events.length === 0 && media.schema !== undefined && schemaView(media.schema, document),
    );
  });
}

/** A schema's fields; those of messages in it unfold. */
function schemaView(schema: Schema, document: Document): HTMLElement {
  const full = resolve(schema, document);
  if (full.properties === undefined) {
    return h("p", {}, h("code", {}, typeName(schema)), ` ${full.description ?? ""}`);
  }
  return h(
    "dl",
    { class: "schema" },
    ...Object.entries(full.properties).flatMap(([name, inner]) => {
      const target = resolve(inner.items ?? valuesOf(inner) ?? inner, document);
      return [
        h("dt", {}, h("code", {}, name), h("span", { class: "sub" }, typeName(inner))),
        h(
          "dd",
          {},
          inner.description ?? target.description ?? "",
          target.properties !== undefined &&
            unfold(inner.items ?? valuesOf(inner) ?? inner, document),
        ),
      ];
    }),
  );
}

function unfold(schema: Schema, document: Document): HTMLElement {
  const details = h("details", {}, h("summary", {}, "Fields"));
  details.addEventListener("toggle", () => details.append(schemaView(schema, document)), {
    once: true,
  });
  return details;
}

function typeName(schema: Schema): string {
  const { type, items, anyOf, enum: values, format } = schema;
  const name = messageName(schema);
  if (name !== undefined) return name;
  if (items !== undefined) return `list of ${typeName(items)}`;
  const map = valuesOf(schema);
  if (map !== undefined) return `${typeName(map)} by name`;
  if (anyOf !== undefined) return isNumber(schema) ? "number" : "any";
  if (values !== undefined) return values.join(" | ");
  return [type, format].filter(Boolean).join(", ");
}

/** Fields for a request, what it is with curl, and its answer. */
function tryIt(
  { path, method, operation }: {
    readonly path: string;
    readonly method: string;
    readonly operation: Operation;
  },
  document: Document,
  signal: AbortSignal,
): HTMLElement {
  const inputs = (operation.parameters ?? []).filter((parameter) => parameter.in !== "header")
    .map(({ name, in: where }) => {
      const input = h("input", { type: "text", spellcheck: "false", oninput: () => show() });
      return { name, where, input };
    });
  const body = operation.requestBody &&
    h("textarea", { rows: 5, spellcheck: "false", oninput: () => show() });
  if (body) body.value = "{}";
  const curl = h("pre", { class: "curl" });
  const answer = h("pre", { class: "answer", hidden: true });
  const url = () => {
    let filled = path;
    const query = new URLSearchParams();
    for (const { name, where, input } of inputs) {
      const value = input.value.trim();
      if (where === "path") {
        const escaped = value.split("/").map(encodeURIComponent).join(
          name === "path" ? "/" : "%2F",
        );
        filled = filled.replace(`{${name}}`, escaped || `{${name}}`);
      } else if (value !== "") query.append(name, value);
    }
    return query.size > 0 ? `${filled}?${query}` : filled;
  };
  const stream = "text/event-stream" in (operation.responses["200"]?.content ?? {});
  const show = () => {
    const parts = [
      `curl ${stream ? "-N " : ""}${
        method === "get" ? "" : `-X ${method.toUpperCase()} `
      }'${location.origin}${url()}'`,
      document.security.length > 0 && `-H "authorization: Bearer $DRTUNE_TOKEN"`,
      body && "-H 'content-type: application/json'",
      body && `-d '${body.value.replaceAll("'", "'\\''")}'`,
    ];
    replace(curl, parts.filter(Boolean).join(" \\\n  "));
  };
  const send = async () => {
    answer.hidden = false;
    replace(answer, "…");
    try {
      const response = await request(url(), {
        method: method.toUpperCase(),
        signal,
        ...(body && { body: body.value }),
      });
      await showAnswer(answer, response);
    } catch (error) {
      if (!signal.aborted) replace(answer, textFault(error));
    }
  };
  show();
  return h(
    "div",
    { class: "try" },
    h("div", { class: "row" }, ...inputs.map(({ name, input }) => field(name, input))),
    body && field("Body", body),
    curl,
    h("div", { class: "actions" }, button("Send", send)),
    answer,
  );
}

/** Shows an answer as it comes, as far as it can be shown. */
async function showAnswer(element: HTMLElement, response: Response): Promise<void> {
  const type = response.headers.get("content-type") ?? "";
  if (type.startsWith("application/json")) {
    return replace(element, JSON.stringify(await response.json(), null, 2).slice(0, MAX_SHOWN));
  }
  if (!type.startsWith("text/") || response.body === null) {
    return replace(element, `${type}, ${(await response.blob()).size} bytes`);
  }
  let text = "";
  for (const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    replace(element, text.slice(0, MAX_SHOWN));
    if (text.length > MAX_SHOWN) return await reader.cancel();
  }
}
