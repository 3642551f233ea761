/**
 * The contract of a service provider that shares sockets, its errors, and the catalog entry of the library's own
 * providers.
 *
 * @module
 */
import { equals } from "@std/bytes/equals";
import { WinsockError } from "../ffi/winsock_error.ts";
import { AF, IPPROTO, SOCK, type WinsockErrorName, WSA_ERRORS, XP1 } from "../structs/constants.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";

/** Makes the error that a function of the interface would return in `lpErrno`. */
export function spiError(
  name: WinsockErrorName,
  functionName: string,
  operation: string,
  detail?: string,
): WinsockError {
  return new WinsockError(WSA_ERRORS[name], {
    operation,
    functionName,
    ...(detail === undefined ? {} : { detail }),
  });
}

/**
 * A service provider: it duplicates a socket for another process and opens the duplicate there. The contract is that of
 * Winsock ([WSPDuplicateSocket](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspduplicatesocket)).
 * In the source process, the provider does what is needed and makes a WSAPROTOCOL_INFOW that it will recognize in the
 * target process.
 *
 * Every provider must follow these rules, whatever its implementation:
 *
 * - A blob is for one process and one use. Another process that opens it, and a second attempt to open it, fails with
 *   WSAEINVAL.
 * - The opened descriptor is a further descriptor of the same underlying socket. An option that is set through one
 *   descriptor is visible through all, and the socket stays open until the last descriptor is closed. Only the
 *   processes themselves coordinate the use of the descriptors.
 * - `dwProviderReserved` and everything else that the provider writes into the blob belongs to the provider. A blob
 *   must not be changed between the two processes. Only a layer replaces parts of it, as {@linkcode LayeredProvider}
 *   describes.
 * - A call that fails has no effect: it does not lose a descriptor, and does not close a descriptor of the caller.
 * - It fails with a {@linkcode WinsockError} whose code is the one that native code would find in `lpErrno`.
 *
 * On a system that cannot share sockets, "you can, however, create a customized service provider that supports shared
 * sockets": implement this interface, and make it the provider of the process with {@linkcode useProvider}.
 *
 * @example A provider that logs its calls
 * ```ts
 * import { connect, duplicateSocket, listen } from "@winsock/handoff";
 * import { defaultProvider, type ServiceProvider, useProvider } from "@winsock/handoff/spi";
 * import { assertEquals } from "@std/assert";
 *
 * const next = defaultProvider();
 * const calls: string[] = [];
 * const talkative: ServiceProvider = {
 *   protocolInfo: next.protocolInfo,
 *   duplicateSocket(s, processId) {
 *     calls.push("duplicateSocket");
 *     return next.duplicateSocket(s, processId);
 *   },
 *   socket: (info, flags) => next.socket(info, flags),
 *   withdraw: (info) => next.withdraw(info),
 *   closeSocket: (s) => next.closeSocket(s),
 * };
 *
 * using _ = useProvider(talkative);
 * using listener = listen({ hostname: "127.0.0.1", port: 0 });
 * using client = await connect({ port: listener.addr.port });
 * next.withdraw(duplicateSocket(client, Deno.pid));
 * assertEquals(calls, ["duplicateSocket"]);
 * ```
 *
 * @experimental
 */
export interface ServiceProvider {
  /** The provider's entry in the catalog. Its `ProviderId` is the provider's own. */
  readonly protocolInfo: WSAPROTOCOL_INFOW;

  /**
   * Duplicates a socket for one process, which can open the duplicate once (`WSPDuplicateSocket`).
   *
   * @param s The handle of the socket. The socket stays open and still belongs to the caller.
   * @param processId The process that may open the duplicate. It may be this process.
   * @returns The blob: a WSAPROTOCOL_INFOW, 628 bytes. It is opaque; send it unchanged.
   * @throws {WinsockError} WSAENOTSOCK if `s` is not an open socket, WSAEINVAL if the process does not exist or this
   * process may not share with it, WSAEMFILE or WSAENOBUFS if the system has no more room, WSAENETDOWN or
   * WSAEINPROGRESS if the network system is down or busy, WSASYSCALLFAILURE from a provider that cannot share sockets.
   */
  duplicateSocket(s: bigint, processId: number): Uint8Array<ArrayBuffer>;

