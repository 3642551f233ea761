/**
 * Sockets that another process has passed to this one, and what the protocols for passing them have in common:
 * environment variables, and the check for the system that they exist on.
 *
 * @module
 */
import type { SocketKind } from "../ffi/platform.ts";
import type { SocketAddr } from "../ffi/socket_address.ts";
import { check, either, HANDLE, integer, type Rule, STRING } from "../internal/options.ts";
import { systemCalls } from "../ffi/system.ts";
import { WinsockError } from "../ffi/winsock_error.ts";
import { DatagramSocket } from "../sockets/datagram_socket.ts";
import { closeHandle } from "../sockets/descriptor.ts";
import type { AnySocket } from "../sockets/duplicate_socket.ts";
import { Listener } from "../sockets/listener.ts";
import { Socket } from "../sockets/socket.ts";
import { WSA_ERRORS } from "../structs/constants.ts";

/** Access to environment variables: the methods that `Deno.env` and a `Map` have in common. */
export interface Environment {
  /** Returns the value of a variable, or `undefined` if it is not set. */
  get(name: string): string | undefined;
  /** Removes a variable. */
  delete(name: string): unknown;
}

/** A position, or a name. */
const WHICH = either(integer(0), STRING);

/** What an option for environment variables must be. */
export const ENVIRONMENT: Rule = {
  what: "an object with `get` and `delete`",
  accepts: (value) => {
    const { get, delete: remove } = Object(value) as Partial<Environment>;
    return typeof get === "function" && typeof remove === "function";
  },
};

/**
 * Throws on a system that does not have the protocol.
 *
 * @param operation The requested operation, for the error.
 * @throws {Deno.errors.NotSupported} If this is not Linux.
 */
export function requireLinux(operation: string): void {
  if (Deno.build.os !== "linux") throw new Deno.errors.NotSupported(`Cannot ${operation} on ${Deno.build.os}`);
}

/** A descriptor that was passed, with its name. */
export interface PassedHandle {
  /** The name; empty if the protocol does not have names. */
  readonly name: string;
  /** The descriptor: a SOCKET on Windows, a file descriptor elsewhere. */
  readonly handle: bigint;
}

/** Facts about a socket that was passed: what `sd_is_socket` and its siblings check (sd_is_fifo(3)). */
export interface PassedSocketInfo {
  /** Whether it is a listener, a datagram socket, or a stream socket that does not listen. */
  readonly kind: SocketKind;
  /** Whether its connections carry messages instead of a stream of bytes (`SOCK_SEQPACKET`). */
  readonly keepsMessages: boolean;
  /** The address that it is bound to. The path of a local socket that is not bound is empty. */
  readonly addr: SocketAddr;
}

/** The names of sockets for which a unit does not set a name: that of the unit, and a name for sockets without one. */
const DEFAULT_NAME = /\.socket$|^unknown$/;

/**
 * The sockets that this process was started with, in the order in which they were passed.
 *
 * Each can be taken once, by its position or its name. It then belongs to the caller. A socket that cannot be taken,
 * because it is of another kind, stays in its place. {@linkcode PassedSockets.close} closes all sockets that were not
 * taken. Taking needs ffi access to the system's socket library.
 *
 * systemd names a socket after its unit, such as `web.socket`, unless the unit has `FileDescriptorName=`. To take a
 * socket by a name that none has, while another one has such a name by default, is an error: the program would listen on
 * an address that is in use.
 *
 * @example Without passed sockets, which is not an error
 * ```ts
 * import { systemdSockets } from "@winsock/handoff/interop";
 * import { listen } from "@winsock/handoff";
 * import { assertEquals } from "@std/assert";
 *
 * using passed = systemdSockets({ env: new Map() });
 * using listener = passed.takeListener("web") ?? listen({ hostname: "127.0.0.1", port: 0 });
 * assertEquals([passed.length, listener.addr.hostname], [0, "127.0.0.1"]);
 * ```
 */
export class PassedSockets implements Disposable {
  /** The names by position. They do not change when a socket is taken. */
  readonly names: readonly string[];
  readonly #handles: (bigint | undefined)[];

