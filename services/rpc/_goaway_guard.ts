import http2, { type Http2Session } from "node:http2";
import { setImmediate } from "node:timers";

/*
 * Deno's node:http2 ends a session from within the handling of its peer's GOAWAY; what nghttp2 then still reads of it is
 * freed memory, and about one such frame in a thousand ends the process (denoland/deno#36788, Deno 2.9.6). Clients send
 * one with every orderly close, and servers when they drain, so until that is mended a session ends a turn later here.
 */
const { prototype }: { readonly prototype: Http2Session } = Reflect.get(http2, "Http2Session");
const { emit } = prototype;

prototype.emit = function (this: Http2Session, event: string | symbol, ...args: unknown[]) {
  // Emitted before the session is ended.
  if (event === "goaway") deferEnd(this);
  return Reflect.apply(emit, this, [event, ...args]);
};

/** Shadows the methods that end a session until the frame has been handled. */
function deferEnd(session: Http2Session): void {
  let end: (() => void) | undefined;
  session.close = (callback) => {
    end ??= () => session.close(callback);
  };
  session.destroy = (error, code) => {
    end = () => session.destroy(error, code);
  };
  setImmediate(() => {
    Reflect.deleteProperty(session, "close");
    Reflect.deleteProperty(session, "destroy");
    end?.();
  });
}
