/** The C library of `tests/native`, which the lane's set-up builds: a service provider, and a caller of one. */
import { MemoryProvider } from "@winsock/handoff/spi";
import { type WSAPROTOCOL_INFOW, WSPPROC_TABLE } from "@winsock/handoff/structs";
import { exists } from "./paths.ts";

const FILE = Deno.build.os === "windows" ? "provider.dll" : "provider.so";

/** The library's absolute path. */
export const NATIVE_PATH = toPath(new URL(`../../.cache/native/${FILE}`, import.meta.url));

/** Leaves a test out where the library could not be built; the lane has said so, and fails in CI. */
export const withNative = { ignore: !exists(NATIVE_PATH) };

const SYMBOLS = {
  provider_reset: { parameters: [], result: "void" },
  provider_be_ifs: { parameters: ["i32"], result: "void" },
  provider_speak: { parameters: ["i32"], result: "void" },
  provider_leave_out: { parameters: ["i32"], result: "void" },
  provider_fail: { parameters: ["i32", "i32"], result: "void" },
  provider_calls: { parameters: ["i32"], result: "i32" },
  provider_seen: { parameters: ["i32", "buffer"], result: "void" },
  provider_startups: { parameters: [], result: "i32" },
  provider_call_back: { parameters: ["buffer", "buffer", "buffer", "usize", "buffer", "buffer"], result: "void" },
  caller_announced: { parameters: ["buffer"], result: "i32" },
  caller_created: { parameters: [], result: "i32" },
  caller_start: { parameters: ["pointer", "i32", "buffer", "buffer", "buffer"], result: "i32" },
  caller_duplicate: { parameters: ["usize", "u32", "buffer", "buffer"], result: "i32" },
  caller_socket: { parameters: ["buffer", "buffer"], result: "usize" },
  caller_close: { parameters: ["usize", "buffer"], result: "i32" },
  caller_set: { parameters: ["usize", "i32", "i32", "buffer", "i32", "buffer"], result: "i32" },
  caller_get: { parameters: ["usize", "i32", "i32", "buffer", "buffer", "buffer"], result: "i32" },
  caller_to_string: { parameters: ["buffer", "u32", "buffer", "buffer", "buffer", "buffer"], result: "i32" },
  caller_to_address: { parameters: ["buffer", "i32", "buffer", "buffer", "buffer", "buffer"], result: "i32" },
  caller_cleanup: { parameters: ["buffer"], result: "i32" },
  caller_unsupported: { parameters: ["usize", "buffer", "buffer"], result: "void" },
  caller_serve_echo: {
    parameters: ["pointer", "buffer", "i32", "buffer", "buffer"],
    result: "i32",
    nonblocking: true,
    optional: true,
  },
  caller_hand_off: { parameters: ["pointer", "buffer", "usize", "u32", "i32", "i32", "buffer"], result: "i32" },
  caller_hand_off_elsewhere: {
    name: "caller_hand_off",
    parameters: ["pointer", "buffer", "usize", "u32", "i32", "i32", "buffer"],
    result: "i32",
    nonblocking: true,
  },
} as const satisfies Deno.ForeignLibraryInterface;

let symbols: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] | undefined;

/** The library's own functions. */
export function native(): Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] {
  return symbols ??= Deno.dlopen(NATIVE_PATH, SYMBOLS).symbols;
}

/** The place of a function in the table. */
export function slot(name: typeof WSPPROC_TABLE[number]): number {
  return WSPPROC_TABLE.indexOf(name);
}

/** The catalogue entry the tests use the C provider as. */
export const NATIVE_ENTRY: WSAPROTOCOL_INFOW = {
  ...new MemoryProvider().protocolInfo,
  ProviderId: "5f0d4a52-8c1d-4f55-9a0e-6f3a54b0c9ee",
  dwCatalogEntryId: 2001,
  szProtocol: "TCP/IP in C",
};

/** Levels and options with this system's numbers. */
export const TCP_NODELAY = [6, 1] as const;
export const AF_INET = 2;

/** A `sockaddr_in` of 127.0.0.1 and a port. */
export function loopback(port: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array([AF_INET, 0, port >>> 8, port & 0xff, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
}

function toPath(url: URL): string {
  const path = decodeURIComponent(url.pathname);
  return Deno.build.os === "windows" ? path.slice(1).replaceAll("/", "\\") : path;
}
