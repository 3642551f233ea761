// A loop over a listener in a system that lets it accept no more for a while.
import { assertEquals } from "@std/assert";
import { connect } from "@winsock/handoff";
import { endChild, lines, spawnCrowded, within } from "../kit/process.ts";

Deno.test({
  name: "a loop over a listener waits while too many files are open, and goes on then",
  ignore: Deno.build.os !== "linux",
  async fn() {
    const child = spawnCrowded("crowded_listener.ts");
    const clients: Deno.TcpConn[] = [];
    const greeting = async (conn: Deno.TcpConn) => await within(20_000, conn.read(new Uint8Array(1)));
    try {
      const port = Number(await lines(child)());
      for (let count = 0; count < 60; count++) clients.push((await connect({ port })).toConn());
      assertEquals(await greeting(clients[0]!), 1);
      const last = greeting(clients.at(-1)!);
      const waits = new Promise((resolve) => setTimeout(resolve, 500, "it waits"));
      assertEquals(await Promise.race([last, waits]), "it waits");
      for (const client of clients.splice(0, 30)) client.close();
      assertEquals(await last, 1);
    } finally {
      for (const client of clients) client.close();
      await endChild(child);
    }
  },
});
