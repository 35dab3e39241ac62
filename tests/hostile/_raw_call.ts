import { Buffer } from "node:buffer";
import http2, { type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";

/** How a call ended: its gRPC status, or HTTP/2's error code where there was none. */
export interface RawEnd {
  readonly status: string | undefined;
  readonly message: string;
  readonly rstCode: number | undefined;
}

/** A connection that sends what no gRPC library would. */
export class RawConnection {
  readonly session: ClientHttp2Session;
  /** Resolves when the connection is over, whoever ended it. */
  readonly closed: Promise<void>;

  /** @param window bytes of an answer that may come before any is taken */
  constructor(address: string, { window }: { readonly window?: number } = {}) {
    this.session = http2.connect(`http://${address}`, {
      ...(window !== undefined && { settings: { initialWindowSize: window } }),
    });
    this.session.on("error", () => {});
    this.closed = new Promise((resolve) => this.session.once("close", () => resolve()));
  }

  /** Begins a call and sends these bytes, and no end unless told to. */
  call(
    path: string,
    { body = new Uint8Array(), headers = {}, end = false }: {
      readonly body?: Uint8Array;
      readonly headers?: Readonly<Record<string, string>>;
      readonly end?: boolean;
    } = {},
  ): RawCall {
    return new RawCall(
      this.session.request({
        ":method": "POST",
        ":path": path,
        "content-type": "application/grpc",
        te: "trailers",
        ...headers,
      }),
      { body, end },
    );
  }

  /** Closes it without a word. */
  close(): void {
    this.session.destroy();
  }
}

/** A call that need not be a proper one. */
export class RawCall {
  readonly stream: ClientHttp2Stream;
  readonly ended: Promise<RawEnd>;

  constructor(
    stream: ClientHttp2Stream,
    { body, end }: { readonly body: Uint8Array; readonly end: boolean },
  ) {
    this.stream = stream;
    const { promise, resolve } = Promise.withResolvers<RawEnd>();
    this.ended = promise;
    const told = (headers: Record<string, unknown>) => {
      if (headers["grpc-status"] === undefined) return;
      resolve({
        status: String(headers["grpc-status"]),
        message: decodeURI(String(headers["grpc-message"] ?? "")),
        rstCode: undefined,
      });
    };
    stream.on("response", told);
    stream.on("trailers", told);
    stream.on("error", () => {});
    stream.on("data", () => {});
    stream.once(
      "close",
      () => resolve({ status: undefined, message: "", rstCode: stream.rstCode }),
    );
    if (body.length > 0) stream.write(Buffer.from(body));
    if (end) stream.end();
  }
}

/** A message's head: its length, and that it is not compressed. */
export function head(length: number): Uint8Array {
  const bytes = new Uint8Array(5);
  new DataView(bytes.buffer).setUint32(1, length);
  return bytes;
}

/** The status of a proper health check on a connection of its own. */
export async function health(address: string): Promise<string | undefined> {
  const connection = new RawConnection(address);
  const { ended } = connection.call("/grpc.health.v1.Health/Check", { body: head(0), end: true });
  const { status } = await ended;
  connection.close();
  return status;
}
