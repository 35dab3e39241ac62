import assert from "node:assert/strict";
import { startReward } from "../../../tests/fault/mod.ts";
import { parseCommand } from "../command.ts";
import { score } from "../commands/score.ts";
import { openRewards } from "./rewards.ts";

Deno.test("A reward on a server may be asked at several addresses, of which one answers", async () => {
  const server = startReward();
  try {
    const { address } = await server.ready;
    const endpoint = `127.0.0.1:9,${address}`;
    const [reward] = await openRewards(
      parseCommand(score, ["--image", "a.png", "--endpoint", endpoint]),
    );
    assert.equal(reward?.info.name, "symmetry");
    await reward?.dispose();
  } finally {
    await server.end();
  }
});
