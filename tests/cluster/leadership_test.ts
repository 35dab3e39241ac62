import assert from "node:assert/strict";
import { Kvm } from "@nats-io/kv";
import { createLogger } from "../../base/mod.ts";
import { connectNats } from "../../services/cluster/mod.ts";
import { Leadership } from "../../services/trainer/cluster/mod.ts";
import { natsTest } from "./_nats_test.ts";

const log = createLogger({ level: "silent" });

natsTest(
  "One of several trainers leads; another takes over when it gives up, and is told when it is pushed",
  async (nats) => {
    const options = { servers: [nats.address] };
    const take = (name: string) => Leadership.take(options, { name, log });
    const both = [take("a"), take("b")];
    const first = await Promise.race(both);
    const second = Promise.race(both.map(async (one) => {
      const leadership = await one;
      return leadership === first ? await new Promise<never>(() => {}) : leadership;
    }));
    const undecided = Symbol("undecided");
    const soon = new Promise((wait) => setTimeout(wait, 1500, undecided));
    assert.equal(await Promise.race([second, soon]), undecided, "two lead");
    // Renewals go on across a restart of NATS.
    await nats.kill();
    await nats.start();
    await first.release();
    const next = await second;
    assert.notEqual(next.epoch, first.epoch);
    // A renewal whose acknowledgement is lost is written all the same: who finds its own word goes on.
    const client = await connectNats(options, { name: "test", log });
    const key = await new Kvm(client).open("DRTUNE_LEADER");
    const written = await key.get("leader") ?? assert.fail();
    await key.put("leader", written.string());
    const renewed = new Promise((wait) => setTimeout(wait, 2500, undecided));
    assert.equal(await Promise.race([next.lost, renewed]), undecided, "its own word ended it");
    // Somebody else writes the key: whoever led is told at the next renewal.
    await key.put("leader", "c");
    assert.equal(await next.lost, "another trainer took the lead");
    // The leader that wrote it renews nothing: its time runs out for those who look.
    const begun = performance.now();
    const last = await take("d");
    const seconds = (performance.now() - begun) / 1000;
    assert(seconds > 5.5, `took the lead after ${seconds} s`);
    await last.release();
    await client.close();
    await next.release();
  },
);
