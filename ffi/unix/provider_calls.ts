/**
 * The {@linkcode ProviderCalls} on libc.
 *
 * @module
 */
import { AF_INET, readFamily } from "../socket_address.ts";
import { checkDescriptor, type ProviderCalls } from "../platform.ts";
import { WinsockError } from "../winsock_error.ts";
import { SOCKADDR_IN, SOCKADDR_IN6 } from "../../structs/sockaddr.ts";
import { WSA_ERRORS } from "../../structs/constants.ts";
import { unixAddresses } from "./sockets.ts";
import { lastUnixError, libc } from "./libc.ts";

/** `1.2.3.4`, `1.2.3.4:80`, `::1%2` or `[::1%2]:80`. */
const ADDRESS_TEXT =
  /^(?:\[(?<bracketed>[^\]%]+)(?:%(?<scope>\d+))?\]|(?<v6>[^%]*:[^%]*:[^%]*)(?:%(?<scope6>\d+))?|(?<v4>[^:]+))(?::(?<port>\d{1,5}))?$/;

/** The calls for service providers on Unix. */
export class UnixProviderCalls implements ProviderCalls {
  readonly passOn = undefined;
  readonly events = undefined;
  readonly catalog = undefined;

  getOption(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): number {
    checkDescriptor(s, `get option ${optname} of level ${level} of socket ${s}`, "getsockopt");
    const length = new Int32Array([optval.byteLength]);
    const result = libc().getsockopt(s, level, optname, optval, length);
    if (result === -1) throw lastUnixError(`get option ${optname} of level ${level} of socket ${s}`, "getsockopt");
    return length[0]!;
  }

  setOption(s: bigint, level: number, optname: number, optval: Uint8Array<ArrayBuffer>): void {
    checkDescriptor(s, `set option ${optname} of level ${level} of socket ${s}`, "setsockopt");
    const result = libc().setsockopt(s, level, optname, optval, optval.byteLength);
    if (result === -1) throw lastUnixError(`set option ${optname} of level ${level} of socket ${s}`, "setsockopt");
  }

  addressToString(address: Uint8Array<ArrayBuffer>): string {
    const { AF_INET6, format } = unixAddresses();
    const family = readFamily(address, format.lengthPrefixed);
    const isIPv4 = family === AF_INET && address.byteLength >= SOCKADDR_IN.size;
    if (!isIPv4 && !(family === AF_INET6 && address.byteLength >= SOCKADDR_IN6.size)) {
      throw invalid("write an address as text", "WSAAddressToString");
    }
    const { hostname, port } = unixAddresses().decodeInternet(address, "tcp");
    if (port === 0) return hostname;
    return isIPv4 ? `${hostname}:${port}` : `[${hostname}]:${port}`;
  }

  stringToAddress(text: string, family: number): Uint8Array<ArrayBuffer> {
    const addresses = unixAddresses();
    const operation = `read the address "${text}"`;
    const parts = ADDRESS_TEXT.exec(text)?.groups;
    const host = parts?.bracketed ?? parts?.v6 ?? parts?.v4 ?? "";
    const scope = parts?.scope ?? parts?.scope6;
    const port = Number(parts?.port ?? 0);
    if (port > 65_535 || addresses.familyOf(host) !== family) throw invalid(operation, "WSAStringToAddress");
    try {
      return addresses.encode({ hostname: scope === undefined ? host : `${host}%${scope}`, port });
    } catch {
      throw invalid(operation, "WSAStringToAddress");
    }
  }

  isPlaceholder(): boolean {
    return false;
  }
}

function invalid(operation: string, functionName: string): WinsockError {
  return new WinsockError(WSA_ERRORS.WSAEINVAL, { operation, functionName });
}
