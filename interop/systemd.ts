/**
 * systemd: both sides of socket activation (sd_listen_fds(3)), and notifying the service manager (sd_notify(3)).
 *
 * @module
 */
import {
  closeOnExec,
  duplicateFrom,
  inheritable,
  newPipe,
  setStatusFlags,
  statusFlags,
} from "../ffi/unix/descriptors.ts";
import {
  BOOLEAN,
  check,
  checkOptions,
  OBJECT,
  PROCESS_ID,
  type Rule,
  SIGNAL,
  STRING_RECORD,
  STRINGS,
  TEXT,
} from "../internal/options.ts";
import { ENVIRONMENT, type Environment, type PassedHandle, PassedSockets, requireLinux } from "./passed_sockets.ts";
import type { ChildProcess } from "node:child_process";
import { nodeBuiltin } from "../internal/runtime.ts";
import { socketName } from "../ffi/platform.ts";
import { systemCalls } from "../ffi/system.ts";
import { type AnySocket, checkOpen } from "../sockets/duplicate_socket.ts";
import { libc, monotonicMicroseconds } from "../ffi/unix/libc.ts";
import { unixPoller } from "../ffi/unix/poller.ts";
import { MAX_DESCRIPTORS, sendLocalDatagram } from "../ffi/unix/scm_rights.ts";

/** The variables of the protocol. `LISTEN_PIDFDID`, which newer versions of systemd set, is not checked. */
const VARIABLES = [
  "LISTEN_PID",
  "LISTEN_PIDFDID",
  "LISTEN_FDS",
  "LISTEN_FDNAMES",
  "LISTEN_FDS_FIRST_FD",
] as const;

/** `SD_LISTEN_FDS_START`: the first descriptor after stdin, stdout and stderr. */
const FIRST_DESCRIPTOR = 3;
const UNNAMED = "unknown";

/** The options of {@linkcode systemdSockets}. */
export interface SystemdOptions {
  /** The environment variables. Defaults to `Deno.env`. */
  env?: Environment;
  /** The process that the sockets must be for. Defaults to `Deno.pid`. */
  processId?: number;
}

/**
 * Takes over the sockets that systemd, `systemd-socket-activate` or systemfd passed to this process
 * ([sd_listen_fds_with_names](https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html)).
 * `LISTEN_FDS` is the number of descriptors, which begin at 3 or at `LISTEN_FDS_FIRST_FD`, and `LISTEN_FDNAMES` has
 * their names.
 *
 * A socket is named after its unit, such as `web.socket`, unless the unit has `FileDescriptorName=web`. All sockets of a
 * unit have the same name: see {@linkcode PassedSockets.takeListeners}.
 *
 * The function removes the variables, so that it succeeds only once and child processes do not use them. The
 * descriptors are no longer inherited. An error leaves both unchanged. Without `LISTEN_PID` the sockets are assumed to
 * be for this process, as with `--no-pid` of systemfd.
 *
 * Needs `--allow-env=LISTEN_PID,LISTEN_PIDFDID,LISTEN_FDS,LISTEN_FDNAMES,LISTEN_FDS_FIRST_FD`. If sockets were passed,
 * it also needs `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6`, or the path of libc on the distribution. systemd must
 * start `deno` itself: a wrapper such as `npx deno` has another process id.
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
 * @param options The environment and the process.
 * @returns The sockets; empty if no sockets were passed, or they were passed to another process. Without
 * `LISTEN_FDNAMES` each is named `unknown`, as in systemd.
 * @throws {TypeError} If the variables of this process are not numbers, the number of names differs from the number of sockets, or a
 * descriptor was not passed but opened by this process.
 * @throws {WinsockError} WSAENOTSOCK if a descriptor is not open.
 * @throws {Deno.errors.NotCapable} Without the permission for one of the variables, whether sockets were passed or not.
 * @throws {Deno.errors.NotSupported} If sockets were passed and this is not Linux.
 */
