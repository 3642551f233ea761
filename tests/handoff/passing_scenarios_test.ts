// What Node's child_process and cluster, libuv's IPC and tableflip check of the handles that they pass: every kind of socket,
// to a child and to its parent.
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  type AnySocket,
  connect,
  DatagramSocket,
  type HandoffSource,
  type HandoffTarget,
  INVALID_SOCKET,
  listen,
  listenDatagram,
  Listener,
  type ReceiveOptions,
  type SendOptions,
  Socket,
  type SocketKind,
} from "@winsock/handoff";
import type { SocketAddr } from "../../ffi/socket_address.ts";
import { temporaryPaths, writeAll } from "../kit/connections.ts";
import { withInProcessPair } from "../kit/handoffs.ts";
import { needs } from "../kit/needs.ts";
import { within } from "../kit/process.ts";

const ALL_KINDS: ReceiveOptions = { kinds: ["connection", "listener", "datagram"] };
const encode = (text: string) => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array | null) => bytes === null ? null : new TextDecoder().decode(bytes);

const newPath = temporaryPaths();

/** A socket to pass, and what the world outside does with it. */
interface Passed extends Disposable {
  readonly socket: AnySocket;
  /** Puts something into it: bytes, a client or a datagram. */
  put(text: string): Promise<void>;
  /** Takes what was put, from whichever object has the socket, and answers it. */
  get(socket: AnySocket): Promise<string | null>;
}

type Make = () => Promise<Passed>;

function connectTo(addr: SocketAddr): Promise<Socket<SocketAddr>> {
  return "path" in addr ? connect({ path: addr.path }) : connect({ hostname: addr.hostname, port: addr.port });
}

/** A connection to a listener. */
function connections(listenAt: () => Listener<SocketAddr>): Make {
  return async () => {
    using listener = listenAt();
    const connecting = connectTo(listener.addr);
    const socket = await listener.accept();
    const client = (await connecting).toConn();
    return {
      socket,
      put: (text) => writeAll(client, encode(text)),
      get: async (there) => decode(await within(5_000, (there as Socket).read(100))),
      [Symbol.dispose]: () => client.close(),
    };
  };
}

/** A listener. What is put is a client that says something. */
function listeners(listenAt: () => Listener<SocketAddr>): Make {
  return () => {
    const socket = listenAt();
    const { addr } = socket;
    const clients: Deno.Conn[] = [];
    return Promise.resolve({
      socket,
      async put(text) {
        const conn = (await within(5_000, connectTo(addr))).toConn();
        clients.push(conn);
        await writeAll(conn, encode(text));
      },
      async get(there) {
        const accepted = await within(5_000, (there as Listener<SocketAddr>).accept());
        const text = decode(await within(5_000, accepted.read(100)));
        accepted.close();
        return text;
      },
      [Symbol.dispose]: () => clients.forEach((conn) => conn.close()),
    });
  };
}

/** A datagram socket. */
function datagrams(bind: () => DatagramSocket<SocketAddr>): Make {
  return () => {
    const [socket, sender] = [bind(), bind()];
    const { addr } = socket;
    return Promise.resolve({
      socket,
      put: async (text) => void await sender.send(encode(text), addr),
      get: async (there) => decode((await within(5_000, (there as DatagramSocket).receive()))[0]),
      [Symbol.dispose]: () => sender.close(),
    });
  };
}

const tcp = (hostname: string) => () => listen({ hostname, port: 0 }) as Listener<SocketAddr>;
const local = () => listen({ path: newPath() }) as Listener<SocketAddr>;
const udp = (hostname: string) => () => listenDatagram({ hostname, port: 0 }) as DatagramSocket<SocketAddr>;
const localDatagrams = () => listenDatagram({ transport: "unixpacket", path: newPath() }) as DatagramSocket<SocketAddr>;

const withLocal = needs("local sockets");

const SOCKETS: Record<string, { make: Make; ignore?: boolean }> = {
  "a connection over IPv4": { make: connections(tcp("127.0.0.1")) },
  "a connection over IPv6": { make: connections(tcp("::1")) },
  "a listener on IPv4": { make: listeners(tcp("127.0.0.1")) },
  "a listener on IPv6": { make: listeners(tcp("::1")) },
  "a datagram socket on IPv4": { make: datagrams(udp("127.0.0.1")) },
  "a datagram socket on IPv6": { make: datagrams(udp("::1")) },
  "a local connection": { make: connections(local), ...withLocal },
  "a local listener": { make: listeners(local), ...withLocal },
  "a local datagram socket": { make: datagrams(localDatagrams), ...withLocal },
};

