/**
 * One version of a server: what it inherits from its predecessor, and what it hands off to its successor.
 *
 * @module
 */
import {
  BOOLEAN,
  check,
  checkOptions,
  either,
  FUNCTION,
  HANDLE,
  integer,
  OBJECT,
  oneOf,
  PATH,
  PROCESS_ID,
  type Rule,
  STREAM,
  STRING,
  TEXT,
} from "../../internal/options.ts";
import { nodeBuiltin, OwnedFile, WatchedPromise } from "../../internal/runtime.ts";
import { listen, type Listener, type ListenLocalOptions, type ListenOptions } from "../../sockets/listener.ts";
import {
  describeAddress,
  isAddress,
  type SocketAddr,
  type SocketAddress,
  toAddress,
} from "../../ffi/socket_address.ts";
import { systemCalls } from "../../ffi/system.ts";
import { type DatagramSocket, listenDatagram, type ListenDatagramOptions } from "../../sockets/datagram_socket.ts";
import {
  type Inheritance,
  type InheritedConnection,
  NamedSockets,
  PREDECESSOR_VARIABLE,
  type Successor,
  takeInheritance,
  type UpgradeChannel,
} from "./upgrade_channel.ts";
import { UpgradeError } from "../errors.ts";
import { INVALID_SOCKET } from "../../ffi/platform.ts";
import type { OpenFileOptions, SharedFile } from "./shared_file.ts";

/** The permissions of a PID file. */
const READABLE_BY_ALL = 0o644;

/** The state of a {@linkcode ServerVersion} that the other modules of an upgrade use. */
export interface ServerVersionState {
  readonly listeners: NamedSockets<Listener<SocketAddr>>;
  readonly datagrams: NamedSockets<DatagramSocket>;
  /** The open files that the next version gets. */
  readonly files: ReadonlyMap<string, SharedFile>;
  /** Whether {@linkcode ServerVersion.markReady} was called, and the predecessor has stopped. */
  readonly serving: boolean;
  /** Whether this version has a predecessor. */
  readonly hasPredecessor: boolean;
  /** Resolves when the version's own trial is over. */
  readonly confirmed: Promise<void>;
  /** Whether an upgrade is under way or done. */
  upgrading: boolean;
  /** The version that serves, if this version is a supervisor. */
  successor: Successor | undefined;
  /** Stops accepting and receiving. Resolves when that is done. */
  readonly pause: () => Promise<void>;
  readonly resume: () => void;
  retire(): void;
}

/** Creates a version. For {@linkcode inherit} only. */
let makeServerVersion: (
  inheritance: Inheritance | undefined,
  predecessor: number,
  options: InheritOptions,
) => ServerVersion;

/** Returns the state of a version. For {@linkcode upgrade} only. */
export let stateOf: (version: ServerVersion) => ServerVersionState;

/** One version of a server. {@linkcode inherit} creates it, {@linkcode upgrade} replaces it. */
export class ServerVersion implements Disposable {
  /** The process id of the predecessor, from which this version takes over; `undefined` at a first start. */
  readonly predecessor: number | undefined;
  /**
   * A promise that resolves when this version's trial is over and the predecessor has closed the connections that it
   * handed off. It also resolves when the predecessor has ended, because the connections then belong to this version
   * only. At a first start it resolves when {@linkcode ServerVersion.markReady} was called. If this version fails its
   * trial, the promise stays pending, and the version is ended. It rejects with an {@linkcode UpgradeError} (`refused`)
   * if this version has called {@linkcode ServerVersion.refuse}, or (`crashed`) if its supervisor has ended before it
   * could serve and another version serves; this does not cause an unhandled rejection.
   *
   * Waiting for this promise keeps the process running; nothing else about it does. A program that has nothing else to
   * do ends unless it waits. Waiting for it also means that the program asks for the inherited connections, which then
   * stay open.
   *
   * @example Not reading from inherited connections until no other process reads them
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
   * A promise that resolves when this version accepts nothing any more, because a successor serves or a supervisor ends
   * this version. If the supervisor ends in the trial of the successor, it resolves too. Waiting for it does not keep
   * this process running.
   */
  readonly retired: Promise<void>;
  /**
   * A promise that resolves when the predecessor's process has ended. At a first start it resolves at once. In a version
   * that a supervisor started, it resolves when the supervisor has ended, or no longer supervises this version. Waiting
   * for it does not keep this process running. After {@linkcode ServerVersion.confirmed} the predecessor still finishes
   * the connections that it has: what only one process may have at a time, such as a lock, is free only when this
   * promise resolves.
   */
  readonly predecessorEnded: Promise<void>;

