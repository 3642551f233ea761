// Raw blobs in streams and .NET's SocketInformation, within this process, with a child, and in the Windows lane with C.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type AnySocket, connect, listen, listenDatagram, Listener, Socket, WinsockError } from "@winsock/handoff";
import {
  duplicateSocketInformation,
  openSocketInformation,
  parseSocketInformation,
  readBlobs,
  receiveBlobs,
  sendBlobs,
  SocketInformationOptions,
  stringifySocketInformation,
} from "@winsock/handoff/interop";
import { WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
import { toAnsi, toWide, WinsockProvider } from "@winsock/handoff/spi";
import { connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { openStreams } from "../kit/descriptors.ts";
import { endChild, lines, spawnChild, until, within } from "../kit/process.ts";
import { cProgram, haveCPrograms } from "../kit/programs.ts";

const windows = Deno.build.os === "windows";

/** Bytes as a stream of chunks of one length. */
function streamOf(bytes: Uint8Array, chunk: number): ReadableStream<Uint8Array> {
  return ReadableStream.from((function* () {
    for (let start = 0; start < bytes.byteLength; start += chunk) yield bytes.slice(start, start + chunk);
  })());
}

/** What sendBlobs writes. */
async function written(sockets: AnySocket[], form: "W" | "A"): Promise<Uint8Array> {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const all = new Response(readable).bytes();
  await sendBlobs(writable, sockets, Deno.pid, { form });
  await writable.close();
  return await all;
}

for (const form of ["W", "A"] as const) {
  Deno.test(`blobs of form ${form} are read whatever the chunks, and are the sockets that were sent`, async () => {
    const size = form === "A" ? 372 : 628;
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    using pair = await connection();
    for (const chunk of [1, size - 1, size, size + 1, 10_000]) {
      const bytes = await written([listener, pair.server], form);
      assertEquals(bytes.byteLength, 2 * size);
      const opened: AnySocket[] = [];
      for await (const socket of receiveBlobs(streamOf(bytes, chunk), { form })) opened.push(socket);
      assertEquals(opened.map(({ constructor }) => constructor), [Listener, Socket]);
      assertEquals((opened[0] as Listener).addr, listener.addr);
      assertEquals((opened[1] as Socket).remoteAddr, pair.client.localAddr);
      for (const socket of opened) socket.close();
    }
  });
}

Deno.test("a stream that ends within a blob is UnexpectedEof, after the blobs before it", async () => {
  for (const [form, size] of [["W", 628], ["A", 372]] as const) {
    assertEquals(await Array.fromAsync(readBlobs(streamOf(new Uint8Array(0), 1), { form })), []);
    for (const length of [1, size - 1]) {
      const bytes = new Uint8Array(size + length);
      const read: Uint8Array[] = [];
      await assertRejects(
        async () => {
          for await (const blob of readBlobs(streamOf(bytes, 100), { form })) read.push(blob);
        },
        Deno.errors.UnexpectedEof,
        `only ${length} of its ${size} bytes arrived`,
      );
      assertEquals(read, [new Uint8Array(628)]);
    }
  }
});

Deno.test("what is before the first blob can be skipped, as Apache's handles", async () => {
  const blob = Uint8Array.from({ length: 628 }, (_, index) => index % 251);
  const bytes = new Uint8Array([...new Uint8Array(36).fill(255), ...blob, ...blob]);
  for (const chunk of [1, 35, 36, 37, 10_000]) {
    assertEquals(await Array.fromAsync(readBlobs(streamOf(bytes, chunk), { skip: 36 })), [blob, blob]);
  }
  await assertRejects(
    () => Array.fromAsync(readBlobs(streamOf(bytes.subarray(0, 35), 8), { skip: 36 })),
    Deno.errors.UnexpectedEof,
    "only 0 of its 628 bytes arrived",
  );
});

Deno.test("sockets can be received behind what is not theirs", async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const stream = new TransformStream<Uint8Array, Uint8Array>();
  const sending = (async () => {
    const writer = stream.writable.getWriter();
    await writer.write(new Uint8Array(36));
    writer.releaseLock();
    await sendBlobs(stream.writable, [listener], Deno.pid);
    await stream.writable.close();
  })();
  const received = await Array.fromAsync(receiveBlobs(stream.readable, { skip: 36 }));
  await sending;
  assertEquals(received.map((socket) => socket instanceof Listener && socket.addr), [listener.addr]);
  for (const socket of received) socket.close();
});

Deno.test("what is no blob is refused", async () => {
  const garbage = new Uint8Array(628).fill(0xa5);
  await assertRejects(() => Array.fromAsync(receiveBlobs(streamOf(garbage, 628))), RangeError, "ProtocolChain");
  await assertRejects(
    () => Array.fromAsync(readBlobs(streamOf(garbage.slice(0, 372), 372), { form: "A" })),
    RangeError,
    "WSAPROTOCOL_INFOA",
  );
  assertThrows(() => toWide(new Uint8Array(628)), RangeError, "expected 372 bytes, got 628");
  assertThrows(() => toAnsi(new Uint8Array(372)), RangeError, "expected 628 bytes, got 372");
});

Deno.test("a stream that cannot be written takes no socket along", async () => {
  using pair = await connection();
  const child = spawnChild("silent.ts");
  try {
    const broken = new WritableStream({ write: () => Promise.reject(new Error("broken")) });
    await assertRejects(() => sendBlobs(broken, [pair.server], child.pid), Error, "broken");
  } finally {
    await endChild(child);
  }
  pair.server.close();
  using client = pair.client.toConn();
  assert(await readEnd(client));
  using closed = listen({ hostname: "127.0.0.1", port: 0 });
  closed.close();
  const { writable } = new TransformStream();
  await assertRejects(() => sendBlobs(writable, [closed], Deno.pid), WinsockError, "WSAENOTSOCK");
  assert(!writable.locked);
});

Deno.test("a child opens the blobs on its stdin", async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  using pair = await connection();
  const child = spawnChild("open.ts");
  try {
    const line = lines(child);
    assertEquals(await line(), "started");
    await sendBlobs(child.stdin, [listener, pair.server], child.pid);
    assertEquals([await line(), await line()], ["opened Listener", "opened Socket"]);
  } finally {
    await child.stdin.close().catch(() => {});
    await endChild(child);
  }
});

