// Node's own HTTP and TLS on connections by both paths, and a Deno that has only one of them.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { duplicateSocket, openSocket, type Socket } from "@winsock/handoff";
import http from "node:http";
import net from "node:net";
import process from "node:process";
import tls from "node:tls";
import { CERTIFICATE } from "../../examples/certificate.ts";
import { ADDRESSES, connection, readText } from "../kit/connections.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { endChild, lines, spawnChild, within } from "../kit/process.ts";

for (const native of [true, false]) {
  const path = native ? "native" : "by foreign functions";

  for (const hostname of ADDRESSES) {
    Deno.test(`${path}, ${hostname}: a node:net socket tells addresses, counts bytes, and times out`, async () => {
      using sockets = await connection(hostname);
      const [near, far] = [sockets.client.toNodeSocket({ native }), sockets.server.toNodeSocket({ native })];
      try {
        assertEquals(near instanceof net.Socket, native);
        assertEquals([near.localPort, near.remotePort], [far.remotePort, far.localPort]);
        assertEquals([near.remoteAddress, near.remoteFamily], [hostname, hostname.includes(":") ? "IPv6" : "IPv4"]);
        assertEquals([near.readyState, near.connecting, near.pending], ["open", false, false]);
        const timeout = Promise.withResolvers<void>();
        near.setTimeout(100, () => timeout.resolve());
        await within(10_000, timeout.promise);
        near.setTimeout(0);
        const data = Promise.withResolvers<Uint8Array>();
        far.once("data", (bytes: Uint8Array) => data.resolve(bytes));
        near.write("12345");
        assertEquals((await within(10_000, data.promise)).length, 5);
        assertEquals([near.bytesWritten, far.bytesRead], [5, 5]);
        const ended = Promise.withResolvers<void>();
        far.once("end", () => ended.resolve());
        near.destroySoon();
        await within(10_000, ended.promise);
        assert(near.destroyed);
      } finally {
        far.destroy();
      }
    });
  }

  Deno.test(`${path}: options set through the connection are the socket's`, async () => {
    using sockets = await connection();
    using observer = await openSocket(duplicateSocket(sockets.client, Deno.pid)) as Socket;
    sockets.client.setOption("TCP_NODELAY", true);
    sockets.client.setOption("SO_KEEPALIVE", true);
    using conn = sockets.client.toConn({ native });
    for (const on of [false, true, false]) {
      conn.setNoDelay(on);
      conn.setKeepAlive(on);
      assertEquals([observer.getOption("TCP_NODELAY"), observer.getOption("SO_KEEPALIVE")], [on, on]);
    }
  });

  Deno.test(`${path}: once closed, a connection sets nothing: its number may be another's`, async () => {
    using first = await connection();
    const conn = first.client.toConn({ native });
    conn.close();
    await new Promise((resolve) => setTimeout(resolve, 50));
    using second = await connection();
    assertThrows(() => conn.setNoDelay(true), Deno.errors.BadResource);
    assertThrows(() => conn.setKeepAlive(true), Deno.errors.BadResource);
    for (const socket of [second.client, second.server]) {
      assertEquals([socket.getOption("TCP_NODELAY"), socket.getOption("SO_KEEPALIVE")], [false, false]);
    }
  });

  Deno.test(`${path}: a stream nobody reads is closed when both sides have ended`, async () => {
    await assertNothingLeaks(async () => {
      using sockets = await connection();
      const [near, far] = [sockets.client.toNodeSocket({ native }), sockets.server.toNodeSocket({ native })];
      const closed = [near, far].map((socket) => {
        const { promise, resolve } = Promise.withResolvers<boolean>();
        socket.once("close", resolve);
        return promise;
      });
      near.end("bye");
      far.resume().once("end", () => far.end());
      assertEquals(await within(10_000, Promise.all(closed)), [false, false]);
      assertEquals([near.remoteAddress, near.localPort, near.pending], [undefined, undefined, true]);
    });
  });

  Deno.test(`${path}: times that are none are refused`, async () => {
    using sockets = await connection();
    const socket = sockets.client.toNodeSocket({ native });
    for (const time of [-1, NaN, Infinity]) assertThrows(() => socket.setTimeout(time), RangeError);
    assertThrows(() => socket.setTimeout("5" as unknown as number), TypeError);
    let early = false;
    socket.setTimeout(2 ** 33, () => early = true);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assertEquals(early, false);
    socket.destroy();
  });

  Deno.test(`${path}: node:http answers two requests on one connection`, async () => {
    const server = http.createServer((request, response) => {
      request.pipe(response);
    });
    Object.defineProperty(server, "listening", { value: true });
    using sockets = await connection();
    using client = sockets.client.toConn();
    server.emit("connection", sockets.server.toNodeSocket({ native }));
    for (const body of ["first", "other"]) {
      const request = `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
      await client.write(new TextEncoder().encode(request));
      let text = "";
      while (!text.endsWith("0\r\n\r\n")) text += await readText(client, 1);
      assert(text.startsWith("HTTP/1.1 200 OK\r\n") && text.includes(body), text);
    }
  });

  Deno.test(`${path}: node:tls serves and calls on handed sockets`, async () => {
    using sockets = await connection();
    const secureContext = tls.createSecureContext(CERTIFICATE);
    const server = new tls.TLSSocket(sockets.server.toNodeSocket({ native }), { isServer: true, secureContext });
    server.pipe(server);
    const client = tls.connect({
      socket: sockets.client.toNodeSocket({ native }),
      ca: CERTIFICATE.cert,
      servername: "localhost",
    });
    const sent = "over TLS ".repeat(20_000);
    client.write(sent);
    let received = "";
    const all = Promise.withResolvers<void>();
    client.on("data", (bytes) => {
      received += new TextDecoder().decode(bytes);
      if (received.length >= sent.length) all.resolve();
    });
    client.on("error", all.reject);
    await within(10_000, all.promise);
    assert(received === sent);
    client.destroy();
    server.destroy();
  });

  for (const kept of [true, false]) {
    Deno.test(`${path}: waiting ${kept ? "keeps" : "does not keep"} the process running`, async () => {
      const child = spawnChild("waiting.ts", [`${native}`, `${kept}`]);
      const line = lines(child);
      assertEquals([await line(), await line()], ["waiting", kept ? "read" : undefined]);
      assertEquals((await within(20_000, child.status)).code, 0);
      await endChild(child);
    });
  }
}

Deno.test("where Deno cannot adopt sockets, hand-offs work all the same", async () => {
  const child = spawnChild("unadoptable.ts", ["source"], ["--allow-run"]);
  const line = lines(child);
  assertEquals(await line(), "hello false");
  assertEquals((await within(20_000, child.status)).code, 0);
  await endChild(child);
});

Deno.test("where Deno cannot adopt sockets, asking it to is NotSupported and loses nothing", async () => {
  using sockets = await connection();
  const { binding } = process as unknown as { binding: unknown };
  class WithoutOpen {}
  for (
    const changed of [
      undefined,
      () => {
        throw new Error("No such module: tcp_wrap");
      },
      () => undefined,
      () => ({ TCP: WithoutOpen }),
    ]
  ) {
    Object.defineProperty(process, "binding", { value: changed, configurable: true });
    try {
      assertThrows(() => sockets.client.toNodeSocket({ native: true }), Deno.errors.NotSupported, "cannot adopt");
      assertThrows(() => sockets.client.toConn({ native: true }), Deno.errors.NotSupported);
      using other = await connection();
      const stream = other.client.toNodeSocket();
      assertEquals(stream instanceof net.Socket, false);
      stream.destroy();
    } finally {
      Object.defineProperty(process, "binding", { value: binding, configurable: true, writable: true });
    }
  }
  assertEquals(sockets.client.remoteAddr, sockets.server.localAddr);
});
