/**
 * {@linkcode ProviderCalls} on Linux' libc.
 *
 * @module
 */
import type { ProviderCalls } from "../provider_calls.ts";
import { WinsockError } from "../winsock_error.ts";
import { SOCKADDR_IN, SOCKADDR_IN6 } from "../../structs/sockaddr.ts";
import { WSA_ERRORS } from "../../structs/winsock_errors.ts";
import { lastUnixError } from "./errno.ts";
import { libc } from "./libc.ts";

const F_DUPFD_CLOEXEC = 1030;
const AF_INET = 2;
const AF_INET6 = 10;
const TEXT_SIZE = 64;
/** `1.2.3.4`, `1.2.3.4:80`, `::1%2` or `[::1%2]:80`. */
const ADDRESS_TEXT =
  /^(?:\[(?<bracketed>[^\]%]+)(?:%(?<scope>\d+))?\]|(?<v6>[^%]*:[^%]*:[^%]*)(?:%(?<scope6>\d+))?|(?<v4>[^:]+))(?::(?<port>\d{1,5}))?$/;

/** What providers ask of Linux. */
export class UnixProviderCalls implements ProviderCalls {
  readonly events = undefined;
  readonly catalog = undefined;

  duplicate(s: bigint): bigint {
    const descriptor = libc().fcntl(s, F_DUPFD_CLOEXEC, 0);
    if (descriptor === -1) throw lastUnixError(`duplicate socket ${s}`, "fcntl");
    return BigInt(descriptor);
  }

  getOption(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): number {
    const length = new Int32Array([optval.byteLength]);
    const result = libc().getsockopt(s, level, optname, optval, length);
    if (result === -1) throw lastUnixError(`get option ${optname} of level ${level} of socket ${s}`, "getsockopt");
    return length[0]!;
  }

  setOption(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): void {
    const result = libc().setsockopt(s, level, optname, optval, optval.byteLength);
    if (result === -1) throw lastUnixError(`set option ${optname} of level ${level} of socket ${s}`, "setsockopt");
  }

  addressToString(address: Uint8Array<ArrayBuffer>): string {
    const family = address.byteLength < 2 ? 0 : new DataView(address.buffer, address.byteOffset).getUint16(0, true);
    if (family === AF_INET && address.byteLength >= SOCKADDR_IN.size) {
      const { sin_addr, sin_port } = SOCKADDR_IN.decode(address.subarray(0, SOCKADDR_IN.size));
      const host = this.#text(family, sin_addr);
      return sin_port === 0 ? host : `${host}:${sin_port}`;
    }
    if (family === AF_INET6 && address.byteLength >= SOCKADDR_IN6.size) {
      const { sin6_addr, sin6_port, sin6_scope_id } = SOCKADDR_IN6.decode(address.subarray(0, SOCKADDR_IN6.size));
      const host = this.#text(family, sin6_addr) + (sin6_scope_id === 0 ? "" : `%${sin6_scope_id}`);
      return sin6_port === 0 ? host : `[${host}]:${sin6_port}`;
    }
    throw invalid("write an address as text", "WSAAddressToString");
  }

  stringToAddress(text: string, family: number): Uint8Array<ArrayBuffer> {
    const operation = `read the address "${text}"`;
    const parts = ADDRESS_TEXT.exec(text)?.groups;
    const host = parts?.bracketed ?? parts?.v6 ?? parts?.v4;
    const port = Number(parts?.port ?? 0);
    const address = new Uint8Array(family === AF_INET6 ? 16 : 4);
    if (host === undefined || port > 65_535) throw invalid(operation, "WSAStringToAddress");
    const parsed = libc().inet_pton(family, new TextEncoder().encode(`${host}\0`), address);
    if (parsed !== 1) throw invalid(operation, "WSAStringToAddress");
    return family === AF_INET6
      ? SOCKADDR_IN6.encode({
        sin6_family: family,
        sin6_port: port,
        sin6_flowinfo: 0,
        sin6_addr: address,
        sin6_scope_id: Number(parts?.scope ?? parts?.scope6 ?? 0),
      })
      : SOCKADDR_IN.encode({ sin_family: family, sin_port: port, sin_addr: address, sin_zero: new Uint8Array(8) });
  }

  isPlaceholder(): boolean {
    return false;
  }

  #text(family: number, address: Uint8Array): string {
    const text = new Uint8Array(TEXT_SIZE);
    libc().inet_ntop(family, address as Uint8Array<ArrayBuffer>, text, TEXT_SIZE);
    return new TextDecoder().decode(text.subarray(0, text.indexOf(0)));
  }
}

function invalid(operation: string, functionName: string): WinsockError {
  return new WinsockError(WSA_ERRORS.WSAEINVAL, { operation, functionName });
}
