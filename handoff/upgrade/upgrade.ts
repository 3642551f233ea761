/**
 * Replaces a running server by its next version.
 *
 * @module
 */
import { BOOLEAN, checkOptions, duration, type Rule, SIGNAL } from "../../internal/options.ts";
import { abortion, settleWithin, WatchedPromise } from "../../internal/runtime.ts";
import { ownCommandLine } from "../../ffi/system.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { type AnySocket, checkOpen, duplicateSocket, openSocket } from "../../sockets/duplicate_socket.ts";
import type { SocketAddr } from "../../ffi/socket_address.ts";
import type { Listener } from "../../sockets/listener.ts";
import { openStream } from "../../sockets/stream.ts";
import { Socket } from "../../sockets/socket.ts";
import { WSA_ERRORS } from "../../structs/constants.ts";
import {
  checkWorkerCommand,
  describeExit,
  killProcess,
  ownExecutable,
  spawnWorkerCommand,
  type WorkerCommand,
} from "../spawn.ts";
import { errorOfExit, HandoffError, UpgradeError } from "../errors.ts";
import { HandoffSource } from "../source.ts";
import {
  type Announcement,
  PREDECESSOR_VARIABLE,
  Successor,
  UpgradeChannel,
  type UpgradeMessage,
} from "./upgrade_channel.ts";
import { ServerVersion, type ServerVersionState, stateOf } from "./server_version.ts";
import type { AnnouncedFile } from "./shared_file.ts";

/** The outcome of an upgrade in which a socket could not be handed off, by the outcome of the hand-off. */
const OUTCOMES = {
  "rejected": "refused",
  "timeout": "timeout",
  "target-exited": "crashed",
  "channel-broken": "crashed",
  "overloaded": "crashed",
  "closed": "crashed",
} as const;

/**
 * Options of {@linkcode upgrade}: what the next version runs, and the settings.
 *
 * `denoFlags` defaults to the flags of this process, as its command line has them: `-A` and `--allow-net=…`,
 * `--config`, `--unstable-…`, and whether it asks for permissions. Flags that only one process at a time can use, or
 * that watch files, are left out: `--inspect…`, `--watch…`. Permissions that a user granted when asked, and permissions
 * that this process has revoked, are not in the command line.
 *
 * The flags are not known if this process was started by `deno test` or `deno serve` instead of `deno run`. They are
 * also not known if the system does not provide the command line, such as a Linux without `/proc`. The default is then
 * ffi access to the system's socket library only, and the caller must pass the flags that the next version needs.
 */
export type UpgradeOptions = UpgradeSettings & WorkerCommand;

/** Settings of an upgrade that do not depend on what the next version runs. */
export interface UpgradeSettings {
  /** The arguments of the script or command. Defaults to the arguments of this process, `Deno.args`. */
  args?: readonly string[];
  /**
   * The time that the new version may take to become ready, in milliseconds. It must call {@linkcode inherit} within 30
   * 000 milliseconds even if this is longer, because the first hand-off to it does not wait longer. When it is ready, this
   * version has the same time to stop accepting, which includes its workers. Defaults to `30_000`.
   */
  timeout?: number;
  /**
   * The time that the new version must serve before this version closes its listeners, in milliseconds. At the end,
   * this version asks whether the event loop of the new version runs; the new version has 5 000 milliseconds more to
   * answer. Defaults to `1_000`.
   */
  probation?: number;
  /**
   * The time to wait for the connections that this version has accepted and still has, in milliseconds. Connections
   * that were handed off to a worker are not included: for workers, see the `drainTimeout` of {@linkcode
   * WorkerPool.close}. If the workers serve HTTP, see also the `shutdownTimeout` of `serveHttp`. Defaults to `10_000`.
   */
  drainTimeout?: number;
  /**
   * Whether this process keeps the listeners and never accepts on them. Such a process is a supervisor: it keeps its
   * process id, and replaces the version that serves. It may do so without {@linkcode ServerVersion.markReady}.
   * Defaults to `false`.
   *
   * When the new version is ready, the version that serves is ended if it does not answer within 10 000 milliseconds, or
   * does not stop accepting within the `timeout`, at least 30 000 milliseconds. The new version then serves.
   *
   * Before a supervisor ends, it should end its version with {@linkcode UpgradeResult.retire}. Otherwise the version
   * continues to serve, except on Windows, where it ends with its supervisor. Of two versions, the one that accepts
   * continues: during an upgrade the old one, and from the trial on the new one.
   */
  supervise?: boolean;
  /**
   * The signal that cancels the upgrade. The new version is ended, and this version continues as before. The signal has
   * no effect once the new version was told to serve, because from then on it has connections of its own.
   */
  signal?: AbortSignal;
  /**
   * The established connections that are handed off too. Do not read from them meanwhile. They are closed in this
   * process when the trial of the new version is over. If the new version fails in its trial, they stay with this
   * version. What the new version has read from them is then lost, except for their `initialBytes`, which this version
   * still has. The new version should therefore not read from them before {@linkcode ServerVersion.confirmed}. At that
   * point it closes the connections that its program has not taken.
   */
  connections?: readonly { readonly socket: Socket; readonly data?: unknown }[];
}

