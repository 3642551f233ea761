/**
 * A layer of a protocol chain.
 *
 * @module
 */
import { equals } from "@std/bytes/equals";
import type { NativeArgument, PassedOnName } from "../ffi/platform.ts";
import { XP1 } from "../structs/constants.ts";
import type { WSPDATA } from "../structs/spi.ts";
import { duplicateForCaller, duplicateForNext, entryForNext } from "./chain.ts";
import { selectOther } from "./native/abi.ts";
import type { NextInChain, ProviderCatalog } from "./provider_catalog.ts";
import { type ProviderFunctions, StartupCounter, type Upcalls } from "./provider_functions.ts";
import { spiError } from "./service_provider.ts";

/** The state of a layer that was started. */
interface Started {
  readonly next: NextInChain;
  readonly upcalls: Upcalls;
}

/**
 * A layer that passes every call to the next provider of its chain by the documented rule. If the next provider is a
 * layer, it gets the same unmodified structure. If it is the base provider, it gets its own structure. See {@linkcode
 * entryForNext}.
 *
 * To add behavior to a layer, extend this class and override functions. Do not change the structures that are passed.
 *
 * The catalog entry of the layer determines its descriptors. With `XP1_IFS_HANDLES` they are the handles of the base
 * provider, announced with `WPUModifyIFSHandle`. Without it they come from `WPUCreateSocketHandle`, and the context of
 * each is the lower descriptor. Such a descriptor has a meaning only in this chain, and the chain does not know sockets
 * that were made without it (WSAENOTSOCK).
 *
 * @example A layer that counts duplicates
 * ```ts
 * import { LayeredProvider } from "@winsock/handoff/spi";
 * import { assert } from "@std/assert";
 *
 * class Counting extends LayeredProvider {
 *   shared = 0;
 *   override WSPDuplicateSocket(s: bigint, dwProcessId: number, lpProtocolInfo: Uint8Array<ArrayBuffer>): void {
 *     super.WSPDuplicateSocket(s, dwProcessId, lpProtocolInfo);
 *     this.shared++;
 *   }
 * }
 * assert(Counting.prototype instanceof LayeredProvider);
 * ```
 *
 * @experimental
 */
export class LayeredProvider implements ProviderFunctions {
  readonly #catalog: ProviderCatalog;
  readonly #startups = new StartupCounter<Started>();
  #next: NextInChain | undefined;
  /** The id of the layer's own entry. */
  readonly catalogEntryId: number;

  /**
   * Makes the layer, for one chain.
   *
   * @param catalog The catalog that contains the chain.
   * @param catalogEntryId The id of the layer's own entry in the catalog.
   */
  constructor(catalog: ProviderCatalog, catalogEntryId: number) {
    this.#catalog = catalog;
    this.catalogEntryId = catalogEntryId;
  }

