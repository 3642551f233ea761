/**
 * Reads and writes a connection in one of two ways. Either Deno itself does it, with the descriptor as a resource of
 * its own. Or the library does it, with calls to the system's socket library.
 *
 * This module and `sockets/stream.ts` use Deno's internals for sockets.
 *
 * @module
 */
import type net from "node:net";
import { denoCore, nodeBinding, nodeBuiltin } from "../internal/runtime.ts";
import { socketName } from "../ffi/platform.ts";
import type { StreamIo } from "../ffi/nonblocking_io.ts";
import { systemCalls } from "../ffi/system.ts";
import { hasWinsockCode, toDenoError, WinsockError } from "../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../structs/constants.ts";

/** The `TCP` handle of Node's internal `tcp_wrap`. It also accepts local stream sockets. */
export interface TcpHandle {
  open(descriptor: number): number;
  /** Turns the socket into a resource. This object no longer owns the socket. */
  takeStream?(): number;
  writeUtf8String(request: object, text: string): number;
  writeLatin1String(request: object, text: string): number;
  close(): void;
}

type TcpConstructor = new (type: number) => TcpHandle;
const SOCKET_TYPE = 0;

/** Returns whether this Deno can adopt descriptors. */
export function canAdopt(): boolean {
  return tcpConstructor() !== undefined;
}

/**
 * Makes a `TCP` handle of Node for a connected stream socket.
 *
 * @throws {WinsockError} WSAENOTSOCK if `handle` is not an open socket.
 * @throws {Deno.errors.NotSupported} If this Deno cannot adopt sockets.
 */
export function openTcp(handle: bigint): TcpHandle {
  const TCP = tcpConstructor();
  if (TCP === undefined) {
    throw new Deno.errors.NotSupported(`Cannot open a stream: Deno ${Deno.version.deno} cannot adopt sockets`);
  }
  const tcp = new TCP(SOCKET_TYPE);
  const code = tcp.open(Number(handle));
  if (code === 0) return tcp;
  const operation = `make a stream of ${socketName(handle)}`;
  throw new WinsockError(WSA_ERRORS.WSAENOTSOCK, { operation, functionName: "TCP.open", detail: `code ${code}` });
}

function tcpConstructor(): TcpConstructor | undefined {
  const TCP = nodeBinding<{ TCP: TcpConstructor }>("tcp_wrap")?.TCP;
  return typeof TCP?.prototype.open === "function" ? TCP : undefined;
}

/**
 * Turns the reading end of a pipe into a `node:net` socket, which then owns the descriptor.
 *
 * @param fd The descriptor of the reading end.
 * @returns The socket; `undefined` if this Deno cannot adopt pipes. The descriptor is then unchanged.
 */
export function adoptPipe(fd: bigint): net.Socket | undefined {
  const Pipe = canAdopt() ? nodeBinding<{ Pipe: TcpConstructor }>("pipe_wrap")?.Pipe : undefined;
  if (typeof Pipe?.prototype.open !== "function") return undefined;
  const handle = new Pipe(SOCKET_TYPE);
  if (handle.open(Number(fd)) !== 0) return undefined;
  const { Socket } = nodeBuiltin("node:net");
  return new Socket({ handle, readable: true, writable: false } as unknown as net.SocketConstructorOpts);
}

/**
 * Reads and writes a connected stream socket. Reads are served in the order of the calls, and so are writes.
 *
 * After it is closed, pending calls reject with `Deno.errors.Interrupted`, and later calls with
 * `Deno.errors.BadResource`.
 */
export interface ConnIo {
  /** Waits for data. Returns the number of bytes read, 0 at the end. */
  read(buffer: Uint8Array): Promise<number>;
  /** Waits for room. Returns the number of bytes written. */
  write(bytes: Uint8Array): Promise<number>;
  /** Ends the sending side after the pending writes. */
  endWriting(): Promise<void>;
  /** Sets whether a pending read keeps the process running. It does at first. */
  setReferenced(referenced: boolean): void;
  /** Closes the descriptor, at the latest when all pending calls have ended. */
  close(): Promise<void> | void;
}

/** The members of `Deno[Deno.internal].core` that are used. */
interface Core {
  read(resource: number, buffer: Uint8Array): Promise<number>;
  write(resource: number, bytes: Uint8Array): Promise<number>;
  shutdown(resource: number): Promise<void>;
  close(resource: number): void;
  refOpPromise(promise: Promise<unknown>): void;
  unrefOpPromise(promise: Promise<unknown>): void;
}

const CORE_FUNCTIONS = ["read", "write", "shutdown", "close", "refOpPromise", "unrefOpPromise"] as const;

/** Returns whether this Deno can read and write descriptors as resources of its own. */
export function canReadResource(): boolean {
  const functions: Partial<Core> = denoCore<Core>() ?? {};
  return canAdoptResource() && CORE_FUNCTIONS.every((name) => typeof functions[name] === "function");
}