Deno.test({
  name: "the A form is what WSADuplicateSocketA writes",
  ignore: !windows,
  fn: async () => {
    using pair = await connection();
    const ansi = new WinsockProvider().duplicateSocketA(pair.server.handle, Deno.pid);
    assertEquals(toAnsi(toWide(ansi)), ansi);
    const [opened] = await Array.fromAsync(receiveBlobs(streamOf(ansi, 372), { form: "A" }));
    using socket = opened as Socket;
    assertEquals(socket.remoteAddr, pair.client.localAddr);
  },
});

/** Gives a connection to the program in C, and takes a connection and a listener from it. */
async function exchangeWithC(form: "W" | "A"): Promise<void> {
  using pair = await connection();
  using client = pair.client.toConn();
  const child = new Deno.Command(cProgram("share_socket"), {
    args: [`${Deno.pid}`, form],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  try {
    await sendBlobs(child.stdin, [pair.server], child.pid, { form });
    await child.stdin.close();
    assertEquals(await readText(client, 12), "hello from C");
    pair.server.close();
    assert(await readEnd(client));
    const opened: AnySocket[] = [];
    for await (const socket of receiveBlobs(child.stdout, { form })) if (opened.push(socket) === 2) break;
    const [theirs, listener] = opened as [Socket, Listener];
    assertEquals([theirs.constructor, listener.constructor], [Socket, Listener]);
    using conn = theirs.toConn();
    await writeText(conn, "Hello");
    assertEquals(await readText(conn, 5), "hELLO");
    using waiting = await connect({ port: listener.addr.port });
    using accepted = await within(10_000, listener.accept());
    assertEquals(accepted.remoteAddr, waiting.localAddr);
    listener.close();
    conn.close();
    assertEquals((await within(20_000, child.status)).code, 0);
  } finally {
    await endChild(child);
  }
}

for (const form of ["W", "A"] as const) {
  Deno.test({
    name: `a program in C opens our blob with WSASocket${form} and gives us sockets of its own`,
    ignore: !haveCPrograms(),
    fn: async () => {
      await exchangeWithC(form);
      // What is open after the first time are things every process opens once.
      const before = openStreams(Deno.pid).length;
      await exchangeWithC(form);
      await until(() => openStreams(Deno.pid).length <= before, "the descriptors are closed");
    },
  });
}

Deno.test("a SocketInformation is .NET's: bytes and options, and as JSON what its serializer writes", async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  using pair = await connection();
  using datagrams = listenDatagram({ hostname: "127.0.0.1", port: 0 });
  assertEquals(SocketInformationOptions, { NonBlocking: 1, Connected: 2, Listening: 4, UseOnlyOverlappedIO: 8 });
  for (const [socket, options] of [[listener, 4], [pair.server, 2], [datagrams, 1]] as const) {
    const information = duplicateSocketInformation(socket, Deno.pid);
    assertEquals([information.ProtocolInformation.byteLength, information.Options], [628, options]);
    WSAPROTOCOL_INFOW.decode(information.ProtocolInformation);
    const text = stringifySocketInformation(information);
    const base64 = information.ProtocolInformation.toBase64();
    assertEquals(text, `{"ProtocolInformation":"${base64}","Options":${options}}`);
    assertEquals(parseSocketInformation(text), information);
    using opened = await openSocketInformation(parseSocketInformation(text));
    assertEquals(opened.constructor, socket.constructor);
  }
});

Deno.test("text that is no SocketInformation is refused", () => {
  const blob = (length: number) => new Uint8Array(length).toBase64();
  assertThrows(() => parseSocketInformation("{"), SyntaxError);
  for (
    const value of [
      null,
      1,
      [],
      {},
      { ProtocolInformation: blob(628) },
      { ProtocolInformation: blob(627), Options: 2 },
      { ProtocolInformation: null, Options: 2 },
      { ProtocolInformation: blob(628), Options: "Connected" },
    ]
  ) {
    assertThrows(() => parseSocketInformation(JSON.stringify(value)), TypeError, "Cannot read a SocketInformation");
  }
});

Deno.test("a blob of a SocketInformation is for the process it was made for", async () => {
  using pair = await connection();
  const child = spawnChild("silent.ts");
  try {
    const information = duplicateSocketInformation(pair.server, child.pid);
    await assertRejects(() => openSocketInformation(information), WinsockError, "Cannot open a shared socket");
  } finally {
    await endChild(child);
  }
});
