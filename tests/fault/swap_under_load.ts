import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { DataType, RewardAdmin, RewardService } from "../../proto/mod.ts";
import { grpcClient } from "../../services/rpc/mod.ts";
import { descendants } from "./_descendants.ts";
import { progress } from "./_progress.ts";
import { Victim } from "./_victim.ts";

const TOKEN = "a token of enough letters";
const SIDE = 64;
/** Answers after a swap, after which the new process is like those before. */
const SETTLED = 200;

/** What happened while rewards were swapped. */
export interface SwapReport {
  /** Requests that were answered, each by one of the rewards there were. */
  readonly answered: number;
  /**
   * Resident memory of the server and its worker, in MiB, once the worker has answered for a while after each swap. Empty
   * where the system does not tell.
   */
  readonly resident: readonly number[];
}

/**
 * Swaps a reward server's reward while clients keep asking for value and gradient. Throws unless every request is
 * answered by one of both rewards, and the last swap's answers are the new reward's.
 */
export async function swapUnderLoad(
  { swaps, clients, folder, say }: {
    readonly swaps: number;
    readonly clients: number;
    /** An empty folder. */
    readonly folder: string;
    readonly say: (line: string) => void;
  },
): Promise<SwapReport> {
  const tokenFile = join(folder, "token");
  await Deno.writeTextFile(tokenFile, TOKEN);
  // Two sets of weights of one kind, and so two digests.
  const records = ["channel", "global"].map((std) => ({ kind: "symmetry", std }));
  const config = join(folder, "rewards.yaml");
  await Deno.writeTextFile(
    config,
    JSON.stringify({ port: 0, rewards: [records[0]], admin: { port: 0, tokenFile } }),
  );
  const server = new Victim("services/reward/main.ts", ["--config", config]);
  const closing: { close(): void }[] = [];
  try {
    const { address, adminAddress = "" } = await server.ready;
    const shape = [1, 3, SIDE, SIDE];
    const pixels = Float32Array.from({ length: 3 * SIDE * SIDE }, (_, i) => i % 251 / 250);
    const tensor = { dtype: DataType.FLOAT32, shape, data: new Uint8Array(pixels.buffer) };
    const images = [{ source: { case: "tensor" as const, value: tensor } }];
    let isOver = false;
    let answered = 0;
    /** Scores by digest: a reward says the same of an image each time. */
    const scores = new Map<string, number>();
    const asking = Array.from({ length: clients }, async () => {
      const client = grpcClient(RewardService, address);
      closing.push(client);
      while (!isOver) {
        const { scores: [score = NaN], gradients, digest } = await client.scoreAndGradient({
          images,
        });
        assert.equal(gradients[0]?.data.length, pixels.byteLength);
        assert.ok(Math.abs((scores.get(digest) ?? score) - score) < 1e-5 * score);
        scores.set(digest, score);
        answered++;
      }
    });
    const failed = Promise.all(asking);
    // Told by the await below.
    failed.catch(() => {});

    const admin = grpcClient(RewardAdmin, adminAddress, { token: TOKEN });
    closing.push(admin);
    const resident: number[] = [];
    const begun = performance.now();
    for (let swap = 1; swap <= swaps; swap++) {
      const { reward } = await Promise.race([
        admin.loadReward({ name: "symmetry", config: records[swap % 2] ?? {} }),
        failed.then(() => assert.fail("The clients have ended")),
      ]);
      for (const enough = answered + SETTLED; answered < enough;) {
        await Promise.race([failed, new Promise((resolve) => setTimeout(resolve, 10))]);
      }
      resident.push(...await residentMiB(server.pid));
      say(
        `swap ${progress(swap, { of: swaps, begun })}: ${
          reward?.digest.slice(0, 8)
        }, ${answered} answers, ${resident.at(-1)?.toFixed(0)} MiB`,
      );
    }
    isOver = true;
    await failed;
    assert.equal(scores.size, Math.min(2, swaps + 1));
    return { answered, resident };
  } finally {
    for (const client of closing) client.close();
    await server.end("SIGTERM");
  }
}

/** Resident memory of a process and those below it; nothing where there is no /proc. */
async function residentMiB(pid: number): Promise<number[]> {
  if (Deno.build.os !== "linux") return [];
  let kib = 0;
  for (const one of [pid, ...await descendants(pid)]) {
    const status = await readFile(`/proc/${one}/status`, "utf8").catch(() => "");
    kib += Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0);
  }
  return [kib / 1024];
}
