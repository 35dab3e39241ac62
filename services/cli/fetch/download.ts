import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { link, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { backoff, raceAbort } from "../../../base/mod.ts";
import { type Hub, HubError, type HubFile, refusal } from "./hub.ts";

/** A file to bring here. */
export interface Download {
  readonly repo: string;
  readonly commit: string;
  readonly file: HubFile;
  /** Where it is. Default: where a hub has it. */
  readonly url?: string;
  /** Where it is to lie. Until it is whole it lies beside, with ".part" at its end. */
  readonly path: string;
  /** Copies of the same content that may be on this machine already. */
  readonly known?: readonly string[];
}

/** How patient a download is. */
export interface Patience {
  /** Tries in a row that bring nothing new. Default 6. */
  readonly tries?: number;
  /** First wait between them, in milliseconds. Default 500. */
  readonly firstWaitMs?: number;
  /** Longest silence within an answer, in milliseconds. Default 60,000. */
  readonly silenceMs?: number;
}

const MAX_REDIRECTS = 5;
const LONGEST_WAIT_MS = 60_000;

/**
 * Brings a file here and answers how: it "was here", was "linked" from a copy on this machine, or "came". What came of it
 * before is kept and gone on from; its content must have the hub's own digest, or it is thrown away. Broken connections,
 * 429 and 5xx are tried again. Throws `HubError`.
 */
export async function download(
  hub: Hub,
  wanted: Download,
  { signal, onBytes, patience = {} }: {
    readonly signal: AbortSignal;
    /** Called with the bytes that came, or were here. */
    readonly onBytes: (count: number) => void;
    readonly patience?: Patience;
  },
): Promise<"was here" | "linked" | "came"> {
  const { file, path, known = [] } = wanted;
  if (await hasDigest(path, file)) {
    onBytes(file.size);
    return "was here";
  }
  await mkdir(dirname(path), { recursive: true });
  for (const copy of known) {
    if (!await hasDigest(copy, file)) continue;
    await rm(path, { force: true });
    try {
      await link(copy, path);
    } catch {
      await Deno.copyFile(copy, path);
    }
    onBytes(file.size);
    return "linked";
  }
  const part = `${path}.part`;
  const { tries = 6, firstWaitMs = 500, silenceMs = 60_000 } = patience;
  let waits = backoff({ first: firstWaitMs, longest: LONGEST_WAIT_MS });
  let [begun, told] = [await sizeOf(part), 0];
  const tell = (size: number) => {
    onBytes(size - told);
    told = size;
  };
  if (begun > file.size) await rm(part, { force: true });
  for (let failed = 0; await sizeOf(part) < file.size || file.size === 0;) {
    begun = await sizeOf(part);
    tell(begun);
    const outcome = await append(hub, { ...wanted, part, begun, signal, silenceMs, tell });
    if (outcome === undefined) break;
    const size = await sizeOf(part);
    if (size > begun) {
      failed = 0;
      waits = backoff({ first: firstWaitMs, longest: LONGEST_WAIT_MS });
    } else if (++failed >= tries) throw new HubError(outcome.reason);
    const wait = outcome.waitMs ?? waits.next().value;
    await raceAbort(new Promise<void>((resolve) => setTimeout(resolve, wait)), signal);
  }
  tell(file.size);
  if (!await hasDigest(part, file)) {
    await rm(part, { force: true });
    throw new HubError(
      `${wanted.repo}: ${file.path} has another content than the hub says (${file.digest.hex}); what came was thrown away`,
    );
  }
  await rename(part, path);
  return "came";
}

/** Why a try ended before its time, and how long the hub asks to wait. */
interface Broken {
  readonly reason: string;
  readonly waitMs?: number;
}

/** One try. Undefined where the rest came. Throws `HubError` where trying again is of no use. */
async function append(
  hub: Hub,
  { repo, commit, file, url: given, part, begun, signal, silenceMs, tell }: Download & {
    readonly part: string;
    readonly begun: number;
    readonly signal: AbortSignal;
    readonly silenceMs: number;
    readonly tell: (size: number) => void;
  },
): Promise<Broken | undefined> {
  const silence = new AbortController();
  const either = AbortSignal.any([signal, silence.signal]);
  const arm = () =>
    setTimeout(() => silence.abort(new Error(`nothing came for ${silenceMs / 1000} s`)), silenceMs);
  let timer = arm();
  try {
    const url = given ??
      `${hub.url}/${repo}/resolve/${commit}/${
        file.path.split("/").map(encodeURIComponent).join("/")
      }`;
    const response = await follow(hub, { url, begun, signal: either });
    const { status } = response;
    if (status !== 200 && status !== 206) {
      await response.body?.cancel();
      if (status === 416 && begun > 0) {
        await rm(part, { force: true });
        return { reason: `${repo}: ${file.path} is shorter at the hub than what came of it` };
      }
      const reason = refusal(status, { url: hub.url, repo, hasToken: hub.token !== undefined });
      if (status !== 429 && status < 500) throw new HubError(reason);
      const seconds = Number(response.headers.get("retry-after") ?? NaN);
      return {
        reason,
        ...(Number.isFinite(seconds) && { waitMs: Math.min(1000 * seconds, LONGEST_WAIT_MS) }),
      };
    }
    // A server without ranges answers the whole file.
    let size = status === 206 ? begun : 0;
    const target = await open(part, size === 0 ? "w" : "a");
    try {
      for await (const bytes of response.body ?? []) {
        clearTimeout(timer);
        timer = arm();
        size += bytes.length;
        if (size > file.size) {
          throw new HubError(
            `${repo}: ${file.path} is longer than the ${file.size} bytes that the hub lists`,
          );
        }
        await target.write(bytes);
        tell(size);
      }
      await target.sync();
    } finally {
      await target.close();
    }
    return size === file.size
      ? undefined
      : { reason: `${repo}: ${file.path} broke off after ${size} bytes` };
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof HubError) throw error;
    const cause = silence.signal.aborted ? silence.signal.reason : error;
    return { reason: `${repo}: ${file.path}: ${cause instanceof Error ? cause.message : cause}` };
  } finally {
    clearTimeout(timer);
  }
}

