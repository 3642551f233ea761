/**
 * Replacing a running server by its next version.
 *
 * @module
 */
import { settleWithin, validateDuration, WatchedPromise } from "../../internal/runtime.ts";
import { ownCommandLine } from "../../ffi/system.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { type AnySocket, checkOpen, duplicateSocket, openSocket } from "../../sockets/duplicate_socket.ts";
import type { SocketAddr } from "../../ffi/socket_address.ts";
import type { Listener } from "../../sockets/listener.ts";
import { openStream } from "../../sockets/stream.ts";
import { Socket } from "../../sockets/socket.ts";
import { WSA_ERRORS } from "../../structs/constants.ts";
import { checkWorkerCommand, describeExit, killProcess, spawnWorkerCommand, type WorkerCommand } from "../spawn.ts";
import { HandoffError, UpgradeError } from "../errors.ts";
import { HandoffSource } from "../source.ts";
import { type Announcement, PREDECESSOR_VARIABLE, UpgradeChannel, type UpgradeMessage } from "./upgrade_channel.ts";
import { type ServerVersion, type ServerVersionState, stateOf } from "./server_version.ts";

/** What it means that a socket was not handed off. */
const OUTCOMES = {
  "rejected": "refused",
  "timeout": "timeout",
  "target-exited": "crashed",
  "channel-broken": "crashed",
  "overloaded": "crashed",
  "closed": "crashed",
} as const;

/**
 * How to replace this version: what to run, and the rest.
 *
 * `denoFlags` defaults to the flags of this process, as its command line has them: `-A` and `--allow-net=…`, `--config`,
 * `--unstable-…`, and whether it asks for permissions. Those that only one process at a time can use, or that watch files, are
 * left out: `--inspect…`, `--watch…`. What this process may do because a user was asked, or must not because it has revoked
 * a permission, is not in the command line.
 *
 * Where this process was not started by `deno run`, but by `deno test` or `deno serve`, or where the system does not tell the
 * command line, such as in a Linux without `/proc`, the flags are not known. Then the default is ffi access to the system's
 * socket library alone, and what the next version needs must be given.
 */
export type UpgradeOptions = UpgradeSettings & WorkerCommand;

/** How this version is replaced, whatever is run. */
export interface UpgradeSettings {
  /** Arguments of the script or command. Defaults to this process's own, `Deno.args`. */
  args?: readonly string[];
  /**
   * How long the new version may take until it is ready, in milliseconds. Default 30 000. It must call
   * {@linkcode inherit} within 30 000 even if this is longer: what is handed to it first waits no longer to be taken.
   */
  timeout?: number;
  /**
   * How long the new version must serve before this one closes its listeners, in milliseconds. Default 1 000. At the end
   * it is asked whether its event loop runs, and has 5 000 more to answer.
   */
  probation?: number;
  /**
   * How long to wait for the connections this version has accepted and still has, in milliseconds. Default 10 000. One that
   * was handed to a worker is not among them: how long workers may take is the `timeout` of {@linkcode WorkerPool.close},
   * and, where they serve HTTP, the `shutdownTimeout` of `serveHttp`.
   */
  drainTimeout?: number;
  /**
   * Whether this process goes on having the listeners, and never accepts on them: a supervisor that keeps its process
   * id, and replaces the version that serves. It may do so without {@linkcode ServerVersion.markReady}. Defaults to `false`.
   *
   * A supervisor that is to end has its version end first: {@linkcode UpgradeResult.retire}. Otherwise that goes on serving,
   * except on Windows, where it ends with its supervisor.
   */
  supervise?: boolean;
  /**
   * Cancels the upgrade: the new version is ended, and this one goes on as before. Once the new version was told to serve it
   * has no effect, for from then on there are connections of that version's.
   */
  signal?: AbortSignal;
  /**
   * Established connections to hand over too; nothing may be read from them meanwhile. They are closed here when the new
   * version's trial is over, and stay this one's if it fails. What a new version that fails in its trial has read from them
   * is gone, but for their `initialBytes`, which this one still has: the new one had better leave them unread until
   * {@linkcode ServerVersion.confirmed}. There it closes those that its program does not take.
   */
  connections?: readonly { readonly socket: Socket; readonly data?: unknown }[];
}

/** How long a new version may take to answer, where it has nothing to do before, in milliseconds. */
const ANSWER_TIMEOUT_MS = 5_000;
/** How long to wait for the end of a process that is being ended, in milliseconds. */
const END_TIMEOUT_MS = 1_000;

