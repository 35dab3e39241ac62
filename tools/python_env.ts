/**
 * `deno task py-env [trackio]`: the Python environment of the peers that benchmarks and peer tests compare against, or
 * that of trackio, which the test of pushed runs uses. The product never runs Python.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../", import.meta.url));

/** Oldest Python that every pinned package supports. */
const OLDEST_PYTHON = [3, 11] as const;

/** Environments: their folder, and the files with their pins, of which pip installs the first. */
const ENVIRONMENTS = {
  peers: {
    folder: ".venv",
    pins: ["bench/python/requirements.txt", "bench/python/constraints.txt"],
  },
  // trackio wants another pillow than the peers.
  trackio: { folder: ".cache/python-trackio", pins: ["bench/python/trackio.txt"] },
} as const;

/** Where the environment is and what it is made of; the defaults are this repository's. */
export interface PythonEnvOptions {
  /** Which one; default "peers". */
  readonly environment?: keyof typeof ENVIRONMENTS;
  /** Folder that holds `bench/python/*.txt` and gets the environment's. */
  readonly root?: string;
  /** A ready interpreter to use instead; default: of the peers the variable DRTUNE_PYTHON. */
  readonly existing?: string | undefined;
  /** Command that creates the environment; default "python3". */
  readonly base?: string;
}

/** No usable Python, or its packages could not be installed. */
export class PythonEnvError extends Error {
  override readonly name = "PythonEnvError";
}

/**
 * The interpreter with the pinned packages when it is ready, undefined otherwise; never installs anything.
 * For tests: `ignore: findPython() === undefined`.
 */
export function findPython(options: PythonEnvOptions = {}): string | undefined {
  const { existing, python, stamp, digest } = layoutOf(options);
  if (existing !== undefined) return existing;
  return existsSync(stamp) && readFileSync(stamp, "utf8") === digest ? python : undefined;
}

/**
 * The interpreter with the pinned packages, created first where it is missing or older than the pins. pip's
 * progress goes to the terminal. Throws `PythonEnvError` when there is no Python or the installation fails.
 */
export async function pythonPath(options: PythonEnvOptions = {}): Promise<string> {
  const { existing, base, venv, python, requirements, stamp, digest } = layoutOf(options);
  if (existing !== undefined) {
    await assertRecent(existing, "DRTUNE_PYTHON");
    return existing;
  }
  if (findPython(options) !== undefined) return python;
  await assertRecent(base, "The Python environment");
  console.error(`Installing ${requirements} into ${venv}`);
  await run(base, ["-m", "venv", venv]);
  await run(python, ["-m", "pip", "install", "--disable-pip-version-check", "-r", requirements]);
  await Deno.writeTextFile(stamp, digest);
  return python;
}

function layoutOf(
  { environment = "peers", root = ROOT, base = "python3", ...options }: PythonEnvOptions,
) {
  const { folder, pins } = ENVIRONMENTS[environment];
  const ready = environment === "peers" ? Deno.env.get("DRTUNE_PYTHON") : undefined;
  const existing = "existing" in options ? options.existing : ready;
  const venv = join(root, folder);
  const hash = createHash("sha256");
  for (const file of pins) hash.update(readFileSync(join(root, file)));
  return {
    existing: existing || undefined,
    base,
    venv,
    python: join(venv, Deno.build.os === "windows" ? "Scripts/python.exe" : "bin/python"),
    requirements: join(root, pins[0]),
    stamp: join(venv, "requirements.sha256"),
    digest: hash.digest("hex"),
  };
}

/** Throws when `python` cannot be run or is too old. */
async function assertRecent(python: string, user: string): Promise<void> {
  const wanted = `Python ${OLDEST_PYTHON.join(".")} or newer`;
  const probe = "import sys; print(*sys.version_info[:2])";
  let output: Deno.CommandOutput;
  try {
    output = await new Deno.Command(python, { args: ["-c", probe], stdin: "null" }).output();
  } catch (cause) {
    throw new PythonEnvError(`${user} needs ${wanted}, but '${python}' cannot be run`, { cause });
  }
  const [major = 0, minor = 0] = new TextDecoder().decode(output.stdout).split(" ").map(Number);
  const recent = major > OLDEST_PYTHON[0] ||
    major === OLDEST_PYTHON[0] && minor >= OLDEST_PYTHON[1];
  if (!output.success || !recent) {
    throw new PythonEnvError(
      `${user} needs ${wanted}, but '${python}' is Python ${major}.${minor}`,
    );
  }
}

async function run(command: string, args: readonly string[]): Promise<void> {
  const { code } = await new Deno.Command(command, { args: [...args], stdin: "null" }).spawn()
    .status;
  if (code !== 0) {
    const hint = args[1] === "venv"
      ? "; on Debian and Ubuntu install the package python3-venv"
      : "";
    throw new PythonEnvError(
      `'${[command, ...args].join(" ")}' ended with exit code ${code}${hint}`,
    );
  }
}

if (import.meta.main) {
  const [environment = "peers"] = Deno.args;
  try {
    if (environment !== "peers" && environment !== "trackio") {
      throw new PythonEnvError(
        `Environment is "${environment}", expected one of ${Object.keys(ENVIRONMENTS).join(", ")}`,
      );
    }
    console.log(await pythonPath({ environment }));
  } catch (error) {
    if (!(error instanceof PythonEnvError)) throw error;
    console.error(error.message);
    Deno.exitCode = 1;
  }
}
