// The catalogue of this process: entries, chains, and what makes none.
import { assertEquals, assertThrows } from "@std/assert";
import { WinsockError } from "@winsock/handoff";
import {
  entryKind,
  functionsOf,
  LayeredProvider,
  MemoryProvider,
  ProviderCatalog,
  SPI_VERSION,
} from "@winsock/handoff/spi";
import { WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
import { type Connection, connection } from "../kit/connections.ts";

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
    "does not have a base protocol",
  );
  const base = catalog.addBase(new MemoryProvider());
  const layer = catalog.addLayer("layer", (id) => new LayeredProvider(catalog, id));
  const chain = catalog.addChain("chain", [layer, base]);
  const wrong: [number[], string][] = [
    [[layer, layer, base], "twice"],
    [[base, layer], "entry 1 at place 0 is a base, not a layer"],
    [[layer, chain], "is a chain, not a base"],
    [[layer, 4711], "the catalog does not have this entry"],
    [[], "the catalog does not have this entry"],
  ];
  for (const [ids, problem] of wrong) {
    const error = assertThrows(() => catalog.addChain("wrong", ids), WinsockError, problem);
    assertEquals(error.codeName, "WSAEINVALIDPROVIDER");
  }
  assertThrows(() => catalog.open(layer), WinsockError, "a layer can only be used as part of a chain");
  assertThrows(() => catalog.open(4711), WinsockError, "Cannot use catalog entry 4711");
  assertThrows(
    () => catalog.addBase(new MemoryProvider()),
    TypeError,
    "Cannot add catalog entry 1: the id exists already",
  );
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
    "not a chain with a provider below it",
  );
});
