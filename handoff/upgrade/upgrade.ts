/**
 * Replacing a running server by its next version.
 *
 * @module
 */
import { settleWithin, validateDuration } from "../../internal/runtime.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { type AnySocket, checkOpen, duplicateSocket, openSocket } from "../../sockets/duplicate_socket.ts";
import type { SocketAddr } from "../../ffi/socket_address.ts";
import type { Listener } from "../../sockets/listener.ts";
import { openStream } from "../../sockets/stream.ts";
import { Socket } from "../../sockets/socket.ts";
import { WSA_ERRORS } from "../../structs/constants.ts";
import { checkWorkerCommand, describeExit, killProcess, spawnWorkerCommand, type WorkerCommand } from "../spawn.ts";
import { HandoffError, UpgradeError } from "../errors.ts";
import { HandoffSource, MAX_TIMEOUT_MS } from "../source.ts";
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

/** How to replace this version. */
export interface UpgradeOptions extends WorkerCommand {
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
   * id, and replaces the version that serves. Default false.
   */
  supervise?: boolean;
  /**
   * Established connections to hand over too; nothing may be read from them meanwhile. They are closed here when the new
   * version's trial is over, and stay this one's if it fails. What a new version that fails in its trial has read from them
   * is gone, but for their `initialBytes`, which this one still has: the new one had better leave them unread until
   * {@linkcode ServerVersion.confirmed}. There it closes those that its program never asks for.
   */
  connections?: readonly { readonly socket: Socket; readonly data?: unknown }[];
}

/** How long a new version may take to answer, where it has nothing to do before, in milliseconds. */
const ANSWER_TIMEOUT_MS = 5_000;
/** How long to wait for the end of a process that is being ended, in milliseconds. */
const END_TIMEOUT_MS = 1_000;

/** How an upgrade went. */
export interface UpgradeResult {
  /** The new version's process id. */
  readonly processId: number;
  /** Connections of this version that were still open when `drainTimeout` was over. */
  readonly remaining: number;
}

/**
 * Starts the next version of this server, hands it the listeners and datagram sockets, and retires.
 *
 * The new version calls {@linkcode inherit}. Until it is ready, this one serves; if it crashes, refuses, or takes too
 * long, this one carries on. At the moment of change nobody accepts or receives, and connections and datagrams wait in
 * the system: none is refused, lost or taken twice. What this version has received it can still answer, until it closes
 * its datagram sockets or ends.
 * When this resolves, this version accepts nothing more and its connections are finished; then it should end.
 *
 * Needs ffi access to the system's socket library, and `--allow-run` for the new version.
 *
 * @param version This version.
 * @param options How.
 * @returns How it went.
 * @throws {UpgradeError} If the new version does not take over. This one goes on serving.
 * @throws {TypeError} If neither or both of `script` and `command` are given.
 * @throws {Deno.errors.NotCapable} Without the permission to run the new version. This one goes on serving.
 * @throws {WinsockError} WSAENOTSOCK if a socket that is to go along was closed or given up; or if the system has no room for
 * what is needed, such as WSAEMFILE. This one goes on serving.
 * @throws {RangeError} If a duration is negative (`timeout`: below 1) or longer than a timer can wait, which is 24 days.
 */
export async function upgrade(version: ServerVersion, options: UpgradeOptions): Promise<UpgradeResult> {
  checkWorkerCommand(options);
  const durations = checkedDurations(options);
  const state = stateOf(version);
  if (state.upgrading) throw new UpgradeError("busy", "another upgrade is under way or done");
  for (const socket of socketsOf(state, options)) checkOpen(socket);
  state.upgrading = true;
  try {
    const processId = await replace(state, options, durations);
    if (options.supervise !== true) state.retire();
    else state.upgrading = false;
    return { processId, remaining: await drain([...state.listeners.values()], durations.drainTimeout) };
  } catch (error) {
    state.upgrading = false;
    throw error;
  }
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

/** Has the new version serve in the place of whoever serves now. */
async function replace(
  state: ServerVersionState,
  options: UpgradeOptions,
  { timeout, probation }: Durations,
): Promise<number> {
  const child = await spawnSuccessor(options);
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
    source = openSource(child, Math.min(timeout, MAX_TIMEOUT_MS));
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
    await orFail(handOver(source, far, state, options), failed);
    // A version that ends ends the channel, behind all that it said.
    const answer = await orFail(channel.receive(), late.promise);
    if (answer?.type === "refuse") throw new UpgradeError("refused", answer.reason);
    await expect("ready", answer, failed);
    paused = true;
    await orFail(pause(state, options), late.promise);
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
  return child.pid;
}

async function spawnSuccessor(options: UpgradeOptions): Promise<Deno.ChildProcess> {
  const env = { ...options.env, [PREDECESSOR_VARIABLE]: String(Deno.pid) };
  try {
    return await spawnWorkerCommand({ ...options, env }, { output: "inherit", detached: options.supervise !== true });
  } catch (cause) {
    if (cause instanceof Deno.errors.NotCapable) throw cause;
    const reason = `it cannot be started: ${cause instanceof Error ? cause.message : cause}`;
    throw new UpgradeError("crashed", reason, { cause });
  }
}

function openSource(child: Deno.ChildProcess, timeout: number): HandoffSource {
  try {
    return new HandoffSource(child, { timeout });
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
