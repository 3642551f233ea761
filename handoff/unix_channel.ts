/**
 * Channels on Linux and macOS: three connections, each in one direction.
 *
 * Frames and descriptors go over two local sockets. Nothing can be sent to the source through them, because its ends
 * are shut down for reading. Answers come through a pipe, which cannot carry descriptors. So nothing that a target
 * sends can block the source. A message could do this with a descriptor of another process, because closing it can
 * block.
 *
 * @module
 */
import type { SourceDecisions, TargetDecisions } from "../ffi/decisions.ts";
import { StreamIo } from "../ffi/nonblocking_io.ts";
import type { PollWaiter } from "../ffi/poller.ts";
import { WinsockError } from "../ffi/winsock_error.ts";
import { closeAtEnd, unreferenced } from "../internal/runtime.ts";
import { newDecisions, openDecisions } from "../ffi/unix/decisions.ts";
import { acceptNow, closeOnExec, keepOnExec, newPipe, newSocketPair } from "../ffi/unix/descriptors.ts";
import { NativeMessage, receiveDescriptors, sendDescriptors } from "../ffi/unix/scm_rights.ts";
import { CloseQueue, libc, unixSystem } from "../ffi/unix/libc.ts";
import {
  connectLocal,
  makePrivateDirectory,
  type PrivateDirectory,
  refuseDescriptors,
} from "../ffi/unix/local_sockets.ts";
import { peerProcessId, userOfProcess } from "../ffi/unix/process.ts";
import { UNIX_PIPES, UNIX_STREAMS } from "../ffi/unix/io.ts";
import { readableWithin, unixPoller } from "../ffi/unix/poller.ts";
import { adoptPipe, canReadResource, type ConnIo, openResourceIo } from "../sockets/conn_io.ts";
import { defaultProvider } from "../spi/default_provider.ts";
import { WSA_ERRORS } from "../structs/constants.ts";
import { UnixProvider } from "../spi/unix/provider.ts";
import type { ChannelHello, SourceChannel, TargetChannel } from "./channel.ts";
import { type FrameReader, MAX_DESCRIPTORS_AT_ONCE } from "./channel.ts";
import { type ChannelDescriptors, ChannelKind, FrameError, type Hello } from "./protocol.ts";

const SHUT_RD = 0;
const NO_DESCRIPTORS: ChannelDescriptors = [0, 0, 0, 0];
const NO_WAY = new Uint8Array(0);
/** The time that a target waits for the promised descriptors, in milliseconds. It is longer than its source waits. */
const PASS_TIMEOUT_MS = 31_000;
/** The number of connections from other processes than the target that are handled in one turn of the event loop. */
const MAX_STRANGERS_IN_TURN = 8;
/** The pause after accepting failed, and before descriptors that found no room are sent again, in milliseconds. */
const PAUSE_MS = 20;
/** The number of descriptors of a target: for frames, descriptors, answers and decisions. */
const TARGET_ENDS = 4;
const SEQUENCE_SIZE = 4;
/** The size of a read buffer, and the smallest room that is worth a read, in bytes. */
const CHUNK_SIZE = 65_536;
const LEAST_ROOM = 4_096;

/** Both ends of a channel, in the source's process. */
interface Ends {
  readonly frames: bigint;
  readonly descriptors: bigint;
  readonly answers: bigint;
  readonly decisions: SourceDecisions;
  /** The target's descriptors, except for that of the decisions. */
  readonly far: readonly bigint[];
}

function openEnds(): Ends {
  const opened: bigint[] = [];
  const keep = <Pair extends [bigint, bigint]>(pair: Pair): Pair => {
    opened.push(...pair);
    return pair;
  };
  try {
    const [frames, farFrames] = keep(newSocketPair());
    const [descriptors, farDescriptors] = keep(newSocketPair());
    const [answers, farAnswers] = keep(newPipe("make a channel"));
    for (const end of [frames, descriptors]) refuseMessages(end);
    return { frames, descriptors, answers, decisions: newDecisions(), far: [farFrames, farDescriptors, farAnswers] };
  } catch (error) {
    for (const fd of opened) libc().close(fd);
    throw error;
  }
}

/** Closes the ends that are not used by a channel. */
function closeEnds({ frames, descriptors, answers, decisions, far }: Ends): void {
  for (const fd of [frames, descriptors, answers, ...far]) libc().close(fd);
  decisions.close();
}