export function systemdSockets(options: SystemdOptions = {}): PassedSockets {
  checkOptions(options, { env: ENVIRONMENT, processId: PROCESS_ID });
  const env = options.env ?? Deno.env;
  // Removing a variable needs the same permission as reading it. Check all of them before removing any.
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

/** Reads the variables. Returns `undefined` if no sockets were passed to this process. */
function readVariables(env: Environment, processId: number): Variables | undefined {
  // What is for another process is not looked at any further.
  if ((readNumber(env, "LISTEN_PID") ?? processId) !== processId) return undefined;
  const count = readNumber(env, "LISTEN_FDS");
  if (count === undefined || count === 0) return undefined;
  const first = readNumber(env, "LISTEN_FDS_FIRST_FD") ?? FIRST_DESCRIPTOR;
  if (first < FIRST_DESCRIPTOR) {
    throw new TypeError(
      `Cannot take over sockets: LISTEN_FDS_FIRST_FD must be at least ${FIRST_DESCRIPTOR}, got ${first}`,
    );
  }
  const names = env.get("LISTEN_FDNAMES")?.split(":");
  if (names !== undefined && names.length !== count) {
    throw new TypeError(`Cannot take over sockets: LISTEN_FDNAMES has ${names.length} names for ${count} sockets`);
  }
  return { count, first, names };
}

/** Reads the number in a variable. An empty variable counts as not set. */
function readNumber(env: Environment, name: string): number | undefined {
  const text = env.get(name) ?? "";
  if (text === "") return undefined;
  if (!/^\d{1,9}$/.test(text)) throw new TypeError(`Cannot take over sockets: ${name} must be a number, got "${text}"`);
  return Number(text);
}

/** The options of {@linkcode spawnActivated}. */
export interface SpawnActivatedOptions {
  /** The arguments of the program. Defaults to `[]`. */
  args?: readonly string[];
  /** The working directory of the program. Defaults to that of this process. */
  cwd?: string;
  /** Environment variables in addition to those of the protocol and of this process. */
  env?: Readonly<Record<string, string>>;
  /** Whether to leave out the variables of this process. Defaults to `false`. */
  clearEnv?: boolean;
  /** The stdin, stdout and stderr of the program. Each defaults to `inherit`. */
  stdio?: readonly [StandardStream, StandardStream, StandardStream];
}

/** The connection of a standard stream of the program. */
export type StandardStream = "inherit" | "pipe" | "ignore";

const STREAMS: readonly unknown[] = ["inherit", "pipe", "ignore"] satisfies StandardStream[];
const STDIO: Rule = {
  what: "an array of three of inherit, pipe, ignore",
  accepts: (value) => Array.isArray(value) && value.length === 3 && value.every((stream) => STREAMS.includes(stream)),
};

/**
 * The shell script that starts the program. `LISTEN_PID` must be the program's own process id, which is known only once
 * its process exists. The shell sets it and is then replaced by the program. The arguments are the number of sockets,
 * their names, and the command line. `DENO_EXTRA_STDIO_FDS` is a variable of Deno, for child processes that expect its
 * own kind of extra streams.
 */
const BECOME = `export LISTEN_PID=$$ LISTEN_FDS="$1" LISTEN_FDNAMES="$2"
unset LISTEN_PIDFDID LISTEN_FDS_FIRST_FD DENO_EXTRA_STDIO_FDS
shift 2
exec "$@"`;
const SHELL = "/bin/sh";

/** A valid name for systemd: 1 to 255 ASCII characters without control characters and colons. */
const NAME = /^[ -9;-~]{1,255}$/;

/**
 * Starts a program with sockets as systemd passes them: descriptors from 3 on, `LISTEN_PID`, `LISTEN_FDS` and
 * `LISTEN_FDNAMES`. Any program that uses sd_listen_fds(3) or an equivalent can take them over.
 *
 * The sockets stay open in this process and still belong to it. Close them if only the program should have them. Both
 * processes share the state of the sockets, so they are non-blocking for the program too, as with `NonBlocking=true` in
 * a unit file.
 *
 * Needs `--allow-run=/bin/sh`, which starts the program, `--allow-env` (`--allow-env=NODE_V8_COVERAGE` with
 * `clearEnv`), and ffi access to the system's socket library.
 *
 * @example A program that checks its descriptor 3
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
 * @param options Arguments, environment and standard streams of the program.
 * @returns The child process, of `node:child_process`. If the program cannot be started, it exits with 126 or 127.
 * @throws {RangeError} If there are no sockets.
 * @throws {TypeError} If a name is empty, is longer than 255 characters, or has a colon, a control character or a
 * letter outside ASCII.
 * @throws {WinsockError} WSAENOTSOCK if a socket was closed or released.
 * @throws {Deno.errors.NotSupported} If this is not Linux.
 */
export function spawnActivated(
  command: string,
  sockets: Iterable<readonly [name: string, socket: AnySocket]>,
  options: SpawnActivatedOptions = {},
): ChildProcess {
  check("command", command, TEXT);
  checkOptions(options, { args: STRINGS, cwd: TEXT, env: STRING_RECORD, clearEnv: BOOLEAN, stdio: STDIO });
  requireLinux(`pass sockets to ${command}`);
  const calls = systemCalls();
  const passed = [...sockets];
  if (passed.length === 0) throw new RangeError(`Cannot pass sockets to ${command}: there must be at least one`);
  for (const [name, { handle }] of passed) {
    if (typeof name !== "string" || !NAME.test(name)) {
      throw new TypeError(`Cannot pass a socket to ${command}: "${name}" is not a valid name for systemd`);
    }
    calls.assertSocket(handle, `pass ${socketName(handle)} to ${command}`);
  }
  const { args = [], cwd, env, clearEnv = false, stdio = ["inherit", "inherit", "inherit"] } = options;
  const names = passed.map(([name]) => name).join(":");
  const shellArgs = ["-c", BECOME, SHELL, String(passed.length), names, command, ...args];
  // Move the sockets above the numbers that the child needs: another descriptor would overwrite them in the child
  // before they are moved there.
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
    // Deno makes the descriptors that it passes to a child blocking, also for this process, where accepting would then
    // block everything.
    movable.forEach((handle, index) => setStatusFlags(handle, flags[index]!));
    for (const handle of movable) calls.close(handle);
  }
}

