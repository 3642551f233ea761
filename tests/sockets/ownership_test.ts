// Who closes a connection, who is told, and what it means to those who have a copy.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  connect,
  duplicateSocket,
  INVALID_SOCKET,
  listen,
  listenDatagram,
  type Listener,
  openSocket,
  Socket,
} from "@winsock/handoff";
import { DescriptorMap } from "../../internal/runtime.ts";
import { closeCopy, markShared } from "../../sockets/descriptor.ts";
import { beginHandoff, resourceOf } from "../../sockets/socket.ts";
import { connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { freeze } from "../kit/faults/acts.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { endChild, lines, spawnChild, within } from "../kit/process.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

const MiB = 1024 ** 2;
const PATHS = { "native": { native: true }, "plain": { native: false } } as const;

/** How a connection comes to its end without anybody closing the socket itself. */
const ENDS: Record<string, (conn: Deno.TcpConn, far: Deno.TcpConn, reset: () => void) => unknown> = {
  "close": (conn) => conn.close(),
  "close, twice": (conn) => [conn.close(), conn.close()],
  "dispose": (conn) => conn[Symbol.dispose](),
  "close while calls wait": async (conn) => {
    const waiting = [conn.read(new Uint8Array(1)), conn.write(new Uint8Array(16 * MiB))];
    waiting.push(conn.write(new Uint8Array(1)));
    const told = Promise.allSettled(waiting);
    await new Promise((resolve) => setTimeout(resolve, 5));
    conn.close();
    await told;
  },
  "cancel": (conn) => conn.readable.cancel(),
  "abort": (conn) => conn.writable.abort(),
  "both streams at their ends": async (conn, far) => {
    far.closeWrite();
    await conn.readable.pipeTo(conn.writable);
  },
  "both sides ended, by calls": async (conn, far) => {
    await conn.closeWrite();
    await far.closeWrite();
    assertEquals(await conn.read(new Uint8Array(1)), null);
  },
  "a reset that a read was told of": async (conn, _, reset) => {
    reset();
    await assertRejects(() => conn.read(new Uint8Array(1)), Error);
  },
  "a reset that a write was told of": async (conn, _, reset) => {
    reset();
    await assertRejects(async () => {
      for (;;) await conn.write(new Uint8Array(MiB));
    }, Error);
  },
  "a reset that a stream was told of": async (conn, _, reset) => {
    reset();
    await assertRejects(() => conn.readable.pipeTo(new WritableStream()), Error);
  },
};

for (const [path, options] of Object.entries(PATHS)) {
  for (const [end, doIt] of Object.entries(ENDS)) {
    Deno.test(`${path}: its listener is told of ${end}, and no descriptor stays`, async () => {
      await assertNothingLeaks(async () => {
        using listener = listen({ hostname: "127.0.0.1", port: 0 });
        const peer = await connect({ port: listener.addr.port });
        const conn = (await listener.accept()).toConn(options);
        const reset = () => {
          peer.setOption("SO_LINGER", 0);
          peer.close();
        };
        let far: Deno.TcpConn | undefined;
        if (!end.startsWith("a reset")) far = peer.toConn({ native: false });
        assertEquals(listener.connectionCount, 1);
        await within(20_000, Promise.resolve(doIt(conn, far!, reset)));
        await within(20_000, listener.drained());
        far?.close();
      });
    });
  }

  Deno.test(`${path}: initial bytes come first, piece by piece, then what comes`, async () => {
    for (const closedFirst of [false, true]) {
      using pair = await connection();
      using client = pair.client.toConn();
      await writeText(client, "more");
      if (closedFirst) await client.closeWrite();
      pair.server.unread(new TextEncoder().encode("hello"));
      using conn = pair.server.toConn(options);
      assertEquals(await readText(conn, 2), "he");
      assertEquals(await conn.read(new Uint8Array(0)), 0);
      const reader = conn.readable.getReader({ mode: "byob" });
      assertEquals(new TextDecoder().decode((await reader.read(new Uint8Array(2))).value), "ll");
      reader.releaseLock();
      assertEquals(await readText(conn, 5), "omore");
      if (closedFirst) assert(await readEnd(conn));
    }
  });

  Deno.test(`${path}: initial bytes of a connection that is reset, or closed here`, async () => {
    using pair = await connection();
    pair.client.setOption("SO_LINGER", 0);
    pair.client.close();
    pair.server.unread(new TextEncoder().encode("hello"));
    const conn = pair.server.toConn(options);
    await assertRejects(async () => {
      for (;;) await conn.write(new Uint8Array(MiB));
    }, Error);
    assertEquals(await readText(conn, 2), "he");
    conn.close();
    await assertRejects(() => conn.read(new Uint8Array(1)), Deno.errors.BadResource);
  });
}

Deno.test("a connection that others may use as well goes on when this one is closed", async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const given: Record<string, (socket: Socket) => Promise<[Socket, Socket]>> = {
    "duplicated": async (socket) => [socket, await openSocket(duplicateSocket(socket, Deno.pid)) as Socket],
    "opened": async (socket) => [await openSocket(duplicateSocket(socket, Deno.pid)) as Socket, socket],
    "named": async (socket) => {
      const copy = await openSocket(duplicateSocket(socket, Deno.pid)) as Socket;
      return [Socket.fromHandle(socket.detach()), copy];
    },
  };
  for (const [how, give] of Object.entries(given)) {
    using client = (await connect({ port: listener.addr.port })).toConn();
    const [mine, other] = await give(await listener.accept());
    {
      using conn = mine.toConn();
      await writeText(conn, how);
      assertEquals(await readText(client, how.length), how);
    }
    using conn = other.toConn();
    await writeText(conn, "goes on");
    assertEquals(await readText(client, 7), "goes on");
    await writeText(client, "both ways");
    assertEquals(await readText(conn, 9), "both ways");
  }
});

