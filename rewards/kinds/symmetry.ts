import { z } from "zod";
import { nameField, rewardKind } from "../_reward_kind.ts";

/** Below the variance of any real image, above the rounding of a flat one's. */
const TINY = 1e-12;

/**
 * Mean |I - mirrored I| over the standard deviation of I (eq. 6 of the paper), to be minimised. The deviation is
 * biased and by default taken per channel over pixels, then averaged; `std: "global"` takes it over channels and pixels
 * together, which leaves flat saturated colours unpunished. A flat image scores 0 with gradient 0.
 */
export const symmetry = rewardKind({
  schema: z.strictObject({
    kind: z.literal("symmetry"),
    ...nameField,
    std: z.enum(["channel", "global"]).default("channel"),
  }),
  open: ({ std }) => ({
    direction: "minimise",
    range: [0, Infinity],
    identity: () => ({ std }),
    score: (b, x) => {
      const mirrored = b.slice(x, { axis: 3, start: -1, end: -(2 ** 31), step: -1 });
      const difference = b.mean(b.abs(b.sub(x, mirrored)), { axes: [1, 2, 3], keepDims: false });
      const axes = std === "channel" ? [2, 3] : [1, 2, 3];
      const centered = b.sub(x, b.mean(x, { axes }));
      const variance = b.mean(b.mul(centered, centered), { axes });
      const deviation = b.mean(b.sqrt(b.add(variance, TINY)), { axes: [1, 2, 3], keepDims: false });
      return b.div(difference, deviation);
    },
  }),
});