/** How an upgrade went, in numbers. */
export interface UpgradeReport {
  /** The new version's process id. */
  readonly processId: number;
  /** Connections of this version that were still open when `drainTimeout` was over. */
  readonly remaining: number;
}

/** How an upgrade went, and the new version. */
export interface UpgradeResult extends UpgradeReport {
  /**
   * Resolves when the new version's process has ended, with its exit code and signal. A supervisor hears so that its version
   * crashed, or was retired or replaced. Waiting for it keeps this process running, and not waiting does not.
   */
  readonly exited: Promise<Deno.CommandStatus>;
  /**
   * Has the new version end: it stops accepting, its {@linkcode ServerVersion.retired} resolves, and its program finishes what
   * it has and ends. What a supervisor does before it ends itself, or when no version is to serve for a while: connections
   * wait for the next {@linkcode upgrade} then. Cancel an upgrade that is under way first, by its `signal`.
   *
   * @param options `drainTimeout`: how long the version may take to end, in milliseconds; then its process is ended. Defaults
   * to `10_000`.
   * @returns Resolves when its process has ended, as {@linkcode UpgradeResult.exited} does. A version that has ended, or was
   * replaced, is only waited for.
   * @throws {RangeError} If the `drainTimeout` is negative, or longer than a timer can wait.
   */
  retire(options?: { drainTimeout?: number }): Promise<Deno.CommandStatus>;
}

/**
 * Starts the next version of this server, hands it the listeners and datagram sockets, and retires.
 *
 * The new version calls {@linkcode inherit}. Until it is ready, this one serves; if it crashes, refuses, or takes too
 * long, this one carries on. At the moment of change neither accepts or receives, and connections and datagrams wait in
 * the system: none is refused, lost or taken twice. What this version has received it can still answer, until it closes
 * its datagram sockets or ends.
 * When this resolves, this version accepts nothing more and its connections are finished; then it should end.
 *
 * Call it after {@linkcode ServerVersion.markReady}. While this version's own trial is not over it waits for that first, for
 * up to the `timeout`: the predecessor might still take its place.
 *
 * Needs ffi access to the system's socket library, and `--allow-run` for the new version.
 *
 * @example A supervisor that starts its version again when it crashes, and does not leave it behind
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
 * @param options How.
 * @returns How it went.
 * @throws {UpgradeError} If the new version does not take over. This one goes on serving. With the outcome `not-ready` if this
 * version has not called `markReady`, unless it supervises and has no predecessor.
 * @throws The signal's reason, if it is aborted before the new version was told to serve. This one goes on serving.
 * @throws {TypeError} If neither or both of `script` and `command` are given.
 * @throws {Deno.errors.NotCapable} Without the permission to run the new version. This one goes on serving.
 * @throws {WinsockError} WSAENOTSOCK if a socket that is to go along was closed or given up; or if the system has no room for
 * what is needed, such as WSAEMFILE. This one goes on serving.
 * @throws {RangeError} If a duration is negative (`timeout`: below 1) or longer than a timer can wait, which is 24 days.
 */
export async function upgrade(version: ServerVersion, options: UpgradeOptions): Promise<UpgradeResult> {
  checkWorkerCommand(options);
  const durations = checkedDurations(options);
  options.signal?.throwIfAborted();
  const state = stateOf(version);
  if (state.upgrading) throw new UpgradeError("busy", "another upgrade is under way or done");
  // Its predecessor would go on accepting beside the next one.
  if (!state.serving && (options.supervise !== true || state.hasPredecessor)) {
    throw new UpgradeError("not-ready", "this version has not called markReady() itself");
  }
  for (const socket of socketsOf(state, options)) checkOpen(socket);
  state.upgrading = true;
  try {
    if (state.hasPredecessor) await ownTrial(state, options.signal, durations.timeout);
    const { child, channel } = await replace(state, options, durations);
    if (options.supervise !== true) state.retire();
    else state.upgrading = false;
    return {
      processId: child.pid,
      remaining: await drain([...state.listeners.values()], durations.drainTimeout),
      exited: new WatchedPromise(child.status, () => child.ref()),
      retire: ({ drainTimeout = 10_000 } = {}) => retire(state, child, channel, drainTimeout),
    };
  } catch (error) {
    state.upgrading = false;
    throw error;
  }
}

/** Waits for the end of this version's own trial: one that fails it is ended, and its predecessor accepts again. */
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

