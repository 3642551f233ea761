/**
 * The messages between two versions of a server, during an upgrade and after it, and the sockets that the new version
 * gets.
 *
 * @module
 */
import type net from "node:net";
import { check, OBJECT, printable, STRING } from "../../internal/options.ts";
import { settleWithin } from "../../internal/runtime.ts";
import type { SocketAddr } from "../../ffi/socket_address.ts";
import { DatagramSocket } from "../../sockets/datagram_socket.ts";
import type { AnySocket } from "../../sockets/duplicate_socket.ts";
import { Listener } from "../../sockets/listener.ts";
import { Socket } from "../../sockets/socket.ts";
import { receive } from "../receive.ts";
import { killProcess } from "../spawn.ts";
import type { AnnouncedFile, SharedFile } from "./shared_file.ts";

/** A message of an {@linkcode UpgradeChannel}. */
export type UpgradeMessage =
  /** New to old: the new version has taken its listeners, and can serve. */
  | { readonly type: "ready" }
  /** New to old: the new version will not serve. */
  | { readonly type: "refuse"; readonly reason: string }
  /** Old to new: only the new version accepts now. */
  | { readonly type: "activate" }
  /** New to old: the new version accepts. */
  | { readonly type: "serving" }
  /** Old to new, at the end of the trial, and supervisor to the version that serves: asks whether the event loop runs. */
  | { readonly type: "check" }
  /** The answer to `check`. */
  | { readonly type: "alive" }
  /** Old to new: the trial is over, and the sockets that were handed off belong to the new version only. */
  | { readonly type: "confirm" }
  /** Supervisor to the version that serves: stop accepting. */
  | { readonly type: "pause" }
  /** The answer to `pause`. */
  | { readonly type: "paused" }
  /**
   * Supervisor to the version that paused, before `activate`: a successor is about to serve, and goes on if the
   * supervisor ends. An older version does not know this message.
   */
  | { readonly type: "replaced" }
  /** Supervisor to the version that paused: its successor has failed. */
  | { readonly type: "resume" }
  /** Supervisor to the version that paused: its successor serves. */
  | { readonly type: "retire" };

const MAX_LINE = 64 * 1024;
/** The most messages that wait to be read. An upgrade has fewer. */
const MAX_MESSAGES = 64;

/**
 * Decodes a message. The reason may be printed, so that control characters are replaced.
 *
 * @throws {Error} If it is not a message.
 */
function decodeMessage(line: string): UpgradeMessage {
  const message: unknown = JSON.parse(line);
  check("message", message, OBJECT);
  const { type, reason } = message as Partial<Record<string, unknown>>;
  check("type", type, STRING);
  if (type !== "refuse") return message as UpgradeMessage;
  check("reason", reason, STRING);
  return { type, reason: printable(String(reason)) };
}

/** One end of the connection between two versions. */
export class UpgradeChannel {
  readonly #socket: net.Socket;
  readonly #messages: UpgradeMessage[] = [];
  #text = "";
  #ended = false;
  /** The number of waits that keep this process running. */
  #staying = 0;
  #changed = Promise.withResolvers<void>();
  readonly #over = Promise.withResolvers<void>();
  /** Resolves when the other end has ended, or this one was closed. */
  readonly ended: Promise<void> = this.#over.promise;

