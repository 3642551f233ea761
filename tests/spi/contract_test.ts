// The contract of ServiceProvider, kept by each provider.
import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { Socket, WinsockError } from "@winsock/handoff";
import { INVALID_SOCKET } from "@winsock/handoff/ffi";
import {
  defaultProvider,
  duplicateSocketA,
  MEMORY_PROVIDER_ID,
  MemoryProvider,
  openNativeProvider,
  type ServiceProvider,
  socketA,
  toAnsi,
  toWide,
  UnixProvider,
  UnsupportedProvider,
  useProvider,
} from "@winsock/handoff/spi";
import { WSAPROTOCOL_INFOA, WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
import { systemCalls } from "../../ffi/system.ts";
import { connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { native, NATIVE_ENTRY, NATIVE_PATH, withNative } from "../kit/native.ts";
import { needs } from "../kit/needs.ts";
import { endChild, lines, spawnChild } from "../kit/process.ts";
import { openChain } from "../kit/providers.ts";

const onWindows = Deno.build.os === "windows";
/** Wine hands out the same descriptor for a blob that is opened again, and Winsock's blobs cannot be withdrawn. */
const usesWinsock = (name: string) => onWindows && name !== "memory" && name !== "chain over memory";

const PROVIDERS: Record<string, { open: () => ServiceProvider; ignore?: boolean }> = {
  system: { open: defaultProvider },
  memory: { open: () => new MemoryProvider() },
  native: {
    open() {
      native().provider_reset();
      return openNativeProvider(NATIVE_PATH, NATIVE_ENTRY);
    },
    ...withNative,
  },
  "chain over the system's": { open: () => openChain(defaultProvider()) },
  "chain over memory": { open: () => openChain(new MemoryProvider()) },
};

for (const [name, { open, ignore = false }] of Object.entries(PROVIDERS)) {
  Deno.test(
    `${name}: a duplicate is one more descriptor of the same socket, and the last one closes it`,
    { ignore },
    async () => {
      const provider = open();
      using pair = await connection();
      using client = pair.client.toConn();
      const blob = provider.duplicateSocket(pair.server.handle, Deno.pid);
      assertEquals(blob.byteLength, 628);
      const s = await provider.socket(blob);
      assertNotEquals(s, pair.server.handle);
      using duplicate = Socket.fromHandle(s);
      duplicate.setOption("TCP_NODELAY", true);
      assertEquals(pair.server.getOption("TCP_NODELAY"), true);
      assertEquals(duplicate.localAddr, pair.server.localAddr);
      provider.closeSocket(pair.server.detach());
      using server = duplicate.toConn();
      await writeText(server, "still here");
      assertEquals(await readText(client, 10), "still here");
      server.close();
      assert(await readEnd(client));
    },
  );

  Deno.test(
    `${name}: opens at once for callers that cannot wait, a new socket too, and leaks nothing`,
    { ignore },
    async () => {
      const provider = open();
      using pair = await connection();
      const entry = WSAPROTOCOL_INFOW.encode(provider.protocolInfo);
      await assertNothingLeaks(() => {
        provider.closeSocket(provider.socketSync!(provider.duplicateSocket(pair.server.handle, Deno.pid)));
        const s = provider.socketSync!(entry);
        assertEquals(systemCalls().kind(s, "look"), "connection");
        provider.closeSocket(s);
      });
      provider.closeSocket(await provider.socket(entry));
    },
  );

  Deno.test(
    `${name}: what it refuses, it refuses with the documented code, and nothing is lost`,
    { ignore },
    async () => {
      const provider = open();
      using pair = await connection();
      const { handle } = pair.server;
      await assertNothingLeaks(async () => {
        const refusals: [() => unknown, string][] = [
          [() => provider.duplicateSocket(INVALID_SOCKET, Deno.pid), "WSAENOTSOCK"],
          [() => provider.closeSocket(INVALID_SOCKET), "WSAENOTSOCK"],
          [() => provider.duplicateSocket(handle, 0x7ffffff0), "WSAEINVAL"],
        ];
        for (const [call, code] of refusals) assertEquals(assertThrows(call, WinsockError).codeName, code);
        for (const length of [0, 372, 627, 629]) {
          await assertRejects(() => provider.socket(new Uint8Array(length)), RangeError, `got ${length}`);
        }
        const blob = provider.duplicateSocket(handle, Deno.pid);
        provider.closeSocket(await provider.socket(blob));
        if (usesWinsock(name)) return;
        assertEquals((await assertRejects(() => provider.socket(blob), WinsockError)).codeName, "WSAEINVAL");
        const another = provider.duplicateSocket(handle, Deno.pid);
        provider.closeSocket(provider.socketSync!(another));
        assertEquals(assertThrows(() => provider.socketSync!(another), WinsockError).codeName, "WSAEINVAL");
      });
      assertEquals(pair.server.remoteAddr, pair.client.localAddr);
    },
  );

  // The native table has no function for it.
  if (name !== "native" && !usesWinsock(name)) {
    Deno.test(`${name}: a duplicate can be withdrawn, and again`, async () => {
      const provider = open();
      using pair = await connection();
      await assertNothingLeaks(async () => {
        const blob = provider.duplicateSocket(pair.server.handle, Deno.pid);
        provider.withdraw(blob);
        provider.withdraw(blob);
        assertEquals((await assertRejects(() => provider.socket(blob), WinsockError)).codeName, "WSAEINVAL");
      });
    });
  }

  Deno.test(`${name}: the A form does what the W form does`, { ignore }, async () => {
    const provider = open();
    using pair = await connection();
    const blob = duplicateSocketA(provider, pair.server.handle, Deno.pid);
    assertEquals(blob.byteLength, 372);
    assertEquals(WSAPROTOCOL_INFOA.decode(blob).dwCatalogEntryId, provider.protocolInfo.dwCatalogEntryId);
    using socket = Socket.fromHandle(await socketA(provider, blob));
    assertEquals(socket.remoteAddr, pair.client.localAddr);
    await assertRejects(() => socketA(provider, new Uint8Array(628)), RangeError, "expected 372 bytes, got 628");
  });
}

Deno.test("a structure's A form and back is the same, but for characters it has no byte for", () => {
  const info = { ...new MemoryProvider().protocolInfo, dwProviderReserved: 0xfedcba98, szProtocol: "Prüfung" };
  const wide = WSAPROTOCOL_INFOW.encode(info);
  assertEquals(toWide(toAnsi(wide)), wide);
  const lossy = WSAPROTOCOL_INFOW.encode({ ...info, szProtocol: "協議 1" });
  assertEquals(WSAPROTOCOL_INFOA.decode(toAnsi(lossy)).szProtocol, "?? 1");
});

Deno.test("memory: a blob is for one of the pretended processes, and no other", async () => {
  const source = new MemoryProvider({ processId: 1, processIds: [2, 3] });
  const [target, stranger] = [source.as(2), source.as(3)];
  using pair = await connection();
  const blob = source.duplicateSocket(pair.server.handle, 2);
  assertEquals(WSAPROTOCOL_INFOW.decode(blob).ProviderId, MEMORY_PROVIDER_ID);
  for (const other of [source, stranger]) {
    assertEquals((await assertRejects(() => other.socket(blob), WinsockError)).codeName, "WSAEINVAL");
  }
  assertEquals(source.waiting, 1);
  target.closeSocket(await target.socket(blob));
  assertEquals(source.waiting, 0);
  assertThrows(() => source.as(4), RangeError, "Invalid `processId`: must be a process of this system, got 4");
  const foreign = WSAPROTOCOL_INFOW.encode({ ...WSAPROTOCOL_INFOW.decode(blob), ProviderId: crypto.randomUUID() });
  await assertRejects(() => target.socket(foreign), WinsockError, "another provider,");
});

Deno.test("memory: fails at the step it is told to, as often as it is told to", async () => {
  const provider = new MemoryProvider();
  using pair = await connection();
  const { handle } = pair.server;
  provider.fail("duplicateSocket", "WSAEINPROGRESS", 2);
  for (let time = 0; time < 2; time++) {
    assertThrows(() => provider.duplicateSocket(handle, Deno.pid), WinsockError, "WSAEINPROGRESS");
  }
  const blob = provider.duplicateSocket(handle, Deno.pid);
  provider.fail("withdraw", "WSAENETDOWN");
  assertThrows(() => provider.withdraw(blob), WinsockError, "WSAENETDOWN");
  provider.fail("socket", "WSAEMFILE");
  await assertRejects(() => provider.socket(blob), WinsockError, "WSAEMFILE");
  const s = await provider.socket(blob);
  provider.fail("closeSocket", "WSAEWOULDBLOCK");
  assertThrows(() => provider.closeSocket(s), WinsockError, "WSAEWOULDBLOCK");
  provider.closeSocket(s);
});

Deno.test("unsupported: never shares, but makes and closes sockets", async () => {
  const provider = new UnsupportedProvider();
  using pair = await connection();
  const error = assertThrows(() => provider.duplicateSocket(pair.server.handle, Deno.pid), WinsockError);
  assertEquals(
    error.message,
    `Cannot duplicate socket ${pair.server.handle} for process ${Deno.pid}: WSPDuplicateSocket failed with ` +
      "WSASYSCALLFAILURE (10107): this service provider does not support socket sharing",
  );
  await assertRejects(() => provider.socket(new Uint8Array(628)), WinsockError, "WSASYSCALLFAILURE");
  provider.withdraw();
  provider.closeSocket(await provider.socket(WSAPROTOCOL_INFOW.encode(provider.protocolInfo)));
});

Deno.test(
  "unix: at once from another process, which must be the right one",
  needs("the unix provider"),
  async () => {
    // The child's claims are answered by this process's event loop, so that the child is the one that blocks.
    const child = spawnChild("open_now.ts");
    const line = lines(child);
    const writer = child.stdin.getWriter();
    try {
      assertEquals(await line(), "started");
      const open = async (blob: Uint8Array) => {
        await writer.write(blob);
        return await line();
      };
      using pair = await connection();
      const provider = new UnixProvider();
      const blob = provider.duplicateSocket(pair.server.handle, child.pid);
      assertEquals(await open(blob), "opened");
      assertEquals(await open(blob), "refused WSAEINVAL");
      assertEquals(await open(provider.duplicateSocket(pair.server.handle, Deno.pid)), "refused WSAEINVAL");
      const forChild = provider.duplicateSocket(pair.server.handle, child.pid);
      assertThrows(() => provider.socketSync(forChild), WinsockError, "made for another process");
      const info = WSAPROTOCOL_INFOW.decode(blob);
      const nobody = { ...info, szProtocol: `${info.szProtocol}-nobody` };
      assertEquals(await open(WSAPROTOCOL_INFOW.encode(nobody)), "refused WSAECONNREFUSED");
    } finally {
      await writer.close().catch(() => {});
      await endChild(child);
    }
  },
);

Deno.test("the provider in use is the last one chosen, and the one before when that is disposed of", () => {
  const before = defaultProvider();
  {
    const first = new MemoryProvider();
    using _first = useProvider(first);
    assert(defaultProvider() === first);
    const second = new UnsupportedProvider();
    using _second = useProvider(second);
    assert(defaultProvider() === second);
  }
  assert(defaultProvider() === before);
});
