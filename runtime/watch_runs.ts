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
    place: (name) => engine.place(name),
    keep: (place, tensor) => engine.keep(place, tensor),
    forget: (...places) => engine.forget(...places),
    cpuSeconds: () => engine.cpuSeconds(),
    close: () => engine.close(),
  };
}
