// A peer that has ended its side before it sent anything to this object is answered all the same.
import { assert, assertEquals } from "@std/assert";
import { listen, type Socket } from "@winsock/handoff";
import { type HttpConnection, serveHttp } from "@winsock/handoff/http";
import http from "node:http";
import { writeAll } from "../kit/connections.ts";
import { until, within } from "../kit/process.ts";
import { isWine } from "../kit/wine.ts";

const MiB = 1024 ** 2;
const REQUEST = new TextEncoder().encode("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");

/** A socket whose peer has sent so much, all of which was read, and has ended its side; and the peer. */
async function halfClosed(sent: Uint8Array, unread: boolean): Promise<{ socket: Socket; peer: Deno.TcpConn }> {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const peer = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
  if (sent.length > 0) await peer.write(sent);
  await peer.closeWrite();
  const socket = await listener.accept();
  for (let rest = sent.length; rest > 0;) rest -= (await socket.read(rest))!.length;
  // What is there to be read is the end alone.
  assertEquals((await socket.peek(1)).length, 0);
  if (unread) socket.unread(sent);
  return { socket, peer };
}

/** All that comes, up to the end. */
async function received(peer: Deno.TcpConn): Promise<Uint8Array> {
  return await within(20_000, new Response(peer.readable).bytes());
}

/**
 * To a peer that has ended its side Wine sends no more than the system takes at once; it loses the rest, whoever writes it,
 * Deno's own connections too.
 */
const AT_LENGTH = { ignore: isWine() };

/** Ways of answering; each ends its side. */
const WAYS: Record<string, (socket: Socket, answer: Uint8Array) => Promise<void>> = {
  "toConn()": (socket, answer) => answerByConn(socket.toConn(), answer),
  "toConn({ native: true })": (socket, answer) => answerByConn(socket.toConn({ native: true }), answer),
  "toConn({ native: false })": (socket, answer) => answerByConn(socket.toConn({ native: false }), answer),
  "toNodeSocket()": (socket, answer) => answerByNode(socket, answer, true),
  "toNodeSocket({ native: false })": (socket, answer) => answerByNode(socket, answer, false),
};

async function answerByConn(conn: Deno.TcpConn, answer: Uint8Array): Promise<void> {
  await writeAll(conn, answer);
  await conn.closeWrite();
  conn.close();
}

async function answerByNode(socket: Socket, answer: Uint8Array, native: boolean): Promise<void> {
  const stream = socket.toNodeSocket({ native });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  stream.on("error", reject);
  stream.write(answer, (error) => error ? reject(error) : resolve());
  await promise;
  assertEquals(stream.bytesWritten, answer.length);
  stream.resume().end();
}

/** Answers a peer, and counts what it gets. */
async function assertAnswered(
  { socket, peer }: { socket: Socket; peer: Deno.TcpConn },
  answer: (socket: Socket, bytes: Uint8Array) => Promise<void>,
  size: number,
): Promise<void> {
  const [bytes] = await within(20_000, Promise.all([received(peer), answer(socket, new Uint8Array(size))]));
  assertEquals(bytes.length, size);
}

for (const [way, answer] of Object.entries(WAYS)) {
  for (const [size, options] of [[5, {}], [8 * MiB, AT_LENGTH]] as const) {
    Deno.test(`${way}: ${size} bytes in the turn it was made`, options, async () => {
      await assertAnswered(await halfClosed(new Uint8Array(0), false), answer, size);
    });

    Deno.test(`${way}: ${size} bytes, after others had read what the peer sent`, options, async () => {
      await assertAnswered(await halfClosed(new Uint8Array(100), false), answer, size);
    });
  }
}

for (const native of [true, false]) {
  Deno.test(`toNodeSocket({ native: ${native} }): 8 MiB after it has read the end`, AT_LENGTH, async () => {
    const { socket, peer } = await halfClosed(new Uint8Array(0), false);
    const stream = socket.toNodeSocket({ native });
    const ended = Promise.withResolvers<void>();
    stream.once("end", ended.resolve).resume();
    await within(20_000, ended.promise);
    // Several that wait are written together, and text is text.
    stream.cork();
    for (let count = 0; count < 8; count++) stream.write(new Uint8Array(MiB));
    stream.write("ünd", "utf8");
    stream.write("ü", "latin1");
    stream.uncork();
    stream.end();
    const bytes = await received(peer);
    assertEquals(bytes.length, 8 * MiB + 5);
    assertEquals([...bytes.subarray(8 * MiB)], [0xc3, 0xbc, 0x6e, 0x64, 0xfc]);
  });

  Deno.test(`toNodeSocket({ native: ${native} }): the end comes while much is being written`, AT_LENGTH, async () => {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const peer = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
    const stream = (await listener.accept()).toNodeSocket({ native });
    stream.end(new Uint8Array(16 * MiB));
    await until(() => stream.bytesWritten > 0, "something is written");
    await new Promise((resolve) => setTimeout(resolve, 50));
    await peer.closeWrite();
    await new Promise((resolve) => setTimeout(resolve, 50));
    assertEquals((await received(peer)).length, 16 * MiB);
    stream.resume();
  });

  Deno.test(`toNodeSocket({ native: ${native} }): what waits to be written is given up when it is destroyed`, async () => {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    using _peer = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
    const stream = (await listener.accept()).toNodeSocket({ native });
    const [written, closed] = [Promise.withResolvers<unknown>(), Promise.withResolvers<void>()];
    stream.on("error", () => {}).once("close", closed.resolve);
    stream.write(new Uint8Array(32 * MiB), written.resolve);
    await new Promise((resolve) => setTimeout(resolve, 50));
    stream.destroy();
    assert(await within(20_000, written.promise) instanceof Error);
    await within(20_000, closed.promise);
    assertEquals(listener.connectionCount, 0);
  });
}

/** The body of what comes, in bytes. */
async function bodyLength(peer: Deno.TcpConn): Promise<number> {
  const text = new TextDecoder("latin1").decode(await received(peer));
  assertEquals(text.split("\r\n")[0], "HTTP/1.1 200 OK");
  return text.length - text.indexOf("\r\n\r\n") - 4;
}

for (const native of [true, false]) {
  for (const encoding of ["utf8", "latin1"] as const) {
    Deno.test(
      `node:http on toNodeSocket({ native: ${native} }): ${encoding} to a request that others have read`,
      AT_LENGTH,
      async () => {
        const { socket, peer } = await halfClosed(REQUEST, false);
        socket.unread(REQUEST.subarray(10));
        const server = http.createServer((_, response) => void response.end("x".repeat(8 * MiB), encoding));
        Object.assign(server, { httpAllowHalfOpen: true });
        const stream = socket.toNodeSocket({ native });
        // One may have kept some of it oneself.
        stream.unshift(REQUEST.subarray(0, 10));
        server.emit("connection", stream);
        assertEquals(await bodyLength(peer), 8 * MiB);
      },
    );
  }
}

for (const engine of ["node:http", "Deno.serve"] as const) {
  Deno.test(`serveHttp by ${engine}: a client that has ended its side, and whose request others have read`, async () => {
    const { socket, peer } = await halfClosed(REQUEST, true);
    async function* connections(): AsyncGenerator<HttpConnection> {
      yield { socket };
    }
    const server = serveHttp(connections(), () => new Response("answered"), { engine, shutdownTimeout: 100 });
    assertEquals(await bodyLength(peer), 8);
    await within(20_000, server.shutdown());
  });
}
