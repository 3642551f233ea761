/**
 * {@linkcode ProviderCalls} on ws2_32.
 *
 * @module
 */
import type { CatalogCalls, EventCalls, ProviderCalls } from "../provider_calls.ts";
import { INVALID_SOCKET } from "../socket_calls.ts";
import { WinsockCatalogCalls } from "./catalog_calls.ts";
import { disinherit } from "./inheritance.ts";
import { isWineBuiltin } from "./modules.ts";
import { DEFAULT_SOCKET_FLAGS, FROM_PROTOCOL_INFO } from "../../structs/constants.ts";
import { WSAPROTOCOL_INFOW } from "../../structs/wsaprotocol_info.ts";
import { textOf, wideText } from "../wide_text.ts";
import { lastWinsockError, ws2_32 } from "./ws2_32.ts";
import { ws2spi } from "./ws2spi.ts";

/** Characters of `[ffff:…:255.255.255.255%4294967295]:65535` and its NUL. */
const ADDRESS_TEXT_SIZE = 70;
const LONGEST_ADDRESS = 128;

/** What providers ask of Windows. */
export class WinsockProviderCalls implements ProviderCalls {
  readonly catalog: CatalogCalls = new WinsockCatalogCalls();
  readonly events: EventCalls = {
    create() {
      const event = ws2spi().WSACreateEvent();
      if (event === 0n) throw lastWinsockError("make an event", "WSACreateEvent");
      return event;
    },
    set(event) {
      const done = ws2spi().WSASetEvent(event);
      if (done === 0) throw lastWinsockError(`set event ${event}`, "WSASetEvent");
    },
    reset(event) {
      const done = ws2spi().WSAResetEvent(event);
      if (done === 0) throw lastWinsockError(`reset event ${event}`, "WSAResetEvent");
    },
    close(event) {
      const done = ws2spi().WSACloseEvent(event);
      if (done === 0) throw lastWinsockError(`close event ${event}`, "WSACloseEvent");
    },
  };

  /** A SOCKET is duplicated as for another process: DuplicateHandle would not tell Winsock of it. */
  duplicate(s: bigint): bigint {
    const info = new Uint8Array(WSAPROTOCOL_INFOW.size);
    const result = ws2_32().WSADuplicateSocketW(s, Deno.pid, info);
    if (result !== 0) throw lastWinsockError(`duplicate socket ${s}`, "WSADuplicateSocketW");
    const any = FROM_PROTOCOL_INFO;
    const copy = ws2_32().WSASocketW(any, any, any, info, 0, DEFAULT_SOCKET_FLAGS);
    if (copy === INVALID_SOCKET) throw lastWinsockError(`duplicate socket ${s}`, "WSASocketW");
    try {
      disinherit(copy);
      return copy;
    } catch (error) {
      ws2_32().closesocket(copy);
      throw error;
    }
  }

  getOption(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): number {
    const length = new Int32Array([optval.byteLength]);
    const result = ws2_32().getsockopt(s, level, optname, optval, length);
    if (result !== 0) throw lastWinsockError(`get option ${optname} of level ${level} of socket ${s}`, "getsockopt");
    return length[0]!;
  }

  setOption(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): void {
    const result = ws2_32().setsockopt(s, level, optname, optval, optval.byteLength);
    if (result !== 0) throw lastWinsockError(`set option ${optname} of level ${level} of socket ${s}`, "setsockopt");
  }

  addressToString(address: Uint8Array<ArrayBuffer>): string {
    const text = new Uint16Array(ADDRESS_TEXT_SIZE);
    const length = new Uint32Array([ADDRESS_TEXT_SIZE]);
    const result = ws2spi().WSAAddressToStringW(address, address.byteLength, null, text, length);
    if (result !== 0) throw lastWinsockError("write an address as text", "WSAAddressToStringW");
    return textOf(text);
  }

  stringToAddress(text: string, family: number): Uint8Array<ArrayBuffer> {
    const address = new Uint8Array(LONGEST_ADDRESS);
    const length = new Int32Array([LONGEST_ADDRESS]);
    const result = ws2spi().WSAStringToAddressW(wideText(text), family, null, address, length);
    if (result !== 0) throw lastWinsockError(`read the address "${text}"`, "WSAStringToAddressW");
    return address.slice(0, length[0]);
  }

  isPlaceholder(code: string | bigint): boolean {
    return isWineBuiltin(code);
  }
}