/** The time that a new version may take to answer if it has no other work to do first, in milliseconds. */
const ANSWER_TIMEOUT_MS = 5_000;
/**
 * The least time that the version of a supervisor has to stop accepting, in milliseconds, because it is ended then. It
 * may wait for workers, by default 10 seconds for each `sendTimeout`.
 */
const PAUSE_TIMEOUT_MS = 30_000;
/** The time to wait for the end of a process that was killed, in milliseconds. */
const END_TIMEOUT_MS = 1_000;

/** The numbers of an upgrade. */
export interface UpgradeReport {
  /** The new version's process id. */
  readonly processId: number;
  /** The number of connections of this version that were still open at the end of `drainTimeout`. */
  readonly remaining: number;
}

/** The result of an upgrade, and the new version. */
export interface UpgradeResult extends UpgradeReport {
  /**
   * A promise that resolves when the new version's process has ended, with its exit code and signal. A supervisor uses
   * it to learn that its version crashed, was retired or was replaced. This process keeps running only while the
   * program waits for the promise.
   */
  readonly exited: Promise<Deno.CommandStatus>;
  /**
   * Ends the new version: it stops accepting, its {@linkcode ServerVersion.retired} resolves, and its program finishes
   * its work and ends. A supervisor calls this before it ends itself, or when no version is to serve for a while:
   * connections then wait for the next {@linkcode upgrade}. If an upgrade is under way, cancel it first with its
   * `signal`.
   *
   * @param options `drainTimeout`: the time that the version may take to end, in milliseconds. After this time its
   * process is ended. Defaults to `10_000`.
   * @returns Resolves when the version's process has ended, as {@linkcode UpgradeResult.exited} does. If the version
   * has ended already, or was replaced, this only waits.
   * @throws {RangeError} If the `drainTimeout` is negative, or longer than a timer can wait.
   */
  retire(options?: { drainTimeout?: number }): Promise<Deno.CommandStatus>;
}