/** Passing in one direction. */
interface Way {
  send(socket: AnySocket, options?: SendOptions): Promise<void>;
  /** The next socket on the other side, and its data. */
  next(): Promise<{ readonly socket: AnySocket; readonly data: unknown }>;
}

type Target = HandoffTarget<SocketKind>;

const WAYS: Record<string, (source: HandoffSource, target: Target) => Way> = {
  "to a child": (source, target) => ({
    send: (socket, options) => source.send(socket, options),
    next: async () => (await within(10_000, target.next())).value! as { socket: AnySocket; data: unknown },
  }),
  "to its parent": (source, target) => {
    const loop = source.messages[Symbol.asyncIterator]();
    return {
      send: (socket, options) => target.send(socket, options),
      next: async () => (await within(10_000, loop.next())).value as { socket: AnySocket; data: unknown },
    };
  },
};

async function pass(way: Way, socket: AnySocket, data?: unknown): Promise<AnySocket> {
  const [received] = await Promise.all([way.next(), way.send(socket, { data })]);
  return received.socket;
}

const addressOf = (socket: AnySocket) => socket instanceof Socket ? socket.localAddr : socket.addr;

const SCENARIOS: Record<string, (way: Way, make: Make) => Promise<void>> = {
  "is of the same kind there, and has the address that it had": async (way, make) => {
    using passed = await make();
    const address = addressOf(passed.socket);
    using there = await pass(way, passed.socket);
    const kinds = [Socket, Listener, DatagramSocket];
    assertEquals(kinds.map((kind) => there instanceof kind), kinds.map((kind) => passed.socket instanceof kind));
    assertEquals(addressOf(there), address);
  },
  "brings along what waited in it": async (way, make) => {
    using passed = await make();
    await passed.put("before");
    using there = await pass(way, passed.socket);
    assertEquals(await passed.get(there), "before");
  },
  "is gone here, and cannot be passed again": async (way, make) => {
    using passed = await make();
    const { socket } = passed;
    using _there = await pass(way, socket);
    assertEquals(socket.handle, INVALID_SOCKET);
    await assertRejects(() => way.send(socket), Error, "it was closed, handed off or released before");
    await assertRejects(() => passed.get(socket), Deno.errors.BadResource);
    socket.close();
  },
  "that was withdrawn before it was taken stays here, and works": async (way, make) => {
    using passed = await make();
    using socket = passed.socket;
    const abort = new AbortController();
    const sending = way.send(socket, { signal: abort.signal });
    // Nobody asks for it on the other side.
    setTimeout(() => abort.abort(new Error("changed my mind")), 20);
    await assertRejects(() => within(5_000, sending), Error, "changed my mind");
    assert(socket.handle !== INVALID_SOCKET);
    await passed.put("mine");
    assertEquals(await passed.get(socket), "mine");
  },
  "cannot be passed twice at the same time": async (way, make) => {
    using passed = await make();
    const sending = way.send(passed.socket);
    await assertRejects(() => way.send(passed.socket), TypeError, "Cannot hand off socket");
    using _there = (await way.next()).socket;
    await sending;
  },
  "goes on and on: passed ten times in a row it is still the same": async (way, make) => {
    using passed = await make();
    let { socket } = passed;
    const address = addressOf(socket);
    for (let round = 0; round < 10; round++) socket = await pass(way, socket, round);
    await passed.put("still here");
    assertEquals([addressOf(socket), await passed.get(socket)], [address, "still here"]);
    socket.close();
  },
  "comes with its data, in the order in which several were passed": async (way, make) => {
    const all = await Promise.all([make(), make(), make()]);
    const sending = Promise.all(all.map(({ socket }, index) => way.send(socket, { data: { index } })));
    for (const [index, passed] of all.entries()) {
      const { socket, data } = await way.next();
      assertEquals(data, { index });
      await passed.put(`number ${index}`);
      assertEquals(await passed.get(socket), `number ${index}`);
      socket.close();
      passed[Symbol.dispose]();
    }
    await sending;
  },
};

for (const [kind, { make, ignore = false }] of Object.entries(SOCKETS)) {
  for (const [direction, wayOf] of Object.entries(WAYS)) {
    for (const [what, scenario] of Object.entries(SCENARIOS)) {
      Deno.test(`${kind} passed ${direction} ${what}`, { ignore }, async () => {
        await withInProcessPair(async (source, target) => {
          await within(10_000, source.ready);
          await scenario(wayOf(source, target), make);
        }, ALL_KINDS);
      });
    }
  }
}
