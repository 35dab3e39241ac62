import type { Server } from "node:http";
import type { Socket } from "node:net";

/** How long a connection may take to say what it asks for, and be idle after an answer. */
export interface HttpTimes {
  readonly headersMs: number;
  readonly idleMs: number;
}

/**
 * Keeps a server's connections to a number: at the limit, one that has not asked for anything makes way for a new one,
 * the oldest of these first.
 */
export function limitConnections(server: Server, max: number): void {
  /** Requests in progress by connection, oldest first. */
  const active = new Map<Socket, number>();
  server.on("connection", (socket: Socket) => {
    if (active.size >= max) {
      const [idle] = [...active].find(([, requests]) => requests === 0) ?? [];
      if (idle === undefined) {
        socket.destroy();
        return;
      }
      active.delete(idle);
      idle.destroy();
    }
    active.set(socket, 0);
    socket.on("error", () => {});
    socket.once("close", () => active.delete(socket));
  });
  server.on("request", ({ socket }, response) => {
    const count = (change: number) => {
      const requests = active.get(socket);
      if (requests !== undefined) active.set(socket, requests + change);
    };
    count(1);
    response.once("close", () => count(-1));
  });
}
