// What a target of the unix provider does with descriptors no honest source would send.
import { assertEquals, assertRejects } from "@std/assert";
import { openSocket, type Socket, WinsockError } from "@winsock/handoff";
import { libc } from "@winsock/handoff/ffi";
import { connection, readText, writeText } from "../kit/connections.ts";
import { openStreams } from "../kit/descriptors.ts";
import { until, within } from "../kit/process.ts";
import { RogueRendezvous } from "../kit/rogue_rendezvous.ts";

const onLinux = { ignore: Deno.build.os !== "linux" };

/** How many descriptors of this process are eventfds. */
function eventFds(): number {
  return openStreams(Deno.pid).filter((line) => line.includes("[eventfd]")).length;
}

Deno.test("a descriptor that is no socket is refused and closed", onLinux, async () => {
  const eventFd = BigInt(libc().eventfd(0, 0));
  const before = eventFds();
  using rogue = new RogueRendezvous([eventFd]);
  const error = await within(20_000, assertRejects(() => openSocket(rogue.blob), WinsockError));
  assertEquals(error.codeName, "WSAENOTSOCK");
  await until(() => eventFds() <= before, "this process has the eventfds it had");
  libc().close(eventFd);
});

Deno.test("of a message with two descriptors one is taken, and the other closed", onLinux, async () => {
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
