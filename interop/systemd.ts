/**
 * systemd: socket activation on both sides (sd_listen_fds(3)), and telling the service manager how a service is
 * (sd_notify(3)).
 *
 * @module
 */
import { closeOnExec, duplicateFrom, inheritable, setStatusFlags, statusFlags } from "../ffi/unix/descriptors.ts";
import { type Environment, type PassedHandle, PassedSockets, requireLinux } from "./passed_sockets.ts";
import type { ChildProcess } from "node:child_process";
import { nodeBuiltin } from "../internal/runtime.ts";
import { socketName } from "../ffi/platform.ts";
import { systemCalls } from "../ffi/system.ts";
import type { AnySocket } from "../sockets/duplicate_socket.ts";
import { monotonicMicroseconds } from "../ffi/unix/libc.ts";
import { sendLocalDatagram } from "../ffi/unix/local_sockets.ts";

/** The variables of the protocol; `LISTEN_PIDFDID`, of newer systemds, is not checked. */
const VARIABLES = [
  "LISTEN_PID",
  "LISTEN_PIDFDID",
  "LISTEN_FDS",
  "LISTEN_FDNAMES",
  "LISTEN_FDS_FIRST_FD",
] as const;

/** `SD_LISTEN_FDS_START`: behind stdin, stdout and stderr. */
const FIRST_DESCRIPTOR = 3;
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

/** How {@linkcode spawnActivated} starts the program. */
export interface SpawnActivatedOptions {
  /** Its arguments. Default none. */
  args?: readonly string[];
  /** Its working directory. Default this process's. */
  cwd?: string;
  /** Environment variables, beside the protocol's and this process's own. */
  env?: Readonly<Record<string, string>>;
  /** Whether those of this process are left out. Default false. */
  clearEnv?: boolean;
  /** Its stdin, stdout and stderr. Default all inherited. */
  stdio?: readonly [StandardStream, StandardStream, StandardStream];
}

/** What a standard stream of the program is connected to. */
export type StandardStream = "inherit" | "pipe" | "ignore";

/**
 * The process id must be the program's own, which is known once its process exists: a shell that becomes the program
 * says its own. The arguments are the number of sockets, their names, and the command line. `DENO_EXTRA_STDIO_FDS` is
 * Deno's, for a child that expects its own kind of extra streams.
 */
const BECOME = `export LISTEN_PID=$$ LISTEN_FDS="$1" LISTEN_FDNAMES="$2"
unset LISTEN_PIDFDID LISTEN_FDS_FIRST_FD DENO_EXTRA_STDIO_FDS
shift 2
exec "$@"`;
const SHELL = "/bin/sh";

/** What systemd takes as a name: ASCII without control characters and colons, 1 to 255. */
const NAME = /^[ -9;-~]{1,255}$/;

/**
 * Starts a program with sockets as systemd passes them: descriptors from 3 on, `LISTEN_PID`, `LISTEN_FDS` and
 * `LISTEN_FDNAMES`. Whatever uses sd_listen_fds(3) or its like can take them over.
 *
 * The sockets stay open and this process's; close them where the program alone is to have them. Both share what the
 * system keeps with a socket: it is non-blocking for the program too, as with `NonBlocking=true` in a unit file.
 *
 * Needs `--allow-run=/bin/sh`, through which the program is started, `--allow-env` (`--allow-env=NODE_V8_COVERAGE` with
 * `clearEnv`), and ffi access to the system's socket library.
 *
 * @example
 * ```ts
 * import { listen } from "@winsock/handoff";
 * import { spawnActivated } from "@winsock/handoff/interop";
 * import { assertEquals } from "@std/assert";
 * import { once } from "node:events";
 *
 * using listener = listen({ hostname: "127.0.0.1", port: 0 });
 * const child = spawnActivated("test", [["web", listener]], { args: ["-S", "/proc/self/fd/3"] });
 * const [code] = await once(child, "exit");
 * assertEquals(code, 0);
 * ```
 *
 * @param command The program: a path, or a name to be found in `PATH`.
 * @param sockets The sockets in order, each with its name.
 * @param options How.
 * @returns The child process, of `node:child_process`. If the program cannot be started it exits with 126 or 127.
 * @throws {RangeError} If there are no sockets.
 * @throws {TypeError} If a name is empty, is longer than 255, or has a colon, a control character or a letter outside
 * ASCII.
 * @throws {WinsockError} WSAENOTSOCK if a socket was closed or given up.
 * @throws {Deno.errors.NotSupported} If this is not Linux.
 */
