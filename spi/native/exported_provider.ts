/**
 * Exports a provider of this program to native code, which starts it with its own WSPUPCALLTABLE.
 *
 * @module
 */
import {
  failure,
  hasCompletionRoutine,
  PASSED_ON_FUNCTIONS,
  WSP_STARTUP_CALLBACK,
  WSPUPCALL_FUNCTIONS,
} from "../../ffi/spi_functions.ts";
import type { NativeArgument, PassedOnName } from "../../ffi/platform.ts";
import { decodeUtf16 } from "../../ffi/library.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { WSPDATA, WSPPROC_TABLE, WSPUPCALLTABLE } from "../../structs/spi.ts";
import { parseGuid } from "../../structs/guid.ts";
import {
  bytesAt,
  callAt,
  type CallbackTable,
  callbackTable,
  codeOf,
  readInt,
  readWide,
  required,
  writeInt,
  writeWide,
} from "./abi.ts";
import type { ProviderFunctions, Upcalls } from "../provider_functions.ts";
import { type ServiceProvider, spiError } from "../service_provider.ts";
import { WSAPROTOCOL_INFOW } from "../../structs/wsaprotocol_info.ts";
import { functionsOf } from "../table_provider.ts";

type Name = keyof typeof WSPUPCALL_FUNCTIONS;

const MAX_PATH = 260;

/** Calls the functions of a native table. Needs full `--allow-ffi`. */
class NativeUpcalls implements Upcalls {
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
    const path = new Uint16Array(MAX_PATH);
    const length = new Int32Array([MAX_PATH]);
    this.#call("lpWPUGetProviderPath", (lpErrno) => [parseGuid(lpProviderId), path, length, lpErrno]);
    return decodeUtf16(path);
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
      throw spiError("WSAEOPNOTSUPP", functionName, operation, "its WSPUPCALLTABLE does not have this entry");
    }
    const definition = WSPUPCALL_FUNCTIONS[name];
    const lpErrno = new Int32Array(1);
    const result = callAt(pointer, definition, args(lpErrno)) as number | bigint;
    if (result !== failure(name, definition.result)) return result;
    throw new WinsockError(lpErrno[0]!, { operation, functionName });
  }
}

/**
 * A provider of this program that native code can call, until it is disposed.
 *
 * @experimental
 */
export interface ExportedProvider extends Disposable {
  /** Pointer to an `LPWSPSTARTUP`: pass it to native code, or to {@linkcode openNativeProvider}. */
  readonly WSPStartup: Deno.PointerObject;
}

/**
 * Makes a native `WSPStartup` for any provider, so that native code can share sockets through a provider written in
 * TypeScript.
 *
 * The WSPPROC_TABLE that it fills has all 30 functions. Those of {@linkcode ProviderFunctions} call the provider. On
 * Windows, the functions that use a socket, such as `WSPBind`, `WSPAccept`, `WSPSend` and `WSPSelect`, are passed on to
 * the system's sockets ({@linkcode ProviderFunctions.passOn}), and run on this thread: a call that waits blocks it.
 * `WSPAsyncSelect`, `WSPCancelBlockingCall`, `WSPGetQOSByName`, `WSPJoinLeaf` and completion routines fail with
 * WSAEOPNOTSUPP. So do all functions that use a socket on other systems, where the descriptors are those of the system.
 * If the provider throws, the result is `SOCKET_ERROR` or `INVALID_SOCKET`, and
 * `lpErrno` has the code of the error. A `RangeError` or `TypeError` is WSAEINVAL, NULL for a required pointer is
 * WSAEFAULT, and any other error is WSASYSCALLFAILURE.
 *
 * Native code must call it on the thread that made it, from within a call of this program, or on another thread while
 * this thread is in its event loop. Needs full `--allow-ffi`, and the permissions of the provider.
 *
 * @example Exporting a provider and opening it
 * ```ts
 * import { exportProvider, MemoryProvider, openNativeProvider } from "@winsock/handoff/spi";
 * import { listen, WinsockError } from "@winsock/handoff";
 * import { assertThrows } from "@std/assert";
 *
 * const provider = new MemoryProvider();
 * using exported = exportProvider(provider);
 * using native = openNativeProvider(exported.WSPStartup, provider.protocolInfo);
 * using listener = listen({ hostname: "127.0.0.1", port: 0 });
 * provider.fail("duplicateSocket", "WSAENOBUFS");
 * assertThrows(() => native.duplicateSocket(listener.handle, Deno.pid), WinsockError, "WSAENOBUFS (10055)");
 * ```
 *
 * @param provider Any provider. One without `socketSync` fails in `WSPSocket` with WSAEOPNOTSUPP.
 * @returns The pointer. The caller must dispose of it when native code no longer calls it.
 * @throws {Deno.errors.NotCapable} Without the permission.
 *
 * @experimental
 */
