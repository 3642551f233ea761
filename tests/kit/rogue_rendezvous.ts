/** A source of the unix provider that answers every claim with descriptors of its own choice. */
import net from "node:net";
import { libc } from "@winsock/handoff/ffi";
import { listenAbstract } from "../../ffi/unix/abstract_socket.ts";
import { SOL_SOCKET } from "../../ffi/unix/socket_flags.ts";
import { encodeAnswer, encodeOffer } from "../../spi/unix/blob.ts";

const SCM_RIGHTS = 1;
const MSG_NOSIGNAL = 0x4000;
const NUMBER = 1;

export class RogueRendezvous implements Disposable {
  /** What a target would open. */
  readonly blob: Uint8Array<ArrayBuffer>;
  readonly #server: net.Server;
  readonly #connections: net.Socket[] = [];

  constructor(descriptors: readonly bigint[]) {
    const rendezvous = `winsock-handoff/rogue-${crypto.randomUUID()}`;
    this.blob = encodeOffer({ rendezvous, number: NUMBER, processId: Deno.pid, datagram: false });
    this.#server = net.createServer((connection) => {
      this.#connections.push(connection);
      const { _handle } = connection as unknown as { _handle: { fd: number } };
      connection.on("error", () => {});
      connection.on("data", () => sendAll(BigInt(_handle.fd), descriptors));
    });
    this.#server.listen({ fd: Number(listenAbstract(rendezvous)) });
  }

  [Symbol.dispose](): void {
    for (const connection of this.#connections) connection.destroy();
    this.#server.close();
  }
}

/** `sendmsg` of one answer with any number of descriptors; the library itself sends one at most. */
function sendAll(fd: bigint, descriptors: readonly bigint[]): void {
  const bytes = encodeAnswer({ number: NUMBER, code: 0 });
  const control = 16 + descriptors.length * 4;
  // struct msghdr (56), struct iovec (16), struct cmsghdr (16) with the descriptors, the bytes
  const data = 72 + (control + 7 & ~7);
  const block = new Uint8Array(data + bytes.byteLength);
  const view = new DataView(block.buffer);
  const address = libc().malloc(BigInt(block.byteLength));
  view.setBigUint64(16, address + 56n, true);
  view.setBigUint64(24, 1n, true);
  view.setBigUint64(32, address + 72n, true);
  view.setBigUint64(40, BigInt(control), true);
  view.setBigUint64(56, address + BigInt(data), true);
  view.setBigUint64(64, BigInt(bytes.byteLength), true);
  view.setBigUint64(72, BigInt(control), true);
  view.setInt32(80, SOL_SOCKET, true);
  view.setInt32(84, SCM_RIGHTS, true);
  descriptors.forEach((descriptor, index) => view.setInt32(88 + index * 4, Number(descriptor), true));
  block.set(bytes, data);
  libc().copyIn(address, block, BigInt(block.byteLength));
  const sent = libc().sendmsg(fd, address, MSG_NOSIGNAL);
  libc().free(address);
  if (sent !== BigInt(bytes.byteLength)) throw new Error(`sendmsg sent ${sent}`);
}
