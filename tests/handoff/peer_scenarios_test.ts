// What the users of other means expect: passing handles with child_process and cluster, upgrades as other servers do them.
// One table of scenarios, each named by what it checks; those that other files show already are not here.
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  type AnySocket,
  connect,
  HandoffError,
  type HandoffSource,
  INVALID_SOCKET,
  listen,
  listenDatagram,
  Listener,
  type receive,
  type ReceiveOptions,
  Socket,
} from "@winsock/handoff";
import { connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { duplicates, outcome, withInProcessPair } from "../kit/handoffs.ts";
import { within } from "../kit/process.ts";

/** A source and its target, in this process. */
interface Pair {
  readonly source: HandoffSource;
  readonly target: ReturnType<typeof receive>;
  exit(code: number): void;
}

/** Hands a socket off; returns what the target gets. */
async function give<S extends AnySocket>({ source, target }: Pair, socket: S, data?: unknown): Promise<S> {
  const [{ value }] = await within(10_000, Promise.all([target.next(), source.send(socket, { data })]));
  return value!.socket as AnySocket as S;
}

/** Hands a socket back; returns what the source gets. */
async function giveBack<S extends AnySocket>({ source, target }: Pair, socket: S, data?: unknown): Promise<S> {
  const loop = source.messages[Symbol.asyncIterator]();
  const [{ value }] = await within(10_000, Promise.all([loop.next(), target.send(socket, { data })]));
  assert(value !== undefined && value.socket !== undefined);
  assertEquals(value.data, data);
  return value.socket as AnySocket as S;
}

const local = { hostname: "127.0.0.1", port: 0 };

const ALL_KINDS: ReceiveOptions = { kinds: ["connection", "listener", "datagram"] };

const SCENARIOS: Record<string, (pair: Pair) => Promise<void>> = {
  "what the client sent before the connection was passed is read by the receiver": async (pair) => {
    using ends = await connection();
    using client = ends.client.toConn();
    await writeText(client, "early");
    using conn = (await give(pair, ends.server)).toConn();
    assertEquals(await readText(conn, 5), "early");
  },
  "a client that ended its side before the connection was passed is read to the end and answered": async (pair) => {
    using ends = await connection();
    using client = ends.client.toConn();
    await writeText(client, "bye");
    await client.closeWrite();
    using conn = (await give(pair, ends.server)).toConn();
    assertEquals([await readText(conn, 3), await readEnd(conn)], ["bye", true]);
    await writeText(conn, "answer");
    conn.close();
    assertEquals(await readText(client, 100), "answer");
  },
  "a connection that was reset before it was passed is passed, and the reset is the receiver's to see": async (
    pair,
  ) => {
    const ends = await connection();
    ends.client.setOption("SO_LINGER", 0);
    ends.client.close();
    await new Promise((resolve) => setTimeout(resolve, 50));
    using there = await give(pair, ends.server);
    await assertRejects(() => within(5_000, there.read(1)), Deno.errors.ConnectionReset);
  },
  "addresses are those of the connection, on whichever side it is": async (pair) => {
    using ends = await connection();
    const { localAddr, remoteAddr } = ends.server;
    const there = await give(pair, ends.server);
    assertEquals([there.localAddr, there.remoteAddr], [localAddr, remoteAddr]);
    using back = await giveBack(pair, there);
    assertEquals([back.localAddr, back.remoteAddr], [localAddr, remoteAddr]);
  },
  "options go there and back": async (pair) => {
    using ends = await connection();
    ends.server.setOption("TCP_NODELAY", true);
    const there = await give(pair, ends.server);
    there.setOption("SO_KEEPALIVE", true);
    using back = await giveBack(pair, there);
    assertEquals([back.getOption("TCP_NODELAY"), back.getOption("SO_KEEPALIVE")], [true, true]);
  },
  "a listener goes there and back, and no client that connects meanwhile is refused": async (pair) => {
    const listener = listen(local);
    const { port } = listener.addr;
    const clients = [await connect({ port })];
    const there = await give(pair, listener);
    clients.push(await connect({ port }));
    (await there.accept()).close();
    using back = await giveBack(pair, there);
    clients.push(await connect({ port }));
    assert(back instanceof Listener);
    for (let count = 0; count < 2; count++) (await within(5_000, back.accept())).close();
    for (const client of clients) {
      assertEquals(await within(5_000, client.read(1)), null);
      client.close();
    }
  },
  "the port of a listener that was passed and closed there is free": async (pair) => {
    const listener = listen(local);
    const { port } = listener.addr;
    (await give(pair, listener)).close();
    using again = listen({ hostname: "127.0.0.1", port });
    assertEquals(again.addr.port, port);
  },
  "a datagram that waits is received by whoever has the socket": async (pair) => {
    const socket = listenDatagram(local);
    using sender = listenDatagram(local);
    await sender.send(new TextEncoder().encode("one"), socket.addr);
    const there = await give(pair, socket);
    const [first] = await within(5_000, there.receive());
    await sender.send(new TextEncoder().encode("two"), there.addr);
    using back = await giveBack(pair, there);
    const [second] = await within(5_000, back.receive());
    assertEquals([first, second].map((bytes) => new TextDecoder().decode(bytes)), ["one", "two"]);
  },
  "one of two descriptors of a connection is passed, and the other goes on": async (pair) => {
    using ends = await connection();
    using client = ends.client.toConn();
    const [copy] = await duplicates(ends.server, 1);
    const there = await give(pair, copy!);
    there.close();
    using conn = ends.server.toConn();
    await writeText(conn, "still here");
    assertEquals(await readText(client, 10), "still here");
  },
  "messages and sockets each keep their order": async (pair) => {
    const { source, target } = pair;
    using ends = await connection();
    const copies = await duplicates(ends.server, 5);
    const sent = Promise.all(
      copies.flatMap((copy, index) => [source.send(copy, { data: index }), source.postMessage(index)]),
    );
    const messages = target.messages[Symbol.asyncIterator]();
    for (let index = 0; index < 5; index++) {
      const { value } = await within(5_000, target.next());
      assertEquals(value!.data, index);
      value!.socket.close();
      assertEquals((await within(5_000, messages.next())).value, index);
    }
    await sent;
  },
  "a message of every JSON type is the same on the other side, and undefined members are left out": async (pair) => {
    const messages = pair.target.messages[Symbol.asyncIterator]();
    const sent = [null, false, 0, -0.5, "", "\u{1f600}", [], {}, { a: [1, { b: null }] }, { gone: undefined }];
    for (const message of sent) {
      const [{ value }] = await within(5_000, Promise.all([messages.next(), pair.source.postMessage(message)]));
      assertEquals(value, JSON.parse(JSON.stringify(message)));
    }
  },
  "a message with a member named __proto__ changes no prototype": async (pair) => {
    const messages = pair.source.messages[Symbol.asyncIterator]();
    const hostile = JSON.parse('{"__proto__": {"admin": true}}');
    const [{ value }] = await within(5_000, Promise.all([messages.next(), pair.target.postMessage(hostile)]));
    assertEquals(({} as { admin?: boolean }).admin, undefined);
    assertEquals(Object.keys((value as { data: object }).data), ["__proto__"]);
  },
  "no message is an error, not an empty one: undefined, functions and symbols": async (pair) => {
    for (const message of [() => {}, Symbol("x")]) {
      await assertRejects(() => pair.source.postMessage(message), TypeError, "Invalid `message`: must be a JSON value");
    }
  },
  "what is no socket is refused, whatever it is": async (pair) => {
    for (const socket of [null, undefined, {}, 7, "socket", Deno.stdin]) {
      for (const send of [pair.source, pair.target]) {
        await assertRejects(() => send.send(socket as unknown as Socket), TypeError);
      }
    }
  },
  "a socket that was passed cannot be passed again, or used": async (pair) => {
    using ends = await connection();
    (await give(pair, ends.server)).close();
    const { server } = ends;
    await assertRejects(() => pair.source.send(server), Error, "it was closed, handed off or released before");
    await assertRejects(() => server.read(1), Deno.errors.BadResource);
    assertEquals(server.handle, INVALID_SOCKET);
  },
  "a connection of which a stream was made cannot be handed back": async (pair) => {
    using ends = await connection();
    const there = await give(pair, ends.server);
    using _conn = there.toConn();
    await assertRejects(() => pair.target.send(there), Error, "it was closed, handed off or released before");
  },
  "what waits when the other process ends comes back, with its exit code": async ({ source, target, exit }) => {
    using ends = await connection();
    const sending = source.send(ends.server).catch((error) => error);
    const posting = source.postMessage("nobody listens").catch((error) => error);
    await new Promise((resolve) => setTimeout(resolve, 50));
    exit(9);
    for (const error of await within(5_000, Promise.all([sending, posting]))) {
      assert(error instanceof HandoffError);
      assertEquals([error.outcome, error.exitCode], ["target-exited", 9]);
    }
    assert(ends.server.handle !== INVALID_SOCKET);
    await target.return();
  },
  "after the source has disconnected both say so, and what was passed goes on": async (pair) => {
    using ends = await connection();
    using client = ends.client.toConn();
    const there = await give(pair, ends.server);
    await pair.source.close();
    assertEquals((await within(5_000, pair.target.next())).done, true);
    assertEquals((await outcome(pair.source.postMessage(1)))[0], "closed");
    assertEquals((await outcome(pair.target.postMessage(1)))[0], "closed");
    using conn = there.toConn();
    await writeText(conn, "after");
    assertEquals(await readText(client, 5), "after");
  },
  "closing twice, and leaving twice, is nothing": async ({ source, target }) => {
    await Promise.all([source.close(), source.close()]);
    await target.return();
    await target.return();
    target.ref();
    target.unref();
  },
  "a hundred connections are passed at once and come back, each the one it was": async (pair) => {
    const clients: Socket[] = [];
    using listener = listen(local);
    const { port } = listener.addr;
    const sockets: Socket[] = [];
    for (let count = 0; count < 100; count++) {
      clients.push(await connect({ port }));
      sockets.push(await listener.accept());
    }
    const ports = sockets.map(({ remoteAddr }) => remoteAddr.port);
    const sent = Promise.all(sockets.map((socket, data) => pair.source.send(socket, { data })));
    const backwards: Promise<void>[] = [];
    const back = (async () => {
      const seen = new Map<number, number>();
      for await (const { socket, data } of pair.source.messages) {
        assert(socket instanceof Socket);
        seen.set(data as number, (socket as Socket).remoteAddr.port);
        socket.close();
        if (seen.size === 100) return seen;
      }
      return seen;
    })();
    for (let count = 0; count < 100; count++) {
      const { value } = await within(10_000, pair.target.next());
      backwards.push(pair.target.send(value!.socket, { data: value!.data }));
    }
    const seen = await within(20_000, back);
    await Promise.all([sent, ...backwards]);
    assertEquals([...seen].toSorted(([a], [b]) => a - b).map(([_, port]) => port), ports);
    for (const client of clients) client.close();
  },
  "a large message does not hold up a connection, and the other way round": async (pair) => {
    const { source, target } = pair;
    const large = "x".repeat(1_000_000);
    using ends = await connection();
    const posting = Promise.all([source.postMessage(large), target.postMessage(large)]);
    using there = await give(pair, ends.server);
    assert(there.handle !== INVALID_SOCKET);
    const [one, other] = await within(
      10_000,
      Promise.all([
        target.messages[Symbol.asyncIterator]().next(),
        source.messages[Symbol.asyncIterator]().next(),
      ]),
    );
    await posting;
    assertEquals([one.value, (other.value as { data: unknown }).data], [large, large]);
  },
};

for (const [name, scenario] of Object.entries(SCENARIOS)) {
  Deno.test(name, async () => {
    await withInProcessPair((source, target, exit) => scenario({ source, target, exit }), ALL_KINDS);
  });
}
