// What a version takes from the one before it, and what it does not.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  type AddressChange,
  connect,
  DatagramSocket,
  type HandoffChild,
  HandoffError,
  HandoffSource,
  inherit,
  type InheritOptions,
  listen,
  listenDatagram,
  type Listener,
  type ServerVersion,
  UpgradeError,
} from "@winsock/handoff";
import process from "node:process";
import { connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { injectingChild } from "../kit/handoffs.ts";
import { needs } from "../kit/needs.ts";
import { until, within } from "../kit/process.ts";

const VARIABLE = "WINSOCK_HANDOFF_PREDECESSOR";

Deno.test("the variable that tells of a predecessor is not passed on", async () => {
  Deno.env.set(VARIABLE, "0");
  using version = await inherit();
  assertEquals([version.predecessor, Deno.env.get(VARIABLE)], [undefined, undefined]);
});

Deno.test("a listener of a version has the options that it was made with", async () => {
  const v6 = { hostname: "::", port: 0, ipv6Only: true };
  using version = await inherit({ predecessor: 0 });
  using listener = version.listen("web", { ...v6, tcpBacklog: 5, transport: "tcp" });
  using datagrams = version.listenDatagram("dns", { ...v6, reuseAddress: true, loopback: false, transport: "udp" });
  assertEquals([listener, datagrams].map((made) => made.getOption("IPV6_V6ONLY")), [true, true]);
  assertEquals([datagrams.getOption("SO_REUSEADDR"), datagrams.getOption("IPV6_MULTICAST_LOOP")], [true, false]);
  const special: [option: "SO_REUSEPORT" | "IP_FREEBIND", name: string, has: boolean][] = [
    ["SO_REUSEPORT", "reusePort", Deno.build.os !== "windows"],
    ["IP_FREEBIND", "freeBind", Deno.build.os === "linux"],
  ];
  for (const [option, name, has] of special) {
    const options = { hostname: "127.0.0.1", port: 0, [name]: true };
    for (const make of [() => version.listen(name, options), () => version.listenDatagram(name, options)]) {
      if (!has) {
        assertThrows(make, Deno.errors.NotSupported, option);
        continue;
      }
      using made = make();
      assertEquals(made.getOption(option), true);
    }
  }
});

Deno.test(
  "a local listener of a version has the options that it was made with",
  needs("seqpacket sockets"),
  async () => {
    const folder = await Deno.makeTempDir();
    try {
      using version = await inherit({ predecessor: 0 });
      const path = `${folder}/socket`;
      using listener = version.listen("local", { path, backlog: 5, transport: "unix", type: "seqpacket" });
      await version.markReady();
      using client = await connect({ path, type: "seqpacket" });
      using accepted = await listener.accept();
      assertEquals(accepted.localAddr, { transport: "unix", path });
      client.close();
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
);

Deno.test("a version has the sockets that it is given, and closes the others when it is ready", async () => {
  using given = listen({ hostname: "127.0.0.1", port: 0 });
  using datagrams = listenDatagram({ hostname: "127.0.0.1", port: 0 });
  let closed = 0;
  using version = await inherit({
    predecessor: 0,
    sockets: {
      takeListener: (name) => name === "web" ? given : undefined,
      takeDatagramSocket: (name) => name === "dns" ? datagrams : undefined,
      close: () => closed++,
    },
  });
  const address = { hostname: "127.0.0.1", port: 0 };
  assertEquals(version.listen("web", address), given);
  assertEquals(version.listenDatagram("dns", address), datagrams);
  using other = version.listen("admin", address);
  assert(other.addr.port !== given.addr.port);
  assertEquals(closed, 0);
  await version.markReady();
  assertEquals(closed, 1);
});

/** Sends something to this process as if it were the next version of a server; returns how it does not become one. */
async function failWith(
  send: (source: HandoffSource, say: (bytes: Uint8Array<ArrayBuffer>) => void) => Promise<void>,
): Promise<Error> {
  const { child, input, exit, inject } = injectingChild();
  const source = new HandoffSource(child, { sendTimeout: 5_000 });
  const failed = assertRejects(() => inherit({ predecessor: 1, input }), Error);
  try {
    await send(source, inject);
    const error = await within(10_000, failed);
    assertEquals(await within(10_000, source.closed) instanceof HandoffError, true);
    return error;
  } finally {
    exit(0);
  }
}

Deno.test("what is no inheritance is refused and closed, and nothing more is read", async () => {
  for (const data of [undefined, "hello", { upgrade: 2 }, { upgrade: 1 }]) {
    using pair = await connection();
    using client = pair.client.toConn();
    const error = await failWith((source) => source.send(pair.server, { data }));
    assertEquals(error.constructor, TypeError, error.message);
    assertEquals(await within(10_000, readEnd(client)), true);
  }
});

Deno.test("of an inheritance that ends in an error nothing stays open", async () => {
  using conversation = await connection();
  using along = await connection();
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const error = await failWith(async (source, say) => {
    await source.send(conversation.server, {
      data: { upgrade: 1, listeners: ["http"], datagrams: ["echo"], connections: 1 },
    });
    await source.send(listener);
    await source.send(along.server);
    say(new Uint8Array(64).fill(255));
  });
  assertEquals([error instanceof HandoffError && error.outcome], ["channel-broken"], error.message);
  for (const { client } of [conversation, along]) {
    using conn = client.toConn();
    assertEquals(await within(10_000, readEnd(conn)), true);
  }
  await until(() => connect({ port }).then((socket) => (socket.close(), false), () => true), "nobody listens any more");
});

/** Makes this process the next version of a server of which a test says what it says. */
async function withPredecessor(
  test: (version: ServerVersion, conversation: Deno.Conn, along: Deno.Conn) => Promise<void>,
  named: readonly (readonly [string, Listener | DatagramSocket])[] = [],
  options: InheritOptions = {},
  announced: { served?: boolean } = {},
): Promise<void> {
  using conversation = await connection();
  using along = await connection();
  const stdin = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>();
  const status = Promise.withResolvers<Deno.CommandStatus>();
  const child = { pid: Deno.pid, stdin: stdin.writable, status: status.promise } as HandoffChild;
  const source = new HandoffSource(child, { sendTimeout: 5_000 });
  const inheriting = inherit({ ...options, predecessor: 1, input: stdin.readable });
  const [datagrams, listeners] = [true, false].map((kind) => {
    return named.filter(([, socket]) => socket instanceof DatagramSocket === kind);
  });
  const names = { listeners: listeners!.map(([name]) => name), datagrams: datagrams!.map(([name]) => name) };
  await source.send(conversation.server, { data: { upgrade: 1, ...names, connections: 1, ...announced } });
  for (const [, socket] of [...listeners!, ...datagrams!]) await source.send(socket);
  await source.send(along.server);
  using version = await within(10_000, inheriting);
  await source.close();
  using said = conversation.client.toConn();
  using client = along.client.toConn();
  await test(version, said, client);
}

/** Has it serve; returns whether its trial is over. */
async function beginTrial(version: ServerVersion, said: Deno.Conn): Promise<() => boolean> {
  let over = false;
  version.confirmed.then(() => over = true);
  const ready = version.markReady();
  assertEquals(await within(10_000, readText(said, 17)), '{"type":"ready"}\n');
  await writeText(said, '{"type":"activate"}\n');
  await within(10_000, ready);
  assertEquals(await within(10_000, readText(said, 19)), '{"type":"serving"}\n');
  return () => over;
}

Deno.test("a version answers at the end of its trial, and knows when it is over", async () => {
  await withPredecessor(async (version, said) => {
    const over = await beginTrial(version, said);
    await writeText(said, '{"type":"check"}\n');
    assertEquals(await within(10_000, readText(said, 17)), '{"type":"alive"}\n');
    assertEquals(over(), false);
    await writeText(said, '{"type":"confirm"}\n');
    await within(10_000, version.confirmed);
    const taken = version.takeConnections();
    assertEquals([taken.length, version.takeConnections().length], [1, 0]);
    for (const { socket } of taken) socket.close();
  });
});

Deno.test("a version that says twice that it is ready says so once to its predecessor", async () => {
  await withPredecessor(async (version, said) => {
    const twice = [version.markReady(), version.markReady()];
    assertEquals(await within(10_000, readText(said, 17)), '{"type":"ready"}\n');
    await writeText(said, '{"type":"activate"}\n');
    await within(10_000, Promise.all(twice));
    await version.markReady();
    assertEquals(await within(10_000, readText(said, 19)), '{"type":"serving"}\n');
    await writeText(said, '{"type":"check"}\n');
    assertEquals(await within(10_000, readText(said, 17)), '{"type":"alive"}\n');
  });
});

Deno.test("a version whose supervisor ends before it can serve does not accept beside the one that serves", async () => {
  const listener = listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  await withPredecessor(
    async (version, said, client) => {
      version.listen("http", { port });
      const serving = assertRejects(() => version.markReady(), UpgradeError, "another version serves");
      assertEquals(await within(10_000, readText(said, 17)), '{"type":"ready"}\n');
      said.close();
      const error = await within(10_000, serving);
      assertEquals(error.outcome, "crashed");
      assertEquals(await assertRejects(() => version.confirmed, UpgradeError), error);
      assertEquals(await within(10_000, readEnd(client)), true);
      await until(() => connect({ port }).then((socket) => (socket.close(), false), () => true), "it listens no more");
    },
    [["http", listener]],
    { onAddressChange: () => {} },
    { served: true },
  );
});

Deno.test("a version that paused retires if its supervisor ends after the next one serves, and else goes on", async () => {
  const pause = async (said: Deno.Conn) => {
    await writeText(said, '{"type":"pause"}\n');
    assertEquals(await within(10_000, readText(said, 18)), '{"type":"paused"}\n');
  };
  await withPredecessor(async (version, said) => {
    version.listen("http", { hostname: "127.0.0.1", port: 0 });
    await beginTrial(version, said);
    await pause(said);
    await writeText(said, '{"type":"replaced"}\n');
    said.close();
    await within(10_000, version.retired);
    await within(10_000, version.confirmed);
  });
  await withPredecessor(async (version, said) => {
    const listener = version.listen("http", { hostname: "127.0.0.1", port: 0 });
    await beginTrial(version, said);
    await pause(said);
    // What a later version of the library says does no harm.
    await writeText(said, '{"type":"replaced"}\n{"type":"unheard of"}\n{"type":"resume"}\n');
    await pause(said);
    said.close();
    using _client = await connect({ port: listener.addr.port });
    using _server = await within(10_000, listener.accept());
  });
});

Deno.test("the trial of a version is over when its predecessor ends", async () => {
  await withPredecessor(async (version, said, client) => {
    await beginTrial(version, said);
    said.close();
    await within(10_000, version.confirmed);
    for (const { socket } of version.takeConnections()) {
      using conn = socket.toConn();
      await writeText(conn, "mine");
    }
    assertEquals(await within(10_000, readText(client, 4)), "mine");
  });
});

Deno.test("a version that refuses is told that its trial never ends", async () => {
  await withPredecessor(async (version, said, client) => {
    await within(10_000, version.refuse("not today"));
    assertEquals(await within(10_000, readText(said, 100)), '{"type":"refuse","reason":"not today"}\n');
    const { outcome } = await within(10_000, assertRejects(() => version.confirmed, UpgradeError));
    assertEquals(outcome, "refused");
    assertEquals(await within(10_000, readEnd(client)), true, "nobody asked for the connection");
  });
});

Deno.test("a version that refuses, and never asks whether its trial is over, leaves no unhandled rejection", async () => {
  await withPredecessor(async (version) => {
    await within(10_000, version.refuse("not today"));
    // It would be told at the end of the turn.
    await new Promise((resolve) => setTimeout(resolve, 10));
  });
});

Deno.test("names are those of what was not taken, of listeners and of datagram sockets", async () => {
  const at = { hostname: "127.0.0.1", port: 0 };
  await withPredecessor((version) => {
    assertEquals([version.listenerNames, version.datagramNames], [["a", "b"], ["a"]]);
    version.listen("a", at);
    version.listenDatagram("a", at);
    assertEquals([version.listenerNames, version.datagramNames], [["b"], []]);
    return Promise.resolve();
  }, [["a", listen(at)], ["b", listen(at)], ["a", listenDatagram(at)]]);
});

Deno.test("of several sockets with one name each is taken in turn, or all at once, and the rest is closed", async () => {
  const at = { hostname: "127.0.0.1", port: 0 };
  const named = () =>
    [["a", listen(at)], ["b", listen(at)], ["a", listen(at)], ["a", listenDatagram(at)], ["a", listenDatagram(at)]] as [
      string,
      Listener | DatagramSocket,
    ][];
  const anyChange = { onAddressChange: () => {} };
  const taken: [string, Listener | DatagramSocket][] = named();
  const ports = taken.map(([, { addr }]) => addr.port);
  await withPredecessor(
    (version) => {
      assertEquals([version.listenerNames, version.datagramNames], [["a", "b", "a"], ["a", "a"]]);
      const listeners = [version.listen("a", at), version.listen("a", at)];
      const datagrams = [version.listenDatagram("a", at), version.listenDatagram("a", at)];
      assertEquals([...listeners, ...datagrams].map(({ addr }) => addr.port), ports.toSpliced(1, 1));
      assertThrows(() => version.listen("a", at), TypeError, 'Cannot take listener "a": it was taken already');
      assertThrows(() => version.listenDatagram("a", at), TypeError, 'Cannot take datagram socket "a"');
      assertEquals([version.listenerNames, version.datagramNames], [["b"], []]);
      return Promise.resolve();
    },
    taken,
    anyChange,
  );
  const all = named();
  const addresses = all.map(([, { addr }]) => addr.port);
  await withPredecessor(
    (version) => {
      const sockets = [...version.takeListeners("a"), ...version.takeDatagramSockets("a")];
      assertEquals(sockets.map(({ addr }) => (addr as Deno.NetAddr).port), addresses.toSpliced(1, 1));
      assertEquals([version.takeListeners("a"), version.takeDatagramSockets("a")], [[], []]);
      assertEquals(version.listenerNames, ["b"]);
      return Promise.resolve();
    },
    all,
    anyChange,
  );
  const rest = named();
  const [kept, , closed] = rest.map(([, { addr }]) => addr.port);
  await withPredecessor(
    async (version, said) => {
      version.listen("a", at);
      await beginTrial(version, said);
      await until(
        () => connect({ port: closed! }).then((socket) => (socket.close(), false), () => true),
        "the second one is closed",
      );
      (await connect({ port: kept! })).close();
    },
    rest,
    anyChange,
  );
});

/** What a version hears that asks for each of these, of one listener on 127.0.0.1. */
async function ask(
  port: number,
  onAddressChange: InheritOptions["onAddressChange"],
  version: (v: ServerVersion) => void,
) {
  const options = onAddressChange === undefined ? {} : { onAddressChange };
  const listener = listen({ hostname: "127.0.0.1", port });
  const bound = listener.addr.port;
  await withPredecessor((v) => Promise.resolve(version(v)), [["http", listener]], options);
  return bound;
}

Deno.test("another address under the same name is a warning, an error, or what a function makes of it", async () => {
  const heard: AddressChange[] = [];
  const change = (change: AddressChange) => void heard.push(change);
  // The same address, or any port of it.
  const port = await ask(0, change, (version) => version.listen("http", { hostname: "127.0.0.1", port: 0 }));
  for (const hostname of ["127.0.0.1", "localhost"]) {
    await ask(port, change, (version) => version.listen("http", { hostname, port: 0 }));
    await ask(port, change, (version) => version.listen("http", { hostname, port }));
  }
  // Names are those of their addresses.
  for (const hostname of ["127.1", "localhost"]) {
    await ask(port, change, (version) => version.listen("http", { hostname, port }));
  }
  assertEquals(heard, []);
  await ask(port, change, (version) => {
    assertEquals(version.listen("http", { port }).addr.port, port, "it is the predecessor's all the same");
  });
  const inherited = { transport: "tcp", hostname: "127.0.0.1", port } as const;
  assertEquals(heard.splice(0), [{ name: "http", asked: { hostname: "0.0.0.0", port }, inherited }]);
  await ask(port, change, (version) => version.listen("http", { path: "/tmp/s" }));
  assertEquals(heard.splice(0), [{ name: "http", asked: { path: "/tmp/s" }, inherited }]);
  await ask(port, "error", (version) => {
    const asking = () => version.listen("http", { hostname: "127.0.0.1", port: 1 });
    const { message } = assertThrows(asking, Deno.errors.AddrNotAvailable);
    assertEquals(
      message,
      `Cannot take the socket "http": it asks for 127.0.0.1 port 1, and the predecessor has 127.0.0.1 port ${port}`,
    );
    assertEquals(version.listenerNames, ["http"], "it stays untaken");
  });
  const warned = Promise.withResolvers<Error>();
  process.once("warning", warned.resolve);
  await ask(port, undefined, (version) => version.listen("http", { hostname: "::1", port }));
  const { name, message } = await within(10_000, warned.promise);
  assertEquals([name, message.startsWith('The socket "http" keeps its address')], ["AddressChangeWarning", true]);
  const wrong = { predecessor: 0, onAddressChange: "shrug" as "warn" };
  await assertRejects(() => inherit(wrong), TypeError, "Invalid `onAddressChange`");
});

Deno.test("the addresses of datagram sockets and of IPv6 are compared as well", async () => {
  const heard: string[] = [];
  const onAddressChange = ({ name }: AddressChange) => void heard.push(name);
  const udp = listenDatagram({ hostname: "::1", port: 0 });
  const { port } = udp.addr;
  await withPredecessor(
    (version) => {
      version.listenDatagram("dns", { hostname: "0:0:0:0:0:0:0:1", port });
      return Promise.resolve();
    },
    [["dns", udp]],
    { onAddressChange },
  );
  assertEquals(heard, []);
  await withPredecessor(
    (version) => {
      version.listenDatagram("dns", { hostname: "::", port });
      return Promise.resolve();
    },
    [["dns", listenDatagram({ hostname: "::1", port })]],
    { onAddressChange },
  );
  assertEquals(heard, ["dns"]);
});

Deno.test("a version knows when its predecessor has ended, and not when its own trial is over", async () => {
  await withPredecessor(async (version, said) => {
    let ended = false;
    version.predecessorEnded.then(() => ended = true);
    await beginTrial(version, said);
    await writeText(said, '{"type":"confirm"}\n');
    await within(10_000, version.confirmed);
    assertEquals(ended, false, "it still finishes what it has");
    said.close();
    await within(10_000, version.predecessorEnded);
    for (const { socket } of version.takeConnections()) socket.close();
  });
  using first = await inherit({ predecessor: 0 });
  await within(1_000, first.predecessorEnded);
});

Deno.test("a PID file is written when a version serves, and removed unless another version has written its own", async () => {
  const directory = await Deno.makeTempDir();
  const pidFile = `${directory}/server.pid`;
  const exists = () => Deno.stat(pidFile).then(() => true, () => false);
  try {
    await Deno.writeTextFile(pidFile, "1\n");
    for (const replaced of [false, true]) {
      const version = await inherit({ predecessor: 0, pidFile });
      assertEquals(await exists() ? await Deno.readTextFile(pidFile) : "", replaced ? "" : "1\n");
      await version.markReady();
      assertEquals(await Deno.readTextFile(pidFile), `${Deno.pid}\n`);
      if (replaced) await Deno.writeTextFile(pidFile, "2\n");
      version[Symbol.dispose]();
      assertEquals(await exists(), replaced);
    }
    // A version whose file cannot be written serves all the same.
    const warned = Promise.withResolvers<Error>();
    process.once("warning", warned.resolve);
    using version = await inherit({ predecessor: 0, pidFile: `${directory}/nowhere/server.pid` });
    const listener = version.listen("http", { hostname: "127.0.0.1", port: 0 });
    await version.markReady();
    assertEquals((await within(5_000, warned.promise)).name, "PidFileWarning");
    using client = await connect({ port: listener.addr.port });
    (await listener.accept()).close();
    assertEquals(await within(5_000, client.read(1)), null);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
