/**
 * SocketInformation of .NET: the result of `Socket.DuplicateAndClose` and the argument of `new
 * Socket(SocketInformation)`.
 *
 * @module
 */
import { nodeBuiltin } from "../internal/runtime.ts";
import { type AnySocket, duplicateSocket, kindOfSocket, openSocket } from "../sockets/duplicate_socket.ts";
import { Listener } from "../sockets/listener.ts";
import { Socket } from "../sockets/socket.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";

/**
 * [SocketInformationOptions](https://learn.microsoft.com/dotnet/api/system.net.sockets.socketinformationoptions) of
 * .NET, as bits.
 */
export const SocketInformationOptions = {
  /** Calls on the socket return instead of waiting. */
  NonBlocking: 1,
  /** The socket is connected. */
  Connected: 2,
  /** The socket is listening. */
  Listening: 4,
  /** Obsolete; .NET 5 and newer ignore it. */
  UseOnlyOverlappedIO: 8,
} as const;

/**
 * [SocketInformation](https://learn.microsoft.com/dotnet/api/system.net.sockets.socketinformation) of .NET, with its
 * names.
 */
export interface SocketInformation {
  /** The blob, 628 bytes: a WSAPROTOCOL_INFOW. */
  readonly ProtocolInformation: Uint8Array;
  /** Bits of {@linkcode SocketInformationOptions}. */
  readonly Options: number;
}

/**
 * Duplicates a socket for a .NET process. Needs ffi access to the system's socket library.
 *
 * @example The object that .NET would read from a pipe
 * ```ts
 * import { listen } from "@winsock/handoff";
 * import { duplicateSocketInformation, SocketInformationOptions, stringifySocketInformation } from "@winsock/handoff/interop";
 * import { assert, assertEquals } from "@std/assert";
 *
 * using listener = listen({ hostname: "127.0.0.1", port: 0 });
 * const information = duplicateSocketInformation(listener, Deno.pid);
 * assertEquals(information.Options, SocketInformationOptions.Listening);
 * assert(stringifySocketInformation(information).startsWith('{"ProtocolInformation":"'));
 * ```
 *
 * @param socket The socket to share. It stays open and still belongs to the caller.
 * @param processId The .NET process.
 * @returns The information. Its options are `Connected` or `Listening`, or `NonBlocking` for a datagram socket, because
 * `DatagramSocket` makes it non-blocking for every process that shares it.
 * @throws {WinsockError} WSAENOTSOCK if the socket was closed or released, WSAEINVAL if the process does not exist.
 */
export function duplicateSocketInformation(socket: AnySocket, processId: number): SocketInformation {
  kindOfSocket(socket);
  const { NonBlocking, Connected, Listening } = SocketInformationOptions;
  return {
    ProtocolInformation: duplicateSocket(socket, processId),
    Options: socket instanceof Listener ? Listening : socket instanceof Socket ? Connected : NonBlocking,
  };
}

/**
 * Opens the socket of a SocketInformation that .NET's `DuplicateAndClose` made for this process. The kind of the socket
 * is read from the system, because the options are only for .NET's own use. Needs ffi access to the system's socket
 * library.
 *
 * @param information The information.
 * @returns The socket. The caller must close it.
 * @throws {RangeError} If its bytes are not a WSAPROTOCOL_INFOW.
 * @throws {WinsockError} If the system rejects it.
 */
export async function openSocketInformation(information: SocketInformation): Promise<AnySocket<Deno.NetAddr>> {
  return await openSocket(information.ProtocolInformation);
}

/**
 * Formats a SocketInformation as JSON, as .NET's `JsonSerializer` writes and reads it by default: the bytes in base64,
 * the options as a number. Needs no permission.
 *
 * @param information The information.
 * @returns The text.
 */
export function stringifySocketInformation({ ProtocolInformation, Options }: SocketInformation): string {
  const { Buffer } = nodeBuiltin("node:buffer");
  return JSON.stringify({ ProtocolInformation: Buffer.from(ProtocolInformation).toString("base64"), Options });
}

/**
 * Parses the JSON of a SocketInformation. Needs no permission.
 *
 * @param text The result of `JsonSerializer.Serialize(information)` in .NET.
 * @returns The information.
 * @throws {SyntaxError} If the text is not JSON.
 * @throws {TypeError} If it is not the JSON of a SocketInformation.
 */
export function parseSocketInformation(text: string): SocketInformation {
  const { ProtocolInformation, Options } = Object(JSON.parse(text)) as Record<string, unknown>;
  const bytes = typeof ProtocolInformation === "string"
    ? Uint8Array.from(nodeBuiltin("node:buffer").Buffer.from(ProtocolInformation, "base64"))
    : undefined;
  if (bytes?.byteLength !== WSAPROTOCOL_INFOW.size || !Number.isInteger(Options)) {
    throw new TypeError("Cannot read a SocketInformation: it must have a ProtocolInformation of 628 bytes and Options");
  }
  return { ProtocolInformation: bytes, Options: Options as number };
}
