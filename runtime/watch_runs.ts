import type { Engine, Session } from "./session.ts";

/** The same engine, with `onRun` called with the name of each model before it runs. */
export function watchRuns(engine: Engine, onRun: (name: string) => void): Engine {
  const watched = (session: Session, name: string): Session => ({
    inputNames: session.inputNames,
    outputNames: session.outputNames,
    run: (...call) => {
      onRun(name);
      return session.run(...call);
    },
    dispose: () => session.dispose(),
  });
  return {
    pid: engine.pid,
    load: async (model, options) =>
      watched(await engine.load(model, options), model.name ?? "unnamed"),
    keep: (name, tensor) => engine.keep(name, tensor),
    forget: (...names) => engine.forget(...names),
    cpuSeconds: () => engine.cpuSeconds(),
    close: () => engine.close(),
  };
}
