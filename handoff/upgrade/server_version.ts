/**
 * One version of a server: what it inherited from the version before, and what it hands to the next.
 *
 * @module
 */
import { nodeBuiltin, WatchedPromise } from "../../internal/runtime.ts";
import { listen, type Listener, type ListenLocalOptions, type ListenOptions } from "../../sockets/listener.ts";
import { describeAddress, type SocketAddr, type SocketAddress, toAddress } from "../../ffi/socket_address.ts";
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
  /** Whether {@linkcode ServerVersion.markReady} was called, and the predecessor has stopped. */
  readonly serving: boolean;
  /** Whether there was a version before this one. */
  readonly hasPredecessor: boolean;
  /** Resolves when the version's own trial is over. */
  readonly confirmed: Promise<void>;
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
  options: InheritOptions,
) => ServerVersion;

/** The state of a version, for {@linkcode upgrade} alone. */
export let stateOf: (version: ServerVersion) => ServerVersionState;

/**
 * One version of a server. {@linkcode inherit} makes it, {@linkcode upgrade} replaces it.
 */
export class ServerVersion implements Disposable {
  /** The process this one takes over from; `undefined` at a first start. */
  readonly predecessor: number | undefined;
  /**
   * Resolves when this version's trial is over and the predecessor has closed the connections it handed over, or when the
   * predecessor has ended, which leaves them to this version too; at a first start when {@linkcode ServerVersion.markReady}
   * was called. Of a version that fails its trial it stays pending: that one is ended. It rejects with an
   * {@linkcode UpgradeError} (`refused`) if this version has called {@linkcode ServerVersion.refuse}, which is not an unhandled
   * rejection.
   *
   * Waiting for it keeps this process running, and nothing else about it does: a program that has nothing else to do ends,
   * unless it waits. To wait for it is also to ask for the connections that came along, which stay open then.
   *
   * @example Connections that came along are left unread until no other process reads them
   * ```ts ignore
   * import { inherit } from "@winsock/handoff";
   *
   * const version = await inherit();
   * const listener = version.listen("echo", { port: 8080 });
   * await version.markReady();
   * version.confirmed.then(() => {
   *   for (const { socket } of version.takeConnections()) echo(socket.toConn());
   * });
   * for await (const socket of listener) echo(socket.toConn());
   *
   * function echo(conn: Deno.Conn): void {
   *   conn.readable.pipeTo(conn.writable).catch(() => {}).finally(() => conn.close());
   * }
   * ```
   */
  readonly confirmed: Promise<void>;
  /**
   * Resolves when a successor serves, or a supervisor has this version end, and it accepts nothing any more. Waiting for it
   * does not keep this process running.
   */
  readonly retired: Promise<void>;

  readonly #untaken: Map<string, Listener<SocketAddr>>;
  readonly #untakenDatagrams: Map<string, DatagramSocket>;
  readonly #listeners = new Map<string, Listener<SocketAddr>>();
  readonly #datagrams = new Map<string, DatagramSocket>();
  readonly #options: InheritOptions;
  readonly #channel: UpgradeChannel | undefined;
  #connections: InheritedConnection[];
  /** Whether the program waits until the connections that came along are its own. */
  #awaitsConnections = false;
  readonly #confirmed = Promise.withResolvers<void>();
  readonly #retired = Promise.withResolvers<void>();
  readonly #state: ServerVersionState;
  #serving = false;

