// Who may stay connected to a source's rendezvous.
import { assert, assertEquals } from "@std/assert";
import { libc } from "@winsock/handoff/ffi";
import { defaultProvider } from "@winsock/handoff/spi";
import { sendMessage } from "../../ffi/unix/message.ts";
import { decodeBlob } from "../../spi/unix/blob.ts";
import { CLAIM_AHEAD, encodeClaim } from "../../spi/unix/claim_messages.ts";
import { connectRendezvous } from "../../spi/unix/rendezvous_socket.ts";
import { connection } from "../kit/connections.ts";
import { countDescriptors, settledDescriptors } from "../kit/descriptors.ts";
import { needs } from "../kit/needs.ts";
import { endChild, lines, spawnChild, until } from "../kit/process.ts";

const STRANGERS = 100;

/** Nothing is offered to this process; it says the same on every connection. */
async function connectAll(rendezvous: string, message: Uint8Array): Promise<bigint[]> {
  const connected: bigint[] = [];
  await until(() => {
    const fd = connectRendezvous(rendezvous);
    if (fd === undefined) return false;
    connected.push(fd);
    try {
      if (message.byteLength > 0) sendMessage(fd, message);
    } catch {
      // It was ended already.
    }
    return connected.length === STRANGERS;
  }, "all are connected");
  return connected;
}

const messages: Record<string, (number: number) => Uint8Array> = {
  "say nothing": () => new Uint8Array(0),
  "claim what is another's": (number) => encodeClaim(number, CLAIM_AHEAD),
};

for (const [what, message] of Object.entries(messages)) {
  Deno.test(
    `strangers that ${what} are few at a rendezvous, and not for long; whom something is for gets in`,
    needs("the unix provider"),
    async () => {
      using pair = await connection();
      const child = spawnChild("open.ts");
      const line = lines(child);
      assertEquals(await line(), "started");
      const blob = defaultProvider().duplicateSocket(pair.server.handle, child.pid);
      const { rendezvous, number } = decodeBlob(blob);
      const [before] = await settledDescriptors(Deno.pid);
      const strangers = await connectAll(rendezvous, message(number));
      try {
        await new Promise((resolve) => setTimeout(resolve, 200));
        const kept = countDescriptors() - before! - STRANGERS;
        assert(kept > 0 && kept <= 33, `${kept} of ${STRANGERS} are kept`);
        const writer = child.stdin.getWriter();
        await writer.write(blob);
        assertEquals(await line(), "opened Socket");
        await until(() => countDescriptors() <= before! + STRANGERS + 2, "the strangers are gone");
        await writer.close();
      } finally {
        for (const fd of strangers) libc().close(fd);
        await endChild(child);
      }
    },
  );
}
