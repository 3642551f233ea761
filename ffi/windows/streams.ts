/**
 * Connected stream sockets on ws2_32.
 *
 * @module
 */
import { openLibrary } from "../library.ts";
import type { StreamCalls } from "../stream_io.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import { SYSTEM32 } from "./system32.ts";
import { lastWinsockError, ws2_32 } from "./ws2_32.ts";

const SD = { sending: 1, both: 2 } as const;

/** Apart from the rest of ws2_32, since each function takes its time to bind and most processes need none of these. */
const SYMBOLS = {
  /** `int send(SOCKET s, const char *buf, int len, int flags)` */
  send: { parameters: ["usize", "buffer", "i32", "i32"], result: "i32" },
  /** `int shutdown(SOCKET s, int how)` */
  shutdown: { parameters: ["usize", "i32"], result: "i32" },
  /** The same on a pool thread */
  shutdownElsewhere: { name: "shutdown", parameters: ["usize", "i32"], result: "i32", nonblocking: true },
  /** `int closesocket(SOCKET s)` on a pool thread */
  closeElsewhere: { name: "closesocket", parameters: ["usize"], result: "i32", nonblocking: true },
} as const satisfies Deno.ForeignLibraryInterface;

let symbols: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] | undefined;

function functions(): Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] {
  ws2_32();
  return symbols ??= openLibrary([`${SYSTEM32}\\ws2_32.dll`], SYMBOLS);
}

/**
 * `recv` on a socket that is non-blocking or readable; `undefined` if nothing is there.
 *
 * @param operation What an error says that cannot be done.
 */
export function recvNow(
  s: bigint,
  buffer: Uint8Array<ArrayBuffer>,
  flags: number,
  operation: () => string,
): number | undefined {
  const count = ws2_32().recv(s, buffer, buffer.byteLength, flags);
  if (count !== -1) return count;
  const error = lastWinsockError(operation(), "recv");
  if (error.code === WSA_ERRORS.WSAEWOULDBLOCK) return undefined;
  throw error;
}

/** On non-blocking sockets. */
export const WINSOCK_STREAMS: StreamCalls = {
  receive: (s, buffer) => recvNow(s, buffer, 0, () => `receive on socket ${s}`),

  send(s, bytes) {
    const count = functions().send(s, bytes, bytes.byteLength, 0);
    if (count !== -1) return count;
    const error = lastWinsockError(`send on socket ${s}`, "send");
    if (error.code === WSA_ERRORS.WSAEWOULDBLOCK) return undefined;
    throw error;
  },

  endSending(s) {
    const result = functions().shutdown(s, SD.sending);
    if (result === -1) throw lastWinsockError(`shut down socket ${s}`, "shutdown");
  },

  close(s) {
    const result = ws2_32().closesocket(s);
    if (result === -1) throw lastWinsockError(`close socket ${s}`, "closesocket");
  },
};

/** Shuts both sides of a connection down, if there still is one. */
export function shutDown(s: bigint): void {
  functions().shutdown(s, SD.both);
}

/**
 * Closes a socket on a pool thread: `closesocket` of one that lingers (`SO_LINGER`) and blocks waits.
 *
 * @param s The socket. Its number must not be used any more.
 * @param end Whether both sides are shut down first.
 */
export async function closeElsewhere(s: bigint, end: boolean): Promise<void> {
  if (end) await functions().shutdownElsewhere(s, SD.both);
  await functions().closeElsewhere(s);
}
