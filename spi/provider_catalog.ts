/**
 * A catalog of service providers in this process: base providers, layers, and chains of them.
 *
 * @module
 */
import { nodeBuiltin } from "../internal/runtime.ts";
import { formatGuid } from "../structs/guid.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import type { ChainPlace } from "./chain.ts";
import { DescriptorTable } from "./descriptor_table.ts";
import type { ProviderFunctions } from "./provider_functions.ts";
import { type ServiceProvider, spiError } from "./service_provider.ts";
import { functionsOf, TableProvider } from "./table_provider.ts";

/**
 * The kind of a catalog entry, by its `ChainLen`: 0, 1, or 2 to 7.
 *
 * @experimental
 */
export type EntryKind = "layer" | "base" | "chain";

/**
 * The provider after a layer in a chain.
 *
 * @experimental
 */
export interface NextInChain extends ChainPlace {
  /** The functions of the next provider, not started. */
  readonly functions: ProviderFunctions;
}

/**
 * Returns the kind of an entry.
 *
 * @experimental
 * @param info The entry.
 * @returns `layer`, `base` or `chain`.
 */
export function entryKind({ ProtocolChain: { ChainLen } }: WSAPROTOCOL_INFOW): EntryKind {
  return ChainLen === 0 ? "layer" : ChainLen === 1 ? "base" : "chain";
}

/**
 * A catalog of providers and chains, like the catalog of Windows. A chain names the entries that it consists of, from
 * the topmost layer to the base protocol. Nothing is installed in the system: the source and the target each make the
 * same catalog, so that a blob names the same entries in both.
 *
 * @example A layer over the system's provider
 * ```ts
 * import { defaultProvider, LayeredProvider, ProviderCatalog } from "@winsock/handoff/spi";
 * import { assertEquals } from "@std/assert";
 *
 * const catalog = new ProviderCatalog();
 * const base = catalog.addBase(defaultProvider());
 * const layer = catalog.addLayer("my layer", (entryId) => new LayeredProvider(catalog, entryId));
 * const chain = catalog.addChain("my layer over TCP", [layer, base]);
 * using provider = catalog.open(chain);
 * assertEquals(provider.protocolInfo.ProtocolChain.ChainLen, 2);
 * ```
 *
 * @experimental
 */
export class ProviderCatalog {
  readonly #entries = new Map<number, WSAPROTOCOL_INFOW>();
  readonly #makers = new Map<number, () => ProviderFunctions>();

