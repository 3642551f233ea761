/**
 * What two versions of a server say to each other during an upgrade, and the sockets that go from one to the other.
 *
 * @module
 */
import type net from "node:net";
import type { SocketAddr } from "../../ffi/socket_address.ts";
import { DatagramSocket } from "../../sockets/datagram_socket.ts";
import type { AnySocket } from "../../sockets/duplicate_socket.ts";
import { Listener } from "../../sockets/listener.ts";
import { Socket } from "../../sockets/socket.ts";
import { receive } from "../receive.ts";

/** One thing said. */
export type UpgradeMessage =
  /** New to old: its listeners are taken, and it can serve. */
  | { readonly type: "ready" }
  /** New to old: it will not serve. */
  | { readonly type: "refuse"; readonly reason: string }
  /** Old to new: nobody accepts now but you. */
  | { readonly type: "activate" }
  /** New to old: it accepts. */
  | { readonly type: "serving" }
  /** Old to new, at the end of its trial: does your event loop run? */
  | { readonly type: "check" }
  /** Its answer. */
  | { readonly type: "alive" }
  /** Old to new: the trial is over, and what was handed over is yours alone. */
  | { readonly type: "confirm" }
  /** Supervisor to the version that serves: stop accepting. */
  | { readonly type: "pause" }
  /** Its answer. */
  | { readonly type: "paused" }
  /** Supervisor to the version that paused: its successor has failed. */
  | { readonly type: "resume" }
  /** Supervisor to the version that paused: its successor serves. */
  | { readonly type: "retire" };

const MAX_LINE = 64 * 1024;

/** One end of the connection. */
export class UpgradeChannel {
  readonly #socket: net.Socket;
  readonly #messages: UpgradeMessage[] = [];
  #text = "";
  #ended = false;
  /** How many wait for something that is to keep this process running. */
  #staying = 0;
  #changed = Promise.withResolvers<void>();

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

  /** Says a last thing; resolves when the other end will hear it even if this process ends, or is gone. */
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

  /** The next message; `undefined` when the other end is gone. */
  async receive(): Promise<UpgradeMessage | undefined> {
    for (;;) {
      const message = this.#messages.shift();
      if (message !== undefined || this.#ended) return message;
      await this.#changed.promise;
    }
  }

  /** Waits for a promise, and keeps this process running meanwhile, which may have nothing else to do. */
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
      for (const line of lines) this.#messages.push(JSON.parse(line));
    } catch {
      this.#socket.destroy();
    }
    if (this.#text.length > MAX_LINE) this.#socket.destroy();
    this.#wake();
  }

  #end(): void {
    this.#ended = true;
    this.#wake();
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

/** The environment variable by which a process knows that it has a predecessor: its process id. */
export const PREDECESSOR_VARIABLE = "WINSOCK_HANDOFF_PREDECESSOR";

/** What travels with the first socket, the connection to speak over. */
export interface Announcement {
  readonly upgrade: 1;
  /** Names of the listeners that follow, in order. */
  readonly listeners: readonly string[];
  /** Names of the datagram sockets that follow, in order; a predecessor may know none. */
  readonly datagrams?: readonly string[];
  /** How many connections follow. */
  readonly connections: number;
}

/** An established connection that came along. */
export interface InheritedConnection {
  /** The connection. */
  readonly socket: Socket;
  /** What the predecessor said of it. */
  readonly data: unknown;
}

/** All that came. */
export interface Inheritance {
  readonly channel: UpgradeChannel;
  readonly listeners: Map<string, Listener<SocketAddr>>;
  readonly datagrams: Map<string, DatagramSocket>;
  readonly connections: InheritedConnection[];
}

/**
 * Takes all that the predecessor hands over; less, if it dies on the way.
 *
 * @returns `undefined` if it died before it said anything.
 * @throws {TypeError} If what arrives is no inheritance. After this and any other error, all that came is closed.
 */
export async function takeInheritance(input: ReadableStream<Uint8Array> | undefined): Promise<Inheritance | undefined> {
  const received = receive({ kinds: ["connection", "listener", "datagram"], ...input === undefined ? {} : { input } });
  const taken: AnySocket[] = [];
  try {
    const first = (await received.next()).value;
    if (first === undefined) return undefined;
    taken.push(first.socket);
    const announced = first.data as Announcement;
    if (announced?.upgrade !== 1 || !(first.socket instanceof Socket)) {
      throw new TypeError("What arrives on stdin is no inheritance of this version");
    }
    const listeners = new Map<string, Listener>();
    const datagrams = new Map<string, DatagramSocket>();
    const connections: InheritedConnection[] = [];
    const { datagrams: datagramNames = [] } = announced;
    const expected = announced.listeners.length + datagramNames.length + announced.connections;
    for (let count = 0; count < expected; count++) {
      const { value } = await received.next();
      if (value === undefined) break;
      const { socket, data } = value;
      taken.push(socket);
      if (socket instanceof Listener) listeners.set(announced.listeners[listeners.size]!, socket);
      else if (socket instanceof DatagramSocket) datagrams.set(datagramNames[datagrams.size]!, socket);
      else connections.push({ socket, data });
    }
    const channel = new UpgradeChannel(first.socket.toNodeSocket());
    // What is left to come is the end of stdin; the loop must see it, and closes nothing that was taken.
    received.next().catch(() => {});
    return { channel, listeners, datagrams, connections };
  } catch (error) {
    for (const socket of taken) socket.close();
    await received.return();
    throw error;
  }
}
