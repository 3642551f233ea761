/**
 * Making a native stream of Deno's out of a descriptor. This is the one place that touches how Deno keeps its sockets;
 * `http/deno_http.ts` is the one that touches how it serves HTTP on them.
 *
 * @module
 */
import type net from "node:net";
import { nodeBuiltin } from "../ffi/node_builtins.ts";
import { socketName } from "../ffi/socket_calls.ts";
import { WinsockError } from "../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../structs/winsock_errors.ts";

/** `TCP` of Node's internal `tcp_wrap`; local stream sockets do as well. */
interface TcpHandle {
  open(descriptor: number): number;
  /** Makes a resource of the socket, which is no longer this object's. */
  takeStream?(): number;
  close(): void;
}

type TcpConstructor = new (type: number) => TcpHandle;

const SOCKET_TYPE = 0;

/** Whether this Deno can adopt descriptors. */
export function canAdopt(): boolean {
  return tcpConstructor() !== undefined;
}

/**
 * Turns a connected stream socket into a `node:net` socket, which owns it from then on.
 *
 * Needs no permission. A little is read ahead; the reading half ending does not end the writing half.
 *
 * @param handle The descriptor. It is left alone if this throws.
 * @returns The socket.
 * @throws {WinsockError} WSAENOTSOCK if it is no open socket.
 * @throws {Deno.errors.NotSupported} If this Deno cannot adopt descriptors.
 */
export function adoptStream(handle: bigint): net.Socket {
  const { Socket } = nodeBuiltin("node:net");
  return new Socket(
    { handle: openTcp(handle), allowHalfOpen: true, readable: true, writable: true } as net.SocketConstructorOpts,
  );
}

/** Whether this Deno can make resources of its own of descriptors. */
export function canAdoptResource(): boolean {
  return typeof tcpConstructor()?.prototype.takeStream === "function";
}

/**
 * Turns a connected TCP socket into a resource of Deno's, such as `Deno.Conn` has, which owns it from then on.
 *
 * @param handle The descriptor. It is left alone if this throws.
 * @returns The resource's number.
 * @throws {WinsockError} WSAENOTSOCK if it is no open socket.
 */
export function adoptResource(handle: bigint): number {
  const tcp = openTcp(handle);
  const resource = tcp.takeStream!();
  tcp.close();
  return resource;
}

/**
 * Turns the reading end of a pipe into a `node:net` socket, which owns it from then on.
 *
 * @param fd The descriptor.
 * @returns The socket; `undefined` if this Deno cannot, which leaves the descriptor alone.
 */
export function adoptPipe(fd: bigint): net.Socket | undefined {
  const Pipe = canAdopt() ? bindings("pipe_wrap")?.Pipe : undefined;
  if (typeof Pipe?.prototype.open !== "function") return undefined;
  const handle = new Pipe(SOCKET_TYPE);
  if (handle.open(Number(fd)) !== 0) return undefined;
  const { Socket } = nodeBuiltin("node:net");
  return new Socket({ handle, readable: true, writable: false } as unknown as net.SocketConstructorOpts);
}

function tcpConstructor(): TcpConstructor | undefined {
  const TCP = bindings("tcp_wrap")?.TCP;
  return typeof TCP?.prototype.open === "function" ? TCP : undefined;
}

/** Node's internal bindings of that name. */
function bindings(name: string): { TCP?: TcpConstructor; Pipe?: TcpConstructor } | undefined {
  const { binding } = nodeBuiltin("node:process") as unknown as {
    binding?: (name: string) => { TCP?: TcpConstructor; Pipe?: TcpConstructor } | undefined;
  };
  try {
    return binding?.(name);
  } catch {
    // There are no bindings any more, or none of this name.
    return undefined;
  }
}

function openTcp(handle: bigint): TcpHandle {
  const TCP = tcpConstructor();
  if (TCP === undefined) throw new Deno.errors.NotSupported(`Deno ${Deno.version.deno} cannot adopt sockets`);
  const tcp = new TCP(SOCKET_TYPE);
  const code = tcp.open(Number(handle));
  if (code === 0) return tcp;
  const operation = `make a stream of ${socketName(handle)}`;
  throw new WinsockError(WSA_ERRORS.WSAENOTSOCK, { operation, functionName: "TCP.open", detail: `code ${code}` });
}
