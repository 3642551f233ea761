/**
 * One version of a server: what it inherited from the version before, and what it hands to the next.
 *
 * @module
 */
import { listen, type Listener, type ListenLocalOptions, type ListenOptions } from "../../sockets/listener.ts";
import type { SocketAddr } from "../../ffi/socket_address.ts";
import { type DatagramSocket, listenDatagram, type ListenDatagramOptions } from "../../sockets/datagram_socket.ts";
import {
  type Inheritance,
  type InheritedConnection,
  PREDECESSOR_VARIABLE,
  takeInheritance,
  type UpgradeChannel,
} from "./upgrade_channel.ts";
import { UpgradeError } from "../errors.ts";

/** What the other files of an upgrade may know of a {@linkcode ServerVersion}. */
export interface ServerVersionState {
  readonly listeners: ReadonlyMap<string, Listener<SocketAddr>>;
  readonly datagrams: ReadonlyMap<string, DatagramSocket>;
  /** Whether an upgrade is under way or done. */
  upgrading: boolean;
  /** Where this version only keeps the listeners: the version that serves. */
  successor: UpgradeChannel | undefined;
  /** Resolves when nothing is accepted or received any more. */
  readonly pause: () => Promise<void>;
  readonly resume: () => void;
  retire(): void;
}

/** Makes a version, for {@linkcode inherit} alone. */
let makeServerVersion: (
  inheritance: Inheritance | undefined,
  predecessor: number,
  sockets: InheritOptions["sockets"],
) => ServerVersion;

/** The state of a version, for {@linkcode upgrade} alone. */
export let stateOf: (version: ServerVersion) => ServerVersionState;

/**
 * One version of a server. {@linkcode inherit} makes it, {@linkcode upgrade} replaces it.
 */
export class ServerVersion implements Disposable {
  /** The process this one takes over from; `undefined` at a first start. */
  readonly predecessor: number | undefined;
  /** Resolves when a successor serves and this version accepts nothing any more. */
  readonly retired: Promise<void>;

