/**
 * The contract of a service provider that shares sockets.
 *
 * @module
 */
import type { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";

/**
 * Who can duplicate a socket for another process and open it there. The contract is Winsock's own
 * ([WSPDuplicateSocket](https://learn.microsoft.com/windows/win32/api/ws2spi/nc-ws2spi-lpwspduplicatesocket)): the
 * provider does what is needed in the source process and makes a WSAPROTOCOL_INFOW that it will recognise in the target
 * process.
 */
export interface ServiceProvider {
  /** The provider's entry in the catalogue. Its `ProviderId` is the provider's own. */
  readonly protocolInfo: WSAPROTOCOL_INFOW;

  /**
   * Prepares one more descriptor of the socket's underlying socket for one process, to be opened there once.
   *
   * @param s The socket's handle. It stays open and the caller's.
   * @param processId The process that may open the duplicate.
   * @returns A WSAPROTOCOL_INFOW, 628 bytes. Opaque: send it as it is.
   * @throws {WinsockError} WSAENOTSOCK if `s` is no open socket, WSAEINVAL if there is no such process or no right to
   * share with it, WSAEMFILE or WSAENOBUFS if the system has no more room.
   */
  duplicateSocket(s: bigint, processId: number): Uint8Array<ArrayBuffer>;

  /**
   * Opens a duplicate in the process it was made for.
   *
   * @param info What {@linkcode ServiceProvider.duplicateSocket} returned in the source: exactly 628 bytes.
   * @returns The new descriptor, not inherited by child processes; the caller's to close.
   * @throws {RangeError} If the bytes are no WSAPROTOCOL_INFOW.
   * @throws {WinsockError} If the provider refuses it: made for another process, opened before, expired, or garbage.
   */
  socket(info: Uint8Array): Promise<bigint>;

  /**
   * Takes back a duplicate that its process will not open, where the system can do so from the source. A duplicate that
   * was opened already stays open.
   *
   * @param info What {@linkcode ServiceProvider.duplicateSocket} returned.
   */
  withdraw(info: Uint8Array): void;

  /**
   * Gives up a descriptor. The underlying socket stays open until its last descriptor is closed.
   *
   * @param s The descriptor's handle.
   * @throws {WinsockError} WSAENOTSOCK if it is no open socket.
   */
  closeSocket(s: bigint): void;
}
