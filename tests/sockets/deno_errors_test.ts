// What a program written for Deno's own sockets meets: the same errors, shapes and ways of closing.
import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import {
  connect,
  type ConnectLocalOptions,
  type ConnectOptions,
  DatagramSocket,
  duplicateSocket,
  listen,
  listenDatagram,
  Listener,
  type ListenLocalOptions,
  type ListenOptions,
  openSocket,
  Socket,
  WinsockError,
} from "@winsock/handoff";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { needs } from "../kit/needs.ts";
import { FFI_GRANT, RUN, within } from "../kit/process.ts";
import { moduleUrl } from "../kit/run.ts";

const onWindows = Deno.build.os === "windows";
const withLocal = needs("local sockets");
const loopback = { hostname: "127.0.0.1", port: 0 } as const;

/** What the scenarios use of Deno, and of the library in its place. */
interface Net {
  listen(options: Deno.TcpListenOptions & { transport?: "tcp" }): Accepts;
  listen(options: Deno.UnixListenOptions & { transport: "unix" }): Accepts;
  connect(options: Deno.ConnectOptions): Promise<Deno.Conn>;
  connect(options: Deno.UnixConnectOptions): Promise<Deno.Conn>;
}

interface Accepts extends AsyncIterable<Disposable> {
  readonly addr: Deno.Addr;
  accept(): Promise<Deno.Conn>;
  close(): void;
}

/** The library's sockets as a Deno program uses them: `toConn` is all that is added. */
const OURS: Net = {
  listen: (options: ListenOptions | ListenLocalOptions) => {
    const listener = "path" in options ? listen(options) : listen(options);
    return {
      addr: listener.addr,
      accept: async () => (await listener.accept()).toConn(),
      close: () => listener.close(),
      [Symbol.asyncIterator]: () => listener[Symbol.asyncIterator](),
    };
  },
  connect: async (options: ConnectOptions | ConnectLocalOptions) => {
    return "path" in options ? (await connect(options)).toConn() : (await connect(options)).toConn();
  },
};

function portOf({ addr }: { readonly addr: Deno.Addr }): number {
  return (addr as Deno.NetAddr).port;
}

/** A port on which no process listens. */
function freePort(): number {
  const listener = Deno.listen(loopback);
  listener.close();
  return portOf(listener);
}

/** What becomes of a call: its error's class and code, or the result. */
async function outcome(call: () => unknown): Promise<unknown> {
  try {
    const result = await within(20_000, Promise.resolve(call()));
    if (typeof (result as Disposable | undefined)?.[Symbol.dispose] === "function") {
      (result as Disposable)[Symbol.dispose]();
    }
    return "nothing thrown";
  } catch (error) {
    const { code } = error as { code?: string };
    return code === undefined ? (error as Error).constructor.name : `${(error as Error).constructor.name} ${code}`;
  }
}

async function closedListener(net: Net): Promise<Accepts> {
  const listener = net.listen(loopback);
  listener.close();
  await new Promise((resolve) => setTimeout(resolve, 20));
  return listener;
}

/** Calls that fail, as a program makes them. */
const FAILURES: Readonly<Record<string, (net: Net) => unknown>> = {
  "a port that is taken": (net) => {
    using listener = Deno.listen(loopback);
    return net.listen({ ...loopback, port: portOf(listener) });
  },
  "an address of another host": (net) => net.listen({ hostname: "192.0.2.1", port: 0 }),
  "no process listens": (net) => net.connect({ hostname: "127.0.0.1", port: freePort() }),
  "no process listens on [::1]": (net) => net.connect({ hostname: "[::1]", port: freePort() }),
  "a port from 65536 on": (net) => net.listen({ port: 65_536 }),
  "a negative port": (net) => net.listen({ port: -1 }),
  "a port that is not an integer": (net) => net.listen({ port: 1.5 }),
  "a port that is not a number": (net) => net.listen({ port: "8x" as unknown as number }),
  "a connect without a port": (net) => net.connect({ hostname: "127.0.0.1" } as Deno.ConnectOptions),
  "accepting on a closed listener": async (net) => (await closedListener(net)).accept(),
  "a listener that is closed while accept waits": async (net) => {
    const listener = net.listen(loopback);
    const accepting = listener.accept();
    accepting.catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 20));
    listener.close();
    return await accepting;
  },
  "accepting after the loop was left": async (net) => {
    const listener = net.listen(loopback);
    using _client = await Deno.connect({ hostname: "127.0.0.1", port: portOf(listener) });
    for await (const socket of listener) {
      socket[Symbol.dispose]();
      break;
    }
    return await listener.accept();
  },
  "a connection that is closed while it is read": async (net) => {
    using listener = Deno.listen(loopback);
    const conn = await net.connect({ hostname: "127.0.0.1", port: portOf(listener) });
    using _server = await listener.accept();
    const reading = conn.read(new Uint8Array(1));
    reading.catch(() => {});
    conn.close();
    return await reading;
  },
};