/** Rejects with the reason of a signal when that is aborted, and is not an unhandled rejection. */
function abortion(signal: AbortSignal | undefined): { promise: Promise<never> } & Disposable {
  const { promise, reject } = Promise.withResolvers<never>();
  promise.catch(() => {});
  const abort = () => reject(signal!.reason);
  signal?.addEventListener("abort", abort);
  if (signal?.aborted) abort();
  return { promise, [Symbol.dispose]: () => signal?.removeEventListener("abort", abort) };
}

/** Has a version end. */
async function retire(
  state: ServerVersionState,
  child: Deno.ChildProcess,
  channel: UpgradeChannel,
  drainTimeout: number,
): Promise<Deno.CommandStatus> {
  validateDuration("drainTimeout", drainTimeout);
  // The next upgrade has none to replace.
  if (state.successor === channel) state.successor = undefined;
  channel.send({ type: "retire" });
  channel.close();
  child.ref();
  await settleWithin(child.status, drainTimeout);
  killProcess(child);
  return await child.status;
}

/** All that goes along. */
function socketsOf(
  { listeners, datagrams }: ServerVersionState,
  { connections = [] }: UpgradeOptions,
): readonly AnySocket[] {
  return [...listeners.values(), ...datagrams.values(), ...connections.map(({ socket }) => socket)];
}

type Durations = Required<Pick<UpgradeOptions, "timeout" | "probation" | "drainTimeout">>;

function checkedDurations(
  { timeout = 30_000, probation = 1_000, drainTimeout = 10_000 }: UpgradeOptions,
): Durations {
  return {
    timeout: validateDuration("timeout", timeout, 1),
    probation: validateDuration("probation", probation),
    drainTimeout: validateDuration("drainTimeout", drainTimeout),
  };
}

/** Has the new version serve in the place of the one that serves now. */
async function replace(
  state: ServerVersionState,
  options: UpgradeOptions,
  { timeout, probation }: Durations,
): Promise<{ child: Deno.ChildProcess; channel: UpgradeChannel }> {
  const { signal } = options;
  const child = await spawnSuccessor(options);
  using aborted = abortion(signal);
  const ended = child.status.then((status) =>
    new UpgradeError("crashed", `process ${child.pid} ${describeExit(status)}`)
  );
  const late = Promise.withResolvers<UpgradeError>();
  const deadline = setTimeout(
    () => late.resolve(new UpgradeError("timeout", `process ${child.pid} was not ready in ${timeout} ms`)),
    timeout,
  );
  let source: HandoffSource;
  let opened: ReturnType<typeof openUpgradeChannel>;
  try {
    source = openSource(child, timeout);
    opened = openUpgradeChannel();
  } catch (error) {
    clearTimeout(deadline);
    killProcess(child);
    throw error;
  }
  const { channel, far } = opened;
  let paused = false;
  try {
    const failed = Promise.race([ended, late.promise]);
    await Promise.race([orFail(handOver(source, far, state, options), failed), aborted.promise]);
    // A version that ends ends the channel, behind all that it said.
    const answer = await Promise.race([orFail(channel.receive(), late.promise), aborted.promise]);
    if (answer?.type === "refuse") throw new UpgradeError("refused", answer.reason);
    await expect("ready", answer, failed);
    paused = true;
    await Promise.race([orFail(pause(state, options), late.promise), aborted.promise]);
    signal?.throwIfAborted();
    channel.send({ type: "activate" });
    await hear("serving", channel, child.pid, failed);
    // One that ends at once, or freezes, has not taken over.
    await settleWithin(ended.then((error) => Promise.reject(error)), probation);
    channel.send({ type: "check" });
    await hear("alive", channel, child.pid, failed);
  } catch (error) {
    killProcess(child);
    // Before it is gone it must not take the end of the channel for this version's.
    await settleWithin(child.status, END_TIMEOUT_MS);
    channel.close();
    if (paused) resume(state, options);
    throw error instanceof HandoffError
      ? new UpgradeError(OUTCOMES[error.outcome], error.reason, { cause: error })
      : error;
  } finally {
    clearTimeout(deadline);
    far.close();
    await source.close();
  }
  for (const { socket } of options.connections ?? []) socket.close();
  state.successor?.send({ type: "retire" });
  state.successor?.close();
  state.successor = channel;
  channel.send({ type: "confirm" });
  child.unref();
  return { child, channel };
}

