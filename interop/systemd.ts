/**
 * Socket activation by systemd, the receiving side (sd_listen_fds(3)).
 *
 * @module
 */
import { closeOnExec, inheritable } from "../ffi/unix/descriptor_flags.ts";
import type { Environment } from "./environment.ts";
import { requireLinux } from "./linux_only.ts";
import { type PassedHandle, PassedSockets } from "./passed_sockets.ts";

/** The variables of the protocol; `LISTEN_PIDFDID`, of newer systemds, is not checked. */
const VARIABLES = [
  "LISTEN_PID",
  "LISTEN_PIDFDID",
  "LISTEN_FDS",
  "LISTEN_FDNAMES",
  "LISTEN_FDS_FIRST_FD",
] as const;

/** `SD_LISTEN_FDS_START`: behind stdin, stdout and stderr. */
export const FIRST_DESCRIPTOR = 3;
const UNNAMED = "unknown";

/** Where {@linkcode systemdSockets} looks. */
export interface SystemdOptions {
  /** The environment. Default `Deno.env`. */
  env?: Environment;
  /** The process the sockets must be meant for. Default this one. */
  processId?: number;
}

/**
 * Takes over the sockets that systemd, `systemd-socket-activate` or systemfd passed to this process
 * ([sd_listen_fds_with_names](https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html)): the
 * descriptors `LISTEN_FDS` counts, from 3 on or from `LISTEN_FDS_FIRST_FD`, under the names in `LISTEN_FDNAMES`.
 *
 * The variables are removed, so that this succeeds once and no child takes them for its own, and the descriptors are no
 * longer inherited. An error leaves both as they were. Without `LISTEN_PID` the sockets are taken to be meant for this
 * process, as systemfd's `--no-pid` has it.
 *
 * Needs `--allow-env=LISTEN_PID,LISTEN_PIDFDID,LISTEN_FDS,LISTEN_FDNAMES,LISTEN_FDS_FIRST_FD`; where sockets were passed,
 * also `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6`, or where the distribution keeps it. Start `deno` itself: under a
 * wrapper such as `npx deno` the process systemd started is another one.
 *
 * @example A server that systemd may have started
 * ```ts
 * import { systemdSockets } from "@winsock/handoff/interop";
 * import { listen } from "@winsock/handoff";
 *
 * using passed = systemdSockets();
 * using listener = passed.takeListener(0) ?? listen({ hostname: "127.0.0.1", port: 0 });
 * ```
 *
 * @param options Where to look.
 * @returns The sockets; none where none were passed, or were passed to another process. Without `LISTEN_FDNAMES` each is
 * named `unknown`, as in systemd.
 * @throws {TypeError} If the variables are no numbers, there are more or fewer names than sockets, or a descriptor was not
 * passed but opened by this process.
 * @throws {WinsockError} WSAENOTSOCK if a descriptor is not open.
 * @throws {Deno.errors.NotCapable} Without the permission for one of the variables, whether sockets were passed or not.
 * @throws {Deno.errors.NotSupported} If sockets were passed and this is not Linux.
 */
export function systemdSockets(options: SystemdOptions = {}): PassedSockets {
  const env = options.env ?? Deno.env;
  // What may not be read may not be removed either, which is to be known before anything is.
  for (const name of VARIABLES) env.get(name);
  const variables = readVariables(env, options.processId ?? Deno.pid);
  if (variables === undefined) return new PassedSockets([]);
  const { count, first, names } = variables;
  requireLinux("take over the sockets of LISTEN_FDS");
  const passed: PassedHandle[] = [];
  while (passed.length < count) {
    const handle = BigInt(first + passed.length);
    if (!inheritable(handle)) throw new TypeError(`Cannot take over socket ${handle}: this process opened it itself`);
    passed.push({ name: names?.[passed.length] ?? UNNAMED, handle });
  }
  for (const { handle } of passed) closeOnExec(handle);
  for (const name of VARIABLES) env.delete(name);
  return new PassedSockets(passed);
}

interface Variables {
  readonly count: number;
  readonly first: number;
  readonly names: readonly string[] | undefined;
}

/** What the variables say; nothing if no sockets were passed to this process. */
function readVariables(env: Environment, processId: number): Variables | undefined {
  const count = readNumber(env, "LISTEN_FDS");
  if (count === undefined || count === 0 || (readNumber(env, "LISTEN_PID") ?? processId) !== processId) {
    return undefined;
  }
  const first = readNumber(env, "LISTEN_FDS_FIRST_FD") ?? FIRST_DESCRIPTOR;
  if (first < FIRST_DESCRIPTOR) throw new TypeError(`Cannot take over sockets: LISTEN_FDS_FIRST_FD is ${first}`);
  const names = env.get("LISTEN_FDNAMES")?.split(":");
  if (names !== undefined && names.length !== count) {
    throw new TypeError(`Cannot take over sockets: LISTEN_FDNAMES has ${names.length} names for ${count} sockets`);
  }
  return { count, first, names };
}

/** A variable's number; an empty variable counts as none. */
function readNumber(env: Environment, name: string): number | undefined {
  const text = env.get(name) ?? "";
  if (text === "") return undefined;
  if (!/^\d{1,9}$/.test(text)) throw new TypeError(`Cannot take over sockets: ${name} is "${text}", no number`);
  return Number(text);
}