/** The state to report: variables and their values, such as `{ READY: 1 }`. */
export interface NotifyState {
  /** 1: the service has started, or has finished reading its configuration again. */
  READY?: 1;
  /** 1: the service is reading its configuration again. `MONOTONIC_USEC` is added if it is missing. */
  RELOADING?: 1;
  /** 1: the service is about to end. */
  STOPPING?: 1;
  /** A description of the state in one line, for people. */
  STATUS?: string;
  /** The time of `CLOCK_MONOTONIC` in microseconds. */
  MONOTONIC_USEC?: bigint;
  /** The main process, if it is another process. */
  MAINPID?: number;
  /** 1: the service is alive, if the manager has a watchdog for it. */
  WATCHDOG?: 1;
  /**
   * 1: the manager keeps the sockets of {@linkcode NotifyOptions.sockets}, and passes them to the next start of the
   * service, under the name in `FDNAME`. The unit must have `FileDescriptorStoreMax=`.
   */
  FDSTORE?: 1;
  /** 1: the manager closes the sockets that it keeps under the name in `FDNAME`. */
  FDSTOREREMOVE?: 1;
  /** The name of the sockets to keep or to remove. */
  FDNAME?: string;
  /** Any other variable of sd_notify(3). */
  [variable: string]: string | number | bigint | undefined;
}

const SOCKETS: Rule = { what: "an array of sockets", accepts: Array.isArray };
const READABLE: Rule = {
  what: "an object with `get`",
  accepts: (value) => typeof (Object(value) as Partial<Environment>).get === "function",
};

/** The options of {@linkcode notify}. */
export interface NotifyOptions {
  /** The environment variables. Defaults to `Deno.env`. */
  env?: Pick<Environment, "get">;
  /**
   * Sockets for the manager to keep, with `FDSTORE`. The manager gets descriptors of its own, and the sockets still belong
   * to this process. At most 253.
   */
  sockets?: readonly AnySocket[];
}

