/**
 * A catalogue of service providers of this process: base providers, layers, and the chains made of them.
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
 * What a catalogue entry is, by its `ChainLen`: 0, 1, or 2 to 7.
 *
 * @experimental
 */
export type EntryKind = "layer" | "base" | "chain";

/**
 * Who follows a layer in a chain.
 *
 * @experimental
 */
export interface NextInChain extends ChainPlace {
  /** The next provider's functions, not started. */
  readonly functions: ProviderFunctions;
}

/**
 * What an entry is.
 *
 * @experimental
 * @param info The entry.
 * @returns `layer`, `base` or `chain`.
 */
export function entryKind({ ProtocolChain: { ChainLen } }: WSAPROTOCOL_INFOW): EntryKind {
  return ChainLen === 0 ? "layer" : ChainLen === 1 ? "base" : "chain";
}

/**
 * Providers and chains of them, as Windows' own catalogue has them: a chain names the entries it consists of, from the
 * topmost layer to the base protocol. Nothing is installed in the system: source and target each fill a catalogue, alike,
 * so that a blob names the same entries in both.
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

  /** The entries, in the order in which they came. */
  get entries(): WSAPROTOCOL_INFOW[] {
    return [...this.#entries.values()];
  }

  /**
   * Adds any entry.
   *
   * @param info The entry; its `dwCatalogEntryId` must be new.
   * @param make Makes its functions, once for each time it is opened; a chain has none of its own.
   * @returns The entry's id.
   * @throws {TypeError} If the id is taken, if a chain comes with functions, or anything else without.
   */
  add(info: WSAPROTOCOL_INFOW, make?: () => ProviderFunctions): number {
    const id = info.dwCatalogEntryId;
    if (this.#entries.has(id)) throw new TypeError(`Catalogue entry ${id} is taken`);
    if ((entryKind(info) === "chain") !== (make === undefined)) {
      throw new TypeError(`Catalogue entry ${id} is a ${entryKind(info)} ${make ? "with" : "without"} functions`);
    }
    // Copied, and refused if it is none that could be written down.
    this.#entries.set(id, WSAPROTOCOL_INFOW.decode(WSAPROTOCOL_INFOW.encode(info)));
    if (make !== undefined) this.#makers.set(id, make);
    return id;
  }

  /**
   * Adds a base provider under its own entry.
   *
   * @param provider The provider.
   * @returns The entry's id.
   */
  addBase(provider: ServiceProvider): number {
    return this.add(provider.protocolInfo, () => functionsOf(provider));
  }

  /**
   * Adds a layer under an entry made for it: that of the base protocol added last, with a name, an id and a GUID of its
   * own, which follows from the name.
   *
   * @param szProtocol The layer's name.
   * @param make Makes its functions for the id.
   * @param changes What else is different in its entry, such as `dwServiceFlags1`.
   * @returns The entry's id.
   * @throws {TypeError} If there is no base protocol yet.
   */
  addLayer(
    szProtocol: string,
    make: (catalogEntryId: number) => ProviderFunctions,
    changes: Partial<WSAPROTOCOL_INFOW> = {},
  ): number {
    const base = this.entries.findLast((entry) => entryKind(entry) === "base");
    if (base === undefined) throw new TypeError("The catalogue has no base protocol for the layer yet");
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
   * Adds a chain under an entry made for it: that of its topmost layer, with a name and an id of its own.
   *
   * @param szProtocol The chain's name.
   * @param entryIds Two to seven entries: layers, and at the end a base protocol.
   * @returns The entry's id.
   * @throws {RangeError} If there are too many.
   * @throws {WinsockError} WSAEINVALIDPROVIDER if the entries make no chain.
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
   * An entry by its id.
   *
   * @param catalogEntryId The id.
   * @returns The entry.
   * @throws {WinsockError} WSAEINVALIDPROVIDER if there is none.
   */
  get(catalogEntryId: number): WSAPROTOCOL_INFOW {
    const entry = this.#entries.get(catalogEntryId);
    if (entry === undefined) throw invalid(catalogEntryId, "the catalogue has no such entry");
    return entry;
  }

  /**
   * The providers a socket of an entry goes through, from the topmost to the base; an entry that is no chain by itself.
   *
   * @param catalogEntryId The entry's id.
   * @returns Their entries.
   * @throws {WinsockError} WSAEINVALIDPROVIDER if one of them is missing, or the chain does not end with its only base.
   */
  resolve(catalogEntryId: number): WSAPROTOCOL_INFOW[] {
    const entry = this.get(catalogEntryId);
    if (entryKind(entry) !== "chain") return [entry];
    this.#checkChain(entry);
    return chainEntries(entry).map((id) => this.get(id));
  }

  /**
   * Who follows a layer.
   *
   * @param lpProtocolInfo The chain's structure as the layer was given it, 628 bytes.
   * @param catalogEntryId The layer's own id.
   * @returns The next provider, and where it is in the chain.
   * @throws {WinsockError} WSAEINVALIDPROVIDER if the structure is of no chain the layer is in.
   */
  next(lpProtocolInfo: Uint8Array, catalogEntryId: number): NextInChain {
    const chain = this.get(WSAPROTOCOL_INFOW.decode(lpProtocolInfo).dwCatalogEntryId);
    const ids = chainEntries(chain);
    const position = ids.indexOf(catalogEntryId);
    const next = ids[position + 1];
    if (position === -1 || next === undefined) {
      throw invalid(catalogEntryId, `entry ${chain.dwCatalogEntryId} is no chain in which anything is below it`);
    }
    return {
      functions: this.functions(next),
      chain: WSAPROTOCOL_INFOW.encode(chain),
      base: WSAPROTOCOL_INFOW.encode(this.get(ids.at(-1)!)),
      nextIsBase: position + 2 === ids.length,
    };
  }

  /**
   * Functions of an entry; those of a chain are its topmost layer's.
   *
   * @param catalogEntryId The entry's id.
   * @returns The functions, not started.
   * @throws {WinsockError} WSAEINVALIDPROVIDER if there is no such entry.
   */
  functions(catalogEntryId: number): ProviderFunctions {
    const [top] = this.resolve(catalogEntryId);
    return this.#makers.get(top!.dwCatalogEntryId)!();
  }

  /**
   * Opens an entry for use.
   *
   * @param catalogEntryId A base's or a chain's id.
   * @param descriptors Where upcalls go. Default: a table of its own.
   * @returns The provider; the caller's to dispose of.
   * @throws {WinsockError} WSAEINVALIDPROVIDER if there is no such entry, its chain is broken, or it is a layer, which
   * cannot be used by itself.
   */
  open(catalogEntryId: number, descriptors: DescriptorTable = new DescriptorTable()): TableProvider {
    const entry = this.get(catalogEntryId);
    if (entryKind(entry) === "layer") throw invalid(catalogEntryId, "a layer is used as part of a chain only");
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

/** A GUID that follows from a name, the same in every process. */
function guidOf(name: string): string {
  return formatGuid(nodeBuiltin("node:crypto").createHash("sha256").update(name).digest().subarray(0, 16));
}

function invalid(catalogEntryId: number, detail: string): Error {
  return spiError("WSAEINVALIDPROVIDER", "WSPStartup", `use catalogue entry ${catalogEntryId}`, detail);
}
