import type { Stack } from "./read_stack.ts";

/** The stack with free ports in place of 0, so that every address is known before anything starts. */
export function choosePorts(stack: Stack): Stack {
  const listeners: Deno.Listener[] = [];
  const chosen = <T extends { readonly host: string; readonly port: number }>(service: T): T => {
    if (service.port !== 0) return service;
    const listener = Deno.listen({ hostname: service.host, port: 0 });
    // Kept open until all are chosen, so that none is chosen twice.
    listeners.push(listener);
    return { ...service, port: listener.addr.transport === "tcp" ? listener.addr.port : 0 };
  };
  try {
    return {
      ...stack,
      rewards: stack.rewards.map(chosen),
      trainer: chosen(stack.trainer),
      gateway: chosen(stack.gateway),
    };
  } finally {
    for (const listener of listeners) listener.close();
  }
}
