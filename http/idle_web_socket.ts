/**
 * WebSockets whose client has vanished.
 *
 * @module
 */
import type { Duplex } from "node:stream";
import type { WsSocket } from "./packages.ts";

/**
 * Asks a client that has been silent for half of the time whether it is there, and ends its WebSocket if nothing comes for
 * the other half. While something waits to be sent, what counts is how much of it the client takes, which is looked at
 * elsewhere.
 *
 * @param socket The WebSocket, which is open.
 * @param connection What it is on.
 * @param idleTimeout The time, in milliseconds; 0 for any.
 */
export function endWhenIdle(socket: WsSocket, connection: Duplex, idleTimeout: number): void {
  if (idleTimeout === 0) return;
  const half = idleTimeout / 2;
  let heard = performance.now();
  let asked: number | undefined;
  let timer: ReturnType<typeof setTimeout>;
  const hear = () => {
    heard = performance.now();
    asked = undefined;
  };
  const check = () => {
    if (socket.readyState !== socket.OPEN) return;
    if (socket.bufferedAmount > 0) hear();
    const now = performance.now();
    const silent = now - heard;
    if (silent < half) return wait(half - silent);
    // If the check comes as late as that, it is this process that was busy.
    if (asked !== undefined && now - asked < idleTimeout) return socket.terminate();
    asked = now;
    socket.ping();
    wait(half);
  };
  const wait = (delay: number) => {
    timer = setTimeout(check, Math.ceil(delay));
    Deno.unrefTimer(timer);
  };
  connection.on("data", hear);
  socket.once("close", () => clearTimeout(timer));
  wait(half);
}