/**
 * Starts the next version of this server, hands the listeners and datagram sockets off to it, and retires this version.
 * Files and pipes of {@linkcode ServerVersion.openFile} go along; this version still has them until it ends.
 *
 * The new version calls {@linkcode inherit}. Until it is ready, this version serves. If the new version crashes,
 * refuses, or takes too long, this version continues to serve. At the moment of change neither version accepts or
 * receives. Connections and datagrams wait in the system: none is refused, lost or taken twice. This version can still
 * answer what it has received, until it closes its datagram sockets or ends. When the promise resolves, this version
 * accepts nothing more and its connections are finished. Its process should then end.
 *
 * Call this after {@linkcode ServerVersion.markReady}. If this version's own trial is not over, the call waits for its
 * end first, for at most the `timeout`: until then the predecessor might still take over again.
 *
 * Needs ffi access to the system's socket library, and `--allow-run` for the new version.
 *
 * @example A supervisor that starts its version again after a crash, and ends it before it ends itself
 * ```ts ignore
 * import { inherit, upgrade } from "@winsock/handoff";
 *
 * const supervisor = await inherit({ predecessor: 0 });
 * supervisor.listen("http", { port: 8080 });
 * const script = new URL("server.ts", import.meta.url);
 * const stop = new AbortController();
 * const { signal } = stop;
 * const stopped = new Promise((resolve) => signal.addEventListener("abort", resolve));
 * Deno.addSignalListener("SIGTERM", () => stop.abort());
 * while (!signal.aborted) {
 *   try {
 *     const serving = await upgrade(supervisor, { script, supervise: true, signal });
 *     await Promise.race([serving.exited, stopped]);
 *     if (signal.aborted) await serving.retire();
 *   } catch (error) {
 *     if (signal.aborted) break;
 *     console.error(error);
 *     await new Promise((resolve) => setTimeout(resolve, 1_000));
 *   }
 * }
 * ```
 *
 * @param version This version.
 * @param options The program of the next version, and the settings.
 * @returns The result of the upgrade.
 * @throws {UpgradeError} If the new version does not take over. This version continues to serve. The outcome is
 * `not-ready` if this version has not called `markReady`, unless it is a supervisor without a predecessor.
 * @throws The signal's reason, if it is aborted before the new version was told to serve. This version continues to
 * serve.
 * @throws {TypeError} If neither or both of `script` and `command` are given.
 * @throws {Deno.errors.NotCapable} Without the permission to run the new version. This version continues to serve.
 * @throws {WinsockError} WSAENOTSOCK if a socket to hand off was closed or released; or if the system has no room for
 * what is needed, such as WSAEMFILE. This version continues to serve.
 * @throws {RangeError} If a duration is negative (`timeout`: below 1) or longer than a timer can wait, which is 24
 * days.
 */
export async function upgrade(version: ServerVersion, options: UpgradeOptions): Promise<UpgradeResult> {
  if (!(version instanceof ServerVersion)) throw new TypeError("Invalid `version`: must be a ServerVersion");
  checkWorkerCommand(options);
  const durations = checkedDurations(options);
  options.signal?.throwIfAborted();
  const state = stateOf(version);
  if (state.upgrading) throw new UpgradeError("busy", "another upgrade is under way or done");
  // Otherwise its predecessor would continue to accept beside the next version.
  if (!state.serving && (options.supervise !== true || state.hasPredecessor)) {
    throw new UpgradeError("not-ready", "this version has not called markReady() itself");
  }
  for (const socket of socketsOf(state, options)) checkOpen(socket);
  state.upgrading = true;
  try {
    if (state.hasPredecessor) await ownTrial(state, options.signal, durations.timeout);
    const { child, successor } = await replace(state, options, durations);
    if (options.supervise !== true) state.retire();
    else state.upgrading = false;
    return {
      processId: child.pid,
      remaining: await drain(state.listeners.sockets, durations.drainTimeout),
      exited: new WatchedPromise(child.status, () => child.ref()),
      retire: async (options = {}) => {
        checkOptions(options, { drainTimeout: duration(0) });
        // The next upgrade then has no version to replace.
        if (state.successor === successor) state.successor = undefined;
        return await successor.retire(options.drainTimeout ?? 10_000);
      },
    };
  } catch (error) {
    state.upgrading = false;
    throw error;
  }
}

/**
 * Waits for the end of this version's own trial. A version that fails its trial is ended, and its predecessor accepts
 * again.
 */
async function ownTrial({ confirmed }: ServerVersionState, signal: AbortSignal | undefined, timeout: number) {
  const late = Promise.withResolvers<never>();
  const reason = `this version's own trial was not over in ${timeout} ms`;
  const deadline = setTimeout(() => late.reject(new UpgradeError("not-ready", reason)), timeout);
  using aborted = abortion(signal);
  try {
    await Promise.race([confirmed, late.promise, aborted.promise]);
  } finally {
    clearTimeout(deadline);
  }
}

