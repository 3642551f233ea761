/**
 * Datagrams on Unix.
 *
 * @module
 */
import type { ReceiveNow } from "../datagrams.ts";
import { isErrno, unixError } from "./errno.ts";
import { errno, libcFunctions } from "./libc.ts";
import { unixSystem } from "./system.ts";
import type { ErrnoName } from "./systems/unix_system.ts";

/** What hosts answered to earlier datagrams of a connected socket. Each is told once, and no reason to stop receiving. */
const ANSWERS: readonly ErrnoName[] = ["ENETUNREACH", "ECONNREFUSED", "EHOSTUNREACH"];

const functions = libcFunctions({
  /** `ssize_t sendto(int sockfd, const void *buf, size_t len, int flags, const struct sockaddr *dest_addr, socklen_t addrlen)` */
  sendto: { parameters: ["usize", "buffer", "usize", "i32", "buffer", "u32"], result: "isize" },
  /** `ssize_t recvfrom(int sockfd, void *buf, size_t len, int flags, struct sockaddr *src_addr, socklen_t *addrlen)` */
  recvfrom: { parameters: ["usize", "buffer", "usize", "i32", "buffer", "buffer"], result: "isize" },
});

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
  const { MSG_DONTWAIT, MSG_NOSIGNAL, waits } = unixSystem();
  // Whatever made the socket blocking, or whoever: this thread must not wait.
  const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  const sent = sendto(s, data, BigInt(data.byteLength), flags, name, name.byteLength);
  if (sent !== -1n) return Number(sent);
  const code = errno();
  if (isErrno(code, ...waits.datagram)) return undefined;
  throw unixError(code, operation, "sendto");
}

/** `recvfrom`. */
export const receiveNow: ReceiveNow = (s, buffer, name, nameLength) => {
  const { recvfrom } = functions();
  const { MSG_DONTWAIT } = unixSystem();
  for (;;) {
    const received = recvfrom(s, buffer, BigInt(buffer.byteLength), MSG_DONTWAIT, name, nameLength);
    if (received !== -1n) return Number(received);
    const code = errno();
    if (isErrno(code, "EAGAIN")) return undefined;
    if (isErrno(code, "EINTR", ...ANSWERS)) continue;
    throw unixError(code, `receive on socket ${s}`, "recvfrom");
  }
};
