/** What a test needs of the system, and why some systems do not have it. */
import { AF_UNIX } from "../../ffi/socket_address.ts";
import { newSocket } from "../../ffi/unix/descriptors.ts";
import { libc, unixSystem } from "../../ffi/unix/libc.ts";
import { refuseDescriptors } from "../../ffi/unix/local_sockets.ts";
import { SOCK } from "../../structs/constants.ts";

const onWindows = Deno.build.os === "windows";

/** Linux 6.16 or newer. */
function canRefuse(): boolean {
  if (onWindows) return false;
  const s = newSocket(AF_UNIX, SOCK.SOCK_STREAM);
  try {
    return refuseDescriptors(s);
  } finally {
    libc().close(s);
  }
}

const NEEDS = {
  /** Windows hands sockets over by itself: no rendezvous, no message with descriptors. */
  "the unix provider": !onWindows,
  /** Windows cannot hand local sockets over. */
  "local sockets": !onWindows,
  /** On macOS, and on Windows, a local socket is a file. */
  "abstract names": !onWindows && unixSystem().abstractNames,
  /** macOS has no SOCK_SEQPACKET among its local sockets. */
  "seqpacket sockets": !onWindows && unixSystem().sequencedPackets,
  /** macOS has no SO_PASSRIGHTS. */
  get "sockets that refuse descriptors"() {
    return canRefuse();
  },
  /** macOS has launchd, and Windows services. */
  "systemd": Deno.build.os === "linux",
  /** macOS tells a full queue of a local listener from none as little as Windows does. */
  "waiting for a local listener": Deno.build.os === "linux",
  /** macOS refuses it with EISCONN. */
  "sending to an address on a connected socket": Deno.build.os !== "darwin",
} as const satisfies Record<string, boolean>;

/** Leaves a test out where the system has not what it needs. */
export function needs(what: keyof typeof NEEDS): { ignore: boolean } {
  return { ignore: !NEEDS[what] };
}