  /**
   * Opens a duplicate in the process that it was made for (`WSPSocket` with `FROM_PROTOCOL_INFO`). With the provider's
   * own catalog entry instead of a blob, it makes a new, unbound socket.
   *
   * @param info The result of {@linkcode ServiceProvider.duplicateSocket} in the source: exactly 628 bytes.
   * @param flags `WSA_FLAG_*`, the same as in the source. Defaults to `WSA_FLAG_OVERLAPPED |
   * WSA_FLAG_NO_HANDLE_INHERIT`. On a system without these flags, the provider ignores them.
   * @returns The new descriptor, which child processes do not inherit. The caller must close it.
   * @throws {RangeError} If the bytes are not a WSAPROTOCOL_INFOW.
   * @throws {WinsockError} If the provider rejects the blob: it was made for another process, was opened before, has
   * expired, or is not valid.
   */
  socket(info: Uint8Array, flags?: number): Promise<bigint>;

  /**
   * Opens a duplicate as {@linkcode ServiceProvider.socket} does, for callers that cannot wait: native code, and layers
   * above. A provider that must ask another process blocks this thread until that process answers.
   *
   * A provider without this method cannot be used below a layer or from native code.
   *
   * @param info As for {@linkcode ServiceProvider.socket}.
   * @param flags As for {@linkcode ServiceProvider.socket}.
   * @returns The new descriptor. The caller must close it.
   * @throws {RangeError} If the bytes are not a WSAPROTOCOL_INFOW.
   * @throws {WinsockError} If the provider rejects the blob.
   */
  socketSync?(info: Uint8Array, flags?: number): bigint;

  /**
   * Withdraws a duplicate that its process will not open, if the system can do so from the source. A duplicate that was
   * already opened stays open.
   *
   * @param info The result of {@linkcode ServiceProvider.duplicateSocket}.
   */
  withdraw(info: Uint8Array): void;

  /**
   * Closes a descriptor (`WSPCloseSocket`). The underlying socket stays open until its last descriptor is closed.
   *
   * @param s The handle of the socket.
   * @throws {WinsockError} WSAENOTSOCK if it is not an open socket.
   */
  closeSocket(s: bigint): void;
}

/**
 * The common part of the base provider entries of this library, without the identity of the provider: TCP over IPv4 and
 * IPv6, with handles of the system as descriptors.
 */
export const TCP_ENTRY: Omit<WSAPROTOCOL_INFOW, "ProviderId" | "szProtocol"> = {
  ...WSAPROTOCOL_INFOW.decode(new Uint8Array(WSAPROTOCOL_INFOW.size)),
  dwServiceFlags1: XP1.XP1_GUARANTEED_DELIVERY | XP1.XP1_GUARANTEED_ORDER | XP1.XP1_GRACEFUL_CLOSE |
    XP1.XP1_IFS_HANDLES,
  dwCatalogEntryId: 1,
  ProtocolChain: { ChainLen: 1, ChainEntries: [0, 0, 0, 0, 0, 0, 0] },
  iVersion: 2,
  iAddressFamily: AF.AF_INET,
  iMaxSockAddr: 28,
  iMinSockAddr: 16,
  iSocketType: SOCK.SOCK_STREAM,
  iProtocol: IPPROTO.IPPROTO_TCP,
};

/** Returns whether bytes are the given catalog entry, which requests a new socket. Otherwise they are a blob. */
export function isEntry(info: Uint8Array, entry: WSAPROTOCOL_INFOW): boolean {
  return equals(info, WSAPROTOCOL_INFOW.encode(entry));
}