/** Asks, and follows redirects; the token goes to the hub alone. */
async function follow(
  hub: Hub,
  { url, begun, signal }: {
    readonly url: string;
    readonly begun: number;
    readonly signal: AbortSignal;
  },
): Promise<Response> {
  let at = new URL(url);
  for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
    const isHub = at.origin === new URL(hub.url).origin;
    const response = await fetch(at, {
      redirect: "manual",
      signal,
      headers: {
        ...(begun > 0 && { range: `bytes=${begun}-` }),
        ...(isHub && hub.token !== undefined && { authorization: `Bearer ${hub.token}` }),
        "accept-encoding": "identity",
      },
    });
    const location = response.headers.get("location");
    if (response.status < 300 || response.status >= 400 || location === null) return response;
    await response.body?.cancel();
    const next = new URL(location, at);
    if (next.protocol !== "https:" && next.protocol !== at.protocol) {
      throw new HubError(`${at.origin} redirects to ${next.origin}, which is not encrypted`);
    }
    at = next;
  }
  throw new HubError(`${hub.url} redirects more than ${MAX_REDIRECTS} times`);
}

async function sizeOf(path: string): Promise<number> {
  return await stat(path).then((s) => s.size, () => 0);
}

/** Whether a file is there, whole, with the digest that the hub gives. */
async function hasDigest(path: string, { size, digest }: HubFile): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  if (!found?.isFile() || found.size !== size) return false;
  const hash: Hash = createHash(digest.kind === "git" ? "sha1" : "sha256");
  // Git hashes a blob behind a head of its own.
  if (digest.kind === "git") hash.update(`blob ${size}\0`);
  for await (const bytes of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(bytes);
  return hash.digest("hex") === digest.hex;
}