  readonly #untaken: Map<string, Listener<SocketAddr>>;
  readonly #untakenDatagrams: Map<string, DatagramSocket>;
  readonly #listeners = new Map<string, Listener<SocketAddr>>();
  readonly #datagrams = new Map<string, DatagramSocket>();
  readonly #sockets: InheritOptions["sockets"];
  readonly #channel: UpgradeChannel | undefined;
  readonly #connections: readonly InheritedConnection[];
  /** Whether the program knows, or will, what connections came along. */
  #takesConnections = false;
  readonly #confirmed = Promise.withResolvers<void>();
  readonly #retired = Promise.withResolvers<void>();
  readonly #state: ServerVersionState = {
    listeners: this.#listeners,
    datagrams: this.#datagrams,
    upgrading: false,
    successor: undefined,
    pause: () => this.#pause(),
    resume: () => this.#resume(),
    retire: () => this.#retire(),
  };
  #serving = false;

  private constructor(inheritance: Inheritance | undefined, predecessor: number, sockets: InheritOptions["sockets"]) {
    this.predecessor = inheritance === undefined ? undefined : predecessor;
    this.#connections = inheritance?.connections ?? [];
    this.#confirmed.promise.catch(() => {});
    this.retired = this.#retired.promise;
    this.#untaken = inheritance?.listeners ?? new Map();
    this.#untakenDatagrams = inheritance?.datagrams ?? new Map();
    this.#channel = inheritance?.channel;
    this.#sockets = sockets;
  }

  static {
    makeServerVersion = (inheritance, predecessor, sockets) => new ServerVersion(inheritance, predecessor, sockets);
    stateOf = (version) => version.#state;
  }

  /**
   * Established connections that came along, in order; whoever takes them owns them. What is read from one before
   * {@linkcode ServerVersion.confirmed} has resolved may be read again by the predecessor. They are closed when the trial is
   * over if the program has neither asked for them nor called `confirmed` by then.
   */
  get connections(): readonly InheritedConnection[] {
    this.#takesConnections = true;
    return this.#connections;
  }

  /** Names of the predecessor's listeners, and behind them its datagram sockets, that have not been taken. */
  get names(): string[] {
    return [...this.#untaken.keys(), ...this.#untakenDatagrams.keys()];
  }

  /**
   * Takes the listener of that name, or makes one. It accepts from {@linkcode ServerVersion.markReady} on; connections that
   * arrive earlier wait.
   *
   * @param name The listener's name; the next version asks for it by the same.
   * @param options Where to listen, if there is none to take.
   * @returns The listener.
   * @throws {TypeError} If it was taken already.
   * @throws {Deno.errors.AddrInUse} If it must be made and its address is taken; or as {@linkcode listen}, or
   * {@linkcode listenDatagram}, has it.
   */
  listen(name: string, options: ListenOptions): Listener;
  /**
   * Takes the local socket's listener of that name, or makes one, except on Windows. At a first start the socket's file must
   * not be there; a successor takes the listener and leaves the file alone.
   *
   * @param name The listener's name; the next version asks for it by the same.
   * @param options Where to listen, if there is none to take.
   * @returns The listener.
   * @throws {TypeError} If it was taken already.
   * @throws {Deno.errors.AddrInUse} If it must be made and its address is taken; or as {@linkcode listen}, or
   * {@linkcode listenDatagram}, has it.
   * @throws {Deno.errors.NotSupported} On Windows.
   */
  listen(name: string, options: ListenLocalOptions): Listener<Deno.UnixAddr>;
  listen(name: string, options: ListenOptions | ListenLocalOptions): Listener<SocketAddr> {
    if (this.#listeners.has(name)) throw new TypeError(`Listener "${name}" was taken already`);
    const listener = this.#untaken.get(name) ?? this.#sockets?.takeListener(name) ??
      ("path" in options ? listen(options) : listen(options));
    this.#untaken.delete(name);
    this.#listeners.set(name, listener);
    if (!this.#serving) listener.pause();
    return listener;
  }

  /**
   * Takes the datagram socket of that name, or makes one. It receives from {@linkcode ServerVersion.markReady} on; datagrams
   * that arrive earlier wait, as many as there is room for. When a successor serves it receives no more, and can still
   * answer until it is closed.
   *
   * @param name The socket's name, apart from those of listeners; the next version asks for it by the same.
   * @param options Where to receive, if there is none to take.
   * @returns The socket.
   * @throws {TypeError} If it was taken already.
   * @throws {Deno.errors.AddrInUse} If it must be made and its address is taken; or as {@linkcode listen}, or
   * {@linkcode listenDatagram}, has it.
   */
  listenDatagram(name: string, options: ListenDatagramOptions): DatagramSocket {
    if (this.#datagrams.has(name)) throw new TypeError(`Datagram socket "${name}" was taken already`);
    const socket = this.#untakenDatagrams.get(name) ?? this.#sockets?.takeDatagramSocket?.(name) ??
      listenDatagram(options);
    this.#untakenDatagrams.delete(name);
    this.#datagrams.set(name, socket);
    if (!this.#serving) socket.pause();
    return socket;
  }

  /**
   * Says that this version can serve. The predecessor stops accepting and receiving, and this one begins; listeners and
   * datagram sockets that nobody took are closed.
   *
   * Then its trial begins, the predecessor's `probation`. If it crashes or freezes before the end of that it is ended, and
   * what it has read from {@linkcode ServerVersion.connections} is gone: the predecessor goes on with them, and has their
   * `initialBytes` still. What must not be done twice waits for {@linkcode ServerVersion.confirmed}.
   *
   * @returns Resolves when this version accepts and receives.
   */
  async markReady(): Promise<void> {
    if (this.#serving) return;
    this.#closeUntaken();
    this.#channel?.send({ type: "ready" });
    // A predecessor that is gone accepts nothing either.
    await this.#channel?.keepAliveWhile(this.#channel.receive());
    this.#serve();
    this.#channel?.send({ type: "serving" });
    this.#obey();
  }

  /**
   * Waits until this version's trial is over and the predecessor has closed the connections it handed over, or until the
   * predecessor has ended, which leaves them to this version too; at a first start until {@linkcode ServerVersion.markReady} was
   * called. Waiting keeps this process running. A version that fails its trial is ended, and hears nothing.
   *
   * @example Connections that came along are left unread until nobody else reads them
   * ```ts ignore
   * import { inherited } from "@winsock/handoff";
   *
   * const version = await inherit();
   * const listener = version.listen("echo", { port: 8080 });
   * await version.markReady();
   * version.confirmed().then(() => {
   *   for (const { socket } of version.connections) echo(socket.toConn());
   * });
   * for await (const socket of listener) echo(socket.toConn());
   *
   * function echo(conn: Deno.Conn): void {
   *   conn.readable.pipeTo(conn.writable).catch(() => {}).finally(() => conn.close());
   * }
   * ```
   *
   * @returns Resolves when nobody but this version has its connections.
   * @throws {UpgradeError} `refused`, if this version has called {@linkcode ServerVersion.refuse}.
   */
  async confirmed(): Promise<void> {
    this.#takesConnections = true;
    await (this.#channel?.keepAliveWhile(this.#confirmed.promise) ?? this.#confirmed.promise);
  }

  /**
   * Says that this version will not serve, and closes its listeners and datagram sockets. The predecessor carries on.
   *
   * @param reason Why.
   * @returns Resolves when the predecessor will hear it, even if this process ends then.
   */
  async refuse(reason: string): Promise<void> {
    this[Symbol.dispose]();
    this.#confirmed.reject(new UpgradeError("refused", reason));
    await this.#channel?.finish({ type: "refuse", reason });
  }

  /**
   * Closes all listeners and datagram sockets of this version, and the connections that came along unless the program has
   * asked for them.
   */
  [Symbol.dispose](): void {
    for (const socket of this.#sources) socket.close();
    this.#closeUntaken();
    this.#closeConnections();
  }

  /** All that brings this version work. */
  get #sources(): (Listener<SocketAddr> | DatagramSocket)[] {
    return [...this.#listeners.values(), ...this.#datagrams.values()];
  }

  #closeUntaken(): void {
    for (const untaken of [this.#untaken, this.#untakenDatagrams]) {
      for (const socket of untaken.values()) socket.close();
      untaken.clear();
    }
  }

  /** Nobody will take them: their peers are not to wait in vain. */
  #closeConnections(): void {
    if (this.#takesConnections) return;
    for (const { socket } of this.#connections) socket.close();
  }

  async #pause(): Promise<void> {
    await Promise.all(this.#sources.map((source) => source.pause()));
  }

  #resume(): void {
    for (const source of this.#sources) source.resume();
  }

  #serve(): void {
    this.#serving = true;
    this.#resume();
  }

  /** What was received is still to be answered, so that datagram sockets stay open. */
  #retire(): void {
    for (const listener of this.#listeners.values()) listener.close();
    for (const socket of this.#datagrams.values()) socket.finishReceiving().catch(() => {});
    this.#closeUntaken();
    this.#retired.resolve();
  }

  /** The trial is over, or the predecessor is. */
  #confirm(): void {
    this.#confirmed.resolve();
    this.#closeConnections();
  }

  /** Answers the predecessor. A supervisor that keeps the listeners replaces this version when it has another. */
  async #obey(): Promise<void> {
    const channel = this.#channel;
    if (channel === undefined) return this.#confirm();
    let paused = false;
    for (let message = await channel.receive(); message !== undefined;) {
      if (message.type === "check") {
        channel.send({ type: "alive" });
      } else if (message.type === "confirm") {
        this.#confirm();
      } else if (message.type === "pause") {
        paused = true;
        await this.#pause();
        channel.send({ type: "paused" });
      } else if (message.type === "resume") {
        paused = false;
        this.#serve();
      } else if (message.type === "retire") {
        return this.#retire();
      }
      message = await (paused ? channel.keepAliveWhile(channel.receive()) : channel.receive());
    }
    this.#confirm();
    // The supervisor died between two versions.
    if (paused) this.#serve();
  }
}

/** Where {@linkcode inherit} looks. */
export interface InheritOptions {
  /**
   * Listeners, and datagram sockets, that came another way, such as `systemdSockets()` of `@winsock/handoff/interop`. A
   * predecessor's come first.
   */
  sockets?: {
    takeListener(name: string): Listener | undefined;
    takeDatagramSocket?(name: string): DatagramSocket | undefined;
  };
  /** The predecessor's process id; 0 for none. Default: the environment's, which needs `--allow-env` for that variable. */
  predecessor?: number;
  /** Where frames come from. Default: this process's stdin. */
  input?: ReadableStream<Uint8Array>;
}

/**
 * Begins a version of a server: takes over from the one before it, if there is one.
 *
 * Needs ffi access to the system's socket library, and `--allow-env=WINSOCK_HANDOFF_PREDECESSOR` unless `predecessor` is
 * given. No net permission. The variable is removed, so that no child takes this process's predecessor for its own.
 *
 * @example A server that can be replaced
 * ```ts ignore
 * import { inherit, onUpgradeRequest, upgrade } from "@winsock/handoff";
 *
 * const version = await inherit();
 * const listener = version.listen("echo", { port: 8080 });
 * const script = new URL("server.ts", import.meta.url);
 * const control = ["--allow-read=server.control", "--allow-write=server.control"];
 * const denoFlags = ["--allow-run", "--allow-env=WINSOCK_HANDOFF_PREDECESSOR", ...control];
 * onUpgradeRequest(() => upgrade(version, { script, denoFlags, drainTimeout: 10_000 }), {
 *   controlFile: "server.control",
 *   onUpgraded: () => Deno.exit(),
 * });
 * await version.markReady();
 * for await (const socket of listener) {
 *   const conn = socket.toConn();
 *   conn.readable.pipeTo(conn.writable).catch(() => {}).finally(() => conn.close());
 * }
 * ```
 *
 * @param options Where to look.
 * @returns The version; call {@linkcode ServerVersion.markReady} when it can serve.
 * @throws {Deno.errors.NotCapable} Without the permission for the environment variable.
 * @throws {HandoffError} `channel-broken` if what arrives is not the protocol.
 * @throws {TypeError} If what arrives is sockets, and not from a predecessor. They are closed, as after any error.
 */
export async function inherit(options: InheritOptions = {}): Promise<ServerVersion> {
  const predecessor = options.predecessor ?? takePredecessor();
  const inheritance = predecessor === 0 ? undefined : await takeInheritance(options.input);
  return makeServerVersion(inheritance, predecessor, options.sockets);
}

function takePredecessor(): number {
  const predecessor = Number(Deno.env.get(PREDECESSOR_VARIABLE) ?? 0);
  Deno.env.delete(PREDECESSOR_VARIABLE);
  return predecessor;
}