/** Returns all sockets that the new version gets. */
function socketsOf(
  { listeners, datagrams }: ServerVersionState,
  { connections = [] }: UpgradeOptions,
): readonly AnySocket[] {
  return [...listeners.sockets, ...datagrams.sockets, ...connections.map(({ socket }) => socket)];
}

type Durations = Required<Pick<UpgradeOptions, "timeout" | "probation" | "drainTimeout">>;

function checkedDurations(options: UpgradeOptions): Durations {
  checkOptions(options, {
    timeout: duration(1),
    probation: duration(0),
    drainTimeout: duration(0),
    supervise: BOOLEAN,
    signal: SIGNAL,
    connections: CONNECTIONS,
  });
  const { timeout = 30_000, probation = 1_000, drainTimeout = 10_000 } = options;
  return { timeout, probation, drainTimeout };
}

const CONNECTIONS: Rule = {
  what: "an array of objects with a `socket`",
  accepts: (value) => Array.isArray(value) && value.every((each) => each?.socket instanceof Socket),
};

/** Replaces the version that serves now by the new version. */
async function replace(
  state: ServerVersionState,
  options: UpgradeOptions,
  { timeout, probation }: Durations,
): Promise<{ child: Deno.ChildProcess; successor: Successor }> {
  const { signal } = options;
  const child = await spawnSuccessor(options);
  using aborted = abortion(signal);
  const ended = child.status.then((status) =>
    new UpgradeError("crashed", `process ${child.pid} ${describeExit(status)}`, errorOfExit(status))
  );
  const late = Promise.withResolvers<UpgradeError>();
  const deadline = setTimeout(
    () => late.resolve(new UpgradeError("timeout", `process ${child.pid} was not ready in ${timeout} ms`)),
    timeout,
  );
  let source: HandoffSource;
  let opened: Awaited<ReturnType<typeof openUpgradeChannel>>;
  try {
    source = openSource(child, timeout);
    opened = await openUpgradeChannel(state, child);
  } catch (error) {
    clearTimeout(deadline);
    killProcess(child);
    throw error;
  }
  const { channel, far, files } = opened;
  // A version that ends also ends the channel, after all its messages.
  const firstMessage = channel.receive();
  let paused = false;
  try {
    const failed = Promise.race([ended, late.promise]);
    await Promise.race([orFail(handOver(source, { far, files }, state, options), failed), aborted.promise]);
    const answer = await Promise.race([orFail(firstMessage, late.promise), aborted.promise]);
    if (answer?.type === "refuse") throw new UpgradeError("refused", answer.reason);
    await expect("ready", answer, failed);
    clearTimeout(deadline);
    paused = true;
    await pause(
      state,
      options,
      timeout,
      Promise.race([failed.then((error) => Promise.reject(error)), aborted.promise]),
    );
    signal?.throwIfAborted();
    // If this process ends between the two, neither serves: two versions that serve would be worse.
    state.successor?.announceReplacement();
    channel.send({ type: "activate" });
    await hear("serving", channel, child.pid, failed);
    // A version that ends at once, or freezes, has not taken over.
    await settleWithin(ended.then((error) => Promise.reject(error)), probation);
    channel.send({ type: "check" });
    await hear("alive", channel, child.pid, failed);
  } catch (error) {
    killProcess(child);
    // Before its process has ended, it must not see the end of the channel as the end of this version.
    await settleWithin(child.status, END_TIMEOUT_MS);
    const failure = error instanceof HandoffError
      ? new UpgradeError(OUTCOMES[error.outcome], error.reason, { cause: error })
      : error;
    const crashed = failure instanceof UpgradeError && failure.outcome === "crashed";
    const refusal = crashed ? await refusalIn(firstMessage) : undefined;
    channel.close();
    if (paused) resume(state, options);
    throw refusal ?? failure;
  } finally {
    clearTimeout(deadline);
    far.close();
    await source.close();
  }
  for (const { socket } of options.connections ?? []) socket.close();
  state.successor?.replace();
  const successor = state.successor = new Successor(child, channel);
  channel.send({ type: "confirm" });
  child.unref();
  return { child, successor };
}

