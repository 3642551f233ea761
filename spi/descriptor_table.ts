/**
 * The descriptors providers have told of: what ws2_32 keeps for its providers, kept here for ours.
 *
 * @module
 */
import { type EventCalls, INVALID_SOCKET } from "../ffi/platform.ts";
import { providerCalls } from "../ffi/provider_platform.ts";
import type { Upcalls } from "./provider_functions.ts";
import { spiError } from "./service_provider.ts";

/**
 * Descriptors of non-IFS providers begin here: above any descriptor Linux gives out, and with the lowest bit set, which
 * handles of Windows never have, so that one is never taken for a descriptor of the system.
 */
const FIRST_HANDLE = 0x7000_0001n;
const HANDLE_STEP = 4n;

interface SocketHandle {
  readonly dwCatalogEntryId: number;
  readonly dwContext: bigint;
}

/**
 * How a {@linkcode DescriptorTable} answers what it cannot know itself.
 *
 * @experimental
 */
export interface DescriptorTableOptions {
  /** The path of a provider's library by its GUID; `undefined` if there is none. Default: none has one. */
  providerPath?: (providerId: string) => string | undefined;
}

/**
 * The upcalls of this process's providers, and what they tell through them: which catalogue entry an announced
 * descriptor belongs to, and the context of each descriptor that is no handle of the system.
 *
 * @experimental
 * @example Context kept for a descriptor
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
   * @param options How.
   */
  constructor(options: DescriptorTableOptions = {}) {
    this.#providerPath = options.providerPath ?? (() => undefined);
  }

  /** Descriptors there are at the moment, of both kinds. */
  get size(): number {
    return this.#handles.size + this.#announced.size;
  }

  /**
   * The catalogue entry whose provider has made a descriptor.
   *
   * @param s The descriptor.
   * @returns The entry's id; `undefined` if no provider has told of it.
   */
  entryOf(s: bigint): number | undefined {
    return this.#handles.get(s)?.dwCatalogEntryId ?? this.#announced.get(s);
  }

  /**
   * Forgets an announced descriptor: it was closed, which IFS providers do not tell. One that is never forgotten stays
   * until the system gives its number to another.
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
    throw spiError("WSAEOPNOTSUPP", functionName, "use an event: this system has none");
  }
}
