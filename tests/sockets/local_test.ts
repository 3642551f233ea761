// Local (unix) sockets: listening, connecting, sharing and handing over.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  connect,
  DatagramSocket,
  duplicateSocket,
  HandoffSource,
  inherit,
  listen,
  listenDatagram,
  Listener,
  openSocket,
  Socket,
  WinsockError,
} from "@winsock/handoff";
import { readEnd, readText, writeText } from "../kit/connections.ts";
import { unixSystem } from "../../ffi/unix/libc.ts";
import { sendDescriptors, sendLocalDatagram } from "../../ffi/unix/scm_rights.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { needs } from "../kit/needs.ts";
import { endChild, lines, spawnChild, within } from "../kit/process.ts";

const withLocal = needs("local sockets");
const withAbstract = needs("abstract names");
const withSequences = needs("seqpacket sockets");
const withRefusal = needs("sockets that refuse descriptors");

/** Runs a test with the path of a file, and with an abstract name where there are such. */
async function withPaths(test: (path: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await test(`${directory}/socket`);
    if (!withAbstract.ignore) await test(`\0handoff-test-${crypto.randomUUID()}`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function localPair(path: string) {
  using listener = listen({ path });
  const client = await connect({ path });
  const server = await listener.accept();
  return {
    client,
    server,
    [Symbol.dispose]() {
      client.close();
      server.close();
    },
  };
}

Deno.test(
  "local sockets are refused where the system cannot hand them over",
  { ignore: !withLocal.ignore },
  async () => {
    const path = "socket";
    using version = await inherit({ predecessor: 0 });
    const options = { path, backlog: 5, transport: "unix", type: "stream" } as const;
    const refused = [
      () => listen(options),
      () => version.listen("web", options),
      () => connect({ path, transport: "unix", type: "stream" }),
      () => listenDatagram({ path, transport: "unixpacket" }),
    ];
    for (const use of refused) {
      await assertRejects(async () => await use(), Deno.errors.NotSupported, `Cannot use the local socket "${path}"`);
    }
  },
);

Deno.test("a local connection carries bytes both ways and half-closes", withLocal, async () => {
  await withPaths(async (path) => {
    using listener = listen({ path });
    assertEquals(listener.addr, { transport: "unix", path });
    using dialled = await connect({ path });
    using accepted = await within(10_000, listener.accept());
    assertEquals([dialled.remoteAddr.path, accepted.localAddr.path, accepted.remoteAddr.path], [path, path, ""]);
    using client = dialled.toConn();
    using server = accepted.toConn();
    assertEquals(client.remoteAddr, { transport: "unix", path });
    await writeText(client, "ping");
    assertEquals(await readText(server, 4), "ping");
    await client.closeWrite();
    assert(await readEnd(server));
    await writeText(server, "pong");
    assertEquals(await readText(client, 4), "pong");
  });
});

Deno.test("local sockets are shared like others", withLocal, async () => {
  await withPaths(async (path) => {
    const listener = listen({ path });
    using copy = await openSocket<Deno.UnixAddr>(duplicateSocket(listener, Deno.pid));
    assert(copy instanceof Listener);
    listener.close();
    assertEquals(copy.addr.path, path);
    using client = await connect({ path });
    using server = await within(10_000, copy.accept());
    using duplicate = await openSocket<Deno.UnixAddr>(duplicateSocket(server, Deno.pid));
    assert(duplicate instanceof Socket);
    server.close();
    using conn = duplicate.toConn();
    using peer = client.toConn();
    await writeText(conn, "still here");
    assertEquals(await readText(peer, 10), "still here");
  });
});

Deno.test("a local connection goes to a child, with its initial bytes", withLocal, async () => {
  await withPaths(async (path) => {
    const child = spawnChild("echo.ts");
    try {
      const source = new HandoffSource(child);
      using pair = await localPair(path);
      await within(20_000, source.send(pair.server, { initialBytes: new TextEncoder().encode("first ") }));
      using client = pair.client.toConn();
      await writeText(client, "second");
      assertEquals(await readText(client, 12), "first second");
      await client.closeWrite();
      assert(await readEnd(client));
    } finally {
      await endChild(child);
    }
  });
});

Deno.test("a local listener goes to a child, and its file stays", withLocal, async () => {
  await withPaths(async (path) => {
    const child = spawnChild("listener.ts");
    try {
      const listener = listen({ path });
      await within(20_000, new HandoffSource(child).send(listener));
      assertEquals(await lines(child)(), "listening");
      using client = (await connect({ path })).toConn();
      assertEquals(await readText(client, 100), `from ${child.pid}`);
    } finally {
      await endChild(child);
    }
  });
});

Deno.test(
  "a file goes with the last descriptor of its listener, and one left behind is in use until it is removed",
  withLocal,
  async () => {
    await withPaths(async (path) => {
      const isFile = !path.startsWith("\0");
      const first = listen({ path });
      const second = await openSocket<Deno.UnixAddr>(duplicateSocket(first, Deno.pid), { kind: "listener" });
      first.close();
      using client = await connect({ path });
      (await within(10_000, second.accept())).close();
      assertEquals(await client.read(1), null);
      second.close();
      const Gone = isFile ? Deno.errors.NotFound : Deno.errors.ConnectionRefused;
      await assertRejects(() => connect({ path }), Gone, "Cannot connect to");
      {
        using _again = listen({ path });
        assertThrows(() => listen({ path }), Deno.errors.AddrInUse, `bind failed with WSAEADDRINUSE`);
      }
      if (!isFile) return;
      // Given up, it is not this process's to remove; and a listener that somebody names does not remove it either.
      const named = Listener.fromHandle<Deno.UnixAddr>(listen({ path }).detach());
      assertThrows(() => listen({ path }), Deno.errors.AddrInUse);
      named.close();
      await assertRejects(() => connect({ path }), Deno.errors.ConnectionRefused, "Cannot connect to");
      assertThrows(() => listen({ path }), Deno.errors.AddrInUse, `Cannot bind to ${path}: bind failed with`);
      await Deno.remove(path);
      using again = listen({ path });
      assertEquals(again.addr.path, path);
    });
  },
);

Deno.test(
  "a connect waits while too many others do, until it is aborted",
  needs("waiting for a local listener"),
  async () => {
    await withPaths(async (path) => {
      using listener = listen({ path, backlog: 0 });
      using _first = await connect({ path });
      const abort = new AbortController();
      const aborted = assertRejects(() => connect({ path, signal: abort.signal }), Error, "no longer");
      await new Promise((resolve) => setTimeout(resolve, 50));
      abort.abort(new Error("no longer"));
      await within(10_000, aborted);
      const waiting = connect({ path });
      for (let count = 0; count < 2; count++) (await within(10_000, listener.accept())).close();
      (await within(10_000, waiting)).close();
    });
  },
);

Deno.test("local datagrams keep their boundaries and say who sent them", withLocal, async () => {
  await withPaths(async (path) => {
    using server = listenDatagram({ transport: "unixpacket", path });
    assertEquals(server.addr, { transport: "unixpacket", path });
    using client = listenDatagram({ transport: "unixpacket", path: `${path}-client` });
    for (const text of ["one", "", "three"]) await client.send(new TextEncoder().encode(text), server.addr);
    for (const text of ["one", "", "three"]) {
      const [data, sender] = await within(10_000, server.receive());
      assertEquals([new TextDecoder().decode(data), sender], [text, client.addr]);
    }
    // What is not bound has no name.
    await sendLocalDatagram(path.replace("\0", "@"), new Uint8Array([7]));
    assertEquals(await within(10_000, server.receive()), [new Uint8Array([7]), { transport: "unixpacket", path: "" }]);
    using copy = await openSocket<Deno.UnixAddr>(duplicateSocket(server, Deno.pid), { kind: "datagram" });
    assertEquals(copy.addr, server.addr);
    server.close();
    await client.send(new Uint8Array([1]), copy.addr);
    assertEquals((await within(10_000, copy.receive()))[0], new Uint8Array([1]));
    copy.close();
    const Gone = path.startsWith("\0") ? Deno.errors.ConnectionRefused : Deno.errors.NotFound;
    await assertRejects(() => client.send(new Uint8Array(1), copy.addr), Gone, "Cannot send a datagram of 1 bytes");
    using again = listenDatagram({ transport: "unixpacket", path });
    assertThrows(() => listenDatagram({ transport: "unixpacket", path }), Deno.errors.AddrInUse);
    assertEquals(DatagramSocket.fromHandle<Deno.UnixAddr>(again.detach()).addr.path, path);
  });
});

Deno.test("sending a local datagram waits while the receiver's queue is full", withLocal, async () => {
  await withPaths(async (path) => {
    using server = listenDatagram({ transport: "unixpacket", path });
    using client = listenDatagram({ transport: "unixpacket", path: `${path}-client` });
    const count = 1_000;
    let sent = 0;
    const sending = (async () => {
      for (let number = 0; number < count; number++) {
        await client.send(new Uint8Array(new Uint32Array([number]).buffer), server.addr);
        sent++;
      }
    })();
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert(sent > 0 && sent < count, `${sent} sent, and none received`);
    for (let number = 0; number < count; number++) {
      const [data] = await within(10_000, server.receive());
      assertEquals(new Uint32Array(data.buffer)[0], number);
    }
    await within(10_000, sending);
  });
});

Deno.test("a local datagram socket goes to a child", withLocal, async () => {
  await withPaths(async (path) => {
    const child = spawnChild("datagram_echo.ts");
    try {
      const server = listenDatagram({ transport: "unixpacket", path });
      const { addr } = server;
      await within(20_000, new HandoffSource(child).send(server));
      using client = listenDatagram({ transport: "unixpacket", path: `${path}-client` });
      await client.send(new TextEncoder().encode("hello"), addr);
      const [data, sender] = await within(20_000, client.receive());
      assert(new TextDecoder().decode(data).includes("hello"));
      assertEquals(sender, addr);
    } finally {
      await endChild(child);
    }
  });
});

Deno.test("a seqpacket connection keeps messages apart, here and after it was shared", withSequences, async () => {
  await withPaths(async (path) => {
    using listener = listen({ path, type: "seqpacket" });
    using client = (await connect({ path, type: "seqpacket" })).toConn();
    using accepted = await within(10_000, listener.accept());
    for (const text of ["one", "two", "three"]) await writeText(client, text);
    assertEquals(new TextDecoder().decode(await accepted.peek(100)), "one");
    assertEquals(new TextDecoder().decode(await accepted.read(100) ?? undefined), "one");
    using server = (await openSocket<Deno.UnixAddr>(duplicateSocket(accepted, Deno.pid), { kind: "connection" }))
      .toConn();
    for (const text of ["two", "three"]) {
      const buffer = new Uint8Array(100);
      const count = await within(10_000, server.read(buffer));
      assertEquals(new TextDecoder().decode(buffer.subarray(0, count ?? 0)), text);
    }
    await writeText(server, "back");
    assertEquals(await readText(client, 4), "back");
    // An abstract name is another socket's for each type.
    await assertRejects(() => connect({ path }), Error, path.startsWith("\0") ? "WSAECONNREFUSED" : "WSAEPROTOTYPE");
    await assertRejects(
      async () => (await connect({ path, type: "seqpacket" })).toConn({ native: true }),
      Deno.errors.NotSupported,
    );
  });
});

/** Sends a byte, and the descriptor of another socket with it. */
function sendWithDescriptor(s: bigint): void {
  const [near, far] = Socket.pair();
  try {
    assert(sendDescriptors(s, new Uint8Array(1), [near.handle]));
  } finally {
    near.close();
    far.close();
  }
}

Deno.test("long messages are received and sent whole", withSequences, async () => {
  await withPaths(async (path) => {
    using listener = listen({ path, type: "seqpacket" });
    using client = await connect({ path, type: "seqpacket" });
    using server = await listener.accept();
    for (const socket of [client, server]) socket.setOption("SO_SNDBUF", 1_000_000);
    const [from, to] = [client.toConn(), server.toConn()];
    const long = new Uint8Array(300_000).map((_, index) => index % 251);
    assertEquals(await from.write(long), long.length);
    const buffer = new Uint8Array(400_000);
    assertEquals(await to.read(buffer), long.length);
    assert(long.every((byte, index) => buffer[index] === byte));
    const writer = from.writable.getWriter();
    await writer.write(long);
    writer.releaseLock();
    assertEquals(await to.read(buffer), long.length);
    from.close();
    to.close();
  });
});

Deno.test("long local datagrams are received whole", withSequences, async () => {
  await withPaths(async (path) => {
    using receiver = listenDatagram({ transport: "unixpacket", path });
    using sender = listenDatagram({ transport: "unixpacket", path: `${path}-sender` });
    sender.setOption("SO_SNDBUF", 1_000_000);
    const long = new Uint8Array(150_000).map((_, index) => index % 251);
    for (const data of [long, new Uint8Array(3)]) {
      await sender.send(data, receiver.addr);
      assertEquals((await receiver.receive())[0], data);
    }
  });
});

for (const type of withSequences.ignore ? ["stream"] as const : ["stream", "seqpacket"] as const) {
  Deno.test(
    `the other end of a local connection (${type}) can send bytes, and no descriptor`,
    withRefusal,
    async () => {
      await withPaths(async (path) => {
        using listener = listen({ path, type });
        using client = await connect({ path, type });
        // Before the connection is accepted, and afterwards.
        assertThrows(() => sendWithDescriptor(client.handle), WinsockError, "EPERM");
        using server = await within(10_000, listener.accept());
        for (const [near, far] of [[client, server], [server, client]] as const) {
          assertThrows(() => sendWithDescriptor(near.handle), WinsockError, "EPERM");
          assert(sendDescriptors(near.handle, new Uint8Array([7]), []));
          assertEquals(await within(10_000, far.read(10)), new Uint8Array([7]));
        }
      });
    },
  );
}

Deno.test("a local datagram has bytes, and no descriptor", withRefusal, async () => {
  await withPaths(async (path) => {
    using server = listenDatagram({ transport: "unixpacket", path });
    const address = path.replace("\0", "@");
    using other = listen({ hostname: "127.0.0.1", port: 0 });
    const sending = () => sendLocalDatagram(address, new Uint8Array([1]), [other.handle]);
    await assertRejects(sending, WinsockError, "EPERM");
    await sendLocalDatagram(address, new Uint8Array([2]));
    assertEquals((await within(10_000, server.receive()))[0], new Uint8Array([2]));
  });
});

Deno.test("a pair of sockets, and what is made to, accepts descriptors", withRefusal, async () => {
  const [first, second] = Socket.pair();
  sendWithDescriptor(first.handle);
  for (const socket of [first, second]) socket.close();
  await withPaths(async (path) => {
    using listener = listen({ path });
    listener.setRawOption(...unixSystem().SO_PASSRIGHTS!, 1);
    using client = await connect({ path });
    sendWithDescriptor(client.handle);
    (await within(10_000, listener.accept())).close();
  });
});

Deno.test("a type of local socket that is none, or that the system lacks, is refused", withLocal, async () => {
  const type = "datagram" as "stream";
  assertThrows(() => listen({ path: "/x", type }), TypeError, 'Invalid `type`: must be "stream" or "seqpacket", got');
  await assertRejects(() => connect({ path: "/x", type }), TypeError, "Invalid `type`");
  const nothing = { transport: "unixpacket" } as unknown as { transport: "unixpacket"; path: string };
  assertThrows(() => listenDatagram(nothing), TypeError, "Invalid `path`");
  if (!withSequences.ignore) return;
  assertThrows(() => listen({ path: "/x", type: "seqpacket" }), Deno.errors.NotSupported, "SOCK_SEQPACKET");
  await assertRejects(() => connect({ path: "/x", type: "seqpacket" }), Deno.errors.NotSupported, "SOCK_SEQPACKET");
});

Deno.test("local sockets have no options of TCP, and those of any socket", withLocal, async () => {
  await withPaths(async (path) => {
    using pair = await localPair(path);
    const error = assertThrows(() => pair.client.setOption("TCP_NODELAY", true), WinsockError);
    assert(["WSAEOPNOTSUPP", "WSAENOPROTOOPT", "WSAEINVAL"].includes(error.codeName), error.message);
    pair.client.setOption("SO_RCVBUF", 65_536);
    assert(pair.client.getOption("SO_RCVBUF") >= 65_536);
  });
});

Deno.test("paths that cannot be are refused with clear errors", withLocal, async () => {
  for (const path of ["", "a\0b"]) assertThrows(() => listen({ path }), TypeError, "must be that of a local socket");
  assertThrows(
    () => listen({ path: "x".repeat(unixSystem().pathSize) }),
    RangeError,
    "Invalid `path`: must have at most",
  );
  const error = await assertRejects(() => connect({ path: "/nowhere/at/all" }), Deno.errors.NotFound);
  assertEquals(
    error.message,
    "Cannot connect to /nowhere/at/all: connect failed with WSAEADDRNOTAVAIL (10049): ENOENT (2)",
  );
});

Deno.test("local sockets leave no descriptor behind", withLocal, async () => {
  const directory = await Deno.makeTempDir();
  let count = 0;
  await assertNothingLeaks(async () => {
    using _pair = await localPair(`${directory}/${count++}`);
    assertThrows(() => listen({ path: "/nowhere/at/all" }), Deno.errors.NotFound);
    await assertRejects(() => connect({ path: "/nowhere/at/all" }), Deno.errors.NotFound);
  });
  await Deno.remove(directory, { recursive: true });
});

Deno.test("where there are no abstract names, they are refused", { ignore: !withAbstract.ignore }, async () => {
  const message = `Cannot use the local socket "@name": ${unixSystem().name} does not have abstract names`;
  if (!withLocal.ignore) assertThrows(() => listen({ path: "\0name" }), Deno.errors.NotSupported, message);
  await assertRejects(() => connect({ path: "\0name" }), Deno.errors.NotSupported);
});

Deno.test("on Windows local sockets are not supported", { ignore: Deno.build.os !== "windows" }, async () => {
  const message = 'Cannot use the local socket "C:\\s": Windows cannot hand off local sockets';
  assertThrows(() => listen({ path: "C:\\s" }), Deno.errors.NotSupported, message);
  await assertRejects(() => connect({ path: "C:\\s" }), Deno.errors.NotSupported, message);
  const datagrams = () => listenDatagram({ transport: "unixpacket", path: "C:\\s" });
  assertThrows(datagrams, Deno.errors.NotSupported, message);
  assertThrows(() => listen({ path: "C:\\s", type: "seqpacket" }), Deno.errors.NotSupported, message);
});