Deno.test("SO_LINGER of 0 resets a connection that toConn has made", async () => {
  using pair = await connection();
  pair.server.setOption("SO_LINGER", 0);
  pair.server.toConn().close();
  using client = pair.client.toConn();
  await assertRejects(() => client.read(new Uint8Array(1)), Error);
});

Deno.test(
  "on Windows a non-blocking connection that lingers is closed",
  { ignore: Deno.build.os !== "windows" },
  async () => {
    // As documented, and unlike Wine, closesocket leaves such a socket open.
    const said = await within(
      60_000,
      runCode(
        `
      const WSAEWOULDBLOCK = 10035;
      const lingering = new Map();
      const nonBlocking = new Map();
      let [failed, closes] = [false, []];
      const staysOpen = (s) => {
        const stays = lingering.get(s) > 0 && nonBlocking.get(s);
        if (lingering.has(s)) closes.push(stays ? "stays open" : lingering.get(s) > 0 ? "lingers" : "closed");
        if (!stays) lingering.delete(s);
        return failed = stays;
      };
      const dlopen = Deno.dlopen;
      Deno.dlopen = (path, declared) => {
        const { symbols } = dlopen(path, declared);
        if (declared.closeElsewhere !== undefined) {
          const closeElsewhere = (s) => staysOpen(s) ? Promise.resolve(-1) : symbols.closeElsewhere(s);
          return { symbols: { ...symbols, closeElsewhere } };
        }
        if (declared.closesocket === undefined) return { symbols };
        return { symbols: {
          ...symbols,
          closesocket: (s) => staysOpen(s) ? -1 : symbols.closesocket(s),
          WSAGetLastError: () => failed ? WSAEWOULDBLOCK : symbols.WSAGetLastError(),
          ioctlsocket: (s, command, on) => {
            nonBlocking.set(s, on[0] === 1);
            return symbols.ioctlsocket(s, command, on);
          },
          setsockopt: (s, level, name, value, length) => {
            const [on, seconds] = new Uint16Array(new Uint8Array(value.buffer, value.byteOffset, length).slice().buffer);
            if (level === 0xffff && name === 0x80) lingering.set(s, on === 0 ? 0 : seconds);
            return symbols.setsockopt(s, level, name, value, length);
          },
        } };
      };
      const { Socket } = await import(${moduleUrl("mod.ts")});
      const { systemCalls } = await import(${moduleUrl("ffi/system.ts")});
      const unblock = (socket) => systemCalls().unblock(socket.handle);
      const ways = {
        "toConn": (socket) => socket.toConn({ native: false }).close(),
        "toNodeSocket": (socket) => socket.toNodeSocket({ native: false }).on("error", console.log).destroy(),
        "elsewhere": (socket) => { unblock(socket); return systemCalls().closeElsewhere(socket.detach(), false); },
        "close": (socket) => { unblock(socket); socket.close(); },
      };
      for (const [name, close] of Object.entries(ways)) {
        const [near, far] = Socket.pair();
        closes = [];
        near.setOption("SO_LINGER", 5);
        await close(near);
        const end = await far.read(1, { signal: AbortSignal.timeout(5_000) }).catch((error) => error.name);
        console.log([name, end, ...closes].join(", "));
        far.close();
      }`,
        "--allow-all",
      ),
    );
    assertEquals(said.split("\n"), [
      "toConn, , stays open, lingers",
      "toNodeSocket, , stays open, lingers",
      "elsewhere, , stays open, closed",
      "close, , stays open, closed",
    ]);
  },
);

