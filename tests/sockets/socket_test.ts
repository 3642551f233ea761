import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { connect, duplicateSocket, listen, Listener, openSocket, Socket, WinsockError } from "@winsock/handoff";
import { INVALID_SOCKET } from "@winsock/handoff/ffi";
import { setBlocking } from "../../ffi/unix/descriptors.ts";
import { ADDRESSES, connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { until, within } from "../kit/process.ts";

for (const hostname of ADDRESSES) {
  Deno.test(`${hostname}: a connection carries bytes both ways and half-closes`, async () => {
    using pair = await connection(hostname);
    assertEquals(pair.client.localAddr, pair.server.remoteAddr);
    assertEquals(pair.server.localAddr.hostname, hostname);
    using client = pair.client.toConn();
    using server = pair.server.toConn();
    assertEquals(client.remoteAddr, server.localAddr);
    await writeText(client, "ping");
    assertEquals(await readText(server, 4), "ping");
    await client.closeWrite();
    assert(await readEnd(server));
    await writeText(server, "pong");
    assertEquals(await readText(client, 4), "pong");
  });

  Deno.test(`${hostname}: large transfers arrive whole through streams`, async () => {
    using pair = await connection(hostname);
    using client = pair.client.toConn();
    using server = pair.server.toConn();
    const sent = crypto.getRandomValues(new Uint8Array(60_000));
    const rounds = 100;
    const writing = (async () => {
      const writer = client.writable.getWriter();
      for (let round = 0; round < rounds; round++) await writer.write(sent);
      await writer.close();
    })();
    let received = 0;
    for await (const chunk of server.readable) {
      for (let index = 0; index < chunk.length; index++) {
        if (chunk[index] !== sent[(received + index) % sent.length]) {
          throw new Error(`Byte ${received + index} differs`);
        }
      }
      received += chunk.length;
    }
    await writing;
    assertEquals(received, sent.length * rounds);
  });
}

Deno.test("a socket made from a handle owns it; a detached handle is the caller's", async () => {
  using pair = await connection();
  const handle = pair.client.detach();
  assertEquals(pair.client.handle, INVALID_SOCKET);
  pair.client.close();
  using again = Socket.fromHandle(handle);
  assertEquals(again.localAddr, pair.server.remoteAddr);
  assertThrows(() => Socket.fromHandle(handle), TypeError, "already has an owner");
});

Deno.test("what is no connected socket is refused and left alone", () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const handle = listener.detach();
  assertThrows(() => Socket.fromHandle(handle), TypeError, "it is a listener");
  using again = Listener.fromHandle(handle);
  assertEquals(again.addr.hostname, "127.0.0.1");
  assertEquals(assertThrows(() => Socket.fromHandle(0xfffff0n), WinsockError).codeName, "WSAENOTSOCK");
});

Deno.test("a closed socket is a bad resource, and closing twice is nothing", async () => {
  using pair = await connection();
  pair.client.close();
  pair.client.close();
  for (
    const use of [
      () => pair.client.localAddr,
      () => pair.client.remoteAddr,
      () => pair.client.getOption("TCP_NODELAY"),
      () => pair.client.setOption("SO_KEEPALIVE", true),
      () => pair.client.toConn(),
      () => pair.client.toNodeSocket(),
    ]
  ) assertThrows(use, Deno.errors.BadResource, "WSAENOTSOCK");
});

Deno.test("options are what the system says they are", async () => {
  using pair = await connection();
  for (const name of ["TCP_NODELAY", "SO_KEEPALIVE"] as const) {
    assertEquals(pair.client.getOption(name), false);
    pair.client.setOption(name, true);
    assertEquals(pair.client.getOption(name), true);
  }
  pair.client.setOption("SO_RCVBUF", 65_536);
  assert(pair.client.getOption("SO_RCVBUF") >= 65_536);
});

Deno.test("initial bytes come first, from a connection and from a node:net socket", async () => {
  for (
    const read of [
      async (socket: Socket) => {
        using conn = socket.toConn();
        return await readText(conn, 10);
      },
      async (socket: Socket) => {
        const stream = socket.toNodeSocket();
        let text = "";
        for await (const chunk of stream) {
          text += new TextDecoder().decode(chunk);
          if (text.length >= 10) break;
        }
        return text;
      },
    ]
  ) {
    using pair = await connection();
    using client = pair.client.toConn();
    await writeText(client, "world");
    const socket = Socket.fromHandle(pair.server.detach(), { initialBytes: new TextEncoder().encode("hello") });
    assertEquals(await within(10_000, read(socket)), "helloworld");
  }
});

