// Protocol chains: which structure each provider of a chain is given.
import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { Socket, WinsockError } from "@winsock/handoff";
import {
  blobForCaller,
  defaultProvider,
  duplicateSocketA,
  entryKind,
  functionsOf,
  LayeredProvider,
  MemoryProvider,
  openNativeProvider,
  ProviderCatalog,
  type ServiceProvider,
  socketA,
  SPI_VERSION,
  type TableProvider,
  toAnsi,
  toWide,
} from "@winsock/handoff/spi";
import { WSAPROTOCOL_INFOA, WSAPROTOCOL_INFOW, XP1 } from "@winsock/handoff/structs";
import { type Connection, connection } from "../kit/connections.ts";
import { AF_INET, loopback, native, NATIVE_ENTRY, NATIVE_PATH, TCP_NODELAY, withNative } from "../kit/native.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { Recorder, spoiled, type TravelledFunction } from "../kit/recording.ts";

type Structure = Uint8Array<ArrayBuffer>;

interface ChainOfThree {
  readonly catalog: ProviderCatalog;
  readonly recorder: Recorder;
  readonly provider: TableProvider;
  /** The chain's and the base's entries as bytes. */
  readonly chain: Structure;
  readonly base: Structure;
  /** From the topmost layer to the base. */
  readonly ids: readonly [number, number, number];
}

/** Two layers over a base, each behind the recorder; what a layer passes on may be spoiled on its way. */
function chainOfThree(
  under: ServiceProvider,
  spoil: { fromFirst?: (info: Structure) => Structure; fromSecond?: (info: Structure) => Structure } = {},
): ChainOfThree {
  const catalog = new ProviderCatalog();
  const recorder = new Recorder();
  const recorded = (id: number, functions = functionsOf(under)) => recorder.before(id, functions);
  const same = (info: Structure) => info;
  const baseId = under.protocolInfo.dwCatalogEntryId;
  catalog.add(under.protocolInfo, () => spoiled(recorded(baseId), spoil.fromSecond ?? same));
  const second = catalog.addLayer(
    "second layer",
    (id) => spoiled(recorded(id, new LayeredProvider(catalog, id)), spoil.fromFirst ?? same),
  );
  const first = catalog.addLayer("first layer", (id) => recorded(id, new LayeredProvider(catalog, id)));
  const chainId = catalog.addChain("chain of three", [first, second, baseId]);
  return {
    catalog,
    recorder,
    provider: catalog.open(chainId),
    chain: WSAPROTOCOL_INFOW.encode(catalog.get(chainId)),
    base: WSAPROTOCOL_INFOW.encode(under.protocolInfo),
    ids: [first, second, baseId],
  };
}

const PROVIDERS: Record<string, { make: () => ServiceProvider; ignore?: boolean }> = {
  memory: { make: () => new MemoryProvider() },
  system: { make: defaultProvider },
  native: { make: () => openNativeProvider(NATIVE_PATH, NATIVE_ENTRY), ...withNative },
};

for (const [name, { make, ignore = false }] of Object.entries(PROVIDERS)) {
  Deno.test(
    `${name}: layers are given the chain's structure unmodified, the base its own, W and A`,
    { ignore },
    async () => {
      if (name === "native") native().provider_reset();
      const { catalog, recorder, provider, chain, base, ids } = chainOfThree(make());
      using pair = await connection();
      const { handle } = pair.server;

      const calls = (name: TravelledFunction) => {
        const calls = recorder.take(name);
        assertEquals(calls.map(({ entryId }) => entryId), [...ids]);
        assert(calls[1]!.array === calls[0]!.array, "the same structure, not one like it");
        return calls.map(({ given }) => given);
      };
      const blob = provider.duplicateSocket(handle, Deno.pid);
      const filledByBase = recorder.calls.at(-1)!.returned;
      assertEquals(recorder.calls.slice(0, 3).map(({ given }) => given), [chain, chain, base], "WSPStartup");
      recorder.calls.splice(0, 3);
      assertEquals(calls("WSPDuplicateSocket"), [chain, chain, base]);
      assertEquals(blob, blobForCaller(filledByBase, { chain, base }));
      const info = WSAPROTOCOL_INFOW.decode(blob);
      assertEquals(
        [info.dwCatalogEntryId, info.ProtocolChain, info.ProviderId],
        [provider.protocolInfo.dwCatalogEntryId, provider.protocolInfo.ProtocolChain, provider.protocolInfo.ProviderId],
      );

      const s = await provider.socket(blob);
      assertEquals(calls("WSPSocket"), [blob, blob, filledByBase]);
      assertNotEquals(s, handle);
      provider.closeSocket(s);

      const blobA = duplicateSocketA(provider, handle, Deno.pid);
      const filled = recorder.calls.at(-1)!.returned;
      assertEquals([blobA.byteLength, blobA], [WSAPROTOCOL_INFOA.size, toAnsi(blobForCaller(filled, { chain, base }))]);
      assertEquals(calls("WSPDuplicateSocket"), [chain, chain, base], "providers know W only");
      const opened = await socketA(provider, blobA);
      assertEquals(calls("WSPSocket"), [toWide(blobA), toWide(blobA), filled]);
      provider.closeSocket(opened);

      const fresh = await provider.socket(chain);
      assertEquals(calls("WSPSocket"), [chain, chain, base]);
      provider.closeSocket(fresh);

      assertEquals(provider.addressToString(loopback(80)), "127.0.0.1:80");
      assertEquals(calls("WSPAddressToString"), [chain, chain, base]);
      assertEquals(provider.stringToAddress("127.0.0.1:80", AF_INET), loopback(80));
      assertEquals(calls("WSPStringToAddress"), [chain, chain, base]);
      assertEquals(recorder.violations(catalog), []);
      provider[Symbol.dispose]();
    },
  );
}

