// Layers: their descriptors, their failures, their beginning and end.
import { assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { WinsockError } from "@winsock/handoff";
import { LayeredProvider, MemoryProvider, ProviderCatalog, SPI_VERSION } from "@winsock/handoff/spi";
import { WSAPROTOCOL_INFOW, XP1 } from "@winsock/handoff/structs";
import { chainOfThree, nonIfsChain } from "../kit/chains.ts";
import { connection } from "../kit/connections.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { AF_INET, loopback, TCP_NODELAY } from "../kit/native.ts";

Deno.test("descriptors of IFS layers are the base's own, announced by each layer; the topmost has the last word", async () => {
  const three = chainOfThree(new MemoryProvider());
  using provider = three.provider;
  using pair = await connection();
  const s = await provider.socket(provider.duplicateSocket(pair.server.handle, Deno.pid));
  assertEquals(provider.descriptors.entryOf(s), three.ids[0]);
  provider.setSockOpt(s, ...TCP_NODELAY, new Uint8Array([1, 0, 0, 0]));
  assertEquals(pair.server.getOption("TCP_NODELAY"), true);
  provider.closeSocket(s);
  assertEquals(provider.descriptors.entryOf(s), undefined);
});

Deno.test("descriptors of non-IFS layers are the table's, each with the lower one as context, all the way down", async () => {
  const { provider } = nonIfsChain(2);
  await assertNothingLeaks(async () => {
    const s = await provider.socket(WSAPROTOCOL_INFOW.encode(provider.protocolInfo));
    const { descriptors } = provider;
    const lower = descriptors.WPUQuerySocketHandleContext(s);
    const lowest = descriptors.WPUQuerySocketHandleContext(lower);
    assertThrows(() => descriptors.WPUQuerySocketHandleContext(lowest), WinsockError, "WSAENOTSOCK");
    assertEquals(provider.getSockOpt(s, ...TCP_NODELAY)[0], 0);
    const copy = await provider.socket(provider.duplicateSocket(s, Deno.pid));
    provider.setSockOpt(copy, ...TCP_NODELAY, new Uint8Array([1, 0, 0, 0]));
    assertNotEquals(provider.getSockOpt(s, ...TCP_NODELAY)[0], 0);
    provider.closeSocket(s);
    provider.closeSocket(copy);
    assertThrows(() => provider.closeSocket(s), WinsockError, "WSAENOTSOCK");
  });
});

Deno.test("a socket made past a non-IFS layer is no socket to it", async () => {
  const { provider } = nonIfsChain(1);
  using pair = await connection();
  const { handle } = pair.server;
  const error = assertThrows(() => provider.duplicateSocket(handle, Deno.pid), WinsockError, `use socket ${handle}`);
  assertEquals(error.codeName, "WSAENOTSOCK");
});

Deno.test("what the base refuses comes up through the layers as it is, and nothing is lost", async () => {
  const base = new MemoryProvider();
  const { provider } = chainOfThree(base);
  using pair = await connection();
  const { handle } = pair.server;
  base.fail("duplicateSocket", "WSAENOBUFS");
  assertThrows(
    () => provider.duplicateSocket(handle, Deno.pid),
    WinsockError,
    "WSPDuplicateSocket failed with WSAENOBUFS",
  );
  assertThrows(() => provider.duplicateSocket(handle, 0x7ffffff0), WinsockError, "WSAEINVAL");
  const blob = provider.duplicateSocket(handle, Deno.pid);
  base.fail("socket", "WSAEMFILE");
  await assertRejects(() => provider.socket(blob), WinsockError, "WSPSocket failed with WSAEMFILE");
  assertEquals(base.waiting, 1);
  provider.closeSocket(await provider.socket(blob));
  await assertRejects(() => provider.socket(blob), WinsockError, "WSAEINVAL");
  provider.withdraw(provider.duplicateSocket(handle, Deno.pid));
  assertEquals(base.waiting, 0);
});

Deno.test("a layer that cannot get a descriptor closes the lower one", async () => {
  const catalog = new ProviderCatalog();
  const base = catalog.addBase(new MemoryProvider());
  const layer = catalog.addLayer("layer", (id) => new LayeredProvider(catalog, id));
  const functions = catalog.functions(catalog.addChain("chain", [layer, base]));
  const chain = WSAPROTOCOL_INFOW.encode(catalog.entries.at(-1)!);
  const { descriptors } = catalog.open(catalog.entries.at(-1)!.dwCatalogEntryId);
  functions.WSPStartup(
    SPI_VERSION,
    chain,
    {
      ...descriptors,
      WPUModifyIFSHandle(entryId, s) {
        if (entryId === layer) {
          throw new WinsockError(10055, {
            operation: "announce",
            functionName: "WPUModifyIFSHandle",
          });
        }
        return s;
      },
    } as typeof descriptors,
  );
  await assertNothingLeaks(() => {
    assertThrows(() => functions.WSPSocket(-1, -1, -1, chain.slice(), 0, 0x81), WinsockError, "WPUModifyIFSHandle");
  });
  functions.WSPCleanup();
});

Deno.test("functions before WSPStartup and after WSPCleanup fail with WSANOTINITIALISED", () => {
  const catalog = new ProviderCatalog();
  const base = catalog.addBase(new MemoryProvider());
  const layer = catalog.addLayer("layer", (id) => new LayeredProvider(catalog, id));
  const chain = catalog.addChain("chain", [layer, base]);
  for (const id of [base, chain]) {
    const functions = catalog.functions(id);
    const info = WSAPROTOCOL_INFOW.encode(catalog.get(id));
    const { descriptors } = catalog.open(id);
    const calls = [
      () => functions.WSPSocket(-1, -1, -1, info.slice(), 0, 0),
      () => functions.WSPDuplicateSocket(1n, Deno.pid, info.slice()),
      () => functions.WSPCloseSocket(1n),
      () => functions.WSPSetSockOpt(1n, ...TCP_NODELAY, new Uint8Array(4)),
      () => functions.WSPGetSockOpt(1n, ...TCP_NODELAY, new Uint8Array(4)),
      () => functions.WSPAddressToString(loopback(1), info),
      () => functions.WSPStringToAddress("1.2.3.4", AF_INET, info),
      () => functions.WSPCleanup(),
    ];
    const refused = () => {
      for (const call of calls) assertEquals(assertThrows(call, WinsockError).codeName, "WSANOTINITIALISED");
    };
    refused();
    functions.WSPStartup(SPI_VERSION, info, descriptors);
    functions.WSPStartup(SPI_VERSION, info, descriptors);
    functions.WSPCleanup();
    assertEquals(functions.WSPAddressToString(loopback(1), info), "127.0.0.1:1");
    functions.WSPCleanup();
    refused();
    assertEquals(
      assertThrows(() => functions.WSPStartup(1, info, descriptors), WinsockError).codeName,
      "WSAVERNOTSUPPORTED",
    );
  }
});

Deno.test("a layer serves one chain at a time", () => {
  const catalog = new ProviderCatalog();
  const base = catalog.addBase(new MemoryProvider());
  const layer = catalog.addLayer("layer", () => shared);
  const shared: LayeredProvider = new LayeredProvider(catalog, layer);
  const chains = ["one", "two"].map((name) => catalog.addChain(name, [layer, base]));
  const [one, two] = chains.map((id) => WSAPROTOCOL_INFOW.encode(catalog.get(id)));
  const { descriptors } = catalog.open(chains[0]!);
  shared.WSPStartup(SPI_VERSION, one!, descriptors);
  assertThrows(() => shared.WSPStartup(SPI_VERSION, two!, descriptors), WinsockError, "in use for another chain");
  shared.WSPCleanup();
  shared.WSPStartup(SPI_VERSION, two!, descriptors);
  shared.WSPCleanup();
});

Deno.test("an entry says whether its descriptors are handles", () => {
  const { catalog } = nonIfsChain(1);
  const flags = catalog.entries.map(({ dwServiceFlags1 }) => (dwServiceFlags1 & XP1.XP1_IFS_HANDLES) !== 0);
  assertEquals(flags, [true, false, false]);
});