  readonly #untaken: NamedSockets<Listener<SocketAddr>>;
  readonly #untakenDatagrams: NamedSockets<DatagramSocket>;
  readonly #listeners = new NamedSockets<Listener<SocketAddr>>();
  readonly #datagrams = new NamedSockets<DatagramSocket>();
  readonly #untakenFiles: Map<string, SharedFile>;
  readonly #files = new Map<string, SharedFile>();
  readonly #options: InheritOptions;
  readonly #channel: UpgradeChannel | undefined;
  /** Whether another version serves until the predecessor, a supervisor, has this one serve. */
  readonly #served: boolean;
  #connections: InheritedConnection[];
  /** Whether the program waits until the inherited connections belong to this version only. */
  #awaitsConnections = false;
  readonly #confirmed = Promise.withResolvers<void>();
  readonly #retired = Promise.withResolvers<void>();
  readonly #state: ServerVersionState;
  /** The promise of {@linkcode ServerVersion.markReady}, after the first call. */
  #ready: Promise<void> | undefined;
  #serving = false;
  #pidFile: OwnedFile | undefined;

  private constructor(inheritance: Inheritance | undefined, predecessor: number, options: InheritOptions) {
    const confirmed = this.#confirmed.promise;
    this.predecessor = inheritance === undefined ? undefined : predecessor;
    this.#connections = inheritance?.connections ?? [];
    this.confirmed = new WatchedPromise(confirmed, () => {
      this.#awaitsConnections = true;
      this.#channel?.keepAliveWhile(confirmed).catch(() => {});
    });
    this.retired = this.#retired.promise;
    this.predecessorEnded = inheritance?.channel.ended ?? Promise.resolve();
    this.#untaken = inheritance?.listeners ?? new NamedSockets();
    this.#untakenDatagrams = inheritance?.datagrams ?? new NamedSockets();
    this.#untakenFiles = inheritance?.files ?? new Map();
    this.#channel = inheritance?.channel;
    this.#served = inheritance?.served ?? false;
    this.#options = options;
    const isServing = () => this.#serving;
    const files = () => this.#openFiles();
    this.#state = {
      listeners: this.#listeners,
      datagrams: this.#datagrams,
      get files() {
        return files();
      },
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
   * Takes the inherited connections. What is read from one before {@linkcode ServerVersion.confirmed} has resolved may
   * be read again by the predecessor. Connections that were not taken are closed when the trial is over, unless the
   * program waits for `confirmed`.
   *
   * @returns The connections, in order. The caller closes them. Empty if they were taken before.
   */
  takeConnections(): InheritedConnection[] {
    const taken = this.#connections;
    this.#connections = [];
    return taken;
  }

  /** The names of the predecessor's listeners that have not been taken. */
  get listenerNames(): string[] {
    return this.#untaken.names;
  }

  /** The names of the predecessor's datagram sockets that have not been taken. */
  get datagramNames(): string[] {
    return this.#untakenDatagrams.names;
  }

  /** The names of the predecessor's files and pipes that have not been taken. */
  get fileNames(): string[] {
    return [...this.#untakenFiles.keys()];
  }

  /**
   * Takes the file with this name, or opens it. The next version gets it too, by the same name, with its position and
   * its lock. A file that was closed does not go to the next version, and its name is free.
   *
   * What is opened needs the permissions that `Deno.open` needs: `--allow-read`, `--allow-write`, for the file. What is
   * taken needs none.
   *
   * @example A log that all versions write, and a lock that keeps a second server out
   * ```ts ignore
   * import { inherit } from "@winsock/handoff";
   *
   * const version = await inherit();
   * await version.openFile("lock", "server.lock", { write: true, create: true, lock: true });
   * const log = await version.openFile("log", "server.log", { append: true, create: true });
   * await log.write(new TextEncoder().encode(`process ${Deno.pid} has started\n`));
   * ```
   *
   * @param name The name of the file, independent of those of sockets. The next version uses the same name.
   * @param path The file to open if there is no file to take. It is not compared with that of the predecessor's file.
   * @param options How to open it.
   * @returns The file. It stays open in this version until the program closes it, or ends.
   * @throws {TypeError} If it was taken already, and is open; or if an option is of another type.
   * @throws {RangeError} If the `mode` is not an integer from 0 to 0o7777.
   * @throws {Deno.errors.WouldBlock} With `lock`, if another server has the lock.
   * @throws {Deno.errors.NotFound} If it does not exist; or the other errors of `Deno.open`.
   * @throws {Deno.errors.NotCapable} Without the permission for the file.
   */
  async openFile(name: string, path: string | URL, options: OpenFileOptions = {}): Promise<SharedFile> {
    check("name", name, STRING);
    check("path", path, PATH);
    checkOptions(options, OPEN_RULES);
    this.#checkFileName(name);
    const inherited = this.takeFile(name);
    if (inherited !== undefined) return inherited;
    const { openSharedFile } = await import("./shared_file.ts");
    return this.#keepFile(name, await openSharedFile(path, options));
  }

  /**
   * Takes the file or pipe with this name. The next version gets it too.
   *
   * @param name The name of the file.
   * @returns The file; `undefined` if the predecessor has none by that name, or it was taken.
   */
  takeFile(name: string): SharedFile | undefined {
    check("name", name, STRING);
    const file = this.#untakenFiles.get(name);
    this.#untakenFiles.delete(name);
    return file === undefined ? undefined : this.#keepFile(name, file);
  }

  /**
   * Takes ownership of a descriptor that the program has of a file or a pipe, so that the next version gets it too: for
   * example, one that a service manager passed. Needs no permission except ffi access to the system's socket library.
   *
   * @param name The name of the file. The next version takes it with {@linkcode ServerVersion.takeFile}.
   * @param handle The descriptor: a HANDLE on Windows, a file descriptor elsewhere. Child processes no longer inherit it.
   * It is unchanged if this throws.
   * @returns The file, which closes the descriptor.
   * @throws {TypeError} If there is an open file by that name.
   * @throws {WinsockError} If the descriptor is not open.
   */
  async addFile(name: string, handle: bigint): Promise<SharedFile> {
    check("name", name, STRING);
    check("handle", handle, HANDLE);
    this.#checkFileName(name);
    const { adoptFile } = await import("./shared_file.ts");
    this.#checkFileName(name);
    return this.#keepFile(name, await adoptFile(handle));
  }

  #checkFileName(name: string): void {
    if (this.#openFiles().has(name)) throw takenAlready("file", name);
  }

  /** Keeps a file for the next version. Another call may have taken the name meanwhile. */
  #keepFile(name: string, file: SharedFile): SharedFile {
    try {
      this.#checkFileName(name);
    } catch (error) {
      file.close();
      throw error;
    }
    this.#files.set(name, file);
    return file;
  }

  /** The files that were not closed. */
  #openFiles(): Map<string, SharedFile> {
    for (const [name, { handle }] of this.#files) if (handle === INVALID_SOCKET) this.#files.delete(name);
    return this.#files;
  }

  /**
   * Takes the listener with this name, or creates one. It accepts after {@linkcode ServerVersion.markReady};
   * connections that arrive earlier wait. If there are several with this name, each call takes the next one:
   * {@linkcode ServerVersion.takeListeners} takes all.
   *
   * @param name The listener's name. The next version uses the same name.
   * @param options The address to listen on if there is no listener to take.
   * @returns The listener. If the predecessor's listener of that name has another address, it is returned all the same:
   * {@linkcode InheritOptions.onAddressChange}.
   * @throws {TypeError} If it was taken already, and there is no further one.
   * @throws {Deno.errors.AddrNotAvailable} If the predecessor has another address by that name, and `onAddressChange`
   * is `"error"`.
   * @throws {Deno.errors.AddrInUse} If it must be created and its address is in use; or the errors of {@linkcode
   * listen}, or {@linkcode listenDatagram}.
   */
  listen(name: string, options: ListenOptions): Listener;
  /**
   * Takes the listener of a local socket with this name, or creates one. Not available on Windows. At a first start the
   * socket's file must not exist. A successor takes the listener and does not change the file.
   *
   * @param name The listener's name. The next version uses the same name.
   * @param options The address to listen on if there is no listener to take.
   * @returns The listener. If the predecessor's listener of that name has another address, it is returned all the same:
   * {@linkcode InheritOptions.onAddressChange}.
   * @throws {TypeError} If it was taken already, and there is no further one.
   * @throws {Deno.errors.AddrNotAvailable} If the predecessor has another address by that name, and `onAddressChange`
   * is `"error"`.
   * @throws {Deno.errors.AddrInUse} If it must be created and its address is in use; or the errors of {@linkcode
   * listen}, or {@linkcode listenDatagram}.
   * @throws {Deno.errors.NotSupported} On Windows.
   */
  listen(name: string, options: ListenLocalOptions): Listener<Deno.UnixAddr>;
  listen(name: string, options: ListenOptions | ListenLocalOptions): Listener<SocketAddr> {
    check("name", name, STRING);
    check("options", options, OBJECT);
    const inherited = this.#untaken.first(name);
    if (inherited !== undefined) this.#compareAddress(name, inherited.addr, options);
    return this.#nextListener(name) ?? this.#keep(this.#listeners, name, () => {
      if (this.#listeners.first(name) !== undefined) throw takenAlready("listener", name);
      return "path" in options ? listen(options) : listen(options);
    });
  }