/** Those of local sockets. */
const LOCAL_FAILURES: Readonly<Record<string, (net: Net, directory: string) => unknown>> = {
  "no such file": (net, directory) => net.connect({ transport: "unix", path: `${directory}/none` }),
  "no such directory": (net, directory) => net.listen({ transport: "unix", path: `${directory}/none/socket` }),
  "a file in place of a directory": (net, directory) => {
    Deno.writeTextFileSync(`${directory}/file`, "");
    return net.listen({ transport: "unix", path: `${directory}/file/socket` });
  },
  "a path that is taken": (net, directory) => {
    using _listener = Deno.listen({ transport: "unix", path: `${directory}/taken` });
    return net.listen({ transport: "unix", path: `${directory}/taken` });
  },
  "the path of a file": (net, directory) => {
    Deno.writeTextFileSync(`${directory}/file`, "");
    return net.connect({ transport: "unix", path: `${directory}/file` });
  },
};

for (const [name, fail] of Object.entries(FAILURES)) {
  Deno.test(`the error is Deno's: ${name}`, async () => {
    const expected = await outcome(() => fail(Deno));
    assertNotEquals(expected, "nothing thrown");
    assertEquals(await outcome(() => fail(OURS)), expected);
  });
}

for (const [name, fail] of Object.entries(LOCAL_FAILURES)) {
  Deno.test(`the error is Deno's: ${name}`, withLocal, async () => {
    const directory = await Deno.makeTempDir();
    try {
      const expected = await outcome(() => fail(Deno, directory));
      assertNotEquals(expected, "nothing thrown");
      assertEquals(await outcome(() => fail(OURS, directory)), expected);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  });
}

Deno.test("the native error is the cause, and sharing throws it itself", async () => {
  const { cause, message } = await assertRejects(() => connect({ port: freePort() }), Deno.errors.ConnectionRefused);
  assert(cause instanceof WinsockError);
  assertEquals([cause.codeName, cause.functionName, cause.message], ["WSAECONNREFUSED", "connect", message]);
  assertEquals(cause.errnoName, onWindows ? undefined : "ECONNREFUSED");
  const listener = listen(loopback);
  listener.close();
  assertThrows(() => duplicateSocket(listener, Deno.pid), WinsockError, "WSAENOTSOCK");
});

Deno.test("a socket that is closed while read, peek, send or receive waits interrupts them", async () => {
  for (
    const close of [
      (socket: Socket) => socket.close(),
      (socket: Socket) => void Socket.fromHandle(socket.detach()).close(),
    ]
  ) {
    const [near, far] = Socket.pair();
    const waits = [near.read(1), near.read(1), near.peek(1), near.peek(2, { atLeast: 2 })].map((wait) =>
      assertRejects(() => within(20_000, wait), Deno.errors.Interrupted)
    );
    await new Promise((resolve) => setTimeout(resolve, 20));
    close(near as Socket);
    await Promise.all(waits);
    await assertRejects(() => near.read(1), Deno.errors.BadResource);
    await assertRejects(() => near.peek(1), Deno.errors.BadResource);
    far.close();
  }
  const datagrams = listenDatagram(loopback);
  const receiving = [datagrams.receive(), datagrams.receive()].map((wait) =>
    assertRejects(() => within(20_000, wait), Deno.errors.Interrupted)
  );
  await new Promise((resolve) => setTimeout(resolve, 20));
  datagrams.close();
  await Promise.all(receiving);
  await assertRejects(() => datagrams.receive(), Deno.errors.BadResource);
});

Deno.test("options have Deno's names and defaults, and ports may be left out or be text", async () => {
  using everywhere = listen({ transport: "tcp", tcpBacklog: 16 });
  assertEquals(everywhere.addr.hostname, "0.0.0.0");
  using text = listen({ ...loopback, port: "0" as unknown as number });
  using client = await connect({ transport: "tcp", port: String(text.addr.port) as unknown as number });
  assertEquals(client.remoteAddr, text.addr);
  using ip6 = listen({ hostname: "[::1]" });
  assertEquals(ip6.addr.hostname, "::1");
  using client6 = await connect({ hostname: "[::1]", port: ip6.addr.port });
  assertEquals(client6.remoteAddr, ip6.addr);
  using datagrams = listenDatagram({ transport: "udp", hostname: "[::1]" });
  using sender = listenDatagram({ transport: "udp", hostname: "::1" });
  await sender.send(new Uint8Array(3), { ...datagrams.addr, hostname: "[::1]" });
  assertEquals((await within(20_000, datagrams.receive()))[0].length, 3);
  for (const transport of ["udp", "quic", ""] as unknown as "tcp"[]) {
    assertThrows(() => listen({ transport, port: 0 }), TypeError, "Invalid `transport`");
    await assertRejects(() => connect({ transport, port: 1 }), TypeError, "Invalid `transport`");
  }
  assertThrows(() => listenDatagram({ transport: "tcp" as "udp" }), TypeError, "Invalid `transport`");
  assertThrows(() => listen({ transport: "unix" } as unknown as { path: string }), TypeError, "Invalid `path`");
  assertThrows(() => listen({ ipv6Only: true, port: 0 }), TypeError, "Invalid `ipv6Only`");
});

Deno.test("ipv6Only decides whether :: takes IPv4", async () => {
  using only = listen({ hostname: "::", ipv6Only: true });
  assertEquals(only.getOption("IPV6_V6ONLY"), true);
  await assertRejects(() => connect({ port: only.addr.port }), Deno.errors.ConnectionRefused);
  (await connect({ hostname: "::1", port: only.addr.port })).close();
  using both = listen({ hostname: "::" });
  assertEquals(both.getOption("IPV6_V6ONLY"), false);
  (await connect({ port: both.addr.port })).close();
  using datagrams = listenDatagram({ hostname: "::", ipv6Only: true });
  assertEquals(datagrams.getOption("IPV6_V6ONLY"), true);
});

Deno.test("reusePort lets several listeners share a port, where the system has that", async () => {
  await assertNothingLeaks(() => {
    if (onWindows) {
      for (const make of [listen, listenDatagram] as ((options: ListenOptions) => unknown)[]) {
        assertThrows(() => make({ ...loopback, reusePort: true }), Deno.errors.NotSupported, "SO_REUSEPORT");
      }
      return Promise.resolve();
    }
    using first = listen({ ...loopback, reusePort: true });
    const { port } = first.addr;
    using second = listen({ hostname: "127.0.0.1", port, reusePort: true });
    assertEquals(second.getOption("SO_REUSEPORT"), true);
    assertThrows(() => listen({ hostname: "127.0.0.1", port }), Deno.errors.AddrInUse);
    using one = listenDatagram({ ...loopback, reusePort: true });
    using two = listenDatagram({ hostname: "127.0.0.1", port: one.addr.port, reusePort: true });
    assertEquals(two.addr, one.addr);
    return Promise.resolve();
  });
});

Deno.test("a datagram socket may broadcast", async () => {
  using socket = listenDatagram({ port: 0 });
  assertEquals(socket.getOption("SO_BROADCAST"), true);
  const broadcast = { transport: "udp", hostname: "255.255.255.255", port: 9 } as const;
  const told = await outcome(() => socket.send(new Uint8Array(1), broadcast));
  // Many containers have no way to anywhere.
  assert(["nothing thrown", "NetworkUnreachable ENETUNREACH"].includes(String(told)), String(told));
  socket.setOption("SO_BROADCAST", false);
  assertEquals(await outcome(() => socket.send(new Uint8Array(1), broadcast)), "PermissionDenied EACCES");
});

Deno.test("leaving the loop closes the listener, an error of accept does not; an address stays known", async () => {
  for (const leave of ["break", "throw"]) {
    const listener = listen(loopback);
    const { addr } = listener;
    using _client = await connect({ port: addr.port });
    const loop = async () => {
      for await (const socket of listener) {
        socket.close();
        if (leave === "break") break;
        throw new Error("thrown in the loop");
      }
    };
    if (leave === "break") await loop();
    else await assertRejects(loop, Error, "thrown in the loop");
    await listener.pause();
    await assertRejects(() => connect({ port: addr.port }), Deno.errors.ConnectionRefused);
    assertEquals(listener.addr, addr);
    assertThrows(() => listener.getOption("SO_RCVBUF"), Deno.errors.BadResource);
  }
});

Deno.test("a socket's file goes with its listener, and nothing else does", withLocal, async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/socket`;
  try {
    listen({ transport: "unix", path }).close();
    await assertRejects(() => Deno.lstat(path), Deno.errors.NotFound);
    // What has taken its place stays: a file, and the socket of another listener.
    const first = listen({ path });
    await Deno.remove(path);
    await Deno.writeTextFile(path, "kept");
    first.close();
    assertEquals(await Deno.readTextFile(path), "kept");
    await Deno.remove(path);
    const second = listen({ path });
    await Deno.remove(path);
    using third = Deno.listen({ transport: "unix", path });
    second.close();
    using client = await connect({ path });
    assertEquals(client.remoteAddr.path, path);
    // Nobody has seen that the file was looked at.
    using accepted = await third.accept();
    await assertRejects(
      () => within(200, third.accept()).finally(() => third.close()),
      Error,
    );
    assertEquals(accepted.localAddr.transport, "unix");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("a pair is connected, and its ends are the caller's", async () => {
  await assertNothingLeaks(async () => {
    const [near, far] = Socket.pair();
    assertEquals(near.localAddr.transport, onWindows ? "tcp" : "unix");
    using conn = near.toConn();
    await conn.write(new Uint8Array([1, 2, 3]));
    assertEquals(await within(20_000, far.read(8)), new Uint8Array([1, 2, 3]));
    await conn.closeWrite();
    await conn.closeWrite();
    assertEquals(await within(20_000, far.read(8)), null);
    assertEquals(await far.read(8), null);
    far.close();
  });
});

Deno.test("openSocket opens the kind that is asked for, and refuses another without losing a descriptor", async () => {
  await assertNothingLeaks(async () => {
    using listener = listen(loopback);
    using client = await connect({ port: listener.addr.port });
    using server = await listener.accept();
    using datagrams = listenDatagram(loopback);
    const sockets = { connection: server, listener, datagram: datagrams } as const;
    const Classes = { connection: Socket, listener: Listener, datagram: DatagramSocket } as const;
    for (const [kind, socket] of Object.entries(sockets) as [keyof typeof sockets, typeof sockets["listener"]][]) {
      for (const wanted of ["connection", "listener", "datagram"] as const) {
        const blob = duplicateSocket(socket, Deno.pid);
        if (wanted !== kind) {
          await assertRejects(
            () => openSocket(blob, { kind: wanted as "listener" }),
            TypeError,
            `as a ${wanted}: it is a `,
          );
          // Where the blob itself tells, it was not opened, and is good for one use still.
          if ((wanted === "datagram") !== (kind === "datagram")) (await openSocket(blob)).close();
          continue;
        }
        using opened = await openSocket(blob, { kind: wanted as "listener" });
        assert(opened instanceof Classes[kind]);
      }
    }
    const blob = duplicateSocket(server, Deno.pid);
    await assertRejects(() => openSocket(blob, { kind: "pipe" as "listener" }), TypeError, "Invalid `kind`");
    using opened = await openSocket(blob, { kind: "connection" });
    assertEquals(opened.remoteAddr, client.localAddr);
    // The connection itself goes on.
    using conn = client.toConn();
    await conn.write(new Uint8Array(2));
    assertEquals((await within(20_000, opened.read(8)))?.length, 2);
  });
});

/** Whether a program that waits in one of our calls ends by itself. */
async function ends(source: string): Promise<boolean> {
  const program = `import { listen, listenDatagram } from ${moduleUrl("mod.ts")}; ${source}`;
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(file, program);
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...RUN,
      FFI_GRANT,
      `--config=${new URL("../../deno.json", import.meta.url).pathname.replace(/^\/(?=\w:)/, "")}`,
      file,
    ],
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
  }).spawn();
  const late = setTimeout(() => child.kill("SIGKILL"), onWindows ? 15_000 : 3_000);
  const { success } = await child.status;
  clearTimeout(late);
  await Deno.remove(file);
  return success;
}

const LISTEN = `const l = listen({ hostname: "127.0.0.1", port: 0 });`;
const DATAGRAM = `const d = listenDatagram({ hostname: "127.0.0.1", port: 0 });`;
const PAUSE = "await new Promise((resolve) => setTimeout(resolve, 50));";

for (
  const [source, expected] of [
    [`${LISTEN} l.unref(); l.accept();`, true],
    [`${LISTEN} l.accept(); ${PAUSE} l.unref();`, true],
    [`${LISTEN} l.unref(); l.accept(); ${PAUSE} l.ref();`, false],
    [`${DATAGRAM} d.unref(); d.receive();`, true],
    [`${DATAGRAM} d.receive(); ${PAUSE} d.unref();`, true],
    [`${DATAGRAM} d.unref(); d.receive(); ${PAUSE} d.ref();`, false],
  ] as const
) {
  Deno.test(`a program ${expected ? "ends" : "goes on"}: ${source}`, async () => {
    assertEquals(await ends(source), expected);
  });
}

Deno.test("an unreferenced listener and datagram socket go on taking what comes", async () => {
  using listener = listen(loopback);
  listener.unref();
  for (let time = 0; time < 3; time++) {
    const accepting = listener.accept();
    await new Promise((resolve) => setTimeout(resolve, 20));
    using client = await connect({ port: listener.addr.port });
    using server = await within(20_000, accepting);
    assertEquals(server.remoteAddr, client.localAddr);
    if (time === 1) listener.ref();
  }
  using datagrams = listenDatagram(loopback);
  datagrams.unref();
  const receiving = datagrams.receive();
  await datagrams.send(new Uint8Array(5), datagrams.addr);
  assertEquals((await within(20_000, receiving))[0].length, 5);
});
