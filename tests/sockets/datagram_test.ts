// UDP sockets, within one process.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  DatagramSocket,
  duplicateSocket,
  listen,
  listenDatagram,
  Listener,
  openSocket,
  WinsockError,
} from "@winsock/handoff";
import { INVALID_SOCKET, libc, ws2_32 } from "@winsock/handoff/ffi";
import { ADDRESSES, connection } from "../kit/connections.ts";
import { datagramSocket, receiveText, sendText } from "../kit/datagrams.ts";
import { needs } from "../kit/needs.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { loopback } from "../kit/native.ts";
import { until, within } from "../kit/process.ts";

for (const hostname of ADDRESSES) {
  Deno.test(`${hostname}: datagrams go both ways and keep their boundaries`, async () => {
    using server = datagramSocket(hostname);
    using client = datagramSocket(hostname);
    assertEquals([server.addr.transport, server.addr.hostname], ["udp", hostname]);
    for (const text of ["first", "", "third"]) await sendText(client, text, server.addr);
    for (const text of ["first", "", "third"]) assertEquals(await receiveText(server), [text, client.addr]);
    assertEquals(await server.send(new Uint8Array(1_000), client.addr), 1_000);
    assertEquals((await within(20_000, client.receive()))[0].byteLength, 1_000);
  });

  Deno.test(`${hostname}: the longest datagram arrives whole, a longer one is WSAEMSGSIZE`, async () => {
    using server = datagramSocket(hostname);
    using client = datagramSocket(hostname);
    const data = crypto.getRandomValues(new Uint8Array(65_507));
    // macOS sends no datagram that is longer than the buffer, of 9216 bytes at first.
    client.setOption("SO_SNDBUF", data.byteLength);
    assertEquals(await client.send(data, server.addr), data.byteLength);
    assertEquals((await within(20_000, server.receive()))[0], data);
    const tooLong = () => client.send(new Uint8Array(66_000), server.addr);
    const error = await assertRejects(
      tooLong,
      WinsockError,
      `Cannot send a datagram of 66000 bytes to ${hostname} port`,
    );
    assertEquals(error.codeName, "WSAEMSGSIZE");
  });

  Deno.test(`${hostname}: what does not fit into the buffer is lost, and nothing else`, async () => {
    using server = datagramSocket(hostname);
    using client = datagramSocket(hostname);
    for (const text of ["truncated", "next"]) await sendText(client, text, server.addr);
    const buffer = new Uint8Array(4);
    const [data, sender] = await within(20_000, server.receive(buffer));
    assertEquals([new TextDecoder().decode(data), sender], ["trun", client.addr]);
    assert(data.buffer === buffer.buffer);
    assertEquals(await receiveText(server), ["next", client.addr]);
  });

  Deno.test(`${hostname}: a duplicate within one process is of the same socket`, async () => {
    using server = datagramSocket(hostname);
    using client = datagramSocket(hostname);
    using duplicate = await openSocket(duplicateSocket(server, Deno.pid));
    assert(duplicate instanceof DatagramSocket && duplicate.handle !== server.handle);
    assertEquals(duplicate.addr, server.addr);
    server.setOption("SO_BROADCAST", true);
    assertEquals(duplicate.getOption("SO_BROADCAST"), true);
    const { addr } = server;
    server.close();
    await sendText(client, "still here", addr);
    assertEquals(await receiveText(duplicate), ["still here", client.addr]);
  });
}

Deno.test("a datagram socket on :: exchanges datagrams with IPv4 too", async () => {
  using server = listenDatagram({ hostname: "::", port: 0 });
  using client = datagramSocket();
  await sendText(client, "over IPv4", { ...client.addr, port: server.addr.port });
  const [text, sender] = await receiveText(server);
  assertEquals([text, sender.hostname], ["over IPv4", "::ffff:127.0.0.1"]);
  await sendText(server, "answer", sender);
  await sendText(server, "again", client.addr);
  assertEquals([(await receiveText(client))[0], (await receiveText(client))[0]], ["answer", "again"]);
});

Deno.test("receiving waits without blocking, in the order of the calls, and close wakes it at once", async () => {
  const server = datagramSocket();
  using client = datagramSocket();
  const waiting = [receiveText(server), receiveText(server)];
  let ticks = 0;
  const timer = setInterval(() => ticks++, 5);
  await until(() => ticks >= 5, "the event loop has run");
  clearInterval(timer);
  for (const text of ["one", "two"]) await sendText(client, text, server.addr);
  assertEquals((await Promise.all(waiting)).map(([text]) => text), ["one", "two"]);

  const pending = assertRejects(() => server.receive(), Deno.errors.Interrupted);
  await new Promise((resolve) => setTimeout(resolve, 30));
  server.close();
  await within(10_000, pending);
  await assertRejects(() => server.receive(), Deno.errors.BadResource);
});

