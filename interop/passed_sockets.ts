/**
 * Sockets that another process has passed to this one, each to be taken once; and what the protocols share that pass
 * them: environment variables, and the system that they exist on.
 *
 * @module
 */
import { systemCalls } from "../ffi/system.ts";
import { WinsockError } from "../ffi/winsock_error.ts";
import { DatagramSocket } from "../sockets/datagram_socket.ts";
import { closeHandle } from "../sockets/descriptor.ts";
import type { AnySocket } from "../sockets/duplicate_socket.ts";
import { Listener } from "../sockets/listener.ts";
import { Socket } from "../sockets/socket.ts";
import { WSA_ERRORS } from "../structs/constants.ts";

/** Environment variables: what `Deno.env` and a `Map` have in common. */
export interface Environment {
  /** The value of a variable, if it is set. */
  get(name: string): string | undefined;
  /** Removes a variable. */
  delete(name: string): unknown;
}

/**
 * Refuses what the system does not have.
 *
 * @param operation What was asked for.
 * @throws {Deno.errors.NotSupported} If this is not Linux.
 */
export function requireLinux(operation: string): void {
  if (Deno.build.os !== "linux") throw new Deno.errors.NotSupported(`Cannot ${operation} on ${Deno.build.os}`);
}

/** A descriptor that was passed, and the name it was passed under. */
export interface PassedHandle {
  /** The name; empty where the protocol has none. */
  readonly name: string;
  /** The descriptor: a SOCKET on Windows, a file descriptor elsewhere. */
  readonly handle: bigint;
}

/**
 * The sockets this process was started with, in the order they were passed.
 *
 * Each can be taken once, by its position or its name; from then on it is the taker's. What cannot be taken, because it
 * is of another kind, stays in its place. {@linkcode PassedSockets.close} closes what nobody took. Taking needs ffi
 * access to the system's socket library.
 *
 * @example No sockets were passed, which is no error
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
  /** The names by position; they stay when a socket is taken. */
  readonly names: readonly string[];
  readonly #handles: (bigint | undefined)[];

  /**
   * Owns descriptors.
   *
   * @param sockets The descriptors in order; they are this object's to close until they are taken.
   */
  constructor(sockets: readonly PassedHandle[]) {
    this.names = sockets.map(({ name }) => name);
    this.#handles = sockets.map(({ handle }) => handle);
  }

  /** How many sockets were passed; taking one does not change it. */
  get length(): number {
    return this.names.length;
  }

  /**
   * Takes a socket, whatever it is.
   *
   * @param which Its position from 0, or its name; of several with one name, the first that was not taken yet.
   * @returns The socket, the caller's to close; `undefined` if there is none or it was taken.
   * @throws {TypeError} If it is a local socket, a TCP socket that neither listens nor is connected, or belongs to an
   * object of this process already; it stays in its place.
   * @throws {WinsockError} WSAENOTSOCK if it is no open socket; it stays in its place.
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
   * @param which As for {@linkcode PassedSockets.take}.
   * @returns The listener, the caller's to close; `undefined` if there is none or it was taken.
   * @throws {TypeError} As {@linkcode PassedSockets.take}, and if it does not listen; it stays in its place.
   * @throws {WinsockError} WSAENOTSOCK if it is no open socket; it stays in its place.
   */
  takeListener(which: number | string): Listener | undefined {
    return this.#take(which, (handle) => Listener.fromHandle(handle));
  }

  /**
   * Takes a connected socket.
   *
   * @param which As for {@linkcode PassedSockets.take}.
   * @returns The socket, the caller's to close; `undefined` if there is none or it was taken.
   * @throws {TypeError} As {@linkcode PassedSockets.take}, and if it is not connected; it stays in its place.
   * @throws {WinsockError} WSAENOTSOCK if it is no open socket; it stays in its place.
   */
  takeSocket(which: number | string): Socket | undefined {
    return this.#take(which, toSocket);
  }

  /**
   * Takes a bound UDP socket.
   *
   * @param which As for {@linkcode PassedSockets.take}.
   * @returns The socket, the caller's to close; `undefined` if there is none or it was taken.
   * @throws {TypeError} As {@linkcode PassedSockets.take}, and if it is a TCP socket; it stays in its place.
   * @throws {WinsockError} WSAENOTSOCK if it is no open socket, WSAEINVAL on Windows if it is not bound; it stays in its
   * place.
   */
  takeDatagramSocket(which: number | string): DatagramSocket | undefined {
    return this.#take(which, (handle) => DatagramSocket.fromHandle(handle));
  }

  /**
   * Takes a descriptor as it is, whatever it is: the way to local sockets, for `fromHandle` of their class. Needs no
   * permission.
   *
   * @param which As for {@linkcode PassedSockets.take}.
   * @returns The descriptor, the caller's to close; `undefined` if there is none or it was taken.
   */
  takeHandle(which: number | string): bigint | undefined {
    const position = this.#find(which);
    const handle = this.#handles[position];
    if (handle !== undefined) this.#handles[position] = undefined;
    return handle;
  }

  /** Closes what was not taken. */
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
    const position = this.#find(which);
    const handle = this.#handles[position];
    if (handle === undefined) return undefined;
    refuseLocal(handle, this.names[position]!);
    const socket = takeOver(handle);
    this.#handles[position] = undefined;
    return socket;
  }

  #find(which: number | string): number {
    if (typeof which === "number") return which;
    return this.names.findIndex((name, position) => name === which && this.#handles[position] !== undefined);
  }
}

function kindOf(handle: bigint): string {
  return systemCalls().kind(handle, `take over socket ${handle}`);
}

function toSocket(handle: bigint): Socket {
  const socket = Socket.fromHandle(handle);
  try {
    systemCalls().remoteAddress(handle);
    return socket;
  } catch (error) {
    socket.detach();
    if (!(error instanceof WinsockError) || error.code !== WSA_ERRORS.WSAENOTCONN) throw error;
    throw new TypeError(`Cannot take over socket ${handle}: it is not connected`, { cause: error });
  }
}

function refuseLocal(handle: bigint, name: string): void {
  systemCalls().assertSocket(handle, `take over socket ${handle}`);
  if (!("path" in systemCalls().localAddress(handle))) return;
  const what = name === "" ? `socket ${handle}` : `socket ${handle}, "${name}"`;
  throw new TypeError(`Cannot take over ${what}: it is a local socket, and only TCP and UDP sockets can be`);
}
