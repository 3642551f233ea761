/**
 * .NET's SocketInformation: what `Socket.DuplicateAndClose` returns and `new Socket(SocketInformation)` takes.
 *
 * @module
 */
import { nodeBuiltin } from "../internal/runtime.ts";
import { type AnySocket, duplicateSocket, openSocket } from "../sockets/duplicate_socket.ts";
import { Listener } from "../sockets/listener.ts";
import { Socket } from "../sockets/socket.ts";
import { WSAPROTOCOL_INFOW } from "../structs/wsaprotocol_info.ts";

/**
 * .NET's [SocketInformationOptions](https://learn.microsoft.com/dotnet/api/system.net.sockets.socketinformationoptions),
 * bits.
 */
export const SocketInformationOptions = {
  /** The socket's calls return instead of waiting. */
  NonBlocking: 1,
  /** It is connected. */
  Connected: 2,
  /** It listens. */
  Listening: 4,
  /** Obsolete; .NET 5 and newer ignore it. */
  UseOnlyOverlappedIO: 8,
} as const;

/**
 * .NET's [SocketInformation](https://learn.microsoft.com/dotnet/api/system.net.sockets.socketinformation), under its own
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
 * @example What .NET would read from a pipe
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
 * @param socket The socket to share; it stays open and the caller's.
 * @param processId The .NET process.
 * @returns The information; its options say `Connected` or `Listening`, and of a datagram socket neither.
 * @throws {WinsockError} WSAENOTSOCK if the socket was closed or given up, WSAEINVAL if there is no such process.
 */
export function duplicateSocketInformation(socket: AnySocket, processId: number): SocketInformation {
  const { Connected, Listening } = SocketInformationOptions;
  return {
    ProtocolInformation: duplicateSocket(socket, processId),
    Options: socket instanceof Listener ? Listening : socket instanceof Socket ? Connected : 0,
  };
}

/**
 * Opens the socket of an information that .NET's `DuplicateAndClose` made for this process. What it is, the system
 * tells: the options are only .NET's own notes. Needs ffi access to the system's socket library.
 *
 * @param information The information.
 * @returns The socket, the caller's to close.
 * @throws {RangeError} If its bytes are no WSAPROTOCOL_INFOW.
 * @throws {WinsockError} If the system refuses it.
 */
export async function openSocketInformation(information: SocketInformation): Promise<AnySocket<Deno.NetAddr>> {
  return await openSocket(information.ProtocolInformation);
}

/**
 * The information as JSON, as .NET's `JsonSerializer` writes and reads it without options: the bytes in base64, the
 * options as a number. Needs no permission.
 *
 * @param information The information.
 * @returns The text.
 */
export function stringifySocketInformation({ ProtocolInformation, Options }: SocketInformation): string {
  const { Buffer } = nodeBuiltin("node:buffer");
  return JSON.stringify({ ProtocolInformation: Buffer.from(ProtocolInformation).toString("base64"), Options });
}

/**
 * Reads the JSON of an information. Needs no permission.
 *
 * @param text What `JsonSerializer.Serialize(information)` returned in .NET.
 * @returns The information.
 * @throws {SyntaxError} If it is no JSON.
 * @throws {TypeError} If it is not the JSON of a SocketInformation.
 */
export function parseSocketInformation(text: string): SocketInformation {
  const { ProtocolInformation, Options } = Object(JSON.parse(text)) as Record<string, unknown>;
  const bytes = typeof ProtocolInformation === "string"
    ? Uint8Array.from(nodeBuiltin("node:buffer").Buffer.from(ProtocolInformation, "base64"))
    : undefined;
  if (bytes?.byteLength !== WSAPROTOCOL_INFOW.size || !Number.isInteger(Options)) {
    throw new TypeError("Cannot read a SocketInformation: it has no ProtocolInformation of 628 bytes and Options");
  }
  return { ProtocolInformation: bytes, Options: Options as number };
}