Deno.test("closing a datagram socket ends its loop, and the port is free again", async () => {
  const server = datagramSocket();
  const { addr } = server;
  const loop = (async () => {
    let count = 0;
    for await (const [data] of server) count += data.byteLength;
    return count;
  })();
  using client = datagramSocket();
  await sendText(client, "ab", addr);
  await sendText(client, "", addr);
  await sendText(client, "c", addr);
  const duplicate = await openSocket(duplicateSocket(server, Deno.pid)) as DatagramSocket;
  await new Promise((resolve) => setTimeout(resolve, 100));
  server.close();
  assertEquals(await within(10_000, loop), 3);
  duplicate.close();
  using again = listenDatagram({ hostname: addr.hostname, port: addr.port });
  assertEquals(again.addr, addr);
});

Deno.test("the port of a datagram socket that was paused before it is closed is free at once", async () => {
  for (let round = 0; round < 20; round++) {
    const socket = datagramSocket();
    const { hostname, port } = socket.addr;
    const receiving = assertRejects(() => socket.receive(), Deno.errors.Interrupted);
    await new Promise((resolve) => setTimeout(resolve, 5));
    await socket.pause();
    socket.close();
    listenDatagram({ hostname, port }).close();
    await receiving;
  }
});

Deno.test("while receiving is paused datagrams wait in the system, and sending goes on", async () => {
  using server = datagramSocket();
  using client = datagramSocket();
  const received = receiveText(server);
  await new Promise((resolve) => setTimeout(resolve, 20));
  await within(10_000, server.pause());
  await sendText(client, "waits", server.addr);
  await sendText(server, "sent", client.addr);
  assertEquals(await receiveText(client), ["sent", server.addr]);
  using duplicate = await openSocket(duplicateSocket(server, Deno.pid)) as DatagramSocket;
  assertEquals(await receiveText(duplicate), ["waits", client.addr]);
  server.resume();
  await sendText(client, "resumed", server.addr);
  assertEquals(await received, ["resumed", client.addr]);
});

Deno.test("what has finished receiving still sends", async () => {
  using server: Deno.DatagramConn & DatagramSocket = datagramSocket();
  using client = datagramSocket();
  const loop = (async () => {
    for await (const _ of server);
  })();
  await new Promise((resolve) => setTimeout(resolve, 20));
  await within(10_000, server.finishReceiving());
  await within(10_000, loop);
  await assertRejects(() => server.receive(), Deno.errors.BadResource);
  await sendText(server, "an answer", client.addr);
  assertEquals(await receiveText(client), ["an answer", server.addr]);
});

Deno.test("a burst arrives whole, and the event loop runs meanwhile", async () => {
  using server = datagramSocket();
  using client = datagramSocket();
  const count = 200;
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  const sending = (async () => {
    for (let index = 0; index < count; index++) {
      await sendText(client, String(index), server.addr);
      if (index % 20 === 19) await new Promise((resolve) => setTimeout(resolve, 2));
    }
  })();
  for (let index = 0; index < count; index++) assertEquals((await receiveText(server))[0], String(index));
  await sending;
  clearInterval(timer);
  assert(ticks > 0);
});

// Wine passes on what Linux tells an unconnected socket, which is nothing: WSAECONNRESET is only met on Windows proper.
Deno.test("a port where nobody receives does not end receiving", async () => {
  using server = datagramSocket();
  using client = datagramSocket();
  const gone = datagramSocket();
  const { addr } = gone;
  gone.close();
  for (let count = 0; count < 3; count++) await sendText(server, "to nobody", addr);
  const received = receiveText(server);
  await new Promise((resolve) => setTimeout(resolve, 50));
  await sendText(client, "still receiving", server.addr);
  assertEquals((await received)[0], "still receiving");
});

const named = "what a connected socket's peer answers, that nobody has the port, does not end receiving";
Deno.test(named, needs("sending to an address on a connected socket"), async () => {
  using socket = datagramSocket();
  const peer = datagramSocket();
  const { addr } = peer;
  const { connect } = Deno.build.os === "windows" ? ws2_32() : libc();
  assertEquals(connect(socket.handle, loopback(addr.port), 16), 0);
  peer.close();
  await sendText(socket, "to nobody", addr);
  const received = receiveText(socket);
  await new Promise((resolve) => setTimeout(resolve, 50));
  using again = listenDatagram({ hostname: "127.0.0.1", port: addr.port });
  await sendText(again, "somebody now", socket.addr);
  assertEquals(await received, ["somebody now", addr]);
});

Deno.test("a datagram socket made from a handle owns it; a detached handle is the caller's", async () => {
  using server = datagramSocket();
  const { addr } = server;
  const pending = assertRejects(() => server.receive(), Deno.errors.Interrupted);
  await new Promise((resolve) => setTimeout(resolve, 20));
  const handle = server.detach();
  await within(10_000, pending);
  assertEquals(server.handle, INVALID_SOCKET);
  using again = DatagramSocket.fromHandle(handle);
  assertThrows(() => DatagramSocket.fromHandle(handle), TypeError, "already has an owner");
  using client = datagramSocket();
  await sendText(client, "taken over", addr);
  assertEquals((await receiveText(again))[0], "taken over");
});

