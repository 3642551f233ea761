/**
 * The provider of a system that cannot share sockets.
 *
 * @module
 */
import { check, checkDuplication, HANDLE } from "../internal/options.ts";
import { systemCalls } from "../ffi/system.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";
import { isEntry, type ServiceProvider, spiError, TCP_ENTRY } from "./service_provider.ts";

/**
 * The GUID of the provider that cannot share sockets.
 *
 * @experimental
 */
export const UNSUPPORTED_PROVIDER_ID = "c7a8a3f6-9b1a-4d0e-8f55-2c9f6a1f7b20";

const DETAIL = "this service provider does not support socket sharing";

/**
 * Behaves as the provider "included in Windows Embedded CE" and Windows Embedded Compact 2013 does, which "does not
 * support socket sharing": `WSPDuplicateSocket` "always returns SOCKET_ERROR and sets lpErrno to WSASYSCALLFAILURE". It
 * can make and close new sockets.
 *
 * Use it in programs that must support such a system, and in tests of the caller: a `HandoffSource` cannot be made, and
 * no socket is lost.
 *
 * Needs ffi access to the system's socket library to make and close sockets. `duplicateSocket` needs no permission.
 *
 * @example A hand-off that this provider refuses
 * ```ts
 * import { UnsupportedProvider } from "@winsock/handoff/spi";
 * import { WinsockError } from "@winsock/handoff";
 * import { assertThrows } from "@std/assert";
 *
 * assertThrows(() => new UnsupportedProvider().duplicateSocket(308n, 4242), WinsockError, "WSASYSCALLFAILURE (10107)");
 * ```
 *
 * @experimental
 */
export class UnsupportedProvider implements ServiceProvider {
  readonly protocolInfo: WSAPROTOCOL_INFOW = {
    ...TCP_ENTRY,
    ProviderId: UNSUPPORTED_PROVIDER_ID,
    szProtocol: "TCP/IP, not shared",
  };

  /**
   * Always fails.
   *
   * @param s The handle of the socket.
   * @param processId The process.
   * @throws {WinsockError} WSASYSCALLFAILURE.
   */
  duplicateSocket(s: bigint, processId: number): never {
    checkDuplication(s, processId);
    const operation = `duplicate socket ${s} for process ${processId}`;
    throw spiError("WSASYSCALLFAILURE", "WSPDuplicateSocket", operation, DETAIL);
  }

  // deno-lint-ignore require-await -- the contract is asynchronous, this provider does not wait
  async socket(info: Uint8Array): Promise<bigint> {
    return this.socketSync(info);
  }

  socketSync(info: Uint8Array): bigint {
    WSAPROTOCOL_INFOW.decode(info);
    if (isEntry(info, this.protocolInfo)) return systemCalls().open("0.0.0.0");
    throw spiError("WSASYSCALLFAILURE", "WSPSocket", "open a shared socket", DETAIL);
  }

  /** Does nothing: this provider has no duplicates. */
  withdraw(): void {}

  closeSocket(s: bigint): void {
    check("s", s, HANDLE);
    systemCalls().close(s);
  }
}
