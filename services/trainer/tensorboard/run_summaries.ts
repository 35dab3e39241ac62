import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { tensorboard } from "../../../proto/mod.ts";
import type { RunConfig, RunEvent, StepEvent } from "../../../trainer/mod.ts";

const { EventSchema } = tensorboard;
type Value = MessageInitShape<typeof tensorboard.Summary_ValueSchema>;

/** The configuration, for TensorBoard to show as text. */
export function configSummary(config: RunConfig, at: string): tensorboard.Event {
  const text = `    ${JSON.stringify(config, null, 2).replaceAll("\n", "\n    ")}`;
  return summary({ step: 0, at }, [textValue("config", text)]);
}

/**
 * What TensorBoard shows of a run's event: curves of rewards, loss, gradient norm and timings, sample pictures with
 * their rewards, swaps as text. Undefined where it shows nothing.
 *
 * @param folder the run's, for its pictures; one that is missing is left out
 */
export async function eventSummary(
  event: RunEvent,
  folder: string,
): Promise<tensorboard.Event | undefined> {
  switch (event.type) {
    case "step":
      return summary(event, [
        // Step 0 is the model before training: it has pictures only.
        ...(event.step > 0 ? stepScalars(event) : []),
        ...sampleScalars(event),
        ...await sampleImages(event, folder),
      ]);
    case "panel":
      return summary(event, [
        ...Object.entries(event.rewards).map(([name, { mean }]) => scalar(`panel/${name}`, mean)),
        scalar("panel_diversity", event.diversity),
        ...(event.evidence === undefined ? [] : [scalar("panel_evidence", event.evidence)]),
        ...(event.alarm === "" ? [] : [textValue("alarm", event.alarm)]),
      ]);
    case "swap": {
      const rows = event.rewards.map(({ name, weight, endpoint }) =>
        `| ${name} | ${weight} | ${endpoint} |`
      );
      const table = ["| reward | weight | endpoint |", "|---|---|---|", ...rows].join("\n");
      return summary(event, [textValue("rewards changed", table)]);
    }
    default:
      return undefined;
  }
}

function summary(
  { step, at }: { readonly step: number; readonly at: string },
  value: readonly Value[],
): tensorboard.Event {
  return create(EventSchema, {
    step: BigInt(step),
    wallTime: Date.parse(at) / 1000,
    what: { case: "summary", value: { value: [...value] } },
  });
}

function stepScalars({ loss, gradNorm, drift, rewards, seconds }: StepEvent): Value[] {
  return [
    ...Object.entries(rewards).map(([name, { mean }]) => scalar(`reward/${name}`, mean)),
    scalar("loss", loss),
    scalar("gradient_norm", gradNorm),
    ...(drift === undefined ? [] : [scalar("drift", drift)]),
    ...Object.entries(seconds).map(([phase, s]) => scalar(`seconds/${phase}`, s)),
  ];
}

/** Means over the samples: the rewards at fixed prompts and seeds. */
function sampleScalars({ samples }: StepEvent): Value[] {
  const names = new Set(samples.flatMap(({ rewards }) => Object.keys(rewards)));
  return [...names].map((name) => {
    const values = samples.flatMap(({ rewards }) => rewards[name] ?? []);
    return scalar(`samples/${name}`, values.reduce((a, b) => a + b, 0) / values.length);
  });
}

async function sampleImages({ samples }: StepEvent, folder: string): Promise<Value[]> {
  const values = await Promise.all(samples.map(async ({ path, prompt, seed }) => {
    const png = await readFile(join(folder, path)).catch(() => undefined);
    if (png === undefined) return [];
    // Width and height stand at bytes 16 and 20 of a PNG file.
    const [width, height] = [png.readUInt32BE(16), png.readUInt32BE(20)];
    const image = { width, height, colorspace: 3, encodedImageString: png };
    return [{ tag: `sample/${seed} ${prompt}`, value: { case: "image" as const, value: image } }];
  }));
  return values.flat();
}

function scalar(tag: string, simpleValue: number): Value {
  return { tag, value: { case: "simpleValue", value: simpleValue } };
}

const DT_STRING = 7;

/** @param markdown shown as such */
function textValue(tag: string, markdown: string): Value {
  const stringVal = [new TextEncoder().encode(markdown)];
  return {
    tag,
    value: { case: "tensor", value: { dtype: DT_STRING, stringVal } },
    metadata: { pluginData: { pluginName: "text" } },
  };
}
