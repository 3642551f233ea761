/**
 * Requests that are answered before all of their body has come.
 *
 * @module
 */
import type { IncomingMessage } from "node:http";
import type { Socket as NodeSocket } from "node:net";
import type { Outgoing } from "./outgoing.ts";

/** How long a client may go on sending, in milliseconds, and how much, in bytes. */
const LONGEST = 30_000;
const MOST = 64 * 1024 ** 2;

/** Whether more of a request may come than Node takes in when nobody reads it, so that the next would never be reached. */
export function mayStall({ complete, headers, readableHighWaterMark }: IncomingMessage): boolean {
  if (complete) return false;
  return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) >= readableHighWaterMark;
}

/**
 * Closes a connection after a response whose request might stall it, but not before the client has sent the rest: one that
 * is cut off while it sends may never see the response. What nobody reads is thrown away; what the handler has begun to
 * read it may read on.
 */
export function closeAfterUnread(request: IncomingMessage, response: Outgoing, connection: NodeSocket): void {
  response.once("prefinish", () => {
    if (connection.destroyed || !mayStall(request)) return;
    const destroySoon = connection.destroySoon;
    const unread = request.readableFlowing === null;
    // Under Wine what is read with pauses does not all come when this side has ended.
    connection.destroySoon = () => void (unread && connection.end());
    if (unread) discard(request, connection);
    response.once("close", () => connection.destroySoon());
    request.once("end", () => destroySoon.call(connection));
    const timer = setTimeout(() => connection.destroy(), LONGEST);
    Deno.unrefTimer(timer);
    connection.once("close", () => clearTimeout(timer));
  });
}

/** Reads what comes, and ends the connection when it is too much. */
function discard(request: IncomingMessage, connection: NodeSocket): void {
  let count = 0;
  request.on("data", (bytes) => {
    count += bytes.length;
    if (count > MOST) connection.destroy();
  });
}
