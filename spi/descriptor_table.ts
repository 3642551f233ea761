/**
 * The table of the descriptors that providers have registered. ws2_32 has such a table for its providers; this one is
 * for the providers of this library.
 *
 * @module
 */
import { checkOptions, FUNCTION } from "../internal/options.ts";
import { type EventCalls, INVALID_SOCKET } from "../ffi/platform.ts";
import { providerCalls } from "../ffi/provider_platform.ts";
import type { Upcalls } from "./provider_functions.ts";
import { spiError } from "./service_provider.ts";

/**
 * The first descriptor of non-IFS providers. It is above any descriptor that Linux assigns. Its lowest bit is set, as
 * in all that follow; Windows never sets this bit in a handle. A descriptor of this table is therefore never mistaken
 * for one of the system.
 */
const FIRST_HANDLE = 0x7000_0001n;
const HANDLE_STEP = 4n;

interface SocketHandle {
  readonly dwCatalogEntryId: number;
  readonly dwContext: bigint;
}

/**
 * The options of a {@linkcode DescriptorTable}.
 *
 * @experimental
 */
export interface DescriptorTableOptions {
  /**
   * Returns the path of a provider's library by the GUID of the provider; `undefined` if it has no library. Defaults to
   * a function that returns `undefined`.
   */
  providerPath?: (providerId: string) => string | undefined;
}

/**
 * Implements the upcalls of the providers in this process, and stores what they register: the catalog entry of each
 * announced descriptor, and the context of each descriptor that is not a handle of the system.
 *
 * @experimental
 * @example Storing the context of a descriptor
 * ```ts
 * import { DescriptorTable } from "@winsock/handoff/spi";
 * import { assertEquals } from "@std/assert";
 *
 * const table = new DescriptorTable();
 * const s = table.WPUCreateSocketHandle(1003, 42n);
 * assertEquals(table.WPUQuerySocketHandleContext(s), 42n);
 * table.WPUCloseSocketHandle(s);
 * assertEquals(table.size, 0);
 * ```
 */
export class DescriptorTable implements Upcalls {
  readonly #handles = new Map<bigint, SocketHandle>();
  readonly #announced = new Map<bigint, number>();
  readonly #providerPath: (providerId: string) => string | undefined;
  #next = FIRST_HANDLE;

  /**
   * Makes an empty table.
   *
   * @param options The options of the table.
   */
  constructor(options: DescriptorTableOptions = {}) {
    checkOptions(options, { providerPath: FUNCTION });
    this.#providerPath = options.providerPath ?? (() => undefined);
  }

  /** The number of descriptors of both kinds. */
  get size(): number {
    return this.#handles.size + this.#announced.size;
  }

  /**
   * Returns the catalog entry of the provider that made a descriptor.
   *
   * @param s The descriptor.
   * @returns The id of the entry; `undefined` if no provider has registered the descriptor.
   */
  entryOf(s: bigint): number | undefined {
    return this.#handles.get(s)?.dwCatalogEntryId ?? this.#announced.get(s);
  }

  /**
   * Removes an announced descriptor that was closed, because IFS providers do not report that. A descriptor that is not
   * removed stays until the system assigns its number again.
   *
   * @param s The descriptor.
   */
  forget(s: bigint): void {
    this.#announced.delete(s);
  }

  WPUModifyIFSHandle(dwCatalogEntryId: number, ProposedHandle: bigint): bigint {
    if (ProposedHandle === INVALID_SOCKET) {
      throw spiError("WSAEINVAL", "WPUModifyIFSHandle", `announce a descriptor of entry ${dwCatalogEntryId}`);
    }
    this.#announced.set(ProposedHandle, dwCatalogEntryId);
    return ProposedHandle;
  }

  WPUCreateSocketHandle(dwCatalogEntryId: number, dwContext: bigint): bigint {
    const s = this.#next;
    this.#next += HANDLE_STEP;
    this.#handles.set(s, { dwCatalogEntryId, dwContext });
    return s;
  }

  WPUCloseSocketHandle(s: bigint): void {
    if (!this.#handles.delete(s)) throw spiError("WSAENOTSOCK", "WPUCloseSocketHandle", `close descriptor ${s}`);
  }

  WPUQuerySocketHandleContext(s: bigint): bigint {
    const handle = this.#handles.get(s);
    if (handle !== undefined) return handle.dwContext;
    throw spiError("WSAENOTSOCK", "WPUQuerySocketHandleContext", `read the context of descriptor ${s}`);
  }

  WPUGetProviderPath(lpProviderId: string): string {
    const path = this.#providerPath(lpProviderId);
    if (path !== undefined) return path;
    throw spiError("WSAEINVALIDPROVIDER", "WPUGetProviderPath", `find the library of provider ${lpProviderId}`);
  }

  WPUCreateEvent(): bigint {
    return this.#events("WPUCreateEvent").create();
  }

  WPUSetEvent(hEvent: bigint): void {
    this.#events("WPUSetEvent").set(hEvent);
  }

  WPUResetEvent(hEvent: bigint): void {
    this.#events("WPUResetEvent").reset(hEvent);
  }

  WPUCloseEvent(hEvent: bigint): void {
    this.#events("WPUCloseEvent").close(hEvent);
  }

  #events(functionName: string): EventCalls {
    const { events } = providerCalls();
    if (events !== undefined) return events;
    throw spiError("WSAEOPNOTSUPP", functionName, "use an event: this system does not have events");
  }
}
