/**
 * Datagrams on Linux.
 *
 * @module
 */
import type { ReceiveNow } from "../datagrams.ts";
import { openLibrary } from "../library.ts";
import { unixError } from "./errno.ts";
import { errno, LIBC_PATHS } from "./libc.ts";

const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const EINTR = 4;
const EAGAIN = 11;
/**
 * What hosts answered to earlier datagrams of a connected socket: ENETUNREACH, ECONNREFUSED, EHOSTUNREACH. Each is told
 * once, and no reason to stop receiving.
 */
const ANSWERS: readonly number[] = [101, 111, 113];

/** Apart from the rest of libc, since each function takes its time to bind and most processes need none of these. */
const SYMBOLS = {
  /** `ssize_t sendto(int sockfd, const void *buf, size_t len, int flags, const struct sockaddr *dest_addr, socklen_t addrlen)` */
  sendto: { parameters: ["usize", "buffer", "usize", "i32", "buffer", "u32"], result: "isize" },
  /** `ssize_t recvfrom(int sockfd, void *buf, size_t len, int flags, struct sockaddr *src_addr, socklen_t *addrlen)` */
  recvfrom: { parameters: ["usize", "buffer", "usize", "i32", "buffer", "buffer"], result: "isize" },
} as const satisfies Deno.ForeignLibraryInterface;

let symbols: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] | undefined;

function functions(): Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] {
  return symbols ??= openLibrary(LIBC_PATHS, SYMBOLS);
}

/**
 * Sends one datagram without waiting.
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
  // Whatever made the socket blocking, or whoever: this thread must not wait.
  const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  const sent = sendto(s, data, BigInt(data.byteLength), flags, name, name.byteLength);
  if (sent !== -1n) return Number(sent);
  const code = errno();
  if (code === EAGAIN || code === EINTR) return undefined;
  throw unixError(code, operation, "sendto");
}

/** `recvfrom`. */
export const receiveNow: ReceiveNow = (s, buffer, name, nameLength) => {
  const { recvfrom } = functions();
  for (;;) {
    const received = recvfrom(s, buffer, BigInt(buffer.byteLength), MSG_DONTWAIT, name, nameLength);
    if (received !== -1n) return Number(received);
    const code = errno();
    if (code === EAGAIN) return undefined;
    if (code === EINTR || ANSWERS.includes(code)) continue;
    throw unixError(code, `receive on socket ${s}`, "recvfrom");
  }
};
