/**
 * Datagrams on Windows, through sockets of the library's own making and of others'.
 *
 * @module
 */
import type { ReceiveNow } from "../datagrams.ts";
import { openLibrary } from "../library.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import { SYSTEM32 } from "./system32.ts";
import { lastWinsockError, ws2_32 } from "./ws2_32.ts";

/**
 * What hosts answered to earlier datagrams, told once: no port there (WSAECONNRESET), or too far away (WSAENETRESET).
 * On an unconnected socket that says nothing about the datagrams to come.
 */
const ANSWERS: readonly number[] = [WSA_ERRORS.WSAECONNRESET, WSA_ERRORS.WSAENETRESET];

/** Apart from the rest of ws2_32, since each function takes its time to bind and most processes need none of these. */
const SYMBOLS = {
  /** `int sendto(SOCKET s, const char *buf, int len, int flags, const struct sockaddr *to, int tolen)` */
  sendto: { parameters: ["usize", "buffer", "i32", "i32", "buffer", "i32"], result: "i32" },
  /** `int recvfrom(SOCKET s, char *buf, int len, int flags, struct sockaddr *from, int *fromlen)` */
  recvfrom: { parameters: ["usize", "buffer", "i32", "i32", "buffer", "buffer"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

let symbols: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] | undefined;

function functions(): Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] {
  ws2_32();
  return symbols ??= openLibrary([`${SYSTEM32}\\ws2_32.dll`], SYMBOLS);
}

/**
 * Sends one datagram without waiting, on a non-blocking socket.
 *
 * @param operation What is being done, for the error.
 * @returns The bytes sent, or `undefined` if there is no room at the moment.
 */
export function sendNow(
  s: bigint,
  data: Uint8Array<ArrayBuffer>,
  name: Uint8Array<ArrayBuffer>,
  operation: string,
): number | undefined {
  const { sendto } = functions();
  const sent = sendto(s, data, data.byteLength, 0, name, name.byteLength);
  if (sent !== -1) return sent;
  const error = lastWinsockError(operation, "sendto");
  if (error.code === WSA_ERRORS.WSAEWOULDBLOCK) return undefined;
  throw error;
}

/** `recvfrom`, on a non-blocking socket. */
export const receiveNow: ReceiveNow = (s, buffer, name, nameLength) => {
  const { recvfrom } = functions();
  for (;;) {
    const received = recvfrom(s, buffer, buffer.byteLength, 0, name, nameLength);
    if (received !== -1) return received;
    const error = lastWinsockError(`receive on socket ${s}`, "recvfrom");
    if (error.code === WSA_ERRORS.WSAEWOULDBLOCK) return undefined;
    // The buffer is full, and the rest of the datagram is lost; elsewhere that is no error either.
    if (error.code === WSA_ERRORS.WSAEMSGSIZE) return buffer.byteLength;
    if (!ANSWERS.includes(error.code)) throw error;
  }
};