export function exportProvider(provider: ServiceProvider): ExportedProvider {
  const functions = functionsOf(provider);
  const table = procTable(functions);
  const startup = new Deno.UnsafeCallback(
    WSP_STARTUP_CALLBACK,
    (wVersionRequested, lpWSPData, lpProtocolInfo, upcalls, lpProcTable) => {
      try {
        const data = bytesAt(required(lpWSPData, "WSPStartup"), WSPDATA.size);
        const procs = bytesAt(required(lpProcTable, "WSPStartup"), table.pointers.byteLength);
        const info = structureAt(lpProtocolInfo, "WSPStartup");
        WSPDATA.encode(functions.WSPStartup(wVersionRequested, info, new NativeUpcalls(upcalls)), data);
        procs.set(new Uint8Array(table.pointers.buffer));
        return 0;
      } catch (error) {
        return codeOf(error);
      }
    },
  );
  return {
    WSPStartup: startup.pointer,
    [Symbol.dispose]() {
      startup.close();
      table[Symbol.dispose]();
    },
  };
}

/** Returns the functions that are passed on. Their last argument is `lpErrno`. */
function passedOn(
  functions: ProviderFunctions,
): Partial<Record<PassedOnName, (...args: NativeArgument[]) => number | bigint>> {
  const entry = (name: PassedOnName) => (...args: NativeArgument[]) => {
    const functionName = name.slice("lp".length);
    if (functions.passOn === undefined) {
      throw spiError("WSAEOPNOTSUPP", functionName, "use a socket through this table");
    }
    // It would have to run on the thread of the caller.
    if (hasCompletionRoutine(name) && args.at(-3) !== null) {
      throw spiError("WSAEOPNOTSUPP", functionName, "use a socket through this table", "it has a completion routine");
    }
    return functions.passOn(name, args.slice(0, -1));
  };
  return Object.fromEntries((Object.keys(PASSED_ON_FUNCTIONS) as PassedOnName[]).map((name) => [name, entry(name)]));
}

function procTable(functions: ProviderFunctions): CallbackTable {
  return callbackTable(WSPPROC_TABLE, {
    ...passedOn(functions),
    lpWSPSocket: (
      af: number,
      type: number,
      protocol: number,
      lpProtocolInfo: Deno.PointerValue,
      g: number,
      dwFlags: number,
    ) => functions.WSPSocket(af, type, protocol, structureAt(lpProtocolInfo, "WSPSocket"), g, dwFlags),
    lpWSPDuplicateSocket(s: bigint, dwProcessId: number, lpProtocolInfo: Deno.PointerValue) {
      const info = structureAt(lpProtocolInfo, "WSPDuplicateSocket");
      functions.WSPDuplicateSocket(s, dwProcessId, info);
      bytesAt(lpProtocolInfo!, info.byteLength).set(info);
      return 0;
    },
    lpWSPCloseSocket(s: bigint) {
      functions.WSPCloseSocket(s);
      return 0;
    },
    lpWSPSetSockOpt(s: bigint, level: number, optname: number, optval: Deno.PointerValue, optlen: number) {
      // An option without a value, such as SO_UPDATE_CONNECT_CONTEXT, has no pointer either.
      const value = optlen === 0 ? new Uint8Array(0) : bytesAt(required(optval, "WSPSetSockOpt"), optlen).slice();
      functions.WSPSetSockOpt(s, level, optname, value);
      return 0;
    },
    lpWSPGetSockOpt(
      s: bigint,
      level: number,
      optname: number,
      optval: Deno.PointerValue,
      optlen: Deno.PointerValue,
    ) {
      const length = required(optlen, "WSPGetSockOpt");
      const optvalBytes = bytesAt(required(optval, "WSPGetSockOpt"), readInt(length));
      const value = new Uint8Array(optvalBytes.byteLength);
      writeInt(length, functions.WSPGetSockOpt(s, level, optname, value));
      optvalBytes.set(value);
      return 0;
    },
    lpWSPAddressToString(
      address: Deno.PointerValue,
      addressLength: number,
      info: Deno.PointerValue,
      lpText: Deno.PointerValue,
      lpLength: Deno.PointerValue,
    ) {
      const name = "WSPAddressToString";
      const length = required(lpLength, name);
      const text = functions.WSPAddressToString(
        bytesAt(required(address, name), addressLength).slice(),
        structureAt(info, name),
      );
      const fits = writeWide(required(lpText, name), readInt(length), text);
      writeInt(length, text.length + 1);
      if (!fits) throw tooShort(name, text.length + 1);
      return 0;
    },
    lpWSPStringToAddress(
      lpText: Deno.PointerValue,
      family: number,
      info: Deno.PointerValue,
      lpAddress: Deno.PointerValue,
      lpLength: Deno.PointerValue,
    ) {
      const name = "WSPStringToAddress";
      const length = required(lpLength, name);
      const address = functions.WSPStringToAddress(
        readWide(required(lpText, name)),
        family,
        structureAt(info, name),
      );
      const room = readInt(length);
      writeInt(length, address.byteLength);
      if (room < address.byteLength) throw tooShort(name, address.byteLength);
      bytesAt(required(lpAddress, name), address.byteLength).set(address);
      return 0;
    },
    lpWSPCleanup() {
      functions.WSPCleanup();
      return 0;
    },
  });
}

/** Returns a copy of the structure that native code points to: native code may reuse its memory after the call. */
function structureAt(pointer: Deno.PointerValue, functionName: string): Uint8Array<ArrayBuffer> {
  return bytesAt(required(pointer, functionName), WSAPROTOCOL_INFOW.size).slice();
}

function tooShort(functionName: string, needed: number): Error {
  return spiError("WSAEFAULT", functionName, "return a result", `it needs room for ${needed}`);
}