/**
 * Reports the state of this service to the service manager
 * ([sd_notify](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html)) in one datagram to the local
 * socket in `NOTIFY_SOCKET`. Waits while the manager has many unread datagrams. The unit must have `Type=notify`, or
 * `Type=notify-reload` for `RELOADING`.
 *
 * Needs `--allow-env=NOTIFY_SOCKET`. If the variable is set, it also needs
 * `--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6`, or the path of libc on the distribution.
 *
 * @example Reporting that the service is ready, and later that it reads its configuration
 * ```ts
 * import { notify } from "@winsock/handoff/interop";
 *
 * await notify({ READY: 1, STATUS: "Serving" });
 * await notify({ RELOADING: 1 });
 * await notify({ READY: 1 });
 * ```
 *
 * @example Keeping a listener in the manager, for the next start of the service
 * ```ts
 * import { notify, systemdSockets } from "@winsock/handoff/interop";
 * import { listen } from "@winsock/handoff";
 *
 * using passed = systemdSockets();
 * using listener = passed.takeListener("web") ?? listen({ hostname: "127.0.0.1" });
 * await notify({ FDSTORE: 1, FDNAME: "web" }, { sockets: [listener] });
 * ```
 *
 * @param state The state to report.
 * @param options The environment, and the sockets to keep.
 * @returns Whether there is a service manager: `false` without `NOTIFY_SOCKET`.
 * @throws {TypeError} If a value has more than one line, or a name is not valid; if there are sockets without `FDSTORE`.
 * @throws {RangeError} If there are more than 253 sockets.
 * @throws {WinsockError} If no socket is listening at the address; WSAENOTSOCK if a socket was closed or released.
 * @throws {Deno.errors.NotSupported} If the address is not that of a local socket (`vsock:`), or this is not Linux.
 */
export async function notify(state: NotifyState, options: NotifyOptions = {}): Promise<boolean> {
  check("state", state, OBJECT);
  checkOptions(options, { env: READABLE, sockets: SOCKETS });
  const { sockets = [] } = options;
  if (sockets.length > 0 && state.FDSTORE !== 1) {
    throw new TypeError("Invalid `sockets`: must be with FDSTORE=1, for which the manager keeps them");
  }
  if (sockets.length > MAX_DESCRIPTORS) {
    throw new RangeError(`Invalid \`sockets\`: must be at most ${MAX_DESCRIPTORS}, got ${sockets.length}`);
  }
  if (state.FDNAME !== undefined && !NAME.test(state.FDNAME)) {
    throw new TypeError(`Invalid \`FDNAME\`: must be a valid name for systemd, got "${state.FDNAME}"`);
  }
  const address = managerAddress(options.env);
  if (address === undefined) return false;
  for (const socket of sockets) checkOpen(socket);
  const time = state.RELOADING === 1 ? { MONOTONIC_USEC: monotonicMicroseconds() } : {};
  await sendLocalDatagram(address, encode({ ...time, ...state }), sockets.map(({ handle }) => handle));
  return true;
}

/** Returns the address of the service manager; `undefined` without `NOTIFY_SOCKET`. */
function managerAddress(env: Pick<Environment, "get"> = Deno.env): string | undefined {
  const address = env.get("NOTIFY_SOCKET") ?? "";
  if (address === "") return undefined;
  requireLinux("notify a service manager");
  if (/^[@/]/.test(address)) return address;
  throw new Deno.errors.NotSupported(`Cannot notify a service manager at ${address}: it is not a local socket`);
}

/** The options of {@linkcode notifyBarrier}. */
export interface NotifyBarrierOptions extends Pick<NotifyOptions, "env"> {
  /** A signal that ends the wait when it is aborted. */
  signal?: AbortSignal;
}

/**
 * Waits until the service manager has processed all earlier notifications of this process
 * ([sd_notify_barrier](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html)). A process can then end
 * without its notifications being lost.
 *
 * Needs the permissions of {@linkcode notify}.
 *
 * @example Ending after the manager knows
 * ```ts
 * import { notify, notifyBarrier } from "@winsock/handoff/interop";
 *
 * await notify({ STOPPING: 1 });
 * await notifyBarrier({ signal: AbortSignal.timeout(5_000) });
 * ```
 *
 * @param options The environment, and a signal.
 * @returns Whether there is a service manager: `false` without `NOTIFY_SOCKET`.
 * @throws {WinsockError} If no socket is listening at the address.
 * @throws {Deno.errors.NotSupported} As {@linkcode notify}.
 * @throws The reason of the signal, if it is aborted first.
 */