/**
 * Makes the other end's `sendmsg` fail. Otherwise sent messages would wait here, with descriptors of other processes.
 */
function refuseMessages(end: bigint): void {
  libc().shutdown(end, SHUT_RD);
  // A second lock, where there is one.
  refuseDescriptors(end);
}

/** What the next child inherits. */
export interface Inheritance {
  /** Spawns the child. Its ends can be inherited only during this call. */
  spawn(spawn: () => Deno.ChildProcess): { child: Deno.ChildProcess; channel: SourceChannel };
  /** Closes all ends, if there is no child. */
  close(): void;
}

/**
 * Creates the ends that the next child inherits. Returns `undefined` if another provider shares the sockets, because
 * that provider must see them.
 */
export function prepareInheritance(): Inheritance | undefined {
  if (!(defaultProvider() instanceof UnixProvider)) return undefined;
  const ends = openEnds();
  const inherited = [...ends.far, ends.decisions.descriptor!];
  return {
    spawn(spawn) {
      for (const fd of inherited) keepOnExec(fd);
      let child: Deno.ChildProcess;
      try {
        child = spawn();
      } finally {
        for (const fd of inherited) closeOnExec(fd);
      }
      const numbers = inherited.map(Number) as unknown as ChannelDescriptors;
      const hello = { kind: ChannelKind.INHERITED, descriptors: numbers, way: NO_WAY };
      const channel = new UnixSourceChannel(ends, hello);
      channel.established();
      return { child, channel };
    },
    close: () => closeEnds(ends),
  };
}

/**
 * Opens a channel to a process that runs already. Its ends wait at a local socket, whose path is in HELLO, in a
 * directory that only this user may enter. They are sent to that process only.
 */
export function openUnixSourceChannel(processId: number): SourceChannel {
  const ends = openEnds();
  try {
    checkProvider(ends.frames, processId);
    const pass = new Pass([...ends.far, ends.decisions.descriptor!], processId);
    return new UnixSourceChannel(ends, { kind: ChannelKind.PASSED, descriptors: NO_DESCRIPTORS, way: pass.path }, pass);
  } catch (error) {
    closeEnds(ends);
    throw error;
  }
}

/** Makes a provider other than the system's own throw now if it cannot share sockets with the process. */
function checkProvider(socket: bigint, processId: number): void {
  const provider = defaultProvider();
  if (!(provider instanceof UnixProvider)) provider.withdraw(provider.duplicateSocket(socket, processId));
}

/** Sends descriptors to one process, once. */
class Pass {
  readonly path: Uint8Array;
  readonly #descriptors: readonly bigint[];
  readonly #processId: number;
  readonly #directory: PrivateDirectory;
  readonly #file: string;
  readonly #listener: bigint;
  readonly #remove = () => this.#directory.remove(this.#file);
  /** What is closed here holds up nothing else, even if messages that were not refused make it block. */
  readonly #closing = new CloseQueue(1, MAX_STRANGERS_IN_TURN);
  #waiting: PollWaiter | undefined;
  #open = true;

