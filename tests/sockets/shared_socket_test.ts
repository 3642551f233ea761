// The rules of shared sockets, between real processes.
import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import {
  connect,
  type DatagramSocket,
  duplicateSocket,
  listen,
  listenDatagram,
  Listener,
  openSocket,
  Socket,
  WinsockError,
} from "@winsock/handoff";
import { WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
import { systemCalls } from "../../ffi/system.ts";
import { setBlocking } from "../../ffi/unix/descriptors.ts";
import { HANDLE_FLAG_INHERIT, kernel32, ws2_32 } from "../../ffi/windows/libraries.ts";
import { ADDRESSES, connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { receiveText, sendText } from "../kit/datagrams.ts";
import { endChild, lines, spawnChild, until, within } from "../kit/process.ts";
import { isWine } from "../kit/wine.ts";

/** Runs a test with a child that opens blobs and keeps what it opened. */
async function withOpener(
  test: (open: (blob: Uint8Array) => Promise<string>, child: Deno.ChildProcess) => Promise<void>,
): Promise<void> {
  const child = spawnChild("open.ts");
  const line = lines(child);
  const writer = child.stdin.getWriter();
  try {
    assertEquals(await line(), "started");
    await test(async (blob) => {
      await writer.write(blob);
      return await line() ?? "the child ended";
    }, child);
  } finally {
    await writer.close().catch(() => {});
    await endChild(child);
  }
}

Deno.test("what was read already is said when a blob is opened", async () => {
  using pair = await connection();
  const initialBytes = new TextEncoder().encode("read already");
  const blob = duplicateSocket(pair.server, Deno.pid);
  using opened = await openSocket(blob, { kind: "connection", initialBytes });
  assertEquals(new TextDecoder().decode(opened.initialBytes), "read already");
});

for (const hostname of ADDRESSES) {
  Deno.test(`${hostname}: within one process, both descriptors are of one socket`, async () => {
    using pair = await connection(hostname);
    using duplicate = await openSocket(duplicateSocket(pair.server, Deno.pid));
    assert(duplicate instanceof Socket);
    assert(duplicate.handle !== pair.server.handle);
    assertEquals(duplicate.localAddr, pair.server.localAddr);
    pair.server.setOption("TCP_NODELAY", true);
    assertEquals(duplicate.getOption("TCP_NODELAY"), true);
    duplicate.setOption("SO_KEEPALIVE", true);
    assertEquals(pair.server.getOption("SO_KEEPALIVE"), true);
    pair.server.close();
    using client = pair.client.toConn();
    using server = duplicate.toConn();
    await writeText(server, "still here");
    assertEquals(await readText(client, 10), "still here");
  });

  Deno.test(`${hostname}: the peer sees the end only after the last descriptor, in another process, closed`, async () => {
    await withOpener(async (open, child) => {
      using pair = await connection(hostname);
      using client = pair.client.toConn();
      assertEquals(await open(duplicateSocket(pair.server, child.pid)), "opened Socket");
      pair.server.close();
      const ended = readEnd(client);
      const first = await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 200, "open"))]);
      assertEquals(first, "open");
      await endChild(child);
      assert(await ended);
    });
  });
}

Deno.test("a listener can be shared, and is one", async () => {
  const listener = listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  using duplicate = await openSocket(duplicateSocket(listener, Deno.pid));
  assert(duplicate instanceof Listener);
  listener.close();
  using client = await connect({ port });
  using server = await within(10_000, duplicate.accept());
  assertEquals(server.remoteAddr.port, client.localAddr.port);
});

Deno.test("a blob is for one use", async () => {
  using pair = await connection();
  const blob = duplicateSocket(pair.server, Deno.pid);
  using first = await openSocket(blob);
  const error = await assertRejects(() => openSocket(blob), WinsockError);
  assertEquals(error.codeName, "WSAEINVAL");
  assert(first instanceof Socket);
  assertEquals(first.localAddr, pair.server.localAddr);
});

