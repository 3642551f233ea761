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
import { WSA_ERRORS } from "@winsock/handoff/structs";
import { connection, readText, writeText } from "../kit/connections.ts";
import { datagramSocket } from "../kit/datagrams.ts";
import { endChild, lines, spawnChild, within } from "../kit/process.ts";
import { isWine } from "../kit/wine.ts";

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
    IP_TTL: [17, 64],
    SO_SNDTIMEO: [0],
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
    IP_TTL: [1, 255],
    // Windows takes the value, and leaves it to the administrator whether it counts.
    IP_TOS: WINDOWS ? [] : [0x10, 0],
  });
  using v6 = datagramSocket("::1");
  await assertShared(v6, {
    IPV6_MULTICAST_LOOP: [false, true],
    IPV6_MULTICAST_HOPS: [0, 255, 1],
    IPV6_MULTICAST_IF: [1, 0],
    IPV6_UNICAST_HOPS: [3, 255],
    IPV6_TCLASS: WINDOWS ? [] : [0x20, 0],
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

Deno.test("an option that is too late, or can only be read, is what the system says", async () => {
  using pair = await connection("::1");
  // It counts when the socket is bound.
  assertThrows(() => pair.client.setOption("IPV6_V6ONLY", false), WinsockError, "Cannot set option");
  const setError = () => pair.client.setOption("SO_ERROR", 0);
  // Wine takes what Windows and other systems refuse.
  if (WINDOWS && isWine()) setError();
  else assertThrows(setError, WinsockError, "Cannot set option");
  if (Deno.build.os === "linux") {
    await assertShared(pair.client, { IP_FREEBIND: [true, false], SO_REUSEPORT: [true, false] });
  } else {
    assertThrows(() => pair.client.setOption("IP_FREEBIND", true), Deno.errors.NotSupported, "IP_FREEBIND");
    assertThrows(() => pair.client.getOption("IP_FREEBIND"), Deno.errors.NotSupported, "IP_FREEBIND");
  }
  if (!WINDOWS) return;
  using exclusive = listenDatagram({ hostname: "127.0.0.1", port: 0 });
  await assertShared(exclusive, { SO_EXCLUSIVEADDRUSE: [true] });
  assertThrows(() => exclusive.setOption("SO_REUSEADDR", true), WinsockError, "WSAEINVAL");
  // Windows leaves it to the administrator whether they count, and Wine does not have the second.
  exclusive.setOption("IP_TOS", 0x10);
  assert(exclusive.getOption("IP_TOS") >= 0);
  using v6 = datagramSocket("::1");
  if (isWine()) {
    assertThrows(() => v6.setOption("IPV6_TCLASS", 0x20), WinsockError, "WSAENOPROTOOPT");
    assertThrows(() => v6.getOption("IPV6_TCLASS"), WinsockError, "WSAENOPROTOOPT");
  } else {
    v6.setOption("IPV6_TCLASS", 0x20);
    assert(v6.getOption("IPV6_TCLASS") >= 0);
  }
});

Deno.test("a value out of range is refused before the system sees it", async () => {
  using pair = await connection();
  for (const value of [-1, 1.5, 2 ** 31, NaN]) {
    assertThrows(
      () => pair.client.setOption("SO_RCVBUF", value),
      RangeError,
      `must be an integer from 0 to 2147483647, got ${value}`,
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

Deno.test("limits of time are in milliseconds, as another descriptor sees them", async () => {
  using pair = await connection();
  using duplicate = await openSocket(duplicateSocket(pair.client, Deno.pid));
  for (const name of ["SO_RCVTIMEO", "SO_SNDTIMEO"] as const) {
    for (const value of [2_500, 60_000, 0]) {
      pair.client.setOption(name, value);
      // Linux counts in ticks of at most 10 ms, and rounds up.
      const read = duplicate.getOption(name);
      assert(read >= value && read < value + 11, `${name}: ${read} instead of ${value}`);
    }
    assertThrows(() => pair.client.setOption(name, -1), RangeError, "from 0 to 2147483647");
  }
});

Deno.test("SO_ERROR is a code of Winsock, and is told once", async () => {
  using pair = await connection();
  assertEquals(pair.client.getOption("SO_ERROR"), 0);
  pair.server.setOption("SO_LINGER", 0);
  pair.server.close();
  let code = 0;
  for (let count = 0; count < 200 && code === 0; count++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    code = pair.client.getOption("SO_ERROR");
  }
  // Winsock keeps the reset for the next call that reads.
  assertEquals(code, WINDOWS && code === 0 ? 0 : WSA_ERRORS.WSAECONNRESET);
  assertEquals(pair.client.getOption("SO_ERROR"), 0);
});

type Numbers = readonly [level: number, optname: number];

/** The level and number of options in the headers of each system. */
const RAW: Record<string, Record<"SO_KEEPALIVE" | "TCP_NODELAY" | "unknown", Numbers>> = {
  linux: { SO_KEEPALIVE: [1, 9], TCP_NODELAY: [6, 1], unknown: [6, 9_999] },
  darwin: { SO_KEEPALIVE: [0xffff, 8], TCP_NODELAY: [6, 1], unknown: [6, 9_999] },
  windows: { SO_KEEPALIVE: [0xffff, 8], TCP_NODELAY: [6, 1], unknown: [6, 9_999] },
};

Deno.test("an option can be read and set by its numbers", async () => {
  using pair = await connection();
  assertThrows(() => pair.client.getRawOption(0xffff_fffe, 0xffff_fffe), WinsockError, "Cannot get option");
  const { unknown, ...known } = RAW[Deno.build.os]!;
  for (const [key, numbers] of Object.entries(known)) {
    const name = key as keyof typeof known;
    pair.client.setRawOption(...numbers, 1);
    assertEquals(pair.client.getOption(name), true);
    assertEquals(pair.client.getRawOption(...numbers).some((byte) => byte !== 0), true);
    pair.client.setRawOption(...numbers, new Uint8Array(4));
    assertEquals(pair.client.getOption(name), false);
    assertEquals(pair.client.getRawOption(...numbers, 64).every((byte) => byte === 0), true);
  }
  assertThrows(() => pair.client.getRawOption(...unknown), WinsockError, `Cannot get option ${unknown[1]} of level 6`);
  assertThrows(
    () => pair.client.setRawOption(...unknown, 1),
    WinsockError,
    `Cannot set option ${unknown[1]} of level 6`,
  );
  using listener = listen({ hostname: "127.0.0.1" });
  using datagrams = datagramSocket();
  for (const socket of [listener, datagrams]) {
    socket.setRawOption(...known.SO_KEEPALIVE, 1);
    assertEquals(socket.getOption("SO_KEEPALIVE"), true);
  }
  datagrams.close();
  assertThrows(() => datagrams.getRawOption(...known.SO_KEEPALIVE), Deno.errors.BadResource);
  assertThrows(() => datagrams.setRawOption(...known.SO_KEEPALIVE, 1), Deno.errors.BadResource);
});

Deno.test("numbers and values of a raw option are checked before the system sees them", async () => {
  using pair = await connection();
  for (const number of [NaN, 1.5, 2 ** 32, -(2 ** 31) - 1]) {
    assertThrows(
      () => pair.client.getRawOption(number, 1),
      RangeError,
      "Invalid `level`: must be an integer of 32 bits",
    );
    assertThrows(() => pair.client.getRawOption(1, number), RangeError, "Invalid `optname`");
    assertThrows(() => pair.client.setRawOption(1, 1, number), RangeError, "Invalid `value`");
  }
  for (const size of [0, -1, 1.5, 65_537]) {
    assertThrows(() => pair.client.getRawOption(1, 1, size), RangeError, "Invalid `size`: must be an integer from 1");
  }
  assertThrows(() => pair.client.setRawOption(1, 1, "1" as unknown as number), TypeError, "must be a Uint8Array");
});

Deno.test("freeBind listens on an address that is not this host's, where the system has that", async () => {
  // An address of a documentation network, which no host has.
  const foreign = { hostname: "192.0.2.1", freeBind: true };
  if (Deno.build.os !== "linux") {
    assertThrows(() => listen(foreign), Deno.errors.NotSupported, "this system does not have IP_FREEBIND");
    assertThrows(() => listenDatagram(foreign), Deno.errors.NotSupported, "IP_FREEBIND");
    return;
  }
  assertThrows(() => listen({ ...foreign, freeBind: false }), Deno.errors.AddrNotAvailable);
  for (const hostname of ["192.0.2.1", "2001:db8::1"]) {
    using listener = listen({ hostname, freeBind: true });
    assertEquals([listener.addr.hostname, listener.getOption("IP_FREEBIND")], [hostname, true]);
    using datagrams = listenDatagram({ hostname, freeBind: true });
    assertEquals(datagrams.addr.hostname, hostname);
  }
  const invalid = { hostname: "127.0.0.1", freeBind: 1 as unknown as boolean };
  assertThrows(() => listen(invalid), TypeError, "Invalid `freeBind`: must be true or false, got 1");
  assertThrows(() => listenDatagram(invalid), TypeError, "Invalid `freeBind`: must be true or false, got 1");
  await Promise.resolve();
});