Deno.test("a blob the base signs as another of its entries comes back to it as it was", async () => {
  const three = chainOfThree(defaultProvider());
  using provider = three.provider;
  using pair = await connection("::1");
  const blob = provider.duplicateSocket(pair.server.handle, Deno.pid);
  const filled = three.recorder.calls.at(-1)!.returned;
  using socket = Socket.fromHandle(await provider.socket(blob));
  assertEquals(socket.remoteAddr, pair.client.localAddr);
  assertEquals(three.recorder.calls.at(-1)!.given, filled);
  assertEquals(three.recorder.violations(three.catalog), []);
});

Deno.test("what stands in the structure WSPDuplicateSocket fills does not matter to the base: it is given its own", async () => {
  const { recorder, provider, base, chain } = chainOfThree(new MemoryProvider());
  using pair = await connection();
  provider.addressToString(loopback(1));
  recorder.calls.splice(0);
  const info = new Uint8Array(WSAPROTOCOL_INFOW.size).fill(0xa5);
  const garbage = info.slice();
  provider.functions.WSPDuplicateSocket(pair.server.handle, Deno.pid, info);
  assertEquals(recorder.calls.map(({ given }) => given), [garbage, garbage, base]);
  assertEquals(info.subarray(20, 72), chain.subarray(20, 72));
  provider.closeSocket(await provider.socket(info));
  provider[Symbol.dispose]();
});

/** Everything a structure travels through, once. */
async function useAll({ provider, chain }: ChainOfThree, socket: Socket): Promise<void> {
  const attempts: (() => unknown)[] = [
    async () => provider.closeSocket(await provider.socket(provider.duplicateSocket(socket.handle, Deno.pid))),
    async () => provider.closeSocket(await provider.socket(chain)),
    () => provider.addressToString(loopback(1)),
    () => provider.stringToAddress("1.2.3.4:5", AF_INET),
  ];
  for (const attempt of attempts) {
    try {
      await attempt();
    } catch (error) {
      // A provider may refuse what it should not have been given.
      if (!(error instanceof WinsockError)) throw error;
    }
  }
}

const FUNCTIONS = ["WSPStartup", "WSPDuplicateSocket", "WSPSocket", "WSPAddressToString", "WSPStringToAddress"];

Deno.test("the recording provider finds nothing to complain of in layers that keep the rule", async () => {
  using pair = await connection();
  const three = chainOfThree(new MemoryProvider());
  await useAll(three, pair.server);
  assertEquals(new Set(three.recorder.calls.map((call) => call.function)), new Set(FUNCTIONS));
  assertEquals(three.recorder.violations(three.catalog), []);
});

/** A changed copy. */
function changed(change: (info: WSAPROTOCOL_INFOW) => Partial<WSAPROTOCOL_INFOW>): (info: Structure) => Structure {
  return (bytes) => {
    const info = WSAPROTOCOL_INFOW.decode(bytes);
    return WSAPROTOCOL_INFOW.encode({ ...info, ...change(info) });
  };
}

