// Options by name: set through one descriptor, read through another of the same socket.
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  type AnySocket,
  duplicateSocket,
  HandoffSource,
  listen,
  listenDatagram,
  openSocket,
  type SocketOptions,
  WinsockError,
} from "@winsock/handoff";
import { connection, readText, writeText } from "../kit/connections.ts";
import { datagramSocket } from "../kit/datagrams.ts";
import { endChild, lines, spawnChild, within } from "../kit/process.ts";

const WINDOWS = Deno.build.os === "windows";

type Values = { [Name in keyof SocketOptions]?: readonly SocketOptions[Name][] };

/** Sets each value through one descriptor and reads it through another. */
async function assertShared(socket: AnySocket, values: Values): Promise<void> {
  using duplicate = await openSocket(duplicateSocket(socket, Deno.pid));
  for (const [key, list] of Object.entries(values)) {
    const name = key as keyof SocketOptions;
    for (const value of list) {
      socket.setOption(name, value);
      assertEquals(duplicate.getOption(name), value, `${name} is ${value}`);
    }
  }
}

Deno.test("options of a connection are what the system says they are, through any descriptor", async () => {
  using pair = await connection();
  await assertShared(pair.client, {
    TCP_NODELAY: [true, false],
    SO_KEEPALIVE: [true, false],
    TCP_KEEPIDLE: [77, 1],
    TCP_KEEPINTVL: [11, 5],
    TCP_KEEPCNT: [3, 7],
    SO_LINGER: [5, 0, null],
    SO_REUSEADDR: WINDOWS ? [] : [true, false],
  });
});

Deno.test("options of a listener are what the system says they are", async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  await assertShared(listener, { SO_KEEPALIVE: [true, false], SO_LINGER: [1, null] });
  assertEquals(listener.getOption(WINDOWS ? "SO_EXCLUSIVEADDRUSE" : "SO_REUSEADDR"), true);
});

Deno.test("options of a datagram socket are what the system says they are", async () => {
  using socket = datagramSocket();
  await assertShared(socket, {
    SO_BROADCAST: [true, false],
    IP_MULTICAST_LOOP: [false, true],
    IP_MULTICAST_TTL: [0, 255, 1],
    IP_MULTICAST_IF: ["127.0.0.1", "0.0.0.0"],
  });
  using v6 = datagramSocket("::1");
  await assertShared(v6, {
    IPV6_MULTICAST_LOOP: [false, true],
    IPV6_MULTICAST_HOPS: [0, 255, 1],
    IPV6_MULTICAST_IF: [1, 0],
  });
  assertEquals(v6.getOption("IPV6_V6ONLY"), true);
  using both = listenDatagram({ hostname: "::", port: 0 });
  assertEquals(both.getOption("IPV6_V6ONLY"), false);
  using reusable = listenDatagram({ hostname: "127.0.0.1", port: 0, reuseAddress: true });
  assertEquals(reusable.getOption("SO_REUSEADDR"), true);
});

Deno.test("buffers are at least as large as was asked for", async () => {
  using socket = datagramSocket();
  using pair = await connection();
  for (const name of ["SO_RCVBUF", "SO_SNDBUF"] as const) {
    for (const each of [socket, pair.client]) {
      each.setOption(name, 65_536);
      assert(each.getOption(name) >= 65_536, `${name} is ${each.getOption(name)}`);
    }
  }
});

Deno.test("options go along with a socket that is handed over", async () => {
  const names = ["TCP_NODELAY", "TCP_KEEPIDLE", "SO_LINGER", "SO_BROADCAST", "SO_RCVBUF"] as const;
  const child = spawnChild("options.ts", [...names]);
  try {
    const line = lines(child);
    const source = new HandoffSource(child);
    using pair = await connection();
    pair.server.setOption("TCP_NODELAY", true);
    pair.server.setOption("TCP_KEEPIDLE", 99);
    pair.server.setOption("SO_LINGER", 9);
    await within(20_000, source.send(pair.server));
    assertEquals(JSON.parse(await line() ?? "[]").slice(0, 3), [true, 99, 9]);
    const socket = datagramSocket();
    socket.setOption("SO_BROADCAST", true);
    socket.setOption("SO_RCVBUF", 12_345);
    const size = socket.getOption("SO_RCVBUF");
    await within(20_000, source.send(socket));
    assertEquals(JSON.parse(await line() ?? "[]").slice(3), [true, size]);
    await within(20_000, source.close());
  } finally {
    await endChild(child);
  }
});

Deno.test("SO_LINGER of 0 resets the connection when it is closed", async () => {
  using pair = await connection();
  using client = pair.client.toConn();
  pair.server.setOption("SO_LINGER", 0);
  using server = pair.server.toConn();
  await writeText(client, "x");
  assertEquals(await readText(server, 1), "x");
  server.close();
  const error = await within(20_000, client.read(new Uint8Array(1)).then(() => undefined, (error: Error) => error));
  assert(error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.ConnectionAborted, String(error));
});

Deno.test("an option that the system, or the kind of socket, lacks is a typed error", async () => {
  using pair = await connection();
  const name = WINDOWS ? "SO_REUSEPORT" : "SO_EXCLUSIVEADDRUSE";
  const message = `option ${name} of socket ${pair.client.handle}: this system does not have the option`;
  assertThrows(() => pair.client.getOption(name), Deno.errors.NotSupported, `Cannot get ${message}`);
  assertThrows(() => pair.client.setOption(name, true), Deno.errors.NotSupported, `Cannot set ${message}`);
  using socket = datagramSocket();
  const error = assertThrows(
    () => socket.setOption("TCP_NODELAY", true),
    WinsockError,
    "Cannot set option TCP_NODELAY",
  );
  assert(["WSAENOPROTOOPT", "WSAEOPNOTSUPP", "WSAEINVAL"].includes(error.codeName), error.message);
});

Deno.test("a value out of range is refused before the system sees it", async () => {
  using pair = await connection();
  for (const value of [-1, 1.5, 2 ** 31, NaN]) {
    assertThrows(
      () => pair.client.setOption("SO_RCVBUF", value),
      RangeError,
      `must be a whole number from 0 to 2147483647, got ${value}`,
    );
  }
  assertThrows(() => pair.client.setOption("SO_LINGER", 65_536), RangeError, "from 0 to 65535");
  using socket = datagramSocket();
  for (const value of ["lo", "1.2.3", "1.2.3.256"]) {
    assertThrows(
      () => socket.setOption("IP_MULTICAST_IF", value),
      TypeError,
      `must be an IPv4 address, got "${value}"`,
    );
  }
});