  private constructor(inheritance: Inheritance | undefined, predecessor: number, options: InheritOptions) {
    const confirmed = this.#confirmed.promise;
    this.predecessor = inheritance === undefined ? undefined : predecessor;
    this.#connections = inheritance?.connections ?? [];
    this.confirmed = new WatchedPromise(confirmed, () => {
      this.#awaitsConnections = true;
      this.#channel?.keepAliveWhile(confirmed).catch(() => {});
    });
    this.retired = this.#retired.promise;
    this.#untaken = inheritance?.listeners ?? new Map();
    this.#untakenDatagrams = inheritance?.datagrams ?? new Map();
    this.#channel = inheritance?.channel;
    this.#options = options;
    const isServing = () => this.#serving;
    this.#state = {
      listeners: this.#listeners,
      datagrams: this.#datagrams,
      get serving() {
        return isServing();
      },
      hasPredecessor: inheritance !== undefined,
      confirmed,
      upgrading: false,
      successor: undefined,
      pause: () => this.#pause(),
      resume: () => this.#resume(),
      retire: () => this.#retire(),
    };
  }

  static {
    makeServerVersion = (inheritance, predecessor, options) => new ServerVersion(inheritance, predecessor, options);
    stateOf = (version) => version.#state;
  }

  /**
   * Takes the established connections that came along. What is read from one before {@linkcode ServerVersion.confirmed} has
   * resolved may be read again by the predecessor. When the trial is over those are closed that were not taken, unless the
   * program waits for `confirmed`.
   *
   * @returns The connections, in order; the caller's to close. Empty when they were taken before.
   */
  takeConnections(): InheritedConnection[] {
    const taken = this.#connections;
    this.#connections = [];
    return taken;
  }

  /** Names of the predecessor's listeners that have not been taken. */
  get listenerNames(): string[] {
    return [...this.#untaken.keys()];
  }

  /** Names of the predecessor's datagram sockets that have not been taken. */
  get datagramNames(): string[] {
    return [...this.#untakenDatagrams.keys()];
  }

  /**
   * Takes the listener of that name, or makes one. It accepts from {@linkcode ServerVersion.markReady} on; connections that
   * arrive earlier wait.
   *
   * @param name The listener's name; the next version asks for it by the same.
   * @param options Where to listen, if there is none to take.
   * @returns The listener. If the predecessor has another address by that name, it is the predecessor's all the same:
   * {@linkcode InheritOptions.onAddressChange}.
   * @throws {TypeError} If it was taken already.
   * @throws {Deno.errors.AddrNotAvailable} If the predecessor has another address by that name, and `onAddressChange` is `"error"`.
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
   * @returns The listener. If the predecessor has another address by that name, it is the predecessor's all the same:
   * {@linkcode InheritOptions.onAddressChange}.
   * @throws {TypeError} If it was taken already.
   * @throws {Deno.errors.AddrNotAvailable} If the predecessor has another address by that name, and `onAddressChange` is `"error"`.
   * @throws {Deno.errors.AddrInUse} If it must be made and its address is taken; or as {@linkcode listen}, or
   * {@linkcode listenDatagram}, has it.
   * @throws {Deno.errors.NotSupported} On Windows.
   */
  listen(name: string, options: ListenLocalOptions): Listener<Deno.UnixAddr>;
  listen(name: string, options: ListenOptions | ListenLocalOptions): Listener<SocketAddr> {
    if (this.#listeners.has(name)) throw new TypeError(`Listener "${name}" was taken already`);
    const inherited = this.#untaken.get(name);
    if (inherited !== undefined) this.#compareAddress(name, inherited.addr, options);
    const listener = inherited ?? this.#options.sockets?.takeListener(name) ??
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
   * @returns The socket. If the predecessor has another address by that name, it is the predecessor's all the same:
   * {@linkcode InheritOptions.onAddressChange}.
   * @throws {TypeError} If it was taken already.
   * @throws {Deno.errors.AddrNotAvailable} If the predecessor has another address by that name, and `onAddressChange` is `"error"`.
   * @throws {Deno.errors.AddrInUse} If it must be made and its address is taken; or as {@linkcode listen}, or
   * {@linkcode listenDatagram}, has it.
   */
  listenDatagram(name: string, options: ListenDatagramOptions): DatagramSocket {
    if (this.#datagrams.has(name)) throw new TypeError(`Datagram socket "${name}" was taken already`);
    const inherited = this.#untakenDatagrams.get(name);
    if (inherited !== undefined) this.#compareAddress(name, inherited.addr, options);
    const socket = inherited ?? this.#options.sockets?.takeDatagramSocket?.(name) ?? listenDatagram(options);
    this.#untakenDatagrams.delete(name);
    this.#datagrams.set(name, socket);
    if (!this.#serving) socket.pause();
    return socket;
  }

  /**
   * Says that this version can serve. The predecessor stops accepting and receiving, and this one begins; listeners and
   * datagram sockets that were not taken are closed.
   *
   * Then its trial begins, the predecessor's `probation`. If it crashes or freezes before the end of that it is ended, and
   * what it has read from the connections of {@linkcode ServerVersion.takeConnections} is gone: the predecessor goes on with them, and has their
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

  /** Closes all listeners and datagram sockets of this version, and the connections that came along and were not taken. */
  [Symbol.dispose](): void {
    for (const socket of this.#sources) socket.close();
    this.#closeUntaken();
    for (const { socket } of this.takeConnections()) socket.close();
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
    if (this.#awaitsConnections) return;
    // They will not be taken: their peers are not to wait in vain.
    for (const { socket } of this.takeConnections()) socket.close();
  }

  /** Tells that the program asks for another address than it gets. */
  #compareAddress(
    name: string,
    inherited: SocketAddr,
    options: ListenOptions | ListenLocalOptions | ListenDatagramOptions,
  ): void {
    const asked: SocketAddress = "path" in options ? { path: options.path } : toAddress(options, "0.0.0.0");
    if (isSameAddress(asked, inherited)) return;
    const { onAddressChange = "warn" } = this.#options;
    if (typeof onAddressChange === "function") return onAddressChange({ name, asked, inherited });
    const addresses = `it asks for ${describeAddress(asked)}, and the predecessor has ${describeAddress(inherited)}`;
    if (onAddressChange === "error") {
      throw new Deno.errors.AddrNotAvailable(`Cannot take the socket "${name}": ${addresses}`);
    }
    const warning = `The socket "${name}" keeps its address: ${addresses}`;
    nodeBuiltin("node:process").emitWarning(warning, { type: "AddressChangeWarning" });
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

/** Whether it is the address that was asked for; port 0 is any. */
function isSameAddress(asked: SocketAddress, inherited: SocketAddr): boolean {
  if ("path" in asked || "path" in inherited) {
    if (!("path" in asked && "path" in inherited)) return false;
    // One may be relative: to which folder it was, the system does not tell.
    const [one, other] = [asked.path, inherited.path].map((path) => path.replace(/^(\.\/)+/, "")) as [string, string];
    return one === other || one.endsWith(`/${other}`) || other.endsWith(`/${one}`);
  }
  if (asked.port !== 0 && asked.port !== inherited.port) return false;
  return canonicalHost(asked.hostname) === canonicalHost(inherited.hostname);
}

/** One text for all of an IPv6 address. */
function canonicalHost(hostname: string): string {
  const [address = "", scope = ""] = hostname.split("%");
  return address.includes(":") ? `${new URL(`http://[${address}]`).hostname}%${scope}` : hostname;
}

/** What {@linkcode InheritOptions.onAddressChange} is told. */
export interface AddressChange {
  /** The name of the listener or datagram socket. */
  readonly name: string;
  /** The address that the program asks for. */
  readonly asked: { readonly hostname: string; readonly port: number } | { readonly path: string };
  /** The address that it gets: the predecessor's. */
  readonly inherited: Deno.NetAddr | Deno.UnixAddr;
}

/** Where {@linkcode inherit} looks, and what it tells. */
export interface InheritOptions {
  /**
   * Listeners, and datagram sockets, that came another way, such as `systemdSockets()` of `@winsock/handoff/interop`. A
   * predecessor's come first.
   */
  sockets?: {
    takeListener(name: string): Listener | undefined;
    takeDatagramSocket?(name: string): DatagramSocket | undefined;
  };
  /**
   * What to do when the program asks for a name with another address than the predecessor's socket of that name has, such
   * as after a change of the configuration. The socket is the predecessor's all the same; to listen elsewhere, take another
   * name. Port 0 is any port. Sockets that come by `sockets` are not compared. Defaults to `"warn"`.
   *
   * * `"warn"`: emits a warning of this process (`process.emitWarning`), which is printed to stderr, and is an event
   *   `warning` of `node:process`. Its `name` is `AddressChangeWarning`.
   * * `"error"`: `listen` and `listenDatagram` throw `Deno.errors.AddrNotAvailable`, and the socket stays untaken.
   * * A function: is called with both addresses, and nothing else is done; what it throws, `listen` throws.
   */
  onAddressChange?: "warn" | "error" | ((change: AddressChange) => void);
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
 * await version.markReady();
 * onUpgradeRequest(() => upgrade(version, { script: import.meta.url, drainTimeout: 10_000 }), {
 *   controlFile: "server.control",
 *   onUpgraded: () => Deno.exit(),
 * });
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
 * @throws {TypeError} If what arrives is sockets, and not from a predecessor. They are closed, as after any error. Or if
 * `onAddressChange` is something else than it may be.
 */
export async function inherit(options: InheritOptions = {}): Promise<ServerVersion> {
  const { onAddressChange = "warn" } = options;
  if (onAddressChange !== "warn" && onAddressChange !== "error" && typeof onAddressChange !== "function") {
    throw new TypeError(`Invalid \`onAddressChange\`: must be "warn", "error" or a function, got ${onAddressChange}`);
  }
  const predecessor = options.predecessor ?? takePredecessor();
  const inheritance = predecessor === 0 ? undefined : await takeInheritance(options.input);
  return makeServerVersion(inheritance, predecessor, options);
}

function takePredecessor(): number {
  const predecessor = Number(Deno.env.get(PREDECESSOR_VARIABLE) ?? 0);
  Deno.env.delete(PREDECESSOR_VARIABLE);
  return predecessor;
}