  /** Whether the descriptors of the layer are handles of the system. */
  get ifs(): boolean {
    return (this.#catalog.get(this.catalogEntryId).dwServiceFlags1 & XP1.XP1_IFS_HANDLES) !== 0;
  }

  WSPStartup(wVersionRequested: number, lpProtocolInfo: Uint8Array<ArrayBuffer>, upcalls: Upcalls): WSPDATA {
    const next = this.#nextIn(lpProtocolInfo);
    const data = next.functions.WSPStartup(wVersionRequested, entryForNext(lpProtocolInfo, next), upcalls);
    this.#next = next;
    this.#startups.add({ next, upcalls });
    return data;
  }

  WSPSocket(
    af: number,
    type: number,
    protocol: number,
    lpProtocolInfo: Uint8Array<ArrayBuffer>,
    g: number,
    dwFlags: number,
  ): bigint {
    const { next, upcalls } = this.#started("WSPSocket");
    const lower = next.functions.WSPSocket(af, type, protocol, duplicateForNext(lpProtocolInfo, next), g, dwFlags);
    return this.#announce(lower, { next, upcalls });
  }

  passOn(name: PassedOnName, args: readonly NativeArgument[]): number | bigint {
    const functionName = name.slice("lp".length);
    const { next, upcalls } = this.#started(functionName);
    const { functions } = next;
    if (functions.passOn === undefined) {
      throw spiError(
        "WSAEOPNOTSUPP",
        functionName,
        "use a socket for native code",
        "the next provider does not have it",
      );
    }
    if (name === "lpWSPSelect") {
      const [nfds, read, write, except, timeout] = args as [number, ...Deno.PointerValue[]];
      const lower = (s: bigint) => this.#lower(s, functionName);
      return selectOther([read!, write!, except!], lower, (sets) => {
        return functions.passOn!(name, [nfds, ...sets, timeout!]);
      });
    }
    const [s, ...others] = args;
    const result = functions.passOn(name, [this.#lower(s as bigint, functionName), ...others]);
    return name === "lpWSPAccept" ? this.#announce(result as bigint, { next, upcalls }) : result;
  }

  /** Makes a descriptor of this layer for one of the next provider, which is closed if that fails. */
  #announce(lower: bigint, { next, upcalls }: Started): bigint {
    try {
      return this.ifs
        ? upcalls.WPUModifyIFSHandle(this.catalogEntryId, lower)
        : upcalls.WPUCreateSocketHandle(this.catalogEntryId, lower);
    } catch (error) {
      next.functions.WSPCloseSocket(lower);
      throw error;
    }
  }

  WSPDuplicateSocket(s: bigint, dwProcessId: number, lpProtocolInfo: Uint8Array<ArrayBuffer>): void {
    const { next } = this.#started("WSPDuplicateSocket");
    const structure = entryForNext(lpProtocolInfo, next);
    next.functions.WSPDuplicateSocket(this.#lower(s, "WSPDuplicateSocket"), dwProcessId, structure);
    if (next.nextIsBase) lpProtocolInfo.set(duplicateForCaller(structure, next));
  }

  WSPCloseSocket(s: bigint): void {
    const { next, upcalls } = this.#started("WSPCloseSocket");
    next.functions.WSPCloseSocket(this.#lower(s, "WSPCloseSocket"));
    if (!this.ifs) upcalls.WPUCloseSocketHandle(s);
  }

  WSPSetSockOpt(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): void {
    const { next } = this.#started("WSPSetSockOpt");
    next.functions.WSPSetSockOpt(this.#lower(s, "WSPSetSockOpt"), level, optname, optval);
  }

  WSPGetSockOpt(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): number {
    const { next } = this.#started("WSPGetSockOpt");
    return next.functions.WSPGetSockOpt(this.#lower(s, "WSPGetSockOpt"), level, optname, optval);
  }

  WSPAddressToString(lpsaAddress: Uint8Array<ArrayBuffer>, lpProtocolInfo: Uint8Array<ArrayBuffer>): string {
    const { next } = this.#started("WSPAddressToString");
    return next.functions.WSPAddressToString(lpsaAddress, entryForNext(lpProtocolInfo, next));
  }

  WSPStringToAddress(
    AddressString: string,
    AddressFamily: number,
    lpProtocolInfo: Uint8Array<ArrayBuffer>,
  ): Uint8Array<ArrayBuffer> {
    const { next } = this.#started("WSPStringToAddress");
    return next.functions.WSPStringToAddress(AddressString, AddressFamily, entryForNext(lpProtocolInfo, next));
  }

  WSPCleanup(): void {
    const { next } = this.#started("WSPCleanup");
    next.functions.WSPCleanup();
    if (this.#startups.remove() !== undefined) this.#next = undefined;
  }

  withdraw(lpProtocolInfo: Uint8Array<ArrayBuffer>): void {
    const { next } = this.#started("WSPDuplicateSocket");
    next.functions.withdraw?.(duplicateForNext(lpProtocolInfo, next));
  }

  /** Returns the next provider. It is the same for every startup, because the object belongs to only one chain. */
  #nextIn(lpProtocolInfo: Uint8Array): NextInChain {
    const next = this.#catalog.next(lpProtocolInfo, this.catalogEntryId);
    if (this.#next === undefined) return next;
    if (equals(next.chain, this.#next.chain)) return this.#next;
    const operation = `start layer ${this.catalogEntryId}`;
    throw spiError("WSAEINPROGRESS", "WSPStartup", operation, "it is in use for another chain");
  }

  #started(functionName: string): Started {
    return this.#startups.current(functionName, `use layer ${this.catalogEntryId}`);
  }

  /** Returns the descriptor of the next provider for one of this layer. */
  #lower(s: bigint, functionName: string): bigint {
    if (this.ifs) return s;
    const { upcalls } = this.#started(functionName);
    try {
      return upcalls.WPUQuerySocketHandleContext(s);
    } catch (cause) {
      throw spiError(
        "WSAENOTSOCK",
        functionName,
        `use socket ${s}`,
        cause instanceof Error ? cause.message : undefined,
      );
    }
  }
}
