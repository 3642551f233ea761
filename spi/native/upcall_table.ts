/**
 * Our upcalls as the WSPUPCALLTABLE a native provider is started with.
 *
 * @module
 */
import { WSPUPCALLTABLE } from "../../structs/function_tables.ts";
import { formatGuid } from "../../structs/guid.ts";
import type { Upcalls } from "../provider_functions.ts";
import { spiError } from "../spi_error.ts";
import { type CallbackTable, callbackTable, required } from "./callbacks.ts";
import { bytesAt, readInt, writeInt, writePointer, writeWide } from "./memory.ts";

/** Where winsock2.h has the array in its `fd_set`, and how long it may be. */
const FD_ARRAY_OFFSET = 8;
const FD_SETSIZE = 64;

/**
 * Makes the table. What has no meaning outside ws2_32 (window messages, asynchronous procedure calls, thread handles)
 * fails with WSAEOPNOTSUPP.
 *
 * Needs full `--allow-ffi`.
 *
 * @param upcalls What native code calls.
 */
export function upcallTable(upcalls: Upcalls): CallbackTable {
  return callbackTable(WSPUPCALLTABLE, {
    lpWPUModifyIFSHandle: (entryId: number, handle: bigint) => upcalls.WPUModifyIFSHandle(entryId, handle),
    lpWPUCreateSocketHandle: (entryId: number, context: bigint) => upcalls.WPUCreateSocketHandle(entryId, context),
    lpWPUCloseSocketHandle: (s: bigint) => done(upcalls.WPUCloseSocketHandle(s)),
    lpWPUQuerySocketHandleContext(s: bigint, lpContext: Deno.PointerValue) {
      const context = upcalls.WPUQuerySocketHandleContext(s);
      writePointer(required(lpContext, "WPUQuerySocketHandleContext"), context);
      return 0;
    },
    lpWPUGetProviderPath(id: Deno.PointerValue, path: Deno.PointerValue, length: Deno.PointerValue) {
      const name = "WPUGetProviderPath";
      const text = upcalls.WPUGetProviderPath(formatGuid(bytesAt(required(id, name), 16)));
      const lpLength = required(length, name);
      const fits = writeWide(required(path, name), readInt(lpLength), text);
      writeInt(lpLength, text.length + 1);
      if (!fits) throw spiError("WSAEFAULT", name, "return a path", `it needs ${text.length + 1} units`);
      return 0;
    },
    // There is never a blocking hook: none has been installable since Winsock 2.
    lpWPUQueryBlockingCallback(_id: number, lplpfnCallback: Deno.PointerValue, lpdwContext: Deno.PointerValue) {
      writePointer(required(lplpfnCallback, "WPUQueryBlockingCallback"), 0n);
      writePointer(required(lpdwContext, "WPUQueryBlockingCallback"), 0n);
      return 0;
    },
    lpWPUFDIsSet(s: bigint, fdset: Deno.PointerValue) {
      const set = required(fdset, "WPUFDIsSet");
      const count = Math.min(readInt(set), FD_SETSIZE);
      const array = new Deno.UnsafePointerView(set);
      return Array.from({ length: count }, (_, index) => index)
          .some((index) => array.getBigUint64(FD_ARRAY_OFFSET + index * 8) === s)
        ? 1
        : 0;
    },
    lpWPUCreateEvent: () => upcalls.WPUCreateEvent(),
    lpWPUSetEvent: (event: bigint) => succeeded(upcalls.WPUSetEvent(event)),
    lpWPUResetEvent: (event: bigint) => succeeded(upcalls.WPUResetEvent(event)),
    lpWPUCloseEvent: (event: bigint) => succeeded(upcalls.WPUCloseEvent(event)),
  });
}

/** The `int` of a function that has not failed. */
function done(_: void): number {
  return 0;
}

/** The BOOL of a function that has not failed. */
function succeeded(_: void): number {
  return 1;
}