Deno.test("a blob is for one process", async () => {
  const other = spawnChild("silent.ts");
  try {
    await withOpener(async (open) => {
      using pair = await connection();
      for (const pid of [Deno.pid, other.pid]) {
        assertMatch(
          await open(duplicateSocket(pair.server, pid)),
          /^refused WinsockError WSAEINVAL Cannot open a shared socket/,
        );
      }
    });
  } finally {
    await endChild(other);
  }
});

Deno.test("truncated, oversized and garbage blobs are refused with a clear error", async () => {
  using pair = await connection();
  const blob = duplicateSocket(pair.server, Deno.pid);
  for (const length of [0, 1, 372, 627]) {
    const message = `Cannot decode WSAPROTOCOL_INFOW: expected 628 bytes, got ${length}`;
    await assertRejects(() => openSocket(blob.subarray(0, length)), RangeError, message);
  }
  await assertRejects(() => openSocket(new Uint8Array(629)), RangeError, "expected 628 bytes, got 629");
  await assertRejects(() => openSocket(new Uint8Array(628)), WinsockError, "Cannot open a shared socket");
  const garbage = new Uint8Array(628).fill(0xa5);
  await assertRejects(() => openSocket(garbage), RangeError, "ProtocolChain at offset 40");
  new DataView(garbage.buffer).setInt32(40, 1, true);
  await assertRejects(() => openSocket(garbage), WinsockError, "Cannot open a shared socket");
  using opened = await openSocket(blob);
  assert(opened instanceof Socket);
});

Deno.test("a dead or impossible process id is WSAEINVAL", async () => {
  using pair = await connection();
  const child = spawnChild("silent.ts");
  await endChild(child);
  // Under Wine a process that was killed takes another moment to go.
  await until(() => {
    try {
      duplicateSocket(pair.server, child.pid);
      return false;
    } catch {
      return true;
    }
  }, `process ${child.pid} is gone`);
  for (const pid of [child.pid, 0x7ffffff0]) {
    const error = assertThrows(() => duplicateSocket(pair.server, pid), WinsockError, `for process ${pid}`);
    assertEquals([error.code, error.codeName], [10022, "WSAEINVAL"]);
  }
  assertEquals(pair.server.remoteAddr, pair.client.localAddr);
});

Deno.test("a closed socket is WSAENOTSOCK", async () => {
  using pair = await connection();
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  for (const socket of [pair.server, listener]) {
    socket.close();
    const error = assertThrows(() => duplicateSocket(socket, Deno.pid), WinsockError, "Cannot share a socket");
    assertEquals([error.code, error.codeName], [10038, "WSAENOTSOCK"]);
    assertMatch(error.message, /it was closed, handed off or released before$/);
  }
});

Deno.test("child processes inherit no socket", async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  using client = await connect({ port: listener.addr.port });
  using server = await listener.accept();
  using duplicate = await openSocket(duplicateSocket(server, Deno.pid));
  const child = spawnChild("silent.ts");
  try {
    assertEquals(await lines(child)(), "started");
    using peer = client.toConn();
    duplicate.close();
    server.close();
    assert(await readEnd(peer));
    const { port } = listener.addr;
    listener.close();
    const refused = until(async () => {
      try {
        (await connect({ port })).close();
        return false;
      } catch (error) {
        return error instanceof Deno.errors.ConnectionRefused;
      }
    }, "nobody listens any more");
    // Once the queue of a listener that nobody accepts on is full, an attempt takes longer than the whole test may.
    await within(5_000, refused);
  } finally {
    await endChild(child);
  }
});

