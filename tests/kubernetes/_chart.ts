import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { z } from "zod";
import { findClient } from "../../tools/mod.ts";

/** Programs that `deno task clients` installs; undefined where they are missing. */
export const HELM = findClient("helm");
export const KUBECONFORM = findClient("kubeconform");

const CHART = fileURLToPath(new URL("../../deploy/kubernetes/drtune", import.meta.url));

const containerSchema = z.looseObject({
  command: z.array(z.string()).default([]),
  args: z.array(z.string()),
  workingDir: z.string().optional(),
  securityContext: z.record(z.string(), z.unknown()),
  ports: z.array(z.object({ name: z.string(), containerPort: z.int() })).default([]),
  volumeMounts: z.array(z.looseObject({
    name: z.string(),
    mountPath: z.string(),
    readOnly: z.boolean().optional(),
  })),
});

const podSchema = z.looseObject({
  metadata: z.looseObject({ labels: z.record(z.string(), z.string()) }),
  spec: z.looseObject({
    automountServiceAccountToken: z.boolean(),
    securityContext: z.record(z.string(), z.unknown()),
    affinity: z.unknown().optional(),
    containers: z.tuple([containerSchema]),
    volumes: z.array(z.looseObject({ name: z.string() })),
  }),
});

const manifestSchema = z.looseObject({
  kind: z.string(),
  metadata: z.looseObject({ name: z.string() }),
  data: z.record(z.string(), z.string()).optional(),
  spec: z.looseObject({ template: podSchema.optional() }).optional(),
});

/** An object as Kubernetes gets it. */
export type Manifest = z.infer<typeof manifestSchema>;
/** A pod's template. */
export type Pod = z.infer<typeof podSchema>;

/** What a program printed, and its exit code. */
export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. */
export async function run(program: string, args: readonly string[]): Promise<Output> {
  const { code, stdout, stderr } = await new Deno.Command(program, { args: [...args] }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

/**
 * Helm's verb on the chart with these values, as release "t" in namespace "ml".
 *
 * @param kubernetes version of Kubernetes that it is rendered for
 */
export async function helm(
  verb: "lint" | "template",
  values: Readonly<Record<string, unknown>>,
  kubernetes = "1.37.0",
): Promise<Output> {
  const file = await Deno.makeTempFile({ suffix: ".yaml" });
  try {
    await Deno.writeTextFile(file, JSON.stringify(values));
    const which = verb === "lint" ? [CHART, "--strict"] : ["t", CHART];
    const about = ["--namespace", "ml", "--kube-version", kubernetes, "--values", file];
    return await run(HELM ?? "", [verb, ...which, ...about]);
  } finally {
    await Deno.remove(file);
  }
}

/** The objects of a rendered chart. */
export function manifestsOf(yaml: string): readonly Manifest[] {
  return parseAllDocuments(yaml).flatMap((document) => {
    const value: unknown = document.toJS();
    return value === null ? [] : [manifestSchema.parse(value)];
  });
}