Deno.test("accepting waits without blocking, in the order of the calls, and close wakes it at once", async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const waiting = [listener.accept(), listener.accept()];
  let ticks = 0;
  const timer = setInterval(() => ticks++, 5);
  await until(() => ticks >= 5, "the event loop has run");
  clearInterval(timer);
  const clients = [];
  for (let index = 0; index < 2; index++) clients.push(await connect({ port: listener.addr.port }));
  const accepted = await within(10_000, Promise.all(waiting));
  assertEquals(accepted.map((socket) => socket.remoteAddr.port), clients.map((socket) => socket.localAddr.port));
  for (const socket of [...clients, ...accepted]) socket.close();

  const pending = listener.accept();
  const refused = assertRejects(() => pending, Deno.errors.BadResource, "Listener has been closed");
  await new Promise((resolve) => setTimeout(resolve, 20));
  listener.close();
  await within(2_000, refused);
  await assertRejects(() => listener.accept(), Deno.errors.BadResource);
});

Deno.test("while accepting is paused connections wait in the system, for whoever accepts", async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const accepting = listener.accept();
  await new Promise((resolve) => setTimeout(resolve, 20));
  await within(10_000, listener.pause());
  using first = await connect({ port });
  using duplicate = await openSocket(duplicateSocket(listener, Deno.pid)) as Listener;
  using accepted = await within(10_000, duplicate.accept());
  assertEquals(accepted.remoteAddr, first.localAddr);
  duplicate.close();
  using second = await connect({ port });
  listener.resume();
  using resumed = await within(10_000, accepting);
  assertEquals(resumed.remoteAddr, second.localAddr);
});

Deno.test("closing right after accept ends the loop, and the port is free again", async () => {
  const listener = listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const loop = (async () => {
    for await (const socket of listener) socket.close();
  })();
  await Promise.resolve();
  listener.close();
  await within(2_000, loop);
  let again: Listener | undefined;
  await until(() => {
    try {
      again = listen({ hostname: "127.0.0.1", port });
      return true;
    } catch {
      return false;
    }
  }, "the port is free");
  again?.close();
});

const ENDS: Record<string, (listener: Listener) => Promise<void>> = {
  "paused, then closed": async (listener) => {
    await listener.pause();
    listener.close();
  },
  "closed, then paused": async (listener) => {
    listener.close();
    await listener.pause();
  },
  "closed while it is paused": async (listener) => {
    listener.pause();
    listener.close();
    await listener.pause();
  },
  "paused twice, then closed": async (listener) => {
    listener.pause();
    await listener.pause();
    listener.close();
  },
};

for (const [how, end] of Object.entries(ENDS)) {
  Deno.test(`the port of a listener is free at once: ${how}`, async () => {
    for (let round = 0; round < 60; round++) {
      const listener = listen({ hostname: "127.0.0.1", port: 0 });
      const { port } = listener.addr;
      const loop = (async () => {
        for await (const socket of listener) socket.close();
      })();
      await new Promise((resolve) => setTimeout(resolve, round % 4));
      await within(10_000, end(listener));
      // The number of the one that is closed may be this one's now, which nothing that is left to do disturbs.
      using again = listen({ hostname: "127.0.0.1", port });
      const accepting = again.accept();
      await within(10_000, loop);
      using client = await connect({ port });
      using accepted = await within(10_000, accepting);
      assertEquals(accepted.remoteAddr, client.localAddr);
    }
  });
}

Deno.test("who uses a socket that was closed or given up is told so", async () => {
  using pair = await connection();
  const { server } = pair;
  server.close();
  const uses = [
    () => server.localAddr,
    () => server.remoteAddr,
    () => server.getOption("SO_KEEPALIVE"),
    () => server.setOption("SO_KEEPALIVE", true),
    () => server.toConn(),
    () => server.toNodeSocket(),
    () => server.toNodeSocket({ native: false }),
  ];
  for (const use of uses) {
    const { message } = assertThrows(use, Deno.errors.BadResource, "a socket that was closed or released");
    assert(!message.includes("18446744073709551615"), message);
  }
});