  /**
   * Takes all listeners with this name, as for a unit of systemd that has several `ListenStream=`. Creates none.
   *
   * @example All listeners of a unit, or one of its own
   * ```ts ignore
   * import { inherit } from "@winsock/handoff";
   * import { systemdSockets } from "@winsock/handoff/interop";
   *
   * const version = await inherit({ sockets: systemdSockets() });
   * const listeners = version.takeListeners("web");
   * if (listeners.length === 0) listeners.push(version.listen("web", { port: 8080 }));
   * ```
   *
   * @param name The name of the listeners. The next version takes all of them by the same name, in the same order.
   * @returns The listeners in order: those of the predecessor, or else those of {@linkcode InheritOptions.sockets}. Their
   * addresses are not compared. Empty if all were taken, or there are no such listeners.
   */
  takeListeners(name: string): Listener<SocketAddr>[] {
    check("name", name, STRING);
    return takeAll(() => this.#nextListener(name));
  }

  /** Takes the next listener with a name that was not taken; `undefined` without one. */
  #nextListener(name: string): Listener<SocketAddr> | undefined {
    const { sockets } = this.#options;
    return this.#keep(this.#listeners, name, () => this.#untaken.take(name) ?? sockets?.takeListener(name));
  }

  /** Keeps a socket for the next version. It accepts or receives when this version serves. */
  #keep<S extends Listener<SocketAddr> | DatagramSocket, Taken extends S | undefined>(
    kept: NamedSockets<S>,
    name: string,
    take: () => Taken,
  ): Taken {
    const socket = take();
    if (socket === undefined) return socket;
    kept.add(name, socket);
    if (!this.#serving) socket.pause();
    return socket;
  }

  /**
   * Takes the datagram socket with this name, or creates one. It receives after {@linkcode ServerVersion.markReady};
   * datagrams that arrive earlier wait, as many as there is room for. If there are several with this name, each call takes
   * the next one. When a successor serves, the socket receives no
   * more. It can still answer until it is closed.
   *
   * @param name The socket's name, independent of those of listeners. The next version uses the same name.
   * @param options The address to receive on if there is no socket to take.
   * @returns The socket. If the predecessor's socket of that name has another address, it is returned all the same:
   * {@linkcode InheritOptions.onAddressChange}.
   * @throws {TypeError} If it was taken already, and there is no further one.
   * @throws {Deno.errors.AddrNotAvailable} If the predecessor has another address by that name, and `onAddressChange`
   * is `"error"`.
   * @throws {Deno.errors.AddrInUse} If it must be created and its address is in use; or the errors of {@linkcode
   * listen}, or {@linkcode listenDatagram}.
   */
  listenDatagram(name: string, options: ListenDatagramOptions): DatagramSocket {
    check("name", name, STRING);
    check("options", options, OBJECT);
    const inherited = this.#untakenDatagrams.first(name);
    if (inherited !== undefined) this.#compareAddress(name, inherited.addr, options);
    return this.#nextDatagramSocket(name) ?? this.#keep(this.#datagrams, name, () => {
      if (this.#datagrams.first(name) !== undefined) throw takenAlready("datagram socket", name);
      return listenDatagram(options);
    });
  }

  /**
   * Takes all datagram sockets with this name, as {@linkcode ServerVersion.takeListeners} does. Creates none.
   *
   * @param name The name of the sockets.
   * @returns The sockets in order. Empty if all were taken, or there are no such sockets.
   */
  takeDatagramSockets(name: string): DatagramSocket[] {
    check("name", name, STRING);
    return takeAll(() => this.#nextDatagramSocket(name));
  }

  #nextDatagramSocket(name: string): DatagramSocket | undefined {
    const { sockets } = this.#options;
    return this.#keep(this.#datagrams, name, () => {
      return this.#untakenDatagrams.take(name) ?? sockets?.takeDatagramSocket?.(name);
    });
  }

  /**
   * Says that this version can serve. The predecessor stops accepting and receiving, and this version begins.
   * Listeners, datagram sockets and files that were not taken are closed.
   *
   * Then the trial of this version begins, which lasts for the predecessor's `probation`. If this version crashes or
   * freezes before the end of the trial, it is ended. What it has read from the connections of {@linkcode
   * ServerVersion.takeConnections} is then lost. The predecessor continues with these connections, and still has their
   * `initialBytes`. Work that must not be done twice should wait for {@linkcode ServerVersion.confirmed}.
   *
   * @returns Resolves when this version accepts and receives. Further calls return the promise of the first one.
   * @throws {UpgradeError} `crashed` if a supervisor started this version and has ended, and another version serves.
   * This version then does not serve, its sockets and files are closed, and {@linkcode ServerVersion.confirmed}
   * rejects with the same error. The program should end.
   */
  markReady(): Promise<void> {
    return this.#ready ??= this.#takeOver();
  }

  async #takeOver(): Promise<void> {
    this.#closeUntaken();
    this.#channel?.send({ type: "ready" });
    const answer = await this.#channel?.keepAliveWhile(this.#channel.receive());
    // A predecessor that has ended accepts nothing either, but may have been a supervisor.
    if (answer === undefined && this.#served) throw this.#giveWay();
    this.#serve();
    this.#channel?.send({ type: "serving" });
    this.#obey();
  }

  /** Leaves serving to the version that does. */
  #giveWay(): UpgradeError {
    const error = new UpgradeError("crashed", "the supervisor has ended, and another version serves");
    this[Symbol.dispose]();
    this.#confirmed.reject(error);
    return error;
  }

  /**
   * Says that this version will not serve, and closes its listeners, datagram sockets and files. The predecessor continues to
   * serve.
   *
   * @param reason The reason, for the predecessor.
   * @returns Resolves when the predecessor will get the message, even if this process ends then.
   */
  async refuse(reason: string): Promise<void> {
    check("reason", reason, STRING);
    this[Symbol.dispose]();
    this.#confirmed.reject(new UpgradeError("refused", reason));
    await this.#channel?.finish({ type: "refuse", reason });
  }

  /**
   * Closes all listeners, datagram sockets and files of this version, and the inherited connections that were not
   * taken.
   */
  [Symbol.dispose](): void {
    for (const each of [...this.#sources, ...this.#files.values()]) each.close();
    this.#closeUntaken();
    for (const { socket } of this.takeConnections()) socket.close();
    this.#pidFile?.remove();
  }

  /** All sockets on which this version accepts or receives. */
  get #sources(): (Listener<SocketAddr> | DatagramSocket)[] {
    return [...this.#listeners.sockets, ...this.#datagrams.sockets];
  }

  #closeUntaken(): void {
    this.#untaken.closeAll();
    this.#untakenDatagrams.closeAll();
    for (const file of this.#untakenFiles.values()) file.close();
    this.#untakenFiles.clear();
    this.#options.sockets?.close?.();
  }

  async #pause(): Promise<void> {
    await Promise.all(this.#sources.map((source) => source.pause()));
  }

  /** Accepts again, because the new version has failed. It may have written its own PID file. */
  #resume(): void {
    this.#writePidFile();
    for (const source of this.#sources) source.resume();
  }

  #serve(): void {
    this.#serving = true;
    this.#resume();
  }

  #writePidFile(): void {
    const { pidFile } = this.#options;
    if (pidFile === undefined || !this.#serving) return;
    try {
      if (this.#pidFile !== undefined) this.#pidFile.reclaim();
      else this.#pidFile = new OwnedFile(pidFile, `${Deno.pid}\n`, READABLE_BY_ALL);
    } catch (error) {
      // By now no other version serves.
      const warning = `Cannot write the PID file "${pidFile}": ${error instanceof Error ? error.message : error}`;
      nodeBuiltin("node:process").emitWarning(warning, { type: "PidFileWarning" });
    }
  }

  /** Stops accepting. Datagram sockets stay open, because received datagrams must still be answered. */
  #retire(): void {
    for (const listener of this.#listeners.sockets) listener.close();
    for (const socket of this.#datagrams.sockets) socket.finishReceiving().catch(() => {});
    this.#closeUntaken();
    this.#retired.resolve();
  }

  /** Handles the end of the trial, or of the predecessor. */
  #confirm(): void {
    this.#confirmed.resolve();
    if (this.#awaitsConnections) return;
    // They will not be taken, and their peers must not wait in vain.
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

  /** Answers the predecessor. A supervisor replaces this version when it has another version. */
  async #obey(): Promise<void> {
    const channel = this.#channel;
    if (channel === undefined) return this.#confirm();
    let paused = false;
    let replaced = false;
    for (let message = await channel.receive(); message !== undefined;) {
      if (message.type === "check") {
        channel.send({ type: "alive" });
      } else if (message.type === "confirm") {
        this.#confirm();
      } else if (message.type === "pause") {
        paused = true;
        await this.#pause();
        channel.send({ type: "paused" });
      } else if (message.type === "replaced") {
        replaced = true;
      } else if (message.type === "resume") {
        paused = replaced = false;
        this.#serve();
      } else if (message.type === "retire") {
        return this.#retire();
      }
      message = await (paused ? channel.keepAliveWhile(channel.receive()) : channel.receive());
    }
    this.#confirm();
    // The supervisor ended before the next version served, or in the trial of that version.
    if (replaced) this.#retire();
    else if (paused) this.#serve();
  }
}

function takenAlready(what: string, name: string): TypeError {
  return new TypeError(`Cannot take ${what} "${name}": it was taken already`);
}

/** Calls until nothing is left, or what is left is of another kind. */
function takeAll<S>(next: () => S | undefined): S[] {
  const taken: S[] = [];
  try {
    for (let each = next(); each !== undefined; each = next()) taken.push(each);
  } catch (error) {
    if (!(error instanceof TypeError) || taken.length === 0) throw error;
  }
  return taken;
}

const OPEN_RULES: Readonly<Record<keyof OpenFileOptions, Rule>> = {
  read: BOOLEAN,
  write: BOOLEAN,
  append: BOOLEAN,
  create: BOOLEAN,
  mode: integer(0, 0o7777),
  lock: BOOLEAN,
};

/** Returns whether an inherited address is the one that was asked for; port 0 matches any port. */
function isSameAddress(asked: SocketAddress, inherited: SocketAddr): boolean {
  if ("path" in asked || "path" in inherited) {
    if (!("path" in asked && "path" in inherited)) return false;
    // One of the paths may be relative. The system does not say to which folder.
    const [one, other] = [asked.path, inherited.path].map((path) => path.replace(/^(\.\/)+/, "")) as [string, string];
    return one === other || one.endsWith(`/${other}`) || other.endsWith(`/${one}`);
  }
  if (asked.port !== 0 && asked.port !== inherited.port) return false;
  return addressesOf(asked.hostname).some((each) => canonicalHost(each) === canonicalHost(inherited.hostname));
}

/** Returns the addresses that a hostname stands for; itself if it is an address, or cannot be looked up now. */
function addressesOf(hostname: string): string[] {
  if (isAddress(hostname)) return [hostname];
  try {
    return systemCalls().resolveNow(hostname);
  } catch {
    return [hostname];
  }
}

/** Returns one text for all forms of an IPv6 address. */
function canonicalHost(hostname: string): string {
  const [address = "", scope = ""] = hostname.split("%");
  return address.includes(":") ? `${new URL(`http://[${address}]`).hostname}%${scope}` : hostname;
}

/** The argument of {@linkcode InheritOptions.onAddressChange}. */
export interface AddressChange {
  /** The name of the listener or datagram socket. */
  readonly name: string;
  /** The address that the program asks for. */
  readonly asked: { readonly hostname: string; readonly port: number } | { readonly path: string };
  /** The address that the program gets: that of the predecessor's socket. */
  readonly inherited: Deno.NetAddr | Deno.UnixAddr;
}

/** Options of {@linkcode inherit}. */
export interface InheritOptions {
  /**
   * The listeners and datagram sockets from another place, such as `systemdSockets()` of `@winsock/handoff/interop`.
   * The predecessor's sockets are preferred. What was not taken of them is closed (`close`, if the object has it) when
   * {@linkcode ServerVersion.markReady} is called, and when this version refuses or is disposed of.
   */
  sockets?: {
    /** Takes the first listener with a name that was not taken; returns `undefined` without one. */
    takeListener(name: string): Listener | undefined;
    /** Takes the first datagram socket with a name that was not taken; returns `undefined` without one. */
    takeDatagramSocket?(name: string): DatagramSocket | undefined;
    /** Closes the sockets that were not taken. */
    close?(): void;
  };
  /**
   * What to do when the program asks for a name with another address than that of the predecessor's socket. This
   * happens after a change of the configuration, for instance. The program gets the predecessor's socket all the same.
   * To listen on another address, use another name. Port 0 matches any port. The `sockets` of these options are not
   * compared. Defaults to `"warn"`.
   *
   * - `"warn"`: emits a warning of this process (`process.emitWarning`), which is printed to stderr, and is an event
   *   `warning` of `node:process`. Its `name` is `AddressChangeWarning`.
   * - `"error"`: `listen` and `listenDatagram` throw `Deno.errors.AddrNotAvailable`, and the socket stays untaken.
   * - A function: is called with both addresses, and nothing else is done. If it throws, `listen` throws the same
   *   error.
   */
  onAddressChange?: "warn" | "error" | ((change: AddressChange) => void);
  /**
   * The file that has the process id of the version that serves, in decimal, and a newline. {@linkcode
   * ServerVersion.markReady} writes it when this version serves, in the place of the predecessor's. If a new version
   * does not take over, the file of this version is written again. The last version removes it when it ends. Needs
   * `--allow-write` for the file, and `--allow-read` to remove it at the end. If it cannot be written, this version
   * serves all the same, and emits a warning of the process whose `name` is `PidFileWarning`. A supervisor, which does
   * not call `markReady`, writes no file.
   */
  pidFile?: string;
  /**
   * The predecessor's process id; 0 for no predecessor. Defaults to the environment variable, which needs `--allow-env`
   * for that variable.
   */
  predecessor?: number;
  /** The stream of frames. Defaults to this process's stdin. */
  input?: ReadableStream<Uint8Array>;
}

/**
 * Begins a version of a server: takes over from its predecessor, if there is one.
 *
 * Needs ffi access to the system's socket library, and `--allow-env=WINSOCK_HANDOFF_PREDECESSOR` unless `predecessor`
 * is given. Does not need net permission. The variable is removed, so that no child takes this process's predecessor
 * for its own.
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
 * @param options The predecessor, further sockets, and the other options.
 * @returns The version. Call {@linkcode ServerVersion.markReady} when it can serve.
 * @throws {Deno.errors.NotCapable} Without the permission for the environment variable.
 * @throws {HandoffError} `channel-broken` if the bytes that arrive are not the protocol.
 * @throws {TypeError} If sockets arrive that are not from a predecessor. They are closed, as after any error. Or if
 * an option is of another type.
 * @throws {RangeError} If `predecessor` is not an integer from 0 to 4 294 967 295.
 */
export async function inherit(options: InheritOptions = {}): Promise<ServerVersion> {
  checkOptions(options, {
    input: STREAM,
    onAddressChange: either(oneOf("warn", "error"), FUNCTION),
    predecessor: PROCESS_ID,
    pidFile: TEXT,
    sockets: OBJECT,
  });
  const predecessor = options.predecessor ?? takePredecessor();
  const inheritance = predecessor === 0 ? undefined : await takeInheritance(options.input);
  return makeServerVersion(inheritance, predecessor, options);
}

function takePredecessor(): number {
  const predecessor = Number(Deno.env.get(PREDECESSOR_VARIABLE) ?? 0);
  check(PREDECESSOR_VARIABLE, predecessor, PROCESS_ID);
  Deno.env.delete(PREDECESSOR_VARIABLE);
  return predecessor;
}