export async function notifyBarrier(options: NotifyBarrierOptions = {}): Promise<boolean> {
  checkOptions(options, { env: READABLE, signal: SIGNAL });
  const { signal } = options;
  signal?.throwIfAborted();
  const address = managerAddress(options.env);
  if (address === undefined) return false;
  const operation = "wait for the service manager";
  const [readable, writable] = newPipe(operation);
  try {
    try {
      await sendLocalDatagram(address, encode({ BARRIER: 1 }), [writable]);
    } finally {
      libc().close(writable);
    }
    // The manager closes its end when it comes to the message.
    const waiting = unixPoller().prepare().wait(readable, "read", { operation });
    const abort = () => unixPoller().abandon(waiting, signal!.reason);
    signal?.addEventListener("abort", abort);
    try {
      if (signal?.aborted) abort();
      await waiting.over;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
    return true;
  } finally {
    unixPoller().release(readable);
    libc().close(readable);
  }
}

/**
 * Returns the time within which the service manager expects `WATCHDOG=1`
 * ([sd_watchdog_enabled](https://www.freedesktop.org/software/systemd/man/latest/sd_watchdog_enabled.html)). Notify it at
 * least twice in that time. Needs `--allow-env=WATCHDOG_USEC,WATCHDOG_PID`.
 *
 * @example Reporting that the event loop runs
 * ```ts
 * import { notify, watchdogInterval } from "@winsock/handoff/interop";
 *
 * const interval = watchdogInterval();
 * if (interval !== undefined) {
 *   Deno.unrefTimer(setInterval(() => notify({ WATCHDOG: 1 }).catch(() => {}), interval / 2));
 * }
 * ```
 *
 * @param options The environment and the process.
 * @returns The time in milliseconds; `undefined` if the unit does not have `WatchdogSec=`, or the watchdog is for another
 * process.
 * @throws {TypeError} If the variables of this process are not numbers.
 * @throws {Deno.errors.NotCapable} Without the permission.
 */
export function watchdogInterval(options: WatchdogOptions = {}): number | undefined {
  checkOptions(options, { env: READABLE, processId: PROCESS_ID });
  const { env = Deno.env, processId = Deno.pid } = options;
  const limit = env.get("WATCHDOG_USEC") ?? "";
  const pid = env.get("WATCHDOG_PID") ?? "";
  if (limit === "") return undefined;
  if (pid !== "" && watchdogNumber("WATCHDOG_PID", pid) !== processId) return undefined;
  return watchdogNumber("WATCHDOG_USEC", limit) / 1_000;
}

/** The options of {@linkcode watchdogInterval}. */
export interface WatchdogOptions {
  /** The environment variables. Defaults to `Deno.env`. */
  env?: Pick<Environment, "get">;
  /** The process that the watchdog must be for. Defaults to `Deno.pid`. */
  processId?: number;
}

function watchdogNumber(name: string, text: string): number {
  const number = /^\d+$/.test(text) ? Number(text) : 0;
  if (Number.isSafeInteger(number) && number > 0) return number;
  throw new TypeError(
    `Cannot read the watchdog of the service manager: ${name} must be a positive number, got "${text}"`,
  );
}

function encode(state: NotifyState): Uint8Array<ArrayBuffer> {
  const lines: string[] = [];
  for (const [name, value] of Object.entries(state)) {
    if (value === undefined) continue;
    const line = `${name}=${value}`;
    if (!/^[A-Z][A-Z0-9_]*=[^\n\0]*$/.test(line)) {
      throw new TypeError(
        `Cannot notify a service manager of ${JSON.stringify(line)}: it is not a variable of one line`,
      );
    }
    lines.push(line);
  }
  return new TextEncoder().encode(lines.join("\n"));
}