/** What runs the next version, by default as this one runs. */
function successorProgram({ script, command, denoFlags, args = Deno.args, env, cwd }: UpgradeOptions): WorkerCommand {
  const variables = { ...env, [PREDECESSOR_VARIABLE]: String(Deno.pid) };
  const program = { args, env: variables, ...cwd === undefined ? {} : { cwd } };
  if (script === undefined) return { ...program, command: command! };
  const flags = denoFlags === undefined ? ownFlags() : undefined;
  // With its own flags a process has all the ffi access it needs.
  if (flags !== undefined) {
    return { ...program, command: Deno.execPath(), args: ["run", ...flags, String(script), ...args] };
  }
  return { ...program, script, ...denoFlags === undefined ? {} : { denoFlags } };
}

/** Flags that only one process at a time can use, or that start it anew. */
const FLAGS_OF_ONE_PROCESS = /^--(inspect|watch|no-clear-screen)/;

/** The flags of this process; `undefined` if they are not known, or not those of `deno run`. */
function ownFlags(): string[] | undefined {
  let line: string[] | undefined;
  try {
    line = Deno.build.standalone ? undefined : ownCommandLine();
  } catch {
    // Without ffi access to what tells, which needs no more than sockets do.
  }
  return line === undefined ? undefined : runFlags(line, Deno.args);
}

/**
 * The flags in a command line of `deno run`.
 *
 * @param line All of its words: Deno, flags, the script, and its arguments.
 * @param args The script's arguments.
 * @returns `undefined` if it is another command line.
 */
export function runFlags(line: readonly string[], args: readonly string[]): string[] | undefined {
  const script = line.length - args.length - 1;
  if (script < 1 || args.some((arg, index) => line[script + 1 + index] !== arg)) return undefined;
  const flags = line.slice(1, script);
  // Flags may come before the name of the command, and without one it is the same.
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

function openUpgradeChannel(): { channel: UpgradeChannel; far: Socket<SocketAddr> } {
  const [near, far] = Socket.pair();
  const channel = new UpgradeChannel(openStream(near.handle));
  near.detach();
  return { channel, far };
}

async function handOver(
  source: HandoffSource,
  far: Socket<SocketAddr>,
  { listeners, datagrams }: ServerVersionState,
  { connections = [] }: UpgradeOptions,
): Promise<void> {
  const announcement: Announcement = {
    upgrade: 1,
    listeners: [...listeners.keys()],
    datagrams: [...datagrams.keys()],
    connections: connections.length,
  };
  await source.send(far, { data: announcement });
  for (const socket of [...listeners.values(), ...datagrams.values()]) await sendCopy(source, socket);
  for (const { socket, data } of connections) await sendCopy(source, socket, data);
}

/** What is sent is closed here; the socket itself is needed until the new version serves. */
async function sendCopy(source: HandoffSource, socket: AnySocket, data?: unknown): Promise<void> {
  const options = socket instanceof Socket ? { initialBytes: socket.initialBytes } : {};
  const copy = await openSocket(duplicateSocket(socket, Deno.pid), options);
  try {
    await source.send(copy, { data });
  } finally {
    copy.close();
  }
}

/** From now on nobody accepts or receives: connections and datagrams wait. */
async function pause({ pause, successor }: ServerVersionState, { supervise }: UpgradeOptions): Promise<void> {
  if (supervise !== true) await pause();
  successor?.send({ type: "pause" });
  // One that is gone has paused too.
  await successor?.receive();
}

function resume({ resume, successor }: ServerVersionState, { supervise }: UpgradeOptions): void {
  if (supervise !== true) resume();
  successor?.send({ type: "resume" });
}

async function drain(listeners: readonly Listener<SocketAddr>[], milliseconds: number): Promise<number> {
  await settleWithin(Promise.all(listeners.map((listener) => listener.drained())), milliseconds);
  return listeners.reduce((sum, { connectionCount }) => sum + connectionCount, 0);
}

async function orFail<T>(promise: Promise<T>, failed: Promise<UpgradeError>): Promise<T> {
  promise.catch(() => {});
  return await Promise.race([promise, failed.then((error) => Promise.reject(error))]);
}

/** What the new version says without having anything to do before; one that does not is frozen. */
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

/** A new version that says nothing more has ended, or is about to. */
async function expect(
  type: UpgradeMessage["type"],
  answer: UpgradeMessage | undefined,
  ended: Promise<UpgradeError>,
): Promise<void> {
  if (answer?.type === type) return;
  if (answer === undefined) throw await ended;
  throw new UpgradeError("refused", `it says "${answer.type}" instead of "${type}"`);
}