/**
 * Opens a connected stream socket that Deno itself reads and writes.
 *
 * When Deno closes the connection, it shuts the connection down for every process that has the socket.
 *
 * @param handle The descriptor. It is unchanged if this throws.
 * @throws {WinsockError} WSAENOTSOCK if `handle` is not an open socket.
 * @throws {Deno.errors.NotSupported} If this Deno cannot adopt sockets.
 */
export function openResourceIo(handle: bigint): ConnIo {
  if (!canReadResource()) {
    throw new Deno.errors.NotSupported(`Cannot open a stream: Deno ${Deno.version.deno} cannot adopt sockets`);
  }
  return new ResourceIo(denoCore<Core>() as Core, adoptResource(handle));
}

/**
 * Opens a connected stream socket that the library reads and writes with native calls.
 *
 * @param handle The descriptor. It is unchanged if this throws.
 * @param close Closes the descriptor, if the stream itself must not.
 */
export function openPlainIo(handle: bigint, close: ((handle: bigint) => void) | undefined): ConnIo {
  return new PlainIo(systemCalls().stream(handle), close);
}

class ResourceIo implements ConnIo {
  readonly #core: Core;
  readonly #resource: number;
  /** The pending reads. */
  readonly #reads = new Set<Promise<number>>();
  #referenced = true;

  constructor(core: Core, resource: number) {
    this.#core = core;
    this.#resource = resource;
  }

  async read(buffer: Uint8Array): Promise<number> {
    const reading = this.#core.read(this.#resource, buffer);
    if (!this.#referenced) this.#core.unrefOpPromise(reading);
    this.#reads.add(reading);
    try {
      return await reading;
    } finally {
      this.#reads.delete(reading);
    }
  }

  write(bytes: Uint8Array): Promise<number> {
    return this.#core.write(this.#resource, bytes);
  }

  endWriting(): Promise<void> {
    return this.#core.shutdown(this.#resource);
  }

  setReferenced(referenced: boolean): void {
    this.#referenced = referenced;
    for (const reading of this.#reads) {
      if (referenced) this.#core.refOpPromise(reading);
      else this.#core.unrefOpPromise(reading);
    }
  }

  close(): void {
    this.#core.close(this.#resource);
  }
}

class PlainIo implements ConnIo {
  readonly #stream: StreamIo;
  readonly #close: ((handle: bigint) => void) | undefined;
  /** The last read and the last write. The next read or write waits for them. */
  #reading: Promise<unknown> = Promise.resolve();
  #writing: Promise<unknown> = Promise.resolve();

  constructor(stream: StreamIo, close: ((handle: bigint) => void) | undefined) {
    this.#stream = stream;
    this.#close = close;
  }

  read(buffer: Uint8Array): Promise<number> {
    const reading = this.#reading.then(() => {
      return interruptible(this.#stream.receiveInto(buffer as Uint8Array<ArrayBuffer>));
    });
    this.#reading = reading.catch(() => {});
    return reading;
  }

  write(bytes: Uint8Array): Promise<number> {
    return this.#write(() => interruptible(this.#stream.sendSome(bytes as Uint8Array<ArrayBuffer>)));
  }

  endWriting(): Promise<void> {
    return this.#write(() => {
      if (this.#stream.closed) return Promise.reject(interrupted());
      try {
        this.#stream.endSending();
      } catch (error) {
        // The sending side has already ended with the connection.
        if (!hasWinsockCode(error, WSA_ERRORS.WSAENOTCONN)) {
          return Promise.reject(toDenoError(error));
        }
      }
      return Promise.resolve();
    });
  }

  setReferenced(referenced: boolean): void {
    this.#stream.referenced = referenced;
  }

  async close(): Promise<void> {
    await this.#stream.close(this.#close);
  }

  #write<Result>(write: () => Promise<Result>): Promise<Result> {
    const writing = this.#writing.then(write);
    this.#writing = writing.catch(() => {});
    return writing;
  }
}

/** Returns the result of a call, or throws if the result is `undefined`: the socket was closed meanwhile. */
async function interruptible(call: Promise<number | undefined>): Promise<number> {
  let count: number | undefined;
  try {
    count = await call;
  } catch (error) {
    throw toDenoError(error);
  }
  if (count === undefined) throw interrupted();
  return count;
}

function interrupted(): Error {
  return new Deno.errors.Interrupted("operation canceled");
}

/** Returns whether this Deno can turn descriptors into resources of its own. */
export function canAdoptResource(): boolean {
  return typeof tcpConstructor()?.prototype.takeStream === "function";
}

/**
 * Turns a connected TCP socket into a resource of Deno, such as that of a `Deno.Conn`. The resource then owns the
 * descriptor.
 *
 * @param handle The descriptor. It is unchanged if this throws.
 * @returns The number of the resource.
 * @throws {WinsockError} WSAENOTSOCK if `handle` is not an open socket.
 */
export function adoptResource(handle: bigint): number {
  const tcp = openTcp(handle);
  const resource = tcp.takeStream!();
  tcp.close();
  return resource;
}
