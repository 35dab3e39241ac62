/** What the page reads of the API's answers; /openapi.json has all of it. */

export interface RewardTerm {
  readonly name: string;
  readonly endpoint: string;
  readonly reward?: string;
  readonly weight?: number;
  readonly expectedDigest?: string;
}

export interface RunConfig {
  readonly model: string;
  readonly method?: { readonly name?: string };
  readonly batch?: { readonly size?: number; readonly accumulation?: number };
  readonly rewards: readonly RewardTerm[];
  readonly [field: string]: unknown;
}

export interface RewardMetrics {
  readonly mean: number | string;
  readonly perImage: readonly (number | string)[];
  readonly digest: string;
}

export interface SampleReference {
  readonly prompt: string;
  readonly seed: number;
  readonly path: string;
  readonly rewards: Readonly<Record<string, number | string>>;
}

export interface StepEvent {
  readonly step: number;
  readonly loss: number | string;
  readonly gradNorm: number | string;
  readonly drift?: number | string;
  readonly rewards: Readonly<Record<string, RewardMetrics>>;
  readonly seconds: Readonly<Record<string, number>>;
  readonly secondsLeft: number;
  readonly samples: readonly SampleReference[];
  readonly prompts: readonly string[];
  readonly at?: string;
}

export interface StateEvent {
  readonly state: string;
  readonly reason: string;
  readonly step: number;
  readonly at?: string;
}

export interface SwapEvent {
  readonly step: number;
  readonly rewards: readonly RewardTerm[];
  readonly at?: string;
}

export interface PanelEvent {
  readonly step: number;
  readonly rewards: Readonly<Record<string, RewardMetrics>>;
  readonly heldOut: readonly string[];
  readonly diversity: number | string;
  readonly alarm: string;
  readonly at?: string;
}

/** A checkpoint that was written, or asked for. */
export interface CheckpointEvent {
  readonly step: number;
  readonly at?: string;
}

export interface Run {
  readonly id: string;
  readonly state: string;
  readonly step: number;
  readonly iterations: number;
  readonly reason: string;
  readonly createdAt?: string;
  readonly updatedAt?: string;
  readonly endedAt?: string;
  readonly config?: RunConfig;
  readonly rewards: readonly RewardTerm[];
  readonly latest?: StepEvent;
  readonly checkpoints: readonly number[];
}

export interface RewardDescription {
  readonly name: string;
  readonly kind: string;
  readonly direction: string;
  readonly lowest: number | string;
  readonly highest: number | string;
  readonly readsPrompt: boolean;
  readonly preprocessing: string;
  readonly digest: string;
  readonly provider: string;
  readonly selfCheck?: {
    readonly score: number | string;
    readonly gradientNorm: number | string;
    readonly relativeError?: number | string;
  };
}

export interface Service {
  readonly name: string;
  readonly address: string;
  readonly ready: boolean;
  readonly reason: string;
  readonly rewards?: readonly RewardDescription[];
}

export interface Services {
  readonly trainer: Service;
  readonly rewards: readonly Service[];
}

export interface SampledImage {
  readonly prompt: string;
  readonly seed: number;
  /** A PNG file in base64. */
  readonly png: string;
}

export interface Preset {
  readonly name: string;
  readonly description: string;
  readonly yaml: string;
}
