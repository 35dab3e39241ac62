import { mkdir } from "node:fs/promises";
import { readClientTls, readToken } from "../../launch/mod.ts";
import { type ClientTls } from "../../rpc/mod.ts";
import { localPlace } from "./local_place.ts";
import type { Stack } from "./read_stack.ts";
import { serviceDefinitions } from "./service_definition.ts";
import type { StackState, StateFolder } from "./state_folder.ts";
import { SupervisedService } from "./supervised_service.ts";

/** The trainer finishes its iteration and writes a checkpoint; what it has not done by then a restart does again. */
const GRACE_MS = 60_000;

/** Starts all services of a stack at once and keeps them running. */
export class Supervisor {
  readonly services: readonly SupervisedService[];
  readonly #folder: StateFolder;
  readonly #about: Omit<StackState, "services">;
  readonly #onChange: ((state: StackState) => void) | undefined;
  #writing: Promise<void> = Promise.resolve();

  private constructor(
    stack: Stack,
    { folder, only, gatewayToken, tls, onChange }: {
      readonly folder: StateFolder;
      readonly only: readonly string[] | undefined;
      readonly gatewayToken: string | undefined;
      readonly tls: ClientTls;
      readonly onChange: ((state: StackState) => void) | undefined;
    },
  ) {
    const { trainer, gateway, clientTls } = stack;
    this.#folder = folder;
    this.#onChange = onChange;
    this.#about = {
      version: 1,
      name: stack.name,
      file: stack.file,
      pid: Deno.pid,
      startedAt: new Date().toISOString(),
      ...(trainer.tokenFile !== undefined && { trainerTokenFile: trainer.tokenFile }),
      ...(gateway.tokenFile !== undefined && { gatewayTokenFile: gateway.tokenFile }),
      clientTls,
    };
    const services: SupervisedService[] = [];
    this.services = services;
    for (const definition of serviceDefinitions(stack, localPlace(stack))) {
      if (only?.includes(definition.name) === false) continue;
      services.push(
        new SupervisedService(definition, {
          folder: stack.models,
          logFile: folder.logFile(definition.name),
          ...(definition.kind === "gateway" && { token: gatewayToken }),
          tls,
          onChange: () => this.#changed(),
        }),
      );
    }
    this.#changed();
  }

  /** Starts the services of a stack whose folder this process has taken. */
  static async start(
    stack: Stack,
    { folder, only, onChange }: {
      readonly folder: StateFolder;
      /** Names of those to start. Default: all. */
      readonly only?: readonly string[] | undefined;
      readonly onChange?: (state: StackState) => void;
    },
  ): Promise<Supervisor> {
    await mkdir(stack.runs, { recursive: true });
    const { tokenFile } = stack.gateway;
    const gatewayToken = tokenFile === undefined ? undefined : await readToken(tokenFile);
    const tls = await readClientTls(stack.clientTls);
    return new Supervisor(stack, { folder, only, gatewayToken, tls, onChange });
  }

  get state(): StackState {
    return { ...this.#about, services: this.services.map(({ status }) => status) };
  }

  /** Resolves once every service was ready; rejects with the first that ended before it was. */
  async allReady(): Promise<void> {
    await Promise.all(this.services.map(({ firstReady }) => firstReady));
  }

  /** Stops all: rewards last, for the trainer to finish its iteration with them. */
  async stop(): Promise<void> {
    const [rewards, others] = [true, false].map((wanted) =>
      this.services.filter(({ definition }) => (definition.kind === "reward") === wanted)
    );
    for (const group of [others ?? [], rewards ?? []]) {
      await Promise.all(group.map((service) => service.stop(GRACE_MS)));
    }
    await this.#writing;
  }

  #changed(): void {
    this.#onChange?.(this.state);
    // What has changed meanwhile is in what is written next.
    this.#writing = this.#writing.then(() => this.#folder.write(this.state)).catch((error) => {
      console.error(`State in ${this.#folder.path} cannot be written: ${error}`);
    });
  }
}
