/**
 * What the page reads of the API's answers, which are the contract's messages as JSON: types of `proto/gen`, so that a
 * field that changes is a type error here. /openapi.json has all of it.
 */
import type {
  CheckpointEventJson,
  DamageEventJson,
  DescribeTrainerResponseJson,
  DigestEventJson,
  EvaluatedPairJson,
  EvaluationSummaryJson,
  PanelEventJson,
  PlanRunResponseJson,
  RewardDescriptionJson,
  RewardMetricsJson,
  RewardTermJson,
  RunConfigJson,
  RunJson,
  SampleReferenceJson,
  SampleResponseJson,
  StateEventJson,
  StepEventJson,
  SwapEventJson,
  WorkerJson,
} from "../../../proto/mod.ts";

/** Fields that may be absent from an answer: messages, and those that the contract marks `optional`. */
export const MAY_BE_ABSENT = [
  ...(["at", "createdAt", "updatedAt", "endedAt", "config", "latest", "selfCheck"] as const),
  ...(["cpuSeconds", "drift", "relativeError", "weight", "limits", "hinge", "zScore"] as const),
  ...(["choice", "evidence", "seenAt", "startedAt"] as const),
] as const;

type MayBeAbsent = (typeof MAY_BE_ABSENT)[number];

/** Numbers that the trainer writes finite alone; the others may be "NaN" or an infinity in quotes. */
type IsFinite =
  | "weight"
  | "hinge"
  | "loraScale"
  | "seconds"
  | "secondsLeft"
  | "secondsPerIteration"
  | "memory"
  | "runs";

type Field<K, V> = K extends IsFinite ? Finite<V> : Answer<V>;

type Finite<V> = V extends object ? { readonly [K in keyof V]: number } : number;

/** A message as the gateway answers it: every field is written, but those that `MAY_BE_ABSENT` names. */
export type Answer<T> = T extends readonly (infer E)[] ? readonly Answer<E>[]
  : T extends object ?
      & {
        readonly [K in keyof T as K extends MayBeAbsent ? never : K]-?: Field<K, NonNullable<T[K]>>;
      }
      & {
        readonly [K in keyof T as K extends MayBeAbsent ? K : never]?: Field<K, NonNullable<T[K]>>;
      }
  : T;

export type RewardTerm = Answer<RewardTermJson>;
/** A term as a request names it. */
export type { RewardTermJson };
export type RunConfig = RunConfigJson;
export type RewardMetrics = Answer<RewardMetricsJson>;
export type SampleReference = Answer<SampleReferenceJson>;
export type StepEvent = Answer<StepEventJson>;
export type StateEvent = Answer<StateEventJson>;
export type SwapEvent = Answer<SwapEventJson>;
export type PanelEvent = Answer<PanelEventJson>;
/** A checkpoint that was written, or asked for. */
export type CheckpointEvent = Answer<CheckpointEventJson>;
export type DamageEvent = Answer<DamageEventJson>;
export type DigestEvent = Answer<DigestEventJson>;
export type Run = Answer<Omit<RunJson, "config">> & { readonly config?: RunConfig };
/** What the trainer has that a configuration may name. */
export type TrainerDescription = Answer<DescribeTrainerResponseJson>;
/** What a run would take. */
export type RunPlan = Answer<Omit<PlanRunResponseJson, "config">> & { readonly config?: RunConfig };
export type EvaluatedPair = Answer<EvaluatedPairJson>;
export type EvaluationSummary = Answer<EvaluationSummaryJson>;
export type RewardDescription = Answer<RewardDescriptionJson>;
/** `png` is a file in base64. */
export type SampledImage = Answer<SampleResponseJson>;

export type Worker = Answer<WorkerJson>;

export interface Workers {
  readonly workers: readonly Worker[];
}

/** The answers below are the gateway's own. */
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

export interface Preset {
  readonly name: string;
  readonly description: string;
  readonly yaml: string;
  readonly config: RunConfig;
}