/** How the owner of a connection closes it. */
const CLOSES: Record<string, (socket: Socket) => unknown> = {
  "close()": (socket) => socket.close(),
  "dispose": (socket) => socket[Symbol.dispose](),
  "toConn()": (socket) => socket.toConn().close(),
  "toConn({ native: false })": (socket) => socket.toConn({ native: false }).close(),
  "toConn(), while it is read": async (socket) => {
    const conn = socket.toConn();
    const reading = assertRejects(() => conn.read(new Uint8Array(1)), Deno.errors.Interrupted);
    await new Promise((resolve) => setTimeout(resolve, 5));
    conn.close();
    await reading;
  },
  "toNodeSocket()": (socket) => socket.toNodeSocket().destroy(),
  "toNodeSocket({ native: false })": (socket) => socket.toNodeSocket({ native: false }).destroy(),
};

/** A connection with a copy in another process, which is stopped. */
async function withFrozenCopy(test: (socket: Socket, client: Deno.TcpConn) => Promise<void>): Promise<void> {
  const child = spawnChild("open.ts");
  const line = lines(child);
  const writer = child.stdin.getWriter();
  try {
    assertEquals(await line(), "started");
    using pair = await connection();
    using client = pair.client.toConn();
    await writer.write(duplicateSocket(pair.server, child.pid));
    assertEquals(await line(), "opened Socket");
    freeze(child.pid);
    await test(pair.server, client);
  } finally {
    writer.close().catch(() => {});
    await endChild(child);
  }
}

for (const [how, close] of Object.entries(CLOSES)) {
  Deno.test(`${how}: the peer of a shared connection reads the end at once, though another process has a copy`, async () => {
    await withFrozenCopy(async (socket, client) => {
      markShared(socket);
      await close(socket);
      assert(await readEnd(client));
    });
  });
}

Deno.test("a copy is closed without a word, as the connection is another's", async () => {
  await withFrozenCopy(async (socket, client) => {
    markShared(socket);
    closeCopy(socket);
    closeCopy(socket);
    markShared(socket);
    assertThrows(() => socket.remoteAddr, Error, "closed or released");
    const reading = client.read(new Uint8Array(1));
    const first = await Promise.race([reading, new Promise((resolve) => setTimeout(resolve, 200, "open"))]);
    assertEquals(first, "open");
    client.close();
    await assertRejects(() => reading, Deno.errors.Interrupted);
  });
});

Deno.test("closing a listener or a datagram socket that was shared ends nothing for others", async () => {
  const listener = listen({ hostname: "127.0.0.1", port: 0 });
  using other = await openSocket(duplicateSocket(listener, Deno.pid)) as Listener;
  markShared(listener);
  listener.close();
  using _client = await connect({ port: other.addr.port });
  (await within(20_000, other.accept())).close();

  const socket = listenDatagram({ hostname: "127.0.0.1", port: 0 });
  using copy = await openSocket(duplicateSocket(socket, Deno.pid)) as typeof socket;
  markShared(socket);
  socket.close();
  using sender = listenDatagram({ hostname: "127.0.0.1", port: 0 });
  await sender.send(new Uint8Array([7]), copy.addr);
  const [data] = await within(20_000, copy.receive());
  assertEquals([...data], [7]);
});

