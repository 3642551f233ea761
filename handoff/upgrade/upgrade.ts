/**
 * Replacing a running server by its next version.
 *
 * @module
 */
import { settleWithin, validateDuration } from "../../internal/runtime.ts";
import { systemCalls } from "../../ffi/system.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { checkOpen, duplicateSocket, openSocket, type SharedSocket } from "../../sockets/duplicate_socket.ts";
import type { SocketAddr } from "../../ffi/socket_address.ts";
import type { Listener } from "../../sockets/listener.ts";
import { openStream } from "../../sockets/stream.ts";
import { ownSocket, Socket } from "../../sockets/socket.ts";
import { WSA_ERRORS } from "../../structs/constants.ts";
import { checkProgram, describeEnd, endProcess, type Program, spawnProgram } from "../spawn.ts";
import { HandoffError, UpgradeError } from "../errors.ts";
import { HandoffSource, MAX_TIMEOUT_MS } from "../source.ts";
import { type Announcement, Conversation, type Message, PREDECESSOR_VARIABLE } from "./upgrade_channel.ts";
import { type Generation, type GenerationState, stateOf } from "./server_version.ts";

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
export interface UpgradeOptions extends Program {
  /**
   * How long the new version may take until it is ready, in milliseconds. Default 30 000. It must call
   * {@linkcode inherited} within 30 000 even if this is longer: what is handed to it first waits no longer to be taken.
   */
  timeout?: number;
  /**
   * How long the new version must serve before this one closes its listeners, in milliseconds. Default 1 000. At the end
   * it is asked whether its event loop runs, and has 5 000 more to answer.
   */
  trialTime?: number;
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
  keep?: boolean;
  /**
   * Established connections to hand over too; nothing may be read from them meanwhile. They are closed here when the new
   * version's trial is over, and stay this one's if it fails. What a new version that fails in its trial has read from them
   * is gone, but for their `initialBytes`, which this one still has: the new one had better leave them unread until
   * {@linkcode Generation.confirmed}. There it closes those that its program never asks for.
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
 * The new version calls {@linkcode inherited}. Until it is ready, this one serves; if it crashes, refuses, or takes too
 * long, this one carries on. At the moment of change nobody accepts or receives, and connections and datagrams wait in
 * the system: none is refused, lost or taken twice. What this version has received it can still answer, until it closes
 * its datagram sockets or ends.
 * When this resolves, this version accepts nothing more and its connections are finished; then it should end.
 *
 * Needs ffi access to the system's socket library, and `--allow-run` for the new version.
 *
 * @param generation This version.
 * @param options How.
 * @returns How it went.
 * @throws {UpgradeError} If the new version does not take over. This one goes on serving.
 * @throws {TypeError} If neither or both of `script` and `command` are given.
 * @throws {Deno.errors.NotCapable} Without the permission to run the new version. This one goes on serving.
 * @throws {WinsockError} WSAENOTSOCK if a socket that is to go along was closed or given up; or if the system has no room for
 * what is needed, such as WSAEMFILE. This one goes on serving.
 * @throws {RangeError} If a duration is negative (`timeout`: below 1) or longer than a timer can wait, which is 24 days.
 */
export async function upgrade(generation: Generation, options: UpgradeOptions): Promise<UpgradeResult> {
  checkProgram(options);
  const durations = checkedDurations(options);
  const state = stateOf(generation);
  if (state.upgrading) throw new UpgradeError("busy", "another upgrade is under way or done");
  for (const socket of socketsOf(state, options)) checkOpen(socket);
  state.upgrading = true;
  try {
    const processId = await replace(state, options, durations);
    if (options.keep !== true) state.retire();
    else state.upgrading = false;
    return { processId, remaining: await drain([...state.listeners.values()], durations.drainTimeout) };
  } catch (error) {
    state.upgrading = false;
    throw error;
  }
}

/** All that goes along. */
function socketsOf(
  { listeners, datagrams }: GenerationState,
  { connections = [] }: UpgradeOptions,
): readonly SharedSocket[] {
  return [...listeners.values(), ...datagrams.values(), ...connections.map(({ socket }) => socket)];
}

type Durations = Required<Pick<UpgradeOptions, "timeout" | "trialTime" | "drainTimeout">>;

function checkedDurations({ timeout = 30_000, trialTime = 1_000, drainTimeout = 10_000 }: UpgradeOptions): Durations {
  return {
    timeout: validateDuration("timeout", timeout, 1),
    trialTime: validateDuration("trialTime", trialTime),
    drainTimeout: validateDuration("drainTimeout", drainTimeout),
  };
}

/** Has the new version serve in the place of whoever serves now. */
async function replace(
  state: GenerationState,
  options: UpgradeOptions,
  { timeout, trialTime }: Durations,
): Promise<number> {
  const child = await spawnSuccessor(options);
  const ended = child.status.then((status) =>
    new UpgradeError("crashed", `process ${child.pid} ${describeEnd(status)}`)
  );
  const late = Promise.withResolvers<UpgradeError>();
  const deadline = setTimeout(
    () => late.resolve(new UpgradeError("timeout", `process ${child.pid} was not ready in ${timeout} ms`)),
    timeout,
  );
  let source: HandoffSource;
  let opened: ReturnType<typeof openConversation>;
  try {
    source = openSource(child, Math.min(timeout, MAX_TIMEOUT_MS));
    opened = openConversation();
  } catch (error) {
    clearTimeout(deadline);
    endProcess(child);
    throw error;
  }
  const { conversation, far } = opened;
  let paused = false;
  try {
    const failed = Promise.race([ended, late.promise]);
    await orFail(handOver(source, far, state, options), failed);
    // A version that ends ends the conversation, behind all that it said.
    const answer = await orFail(conversation.next(), late.promise);
    if (answer?.say === "refuse") throw new UpgradeError("refused", answer.reason);
    await expect("ready", answer, failed);
    paused = true;
    await orFail(pause(state, options), late.promise);
    conversation.say({ say: "go" });
    await hear("serving", conversation, child.pid, failed);
    // One that ends at once, or freezes, has not taken over.
    await settleWithin(ended.then((error) => Promise.reject(error)), trialTime);
    conversation.say({ say: "check" });
    await hear("alive", conversation, child.pid, failed);
  } catch (error) {
    endProcess(child);
    // Before it is gone it must not take the end of the conversation for this version's.
    await settleWithin(child.status, END_TIMEOUT_MS);
    conversation.close();
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
  state.successor?.say({ say: "retire" });
  state.successor?.close();
  state.successor = conversation;
  conversation.say({ say: "confirm" });
  child.unref();
  return child.pid;
}

async function spawnSuccessor(options: UpgradeOptions): Promise<Deno.ChildProcess> {
  const env = { ...options.env, [PREDECESSOR_VARIABLE]: String(Deno.pid) };
  try {
    return await spawnProgram({ ...options, env }, { output: "inherit", detached: options.keep !== true });
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

function openConversation(): { conversation: Conversation; far: Socket } {
  const [near, far] = systemCalls().pair();
  return { conversation: new Conversation(openStream(near)), far: ownSocket(far) };
}

async function handOver(
  source: HandoffSource,
  far: Socket,
  { listeners, datagrams }: GenerationState,
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
async function sendCopy(source: HandoffSource, socket: SharedSocket, data?: unknown): Promise<void> {
  const options = socket instanceof Socket ? { initialBytes: socket.initialBytes } : {};
  const copy = await openSocket(duplicateSocket(socket, Deno.pid), options);
  try {
    await source.send(copy, { data });
  } finally {
    copy.close();
  }
}

/** From now on nobody accepts or receives: connections and datagrams wait. */
async function pause({ pause, successor }: GenerationState, { keep }: UpgradeOptions): Promise<void> {
  if (keep !== true) await pause();
  successor?.say({ say: "pause" });
  // One that is gone has paused too.
  await successor?.next();
}

function resume({ resume, successor }: GenerationState, { keep }: UpgradeOptions): void {
  if (keep !== true) resume();
  successor?.say({ say: "resume" });
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
  say: Message["say"],
  conversation: Conversation,
  processId: number,
  ended: Promise<UpgradeError>,
): Promise<void> {
  const frozen = Promise.withResolvers<UpgradeError>();
  const reason = `process ${processId} did not answer in ${ANSWER_TIMEOUT_MS} ms`;
  const deadline = setTimeout(() => frozen.resolve(new UpgradeError("timeout", reason)), ANSWER_TIMEOUT_MS);
  try {
    await orFail(conversation.next().then((answer) => expect(say, answer, ended)), frozen.promise);
  } finally {
    clearTimeout(deadline);
  }
}

/** A new version that says nothing more has ended, or is about to. */
async function expect(say: Message["say"], answer: Message | undefined, ended: Promise<UpgradeError>): Promise<void> {
  if (answer?.say === say) return;
  if (answer === undefined) throw await ended;
  throw new UpgradeError("refused", `it says "${answer.say}" instead of "${say}"`);
}
