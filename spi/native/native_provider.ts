/**
 * A provider in native code: any library that exports `WSPStartup`. It is started with upcalls of this program as its
 * WSPUPCALLTABLE, and called through its WSPPROC_TABLE.
 *
 * @module
 */
import { WSPDATA, WSPPROC_TABLE, WSPUPCALLTABLE } from "../../structs/spi.ts";
import { formatGuid } from "../../structs/guid.ts";
import { type ProviderFunctions, StartupCounter, type Upcalls } from "../provider_functions.ts";
import { spiError } from "../service_provider.ts";
import {
  bytesAt,
  callAt,
  type CallbackTable,
  callbackTable,
  readInt,
  readSet,
  required,
  writeInt,
  writePointer,
  writeWide,
} from "./abi.ts";
import { asCallback, failure, WSP_STARTUP, WSPPROC_FUNCTIONS } from "../../ffi/spi_functions.ts";
import type { NativeArgument, PassedOnName } from "../../ffi/platform.ts";
import { decodeUtf16, encodeUtf16 } from "../../ffi/library.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { WSA_ERRORS } from "../../structs/constants.ts";
import { isAbsolute } from "node:path";
import { providerCalls } from "../../ffi/provider_platform.ts";
import type { WSAPROTOCOL_INFOW } from "../../structs/wsaprotocol_info.ts";
import type { DescriptorTable } from "../descriptor_table.ts";
import { TableProvider } from "../table_provider.ts";

const TRUE = 1;

/**
 * Makes the table of upcalls. Functions without a meaning outside ws2_32 (window messages, asynchronous procedure
 * calls, thread handles) fail with WSAEOPNOTSUPP.
 *
 * Needs full `--allow-ffi`.
 *
 * @param upcalls The functions that native code calls.
 */
