/**
 * Making a native stream of Deno's out of a descriptor: the one place that touches how Deno keeps its sockets.
 *
 * @module
 */
import net from "node:net";
import process from "node:process";

/** `TCP` of Node's internal `tcp_wrap`. */
interface TcpHandle {
  open(descriptor: number): number;
}

const SOCKET_TYPE = 0;

/**
 * Turns a connected stream socket into a `node:net` socket, which owns it from then on.
 *
 * Needs no permission. Reading does not start by itself; the reading half ending does not end the writing half.
 *
 * @param handle The descriptor. It is left alone if this throws.
 * @returns The socket.
 * @throws {Deno.errors.NotSupported} If this Deno cannot adopt descriptors.
 */
export function adoptStream(handle: bigint): net.Socket {
  // On Windows a descriptor given as `fd` is taken for one of the C runtime, and ends the process.
  const options = Deno.build.os === "windows" ? { handle: openTcp(handle) } : { fd: Number(handle) };
  return new net.Socket(
    { ...options, allowHalfOpen: true, readable: true, writable: true } as net.SocketConstructorOpts,
  );
}

function openTcp(handle: bigint): TcpHandle {
  const { binding } = process as unknown as { binding?: (name: string) => { TCP?: new (type: number) => TcpHandle } };
  const TCP = binding?.("tcp_wrap").TCP;
  if (TCP === undefined) throw new Deno.errors.NotSupported(`Deno ${Deno.version.deno} cannot adopt sockets`);
  const tcp = new TCP(SOCKET_TYPE);
  const code = tcp.open(Number(handle));
  if (code !== 0) throw new Deno.errors.NotSupported(`Cannot adopt socket ${handle}: open failed with ${code}`);
  return tcp;
}
