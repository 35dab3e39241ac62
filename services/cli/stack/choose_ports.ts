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
  const chosen = <T extends Service>(service: T): T => {
    if (service.port !== 0) return service;
    const found = listenSomewhere(service.host, service.replicas ?? 1);
    // Kept open until all are chosen, so that none is chosen twice.
    listeners.push(...found.listeners);
    return { ...service, port: found.port };
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

interface Service {
  readonly host: string;
  readonly port: number;
  readonly replicas?: number;
}

/** The first of so many ports, one behind the other. */
function listenSomewhere(
  hostname: string,
  count: number,
): { readonly listeners: readonly Deno.Listener[]; readonly port: number } {
  for (let attempt = 1;; attempt++) {
    const port = LOWEST + Math.floor(Math.random() * (HIGHEST - LOWEST + 2 - count));
    const listeners: Deno.Listener[] = [];
    try {
      for (let i = 0; i < count; i++) listeners.push(Deno.listen({ hostname, port: port + i }));
      return { listeners, port };
    } catch (error) {
      for (const listener of listeners) listener.close();
      if (!(error instanceof Deno.errors.AddrInUse) || attempt === ATTEMPTS) throw error;
    }
  }
}