  /** The entries, in the order in which they were added. */
  get entries(): WSAPROTOCOL_INFOW[] {
    return [...this.#entries.values()];
  }

  /**
   * Adds an entry of any kind.
   *
   * @param info The entry. The catalog must not have its `dwCatalogEntryId` yet.
   * @param make Makes the functions of the entry, each time the entry is opened. A chain does not have its own
   * functions.
   * @returns The id of the entry.
   * @throws {TypeError} If the id exists already, if a chain has functions, or if another entry does not.
   */
  add(info: WSAPROTOCOL_INFOW, make?: () => ProviderFunctions): number {
    const id = info.dwCatalogEntryId;
    if (this.#entries.has(id)) throw new TypeError(`Cannot add catalog entry ${id}: the id exists already`);
    if ((entryKind(info) === "chain") !== (make === undefined)) {
      throw new TypeError(
        `Cannot add catalog entry ${id}: it is a ${entryKind(info)} ${make ? "with" : "without"} functions`,
      );
    }
    // This makes a copy, and throws if the entry cannot be encoded.
    this.#entries.set(id, WSAPROTOCOL_INFOW.decode(WSAPROTOCOL_INFOW.encode(info)));
    if (make !== undefined) this.#makers.set(id, make);
    return id;
  }

  /**
   * Adds a base provider under its own entry.
   *
   * @param provider The provider.
   * @returns The id of the entry.
   */
  addBase(provider: ServiceProvider): number {
    return this.add(provider.protocolInfo, () => functionsOf(provider));
  }

  /**
   * Adds a layer under a new entry. The entry is a copy of the base protocol that was added last, with its own name, id
   * and GUID. The GUID follows from the name.
   *
   * @param szProtocol The name of the layer.
   * @param make Makes the functions of the layer for the id.
   * @param changes Further differences of the entry, such as `dwServiceFlags1`.
   * @returns The id of the entry.
   * @throws {TypeError} If the catalog does not have a base protocol yet.
   */
  addLayer(
    szProtocol: string,
    make: (catalogEntryId: number) => ProviderFunctions,
    changes: Partial<WSAPROTOCOL_INFOW> = {},
  ): number {
    const base = this.entries.findLast((entry) => entryKind(entry) === "base");
    if (base === undefined) throw new TypeError("Cannot add a layer: the catalog does not have a base protocol yet");
    const dwCatalogEntryId = this.#freeId();
    return this.add({
      ...base,
      ProviderId: guidOf(szProtocol),
      ...changes,
      dwCatalogEntryId,
      ProtocolChain: { ChainLen: 0, ChainEntries: [0, 0, 0, 0, 0, 0, 0] },
      szProtocol,
    }, () => make(dwCatalogEntryId));
  }

  /**
   * Adds a chain under a new entry. The entry is a copy of its topmost layer, with its own name and id.
   *
   * @param szProtocol The name of the chain.
   * @param entryIds Two to seven entries: layers, and at the end a base protocol.
   * @returns The id of the entry.
   * @throws {RangeError} If there are too many entries.
   * @throws {WinsockError} WSAEINVALIDPROVIDER if the entries cannot form a chain.
   */
  addChain(szProtocol: string, entryIds: readonly number[]): number {
    const top = this.get(entryIds[0] ?? 0);
    const ChainEntries = [...entryIds, ...Array<number>(Math.max(0, 7 - entryIds.length)).fill(0)];
    const info: WSAPROTOCOL_INFOW = {
      ...top,
      dwCatalogEntryId: this.#freeId(),
      ProtocolChain: { ChainLen: entryIds.length, ChainEntries },
      szProtocol,
    };
    WSAPROTOCOL_INFOW.encode(info);
    this.#checkChain(info);
    return this.add(info);
  }

  /**
   * Returns an entry by its id.
   *
   * @param catalogEntryId The id.
   * @returns The entry.
   * @throws {WinsockError} WSAEINVALIDPROVIDER if the entry does not exist.
   */
  get(catalogEntryId: number): WSAPROTOCOL_INFOW {
    const entry = this.#entries.get(catalogEntryId);
    if (entry === undefined) throw invalid(catalogEntryId, "the catalog does not have this entry");
    return entry;
  }

  /**
   * Returns the providers that a socket of an entry goes through, from the topmost layer to the base. An entry that is
   * not a chain resolves to itself.
   *
   * @param catalogEntryId The id of the entry.
   * @returns The entries of the providers.
   * @throws {WinsockError} WSAEINVALIDPROVIDER if one of them is missing, or the chain does not end with its only base.
   */
  resolve(catalogEntryId: number): WSAPROTOCOL_INFOW[] {
    const entry = this.get(catalogEntryId);
    if (entryKind(entry) !== "chain") return [entry];
    this.#checkChain(entry);
    return chainEntries(entry).map((id) => this.get(id));
  }

  /**
   * Returns the provider after a layer.
   *
   * @param lpProtocolInfo The chain's structure as the layer was given it, 628 bytes.
   * @param catalogEntryId The layer's own id.
   * @returns The next provider, and its position in the chain.
   * @throws {WinsockError} WSAEINVALIDPROVIDER if the structure is not of a chain that contains the layer.
   */
  next(lpProtocolInfo: Uint8Array, catalogEntryId: number): NextInChain {
    const chain = this.get(WSAPROTOCOL_INFOW.decode(lpProtocolInfo).dwCatalogEntryId);
    const ids = chainEntries(chain);
    const position = ids.indexOf(catalogEntryId);
    const next = ids[position + 1];
    if (position === -1 || next === undefined) {
      throw invalid(catalogEntryId, `entry ${chain.dwCatalogEntryId} is not a chain with a provider below it`);
    }
    return {
      functions: this.functions(next),
      chain: WSAPROTOCOL_INFOW.encode(chain),
      base: WSAPROTOCOL_INFOW.encode(this.get(ids.at(-1)!)),
      nextIsBase: position + 2 === ids.length,
    };
  }

  /**
   * Returns the functions of an entry. The functions of a chain are those of its topmost layer.
   *
   * @param catalogEntryId The id of the entry.
   * @returns The functions, not started.
   * @throws {WinsockError} WSAEINVALIDPROVIDER if the entry does not exist.
   */
  functions(catalogEntryId: number): ProviderFunctions {
    const [top] = this.resolve(catalogEntryId);
    return this.#makers.get(top!.dwCatalogEntryId)!();
  }

  /**
   * Opens an entry for use.
   *
   * @param catalogEntryId The id of a base protocol or a chain.
   * @param descriptors The table that receives upcalls. Defaults to a new table.
   * @returns The provider. The caller must dispose of it.
   * @throws {WinsockError} WSAEINVALIDPROVIDER if the entry does not exist, its chain is not valid, or it is a layer,
   * which cannot be used on its own.
   */
  open(catalogEntryId: number, descriptors: DescriptorTable = new DescriptorTable()): TableProvider {
    const entry = this.get(catalogEntryId);
    if (entryKind(entry) === "layer") throw invalid(catalogEntryId, "a layer can only be used as part of a chain");
    return new TableProvider(this.functions(catalogEntryId), entry, descriptors);
  }

  #checkChain(chain: WSAPROTOCOL_INFOW): void {
    const ids = chainEntries(chain);
    if (new Set(ids).size !== ids.length) throw invalid(chain.dwCatalogEntryId, "an entry is in the chain twice");
    for (const [index, id] of ids.entries()) {
      const kind = entryKind(this.get(id));
      const expected = index === ids.length - 1 ? "base" : "layer";
      if (kind !== expected) {
        throw invalid(chain.dwCatalogEntryId, `entry ${id} at place ${index} is a ${kind}, not a ${expected}`);
      }
    }
  }

  #freeId(): number {
    return Math.max(1000, ...this.#entries.keys()) + 1;
  }
}

function chainEntries({ ProtocolChain: { ChainLen, ChainEntries } }: WSAPROTOCOL_INFOW): readonly number[] {
  return ChainEntries.slice(0, ChainLen);
}

/** Derives a GUID from a name. It is the same in every process. */
function guidOf(name: string): string {
  return formatGuid(nodeBuiltin("node:crypto").createHash("sha256").update(name).digest().subarray(0, 16));
}

function invalid(catalogEntryId: number, detail: string): Error {
  return spiError("WSAEINVALIDPROVIDER", "WSPStartup", `use catalog entry ${catalogEntryId}`, detail);
}
