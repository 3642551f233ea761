/**
 * What sockets are. On macOS a process also asks about its own descriptors (`proc_info.h`), for what its `getsockopt`
 * leaves out.
 *
 * @module
 */
import { AF, IPPROTO, SOCK } from "../../structs/constants.ts";
import { AF_INET, AF_UNIX, readFamily } from "../addresses.ts";
import type { OptionNumbers } from "../socket_options.ts";
import { lastUnixError } from "./errno.ts";
import { libc, libcFunctions } from "./libc.ts";
import { unixSystem } from "./system.ts";

const PROC_PIDFDSOCKETINFO = 3;
/** Room for `struct socket_fdinfo`, of 792 bytes. */
const SIZE = 1024;
/** Where `psi.soi_options` is in it: behind `struct proc_fileinfo` of 24 bytes and `struct vinfo_stat` of 136. */
const SOI_OPTIONS = 188;

/** Room for any address, of which the family is wanted. */
const NAME_SIZE = 128;

const functions = libcFunctions({
  /** `int proc_pidfdinfo(int pid, int fd, int flavor, void *buffer, int buffersize)` */
  proc_pidfdinfo: { parameters: ["i32", "usize", "i32", "buffer", "i32"], result: "i32" },
});

/**
 * Whether a socket of this process listens.
 *
 * @param s The socket.
 * @param operation What it is needed for, for the error.
 * @throws {WinsockError} WSAENOTSOCK if it is no open socket.
 */
export function hasListened(s: bigint, operation: string): boolean {
  const info = new Uint8Array(SIZE);
  const size = functions().proc_pidfdinfo(Deno.pid, s, PROC_PIDFDSOCKETINFO, info, SIZE);
  if (size <= 0) throw lastUnixError(operation, "proc_pidfdinfo");
  const [, SO_ACCEPTCONN] = unixSystem().berkeley.SO_ACCEPTCONN;
  return (new DataView(info.buffer).getUint16(SOI_OPTIONS, true) & SO_ACCEPTCONN) !== 0;
}

/** A socket's family, type and protocol, in Winsock's numbers. */
export interface SocketDescription {
  readonly family: number;
  readonly type: number;
  readonly protocol: number;
}

/**
 * What a socket is.
 *
 * @param s The socket.
 * @param operation What it is needed for, for the error.
 * @throws {WinsockError} WSAENOTSOCK if it is no open socket.
 */
export function describeSocket(s: bigint, operation: string): SocketDescription {
  const { berkeley, lengthPrefixed, SO_PROTOCOL } = unixSystem();
  const type = readOption(s, berkeley.SO_TYPE, operation);
  const name = new Uint8Array(NAME_SIZE);
  const named = libc().getsockname(s, name, new Int32Array([NAME_SIZE]));
  if (named === -1) throw lastUnixError(operation, "getsockname");
  const family = readFamily(name, lengthPrefixed);
  if (family !== AF_INET && family !== berkeley.AF_INET6) return { family: AF_UNIX, type, protocol: 0 };
  const usual = type === SOCK.SOCK_DGRAM ? IPPROTO.IPPROTO_UDP : IPPROTO.IPPROTO_TCP;
  const protocol = SO_PROTOCOL === undefined ? usual : readOption(s, SO_PROTOCOL, operation);
  return { family: family === AF_INET ? AF.AF_INET : AF.AF_INET6, type, protocol };
}

function readOption(s: bigint, [level, optname]: OptionNumbers, operation: string): number {
  const value = new Int32Array(1);
  const result = libc().getsockopt(s, level, optname, value, new Int32Array([4]));
  if (result === -1) throw lastUnixError(operation, "getsockopt");
  return value[0]!;
}
