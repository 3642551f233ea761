// A C provider called through its WSPPROC_TABLE.
import { assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { WinsockError } from "@winsock/handoff";
import { INVALID_SOCKET } from "@winsock/handoff/ffi";
import { DescriptorTable, MemoryProvider, openNativeProvider } from "@winsock/handoff/spi";
import { WSA_ERRORS, WSAPROTOCOL_INFOW, type WSPPROC_TABLE, WSPUPCALLTABLE } from "@winsock/handoff/structs";
import { connection } from "../kit/connections.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { AF_INET, loopback, native, NATIVE_ENTRY, NATIVE_PATH, slot, TCP_NODELAY, withNative } from "../kit/native.ts";
import { isWine } from "../kit/wine.ts";

const ENTRY = WSAPROTOCOL_INFOW.encode(NATIVE_ENTRY);
const onWindows = Deno.build.os === "windows";

function open(descriptors?: DescriptorTable) {
  native().provider_reset();
  return openNativeProvider(NATIVE_PATH, NATIVE_ENTRY, descriptors);
}

/** What the provider was given in its last call of a function. */
function seen(name: typeof WSPPROC_TABLE[number]): Uint8Array {
  const info = new Uint8Array(WSAPROTOCOL_INFOW.size);
  native().provider_seen(slot(name), info);
  return info;
}

Deno.test(
  "a C provider duplicates a socket and opens it again, and both descriptors are of one socket",
  withNative,
  async () => {
    using provider = open();
    using pair = await connection();
    const blob = provider.duplicateSocket(pair.server.handle, Deno.pid);
    assertEquals(WSAPROTOCOL_INFOW.decode(blob).ProviderId, NATIVE_ENTRY.ProviderId);
    assertEquals(seen("lpWSPDuplicateSocket"), ENTRY);
    const s = await provider.socket(blob);
    assertEquals(seen("lpWSPSocket"), blob);
    assertNotEquals(s, pair.server.handle);
    provider.setSockOpt(s, ...TCP_NODELAY, new Uint8Array([1, 0, 0, 0]));
    assertNotEquals(provider.getSockOpt(pair.server.handle, ...TCP_NODELAY)[0], 0);
    assertEquals(provider.descriptors.entryOf(s), NATIVE_ENTRY.dwCatalogEntryId);
    provider.closeSocket(s);
    assertEquals(provider.descriptors.size, 0);
    assertThrows(() => provider.closeSocket(INVALID_SOCKET), WinsockError, "WSPCloseSocket failed with WSAENOTSOCK");
    assertEquals(pair.server.remoteAddr, pair.client.localAddr);
    await assertNothingLeaks(async () => {
      provider.closeSocket(await provider.socket(provider.duplicateSocket(pair.server.handle, Deno.pid)));
    });
  },
);

Deno.test("its own entry asks a C provider for a new socket", withNative, async () => {
  using provider = open();
  const s = await provider.socket(ENTRY);
  provider.closeSocket(s);
  assertEquals(native().provider_calls(slot("lpWSPSocket")), 1);
});

Deno.test("a C provider reads and writes addresses", withNative, () => {
  using provider = open();
  assertEquals(provider.addressToString(loopback(8080)), "127.0.0.1:8080");
  assertEquals(provider.stringToAddress("127.0.0.1:8080", AF_INET), loopback(8080));
  assertEquals([seen("lpWSPAddressToString"), seen("lpWSPStringToAddress")], [ENTRY, ENTRY]);
  const error = assertThrows(() => provider.stringToAddress("nonsense", AF_INET), WinsockError);
  assertEquals(error.codeName, "WSAEINVAL");
});

Deno.test(
  "a code in lpErrno becomes an error that names the function, for every documented code",
  withNative,
  async () => {
    using provider = open();
    using pair = await connection();
    const s = pair.server.handle;
    for (
      const name of [
        "WSAENETDOWN",
        "WSAEINVAL",
        "WSAEINPROGRESS",
        "WSAEMFILE",
        "WSAENOBUFS",
        "WSAENOTSOCK",
        "WSAEFAULT",
        "WSASYSCALLFAILURE",
      ] as const
    ) {
      native().provider_fail(slot("lpWSPDuplicateSocket"), WSA_ERRORS[name]);
      const error = assertThrows(() => provider.duplicateSocket(s, Deno.pid), WinsockError);
      assertEquals(
        error.message,
        `Cannot duplicate socket ${s} for process ${Deno.pid}: WSPDuplicateSocket failed with ${name} (${
          WSA_ERRORS[name]
        })`,
      );
    }
    const blob = provider.duplicateSocket(s, Deno.pid);
    native().provider_fail(slot("lpWSPSocket"), WSA_ERRORS.WSAEMFILE);
    await assertRejects(() => provider.socket(blob), WinsockError, "WSPSocket failed with WSAEMFILE (10024)");
    provider.closeSocket(await provider.socket(blob));
    const calls = [
      ["lpWSPSetSockOpt", () => provider.setSockOpt(s, ...TCP_NODELAY, new Uint8Array(4))],
      ["lpWSPGetSockOpt", () => provider.getSockOpt(s, ...TCP_NODELAY)],
      ["lpWSPCloseSocket", () => provider.closeSocket(s)],
      ["lpWSPAddressToString", () => provider.addressToString(loopback(1))],
      ["lpWSPStringToAddress", () => provider.stringToAddress("1.2.3.4", AF_INET)],
      ["lpWSPCleanup", () => provider[Symbol.dispose]()],
    ] as const;
    for (const [name, call] of calls) {
      native().provider_fail(slot(name), WSA_ERRORS.WSAENETDOWN);
      const error = assertThrows(call, WinsockError, "WSAENETDOWN (10050)");
      assertEquals(error.functionName, name.slice(2));
    }
    native().provider_fail(slot("lpWSPDuplicateSocket"), 0);
    assertThrows(() => provider.duplicateSocket(s, Deno.pid), WinsockError, "WSASYSCALLFAILURE");
  },
);

Deno.test("what a C provider itself refuses is what the documentation says", withNative, async () => {
  using provider = open();
  using pair = await connection();
  const s = pair.server.handle;
  const error = assertThrows(() => provider.duplicateSocket(s, 0x7ffffff0), WinsockError);
  assertEquals(error.codeName, "WSAEINVAL");
  pair.server.close();
  assertThrows(() => provider.duplicateSocket(s, Deno.pid), WinsockError, "WSAENOTSOCK");
  await assertRejects(() => provider.socket(new Uint8Array(372)), RangeError, "expected 628 bytes");
});

Deno.test("the version is negotiated: another than 2.2 is refused, and the provider stopped", withNative, () => {
  using provider = open();
  native().provider_speak(0x0302);
  const before = native().provider_startups();
  assertThrows(() => provider.duplicateSocket(1n, 1), WinsockError, "it uses version 2.3, not 2.2");
  assertEquals(native().provider_startups(), before);
});

Deno.test("a table with a hole is refused, and the provider stopped", withNative, () => {
  using provider = open();
  native().provider_leave_out(slot("lpWSPIoctl"));
  const before = native().provider_startups();
  const error = assertThrows(() => provider.duplicateSocket(1n, 1), WinsockError, "its WSPPROC_TABLE lacks lpWSPIoctl");
  assertEquals(error.codeName, "WSAEINVALIDPROCTABLE");
  assertEquals(native().provider_startups(), before);
});

Deno.test("a provider is started once, stopped once, and starts again", withNative, async () => {
  const provider = open();
  using pair = await connection();
  const before = native().provider_startups();
  for (let round = 0; round < 2; round++) {
    for (let use = 0; use < 2; use++) {
      provider.closeSocket(await provider.socket(provider.duplicateSocket(pair.server.handle, Deno.pid)));
    }
    assertEquals(native().provider_startups(), before + 1);
    provider[Symbol.dispose]();
    provider[Symbol.dispose]();
    assertEquals(native().provider_startups(), before);
  }
});

Deno.test(
  "a non-IFS provider's descriptors are ours, with its own as context, and closing one closes both",
  withNative,
  async () => {
    using provider = open();
    native().provider_be_ifs(0);
    await assertNothingLeaks(async () => {
      const s = await provider.socket(ENTRY);
      assertEquals(provider.descriptors.entryOf(s), NATIVE_ENTRY.dwCatalogEntryId);
      const lower = provider.descriptors.WPUQuerySocketHandleContext(s);
      assertNotEquals(lower, s);
      provider.setSockOpt(s, ...TCP_NODELAY, new Uint8Array([1, 0, 0, 0]));
      assertNotEquals(provider.getSockOpt(s, ...TCP_NODELAY)[0], 0);
      const copy = await provider.socket(provider.duplicateSocket(s, Deno.pid));
      assertNotEquals(provider.descriptors.WPUQuerySocketHandleContext(copy), lower);
      provider.closeSocket(copy);
      provider.closeSocket(s);
      assertEquals(provider.descriptors.size, 0);
      assertThrows(() => provider.closeSocket(s), WinsockError, "WSAENOTSOCK");
    });
    using pair = await connection();
    // Sockets made past a non-IFS provider are none to it.
    assertThrows(() => provider.duplicateSocket(pair.server.handle, Deno.pid), WinsockError, "WSAENOTSOCK");
  },
);

Deno.test(
  "every upcall answers: descriptors, context, paths, events, and an error for what has no meaning here",
  withNative,
  async () => {
    const path = "C:\\providers\\mine.dll";
    using provider = open(
      new DescriptorTable({ providerPath: (id) => id === NATIVE_ENTRY.ProviderId ? path : undefined }),
    );
    provider.closeSocket(await provider.socket(ENTRY));
    const text = new Uint16Array(260);
    const results = new BigInt64Array(WSPUPCALLTABLE.length);
    const codes = new Int32Array(WSPUPCALLTABLE.length);
    const length = new Int32Array([260]);
    const call = (guid: Uint8Array<ArrayBuffer>) => {
      native().provider_call_back(guid, text, length, 8n, results, codes);
      return Object.fromEntries(WSPUPCALLTABLE.map((name, index) => [name, [Number(results[index]), codes[index]]]));
    };
    const event = onWindows ? [1, 0] : [0, WSA_ERRORS.WSAEOPNOTSUPP];
    const handle = call(ENTRY.slice(20, 36));
    assertEquals(handle, {
      lpWPUCloseEvent: event,
      lpWPUCloseSocketHandle: [0, 0],
      lpWPUCreateEvent: event,
      lpWPUCreateSocketHandle: [handle.lpWPUCreateSocketHandle![0]!, 0],
      lpWPUFDIsSet: [1, 0],
      lpWPUGetProviderPath: [0, 0],
      lpWPUModifyIFSHandle: [8, 0],
      lpWPUPostMessage: [0, 0],
      lpWPUQueryBlockingCallback: [0, 0],
      lpWPUQuerySocketHandleContext: [0, 0],
      lpWPUQueueApc: [-1, WSA_ERRORS.WSAEOPNOTSUPP],
      lpWPUResetEvent: event,
      lpWPUSetEvent: event,
      lpWPUOpenCurrentThread: [-1, WSA_ERRORS.WSAEOPNOTSUPP],
      lpWPUCloseThread: [-1, WSA_ERRORS.WSAEOPNOTSUPP],
    });
    assertEquals([String.fromCharCode(...text.subarray(0, path.length)), length[0]], [path, path.length + 1]);
    length[0] = 3;
    assertEquals(call(ENTRY.slice(20, 36)).lpWPUGetProviderPath, [-1, WSA_ERRORS.WSAEFAULT]);
    assertEquals(length[0], path.length + 1);
    assertEquals(call(new Uint8Array(16)).lpWPUGetProviderPath, [-1, WSA_ERRORS.WSAEINVALIDPROVIDER]);
  },
);

Deno.test("a library that is missing, none, or without WSPStartup is refused", withNative, () => {
  const entry = new MemoryProvider().protocolInfo;
  assertThrows(() => openNativeProvider("provider.dll", entry), TypeError, "its path is not absolute");
  const nowhere = onWindows ? "C:\\nowhere\\provider.dll" : "/nowhere/provider.so";
  assertThrows(() => openNativeProvider(nowhere, entry), WinsockError, "WSAEPROVIDERFAILEDINIT");
  const other = onWindows ? "C:\\Windows\\System32\\kernel32.dll" : "/lib/x86_64-linux-gnu/libc.so.6";
  assertThrows(() => openNativeProvider(other, entry), WinsockError, "WSPStartup");
});

Deno.test("Wine's own mswsock.dll is recognised and refused, not called", { ignore: !onWindows || !isWine() }, () => {
  const path = "C:\\Windows\\System32\\mswsock.dll";
  const entry = new MemoryProvider().protocolInfo;
  const error = assertThrows(
    () => openNativeProvider(path, entry),
    WinsockError,
    "a placeholder that ends the process",
  );
  assertEquals(error.codeName, "WSAEINVALIDPROVIDER");
  const { symbols } = Deno.dlopen("C:\\Windows\\System32\\kernel32.dll", {
    GetModuleHandleA: { parameters: ["buffer"], result: "usize" },
    GetProcAddress: { parameters: ["usize", "buffer"], result: "pointer" },
  });
  const name = (text: string) => new TextEncoder().encode(`${text}\0`);
  const pointer = symbols.GetProcAddress(symbols.GetModuleHandleA(name("mswsock.dll")), name("WSPStartup"));
  assertThrows(() => openNativeProvider(pointer!, entry), WinsockError, "a placeholder that ends the process");
});
