/** A source of the unix provider that answers every claim with descriptors of its own choice. */
import net from "node:net";
import { libc } from "@winsock/handoff/ffi";
import { MessageBlock } from "../../ffi/unix/scm_rights.ts";
import { unixSystem } from "../../ffi/unix/libc.ts";
import { AF, IPPROTO, SOCK } from "@winsock/handoff/structs";
import { ANSWER_SIZE, prepareAddresses, SECRET_SIZE } from "../../spi/unix/claims.ts";
import { encodeBlob } from "../../spi/unix/provider.ts";

/** A blob that names a rendezvous; what waits there is not told. */
export function blobFor(rendezvous: string): Uint8Array<ArrayBuffer> {
  return encodeBlob({
    rendezvous,
    claim: { number: 1, secret: new Uint8Array(SECRET_SIZE) },
    processId: Deno.pid,
    socket: { family: AF.AF_INET, type: SOCK.SOCK_STREAM, protocol: IPPROTO.IPPROTO_TCP },
  });
}

export class RogueRendezvous implements Disposable {
  /** What a target would open. */
  readonly blob: Uint8Array<ArrayBuffer>;
  readonly #server: net.Server;
  readonly #connections: net.Socket[] = [];

  /** @param descriptors What each claim is answered with, in as few messages as can be. */
  constructor(descriptors: readonly bigint[]) {
    const { mostDescriptors } = unixSystem();
    const { name, fd } = prepareAddresses()();
    this.blob = blobFor(name);
    this.#server = net.createServer((connection) => {
      this.#connections.push(connection);
      const { _handle } = connection as unknown as { _handle: { fd: number } };
      connection.on("error", () => {});
      connection.once("data", () => {
        for (let sent = 0; sent < descriptors.length; sent += mostDescriptors) {
          sendAll(BigInt(_handle.fd), descriptors.slice(sent, sent + mostDescriptors));
        }
      });
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
  const bytes = new Uint8Array(ANSWER_SIZE);
  const block = new MessageBlock(unixSystem(), descriptors.length, bytes.byteLength);
  const size = BigInt(block.bytes.byteLength);
  const address = libc().malloc(size);
  block.encode(address, bytes, descriptors);
  libc().copyIn(address, block.bytes, size);
  const sent = libc().sendmsg(fd, address, unixSystem().MSG_NOSIGNAL);
  libc().free(address);
  if (sent !== BigInt(bytes.byteLength)) throw new Error(`sendmsg sent ${sent}`);
}
