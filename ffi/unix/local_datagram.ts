/**
 * Datagrams to a local socket (unix(7)).
 *
 * @module
 */
import { AF_UNIX } from "../addresses.ts";
import { SOCK } from "../../structs/constants.ts";
import { isErrno, lastUnixError, unixError } from "./errno.ts";
import { errno, libc } from "./libc.ts";
import { encodeLocalAddress } from "./local_address.ts";
import { newSocket } from "./new_descriptors.ts";
import { unixPoller } from "./poll_system.ts";
import { unixSystem } from "./system.ts";

/**
 * Sends one datagram, and waits while the receiver's queue is full.
 *
 * @param address The receiver's file, or `@` and its abstract name.
 * @param bytes The datagram.
 * @throws {RangeError} If the address is too long for the system.
 * @throws {WinsockError} If there is no such receiver.
 */
export async function sendLocalDatagram(address: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  const name = encodeLocalAddress(address.replace(/^@/, "\0"));
  const operation = `send a datagram to ${address}`;
  const s = newSocket(AF_UNIX, SOCK.SOCK_DGRAM);
  try {
    const connected = libc().connect(s, name, name.byteLength);
    if (connected === -1) throw lastUnixError(operation, "connect");
    while (libc().write(s, bytes, BigInt(bytes.byteLength)) === -1n) {
      const code = errno();
      if (!isErrno(code, ...unixSystem().waits.datagram)) throw unixError(code, operation, "write");
      await unixPoller().prepare().wait(s, "write", { operation }).over;
    }
  } finally {
    libc().close(s);
  }
}
