/**
 * Socket activation as systemd does it, the passing side.
 *
 * @module
 */
import type { ChildProcess } from "node:child_process";
import { nodeBuiltin } from "../ffi/node_builtins.ts";
import { socketName } from "../ffi/socket_calls.ts";
import { systemCalls } from "../ffi/system.ts";
import { duplicateFrom, setStatusFlags, statusFlags } from "../ffi/unix/descriptor_flags.ts";
import type { SharedSocket } from "../sockets/duplicate_socket.ts";
import { requireLinux } from "./linux_only.ts";
import { FIRST_DESCRIPTOR } from "./systemd.ts";

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
  sockets: Iterable<readonly [name: string, socket: SharedSocket]>,
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
    calls.kind(handle, `pass ${socketName(handle)} to ${command}`);
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