  constructor(descriptors: readonly bigint[], processId: number) {
    this.#descriptors = descriptors;
    this.#processId = processId;
    this.#directory = makePrivateDirectory();
    try {
      ({ file: this.#file, fd: this.#listener } = this.#directory.listen());
      refuseDescriptors(this.#listener);
    } catch (error) {
      this.#directory.remove();
      throw error;
    }
    this.path = new TextEncoder().encode(this.#file);
    try {
      this.#directory.admit(this.#file, userOfProcess(processId, `open a channel to process ${processId}`));
    } catch (error) {
      this.#remove();
      libc().close(this.#listener);
      throw error;
    }
    addEventListener("unload", this.#remove);
    this.#serve();
  }

  async #serve(): Promise<void> {
    while (this.#open) {
      try {
        this.#waiting = unixPoller().prepare().wait(this.#listener, "read");
        await this.#waiting.over;
        await this.#acceptSome();
      } catch {
        // This process has no descriptor left for a connection. The target waits in the backlog.
        await unreferenced(PAUSE_MS);
      }
    }
  }

  async #acceptSome(): Promise<void> {
    for (let count = 0; count < MAX_STRANGERS_IN_TURN; count++) {
      while (this.#closing.full) await this.#closing.next;
      if (!this.#open) return;
      const connection = acceptNow(this.#listener);
      if (connection === undefined) return;
      if (await this.#give(connection)) this.close();
    }
  }

  /**
   * Sends the descriptors if the peer is the target. Nothing more is read from the peer, because what it sent may block
   * this thread.
   */
  async #give(connection: bigint): Promise<boolean> {
    try {
      libc().shutdown(connection, SHUT_RD);
      if (peerProcessId(connection) !== this.#processId) return false;
      while (!sendDescriptors(connection, new Uint8Array(1), this.#descriptors)) {
        await unreferenced(PAUSE_MS);
        // The descriptors are closed then.
        if (!this.#open) return false;
      }
      return true;
    } catch {
      return false;
    } finally {
      this.#closing.close(connection);
    }
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    removeEventListener("unload", this.#remove);
    this.#remove();
    const closed = this.#waiting === undefined ? Promise.resolve() : unixPoller().cancel(this.#waiting);
    // Messages in the backlog may carry descriptors of sockets that linger.
    closed.then(() => this.#closing.close(this.#listener), () => {});
  }
}

class UnixSourceChannel implements SourceChannel {
  readonly hello: ChannelHello;
  readonly decisions: SourceDecisions;
  readonly passesDescriptors: boolean = defaultProvider() instanceof UnixProvider;
  readonly #frames: StreamIo;
  readonly #descriptors: bigint;
  readonly #answers: Reader;
  readonly #pass: Pass | undefined;
  readonly #leaveOpen: () => void;
  #far: readonly bigint[];
  #open = true;

  constructor({ frames, descriptors, answers, decisions, far }: Ends, hello: Omit<ChannelHello, "means">, pass?: Pass) {
    this.#pass = pass;
    this.hello = { ...hello, means: decisions.means };
    this.decisions = decisions;
    this.#frames = new StreamIo(frames, UNIX_STREAMS, unixPoller().prepare());
    this.#frames.referenced = false;
    this.#descriptors = descriptors;
    this.#answers = new Reader(answers, "pipe");
    this.#far = far;
    this.#leaveOpen = closeAtEnd(descriptors, () => this.close());
  }

  sendDescriptors(sequences: readonly number[], descriptors: readonly bigint[]): boolean {
    const bytes = new Uint8Array(new Uint32Array(sequences).buffer);
    return outgoing().send(this.#descriptors, bytes, descriptors);
  }

  write(bytes: Uint8Array<ArrayBuffer>): Promise<void> | undefined {
    return writeNow(this.#frames, bytes);
  }

  // deno-lint-ignore require-await -- a stream of another system may have to wait
  async end(): Promise<void> {
    if (this.#open) this.#frames.endSending();
  }

  listen(onBytes: (bytes: Uint8Array) => void, onEnd: (cause?: unknown) => void): void {
    this.#answers.start(onBytes, onEnd);
    this.#answers.setReferenced(false);
  }

  established(): void {
    this.#pass?.close();
    for (const fd of this.#far) libc().close(fd);
    this.#far = [];
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#leaveOpen();
    this.established();
    this.#answers.close();
    this.#frames.close().catch(() => {});
    libc().close(this.#descriptors);
    this.decisions.close();
  }
}

/** Opens the target's end. */
export async function openUnixTargetChannel(hello: Hello, input: FrameReader): Promise<TargetChannel> {
  const ends = hello.kind === ChannelKind.INHERITED ? inheritedEnds(hello) : await passedEnds(hello);
  // No other frames come through this input, and processes that this one spawns must not read from it.
  input.cancel();
  return new UnixTargetChannel(ends, hello.means);
}

function inheritedEnds({ kind, descriptors }: Hello): bigint[] {
  if (kind !== ChannelKind.INHERITED) throw new RangeError(`HELLO announces a channel of kind ${kind}`);
  const ends = descriptors.map(BigInt);
  for (const fd of ends) closeOnExec(fd);
  return ends;
}

async function passedEnds({ kind, way, sourceProcessId }: Hello): Promise<bigint[]> {
  if (kind !== ChannelKind.PASSED) throw new RangeError(`HELLO announces a channel of kind ${kind}`);
  try {
    return await receiveEnds(new TextDecoder().decode(way));
  } catch (cause) {
    // It is not a failure that a source has ended. A source that still runs must learn of this error.
    if (!(cause instanceof WinsockError) || ![Deno.pid, Deno.ppid].includes(sourceProcessId)) throw cause;
    const reason = `Cannot open the channel of process ${sourceProcessId}, which runs: ${cause.message}`;
    throw new RangeError(reason, { cause });
  }
}

async function receiveEnds(path: string): Promise<bigint[]> {
  const socket = connectLocal(path);
  if (socket === undefined) throw new RangeError("HELLO has the path of a socket that does not accept");
  try {
    await readableWithin(socket, PASS_TIMEOUT_MS);
    const { descriptors = [] } = receiveDescriptors(socket, 1, TARGET_ENDS) ?? {};
    if (descriptors.length === TARGET_ENDS) return descriptors;
    for (const fd of descriptors) libc().close(fd);
    if (descriptors.length === 0) throw sourceGone();
    throw new RangeError(`Expected ${TARGET_ENDS} descriptors after HELLO, got ${descriptors.length}`);
  } finally {
    libc().close(socket);
  }
}

function sourceGone(): WinsockError {
  return new WinsockError(WSA_ERRORS.WSAECONNRESET, { operation: "open a channel", functionName: "recvmsg" });
}

class UnixTargetChannel implements TargetChannel {
  readonly decisions: TargetDecisions;
  readonly #frames: Reader;
  readonly #descriptors: bigint;
  readonly #answers: StreamIo;
  /** The descriptors that have arrived, by the number of their OFFER; `undefined` if there was no room. */
  readonly #received = new Map<number, bigint | undefined>();
  #open = true;

  constructor([frames, descriptors, answers, decisions]: bigint[], means: number) {
    try {
      this.decisions = openDecisions(means, decisions!);
    } catch (error) {
      for (const fd of [frames, descriptors, answers]) libc().close(fd!);
      throw error;
    }
    this.#frames = new Reader(frames!, "socket");
    this.#descriptors = descriptors!;
    this.#answers = new StreamIo(answers!, UNIX_PIPES, unixPoller().prepare());
    this.#answers.referenced = false;
  }

  listen(onBytes: (bytes: Uint8Array) => void, onEnd: (cause?: unknown) => void): void {
    // An error here is that of a source that has ended, and the answers show it too.
    this.#frames.start(onBytes, () => onEnd());
  }

  setReferenced(referenced: boolean): void {
    this.#frames.setReferenced(referenced);
  }

  takeDescriptor(sequence: number): bigint | undefined {
    while (!this.#received.has(sequence)) {
      if (!this.#receive()) throw new FrameError(`OFFER ${sequence} comes without its descriptor`);
    }
    const descriptor = this.#received.get(sequence);
    this.#received.delete(sequence);
    return descriptor;
  }

  /** Receives one message. A descriptor whose OFFER did not follow is closed when another one arrives. */
  #receive(): boolean {
    const message = incoming().receive(this.#descriptors);
    if (message === undefined || message.bytes.byteLength === 0) return false;
    this.#closeReceived();
    const { bytes, descriptors } = message;
    const view = new DataView(bytes.buffer);
    const count = Math.floor(bytes.byteLength / SEQUENCE_SIZE);
    for (let index = 0; index < count; index++) {
      this.#received.set(view.getUint32(index * SEQUENCE_SIZE, true), descriptors[index]);
    }
    for (const surplus of descriptors.slice(count)) libc().close(surplus);
    return true;
  }

  #closeReceived(): void {
    for (const descriptor of this.#received.values()) if (descriptor !== undefined) libc().close(descriptor);
    this.#received.clear();
  }

  answer(bytes: Uint8Array<ArrayBuffer>): Promise<void> | undefined {
    if (!this.#open) return undefined;
    try {
      return writeNow(this.#answers, bytes)?.catch(() => {});
    } catch {
      // The source has ended, which the end of the frames shows.
      return undefined;
    }
  }

  stopListening(): void {
    this.#frames.close();
    this.#closeReceived();
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.stopListening();
    this.#answers.close().catch(() => {});
    libc().close(this.#descriptors);
    this.decisions.close();
  }
}

let sent: NativeMessage | undefined;
let received: NativeMessage | undefined;

/** Returns the memory of messages with descriptors, for one call at a time. */
function outgoing(): NativeMessage {
  return sent ??= new NativeMessage(MAX_DESCRIPTORS_AT_ONCE, MAX_DESCRIPTORS_AT_ONCE * SEQUENCE_SIZE);
}

function incoming(): NativeMessage {
  const { closesTruncatedDescriptors: closesUntaken, mostDescriptors } = unixSystem();
  const room = closesUntaken ? MAX_DESCRIPTORS_AT_ONCE : mostDescriptors;
  return received ??= new NativeMessage(room, MAX_DESCRIPTORS_AT_ONCE * SEQUENCE_SIZE);
}

/** The pending writes of each stream. */
const tails = new WeakMap<StreamIo, Promise<void>>();

/** Writes without waiting if possible, and then returns `undefined`. Throws the error of the first system call. */
function writeNow(io: StreamIo, bytes: Uint8Array<ArrayBuffer>): Promise<void> | undefined {
  const before = tails.get(io);
  const count = before === undefined ? io.trySend(bytes) : 0;
  if (count === bytes.byteLength) return undefined;
  const rest = bytes.subarray(count);
  const tail = (before ?? Promise.resolve()).then(() => io.send(rest)).then(() => {
    if (tails.get(io) === tail) tails.delete(io);
  });
  tails.set(io, tail);
  return tail;
}

/** Reads a pipe or local socket: with Deno's event loop if this Deno allows that, otherwise with plain calls. */
class Reader {
  readonly #fd: bigint;
  readonly #kind: "pipe" | "socket";
  #stop: (() => void) | undefined;
  #reference: ((referenced: boolean) => void) | undefined;
  #closed = false;

  constructor(fd: bigint, kind: "pipe" | "socket") {
    this.#fd = fd;
    this.#kind = kind;
  }

  start(onBytes: (bytes: Uint8Array) => void, onEnd: (cause?: unknown) => void): void {
    let ended = false;
    const end = (cause?: unknown) => {
      if (ended || this.#closed) return;
      ended = true;
      onEnd(cause);
    };
    if (this.#kind === "socket" && canReadResource()) {
      const resource = openResourceIo(this.#fd);
      this.#stop = () => resource.close();
      this.#reference = (referenced) => resource.setReferenced(referenced);
      this.#readResource(resource, onBytes).then(() => end(), end);
      return;
    }
    const stream = this.#kind === "pipe" ? adoptPipe(this.#fd) : undefined;
    if (stream !== undefined) {
      stream.on("data", (chunk: Uint8Array) => this.#closed || onBytes(chunk));
      stream.on("end", () => end());
      stream.on("error", end);
      stream.on("close", () => end());
      this.#stop = () => stream.destroy();
      this.#reference = (referenced) => referenced ? stream.ref() : stream.unref();
      return;
    }
    const io = new StreamIo(this.#fd, this.#kind === "pipe" ? UNIX_PIPES : UNIX_STREAMS, unixPoller().prepare());
    this.#stop = () => io.close().catch(() => {});
    this.#reference = (referenced) => io.referenced = referenced;
    this.#readAll(io, onBytes).then(() => end(), end);
  }

  /** Reads with Deno's event loop. Frames keep parts of the buffers, so that no byte of a buffer is overwritten. */
  async #readResource(io: ConnIo, onBytes: (bytes: Uint8Array) => void): Promise<void> {
    let room = new Uint8Array(0);
    for (;;) {
      if (room.byteLength < LEAST_ROOM) room = new Uint8Array(CHUNK_SIZE);
      const count = await io.read(room);
      if (count === 0 || this.#closed) return;
      onBytes(room.subarray(0, count));
      room = room.subarray(count);
    }
  }

  async #readAll(io: StreamIo, onBytes: (bytes: Uint8Array) => void): Promise<void> {
    for (let bytes = await io.receive(); bytes.byteLength > 0; bytes = await io.receive()) {
      if (this.#closed) return;
      onBytes(bytes);
    }
  }

  /** Has an effect after {@linkcode Reader.start}. */
  setReferenced(referenced: boolean): void {
    this.#reference?.(referenced);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#stop === undefined) libc().close(this.#fd);
    else this.#stop();
  }
}
