/**
 * The contract of a service provider that shares sockets, its errors, and the catalog entry of the library's own ones.
 *
 * @module
 */
import { equals } from "@std/bytes/equals";
import { WinsockError } from "../ffi/winsock_error.ts";
import { AF, IPPROTO, SOCK, type WinsockErrorName, WSA_ERRORS, XP1 } from "../structs/constants.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";

/** The error a function of the interface leaves in `lpErrno`. */
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
 * Who can duplicate a socket for another process and open it there. The contract is Winsock's own
 * ([WSPDuplicateSocket](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspduplicatesocket)): the
 * provider does what is needed in the source process and makes a WSAPROTOCOL_INFOW that it will recognise in the target
 * process.
 *
 * What every provider must keep, whatever it is made of:
 *
 * - A blob is for one process and one use. Whoever else opens it, or opens it again, is refused with WSAEINVAL.
 * - The descriptor opened is one more of the same underlying socket: what is set through one is seen through all, and the
 *   socket stays open until the last of them is closed. Nothing coordinates their use but the processes themselves.
 * - `dwProviderReserved` and whatever else the provider writes into the blob is its own. Nobody rewrites a blob on its
 *   way; only a layer takes it apart, as {@linkcode LayeredProvider} says.
 * - A call that fails changes nothing: no descriptor is lost, none is closed that is the caller's.
 * - It fails with a {@linkcode WinsockError} whose code is what native code would find in `lpErrno`.
 *
 * Where the system has no sharing of its own, "you can, however, create a customized service provider that supports
 * shared sockets": implement this interface, and make it the process's with {@linkcode useProvider}.
 *
 * @example A provider that says what it does
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
  /** The provider's entry in the catalogue. Its `ProviderId` is the provider's own. */
  readonly protocolInfo: WSAPROTOCOL_INFOW;

  /**
   * Prepares one more descriptor of the socket's underlying socket for one process, to be opened there once
   * (`WSPDuplicateSocket`).
   *
   * @param s The socket's handle. It stays open and the caller's.
   * @param processId The process that may open the duplicate; this one, too.
   * @returns A WSAPROTOCOL_INFOW, 628 bytes. Opaque: send it as it is.
   * @throws {WinsockError} WSAENOTSOCK if `s` is no open socket, WSAEINVAL if there is no such process or no right to
   * share with it, WSAEMFILE or WSAENOBUFS if the system has no more room, WSAENETDOWN or WSAEINPROGRESS if the network
   * system is down or busy, WSASYSCALLFAILURE from a provider that does not share.
   */
  duplicateSocket(s: bigint, processId: number): Uint8Array<ArrayBuffer>;

  /**
   * Opens a duplicate in the process it was made for (`WSPSocket` with `FROM_PROTOCOL_INFO`). Given the provider's own
   * catalogue entry it makes a new, unbound socket.
   *
   * @param info What {@linkcode ServiceProvider.duplicateSocket} returned in the source: exactly 628 bytes.
   * @param flags `WSA_FLAG_*`, the same as in the source. Default `WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT`;
   * a provider of a system that has none takes no notice of them.
   * @returns The new descriptor, not inherited by child processes; the caller's to close.
   * @throws {RangeError} If the bytes are no WSAPROTOCOL_INFOW.
   * @throws {WinsockError} If the provider refuses it: made for another process, opened before, expired, or garbage.
   */
  socket(info: Uint8Array, flags?: number): Promise<bigint>;

  /**
   * The same as {@linkcode ServiceProvider.socket} for callers that cannot wait: native code, and layers above. A
   * provider that must ask another process blocks this thread until that one answers.
   *
   * A provider without it can be used everywhere but below a layer and from native code.
   *
   * @param info As for {@linkcode ServiceProvider.socket}.
   * @param flags As for {@linkcode ServiceProvider.socket}.
   * @returns The new descriptor; the caller's to close.
   * @throws {RangeError} If the bytes are no WSAPROTOCOL_INFOW.
   * @throws {WinsockError} If the provider refuses it.
   */
  socketSync?(info: Uint8Array, flags?: number): bigint;

  /**
   * Takes back a duplicate that its process will not open, where the system can do so from the source. A duplicate that
   * was opened already stays open.
   *
   * @param info What {@linkcode ServiceProvider.duplicateSocket} returned.
   */
  withdraw(info: Uint8Array): void;

  /**
   * Gives up a descriptor (`WSPCloseSocket`). The underlying socket stays open until its last descriptor is closed.
   *
   * @param s The descriptor's handle.
   * @throws {WinsockError} WSAENOTSOCK if it is no open socket.
   */
  closeSocket(s: bigint): void;
}

/** A base provider's entry of TCP over IPv4 and IPv6, whose sockets are descriptors of the system; not whose it is. */
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

/** Whether bytes are a catalogue entry itself, and so ask for a new socket; if not, they are a blob. */
export function isEntry(info: Uint8Array, entry: WSAPROTOCOL_INFOW): boolean {
  return equals(info, WSAPROTOCOL_INFOW.encode(entry));
}
