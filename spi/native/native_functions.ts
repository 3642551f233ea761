/**
 * The functions of a provider in native code, called through its WSPPROC_TABLE.
 *
 * @module
 */
import { failure, type WSP_STARTUP, WSPPROC_FUNCTIONS } from "../../ffi/spi_functions.ts";
import { textOf, wideText } from "../../ffi/wide_text.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { WSPPROC_TABLE } from "../../structs/function_tables.ts";
import { WSPDATA } from "../../structs/startup_data.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import type { ProviderFunctions, Upcalls } from "../provider_functions.ts";
import { spiError } from "../spi_error.ts";
import { Startups } from "../startups.ts";
import type { CallbackTable } from "./callbacks.ts";
import { callAt } from "./memory.ts";
import { upcallTable } from "./upcall_table.ts";

/** A native `WSPStartup`. */
export type NativeStartup = Deno.FromForeignFunction<typeof WSP_STARTUP>;

type Name = keyof typeof WSPPROC_FUNCTIONS;
type Arguments<N extends Name> = Parameters<Deno.FromForeignFunction<typeof WSPPROC_FUNCTIONS[N]>>;
type WithoutErrno<T extends unknown[]> = T extends [...infer Rest, unknown] ? Rest : never;

const LONGEST_TEXT = 256;
const LONGEST_ADDRESS = 128;

/** Calls native code; a code in `lpErrno` becomes a {@linkcode WinsockError}. Needs full `--allow-ffi`. */
export class NativeFunctions implements ProviderFunctions {
  readonly #name: string;
  readonly #startup: NativeStartup;
  readonly #startups = new Startups<BigUint64Array<ArrayBuffer>>();
  readonly #upcallTables: CallbackTable[] = [];

  /**
   * Makes the functions; nothing is called before `WSPStartup`.
   *
   * @param name What the provider is called in errors.
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
    const text = new Uint16Array(LONGEST_TEXT);
    const length = new Uint32Array([LONGEST_TEXT]);
    const operation = "write an address as text";
    const { byteLength } = lpsaAddress;
    this.#call("lpWSPAddressToString", operation, lpsaAddress, byteLength, lpProtocolInfo, text, length);
    return textOf(text);
  }

  WSPStringToAddress(
    AddressString: string,
    AddressFamily: number,
    lpProtocolInfo: Uint8Array<ArrayBuffer>,
  ): Uint8Array<ArrayBuffer> {
    const address = new Uint8Array(LONGEST_ADDRESS);
    const length = new Int32Array([LONGEST_ADDRESS]);
    const operation = `read the address "${AddressString}"`;
    const text = wideText(AddressString);
    this.#call("lpWSPStringToAddress", operation, text, AddressFamily, lpProtocolInfo, address, length);
    return address.slice(0, length[0]);
  }

  WSPCleanup(): void {
    this.#call("lpWSPCleanup", `stop ${this.#name}`);
    // Native code has the upcalls of every startup, whichever of them it uses.
    if (this.#startups.remove() === undefined) return;
    for (const table of this.#upcallTables.splice(0)) table[Symbol.dispose]();
  }

  /** Calls a function of the table with `lpErrno` behind its arguments. */
  #call<N extends Name>(name: N, operation: string, ...args: WithoutErrno<Arguments<N>>): number | bigint {
    const functionName = name.slice("lp".length);
    const table = this.#startups.current(functionName, operation);
    const definition = WSPPROC_FUNCTIONS[name];
    const pointer = Deno.UnsafePointer.create(table[WSPPROC_TABLE.indexOf(name)]!)!;
    const lpErrno = new Int32Array(1);
    const result = callAt(pointer, definition, [...args, lpErrno]) as number | bigint;
    if (result !== failure(name, definition.result)) return result;
    // A provider that fails without saying why.
    const code = lpErrno[0] === 0 ? WSA_ERRORS.WSASYSCALLFAILURE : lpErrno[0]!;
    throw new WinsockError(code, { operation, functionName });
  }
}
