/** Chains for tests. */
import {
  functionsOf,
  LayeredProvider,
  MemoryProvider,
  ProviderCatalog,
  type ServiceProvider,
  type TableProvider,
} from "@winsock/handoff/spi";
import { WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
import { Recorder, spoiled } from "./recording.ts";

export type Structure = Uint8Array<ArrayBuffer>;

export interface ChainOfThree {
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
export function chainOfThree(
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

/** A chain of layers that are not IFS over memory. */
export function nonIfsChain(layers: number): { provider: TableProvider; catalog: ProviderCatalog } {
  const catalog = new ProviderCatalog();
  const base = catalog.addBase(new MemoryProvider());
  const ids = Array.from({ length: layers }, (_, index) => {
    return catalog.addLayer(`layer ${index}`, (id) => new LayeredProvider(catalog, id), { dwServiceFlags1: 0 });
  });
  return { provider: catalog.open(catalog.addChain("not IFS", [...ids, base])), catalog };
}
