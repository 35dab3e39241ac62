import { type Provider, PROVIDERS } from "../runtime/mod.ts";

/** The provider that `--provider` names. Where there is none of that name, says so and ends the process with 2. */
export function providerOption(name: string): Provider {
  const provider = PROVIDERS.find((known) => known === name);
  if (provider) return provider;
  console.error(`--provider is ${JSON.stringify(name)}, expected ${PROVIDERS.join(", ")}`);
  Deno.exit(2);
}