Deno.test("a listener is exclusive, and bad addresses get clear errors", async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const again = () => listen({ hostname: "127.0.0.1", port });
  const taken = assertThrows(again, Deno.errors.AddrInUse, `127.0.0.1 port ${port}`);
  assertEquals((taken.cause as WinsockError).codeName, "WSAEADDRINUSE");
  for (const hostname of ["fe80::1%eth0", "fe80::1%", "::1%1%2", "::1%4294967296", "127.0.0.1%3"]) {
    assertThrows(() => listen({ hostname, port: 0 }), TypeError, `must be an IP address, got "${hostname}"`);
  }
  assertThrows(
    () => listen({ port: 65_536 }),
    RangeError,
    "Invalid `port`: must be an integer from 0 to 65535, got 65536",
  );
  listener.close();
  await until(async () => {
    try {
      (await connect({ port })).close();
      return false;
    } catch (error) {
      return error instanceof Deno.errors.ConnectionRefused;
    }
  }, "connecting is refused");
});

Deno.test("a listener on :: takes IPv4 connections too", async () => {
  using listener = listen({ hostname: "::", port: 0 });
  using client = await connect({ hostname: "127.0.0.1", port: listener.addr.port });
  using server = await listener.accept();
  assertEquals(server.remoteAddr.port, client.localAddr.port);
});

Deno.test("an aborted connect throws the signal's reason", async () => {
  const reason = new Error("changed my mind");
  await assertRejects(() => connect({ port: 1, signal: AbortSignal.abort(reason) }), Error, "changed my mind");
});

Deno.test("a connection that is closed says so, and a reset one too", async () => {
  using pair = await connection();
  const client = pair.client.toConn();
  using server = pair.server.toConn();
  await writeText(client, "unread");
  await until(async () => await readText(server, 1) === "u", "it arrived");
  server.close();
  await assertRejects(() => server.read(new Uint8Array(1)), Deno.errors.BadResource);
  await assertRejects(() => server.write(new Uint8Array(1)), Deno.errors.BadResource);
  await assertRejects(async () => {
    for (let round = 0; round < 200; round++) {
      await client.write(new Uint8Array(1024));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }, Error);
  client.close();
});

Deno.test("a connection the peer has reset can still be made, and reading it says so", async () => {
  using pair = await connection();
  const writer = (await openSocket(duplicateSocket(pair.server, Deno.pid))) as Socket;
  {
    using conn = writer.toConn();
    await writeText(conn, "never read");
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
  // Closed with bytes unread, a connection is reset.
  pair.client.close();
  await new Promise((resolve) => setTimeout(resolve, 100));
  using conn = pair.server.toConn();
  const error = await assertRejects(() => within(10_000, conn.read(new Uint8Array(1))), Error);
  assert(error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.ConnectionAborted, String(error));
});

for (const native of [true, false]) {
  Deno.test(`a peer that has reset before it is accepted is told of by reading${native ? "" : ", by foreign functions"}`, async () => {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const client = await connect({ port: listener.addr.port });
    client.setOption("SO_LINGER", 0);
    client.close();
    await new Promise((resolve) => setTimeout(resolve, 50));
    const server = await within(10_000, listener.accept());
    assertThrows(() => server.remoteAddr, Deno.errors.NotConnected);
    using conn = server.toConn({ native });
    assertThrows(() => conn.remoteAddr, Deno.errors.NotConnected, "WSAENOTCONN");
    await assertRejects(() => within(10_000, conn.read(new Uint8Array(1))), Error);
  });
}

Deno.test("a connect that is aborted while it is under way throws the signal's reason", async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const abort = new AbortController();
  const connecting = connect({ port: listener.addr.port, signal: abort.signal });
  abort.abort(new Error("no longer"));
  await assertRejects(() => connecting, Error, "no longer");
});

Deno.test("what closeWrite could not deliver is no success", async () => {
  using pair = await connection();
  using client = pair.client.toConn();
  const writing = assertRejects(() => client.write(new Uint8Array(30_000_000)), Error);
  const ending = assertRejects(() => client.closeWrite(), Error);
  client.close();
  await within(10_000, Promise.all([writing, ending]));
});

Deno.test(
  "accepting on a listener that somebody else made blocking does not block",
  { ignore: Deno.build.os === "windows" },
  async () => {
    const made = listen({ hostname: "127.0.0.1", port: 0 });
    const handle = made.detach();
    setBlocking(handle);
    using listener = Listener.fromHandle(handle);
    const pending = assertRejects(() => listener.accept(), Deno.errors.BadResource);
    await new Promise((resolve) => setTimeout(resolve, 30));
    listener.close();
    await within(2_000, pending);
  },
);
