/**
 * diffusers' scheduler classes that say their noise schedule in betas. Files of all of them have the same fields for it;
 * what else they hold is about solvers of their own.
 */
export const SCHEDULER_CLASSES = [
  "DDIMInverseScheduler",
  "DDIMParallelScheduler",
  "DDIMScheduler",
  "DDPMParallelScheduler",
  "DDPMScheduler",
  "DEISMultistepScheduler",
  "DPMSolverMultistepInverseScheduler",
  "DPMSolverMultistepScheduler",
  "DPMSolverSDEScheduler",
  "DPMSolverSinglestepScheduler",
  "EulerAncestralDiscreteScheduler",
  "EulerDiscreteScheduler",
  "HeunDiscreteScheduler",
  "KDPM2AncestralDiscreteScheduler",
  "KDPM2DiscreteScheduler",
  "LCMScheduler",
  "LMSDiscreteScheduler",
  "PNDMScheduler",
  "RePaintScheduler",
  "SASolverScheduler",
  "TCDScheduler",
  "UniPCMultistepScheduler",
] as const;

/** Why files of diffusers' other classes are refused, by class. */
export const REFUSED_SCHEDULERS: Readonly<Record<string, string>> = {
  AmusedScheduler: "which draws tokens, not latents",
  CMStochasticIterativeScheduler: "which is for consistency models",
  CogVideoXDDIMScheduler: "which is for videos",
  CogVideoXDPMScheduler: "which is for videos",
  CosineDPMSolverMultistepScheduler: "whose noise levels are EDM's, not a schedule of betas",
  DDPMWuerstchenScheduler: "which is for Würstchen, whose time is continuous",
  EDMDPMSolverMultistepScheduler: "whose noise levels are EDM's, not a schedule of betas",
  EDMEulerScheduler: "whose noise levels are EDM's, not a schedule of betas",
  FlowMatchEulerDiscreteScheduler: "which is for flow-matching models; this one has a U-Net",
  FlowMatchHeunDiscreteScheduler: "which is for flow-matching models; this one has a U-Net",
  FlowMatchLCMScheduler: "which is for flow-matching models; this one has a U-Net",
  IPNDMScheduler: "whose noise is not a schedule of betas",
  KarrasVeScheduler: "whose noise levels are EDM's, not a schedule of betas",
  SCMScheduler: "which is for consistency models of flows",
  ScoreSdeVeScheduler: "whose variance explodes: noise is added to an image that keeps its scale",
  UnCLIPScheduler: "which is for unCLIP's priors and decoders",
  VQDiffusionScheduler: "which draws tokens, not latents",
};