/** Returns the refusal of a version that has ended. Its end may be known before its message is read. */
async function refusalIn(message: Promise<UpgradeMessage | undefined>): Promise<UpgradeError | undefined> {
  let refusal: UpgradeError | undefined;
  const read = message.then((answer) => {
    if (answer?.type === "refuse") refusal = new UpgradeError("refused", answer.reason);
  });
  await settleWithin(read, END_TIMEOUT_MS);
  return refusal;
}

/** Returns the program of the next version. By default it runs like this version. */
function successorProgram({ script, command, denoFlags, args = Deno.args, env, cwd }: UpgradeOptions): WorkerCommand {
  const variables = { ...env, [PREDECESSOR_VARIABLE]: String(Deno.pid) };
  const program = { args, env: variables, ...cwd === undefined ? {} : { cwd } };
  if (script === undefined) return { ...program, command: command! };
  const flags = denoFlags === undefined ? ownFlags() : undefined;
  // A process with this version's own flags has all the ffi access that it needs.
  if (flags !== undefined) {
    return { ...program, command: ownExecutable(), args: ["run", ...flags, String(script), ...args] };
  }
  return { ...program, script, ...denoFlags === undefined ? {} : { denoFlags } };
}

/** Matches flags that only one process at a time can use, or that start it again. */
const FLAGS_OF_ONE_PROCESS = /^--(inspect|watch|no-clear-screen)/;

/** Returns the flags of this process; `undefined` if they are not known, or not those of `deno run`. */
function ownFlags(): string[] | undefined {
  let line: string[] | undefined;
  try {
    line = Deno.build.standalone ? undefined : ownCommandLine();
  } catch {
    // Without the ffi access to read the command line, which is the same as for sockets.
  }
  return line === undefined ? undefined : runFlags(line, Deno.args);
}

/**
 * Returns the flags in a command line of `deno run`.
 *
 * @param line All words of the command line: Deno, flags, the script, and its arguments.
 * @param args The script's arguments.
 * @returns `undefined` if it is another command line.
 */
export function runFlags(line: readonly string[], args: readonly string[]): string[] | undefined {
  const script = line.length - args.length - 1;
  if (script < 1 || args.some((arg, index) => line[script + 1 + index] !== arg)) return undefined;
  const flags = line.slice(1, script);
  // Flags may come before the name of the command, and the name may be missing.
  const command = flags.findIndex((flag) => !flag.startsWith("-"));
  if (command === 0 && flags[0] !== "run") return undefined;
  const name = flags.indexOf("run");
  if (name !== -1) flags.splice(name, 1);
  if (flags.at(-1) === "--") flags.pop();
  return flags.filter((flag) => !FLAGS_OF_ONE_PROCESS.test(flag));
}

async function spawnSuccessor(options: UpgradeOptions): Promise<Deno.ChildProcess> {
  const program = successorProgram(options);
  try {
    return await spawnWorkerCommand(program, { output: "inherit", detached: options.supervise !== true });
  } catch (cause) {
    if (cause instanceof Deno.errors.NotCapable) throw cause;
    const reason = `it cannot be started: ${cause instanceof Error ? cause.message : cause}`;
    throw new UpgradeError("crashed", reason, { cause });
  }
}

function openSource(child: Deno.ChildProcess, timeout: number): HandoffSource {
  try {
    return new HandoffSource(child, { startTimeout: timeout, sendTimeout: timeout });
  } catch (cause) {
    if (!(cause instanceof WinsockError && cause.code === WSA_ERRORS.WSAEINVAL)) throw cause;
    throw new UpgradeError("crashed", `process ${child.pid} ended at once`, { cause });
  }
}

/** This version's end of the connection for the messages, the other end, and the files that it brings. */
interface OpenedChannel {
  readonly channel: UpgradeChannel;
  readonly far: Socket<SocketAddr>;
  readonly files: readonly AnnouncedFile[];
}

