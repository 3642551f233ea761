import {
  assert,
  assertEquals,
  assertMatch,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { listen, listenDatagram, WinsockError } from "@winsock/handoff";
import { libc } from "@winsock/handoff/ffi";
import { defaultProvider, openProvider, UNIX_PROVIDER_ID, UnixProvider } from "@winsock/handoff/spi";
import { AF, WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
import { openCalls, systemCalls } from "../../ffi/system.ts";
import { newWakerEnds } from "../../ffi/unix/descriptors.ts";
import { unixSystem } from "../../ffi/unix/libc.ts";
import { prepareAddresses } from "../../spi/unix/claims.ts";
import { descriptorsLike } from "../kit/descriptors.ts";
import { connection, readEnd } from "../kit/connections.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { needs } from "../kit/needs.ts";
import { endChild, spawnChild, until, within } from "../kit/process.ts";
import { blobFor } from "../kit/rogue_rendezvous.ts";

const withProvider = needs("the unix provider");

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
  provider.closeSocket(provider.socketSync(blob));
  const error = assertThrows(() => provider.socketSync(blob), WinsockError);
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

Deno.test("a life that no timer can have is refused", () => {
  for (const timeToLive of [Infinity, 2 ** 31, -1, NaN]) {
    assertThrows(() => new UnixProvider({ timeToLive }), RangeError, "Invalid `timeToLive`: must be from 0 to");
  }
});

Deno.test("many blobs are claimed at a time", withProvider, async () => {
  using pair = await connection();
  const [source, target] = [new UnixProvider(), new UnixProvider()];
  const count = () => descriptorsLike(pair.server.handle);
  const blobs = Array.from({ length: 200 }, () => source.duplicateSocket(pair.server.handle, Deno.pid));
  assertEquals(count(), 201);
  const claimed = await Promise.all(blobs.map((blob) => target.socket(blob)));
  assertEquals(new Set(claimed).size, 200);
  await until(() => count() === 201, "the source has closed what it kept");
  for (const s of claimed) target.closeSocket(s);
  assertEquals(count(), 1);
});

Deno.test("a blob says what the socket is", withProvider, () => {
  const { AF_INET, AF_INET6, AF_UNIX } = AF;
  const provider = new UnixProvider();
  const describe = (s: bigint) => {
    const blob = provider.duplicateSocket(s, Deno.pid);
    provider.withdraw(blob);
    const { iAddressFamily, iSocketType, iProtocol, iMinSockAddr, iMaxSockAddr } = WSAPROTOCOL_INFOW.decode(blob);
    return [iAddressFamily, iSocketType, iProtocol, iMinSockAddr, iMaxSockAddr];
  };
  using v4 = listen({ hostname: "127.0.0.1", port: 0 });
  assertEquals(describe(v4.handle), [AF_INET, 1, 6, 16, 16]);
  using v6 = listen({ hostname: "::1", port: 0 });
  assertEquals(describe(v6.handle), [AF_INET6, 1, 6, 28, 28]);
  using datagrams = listenDatagram({ hostname: "127.0.0.1", port: 0 });
  assertEquals(describe(datagrams.handle), [AF_INET, 2, 17, 16, 16]);
  using datagrams6 = listenDatagram({ hostname: "::1", port: 0 });
  assertEquals(describe(datagrams6.handle), [AF_INET6, 2, 17, 28, 28]);
  const local = systemCalls().pair();
  for (const s of local) {
    assertEquals(describe(s), [AF_UNIX, 1, 0, 2, 110]);
    provider.closeSocket(s);
  }
});

Deno.test("what tells one blob from another cannot be guessed", withProvider, async () => {
  using pair = await connection();
  const provider = new UnixProvider();
  const blobs = Array.from({ length: 100 }, () => provider.duplicateSocket(pair.server.handle, Deno.pid));
  const infos = blobs.map((blob) => WSAPROTOCOL_INFOW.decode(blob));
  const numbers = infos.map(({ dwProviderReserved }) => dwProviderReserved);
  assertEquals(new Set(numbers).size, 100);
  assert(numbers.filter((number, index) => number === numbers[index - 1]! + 1).length < 2, "they do not count");
  const places = infos.map(({ szProtocol }) => szProtocol.split(" "));
  assertEquals(new Set(places.map(([secret]) => secret)).size, 100);
  for (const [secret, rendezvous] of places) {
    assertMatch(secret!, /^[0-9a-f]{32}$/);
    assertEquals(rendezvous, places[0]![1]);
  }
  for (const blob of blobs) provider.withdraw(blob);
});

Deno.test("a blob with another secret is refused, and the right one still opens", withProvider, async () => {
  using pair = await connection();
  const [source, target] = [new UnixProvider(), new UnixProvider()];
  const blob = source.duplicateSocket(pair.server.handle, Deno.pid);
  const info = WSAPROTOCOL_INFOW.decode(blob);
  for (const index of [0, 15, 31]) {
    const digit = info.szProtocol[index] === "0" ? "1" : "0";
    const szProtocol = info.szProtocol.slice(0, index) + digit + info.szProtocol.slice(index + 1);
    const guess = WSAPROTOCOL_INFOW.encode({ ...info, szProtocol });
    source.withdraw(guess);
    assertThrows(() => source.socketSync(guess), WinsockError, "WSAEINVAL");
    await assertRejects(() => target.socket(guess), WinsockError, "WSAEINVAL");
  }
  target.closeSocket(await target.socket(blob));
});

Deno.test("a blob of another version is refused, and the error says so", withProvider, async () => {
  using pair = await connection();
  const provider = new UnixProvider();
  const info = WSAPROTOCOL_INFOW.decode(provider.duplicateSocket(pair.server.handle, Deno.pid));
  const versions = [[0, 1], [1, 1], [3, 3]] as const;
  for (const [dwServiceFlags4, version] of versions) {
    const blob = WSAPROTOCOL_INFOW.encode({ ...info, dwServiceFlags4 });
    const message = `WSAEINVAL (10022): it was made by another version of this library (blobs of version ${version}`;
    await assertRejects(() => provider.socket(blob), WinsockError, message);
  }
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

Deno.test("a source that closes its rendezvous fails the claims that wait there", withProvider, async () => {
  const provider = new UnixProvider();
  const { name, fd } = prepareAddresses()();
  const failed = Promise.allSettled([1, 2, 3].map(() => provider.socket(blobFor(name))));
  await new Promise((resolve) => setTimeout(resolve, 50));
  libc().close(fd);
  for (const end of await within(5_000, failed)) {
    assert(end.status === "rejected");
    assertStringIncludes(end.reason.message, "WSAECONNRESET");
  }
  await assertRejects(() => provider.socket(blobFor(name)), WinsockError, "WSAECONNREFUSED");
});

Deno.test("claiming, refusing and withdrawing leave nothing behind", withProvider, async () => {
  using pair = await connection();
  const [source, target] = [new UnixProvider(), new UnixProvider()];
  await assertNothingLeaks(async () => {
    const [used, withdrawn, left] = [1, 2, 3].map(() => source.duplicateSocket(pair.server.handle, Deno.pid));
    const elsewhere = source.duplicateSocket(pair.server.handle, 1);
    source.withdraw(withdrawn!);
    target.closeSocket(await target.socket(used!));
    for (const blob of [used, withdrawn, elsewhere]) {
      await assertRejects(() => target.socket(blob!), WinsockError, "WSAEINVAL");
    }
    source.withdraw(left!);
    source.withdraw(elsewhere);
  });
  await until(() => descriptorsLike(pair.server.handle) === 1, "nothing is kept");
});

Deno.test("what a dead process was to open is refused to everybody", withProvider, async () => {
  using pair = await connection();
  const [source, target] = [new UnixProvider(), new UnixProvider()];
  const child = spawnChild("silent.ts");
  const blob = source.duplicateSocket(pair.server.handle, child.pid);
  await endChild(child);
  await assertRejects(() => target.socket(blob), WinsockError, "WSAEINVAL");
  assertThrows(() => source.duplicateSocket(pair.server.handle, child.pid), WinsockError, "WSAEINVAL");
  source.withdraw(blob);
});