Deno.test("while a socket is handed off, only closing it goes", async () => {
  using pair = await connection();
  using client = pair.client.toConn();
  const { server } = pair;
  const end = beginHandoff(server);
  const locked = `socket ${server.handle}: it is being handed off`;
  await assertRejects(() => server.read(1), TypeError, `Cannot read ${locked}`);
  await assertRejects(() => server.peek(1), TypeError, `Cannot peek at ${locked}`);
  assertThrows(() => server.toConn(), TypeError, `Cannot make a connection of ${locked}`);
  assertThrows(() => server.toNodeSocket(), TypeError, `Cannot make a stream of ${locked}`);
  assertThrows(() => server.detach(), TypeError, `Cannot detach ${locked}`);
  assertThrows(() => resourceOf(server), TypeError, `Cannot serve ${locked}`);
  assertThrows(() => beginHandoff(server), TypeError, `Cannot hand off ${locked}`);
  assertEquals(server.remoteAddr, client.localAddr);
  end();
  end();
  await writeText(client, "back");
  assertEquals(new TextDecoder().decode(await server.peek(4, { atLeast: 4 })), "back");
  assertEquals((await server.read(4))?.length, 4);
  beginHandoff(server);
  server.close();
  assert(await readEnd(client));
});

Deno.test("a socket on which a read or peek waits is not handed off", async () => {
  using pair = await connection();
  using client = pair.client.toConn();
  const { server } = pair;
  const refused = () => {
    assertThrows(() => beginHandoff(server), TypeError, `socket ${server.handle}: a read or peek is pending`);
  };
  const waits: ((signal: AbortSignal) => Promise<unknown>)[] = [
    (signal) => server.read(1, { signal }),
    (signal) => server.peek(1, { signal }),
    (signal) => server.peek(9, { atLeast: 9, signal }),
  ];
  for (const wait of waits) {
    const abort = new AbortController();
    const waiting = wait(abort.signal);
    refused();
    abort.abort(new Error("enough"));
    await assertRejects(() => within(20_000, waiting), Error, "enough");
    beginHandoff(server)();
  }
  const reading = [server.read(1), server.read(1)];
  await writeText(client, "a");
  await within(20_000, reading[0]!);
  refused();
  await writeText(client, "b");
  await within(20_000, reading[1]!);
  beginHandoff(server)();
  await assertRejects(() => server.read(0), RangeError);
  await assertRejects(() => server.peek(1, { atLeast: 2 }), RangeError);
  beginHandoff(server)();
});

Deno.test("a socket that has given its descriptor up has no copy to close", async () => {
  using pair = await connection();
  using conn = pair.server.toConn();
  markShared(pair.server);
  closeCopy(pair.server);
  using client = pair.client.toConn();
  await writeText(conn, "x");
  assertEquals(await readText(client, 1), "x");
});

Deno.test("a descriptor of a provider may have any number, and is kept apart from the others", () => {
  const map = new DescriptorMap<string>();
  // Two of them are the same as floating-point numbers, and one would make an array of two thousand million places.
  const numbers = [0n, 3n, 2n ** 20n - 1n, 2n ** 20n, 2n ** 31n, 2n ** 53n, 2n ** 53n + 1n, INVALID_SOCKET - 1n];
  for (const s of numbers) map.set(s, `${s}`);
  map.set(3n, "three");
  map.delete(2n ** 31n);
  map.delete(7n);
  const left = numbers.filter((s) => s !== 2n ** 31n);
  assertEquals(map.get(2n ** 31n), undefined);
  assertEquals(map.entries().map(([s]) => s).toSorted((a, b) => a < b ? -1 : 1), left);
  assertEquals(left.map((s) => map.get(s)), left.map((s) => s === 3n ? "three" : `${s}`));
});

Deno.test("a socket that was closed is collected with the other short-lived objects", async () => {
  const child = spawnChild("closing_sockets.ts", [], ["--v8-flags=--expose-gc"]);
  const growth = Number(await lines(child)());
  assert(growth < 50, `${growth} bytes of each closed socket stay`);
  assertEquals((await within(20_000, child.status)).code, 0);
  await endChild(child);
});
