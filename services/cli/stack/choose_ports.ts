import type { Stack } from "./read_stack.ts";

/**
 * Below the ports that systems hand out by themselves, so that nobody is given a service's port while it is started, or
 * started again.
 */
const [LOWEST, HIGHEST] = [20_000, 32_767];
const ATTEMPTS = 100;

/** The stack with free ports in place of 0, so that every address is known before anything starts. */
export function choosePorts(stack: Stack): Stack {
  const listeners: Deno.Listener[] = [];
  const chosen = <T extends { readonly host: string; readonly port: number }>(service: T): T => {
    if (service.port !== 0) return service;
    const { listener, port } = listenSomewhere(service.host);
    // Kept open until all are chosen, so that none is chosen twice.
    listeners.push(listener);
    return { ...service, port };
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

function listenSomewhere(hostname: string): { listener: Deno.Listener; port: number } {
  for (let attempt = 1;; attempt++) {
    const port = LOWEST + Math.floor(Math.random() * (HIGHEST - LOWEST + 1));
    try {
      return { listener: Deno.listen({ hostname, port }), port };
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse) || attempt === ATTEMPTS) throw error;
    }
  }
}
