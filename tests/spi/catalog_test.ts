// The system's own catalogue of providers.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Socket, WinsockError } from "@winsock/handoff";
import { INVALID_SOCKET } from "@winsock/handoff/ffi";
import {
  baseHandle,
  defaultProvider,
  entryKind,
  findBrokenHandoffs,
  protocolCatalog,
  providerPath,
  socketA,
  toAnsi,
  toWide,
  WinsockProvider,
} from "@winsock/handoff/spi";
import { WSAPROTOCOL_INFOA, XP1 } from "@winsock/handoff/structs";
import { connection } from "../kit/connections.ts";

const onWindows = { ignore: Deno.build.os !== "windows" };

Deno.test("the catalogue has the entry TCP sockets are made of, which is a base of real handles", () => {
  const entries = protocolCatalog();
  const { dwCatalogEntryId, ProviderId } = defaultProvider().protocolInfo;
  const entry = entries.find((entry) => entry.dwCatalogEntryId === dwCatalogEntryId);
  assertEquals(entry?.ProviderId, ProviderId);
  assertEquals(entryKind(entry!), "base");
  assert((entry!.dwServiceFlags1 & XP1.XP1_IFS_HANDLES) !== 0);
  assertEquals(findBrokenHandoffs(entries), []);
});

Deno.test("a socket is its own base handle here, and what is no socket is refused", async () => {
  using pair = await connection();
  assertEquals(baseHandle(pair.server.handle), pair.server.handle);
  assertEquals(assertThrows(() => baseHandle(INVALID_SOCKET), WinsockError).codeName, "WSAENOTSOCK");
});

Deno.test("a provider's path is a library, or not known; an unknown provider has none", () => {
  const path = providerPath(defaultProvider().protocolInfo.ProviderId);
  assert(path === undefined || path.toLowerCase().endsWith(".dll"), path);
  assertEquals(providerPath("00000000-1111-2222-3333-444444444444"), undefined);
  assertThrows(() => providerPath("nonsense"), RangeError, "is not a GUID");
});

Deno.test(
  "WSADuplicateSocketA and WSASocketA understand W blobs that were converted, and the other way round",
  onWindows,
  async () => {
    const provider = new WinsockProvider();
    using pair = await connection();
    const { handle } = pair.server;
    const real = provider.duplicateSocketA(handle, Deno.pid);
    const converted = toAnsi(provider.duplicateSocket(handle, Deno.pid));
    // Wine keeps the duplicated handle in dwServiceFlags3; everything else is the same.
    const clean = (blob: Uint8Array) => ({
      ...WSAPROTOCOL_INFOA.decode(blob),
      dwServiceFlags3: 0,
      dwProviderReserved: 0,
    });
    assertEquals(clean(converted), clean(real));
    for (
      const open of [
        () => provider.socketA(real),
        () => provider.socketA(converted),
        () => provider.socketSync(toWide(provider.duplicateSocketA(handle, Deno.pid))),
      ]
    ) {
      using socket = Socket.fromHandle(open());
      assertEquals(socket.remoteAddr, pair.client.localAddr);
    }
    using through = Socket.fromHandle(await socketA(provider, provider.duplicateSocketA(handle, Deno.pid)));
    assertEquals(through.remoteAddr, pair.client.localAddr);
    assertThrows(() => provider.socketA(new Uint8Array(628)), RangeError, "expected 372 bytes, got 628");
    assertThrows(() => provider.duplicateSocketA(INVALID_SOCKET, Deno.pid), WinsockError, "WSADuplicateSocketA failed");
  },
);
