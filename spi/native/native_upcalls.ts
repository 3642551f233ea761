/**
 * The WSPUPCALLTABLE native code starts one of our providers with, as our upcalls.
 *
 * @module
 */
import { failure, WSPUPCALL_FUNCTIONS } from "../../ffi/spi_functions.ts";
import { textOf } from "../../ffi/wide_text.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { WSPUPCALLTABLE } from "../../structs/function_tables.ts";
import { parseGuid } from "../../structs/guid.ts";
import { callAt } from "./memory.ts";
import type { Upcalls } from "../provider_functions.ts";
import { spiError } from "../spi_error.ts";

type Name = keyof typeof WSPUPCALL_FUNCTIONS;

const LONGEST_PATH = 260;

/** Calls the functions of a native table. Needs full `--allow-ffi`. */
export class NativeUpcalls implements Upcalls {
  readonly #table: BigUint64Array;

  /**
   * Copies the table.
   *
   * @param table 15 pointers, 120 bytes, as native code passed them by value.
   */
  constructor(table: Uint8Array) {
    this.#table = new BigUint64Array(table.slice().buffer);
  }

  WPUModifyIFSHandle(dwCatalogEntryId: number, ProposedHandle: bigint): bigint {
    return this.#call("lpWPUModifyIFSHandle", (lpErrno) => [dwCatalogEntryId, ProposedHandle, lpErrno]) as bigint;
  }

  WPUCreateSocketHandle(dwCatalogEntryId: number, dwContext: bigint): bigint {
    return this.#call("lpWPUCreateSocketHandle", (lpErrno) => [dwCatalogEntryId, dwContext, lpErrno]) as bigint;
  }

  WPUCloseSocketHandle(s: bigint): void {
    this.#call("lpWPUCloseSocketHandle", (lpErrno) => [s, lpErrno]);
  }

  WPUQuerySocketHandleContext(s: bigint): bigint {
    const context = new BigUint64Array(1);
    this.#call("lpWPUQuerySocketHandleContext", (lpErrno) => [s, context, lpErrno]);
    return context[0]!;
  }

  WPUGetProviderPath(lpProviderId: string): string {
    const path = new Uint16Array(LONGEST_PATH);
    const length = new Int32Array([LONGEST_PATH]);
    this.#call("lpWPUGetProviderPath", (lpErrno) => [parseGuid(lpProviderId), path, length, lpErrno]);
    return textOf(path);
  }

  WPUCreateEvent(): bigint {
    return this.#call("lpWPUCreateEvent", (lpErrno) => [lpErrno]) as bigint;
  }

  WPUSetEvent(hEvent: bigint): void {
    this.#call("lpWPUSetEvent", (lpErrno) => [hEvent, lpErrno]);
  }

  WPUResetEvent(hEvent: bigint): void {
    this.#call("lpWPUResetEvent", (lpErrno) => [hEvent, lpErrno]);
  }

  WPUCloseEvent(hEvent: bigint): void {
    this.#call("lpWPUCloseEvent", (lpErrno) => [hEvent, lpErrno]);
  }

  #call(name: Name, args: (lpErrno: Int32Array<ArrayBuffer>) => unknown[]): number | bigint {
    const functionName = name.slice("lp".length);
    const operation = "call back the caller of the service provider";
    const pointer = Deno.UnsafePointer.create(this.#table[WSPUPCALLTABLE.indexOf(name)]!);
    if (pointer === null) {
      throw spiError("WSAEOPNOTSUPP", functionName, operation, "its WSPUPCALLTABLE has no such entry");
    }
    const definition = WSPUPCALL_FUNCTIONS[name];
    const lpErrno = new Int32Array(1);
    const result = callAt(pointer, definition, args(lpErrno)) as number | bigint;
    if (result !== failure(name, definition.result)) return result;
    throw new WinsockError(lpErrno[0]!, { operation, functionName });
  }
}
