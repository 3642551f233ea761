/**
 * The one place that asks which system this is, but for {@linkcode unixSystem}, which knows one Unix from another.
 *
 * @module
 */
import type { SocketCalls } from "./platform.ts";
import { LIBC_PATHS } from "./unix/libc.ts";
import { ownWords as unixWords } from "./unix/process.ts";
import { UnixCalls } from "./unix/sockets.ts";
import { ownWords as windowsWords } from "./windows/libraries.ts";
import { WinsockCalls } from "./windows/sockets.ts";
import { SYSTEM32 } from "./library.ts";

/**
 * The libraries this system's sockets are in, by absolute path: what `--allow-ffi` must name for a process that sends or
 * receives sockets, and no more. Where Linux distributions keep libc in different places, all of them.
 *
 * @example The flag for a worker
 * ```ts
 * import { LIBRARY_PATHS } from "@winsock/handoff";
 * import { assert } from "@std/assert";
 *
 * const flag = `--allow-ffi=${LIBRARY_PATHS.join(",")}`;
 * assert(flag.length > "--allow-ffi=".length);
 * ```
 */
export const LIBRARY_PATHS: readonly string[] = Deno.build.os === "windows"
  ? [`${SYSTEM32}\\ws2_32.dll`, `${SYSTEM32}\\kernel32.dll`]
  : LIBC_PATHS;

let calls: SocketCalls | undefined;

/**
 * The socket calls of the system this runs on; its library is opened at the first call.
 *
 * @returns The same calls every time.
 * @throws {Deno.errors.NotSupported} On a system the library has no calls for; the message names it.
 * @throws {Deno.errors.NotCapable} Without ffi access to the system's library.
 */
export function systemCalls(): SocketCalls {
  return calls ??= openCalls(Deno.build.os);
}

/**
 * Opens the socket calls of a system.
 *
 * @param os Which.
 * @returns New calls.
 * @throws {Deno.errors.NotSupported} On a system the library has no calls for; the message names it.
 */
export function openCalls(os: typeof Deno.build.os): SocketCalls {
  switch (os) {
    case "windows":
      return new WinsockCalls();
    case "linux":
    case "darwin":
      return new UnixCalls();
    default:
      throw new Deno.errors.NotSupported(
        `Cannot use sockets on ${os}: @winsock/handoff has no service provider for it`,
      );
  }
}

/**
 * The words this process was started with: the program, its flags, and all arguments.
 *
 * @returns `undefined` if the system does not tell.
 * @throws {Deno.errors.NotCapable} Without ffi access to the system's library.
 */
export function ownCommandLine(): string[] | undefined {
  return Deno.build.os === "windows" ? windowsWords() : unixWords();
}