  constructor(socket: net.Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text) => this.#take(String(text)));
    socket.on("error", () => this.#end());
    socket.on("end", () => this.#end());
    socket.on("close", () => this.#end());
    socket.unref();
  }

  send(message: UpgradeMessage): void {
    if (!this.#ended) this.#socket.write(`${JSON.stringify(message)}\n`);
  }

  /**
   * Sends a last message. Resolves when the other end will get it even if this process ends, or when the other end has
   * ended.
   */
  async finish(message: UpgradeMessage): Promise<void> {
    if (this.#ended) return;
    await this.keepAliveWhile(
      new Promise<void>((resolve) => {
        this.#socket.once("close", () => resolve());
        this.#socket.end(`${JSON.stringify(message)}\n`, () => resolve());
      }),
    );
    this.close();
  }

  /** Returns the next message; `undefined` when the other end has ended. */
  async receive(): Promise<UpgradeMessage | undefined> {
    for (;;) {
      const message = this.#messages.shift();
      if (message !== undefined || this.#ended) return message;
      await this.#changed.promise;
    }
  }

  /** Waits for a promise, and keeps this process running meanwhile, because it may have nothing else to do. */
  async keepAliveWhile<T>(promise: Promise<T>): Promise<T> {
    if (this.#staying++ === 0) this.#socket.ref();
    try {
      return await promise;
    } finally {
      if (--this.#staying === 0) this.#socket.unref();
    }
  }

  close(): void {
    this.#socket.destroySoon();
    this.#end();
  }

  #take(text: string): void {
    const lines = (this.#text + text).split("\n");
    this.#text = lines.pop()!;
    try {
      for (const line of lines) this.#messages.push(decodeMessage(line));
    } catch {
      this.#socket.destroy();
    }
    if (this.#text.length > MAX_LINE || this.#messages.length > MAX_MESSAGES) this.#socket.destroy();
    this.#wake();
  }

  #end(): void {
    this.#ended = true;
    this.#over.resolve();
    this.#wake();
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

/**
 * The time that a version which serves may take to answer, in milliseconds. It may have other work to do first, but is
 * of no use to its clients meanwhile.
 */
const SILENCE_TIMEOUT_MS = 10_000;
/** The time to wait for the end of a process that was killed, in milliseconds. */
const END_TIMEOUT_MS = 5_000;

/** A version that this process has started, and that has taken over: its process, and the channel to it. */
export class Successor {
  readonly #child: Deno.ChildProcess;
  readonly #channel: UpgradeChannel;
  /** The answer to the last `pause`. */
  #paused: Promise<unknown> = Promise.resolve();
  #replaced = false;
  #ended = false;

  constructor(child: Deno.ChildProcess, channel: UpgradeChannel) {
    this.#child = child;
    this.#channel = channel;
    child.status.then(() => this.#ended = true);
  }

  /** Whether its process has ended. */
  get ended(): boolean {
    return this.#ended;
  }

  /**
   * Asks it to stop accepting. Resolves when it has done so, or its process has ended. The process is ended if it does
   * not answer, because it could accept again later.
   *
   * @param limit The time that it may take to stop accepting, in milliseconds. It may have to wait for its workers.
   * @param cancelled Rejects when the upgrade has failed or is cancelled. The process is then left alone.
   */
  async pause(limit: number, cancelled: Promise<never>): Promise<void> {
    // It answers nothing else before it has answered an earlier `pause` that was cancelled.
    await settleWithin(Promise.race([this.#paused, cancelled]), limit);
    const heard: (string | undefined)[] = [];
    const hear = async () => heard.push((await this.#channel.receive())?.type);
    const alive = hear();
    const paused = this.#paused = hear();
    this.#channel.send({ type: "check" });
    this.#channel.send({ type: "pause" });
    await settleWithin(Promise.race([alive, cancelled]), SILENCE_TIMEOUT_MS);
    if (heard.length > 0) await settleWithin(Promise.race([paused, cancelled]), limit);
    if (heard[1] === "paused") return;
    killProcess(this.#child);
    await settleWithin(this.#child.status, END_TIMEOUT_MS);
  }

  /**
   * Says that another version is about to serve. Until {@linkcode Successor.resume}, this version does not accept again
   * even if the supervisor ends.
   */
  announceReplacement(): void {
    this.#channel.send({ type: "replaced" });
  }

  /** Has it accept again, because the version after it has failed. */
  resume(): void {
    this.#channel.send({ type: "resume" });
  }

  /** Says that another version has taken over from it. It finishes its work in its own time. */
  replace(): void {
    this.#replaced = true;
    this.#release();
  }

  /**
   * Has it finish its work and end. Only waits if it was replaced.
   *
   * @param drainTimeout The time after which its process is ended, in milliseconds.
   */
  async retire(drainTimeout: number): Promise<Deno.CommandStatus> {
    this.#child.ref();
    if (!this.#replaced) {
      this.#release();
      await settleWithin(this.#child.status, drainTimeout);
      killProcess(this.#child);
    }
    return await this.#child.status;
  }

  #release(): void {
    this.#channel.send({ type: "retire" });
    this.#channel.close();
  }
}

/** The environment variable that tells a process the process id of its predecessor. */
export const PREDECESSOR_VARIABLE = "WINSOCK_HANDOFF_PREDECESSOR";

/** The data that is sent with the first socket, which is the connection for the messages. */
export interface Announcement {
  readonly upgrade: 1;
  /** The names of the listeners that follow, in order. */
  readonly listeners: readonly string[];
  /** The names of the datagram sockets that follow, in order. A predecessor may leave this out. */
  readonly datagrams?: readonly string[];
  /** The number of connections that follow. */
  readonly connections: number;
  /** The files that were given to the new version. A predecessor may leave this out. */
  readonly files?: readonly AnnouncedFile[];
  /**
   * Whether another version than the predecessor serves, and continues if the predecessor, a supervisor, ends. A
   * predecessor may leave this out.
   */
  readonly served?: boolean;
}

/** An established connection that this version inherited. */
export interface InheritedConnection {
  /** The connection. */
  readonly socket: Socket;
  /** The data that the predecessor sent with the connection. */
  readonly data: unknown;
}

/** Sockets with names, in order. Several may have the same name. */
export class NamedSockets<S extends AnySocket> {
  readonly #entries: (readonly [name: string, socket: S])[] = [];

  /** The name of each socket. */
  get names(): string[] {
    return this.#entries.map(([name]) => name);
  }

  get sockets(): S[] {
    return this.#entries.map(([, socket]) => socket);
  }

  add(name: string, socket: S): void {
    this.#entries.push([name, socket]);
  }

  /** Returns the first socket with a name. */
  first(name: string): S | undefined {
    return this.#entries.find(([each]) => each === name)?.[1];
  }

  /** Removes and returns the first socket with a name. */
  take(name: string): S | undefined {
    const index = this.#entries.findIndex(([each]) => each === name);
    return index === -1 ? undefined : this.#entries.splice(index, 1)[0]![1];
  }

  /** Closes and removes all. */
  closeAll(): void {
    for (const [, socket] of this.#entries.splice(0)) socket.close();
  }
}

/** All that this version inherited. */
export interface Inheritance {
  readonly channel: UpgradeChannel;
  readonly listeners: NamedSockets<Listener<SocketAddr>>;
  readonly datagrams: NamedSockets<DatagramSocket>;
  readonly connections: InheritedConnection[];
  readonly files: Map<string, SharedFile>;
  /** Whether another version than the predecessor serves. */
  readonly served: boolean;
}

/**
 * Takes all sockets that the predecessor hands off, or those that arrive before it ends.
 *
 * @returns `undefined` if the predecessor ended before it sent anything.
 * @throws {TypeError} If the sockets are not an inheritance. After this and any other error, all sockets that arrived
 * are closed.
 */
export async function takeInheritance(input: ReadableStream<Uint8Array> | undefined): Promise<Inheritance | undefined> {
  const received = receive({ kinds: ["connection", "listener", "datagram"], ...input === undefined ? {} : { input } });
  const taken: Pick<AnySocket, "close">[] = [];
  try {
    const first = (await received.next()).value;
    if (first === undefined) return undefined;
    taken.push(first.socket);
    const announced = first.data as Announcement;
    if (announced?.upgrade !== 1 || !(first.socket instanceof Socket)) {
      throw new TypeError("Cannot inherit: the sockets on stdin are not from a predecessor of this protocol");
    }
    const files = await takeFiles(announced, first.socket);
    taken.push(...files.values());
    const listeners = new NamedSockets<Listener<SocketAddr>>();
    const datagrams = new NamedSockets<DatagramSocket>();
    const connections: InheritedConnection[] = [];
    const { datagrams: datagramNames = [] } = announced;
    const expected = announced.listeners.length + datagramNames.length + announced.connections;
    for (let count = 0; count < expected; count++) {
      const { value } = await received.next();
      if (value === undefined) break;
      const { socket, data } = value;
      taken.push(socket);
      if (socket instanceof Listener) listeners.add(announced.listeners[listeners.sockets.length]!, socket);
      else if (socket instanceof DatagramSocket) datagrams.add(datagramNames[datagrams.sockets.length]!, socket);
      else connections.push({ socket, data });
    }
    const channel = new UpgradeChannel(first.socket.toNodeSocket());
    // Only the end of the channel is left to come. The loop must read it, and does not close sockets that were taken.
    received.next().catch(() => {});
    return { channel, listeners, datagrams, connections, files, served: announced.served === true };
  } catch (error) {
    for (const socket of taken) socket.close();
    await received.return();
    throw error;
  }
}

/** Takes the files of an announcement. The connection for the messages brings them, before its first message. */
async function takeFiles({ files = [] }: Announcement, socket: Socket): Promise<Map<string, SharedFile>> {
  if (files.length === 0) return new Map();
  const { receiveFiles } = await import("./shared_file.ts");
  return await receiveFiles(files, socket.handle);
}
