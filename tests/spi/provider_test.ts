import { assertEquals, assertNotEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { duplicateSocket, listen, listenDatagram, WinsockError } from "@winsock/handoff";
import { libc } from "@winsock/handoff/ffi";
import { defaultProvider, openProvider, UNIX_PROVIDER_ID, UnixProvider } from "@winsock/handoff/spi";
import { AF, IPPROTO, SOCK, WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
import net from "node:net";
import { openCalls } from "../../ffi/system.ts";
import { newWakerEnds } from "../../ffi/unix/new_descriptors.ts";
import { unixSystem } from "../../ffi/unix/system.ts";
import { openRendezvous } from "../../spi/unix/rendezvous_socket.ts";
import { countDescriptors, descriptorsLike, settledDescriptors } from "../kit/descriptors.ts";
import { connection, readEnd } from "../kit/connections.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { needs } from "../kit/needs.ts";
import { until, within } from "../kit/process.ts";

const withProvider = needs("the unix provider");

/** Waits until the source has heard what has come, where it keeps a copy that long. */
async function heard(): Promise<void> {
  if (unixSystem().sweepsMessages) await new Promise((resolve) => setTimeout(resolve, 50));
}

Deno.test("a system without a provider is named", () => {
  for (const os of ["freebsd", "android"] as const) {
    assertThrows(() => openProvider(os), Deno.errors.NotSupported, `Cannot share sockets on ${os}`);
    assertThrows(() => openCalls(os), Deno.errors.NotSupported, `Cannot use sockets on ${os}`);
  }
});

Deno.test("a blob is a WSAPROTOCOL_INFOW of the provider that made it", async () => {
  using pair = await connection();
  const blob = defaultProvider().duplicateSocket(pair.server.handle, Deno.pid);
  const info = WSAPROTOCOL_INFOW.decode(blob);
  assertEquals(WSAPROTOCOL_INFOW.encode(info), blob);
  assertEquals(info.ProviderId, defaultProvider().protocolInfo.ProviderId);
  if (!withProvider.ignore) assertEquals(info.ProviderId, UNIX_PROVIDER_ID);
  assertEquals([info.iSocketType, info.iProtocol, info.ProtocolChain.ChainLen], [1, 6, 1]);
  const s = await defaultProvider().socket(blob);
  assertNotEquals(s, pair.server.handle);
  defaultProvider().closeSocket(s);
  const error = assertThrows(() => defaultProvider().duplicateSocket(s, Deno.pid), WinsockError, `socket ${s}`);
  assertEquals(error.codeName, "WSAENOTSOCK");
});

Deno.test("a blob says what the socket is: its family, type and protocol", withProvider, () => {
  const path = `${Deno.makeTempDirSync()}/socket`;
  using ipv4 = listen({ hostname: "127.0.0.1", port: 0 });
  using ipv6 = listen({ hostname: "::1", port: 0 });
  using local = listen({ path });
  using udp = listenDatagram({ hostname: "127.0.0.1", port: 0 });
  using udp6 = listenDatagram({ hostname: "::1", port: 0 });
  const { AF_INET, AF_INET6, AF_UNIX } = AF;
  for (
    const [socket, ...expected] of [
      [ipv4, AF_INET, SOCK.SOCK_STREAM, IPPROTO.IPPROTO_TCP],
      [ipv6, AF_INET6, SOCK.SOCK_STREAM, IPPROTO.IPPROTO_TCP],
      [local, AF_UNIX, SOCK.SOCK_STREAM, 0],
      [udp, AF_INET, SOCK.SOCK_DGRAM, IPPROTO.IPPROTO_UDP],
      [udp6, AF_INET6, SOCK.SOCK_DGRAM, IPPROTO.IPPROTO_UDP],
    ] as const
  ) {
    const blob = duplicateSocket(socket, Deno.pid);
    defaultProvider().withdraw(blob);
    const { iAddressFamily, iSocketType, iProtocol } = WSAPROTOCOL_INFOW.decode(blob);
    assertEquals([iAddressFamily, iSocketType, iProtocol], expected);
  }
  Deno.removeSync(path.replace(/\/socket$/, ""), { recursive: true });
});

Deno.test("a withdrawn blob is refused, and withdrawing it again is nothing", withProvider, async () => {
  using pair = await connection();
  const blob = defaultProvider().duplicateSocket(pair.server.handle, Deno.pid);
  defaultProvider().withdraw(blob);
  defaultProvider().withdraw(blob);
  await assertRejects(() => defaultProvider().socket(blob), WinsockError, "WSAEINVAL");
});

Deno.test("a blob of this process is for one use, for callers that cannot wait too", withProvider, async () => {
  using pair = await connection();
  const provider = new UnixProvider();
  const blob = provider.duplicateSocket(pair.server.handle, Deno.pid);
  provider.closeSocket(provider.socketNow(blob));
  const error = assertThrows(() => provider.socketNow(blob), WinsockError);
  assertEquals(error.codeName, "WSAEINVAL");
});

Deno.test("an unclaimed blob expires and lets the connection end", withProvider, async () => {
  const provider = new UnixProvider({ timeToLive: 100 });
  using pair = await connection();
  using client = pair.client.toConn();
  const blob = provider.duplicateSocket(pair.server.handle, Deno.pid);
  pair.server.close();
  assertEquals(await readEnd(client), true);
  await assertRejects(() => provider.socket(blob), WinsockError, "opened before, or has expired");
});

Deno.test(
  "where Deno tells no socket's descriptor, sharing is NotSupported and loses nothing",
  withProvider,
  async () => {
    using pair = await connection();
    const server = net.createServer().listen({ fd: Number(openRendezvous().fd) });
    const prototype = Object.getPrototypeOf((server as unknown as { _handle: object })._handle);
    const property = Object.getOwnPropertyDescriptor(prototype, "fd")!;
    server.close();
    await assertNothingLeaks(() => {
      Object.defineProperty(prototype, "fd", { value: undefined, configurable: true });
      try {
        const share = () => new UnixProvider().duplicateSocket(pair.server.handle, Deno.pid);
        assertThrows(share, Deno.errors.NotSupported, "tells no socket's descriptor");
      } finally {
        Object.defineProperty(prototype, "fd", property);
      }
    });
  },
);

Deno.test("a life that no timer can have is refused", () => {
  for (const timeToLive of [Infinity, 2 ** 31, -1, NaN]) {
    assertThrows(() => new UnixProvider({ timeToLive }), RangeError, `timeToLive must be from 0 to`);
  }
});

Deno.test("many blobs are claimed at a time over one connection", withProvider, async () => {
  using pair = await connection();
  const provider = new UnixProvider();
  const first = await provider.socket(provider.duplicateSocket(pair.server.handle, Deno.pid));
  await heard();
  const count = () => descriptorsLike(pair.server.handle);
  assertEquals(count(), 2);
  const blobs = Array.from({ length: 200 }, () => provider.duplicateSocket(pair.server.handle, Deno.pid));
  const claimed = await Promise.all(blobs.map((blob) => provider.socket(blob)));
  assertEquals(new Set(claimed).size, 200);
  await heard();
  assertEquals(count(), 202);
  for (const s of [first, ...claimed]) provider.closeSocket(s);
  assertEquals(count(), 1);
});

Deno.test("a blob whose source is gone is refused", withProvider, async () => {
  using pair = await connection();
  const info = WSAPROTOCOL_INFOW.decode(defaultProvider().duplicateSocket(pair.server.handle, Deno.pid));
  const blob = WSAPROTOCOL_INFOW.encode({ ...info, szProtocol: `${info.szProtocol}-nobody` });
  await assertRejects(() => defaultProvider().socket(blob), WinsockError, "WSAECONNREFUSED");
});

Deno.test("what is no socket cannot be shared", withProvider, () => {
  const [readable, writable] = newWakerEnds();
  try {
    const error = assertThrows(() => defaultProvider().duplicateSocket(readable, Deno.pid), WinsockError);
    assertEquals(error.codeName, "WSAENOTSOCK");
    assertStringIncludes(error.message, `ENOTSOCK (${unixSystem().errno.ENOTSOCK})`);
  } finally {
    for (const end of new Set([readable, writable])) libc().close(end);
  }
});

Deno.test(
  "a source that closes its rendezvous fails the claims that wait, and the next begins anew",
  withProvider,
  async () => {
    using pair = await connection();
    const provider = new UnixProvider();
    const other = openRendezvous();
    const info = WSAPROTOCOL_INFOW.decode(provider.duplicateSocket(pair.server.handle, Deno.pid));
    const blob = WSAPROTOCOL_INFOW.encode({ ...info, szProtocol: other.name });
    const claims = [blob, blob].map((blob, index) => {
      return provider.socket(
        WSAPROTOCOL_INFOW.encode({ ...WSAPROTOCOL_INFOW.decode(blob), dwProviderReserved: index }),
      );
    });
    const failed = Promise.allSettled(claims);
    await new Promise((resolve) => setTimeout(resolve, 50));
    libc().close(other.fd);
    for (const { status } of await failed) assertEquals(status, "rejected");
    await assertRejects(() => provider.socket(blob), WinsockError, "WSAECONNREFUSED");
  },
);

Deno.test("an idle claim connection closes by itself, and the next claim makes a new one", withProvider, async () => {
  using pair = await connection();
  const provider = new UnixProvider();
  const claim = async () =>
    provider.closeSocket(await provider.socket(provider.duplicateSocket(pair.server.handle, Deno.pid)));
  await claim();
  const connected = countDescriptors();
  await until(() => countDescriptors() < connected, "the connection is closed");
  const [before] = await settledDescriptors(Deno.pid);
  await claim();
  await until(() => countDescriptors() <= before!, "the second connection is closed too");
});

Deno.test(
  "what was sent ahead of its claim can be withdrawn, is for one process and one use",
  withProvider,
  async () => {
    using pair = await connection();
    using client = pair.client.toConn();
    const provider = new UnixProvider();
    const duplicate = () => provider.duplicateSocket(pair.server.handle, Deno.pid);
    provider.closeSocket(await provider.socket(duplicate()));
    await heard();
    const count = () => descriptorsLike(pair.server.handle);
    assertEquals(count(), 1);
    const [withdrawn, used, second, other] = [
      duplicate(),
      duplicate(),
      duplicate(),
      provider.duplicateSocket(pair.server.handle, 1),
    ];
    const onTheWay = unixSystem().sweepsMessages ? 3 : 0;
    assertEquals(count(), 2 + onTheWay, "otherwise only what is for another process is kept here");
    provider.withdraw(withdrawn);
    const s = await provider.socket(used);
    for (const blob of [withdrawn, used, other]) {
      await assertRejects(() => provider.socket(blob), WinsockError, "WSAEINVAL");
    }
    await heard();
    assertEquals(count(), 4, "one in use, one kept early, and one for the other process");
    provider.withdraw(second);
    provider.withdraw(other);
    await assertRejects(() => provider.socket(second), WinsockError, "WSAEINVAL");
    provider.closeSocket(s);
    assertEquals(count(), 1);
    pair.server.close();
    assertEquals(await readEnd(client), true);
  },
);

Deno.test(
  "what was sent ahead long ago can still be withdrawn, and lets the connection end",
  withProvider,
  async () => {
    using pair = await connection();
    using client = pair.client.toConn();
    const provider = new UnixProvider();
    const duplicate = () => provider.duplicateSocket(pair.server.handle, Deno.pid);
    provider.closeSocket(await provider.socket(duplicate()));
    const late = duplicate();
    // Longer than an idle claim connection stays open.
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    provider.withdraw(late);
    pair.server.close();
    assertEquals(await readEnd(client), true);
  },
);

Deno.test("what was sent ahead and is never claimed lets the connection end", withProvider, async () => {
  using pair = await connection();
  using client = pair.client.toConn();
  const provider = new UnixProvider({ timeToLive: 200 });
  const duplicate = () => provider.duplicateSocket(pair.server.handle, Deno.pid);
  provider.closeSocket(await provider.socket(duplicate()));
  const late = duplicate();
  pair.server.close();
  assertEquals(await readEnd(client), true);
  await assertRejects(() => provider.socket(late), WinsockError, "WSAEINVAL");
});

Deno.test("claims on a connection whose source has gone fail at once, however many", withProvider, async () => {
  using pair = await connection();
  const provider = new UnixProvider();
  const info = WSAPROTOCOL_INFOW.decode(provider.duplicateSocket(pair.server.handle, Deno.pid));
  const listener = openRendezvous();
  const blob = (number: number) => {
    return WSAPROTOCOL_INFOW.encode({ ...info, dwProviderReserved: number, szProtocol: listener.name });
  };
  const first = provider.socket(blob(1));
  const waiting = Promise.allSettled([first]);
  await new Promise((resolve) => setTimeout(resolve, 20));
  libc().close(listener.fd);
  await waiting;
  const later = [2, 3, 4].map((number) => provider.socket(blob(number)));
  for (const { status } of await within(5_000, Promise.allSettled(later))) assertEquals(status, "rejected");
});
