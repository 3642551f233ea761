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
const TRUE = 1;

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
    lpWPUCloseSocketHandle(s: bigint) {
      upcalls.WPUCloseSocketHandle(s);
      return 0;
    },
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
      const bytes = bytesAt(set, FD_ARRAY_OFFSET + count * 8).slice(FD_ARRAY_OFFSET);
      return new BigUint64Array(bytes.buffer).includes(s) ? 1 : 0;
    },
    lpWPUCreateEvent: () => upcalls.WPUCreateEvent(),
    lpWPUSetEvent(event: bigint) {
      upcalls.WPUSetEvent(event);
      return TRUE;
    },
    lpWPUResetEvent(event: bigint) {
      upcalls.WPUResetEvent(event);
      return TRUE;
    },
    lpWPUCloseEvent(event: bigint) {
      upcalls.WPUCloseEvent(event);
      return TRUE;
    },
  });
}