function upcallTable(upcalls: Upcalls): CallbackTable {
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
    // A blocking hook never exists: it cannot be installed since Winsock 2.
    lpWPUQueryBlockingCallback(_id: number, lplpfnCallback: Deno.PointerValue, lpdwContext: Deno.PointerValue) {
      writePointer(required(lplpfnCallback, "WPUQueryBlockingCallback"), 0n);
      writePointer(required(lpdwContext, "WPUQueryBlockingCallback"), 0n);
      return 0;
    },
    lpWPUFDIsSet(s: bigint, fdset: Deno.PointerValue) {
      return readSet(required(fdset, "WPUFDIsSet")).includes(s) ? 1 : 0;
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

/** A native `WSPStartup`. */
type NativeStartup = Deno.FromForeignFunction<typeof WSP_STARTUP>;

type Name = keyof typeof WSPPROC_FUNCTIONS;
type Arguments<N extends Name> = Parameters<Deno.FromForeignFunction<typeof WSPPROC_FUNCTIONS[N]>>;
type WithoutErrno<T extends unknown[]> = T extends [...infer Rest, unknown] ? Rest : never;

const MAX_TEXT = 256;
const MAX_ADDRESS = 128;

/** Calls native code. A code in `lpErrno` becomes a {@linkcode WinsockError}. Needs full `--allow-ffi`. */
class NativeFunctions implements ProviderFunctions {
  readonly #name: string;
  readonly #startup: NativeStartup;
  readonly #startups = new StartupCounter<BigUint64Array<ArrayBuffer>>();
  readonly #upcallTables: CallbackTable[] = [];

  /**
   * Makes the functions. No native function is called before `WSPStartup`.
   *
   * @param name The name of the provider in errors.
   * @param startup Its `WSPStartup`.
   */
  constructor(name: string, startup: NativeStartup) {
    this.#name = name;
    this.#startup = startup;
  }

  WSPStartup(wVersionRequested: number, lpProtocolInfo: Uint8Array<ArrayBuffer>, upcalls: Upcalls): WSPDATA {
    const data = new Uint8Array(WSPDATA.size);
    const table = new BigUint64Array(WSPPROC_TABLE.length);
    const ours = upcallTable(upcalls);
    const code = this.#startup(wVersionRequested, data, lpProtocolInfo, ours.pointers, table);
    if (code !== 0) {
      ours[Symbol.dispose]();
      throw new WinsockError(code, { operation: `start ${this.#name}`, functionName: "WSPStartup" });
    }
    this.#upcallTables.push(ours);
    this.#startups.add(table);
    const missing = WSPPROC_TABLE.filter((_, index) => table[index] === 0n);
    if (missing.length > 0) {
      if (!missing.includes("lpWSPCleanup")) this.WSPCleanup();
      const detail = `its WSPPROC_TABLE lacks ${missing.join(", ")}`;
      throw spiError("WSAEINVALIDPROCTABLE", "WSPStartup", `start ${this.#name}`, detail);
    }
    return WSPDATA.decode(data);
  }

  WSPSocket(
    af: number,
    type: number,
    protocol: number,
    lpProtocolInfo: Uint8Array<ArrayBuffer>,
    g: number,
    dwFlags: number,
  ): bigint {
    return this.#call("lpWSPSocket", "open a socket", af, type, protocol, lpProtocolInfo, g, dwFlags) as bigint;
  }

  WSPDuplicateSocket(s: bigint, dwProcessId: number, lpProtocolInfo: Uint8Array<ArrayBuffer>): void {
    const operation = `duplicate socket ${s} for process ${dwProcessId}`;
    this.#call("lpWSPDuplicateSocket", operation, s, dwProcessId, lpProtocolInfo);
  }

  WSPCloseSocket(s: bigint): void {
    this.#call("lpWSPCloseSocket", `close socket ${s}`, s);
  }

  WSPSetSockOpt(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): void {
    const operation = `set option ${optname} of level ${level} of socket ${s}`;
    this.#call("lpWSPSetSockOpt", operation, s, level, optname, optval, optval.byteLength);
  }

  WSPGetSockOpt(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): number {
    const operation = `get option ${optname} of level ${level} of socket ${s}`;
    const optlen = new Int32Array([optval.byteLength]);
    this.#call("lpWSPGetSockOpt", operation, s, level, optname, optval, optlen);
    return optlen[0]!;
  }

  WSPAddressToString(lpsaAddress: Uint8Array<ArrayBuffer>, lpProtocolInfo: Uint8Array<ArrayBuffer>): string {
    const text = new Uint16Array(MAX_TEXT);
    const length = new Uint32Array([MAX_TEXT]);
    const operation = "write an address as text";
    const { byteLength } = lpsaAddress;
    this.#call("lpWSPAddressToString", operation, lpsaAddress, byteLength, lpProtocolInfo, text, length);
    return decodeUtf16(text);
  }

  WSPStringToAddress(
    AddressString: string,
    AddressFamily: number,
    lpProtocolInfo: Uint8Array<ArrayBuffer>,
  ): Uint8Array<ArrayBuffer> {
    const address = new Uint8Array(MAX_ADDRESS);
    const length = new Int32Array([MAX_ADDRESS]);
    const operation = `read the address "${AddressString}"`;
    const text = encodeUtf16(AddressString);
    this.#call("lpWSPStringToAddress", operation, text, AddressFamily, lpProtocolInfo, address, length);
    return address.slice(0, length[0]);
  }

  passOn(name: PassedOnName, args: readonly NativeArgument[]): number | bigint {
    return this.#callWith(asCallback(WSPPROC_FUNCTIONS[name]), name, "use a socket for native code", args);
  }

  WSPCleanup(): void {
    this.#call("lpWSPCleanup", `stop ${this.#name}`);
    // Native code has the upcalls of every startup, and may use any of them.
    if (this.#startups.remove() === undefined) return;
    for (const table of this.#upcallTables.splice(0)) table[Symbol.dispose]();
  }

  /** Calls a function of the table, with `lpErrno` after its arguments. */
  #call<N extends Name>(name: N, operation: string, ...args: WithoutErrno<Arguments<N>>): number | bigint {
    return this.#callWith(WSPPROC_FUNCTIONS[name], name, operation, args);
  }

  #callWith(
    { parameters, result: type }: Pick<Deno.ForeignFunction, "parameters" | "result">,
    name: Name,
    operation: string,
    args: readonly unknown[],
  ): number | bigint {
    const functionName = name.slice("lp".length);
    const table = this.#startups.current(functionName, operation);
    const pointer = Deno.UnsafePointer.create(table[WSPPROC_TABLE.indexOf(name)]!)!;
    const lpErrno = new Int32Array(1);
    const last = parameters.at(-1) === "pointer" ? Deno.UnsafePointer.of(lpErrno) : lpErrno;
    const result = callAt(pointer, { parameters, result: type }, [...args, last]) as number | bigint;
    if (result !== failure(name, type as "i32" | "usize")) return result;
    // The provider failed without a code.
    const code = lpErrno[0] === 0 ? WSA_ERRORS.WSASYSCALLFAILURE : lpErrno[0]!;
    throw new WinsockError(code, { operation, functionName });
  }
}

/**
 * Returns the functions of a native provider, for use as a part of a chain.
 *
 * Needs full `--allow-ffi`: native code calls functions of this program.
 *
 * @param source The absolute path of a library that exports `WSPStartup`, or a pointer to one. The library stays
 * loaded.
 * @returns Its functions, not started.
 * @throws {TypeError} If the path is not absolute.
 * @throws {WinsockError} WSAEPROVIDERFAILEDINIT if the library cannot be loaded or does not export `WSPStartup`,
 * WSAEINVALIDPROVIDER if it is one of Wine's placeholders. These are not called, because they end the process.
 * @throws {Deno.errors.NotCapable} Without the permission.
 *
 * @experimental
 */
export function nativeFunctions(source: string | Deno.PointerObject): ProviderFunctions {
  const name = typeof source === "string" ? source : `the provider at ${Deno.UnsafePointer.value(source)}`;
  const startup = typeof source === "string"
    ? loadStartup(source)
    : (...args: Parameters<NativeStartup>) => callAt(source, WSP_STARTUP, args) as number;
  const code = typeof source === "string" ? source : Deno.UnsafePointer.value(source);
  if (providerCalls().isPlaceholder(code)) {
    const detail = "it is a part of Wine, whose WSPStartup is a placeholder that ends the process";
    throw spiError("WSAEINVALIDPROVIDER", "WSPStartup", `start ${name}`, detail);
  }
  return new NativeFunctions(name, startup);
}

/**
 * Opens a native provider: the library of a layered service provider, your own library, or the result of {@linkcode
 * exportProvider}.
 *
 * Its `WSPStartup` is called at first use, with version 2.2 and upcalls of this program. Every function is called
 * through the WSPPROC_TABLE that it fills, and a code in `lpErrno` becomes a {@linkcode WinsockError}. Calls run on
 * this thread. It also works on Linux and macOS, with a library in the calling convention of the system.
 *
 * Needs full `--allow-ffi`.
 *
 * @example The installed provider of a catalog entry
 * ```ts ignore
 * import { openNativeProvider, protocolCatalog, providerPath, useProvider } from "@winsock/handoff/spi";
 *
 * const entry = protocolCatalog().find(({ szProtocol }) => szProtocol === "My provider")!;
 * using provider = openNativeProvider(providerPath(entry.ProviderId)!, entry);
 * using _ = useProvider(provider);
 * ```
 *
 * @param source The absolute path of a library that exports `WSPStartup`, or a pointer to one.
 * @param protocolInfo The catalog entry to use the provider as.
 * @param descriptors The table that receives its upcalls. Defaults to a new table.
 * @returns The provider. The caller must dispose of it. The library stays loaded.
 * @throws {TypeError} If the path is not absolute.
 * @throws {WinsockError} WSAEPROVIDERFAILEDINIT if the library cannot be loaded or does not export `WSPStartup`,
 * WSAEINVALIDPROVIDER if it is one of Wine's placeholders.
 * @throws {Deno.errors.NotCapable} Without the permission.
 *
 * @experimental
 */
export function openNativeProvider(
  source: string | Deno.PointerObject,
  protocolInfo: WSAPROTOCOL_INFOW,
  descriptors?: DescriptorTable,
): TableProvider {
  return new TableProvider(nativeFunctions(source), protocolInfo, descriptors);
}

function loadStartup(path: string): NativeStartup {
  if (!isAbsolute(path)) throw new TypeError(`Cannot load the service provider ${path}: its path is not absolute`);
  try {
    return Deno.dlopen(path, { WSPStartup: WSP_STARTUP }).symbols.WSPStartup;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotCapable) throw cause;
    throw new WinsockError(WSA_ERRORS.WSAEPROVIDERFAILEDINIT, {
      operation: `load the service provider ${path}`,
      functionName: "WSPStartup",
      detail: cause instanceof Error ? cause.message : String(cause),
      cause,
    });
  }
}
