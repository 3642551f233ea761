/**
 * What macOS tells a process of its own descriptors (`proc_info.h`), for what its `getsockopt` leaves out.
 *
 * @module
 */
import { lastUnixError } from "./errno.ts";
import { libcFunctions } from "./libc.ts";
import { unixSystem } from "./system.ts";

const PROC_PIDFDSOCKETINFO = 3;
/** Room for `struct socket_fdinfo`, of 792 bytes. */
const SIZE = 1024;
/** Where `psi.soi_options` is in it: behind `struct proc_fileinfo` of 24 bytes and `struct vinfo_stat` of 136. */
const SOI_OPTIONS = 188;

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