async function openUpgradeChannel({ files }: ServerVersionState, { pid }: Deno.ChildProcess): Promise<OpenedChannel> {
  const [near, far] = Socket.pair();
  try {
    const shared = files.size === 0 ? [] : await (await import("./shared_file.ts")).shareFiles(files, pid, near.handle);
    const channel = new UpgradeChannel(openStream(near.handle));
    near.detach();
    return { channel, far, files: shared };
  } catch (error) {
    near.close();
    far.close();
    throw error;
  }
}

async function handOver(
  source: HandoffSource,
  { far, files }: Omit<OpenedChannel, "channel">,
  { listeners, datagrams, successor }: ServerVersionState,
  { connections = [] }: UpgradeOptions,
): Promise<void> {
  const announcement: Announcement = {
    upgrade: 1,
    listeners: listeners.names,
    datagrams: datagrams.names,
    connections: connections.length,
    files,
    served: successor?.ended === false,
  };
  await source.send(far, { data: announcement });
  for (const socket of [...listeners.sockets, ...datagrams.sockets]) await sendCopy(source, socket);
  for (const { socket, data } of connections) await sendCopy(source, socket, data);
}

/**
 * Sends a copy of a socket. The sent copy is closed in this process; the socket itself is needed until the new version
 * serves.
 */
async function sendCopy(source: HandoffSource, socket: AnySocket, data?: unknown): Promise<void> {
  const options = socket instanceof Socket ? { initialBytes: socket.initialBytes } : {};
  const copy = await openSocket(duplicateSocket(socket, Deno.pid), options);
  try {
    await source.send(copy, { data });
  } finally {
    copy.close();
  }
}

/**
 * Stops accepting and receiving in this version and in the version that serves. Connections and datagrams then wait.
 *
 * @param cancelled Rejects when the upgrade has failed or is cancelled.
 */
async function pause(
  { pause, successor }: ServerVersionState,
  { supervise }: UpgradeOptions,
  timeout: number,
  cancelled: Promise<never>,
): Promise<void> {
  cancelled.catch(() => {});
  if (supervise !== true) {
    let stopped = false;
    await settleWithin(Promise.race([pause().then(() => stopped = true), cancelled]), timeout);
    if (!stopped) throw new UpgradeError("timeout", `this version has not stopped accepting in ${timeout} ms`);
  }
  await successor?.pause(Math.max(timeout, PAUSE_TIMEOUT_MS), cancelled);
}

function resume({ resume, successor }: ServerVersionState, { supervise }: UpgradeOptions): void {
  if (supervise !== true) resume();
  successor?.resume();
}

async function drain(listeners: readonly Listener<SocketAddr>[], milliseconds: number): Promise<number> {
  await settleWithin(Promise.all(listeners.map((listener) => listener.drained())), milliseconds);
  return listeners.reduce((sum, { connectionCount }) => sum + connectionCount, 0);
}

async function orFail<T>(promise: Promise<T>, failed: Promise<UpgradeError>): Promise<T> {
  promise.catch(() => {});
  return await Promise.race([promise, failed.then((error) => Promise.reject(error))]);
}

/**
 * Returns the next message of a new version that has no other work to do first. A version that does not answer is
 * frozen.
 */
async function hear(
  type: UpgradeMessage["type"],
  channel: UpgradeChannel,
  processId: number,
  ended: Promise<UpgradeError>,
): Promise<void> {
  const frozen = Promise.withResolvers<UpgradeError>();
  const reason = `process ${processId} did not answer in ${ANSWER_TIMEOUT_MS} ms`;
  const deadline = setTimeout(() => frozen.resolve(new UpgradeError("timeout", reason)), ANSWER_TIMEOUT_MS);
  try {
    await orFail(channel.receive().then((answer) => expect(type, answer, ended)), frozen.promise);
  } finally {
    clearTimeout(deadline);
  }
}

/** Expects a certain message. A new version that sends nothing more has ended, or is about to end. */
async function expect(
  type: UpgradeMessage["type"],
  answer: UpgradeMessage | undefined,
  ended: Promise<UpgradeError>,
): Promise<void> {
  if (answer?.type === type) return;
  if (answer === undefined) throw await ended;
  throw new UpgradeError("refused", `it sent "${answer.type}" instead of "${type}"`);
}
