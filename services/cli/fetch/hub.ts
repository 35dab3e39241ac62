import { HubApiError, listFiles, modelInfo } from "@huggingface/hub";

/** A hub that answers no, or something that is none of a hub's answers. */
export class HubError extends Error {
  override readonly name = "HubError";
}

/** A file of a repository, as the hub lists it. */
export interface HubFile {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** What its content must hash to: sha256 of large files, git's sha1 of a blob of the others; lower-case hex. */
  readonly digest: { readonly kind: "sha256" | "git"; readonly hex: string };
}

/** Where models come from. */
export interface Hub {
  /** Without a slash at its end. */
  readonly url: string;
  readonly token?: string | undefined;
}

/** The hub of the environment: HF_ENDPOINT, a token from HF_TOKEN. */
export function hubOf(env: { get(name: string): string | undefined }): Hub {
  const url = (env.get("HF_ENDPOINT") || "https://huggingface.co").replace(/\/+$/, "");
  return { url, token: env.get("HF_TOKEN") || env.get("HUGGING_FACE_HUB_TOKEN") || undefined };
}

/** A path that stays within the folder that it is written to. */
const SAFE_PATH = /^(?!\/)(?!.*(?:^|\/)\.{1,2}(?:\/|$))[^\\\0:]+$/;
const MAX_FILES = 10_000;

/** The revision's commit and its files. Throws `HubError` where the hub does not answer, refuses, or lists what cannot be. */
export async function listRepository(
  { url, token }: Hub,
  { repo, revision, signal }: {
    readonly repo: string;
    readonly revision: string;
    readonly signal: AbortSignal;
  },
): Promise<{ readonly commit: string; readonly files: readonly HubFile[] }> {
  const options = {
    hubUrl: url,
    ...(token !== undefined && { accessToken: token }),
    fetch: (input: URL | RequestInfo, init?: RequestInit) => fetch(input, { ...init, signal }),
  };
  try {
    const { sha } = await modelInfo({
      ...options,
      name: repo,
      revision,
      additionalFields: ["sha"],
    });
    const files: HubFile[] = [];
    for await (const entry of listFiles({ ...options, repo, revision: sha, recursive: true })) {
      if (entry.type !== "file") continue;
      if (!SAFE_PATH.test(entry.path)) {
        throw new HubError(
          `${repo} lists a file ${JSON.stringify(entry.path)}, which is no path of its own`,
        );
      }
      if (files.length >= MAX_FILES) {
        throw new HubError(`${repo} lists more than ${MAX_FILES} files`);
      }
      const { lfs, oid } = entry;
      files.push({
        path: entry.path,
        size: lfs?.size ?? entry.size,
        digest: lfs === undefined
          ? { kind: "git", hex: oid ?? "" }
          : { kind: "sha256", hex: lfs.oid.replace(/^sha256:/, "") },
      });
    }
    return { commit: sha, files };
  } catch (error) {
    signal.throwIfAborted();
    throw asHubError(error, { url, repo, hasToken: token !== undefined });
  }
}

function asHubError(
  error: unknown,
  { url, repo, hasToken }: {
    readonly url: string;
    readonly repo: string;
    readonly hasToken: boolean;
  },
): HubError {
  if (error instanceof HubError) return error;
  if (error instanceof HubApiError) {
    return new HubError(refusal(error.statusCode, { url, repo, hasToken }), { cause: error });
  }
  const why = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const told = why instanceof Error ? why.message : String(why);
  // The address of the question is long, and says nothing.
  const reason = told.replace(/^error sending request for url \(.*?\): /, "");
  return new HubError(`${url} does not answer (${reason}): HF_ENDPOINT names a mirror`, {
    cause: error,
  });
}

/** What a status of the hub means for a person. */
export function refusal(
  status: number,
  { url, repo, hasToken }: {
    readonly url: string;
    readonly repo: string;
    readonly hasToken: boolean;
  },
): string {
  if (status === 401 || status === 403) {
    const how = hasToken
      ? `the account of HF_TOKEN must agree to its terms at ${url}/${repo}`
      : `agree to its terms at ${url}/${repo}, and give a token of that account in HF_TOKEN`;
    return `${repo} is not given to everyone (${status}), or does not exist: ${how}`;
  }
  if (status === 404) return `${repo} does not exist at ${url}, or not at that revision (404)`;
  if (status === 429) return `${url} asks to wait (429): try again later, or with HF_TOKEN`;
  return `${url} answered ${status} for ${repo}`;
}
