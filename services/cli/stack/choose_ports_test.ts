import assert from "node:assert/strict";
import { choosePorts } from "./choose_ports.ts";
import { EMBEDDED_STACK, readStack } from "./read_stack.ts";

Deno.test("Free ports, each another one, take the place of 0; others stay", async () => {
  const stack = await readStack(EMBEDDED_STACK);
  const described = {
    ...stack,
    rewards: stack.rewards.map((reward) => ({ ...reward, port: 0 })),
    gateway: { ...stack.gateway, port: 0 },
  };
  const { rewards, trainer, gateway } = choosePorts(described);
  assert.equal(trainer.port, stack.trainer.port);
  const ports = [...rewards, gateway].map(({ port }) => port);
  assert.equal(new Set(ports).size, ports.length);
  for (const port of ports) Deno.listen({ hostname: "127.0.0.1", port }).close();
});

Deno.test("Replicas get free ports one behind the other", async () => {
  const stack = await readStack(EMBEDDED_STACK);
  const replicas = 4;
  const described = {
    ...stack,
    rewards: stack.rewards.map((reward) => ({ ...reward, port: 0, replicas })),
  };
  const { rewards } = choosePorts(described);
  const ports = rewards.flatMap(({ port }) => Array.from({ length: replicas }, (_, i) => port + i));
  assert.equal(new Set(ports).size, replicas * rewards.length);
  for (const port of ports) Deno.listen({ hostname: "127.0.0.1", port }).close();
});
