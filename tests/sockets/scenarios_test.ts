// What the suites of others check of their sockets, for every kind of socket that there is: Deno's net tests (listen,
// dial, accept, iterate, close), CPython's and .NET's sharing (types, lengths, lifetime), libuv's handles over IPC.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  type AnySocket,
  connect,
  DatagramSocket,
  duplicateSocket,
  HandoffError,
  INVALID_SOCKET,
  listen,
  listenDatagram,
  Listener,
  openSocket,
  Socket,
  type SocketKind,
  WinsockError,
} from "@winsock/handoff";
import { AF, IPPROTO, SOCK, WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
import type { SocketAddr } from "../../ffi/socket_address.ts";
import { temporaryPaths, writeAll } from "../kit/connections.ts";
import { withInProcessPair } from "../kit/handoffs.ts";
import { needs } from "../kit/needs.ts";
import { within } from "../kit/process.ts";

const LIMIT_MS = 20_000;
const text = (bytes: Uint8Array | null | undefined) => bytes === null ? null : new TextDecoder().decode(bytes);
const bytes = (text: string) => new TextEncoder().encode(text);

const newPath = temporaryPaths();

/** Sockets that connect. */
interface Streams {
  readonly ignore: boolean;
  readonly type: number;
  listen(backlog?: number): Listener<SocketAddr>;
  connect(addr: SocketAddr, signal?: AbortSignal): Promise<Socket<SocketAddr>>;
}

function tcp(hostname: string): Streams {
  return {
    ignore: false,
    type: SOCK.SOCK_STREAM,
    listen: (tcpBacklog) => listen({ hostname, ...tcpBacklog === undefined ? {} : { tcpBacklog } }),
    connect(addr, signal) {
      const { port } = addr as Deno.NetAddr;
      return connect({ hostname, port, ...signal === undefined ? {} : { signal } });
    },
  };
}

function local(type: "stream" | "seqpacket", { ignore }: { ignore: boolean }): Streams {
  return {
    ignore,
    type: type === "stream" ? SOCK.SOCK_STREAM : SOCK.SOCK_SEQPACKET,
    listen: (backlog) => listen({ path: newPath(), type, ...backlog === undefined ? {} : { backlog } }),
    connect(addr, signal) {
      const { path } = addr as Deno.UnixAddr;
      return connect({ path, type, ...signal === undefined ? {} : { signal } });
    },
  };
}

const STREAMS: Record<string, Streams> = {
  "TCP over IPv4": tcp("127.0.0.1"),
  "TCP over IPv6": tcp("::1"),
  "local streams": local("stream", needs("local sockets")),
  "local messages": local("seqpacket", needs("seqpacket sockets")),
};

/** The two ends of a connection, and its listener. */
async function ends(streams: Streams) {
  const listener = streams.listen();
  const [client, server] = await Promise.all([streams.connect(listener.addr), within(LIMIT_MS, listener.accept())]);
  return {
    listener,
    client,
    server,
    [Symbol.dispose]() {
      for (const each of [client, server, listener]) each.close();
    },
  };
}

const STREAM_SCENARIOS: Record<string, (streams: Streams) => Promise<void>> = {
  async "a listener that is closed refuses accept, and closing it again is nothing"(streams) {
    const listener = streams.listen();
    listener.close();
    listener.close();
    await assertRejects(() => listener.accept(), Deno.errors.BadResource);
    for await (const _ of listener) throw new Error("a connection of a closed listener");
  },
  async "an accept that waits ends when its listener is closed"(streams) {
    const listener = streams.listen();
    const waiting = [listener.accept(), listener.accept()].map((each) =>
      assertRejects(() => each, Deno.errors.BadResource)
    );
    await new Promise((resolve) => setTimeout(resolve, 5));
    listener.close();
    await within(LIMIT_MS, Promise.all(waiting));
  },
  async "a loop that waits ends when its listener is closed"(streams) {
    const listener = streams.listen();
    const loop = (async () => {
      for await (const socket of listener) socket.close();
      return "over";
    })();
    (await streams.connect(listener.addr)).close();
    await new Promise((resolve) => setTimeout(resolve, 5));
    listener.close();
    assertEquals(await within(LIMIT_MS, loop), "over");
  },
  async "accepts that wait together get a connection each"(streams) {
    using listener = streams.listen();
    const accepting = [listener.accept(), listener.accept(), listener.accept()];
    const clients = await Promise.all([0, 1, 2].map(() => streams.connect(listener.addr)));
    const servers = await within(LIMIT_MS, Promise.all(accepting));
    assertEquals(new Set(servers.map(({ handle }) => handle)).size, 3);
    for (const socket of [...clients, ...servers]) socket.close();
  },
  async "both ends know both addresses"(streams) {
    using pair = await ends(streams);
    assertEquals(pair.client.remoteAddr, pair.listener.addr);
    assertEquals(pair.server.localAddr, pair.listener.addr);
    assertEquals(pair.server.remoteAddr, pair.client.localAddr);
  },
  async "bytes go both ways, and an end is read after them"(streams) {
    using pair = await ends(streams);
    using client = pair.client.toConn() as Deno.Conn;
    using server = pair.server.toConn() as Deno.Conn;
    for (const [from, to] of [[client, server], [server, client]] as const) {
      await writeAll(from, bytes("ping"));
      const buffer = new Uint8Array(10);
      assertEquals(await within(LIMIT_MS, to.read(buffer)), 4);
      assertEquals(text(buffer.subarray(0, 4)), "ping");
    }
    await (client as Deno.TcpConn).closeWrite();
    assertEquals(await within(LIMIT_MS, server.read(new Uint8Array(1))), null);
    await writeAll(server, bytes("after the end"));
    const buffer = new Uint8Array(20);
    assertEquals(text(buffer.subarray(0, await within(LIMIT_MS, client.read(buffer)) ?? 0)), "after the end");
  },
  async "ending one's side twice is nothing, and writing after it fails"(streams) {
    using pair = await ends(streams);
    using conn = pair.client.toConn() as Deno.TcpConn;
    await conn.closeWrite();
    await conn.closeWrite();
    await assertRejects(() => conn.write(bytes("x")), Deno.errors.BrokenPipe);
  },
  async "a read that waits ends with the peer's close, and one of this side is interrupted"(streams) {
    using pair = await ends(streams);
    const reading = pair.client.read(10);
    pair.server.close();
    assertEquals(await within(LIMIT_MS, reading), null);
    using other = await ends(streams);
    const interrupted = assertRejects(() => other.client.read(10), Deno.errors.Interrupted);
    other.client.close();
    await within(LIMIT_MS, interrupted);
  },
  async "a connection that is closed refuses every use"(streams) {
    using pair = await ends(streams);
    const conn = pair.client.toConn() as Deno.TcpConn;
    conn.close();
    await assertRejects(() => conn.read(new Uint8Array(1)), Deno.errors.BadResource);
    await assertRejects(() => conn.write(new Uint8Array(1)), Deno.errors.BadResource);
    pair.server.close();
    await assertRejects(() => pair.server.peek(1), Deno.errors.BadResource);
    assertThrows(() => pair.server.localAddr, Deno.errors.BadResource);
  },
  async "what waits in the backlog when a listener goes away is told"(streams) {
    const listener = streams.listen();
    using client = await streams.connect(listener.addr);
    listener.close();
    const outcome = await within(LIMIT_MS, client.read(1).catch((error: Error) => error));
    const reset = outcome instanceof Deno.errors.ConnectionReset || outcome instanceof Deno.errors.ConnectionAborted;
    assert(outcome === null || reset, String(outcome));
    await assertRejects(() => streams.connect(listener.addr), Error, "Cannot connect to");
  },
  async "a connection that comes before anybody accepts is not lost"(streams) {
    using listener = streams.listen();
    using client = await streams.connect(listener.addr);
    using conn = client.toConn() as Deno.Conn;
    await writeAll(conn, bytes("early"));
    await new Promise((resolve) => setTimeout(resolve, 5));
    using server = await within(LIMIT_MS, listener.accept());
    assertEquals(text(await within(LIMIT_MS, server.read(10))), "early");
  },
  async "a connect whose signal was aborted before makes nothing"(streams) {
    using listener = streams.listen();
    const reason = new Error("too late");
    await assertRejects(() => streams.connect(listener.addr, AbortSignal.abort(reason)), Error, "too late");
    using client = await streams.connect(listener.addr);
    using server = await within(LIMIT_MS, listener.accept());
    assertEquals(server.remoteAddr, client.localAddr);
  },
  async "a hundred connections one after the other leave each other alone"(streams) {
    using listener = streams.listen();
    for (let number = 0; number < 100; number++) {
      using client = await streams.connect(listener.addr);
      using conn = client.toConn() as Deno.Conn;
      await writeAll(conn, bytes(`${number}`));
      using server = await within(LIMIT_MS, listener.accept());
      assertEquals(text(await within(LIMIT_MS, server.read(10))), `${number}`);
    }
  },
  async "leaving the loop by break closes the listener"(streams) {
    const listener = streams.listen();
    using _client = await streams.connect(listener.addr);
    for await (const socket of listener) {
      socket.close();
      break;
    }
    await assertRejects(() => listener.accept(), Deno.errors.BadResource);
  },
};

for (const [name, streams] of Object.entries(STREAMS)) {
  for (const [what, run] of Object.entries(STREAM_SCENARIOS)) {
    Deno.test(`${name}: ${what}`, { ignore: streams.ignore }, () => run(streams));
  }
}

/** Datagram sockets. */
const DATAGRAMS: Record<string, { ignore: boolean; make(): DatagramSocket<SocketAddr> }> = {
  "UDP over IPv4": { ignore: false, make: () => listenDatagram({ hostname: "127.0.0.1" }) },
  "UDP over IPv6": { ignore: false, make: () => listenDatagram({ hostname: "::1" }) },
  "local datagrams": {
    ignore: needs("local sockets").ignore,
    make: () => listenDatagram({ transport: "unixpacket", path: newPath() }),
  },
};

const DATAGRAM_SCENARIOS: Record<string, (make: () => DatagramSocket<SocketAddr>) => Promise<void>> = {
  async "what is sent is received whole, with its sender"(make) {
    using pair = both(make);
    const [a, b] = pair.sockets;
    assertEquals(await a.send(bytes("hello"), b.addr), 5);
    assertEquals(await within(LIMIT_MS, b.receive()), [bytes("hello"), a.addr]);
    assertEquals(await b.send(bytes("back"), a.addr), 4);
    assertEquals(await within(LIMIT_MS, a.receive()), [bytes("back"), b.addr]);
  },
  async "receives that wait together get a datagram each, in order"(make) {
    using pair = both(make);
    const [a, b] = pair.sockets;
    const receiving = [b.receive(), b.receive(), b.receive()];
    for (const name of ["one", "two", "three"]) await a.send(bytes(name), b.addr);
    const received = await within(LIMIT_MS, Promise.all(receiving));
    assertEquals(received.map(([data]) => text(data)), ["one", "two", "three"]);
  },
  async "sends that go on together all arrive"(make) {
    using pair = both(make);
    const [a, b] = pair.sockets;
    await Promise.all(Array.from({ length: 5 }, (_, index) => a.send(new Uint8Array([index]), b.addr)));
    const received: number[] = [];
    for (let index = 0; index < 5; index++) received.push((await within(LIMIT_MS, b.receive()))[0][0]!);
    assertEquals(received.sort(), [0, 1, 2, 3, 4]);
  },
  async "an empty datagram is one"(make) {
    using pair = both(make);
    const [a, b] = pair.sockets;
    await a.send(new Uint8Array(0), b.addr);
    assertEquals(await within(LIMIT_MS, b.receive()), [new Uint8Array(0), a.addr]);
  },
  async "a datagram that is longer than the buffer is cut, and the next is whole"(make) {
    using pair = both(make);
    const [a, b] = pair.sockets;
    await a.send(bytes("longer"), b.addr);
    await a.send(bytes("next"), b.addr);
    assertEquals(text((await within(LIMIT_MS, b.receive(new Uint8Array(4))))[0]), "long");
    assertEquals(text((await within(LIMIT_MS, b.receive(new Uint8Array(4))))[0]), "next");
  },
  async "a loop that waits ends when its socket is closed, and closing it again is nothing"(make) {
    const socket = make();
    const loop = (async () => {
      for await (const _ of socket);
      return "over";
    })();
    await new Promise((resolve) => setTimeout(resolve, 5));
    socket.close();
    socket.close();
    assertEquals(await within(LIMIT_MS, loop), "over");
    await assertRejects(() => socket.receive(), Deno.errors.BadResource);
    await assertRejects(() => socket.send(new Uint8Array(1), socket.addr), Deno.errors.BadResource);
  },
  async "a socket can send to itself"(make) {
    using socket = make();
    await socket.send(bytes("me"), socket.addr);
    assertEquals(await within(LIMIT_MS, socket.receive()), [bytes("me"), socket.addr]);
  },
};

function both(make: () => DatagramSocket<SocketAddr>) {
  const sockets = [make(), make()] as const;
  return { sockets, [Symbol.dispose]: () => sockets.forEach((socket) => socket.close()) };
}

for (const [name, { ignore, make }] of Object.entries(DATAGRAMS)) {
  for (const [what, run] of Object.entries(DATAGRAM_SCENARIOS)) {
    Deno.test(`${name}: ${what}`, { ignore }, () => run(make));
  }
}

/** One socket of a kind to share, and what there is besides. */
interface Shared extends Disposable {
  readonly socket: AnySocket;
  readonly kind: SocketKind;
  readonly type: number;
  /** Whether bytes get to a socket that stands for this one, and back. */
  works(other: AnySocket): Promise<void>;
}

const SHARED: Record<string, { ignore: boolean; make(): Promise<Shared> }> = {};

for (const [name, streams] of Object.entries(STREAMS)) {
  const { ignore, type } = streams;
  SHARED[`a connection of ${name}`] = {
    ignore,
    async make() {
      const pair = await ends(streams);
      return {
        socket: pair.server,
        kind: "connection",
        type,
        async works(other) {
          assert(other instanceof Socket);
          using conn = pair.client.toConn() as Deno.Conn;
          await writeAll(conn, bytes("ping"));
          assertEquals(text(await within(LIMIT_MS, other.read(10))), "ping");
        },
        [Symbol.dispose]: () => pair[Symbol.dispose](),
      };
    },
  };
  SHARED[`a listener of ${name}`] = {
    ignore,
    make() {
      const listener = streams.listen();
      const { addr } = listener;
      return Promise.resolve({
        socket: listener,
        kind: "listener" as const,
        type,
        async works(other: AnySocket) {
          assert(other instanceof Listener);
          using client = await streams.connect(addr);
          using accepted = await within(LIMIT_MS, other.accept());
          assertEquals(accepted.remoteAddr, client.localAddr);
        },
        [Symbol.dispose]: () => listener.close(),
      });
    },
  };
}
for (const [name, { ignore, make }] of Object.entries(DATAGRAMS)) {
  SHARED[`a socket of ${name}`] = {
    ignore,
    make() {
      const socket = make();
      const { addr } = socket;
      return Promise.resolve({
        socket,
        kind: "datagram" as const,
        type: SOCK.SOCK_DGRAM,
        async works(other: AnySocket) {
          assert(other instanceof DatagramSocket);
          using sender = make();
          await sender.send(bytes("ping"), addr);
          assertEquals((await within(LIMIT_MS, other.receive()))[0], bytes("ping"));
        },
        [Symbol.dispose]: () => socket.close(),
      });
    },
  };
}

const addressOf = (socket: AnySocket) => socket instanceof Socket ? socket.localAddr : socket.addr;

/** What a blob must say of a socket, in the numbers of Winsock. */
function describe(socket: AnySocket, kind: SocketKind, type: number): number[] {
  const addr = addressOf(socket);
  if ("path" in addr) return [AF.AF_UNIX, type, 0];
  const protocol = kind === "datagram" ? IPPROTO.IPPROTO_UDP : IPPROTO.IPPROTO_TCP;
  return [addr.hostname.includes(":") ? AF.AF_INET6 : AF.AF_INET, type, protocol];
}

const SHARING_SCENARIOS: Record<string, (shared: Shared) => Promise<void>> = {
  async "a duplicate is of the same kind, type and address, and works when the first is closed"(
    { socket, kind, works, type },
  ) {
    const blob = duplicateSocket(socket, Deno.pid);
    assertEquals(blob.byteLength, 628);
    const { iAddressFamily, iSocketType, iProtocol } = WSAPROTOCOL_INFOW.decode(blob);
    assertEquals([iAddressFamily, iSocketType, iProtocol], describe(socket, kind, type));
    using other = await openSocket<SocketAddr>(blob, { kind: kind as "connection" });
    assertEquals(addressOf(other), addressOf(socket));
    socket.close();
    await works(other);
  },
  async "a duplicate of a duplicate is as good as the first"({ socket, works }) {
    using first = await openSocket<SocketAddr>(duplicateSocket(socket, Deno.pid));
    using second = await openSocket<SocketAddr>(duplicateSocket(first, Deno.pid));
    first.close();
    socket.close();
    await works(second);
  },
  async "an option set through one is seen through the other, and survives the first"({ socket }) {
    using other = await openSocket<SocketAddr>(duplicateSocket(socket, Deno.pid));
    const before = socket.getOption("SO_KEEPALIVE");
    socket.setOption("SO_KEEPALIVE", !before);
    assertEquals(other.getOption("SO_KEEPALIVE"), !before);
    socket.close();
    assertEquals(other.getOption("SO_KEEPALIVE"), !before);
  },
  async "bytes of another length, cut or garbled, are refused, and the blob itself is good afterwards"(
    { socket, works },
  ) {
    const blob = duplicateSocket(socket, Deno.pid);
    for (const length of [0, 1, 372, 627]) {
      await assertRejects(() => openSocket(blob.subarray(0, length)), RangeError);
    }
    await assertRejects(() => openSocket(new Uint8Array(629)), RangeError);
    await assertRejects(() => openSocket(new Uint8Array(628)), Error);
    using other = await openSocket<SocketAddr>(blob);
    await works(other);
  },
  async "a blob for a process that does not exist is not made, and the socket is as before"({ socket, works }) {
    for (const processId of [0x7fff_fff0, 0]) {
      assertThrows(() => duplicateSocket(socket, processId), WinsockError, "WSAEINVAL");
    }
    await works(socket);
  },
  async "once closed it cannot be shared, and its duplicate is not"({ socket, works }) {
    using other = await openSocket<SocketAddr>(duplicateSocket(socket, Deno.pid));
    socket.close();
    assertThrows(() => duplicateSocket(socket, Deno.pid), WinsockError, "WSAENOTSOCK");
    await works(other);
  },
  async "a wrong kind that is asked for is refused, and the socket stays open"({ socket, kind, works }) {
    for (const other of ["connection", "listener", "datagram"] as const) {
      if (other === kind) continue;
      const blob = duplicateSocket(socket, Deno.pid);
      await assertRejects(() => openSocket(blob, { kind: other as "connection" }), TypeError, `as a ${other}`);
    }
    await works(socket);
  },
};

const CLASSES = { connection: Socket, listener: Listener, datagram: DatagramSocket };
const KINDS = ["connection", "listener", "datagram"] as const;

const OWNING_SCENARIOS: Record<string, (shared: Shared) => Promise<void>> = {
  async "released and taken over by its number, it works"({ socket, kind, works }) {
    const handle = socket.detach();
    assertEquals(socket.handle, INVALID_SOCKET);
    using other = CLASSES[kind].fromHandle<SocketAddr>(handle);
    assertEquals(other.handle, handle);
    await works(other);
  },
  async "taken over as what it is not, it is refused, and stays open"({ socket, kind, works }) {
    const handle = socket.detach();
    for (const other of KINDS) {
      if (other === kind) continue;
      assertThrows(() => CLASSES[other].fromHandle(handle), TypeError, `socket ${handle}: it is a ${kind}`);
    }
    using again = CLASSES[kind].fromHandle<SocketAddr>(handle);
    await works(again);
  },
  async "while it has an owner, nothing else takes it over or closes it"({ socket, kind, works }) {
    assertThrows(() => CLASSES[kind].fromHandle(socket.handle), TypeError, "already has an owner");
    await works(socket);
  },
};

const HANDOFF_SCENARIOS: Record<string, (shared: Shared) => Promise<void>> = {
  async "handed off, it is the target's, with its data, and works there"({ socket, kind, works }) {
    const addr = addressOf(socket);
    await withInProcessPair(async (source, received) => {
      const sending = source.send(socket, { data: { kind } });
      const { value } = await received.next();
      await sending;
      assertEquals([value?.data, socket.handle], [{ kind }, INVALID_SOCKET]);
      using owner = value!.socket as AnySocket;
      assertEquals(addressOf(owner), addr);
      await works(owner);
    }, { kinds: KINDS });
  },
  async "rejected by the target, it is the source's again, and works"({ socket, works }) {
    await withInProcessPair(async (source, received) => {
      const sending = assertRejects(() => source.send(socket), HandoffError, "not today");
      const { value } = await received.next();
      await value!.reject("not today");
      await sending;
      await works(socket);
    }, { kinds: KINDS, autoAccept: false });
  },
  async "handed on by its second owner, it works in its third"({ socket, works }) {
    await withInProcessPair(async (source, received) => {
      const sending = source.send(socket);
      const { value: first } = await received.next();
      await sending;
      const again = source.send(first!.socket);
      const { value: second } = await received.next();
      await again;
      using owner = second!.socket as AnySocket;
      await works(owner);
    }, { kinds: KINDS });
  },
};

for (const [name, { ignore, make }] of Object.entries(SHARED)) {
  for (const [what, run] of Object.entries({ ...SHARING_SCENARIOS, ...OWNING_SCENARIOS, ...HANDOFF_SCENARIOS })) {
    Deno.test(`${name}: ${what}`, { ignore }, async () => {
      using shared = await make();
      await run(shared);
    });
  }
}
