import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "../../../proto/mod.ts";
import { type ClientTls, grpcClient, StatusError } from "../../rpc/mod.ts";

/** Whether a service answers and is ready for work. */
export interface HealthAnswer {
  readonly healthy: boolean;
  /** "SERVING", "NOT_SERVING", or why there is no answer. */
  readonly status: string;
}

/**
 * Asks a service how it is: gRPC's health protocol at "host:port" or "grpcs://host:port", or HTTP where the address begins with "http".
 *
 * @param service name of the gRPC service; empty for the process as a whole
 */
export async function checkHealth(
  address: string,
  { service = "", tls = {}, token, timeoutMs = 5000, signal }: {
    readonly service?: string;
    /** For addresses that begin with "grpcs://". */
    readonly tls?: ClientTls | undefined;
    /** What the gateway asks for. */
    readonly token?: string | undefined;
    readonly timeoutMs?: number;
    readonly signal?: AbortSignal;
  } = {},
): Promise<HealthAnswer> {
  return /^https?:\/\//.test(address)
    ? await checkHttp(address, { token, timeoutMs, signal })
    : await checkGrpc(address, { service, tls, timeoutMs, signal });
}

interface CheckOptions {
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

async function checkGrpc(
  address: string,
  { service, tls, timeoutMs, signal }: CheckOptions & {
    readonly service: string;
    readonly tls: ClientTls;
  },
): Promise<HealthAnswer> {
  const client = grpcClient(Health, address, { tls });
  try {
    const { status } = await client.check({ service }, { timeoutMs, ...(signal && { signal }) });
    return { healthy: status === ServingStatus.SERVING, status: ServingStatus[status] };
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof StatusError)) throw error;
    return { healthy: false, status: `${error.status}: ${error.message}` };
  } finally {
    client.close();
  }
}

async function checkHttp(
  address: string,
  { token, timeoutMs, signal }: CheckOptions & { readonly token: string | undefined },
): Promise<HealthAnswer> {
  const url = new URL("/healthz", address);
  try {
    const timeout = AbortSignal.timeout(timeoutMs);
    const response = await fetch(url, {
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      signal: signal ? AbortSignal.any([timeout, signal]) : timeout,
    });
    await response.body?.cancel();
    return { healthy: response.ok, status: response.ok ? "SERVING" : `HTTP ${response.status}` };
  } catch (error) {
    signal?.throwIfAborted();
    return { healthy: false, status: error instanceof Error ? error.message : String(error) };
  }
}