Deno.test("no handle of a socket can be inherited", { ignore: Deno.build.os !== "windows" }, async () => {
  const { symbols } = Deno.dlopen("C:\\Windows\\System32\\kernel32.dll", {
    GetHandleInformation: { parameters: ["usize", "buffer"], result: "i32" },
  });
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  using client = await connect({ port: listener.addr.port });
  using server = await listener.accept();
  const blob = duplicateSocket(server, Deno.pid);
  // What Windows opens can be inherited at first. Wine has made it already, and its number is in the blob.
  if (isWine()) {
    kernel32().SetHandleInformation(
      BigInt(WSAPROTOCOL_INFOW.decode(blob).dwServiceFlags3),
      HANDLE_FLAG_INHERIT,
      HANDLE_FLAG_INHERIT,
    );
  }
  using opened = await openSocket(blob);
  const pair = systemCalls().pair();
  for (const handle of [listener.handle, client.handle, server.handle, opened.handle, ...pair]) {
    const flags = new Uint32Array(1);
    assertEquals([symbols.GetHandleInformation(handle, flags), flags[0]! & HANDLE_FLAG_INHERIT], [1, 0]);
  }
  for (const handle of pair) systemCalls().close(handle);
});

const FIONBIO = 0x8004667e | 0;
/** How long a call waits on a blocking socket in milliseconds, and the most that a call takes that does not wait. */
const WAIT_MS = 4_000;
const MAX_STILL_MS = 2_000;

/** Opens a duplicate of a socket, as another program would, which can make the socket blocking. */
async function openDuplicate(socket: Socket | DatagramSocket) {
  socket.setOption("SO_RCVTIMEO", WAIT_MS);
  socket.setOption("SO_SNDTIMEO", WAIT_MS);
  const duplicate = await openSocket(duplicateSocket(socket, Deno.pid));
  const makeBlocking = () => {
    if (Deno.build.os !== "windows") setBlocking(duplicate.handle);
    else assertEquals(ws2_32().ioctlsocket(duplicate.handle, FIONBIO, new Uint32Array(1)), 0);
  };
  return { duplicate, makeBlocking, [Symbol.dispose]: () => duplicate.close() };
}

/** Starts a call, and checks that the thread does not wait in it. */
async function withoutStandstill<Result>(start: () => Promise<Result>): Promise<{ result: Promise<Result> }> {
  const before = performance.now();
  const result = start();
  result.catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 0));
  const still = performance.now() - before;
  assert(still < MAX_STILL_MS, `the thread waited ${still} ms`);
  return { result };
}

Deno.test("a connection that another program makes blocking does not block the thread", async () => {
  using pair = await connection();
  using other = await openDuplicate(pair.server);
  using client = pair.client.toConn();
  using server = pair.server.toConn();
  other.makeBlocking();
  const buffer = new Uint8Array(5);
  const reading = await withoutStandstill(() => server.read(buffer));
  await writeText(client, "hello");
  assertEquals(await within(20_000, reading.result), 5);
  for (let pending = false; !pending;) {
    other.makeBlocking();
    const writing = await withoutStandstill(() => server.write(new Uint8Array(1_000_000)));
    pending = await Promise.race([
      writing.result.then(() => false),
      new Promise<boolean>((resolve) => setTimeout(resolve, 500, true)),
    ]);
  }
});

Deno.test("a datagram socket that another program makes blocking does not block the thread", async () => {
  using near = listenDatagram({ hostname: "127.0.0.1", port: 0 });
  using far = listenDatagram({ hostname: "127.0.0.1", port: 0 });
  using other = await openDuplicate(near);
  other.makeBlocking();
  const receiving = await withoutStandstill(() => receiveText(near));
  await sendText(far, "hello", near.addr);
  assertEquals((await receiving.result)[0], "hello");
  // Neither sending on the loopback interface nor receiving what is there waits, so another call shows the mode.
  const calls = [() => receiveText(near), () => sendText(near, "hello", far.addr)];
  await sendText(far, "again", near.addr);
  for (const call of Deno.build.os === "windows" ? calls : []) {
    other.makeBlocking();
    await call();
    await withoutStandstill(() => Promise.try(() => ws2_32().recv(near.handle, new Uint8Array(9), 9, 0)));
  }
});