  /**
   * Makes the object, which owns the descriptors until they are taken.
   *
   * @param sockets The descriptors in order.
   * @throws {TypeError} If one is not a name and a descriptor.
   */
  constructor(sockets: readonly PassedHandle[]) {
    for (const { name, handle } of sockets) {
      check("name", name, STRING);
      check("handle", handle, HANDLE);
    }
    this.names = sockets.map(({ name }) => name);
    this.#handles = sockets.map(({ handle }) => handle);
  }

  /** The number of sockets that were passed. Taking one does not change it. */
  get length(): number {
    return this.names.length;
  }

  /**
   * Takes a socket of any kind.
   *
   * @param which Its position, beginning with 0, or its name. If several have the same name, the first of the kind that
   * was not taken yet.
   * @returns The socket, which the caller must close; `undefined` if it does not exist or was taken.
   * @throws {TypeError} If it is a stream socket that neither listens nor is connected, or already belongs to another
   * object of this process. It then stays in its place. Also if no socket has the name, and one has a name by default.
   * @throws {WinsockError} WSAENOTSOCK if it is not an open socket. It then stays in its place.
   */
  take(which: number | string): AnySocket | undefined {
    return this.#take(which, (handle) => {
      const kind = kindOf(handle);
      if (kind === "datagram") return DatagramSocket.fromHandle(handle);
      return kind === "listener" ? Listener.fromHandle(handle) : toSocket(handle);
    });
  }

  /**
   * Takes a listening socket.
   *
   * @typeParam A The type of its addresses, which is not checked.
   * @param which As for {@linkcode PassedSockets.take}.
   * @returns The listener, which the caller must close; `undefined` if it does not exist or was taken.
   * @throws {TypeError} As {@linkcode PassedSockets.take}, and if it does not listen. It then stays in its place.
   * @throws {WinsockError} WSAENOTSOCK if it is not an open socket. It then stays in its place.
   */
  takeListener<A extends SocketAddr = Deno.NetAddr>(which: number | string): Listener<A> | undefined {
    return this.#take(which, (handle) => Listener.fromHandle<A>(handle));
  }

  /**
   * Takes all listening sockets with a name, as for a unit that has several `ListenStream=`.
   *
   * @typeParam A The type of their addresses, which is not checked.
   * @param name The name.
   * @returns The listeners, which the caller must close, in the order in which they were passed.
   * Sockets of another kind with the same name stay in their place.
   * @throws {TypeError} As {@linkcode PassedSockets.takeListener}, if it takes none.
   * @throws {WinsockError} WSAENOTSOCK if one is not an open socket. Those before it are then closed.
   */
  takeListeners<A extends SocketAddr = Deno.NetAddr>(name: string): Listener<A>[] {
    const listeners: Listener<A>[] = [];
    try {
      for (let next = this.takeListener<A>(name); next !== undefined; next = this.takeListener<A>(name)) {
        listeners.push(next);
      }
    } catch (error) {
      if (error instanceof TypeError && listeners.length > 0) return listeners;
      for (const listener of listeners) listener.close();
      throw error;
    }
    return listeners;
  }

  /**
   * Takes a connected socket.
   *
   * @typeParam A The type of its addresses, which is not checked.
   * @param which As for {@linkcode PassedSockets.take}.
   * @returns The socket, which the caller must close; `undefined` if it does not exist or was taken.
   * @throws {TypeError} As {@linkcode PassedSockets.take}, and if it is not connected. It then stays in its place.
   * @throws {WinsockError} WSAENOTSOCK if it is not an open socket. It then stays in its place.
   */
  takeSocket<A extends SocketAddr = Deno.NetAddr>(which: number | string): Socket<A> | undefined {
    return this.#take(which, (handle) => toSocket<A>(handle));
  }

  /**
   * Takes a datagram socket.
   *
   * @typeParam A The type of its addresses, which is not checked.
   * @param which As for {@linkcode PassedSockets.take}.
   * @returns The socket, which the caller must close; `undefined` if it does not exist or was taken.
   * @throws {TypeError} As {@linkcode PassedSockets.take}, and if it is a stream socket. It then stays in its place.
   * @throws {WinsockError} WSAENOTSOCK if it is not an open socket, WSAEINVAL on Windows if it is not bound. It then
   * stays in its place.
   */
  takeDatagramSocket<A extends SocketAddr = Deno.NetAddr>(which: number | string): DatagramSocket<A> | undefined {
    return this.#take(which, (handle) => DatagramSocket.fromHandle<A>(handle));
  }

  /**
   * Returns facts about a socket, without taking it.
   *
   * @example Whether the first socket listens at a port
   * ```ts
   * import { systemdSockets } from "@winsock/handoff/interop";
   *
   * using passed = systemdSockets();
   * const info = passed.inspect(0);
   * if (info !== undefined && (info.kind !== "listener" || "path" in info.addr)) {
   *   throw new TypeError("The unit must have ListenStream= with a port");
   * }
   * ```
   *
   * @param which As for {@linkcode PassedSockets.take}.
   * @returns The facts; `undefined` if it does not exist or was taken.
   * @throws {WinsockError} WSAENOTSOCK if it is not an open socket, such as a pipe or a file.
   */
  inspect(which: number | string): PassedSocketInfo | undefined {
    const handle = this.#handles[this.#find(which)];
    if (handle === undefined) return undefined;
    const calls = systemCalls();
    const kind = kindOf(handle);
    return { kind, keepsMessages: calls.keepsMessages(handle), addr: addressOf(handle, kind) };
  }

  /**
   * Takes a descriptor without checking what it is, such as a file that was stored with `FDSTORE`. Needs no permission.
   *
   * @param which As for {@linkcode PassedSockets.take}.
   * @returns The descriptor, which the caller must close; `undefined` if it does not exist or was taken.
   */
  takeHandle(which: number | string): bigint | undefined {
    const position = this.#find(which);
    const handle = this.#handles[position];
    if (handle !== undefined) this.#handles[position] = undefined;
    return handle;
  }

  /** Closes the sockets that were not taken. */
  close(): void {
    for (let position = 0; position < this.length; position++) {
      const handle = this.takeHandle(position);
      if (handle !== undefined) closeHandle(handle);
    }
  }

  /** The same as {@linkcode PassedSockets.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #take<T>(which: number | string, takeOver: (handle: bigint) => T): T | undefined {
    let refusal: TypeError | undefined;
    for (const position of this.#positions(which)) {
      try {
        const socket = takeOver(this.#handles[position]!);
        this.#handles[position] = undefined;
        return socket;
      } catch (error) {
        // Another one with the same name may be of the right kind.
        if (!(error instanceof TypeError)) throw error;
        refusal ??= error;
      }
    }
    if (refusal !== undefined) throw refusal;
    if (typeof which === "string") this.#checkNames(which);
    return undefined;
  }

  /** Throws if no socket has the name, and the name of one was not chosen. */
  #checkNames(name: string): void {
    const { names } = this;
    if (names.includes(name) || !names.some((each) => DEFAULT_NAME.test(each))) return;
    const known = names.map((each) => `"${each}"`).join(", ");
    throw new TypeError(
      `Cannot take over the socket "${name}": no socket has that name, only ${known}. Set FileDescriptorName=${name} in the unit, or take it by its position`,
    );
  }

  #find(which: number | string): number {
    return this.#positions(which)[0] ?? -1;
  }

  /** The positions of the sockets that were not taken. */
  #positions(which: number | string): number[] {
    check("which", which, WHICH);
    const named = typeof which === "number" ? [which] : [...this.names.keys()].filter((at) => this.names[at] === which);
    return named.filter((position) => this.#handles[position] !== undefined);
  }
}

function kindOf(handle: bigint): SocketKind {
  return systemCalls().kind(handle, `take over socket ${handle}`);
}

function addressOf(handle: bigint, kind: SocketKind): SocketAddr {
  const addr = systemCalls().localAddress(handle);
  return kind === "datagram" ? { ...addr, transport: "path" in addr ? "unixpacket" : "udp" } as SocketAddr : addr;
}

function toSocket<A extends SocketAddr>(handle: bigint): Socket<A> {
  const socket = Socket.fromHandle<A>(handle);
  try {
    systemCalls().remoteAddress(handle);
    return socket;
  } catch (error) {
    socket.detach();
    if (!(error instanceof WinsockError) || error.code !== WSA_ERRORS.WSAENOTCONN) throw error;
    throw new TypeError(`Cannot take over socket ${handle}: it is not connected`, { cause: error });
  }
}