export function spawnActivated(
  command: string,
  sockets: Iterable<readonly [name: string, socket: AnySocket]>,
  options: SpawnActivatedOptions = {},
): ChildProcess {
  requireLinux(`pass sockets to ${command}`);
  const calls = systemCalls();
  const passed = [...sockets];
  if (passed.length === 0) throw new RangeError(`Cannot pass sockets to ${command}: there are none`);
  for (const [name, { handle }] of passed) {
    if (!NAME.test(name)) {
      throw new TypeError(`Cannot pass a socket to ${command}: systemd takes no name like "${name}"`);
    }
    calls.assertSocket(handle, `pass ${socketName(handle)} to ${command}`);
  }
  const { args = [], cwd, env, clearEnv = false, stdio = ["inherit", "inherit", "inherit"] } = options;
  const names = passed.map(([name]) => name).join(":");
  const shellArgs = ["-c", BECOME, SHELL, String(passed.length), names, command, ...args];
  // A socket whose number is another's place in the child would be overwritten there before it is moved.
  const movable: bigint[] = [];
  const flags = passed.map(([, { handle }]) => statusFlags(handle));
  try {
    for (const [, { handle }] of passed) movable.push(duplicateFrom(handle, FIRST_DESCRIPTOR + passed.length));
    return nodeBuiltin("node:child_process").spawn(SHELL, shellArgs, {
      ...(cwd === undefined ? {} : { cwd }),
      env: clearEnv ? { ...env } : { ...Deno.env.toObject(), ...env },
      stdio: [...stdio, ...movable.map(Number)],
    });
  } finally {
    // Deno makes what it gives a child blocking, for this process too, where accepting would then block everything.
    movable.forEach((handle, index) => setStatusFlags(handle, flags[index]!));
    for (const handle of movable) calls.close(handle);
  }
}

/** What is told: variables and their values, such as `{ READY: 1 }`. */
export interface NotifyState {
  /** 1: the service has started, or has read its configuration again. */
  READY?: 1;
  /** 1: the service reads its configuration again; `MONOTONIC_USEC` is added where it is missing. */
  RELOADING?: 1;
  /** 1: the service is about to end. */
  STOPPING?: 1;
  /** What it is doing, in one line for people. */
  STATUS?: string;
  /** The time of `CLOCK_MONOTONIC` in microseconds. */
  MONOTONIC_USEC?: bigint;
  /** The main process, where it is another one. */
  MAINPID?: number;
  /** 1: the service is alive, where the manager watches that. */
  WATCHDOG?: 1;
  /** Any other of sd_notify(3). */
  [variable: string]: string | number | bigint | undefined;
}

/** Where {@linkcode notify} finds the manager. */
export interface NotifyOptions {
  /** The environment. Default `Deno.env`. */
  env?: Pick<Environment, "get">;
}

/**
 * Tells the service manager how this service is
 * ([sd_notify](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html)): one datagram to the local socket
 * that `NOTIFY_SOCKET` names, after a wait where the manager has many unread ones. The unit must have `Type=notify`, or
 * `Type=notify-reload` for `RELOADING`.
 *
 * Needs `--allow-env=NOTIFY_SOCKET`; where it is set, also `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6`, or where the
 * distribution keeps it.
 *
 * @example Ready, and later reading the configuration again
 * ```ts
 * import { notify } from "@winsock/handoff/interop";
 *
 * await notify({ READY: 1, STATUS: "Serving" });
 * await notify({ RELOADING: 1 });
 * await notify({ READY: 1 });
 * ```
 *
 * @param state What to tell.
 * @param options Where.
 * @returns Whether there was a manager to tell: `false` without `NOTIFY_SOCKET`.
 * @throws {TypeError} If a value has more than one line, or a name is none.
 * @throws {WinsockError} If nobody listens at the address.
 * @throws {Deno.errors.NotSupported} If the address is no local socket (`vsock:`), or this is not Linux.
 */
export async function notify(state: NotifyState, options: NotifyOptions = {}): Promise<boolean> {
  const address = (options.env ?? Deno.env).get("NOTIFY_SOCKET") ?? "";
  if (address === "") return false;
  requireLinux("notify a service manager");
  if (!/^[@/]/.test(address)) {
    throw new Deno.errors.NotSupported(`Cannot notify a service manager at ${address}: it is no local socket`);
  }
  const time = state.RELOADING === 1 ? { MONOTONIC_USEC: monotonicMicroseconds() } : {};
  await sendLocalDatagram(address, encode({ ...time, ...state }));
  return true;
}

function encode(state: NotifyState): Uint8Array<ArrayBuffer> {
  const lines: string[] = [];
  for (const [name, value] of Object.entries(state)) {
    if (value === undefined) continue;
    const line = `${name}=${value}`;
    if (!/^[A-Z][A-Z0-9_]*=[^\n\0]*$/.test(line)) {
      throw new TypeError(`Cannot notify a service manager of ${JSON.stringify(line)}: it is no variable of one line`);
    }
    lines.push(line);
  }
  return new TextEncoder().encode(lines.join("\n"));
}
