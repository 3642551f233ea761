/**
 * systemd: both sides of socket activation (sd_listen_fds(3)), and notifying the service manager (sd_notify(3)).
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
 * @throws {TypeError} If the variables are not numbers, the number of names differs from the number of sockets, or a
 * descriptor was not passed but opened by this process.
 * @throws {WinsockError} WSAENOTSOCK if a descriptor is not open.
 * @throws {Deno.errors.NotCapable} Without the permission for one of the variables, whether sockets were passed or not.
 * @throws {Deno.errors.NotSupported} If sockets were passed and this is not Linux.
 */
export function systemdSockets(options: SystemdOptions = {}): PassedSockets {
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
  const count = readNumber(env, "LISTEN_FDS");
  if (count === undefined || count === 0 || (readNumber(env, "LISTEN_PID") ?? processId) !== processId) {
    return undefined;
  }
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
  requireLinux(`pass sockets to ${command}`);
  const calls = systemCalls();
  const passed = [...sockets];
  if (passed.length === 0) throw new RangeError(`Cannot pass sockets to ${command}: there must be at least one`);
  for (const [name, { handle }] of passed) {
    if (!NAME.test(name)) {
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
  /** Any other variable of sd_notify(3). */
  [variable: string]: string | number | bigint | undefined;
}

/** The options of {@linkcode notify}. */
export interface NotifyOptions {
  /** The environment variables. Defaults to `Deno.env`. */
  env?: Pick<Environment, "get">;
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
 * @param state The state to report.
 * @param options The environment.
 * @returns Whether there is a service manager: `false` without `NOTIFY_SOCKET`.
 * @throws {TypeError} If a value has more than one line, or a name is not valid.
 * @throws {WinsockError} If no socket is listening at the address.
 * @throws {Deno.errors.NotSupported} If the address is not that of a local socket (`vsock:`), or this is not Linux.
 */
export async function notify(state: NotifyState, options: NotifyOptions = {}): Promise<boolean> {
  const address = (options.env ?? Deno.env).get("NOTIFY_SOCKET") ?? "";
  if (address === "") return false;
  requireLinux("notify a service manager");
  if (!/^[@/]/.test(address)) {
    throw new Deno.errors.NotSupported(`Cannot notify a service manager at ${address}: it is not a local socket`);
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
      throw new TypeError(
        `Cannot notify a service manager of ${JSON.stringify(line)}: it is not a variable of one line`,
      );
    }
    lines.push(line);
  }
  return new TextEncoder().encode(lines.join("\n"));
}
