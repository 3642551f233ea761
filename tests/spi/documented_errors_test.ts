// Every error of the documentation of WSADuplicateSocket and WSPDuplicateSocket, desktop, Windows CE 6.5 and Compact
// 2013: brought about for real where this system can, and by a provider that is told to fail everywhere.
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { WinsockError } from "@winsock/handoff";
import { INVALID_SOCKET, ws2_32 } from "@winsock/handoff/ffi";
import {
  defaultProvider,
  exportProvider,
  MemoryProvider,
  openNativeProvider,
  UnsupportedProvider,
} from "@winsock/handoff/spi";
import { describeWinsockError, type WinsockErrorName } from "@winsock/handoff/structs";
import { lastWinsockError } from "../../ffi/windows/libraries.ts";
import { connection } from "../kit/connections.ts";
import { FFI_GRANT } from "../kit/process.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

const onWindows = Deno.build.os === "windows";

/** The codes the pages name, with what they are worth. */
const DOCUMENTED: Record<string, [code: number, pages: readonly ("desktop" | "SPI" | "CE 6.5" | "Compact 2013")[]]> = {
  WSANOTINITIALISED: [10093, ["desktop"]],
  WSAENETDOWN: [10050, ["desktop", "SPI"]],
  WSAEINVAL: [10022, ["desktop", "SPI"]],
  WSAEINPROGRESS: [10036, ["desktop", "SPI"]],
  WSAEMFILE: [10024, ["desktop", "SPI"]],
  WSAENOBUFS: [10055, ["desktop", "SPI"]],
  WSAENOTSOCK: [10038, ["desktop", "SPI"]],
  WSAEFAULT: [10014, ["desktop"]],
  WSASYSCALLFAILURE: [10107, ["CE 6.5", "Compact 2013"]],
};

for (const [name, [code, pages]] of Object.entries(DOCUMENTED)) {
  Deno.test(`${name} (${code}) of ${pages.join(", ")}: named, explained, and the same through native code`, async () => {
    using pair = await connection();
    const { handle } = pair.server;
    const provider = new MemoryProvider();
    using exported = exportProvider(provider);
    using native = openNativeProvider(exported.WSPStartup, provider.protocolInfo);
    for (const through of [provider, native]) {
      provider.fail("duplicateSocket", name as WinsockErrorName);
      const error = assertThrows(() => through.duplicateSocket(handle, 4242), WinsockError);
      assertEquals([error.code, error.codeName, error.functionName], [code, name, "WSPDuplicateSocket"]);
      assertStringIncludes(
        error.message,
        `Cannot duplicate socket ${handle} for process 4242: WSPDuplicateSocket failed`,
      );
    }
    assert((describeWinsockError(code)?.meaning.length ?? 0) > 10);
    assertEquals(pair.server.remoteAddr, pair.client.localAddr);
  });
}

Deno.test("WSAEINVAL and WSAENOTSOCK, from the system", async () => {
  using pair = await connection();
  const provider = defaultProvider();
  const code = (s: bigint, processId: number) => {
    return assertThrows(() => provider.duplicateSocket(s, processId), WinsockError).codeName;
  };
  assertEquals(code(pair.server.handle, 0x7ffffff0), "WSAEINVAL");
  assertEquals(code(INVALID_SOCKET, Deno.pid), "WSAENOTSOCK");
});

Deno.test("WSASYSCALLFAILURE, always, from the provider that behaves as Windows CE's and Compact 2013's", async () => {
  using pair = await connection();
  for (const s of [pair.server.handle, INVALID_SOCKET]) {
    const call = () => new UnsupportedProvider().duplicateSocket(s, Deno.pid);
    assertEquals(assertThrows(call, WinsockError).code, 10107);
  }
});

Deno.test("WSANOTINITIALISED, from ws2_32 before WSAStartup", { ignore: !onWindows }, async () => {
  const output = await runCode(
    `const { symbols } = Deno.dlopen("C:\\\\Windows\\\\System32\\\\ws2_32.dll", {
       WSASocketW: { parameters: ["i32", "i32", "i32", "buffer", "u32", "u32"], result: "usize" },
       WSADuplicateSocketW: { parameters: ["usize", "u32", "buffer"], result: "i32" },
       WSAGetLastError: { parameters: [], result: "i32" },
     });
     const info = new Uint8Array(628);
     const s = symbols.WSASocketW(-1, -1, -1, info, 0, 1);
     const opened = symbols.WSAGetLastError();
     const result = symbols.WSADuplicateSocketW(s, Deno.pid, info);
     console.log(opened, result, symbols.WSAGetLastError());`,
    FFI_GRANT,
  );
  // Wine's WSADuplicateSocketW looks at the socket first; without WSAStartup there is none.
  assert(["10093 -1 10093", "10093 -1 10038"].includes(output), output);
});

Deno.test("WSAEFAULT, from ws2_32 where there is no structure", { ignore: !onWindows }, async () => {
  using pair = await connection();
  assertEquals(ws2_32().WSADuplicateSocketW(pair.server.handle, Deno.pid, null), -1);
  const error = lastWinsockError(`duplicate socket ${pair.server.handle}`, "WSADuplicateSocketW");
  assertEquals(error.codeName, "WSAEFAULT");
});

Deno.test(
  "WSAEMFILE, from a system with no more descriptors, and none is lost",
  { ignore: onWindows },
  async () => {
    const output = await runCode(
      `import { listen } from ${moduleUrl("mod.ts")};
     import { defaultProvider } from ${moduleUrl("spi/mod.ts")};
     import { openLibrary } from ${moduleUrl("ffi/library.ts")};
     import { LIBRARY_PATHS } from ${moduleUrl("ffi/mod.ts")};
     const { setrlimit } = openLibrary(LIBRARY_PATHS, { setrlimit: { parameters: ["i32", "buffer"], result: "i32" } });
     const RLIMIT_NOFILE = Deno.build.os === "darwin" ? 8 : 7;
     using listener = listen({ hostname: "127.0.0.1", port: 0 });
     const provider = defaultProvider();
     provider.withdraw(provider.duplicateSocket(listener.handle, Deno.pid));
     if (setrlimit(RLIMIT_NOFILE, new BigUint64Array([64n, 64n])) !== 0) throw new Error("setrlimit");
     const blobs = [];
     try {
       for (;;) blobs.push(provider.duplicateSocket(listener.handle, Deno.pid));
     } catch (error) {
       console.log(error.codeName, blobs.length > 0);
     }
     for (const blob of blobs) provider.withdraw(blob);
     provider.closeSocket(provider.socketSync(provider.duplicateSocket(listener.handle, Deno.pid)));
     console.log("and again");`,
      FFI_GRANT,
    );
    assertEquals(output, "WSAEMFILE true\nand again");
  },
);

Deno.test("a structure that is not 628 bytes never reaches the system", () => {
  assertThrows(() => defaultProvider().socketSync!(new Uint8Array(372)), RangeError, "expected 628 bytes, got 372");
});