Deno.test("what is no datagram socket is refused and left alone", async () => {
  using pair = await connection();
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const handles = [pair.client.detach(), listener.detach()];
  for (const [index, what] of ["connection", "listener"].entries()) {
    assertThrows(() => DatagramSocket.fromHandle(handles[index]!), TypeError, `it is a ${what}, not a datagram socket`);
  }
  if (Deno.build.os !== "windows") {
    using local = DatagramSocket.fromHandle<Deno.UnixAddr>(BigInt(libc().socket(1, 2, 0)));
    assertEquals(local.addr, { transport: "unixpacket", path: "" });
    for (const handle of handles) assertEquals(libc().close(handle), 0);
  }
});

Deno.test("a socket whose address cannot be read has no owner, and stays as it was", () => {
  const windows = Deno.build.os === "windows";
  const refused = (kind: typeof DatagramSocket | typeof Listener, handle: bigint) => {
    const messages = [1, 2].map(() => assertThrows(() => kind.fromHandle(handle), Error).message);
    assertEquals(messages[0], messages[1]);
    assert(!messages[0]!.includes("owner"), messages[0]);
  };
  if (windows) {
    // It is not bound.
    const handle = ws2_32().WSASocketW(2, 2, 17, null, 0, 1);
    refused(DatagramSocket, handle);
    // It is still blocking: receiving waits for the time limit.
    const limit = new Int32Array([300]);
    assertEquals(ws2_32().bind(handle, loopback(0), 16), 0);
    assertEquals(ws2_32().setsockopt(handle, 0xffff, 0x1006, limit, 4), 0);
    assertEquals(ws2_32().recv(handle, new Uint8Array(1), 1, 0), -1);
    assertEquals(ws2_32().WSAGetLastError(), 10060);
    assertEquals(ws2_32().closesocket(handle), 0);
    return;
  }
  // Sockets of netlink and of vsock, whose addresses are of another family. Not every system has them.
  const netlink = libc().socket(16, 2, 0);
  const vsock = libc().socket(40, 1, 0);
  const any = new Uint32Array([40, 2 ** 32 - 1, 2 ** 32 - 1, 0]);
  const listens = vsock !== -1 && libc().bind(BigInt(vsock), any, 16) === 0 && libc().listen(BigInt(vsock), 1) === 0;
  if (listens) refused(Listener, BigInt(vsock));
  if (netlink !== -1) refused(DatagramSocket, BigInt(netlink));
  for (const fd of [netlink, vsock]) if (fd !== -1) assertEquals(libc().close(BigInt(fd)), 0);
});

Deno.test("a closed datagram socket is a bad resource, keeps its address, and closing twice is nothing", async () => {
  using client = datagramSocket();
  const { addr } = client;
  const socket = datagramSocket();
  await sendText(socket, "x", addr);
  socket.close();
  socket.close();
  assertThrows(() => duplicateSocket(socket, Deno.pid), WinsockError, "WSAENOTSOCK");
  assertThrows(() => socket.getOption("SO_RCVBUF"), Deno.errors.BadResource, "WSAENOTSOCK");
  await assertRejects(() => socket.send(new Uint8Array(1), addr), Deno.errors.BadResource, "WSAENOTSOCK");
  await assertRejects(() => socket.receive(), Deno.errors.BadResource);
  assert(socket.addr.port > 0);
});

Deno.test("a UDP port is exclusive unless its sockets allow otherwise, and bad addresses get clear errors", async () => {
  using socket = datagramSocket();
  const { port } = socket.addr;
  const taken = assertThrows(() => listenDatagram({ hostname: "127.0.0.1", port, reuseAddress: true }), Error);
  const onWindows = Deno.build.os === "windows" && taken instanceof Deno.errors.PermissionDenied;
  assert(taken instanceof Deno.errors.AddrInUse || onWindows, taken.message);
  using first = listenDatagram({ hostname: "127.0.0.1", port: 0, reuseAddress: true });
  using second = listenDatagram({ hostname: "127.0.0.1", port: first.addr.port, reuseAddress: true });
  assertEquals(second.addr, first.addr);
  assertThrows(() => listenDatagram({ hostname: "::1%eth0", port: 0 }), TypeError, "must be an IP address, got");
  const nowhere = () => socket.send(new Uint8Array(1), { ...socket.addr, port: 65_536 });
  await assertRejects(nowhere, RangeError, "Invalid `port`: must be an integer from 0 to 65535, got 65536");
});

Deno.test("datagram sockets that waited leave no descriptor behind", async () => {
  await assertNothingLeaks(async () => {
    const server = datagramSocket();
    const pending = server.receive().catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 5));
    await server.pause();
    server.resume();
    await new Promise((resolve) => setTimeout(resolve, 5));
    server.close();
    await within(10_000, pending);
    assertThrows(() => listenDatagram({ hostname: "192.0.2.1", port: 1 }), Deno.errors.AddrNotAvailable);
  });
});
