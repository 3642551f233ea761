/**
 * Selects the implementation for the current system. The only other module that asks which system this is,
 * `unix/libc.ts`, selects one Unix.
 *
 * @module
 */
import type { FileCalls, SocketCalls } from "./platform.ts";
import { libraryPaths } from "./unix/libc.ts";
import { ownWords as unixWords } from "./unix/process.ts";
import { UnixCalls } from "./unix/sockets.ts";
import { ownWords as windowsWords } from "./windows/libraries.ts";
import { WinsockCalls } from "./windows/sockets.ts";
import { KERNEL32_PATH, WS2_32_PATH } from "./library.ts";

/**
 * The absolute paths of the libraries that sockets need on this system. `--allow-ffi` must name them for a process that
 * sends or receives sockets. On Linux, where distributions keep libc in different places, the list has all of them. If
 * the environment variable `WINSOCK_HANDOFF_LIBC` has the path of libc, and this process may read it, the list has only
 * that path.
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
  ? [WS2_32_PATH, KERNEL32_PATH]
  : libraryPaths();

let calls: SocketCalls | undefined;

/**
 * Returns the socket calls of the current system. The system library is opened at the first call.
 *
 * @returns The same calls every time.
 * @throws {Deno.errors.NotSupported} If the library does not support this system; the message names it.
 * @throws {Deno.errors.NotCapable} Without ffi access to the system library.
 */
export function systemCalls(): SocketCalls {
  return calls ??= openCalls(Deno.build.os);
}

/**
 * Opens the socket calls of a system.
 *
 * @param os The name of the system.
 * @returns New calls.
 * @throws {Deno.errors.NotSupported} If the library does not support this system; the message names it.
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
        `Cannot use sockets on ${os}: @winsock/handoff does not have a service provider for it`,
      );
  }
}

/** Returns the calls for files of the current system. They are loaded at the first call. */
export async function fileCalls(): Promise<FileCalls> {
  const backend = Deno.build.os === "windows" ? await import("./windows/files.ts") : await import("./unix/files.ts");
  return backend.FILE_CALLS;
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
