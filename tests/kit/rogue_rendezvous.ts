/** A source of the unix provider that answers every claim with descriptors of its own choice. */
import net from "node:net";
import { libc } from "@winsock/handoff/ffi";
import { MessageBlock } from "../../ffi/unix/message_block.ts";
import { unixSystem } from "../../ffi/unix/system.ts";
import { encodeBlob } from "../../spi/unix/blob.ts";
import { encodeAnswer } from "../../spi/unix/claim_messages.ts";
import { openRendezvous } from "../../spi/unix/rendezvous_socket.ts";

const NUMBER = 1;

export class RogueRendezvous implements Disposable {
  /** What a target would open. */
  readonly blob: Uint8Array<ArrayBuffer>;
  readonly #server: net.Server;
  readonly #connections: net.Socket[] = [];

  constructor(descriptors: readonly bigint[]) {
    const { name: rendezvous, fd } = openRendezvous();
    this.blob = encodeBlob({ rendezvous, number: NUMBER, processId: Deno.pid, datagram: false });
    this.#server = net.createServer((connection) => {
      this.#connections.push(connection);
      const { _handle } = connection as unknown as { _handle: { fd: number } };
      connection.on("error", () => {});
      connection.once("data", () => sendAll(BigInt(_handle.fd), descriptors));
    });
    this.#server.listen({ fd: Number(fd) });
  }

  [Symbol.dispose](): void {
    for (const connection of this.#connections) connection.destroy();
    this.#server.close();
  }
}

/** `sendmsg` of one answer with any number of descriptors; the library itself sends one at most. */
function sendAll(fd: bigint, descriptors: readonly bigint[]): void {
  const bytes = encodeAnswer({ number: NUMBER, code: 0 });
  const block = new MessageBlock(unixSystem(), descriptors.length, bytes.byteLength);
  const size = BigInt(block.bytes.byteLength);
  const address = libc().malloc(size);
  block.encode(address, bytes, descriptors);
  libc().copyIn(address, block.bytes, size);
  const sent = libc().sendmsg(fd, address, unixSystem().MSG_NOSIGNAL);
  libc().free(address);
  if (sent !== BigInt(bytes.byteLength)) throw new Error(`sendmsg sent ${sent}`);
}
