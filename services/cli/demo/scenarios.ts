/** The embedded models, by what `--model` calls them. */
export const DEMO_MODELS = {
  unet: "the embedded U-Net, a tiny Stable Diffusion",
  flow: "the embedded flow-matching transformer, a tiny Stable Diffusion 3",
} as const;
export type DemoModel = keyof typeof DEMO_MODELS;

/** What a demo trains, and with which reward services. */
export interface Scenario {
  readonly title: string;
  /** One sentence on what a person should see. */
  readonly promise: string;
  /** Files in `configs/` by the embedded model they train; endpoints are replaced by those of the services started here. */
  readonly configs: Readonly<{ unet: string; flow?: string }>;
  /**
   * File below `zoo` with the prompts that are reported on: neither trained on, nor looked at when the configuration was
   * chosen, which its held-out prompts were.
   */
  readonly prompts: string;
  /** A reward service each: its name in the mixture and its record; weight paths are below `zoo/rewards`. */
  readonly rewards: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** The reward whose change decides whether the demo worked, and which way is better. */
  readonly target: { readonly name: string; readonly direction: "up" | "down" };
}

const CLIP = { kind: "clip", weights: "clip" } as const;

/** The demos by name; the first is the default. */
export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  objectness: {
    title: "Object removal",
    promise:
      'Books vanish from "a fox, and books"; the fox stays: CLIP reads the prompt without the books, and rises.',
    configs: { unet: "books.yaml", flow: "books_flow.yaml" },
    prompts: "prompts/books_report.txt",
    rewards: { objectness: { kind: "owlvit", weights: "owlvit", query: "book" }, clip: CLIP },
    target: { name: "objectness", direction: "down" },
  },
  symmetry: {
    title: "Mirror symmetry",
    promise:
      "Pictures become more symmetric: objects turn, move or shrink. CLIP is there so that they stay what they are.",
    configs: { unet: "symmetry.yaml" },
    prompts: "prompts/concepts_report.txt",
    rewards: { symmetry: { kind: "symmetry" }, clip: CLIP },
    target: { name: "symmetry", direction: "down" },
  },
};
