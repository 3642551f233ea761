// What a target of the unix provider does with descriptors no honest source would send.
import { assertEquals, assertRejects } from "@std/assert";
import { openSocket, type Socket, WinsockError } from "@winsock/handoff";
import { libc } from "@winsock/handoff/ffi";
import { connection, readText, writeText } from "../kit/connections.ts";
import { descriptorsLike } from "../kit/descriptors.ts";
import { newWakerEnds } from "../../ffi/unix/new_descriptors.ts";
import { needs } from "../kit/needs.ts";
import { until, within } from "../kit/process.ts";
import { RogueRendezvous } from "../kit/rogue_rendezvous.ts";

const withProvider = needs("the unix provider");

Deno.test("a descriptor that is no socket is refused and closed", withProvider, async () => {
  const [readable, writable] = newWakerEnds();
  const before = descriptorsLike(readable);
  using rogue = new RogueRendezvous([readable]);
  const error = await within(20_000, assertRejects(() => openSocket(rogue.blob), WinsockError));
  assertEquals(error.codeName, "WSAENOTSOCK");
  await until(() => descriptorsLike(readable) <= before, "this process has the descriptors it had");
  for (const end of new Set([readable, writable])) libc().close(end);
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