const MISDEEDS: [string, Parameters<typeof chainOfThree>[1] & object, RegExp][] = [
  ["changes the name", { fromFirst: changed(() => ({ szProtocol: "mine" })) }, /changed: szProtocol$/],
  ["shortens the chain", {
    fromFirst: changed(({ ProtocolChain: { ChainEntries } }) => ({
      ProtocolChain: { ChainLen: 2, ChainEntries: [...ChainEntries.slice(1), 0] },
    })),
  }, /changed: ProtocolChain$/],
  ["uses dwProviderReserved, which is the base's", {
    fromFirst: changed(() => ({ dwProviderReserved: 77 })),
  }, /changed: dwProviderReserved$/],
  ["passes a copy", { fromFirst: (info) => info.slice() }, /was given a copy of the structure$/],
  ["substitutes too early", {
    fromFirst: changed(() => ({ ProtocolChain: { ChainLen: 1, ChainEntries: [0, 0, 0, 0, 0, 0, 0] } })),
  }, /"second layer" was given a structure that was changed: ProtocolChain$/],
  ["passes the chain to the base", {
    fromSecond: changed(() => ({ ProtocolChain: { ChainLen: 2, ChainEntries: [1002, 1, 0, 0, 0, 0, 0] } })),
  }, /"TCP\/IP in memory" was not given the base provider's own structure: ProtocolChain$/],
  ["signs the base's structure", {
    fromSecond: changed(() => ({ ProviderId: "11111111-2222-3333-4444-555555555555" })),
  }, /own structure: ProviderId$/],
];
for (const [misdeed, spoil, complaint] of MISDEEDS) {
  Deno.test(`a layer that ${misdeed} is found out`, async () => {
    using pair = await connection();
    const three = chainOfThree(new MemoryProvider(), spoil);
    await useAll(three, pair.server);
    const violations = three.recorder.violations(three.catalog);
    assert(violations.length > 0);
    assert(violations.some((violation) => complaint.test(violation)), violations.join("\n"));
    // A spoiled WSPStartup keeps a chain from starting at all; where it starts, every function is found out.
    const functions = new Set(violations.map((violation) => violation.split(" ")[0]!));
    assert(functions.has("WSPStartup"));
    if (three.recorder.calls.some((call) => call.function === "WSPSocket")) assertEquals(functions, new Set(FUNCTIONS));
  });
}

/** A chain of layers that are not IFS over memory. */
function nonIfsChain(layers: number): { provider: TableProvider; catalog: ProviderCatalog } {
  const catalog = new ProviderCatalog();
  const base = catalog.addBase(new MemoryProvider());
  const ids = Array.from({ length: layers }, (_, index) => {
    return catalog.addLayer(`layer ${index}`, (id) => new LayeredProvider(catalog, id), { dwServiceFlags1: 0 });
  });
  return { provider: catalog.open(catalog.addChain("not IFS", [...ids, base])), catalog };
}

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

Deno.test("a catalogue resolves chains of up to seven, from the topmost layer to the base", async () => {
  const catalog = new ProviderCatalog();
  const base = catalog.addBase(new MemoryProvider());
  const layers = Array.from({ length: 7 }, (_, index) => {
    return catalog.addLayer(`layer ${index}`, (id) => new LayeredProvider(catalog, id));
  });
  const seven = catalog.addChain("seven", [...layers.slice(0, 6), base]);
  assertEquals(catalog.resolve(seven).map((entry) => entry.dwCatalogEntryId), [...layers.slice(0, 6), base]);
  assertEquals(catalog.resolve(base).map(entryKind), ["base"]);
  assertEquals(catalog.resolve(layers[0]!).map(entryKind), ["layer"]);
  using provider = catalog.open(seven);
  using pair: Connection = await connection();
  provider.closeSocket(await provider.socket(provider.duplicateSocket(pair.server.handle, Deno.pid)));
  assertThrows(() => catalog.addChain("eight", [...layers, base]), RangeError);
});

Deno.test("a catalogue refuses what makes no chain, and entries that are none", () => {
  const catalog = new ProviderCatalog();
  assertThrows(
    () => catalog.addLayer("early", (id) => new LayeredProvider(catalog, id)),
    TypeError,
    "no base protocol",
  );
  const base = catalog.addBase(new MemoryProvider());
  const layer = catalog.addLayer("layer", (id) => new LayeredProvider(catalog, id));
  const chain = catalog.addChain("chain", [layer, base]);
  const wrong: [number[], string][] = [
    [[layer, layer, base], "twice"],
    [[base, layer], "entry 1 at place 0 is a base, not a layer"],
    [[layer, chain], "is a chain, not a base"],
    [[layer, 4711], "no such entry"],
    [[], "no such entry"],
  ];
  for (const [ids, problem] of wrong) {
    const error = assertThrows(() => catalog.addChain("wrong", ids), WinsockError, problem);
    assertEquals(error.codeName, "WSAEINVALIDPROVIDER");
  }
  assertThrows(() => catalog.open(layer), WinsockError, "a layer is used as part of a chain only");
  assertThrows(() => catalog.open(4711), WinsockError, "Cannot use catalogue entry 4711");
  assertThrows(() => catalog.addBase(new MemoryProvider()), TypeError, "Catalogue entry 1 is taken");
  assertThrows(
    () => catalog.add({ ...catalog.get(layer), dwCatalogEntryId: 9 }),
    TypeError,
    "a layer without functions",
  );
  assertThrows(
    () => catalog.add({ ...catalog.get(chain), dwCatalogEntryId: 9 }, () => functionsOf(new MemoryProvider())),
    TypeError,
    "a chain with functions",
  );
  const alone = new LayeredProvider(catalog, layer);
  const { descriptors } = catalog.open(chain);
  const own = WSAPROTOCOL_INFOW.encode(catalog.get(layer));
  assertThrows(
    () => alone.WSPStartup(SPI_VERSION, own, descriptors),
    WinsockError,
    "no chain in which anything is below",
  );
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
  const flags = catalog.entries.map(({ dwServiceFlags1 }) => (dwServiceFlags1 & XP1.XP1_IFS_HANDLES!) !== 0);
  assertEquals(flags, [true, false, false]);
});
