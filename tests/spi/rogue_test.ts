// What a target of the unix provider does with descriptors no honest source would send.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { openSocket, type Socket, WinsockError } from "@winsock/handoff";
import { libc } from "@winsock/handoff/ffi";
import { connection, readText, writeText } from "../kit/connections.ts";
import { UnixProvider } from "@winsock/handoff/spi";
import { duplicateFrom, newPipe } from "../../ffi/unix/descriptors.ts";
import { countDescriptors, descriptorsLike } from "../kit/descriptors.ts";
import { prepareAddresses } from "../../spi/unix/claims.ts";
import { unixSystem } from "../../ffi/unix/libc.ts";
import { needs } from "../kit/needs.ts";
import { until, within } from "../kit/process.ts";
import { blobFor, RogueRendezvous } from "../kit/rogue_rendezvous.ts";

const withProvider = needs("the unix provider");
/** Elsewhere a process has fewer descriptors, and takes all of a message before it closes them. */
const onLinux = { ignore: Deno.build.os !== "linux" || !unixSystem().closesTruncatedDescriptors };

Deno.test("a descriptor that is no socket is refused and closed", withProvider, async () => {
  const [readable, writable] = newPipe("have what is not a socket");
  const before = descriptorsLike(readable);
  using rogue = new RogueRendezvous([readable]);
  const error = await within(20_000, assertRejects(() => openSocket(rogue.blob), WinsockError));
  assertEquals(error.codeName, "WSAENOTSOCK");
  await until(() => descriptorsLike(readable) <= before, "this process has the descriptors it had");
  for (const end of [readable, writable]) libc().close(end);
});

Deno.test("of a message with two descriptors one is taken, and the other closed", withProvider, async () => {
  using first = await connection();
  using second = await connection();
  using rogue = new RogueRendezvous([first.server.handle, second.server.handle]);
  const socket = await within(20_000, openSocket(rogue.blob)) as Socket;
  assertEquals(socket.remoteAddr, first.client.localAddr);
  second.server.close();
  using other = second.client.toConn();
  assertEquals(await readText(other, 1), "", "nobody has the second");
  using conn = socket.toConn();
  using client = first.client.toConn();
  await writeText(conn, "x");
  assertEquals(await readText(client, 1), "x");
});

Deno.test("of 3 000 descriptors one is taken, and none kept", onLinux, async () => {
  using first = await connection();
  const copies = Array.from({ length: 3_000 }, () => duplicateFrom(first.server.handle, 0));
  const before = countDescriptors();
  const most = { count: before, watch: setInterval(() => most.count = Math.max(most.count, countDescriptors()), 1) };
  try {
    using rogue = new RogueRendezvous(copies);
    const provider = new UnixProvider();
    const s = await within(20_000, provider.socket(rogue.blob));
    provider.closeSocket(s);
    await until(() => countDescriptors() <= before + 8, "this process has the descriptors it had");
    // The rogue, its connection, the claim and its room, the poller.
    assert(most.count <= before + 16, `${most.count - before} more at a time`);
  } finally {
    clearInterval(most.watch);
    for (const copy of copies) libc().close(copy);
  }
});

Deno.test("rendezvous that are silent hold no thread, and their claims end", withProvider, async () => {
  const rendezvous = Array.from({ length: 40 }, () => prepareAddresses()());
  const provider = new UnixProvider();
  const claims = Promise.allSettled(rendezvous.map(({ name }) => provider.socket(blobFor(name))));
  try {
    for (let round = 0; round < 10; round++) await within(2_000, Deno.stat(new URL(import.meta.url)));
    await within(2_000, Deno.resolveDns("localhost", "A").catch(() => {}));
    await within(2_000, Deno.readTextFile(new URL(import.meta.url)));
  } finally {
    for (const { fd } of rendezvous) libc().close(fd);
  }
  for (const end of await within(5_000, claims)) {
    assert(end.status === "rejected");
    assertEquals(end.reason.codeName, "WSAECONNRESET");
  }
});
