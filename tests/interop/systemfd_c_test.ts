// systemfd's protocol between ours and programs in C, which are written from its description. On Windows, or under Wine.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect, listen, Socket } from "@winsock/handoff";
import { receiveSystemfd, serveSystemfd } from "@winsock/handoff/interop";
import { connection, readText, writeText } from "../kit/connections.ts";
import { openStreams } from "../kit/descriptors.ts";
import { endChild, lines, until, within } from "../kit/process.ts";
import { cProgram, haveCPrograms } from "../kit/programs.ts";

/** Lets the client in C fetch a listener and a connection, and checks what it does with them. */
async function serveC(): Promise<void> {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  using pair = await connection();
  using client = pair.client.toConn();
  await using server = serveSystemfd([listener, pair.server]);
  const child = new Deno.Command(cProgram("systemfd_client"), { env: { ...server.env }, stdout: "piped" }).spawn();
  try {
    const line = lines(child);
    assertEquals(await line(), "1256 bytes");
    assertEquals(await line(), `listener on port ${listener.addr.port}`);
    using conn = (await connect({ port: listener.addr.port })).toConn();
    assertEquals(await readText(conn, 100), "hello from C");
    assertEquals(await line(), `connection on port ${pair.server.localAddr.port}`);
    assertEquals(await readText(client, 12), "hello from C");
    assertEquals(await line(), "done");
    assertEquals((await within(20_000, child.status)).code, 0);
  } finally {
    await endChild(child);
  }
  // Both sockets are still ours, and work.
  using waiting = await connect({ port: listener.addr.port });
  using accepted = await within(10_000, listener.accept());
  assertEquals(accepted.remoteAddr, waiting.localAddr);
  using conn = pair.server.toConn();
  await writeText(conn, "and from us");
  assertEquals(await readText(client, 11), "and from us");
}

Deno.test({
  name: "a client in C fetches our sockets and uses them",
  ignore: !haveCPrograms(),
  fn: async () => {
    await serveC();
    // What is open after the first time are things every process opens once.
    const before = openStreams(Deno.pid).length;
    await serveC();
    await until(() => openStreams(Deno.pid).length <= before, "the descriptors are closed");
  },
});

Deno.test({
  name: "a client in C with the wrong secret gets nothing",
  ignore: !haveCPrograms(),
  fn: async () => {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const errors: unknown[] = [];
    await using server = serveSystemfd([listener], { onError: (error) => errors.push(error) });
    const env = { ...server.env, SYSTEMFD_SOCKET_SECRET: crypto.randomUUID() };
    const { stdout } = await within(20_000, new Deno.Command(cProgram("systemfd_client"), { env }).output());
    assertEquals(new TextDecoder().decode(stdout), "0 bytes\ndone\n");
    assertEquals(errors.map(String), ["PermissionDenied: Cannot serve a client: its secret is wrong"]);
  },
});

Deno.test({
  name: "a server in C gives us its listeners, and we accept on them, also on the non-blocking one",
  ignore: !haveCPrograms(),
  fn: async () => {
    const server = new Deno.Command(cProgram("systemfd_server"), { stdout: "piped" }).spawn();
    try {
      const line = lines(server);
      const [address, secret, ...ports] = (await line())!.trim().split(" ");
      const request = new Map([["SYSTEMFD_SOCKET_SERVER", address!], ["SYSTEMFD_SOCKET_SECRET", secret!]]);
      await assertRejects(
        () => receiveSystemfd({ env: new Map([...request, ["SYSTEMFD_SOCKET_SECRET", "wrong"]]) }),
        Deno.errors.UnexpectedEof,
        "secret may be wrong",
      );
      assertEquals(await line(), "refused");
      const before = openStreams(Deno.pid).length;
      using passed = await receiveSystemfd({ env: request });
      assertEquals(await line(), `served ${Deno.pid}`);
      assertEquals(passed.length, 2);
      for (const [position, port] of ports.entries()) {
        using listener = passed.takeListener(position);
        assertEquals(listener?.addr.port, Number(port));
        const accepting = listener!.accept();
        // Nobody comes for a while: an accept that does not wait would have failed by then.
        await Promise.race([accepting, new Promise((resolve) => setTimeout(resolve, 1_000))]);
        using client = (await connect({ port: Number(port) })).toConn();
        using accepted = await within(10_000, accepting);
        assert(accepted instanceof Socket);
        using conn = accepted.toConn();
        await writeText(conn, "served by Deno");
        assertEquals(await readText(client, 14), "served by Deno");
      }
      await until(() => openStreams(Deno.pid).length <= before, "the descriptors are closed");
    } finally {
      await endChild(server);
    }
  },
});
