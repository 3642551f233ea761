// C code that calls a provider written in TypeScript through its WSPStartup.
import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { connect, listen, Socket, WinsockError } from "@winsock/handoff";
import { INVALID_SOCKET } from "@winsock/handoff/ffi";
import {
  defaultProvider,
  DescriptorTable,
  type ExportedProvider,
  exportProvider,
  LayeredProvider,
  MemoryProvider,
  type MemoryProviderStep,
  openNativeProvider,
  ProviderCatalog,
  type ServiceProvider,
  UnsupportedProvider,
  WinsockProvider,
} from "@winsock/handoff/spi";
import { type WinsockErrorName, WSA_ERRORS, WSAPROTOCOL_INFOW, WSPDATA } from "@winsock/handoff/structs";
import { nonIfsChain } from "../kit/chains.ts";
import { connection, writeAll } from "../kit/connections.ts";
import { countDescriptors } from "../kit/descriptors.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { until, within } from "../kit/process.ts";
import { openChain } from "../kit/providers.ts";
import { AF_INET, loopback, native, TCP_NODELAY, withNative } from "../kit/native.ts";

const SOCKET_ERROR = -1;

/** What C code gets when it starts a provider: the code, what is in WSPDATA, and how many functions are missing. */
function start(exported: ExportedProvider, entry: Uint8Array<ArrayBuffer> | null, version = 0x0202) {
  const data = new Uint8Array(WSPDATA.size);
  const missing = new Int32Array(1);
  const code = native().caller_start(exported.WSPStartup, version, entry, data, missing);
  return { code, data: WSPDATA.decode(data), missing: missing[0] };
}

/** A provider that C code has started; stopped at the end. */
function started(provider: ServiceProvider) {
  const exported = exportProvider(provider);
  const entry = WSAPROTOCOL_INFOW.encode(provider.protocolInfo);
  assertEquals(start(exported, entry).code, 0);
  const lpErrno = new Int32Array(1);
  return {
    entry,
    lpErrno,
    [Symbol.dispose]() {
      assertEquals(native().caller_cleanup(lpErrno), 0);
      exported[Symbol.dispose]();
    },
  };
}

const SOL_SOCKET = 0xffff;
const SO_UPDATE_CONNECT_CONTEXT = 0x7010;

Deno.test("C code starts a provider and finds a table without holes", withNative, () => {
  const provider = new MemoryProvider();
  using exported = exportProvider(provider);
  const { code, data, missing } = start(exported, WSAPROTOCOL_INFOW.encode(provider.protocolInfo));
  assertEquals([code, missing], [0, 0]);
  assertEquals(data, { wVersion: 0x0202, wHighVersion: 0x0202, szDescription: "TCP/IP in memory" });
  const lpErrno = new Int32Array(1);
  assertEquals(native().caller_cleanup(lpErrno), 0);
  assertEquals([native().caller_cleanup(lpErrno), lpErrno[0]], [SOCKET_ERROR, WSA_ERRORS.WSANOTINITIALISED]);
});

Deno.test(
  "C code that asks for a version older than 2.2 is refused, and one that asks for a newer gets 2.2",
  withNative,
  () => {
    const provider = new MemoryProvider();
    const entry = WSAPROTOCOL_INFOW.encode(provider.protocolInfo);
    using exported = exportProvider(provider);
    assertEquals(start(exported, entry, 0x0101).code, WSA_ERRORS.WSAVERNOTSUPPORTED);
    assertEquals(start(exported, entry, 0x0102).code, WSA_ERRORS.WSAVERNOTSUPPORTED);
    const { code, data } = start(exported, entry, 0x0003);
    assertEquals([code, data.wVersion], [0, 0x0202]);
    native().caller_cleanup(new Int32Array(1));
  },
);

for (const [name, make] of Object.entries({ memory: () => new MemoryProvider(), system: defaultProvider })) {
  Deno.test(`C code hands a socket off through the ${name} provider, and back`, withNative, async () => {
    const provider = make();
    using exported = exportProvider(provider);
    using pair = await connection();
    const entry = WSAPROTOCOL_INFOW.encode(provider.protocolInfo);
    const lpErrno = new Int32Array(1);
    const { handle } = pair.server;
    await assertNothingLeaks(() => {
      const step = native().caller_hand_off(exported.WSPStartup, entry, handle, Deno.pid, ...TCP_NODELAY, lpErrno);
      assertEquals([step, lpErrno[0]], [0, 0]);
    });
    assertEquals(pair.server.getOption("TCP_NODELAY"), true);
    const id = new Uint32Array(1);
    assertEquals([native().caller_announced(id), id[0]], [1, provider.protocolInfo.dwCatalogEntryId]);
  });
}

Deno.test("C code may call on another thread, while this one is in its event loop", withNative, async () => {
  const provider = new MemoryProvider();
  using exported = exportProvider(provider);
  using pair = await connection();
  const entry = WSAPROTOCOL_INFOW.encode(provider.protocolInfo);
  const lpErrno = new Int32Array(1);
  const step = await within(
    20_000,
    native().caller_hand_off_elsewhere(
      exported.WSPStartup,
      entry,
      pair.server.handle,
      Deno.pid,
      ...TCP_NODELAY,
      lpErrno,
    ),
  );
  assertEquals([step, lpErrno[0]], [0, 0]);
});

Deno.test("C code opens what was duplicated here, and the other way round", withNative, async () => {
  const provider = new MemoryProvider();
  using caller = started(provider);
  using pair = await connection();
  const blob = provider.duplicateSocket(pair.server.handle, Deno.pid);
  using opened = Socket.fromHandle(native().caller_socket(blob, caller.lpErrno));
  assertEquals(opened.remoteAddr, pair.client.localAddr);
  const info = caller.entry.slice();
  assertEquals(native().caller_duplicate(pair.server.handle, Deno.pid, info, caller.lpErrno), 0);
  using back = Socket.fromHandle(await provider.socket(info));
  assertEquals(back.remoteAddr, pair.client.localAddr);
  const fresh = native().caller_socket(caller.entry.slice(), caller.lpErrno);
  assertNotEquals(fresh, INVALID_SOCKET);
  assertEquals(native().caller_close(fresh, caller.lpErrno), 0);
});

Deno.test("C code finds every error in lpErrno, at every step", withNative, async () => {
  const provider = new MemoryProvider();
  using caller = started(provider);
  using pair = await connection();
  const { handle } = pair.server;
  const codes: WinsockErrorName[] = [
    "WSANOTINITIALISED",
    "WSAENETDOWN",
    "WSAEINVAL",
    "WSAEINPROGRESS",
    "WSAEMFILE",
    "WSAENOBUFS",
    "WSAENOTSOCK",
    "WSAEFAULT",
    "WSASYSCALLFAILURE",
  ];
  const steps: [MemoryProviderStep, number | bigint, () => number | bigint][] = [
    ["duplicateSocket", SOCKET_ERROR, () => {
      return native().caller_duplicate(handle, Deno.pid, caller.entry.slice(), caller.lpErrno);
    }],
    ["socket", INVALID_SOCKET, () => native().caller_socket(caller.entry.slice(), caller.lpErrno)],
    ["closeSocket", SOCKET_ERROR, () => native().caller_close(handle, caller.lpErrno)],
  ];
  for (const name of codes) {
    for (const [step, failed, call] of steps) {
      provider.fail(step, name);
      caller.lpErrno[0] = 0;
      assertEquals([call(), caller.lpErrno[0]], [failed, WSA_ERRORS[name]], `${step} with ${name}`);
    }
  }
  assertEquals(pair.server.remoteAddr, pair.client.localAddr);
});

Deno.test(
  "C code gets the provider's own refusals: a strange process, a closed socket, a second use, NULL",
  withNative,
  async () => {
    const provider = new MemoryProvider();
    using caller = started(provider);
    using pair = await connection();
    const { handle } = pair.server;
    const { lpErrno } = caller;
    const duplicate = (s: bigint, processId: number, info: Uint8Array<ArrayBuffer> | null) => {
      return [native().caller_duplicate(s, processId, info, lpErrno), lpErrno[0]];
    };
    const info = caller.entry.slice();
    assertEquals(duplicate(handle, 0x7ffffff0, info), [SOCKET_ERROR, WSA_ERRORS.WSAEINVAL]);
    assertEquals(info, caller.entry);
    assertEquals(duplicate(handle, Deno.pid, null), [SOCKET_ERROR, WSA_ERRORS.WSAEFAULT]);
    assertEquals(duplicate(handle, Deno.pid, info), [0, lpErrno[0]]);
    const s = native().caller_socket(info, lpErrno);
    assertEquals([native().caller_socket(info, lpErrno), lpErrno[0]], [INVALID_SOCKET, WSA_ERRORS.WSAEINVAL]);
    assertEquals([native().caller_socket(null, lpErrno), lpErrno[0]], [INVALID_SOCKET, WSA_ERRORS.WSAEFAULT]);
    const broken = info.slice();
    broken[40] = 99;
    assertEquals([native().caller_socket(broken, lpErrno), lpErrno[0]], [INVALID_SOCKET, WSA_ERRORS.WSAEINVAL]);
    assertEquals(native().caller_close(s, lpErrno), 0);
    const closed = INVALID_SOCKET;
    assertEquals([native().caller_close(closed, lpErrno), lpErrno[0]], [SOCKET_ERROR, WSA_ERRORS.WSAENOTSOCK]);
    assertEquals(duplicate(closed, Deno.pid, info), [SOCKET_ERROR, WSA_ERRORS.WSAENOTSOCK]);
  },
);

Deno.test(
  "the Windows CE behaviour reaches C code: SOCKET_ERROR with WSASYSCALLFAILURE, always",
  withNative,
  async () => {
    using caller = started(new UnsupportedProvider());
    using pair = await connection();
    const { lpErrno } = caller;
    for (const s of [pair.server.handle, INVALID_SOCKET]) {
      lpErrno[0] = 0;
      const result = native().caller_duplicate(s, Deno.pid, caller.entry.slice(), lpErrno);
      assertEquals([result, lpErrno[0]], [SOCKET_ERROR, WSA_ERRORS.WSASYSCALLFAILURE]);
    }
  },
);

Deno.test("an option without a value is passed on, and a NULL pointer for a value is refused", withNative, async () => {
  using caller = started(new MemoryProvider());
  using pair = await connection();
  const { lpErrno } = caller;
  // The socket was not connected by ConnectEx, and other systems do not have the option: the system's answer is its own.
  native().caller_set(pair.server.handle, SOL_SOCKET, SO_UPDATE_CONNECT_CONTEXT, null, 0, lpErrno);
  assertNotEquals(lpErrno[0], WSA_ERRORS.WSAEFAULT);
  assertEquals(native().caller_set(pair.server.handle, ...TCP_NODELAY, null, 4, lpErrno), SOCKET_ERROR);
  assertEquals(lpErrno[0], WSA_ERRORS.WSAEFAULT);
});

Deno.test("C code reads options and addresses, and is told where its buffer is too short", withNative, async () => {
  using caller = started(new MemoryProvider());
  using pair = await connection();
  const { lpErrno, entry } = caller;
  const { handle } = pair.server;
  const value = new Int32Array([1]);
  assertEquals(native().caller_set(handle, ...TCP_NODELAY, new Uint8Array(value.buffer), 4, lpErrno), 0);
  const length = new Int32Array([4]);
  assertEquals(native().caller_get(handle, ...TCP_NODELAY, value, length, lpErrno), 0);
  assertNotEquals(value[0], 0);
  const failed = native().caller_get(handle, 0x7777, 0x7777, value, length, lpErrno);
  assertEquals(failed, SOCKET_ERROR);
  assert(lpErrno[0]! >= 10_000);

  const text = new Uint16Array(64);
  const room = new Uint32Array([64]);
  assertEquals(native().caller_to_string(loopback(80), 16, entry, text, room, lpErrno), 0);
  assertEquals(String.fromCharCode(...text.subarray(0, room[0]! - 1)), "127.0.0.1:80");
  room[0] = 5;
  assertEquals(native().caller_to_string(loopback(80), 16, entry, text, room, lpErrno), SOCKET_ERROR);
  assertEquals([lpErrno[0], room[0]], [WSA_ERRORS.WSAEFAULT, 13]);

  const wide = Uint16Array.from("127.0.0.1:80\0", (character) => character.charCodeAt(0));
  const address = new Uint8Array(16);
  const size = new Int32Array([16]);
  assertEquals(native().caller_to_address(wide, AF_INET, entry, address, size, lpErrno), 0);
  assertEquals([address, size[0]], [loopback(80), 16]);
  size[0] = 4;
  assertEquals(native().caller_to_address(wide, AF_INET, entry, address, size, lpErrno), SOCKET_ERROR);
  assertEquals([lpErrno[0], size[0]], [WSA_ERRORS.WSAEFAULT, 16]);
});

Deno.test(
  "functions that use a socket fail in their own way, and what nobody has with WSAEOPNOTSUPP",
  withNative,
  () => {
    const { WSAEOPNOTSUPP, WSAENOTSOCK } = WSA_ERRORS;
    for (const provider of [new MemoryProvider(), openChain(new MemoryProvider())]) {
      using _caller = started(provider);
      const results = new Int32Array(3);
      const codes = new Int32Array(3);
      native().caller_unsupported(1n, results, codes);
      assertEquals([...results], [SOCKET_ERROR, SOCKET_ERROR, 0]);
      const passedOn = Deno.build.os === "windows" ? WSAENOTSOCK : WSAEOPNOTSUPP;
      assertEquals([...codes], [passedOn, passedOn, WSAEOPNOTSUPP]);
    }
  },
);

for (
  const [name, make] of Object.entries({
    "the system's": () => new WinsockProvider(),
    "one behind a table of native code": (stack: DisposableStack) => {
      const provider = new MemoryProvider();
      const exported = stack.use(exportProvider(provider));
      return stack.use(openNativeProvider(exported.WSPStartup, provider.protocolInfo));
    },
    "two layers over one in memory": () => openChain(new MemoryProvider()),
    "two layers with descriptors of their own": () => nonIfsChain(2).provider,
  })
) {
  Deno.test(`C code serves and connects with nothing but a provider: ${name}`, {
    ignore: withNative.ignore || Deno.build.os !== "windows",
  }, async () => {
    using stack = new DisposableStack();
    const provider = make(stack);
    using exported = exportProvider(provider);
    using greeted = listen({ hostname: "127.0.0.1" });
    const [port, lpErrno] = [new Int32Array(1), new Int32Array(1)];
    const entry = WSAPROTOCOL_INFOW.encode(provider.protocolInfo);
    const before = countDescriptors();
    const serving = native().caller_serve_echo!(exported.WSPStartup, entry, greeted.addr.port, port, lpErrno);
    const failed = serving.then((step) => Promise.reject(new Error(`step ${step} failed with ${lpErrno[0]}`)));
    await Promise.race([failed, until(() => port[0] !== 0, "the server in C listens")]);
    failed.catch(() => {});
    {
      using client = (await connect({ port: port[0]! })).toConn();
      const bytes = crypto.getRandomValues(new Uint8Array(50_000));
      const [answer] = await Promise.all([
        within(20_000, new Response(client.readable).bytes()),
        writeAll(client, bytes).then(() => client.closeWrite()),
      ]);
      assertEquals(answer, bytes);
    }
    using greeter = await within(20_000, greeted.accept());
    assertEquals(new TextDecoder().decode(await within(20_000, greeter.read(10)) ?? undefined), "hello");
    assertEquals([await within(20_000, serving), lpErrno[0]], [0, lpErrno[0]]);
    assertEquals(native().caller_created(), 0);
    greeter.close();
    await until(() => countDescriptors() <= before + 2, "nothing stays open");
  });
}

Deno.test(
  "a provider that must wait cannot open for C code, and says so; one that breaks is WSASYSCALLFAILURE",
  withNative,
  async () => {
    const next = new MemoryProvider();
    const waiting: ServiceProvider = {
      protocolInfo: next.protocolInfo,
      duplicateSocket: () => {
        throw new Error("a bug");
      },
      socket: (info) => next.socket(info),
      withdraw: () => {},
      closeSocket: (s) => next.closeSocket(s),
    };
    using caller = started(waiting);
    using pair = await connection();
    const { lpErrno } = caller;
    assertEquals(native().caller_socket(caller.entry.slice(), lpErrno), INVALID_SOCKET);
    assertEquals(lpErrno[0], WSA_ERRORS.WSAEOPNOTSUPP);
    assertEquals(native().caller_duplicate(pair.server.handle, Deno.pid, caller.entry.slice(), lpErrno), SOCKET_ERROR);
    assertEquals(lpErrno[0], WSA_ERRORS.WSASYSCALLFAILURE);
  },
);

Deno.test("C code gets a non-IFS layer's descriptors from its own WPUCreateSocketHandle", withNative, async () => {
  const catalog = new ProviderCatalog();
  const base = catalog.addBase(new MemoryProvider());
  const layer = catalog.addLayer("not IFS", (id) => new LayeredProvider(catalog, id), { dwServiceFlags1: 0 });
  const chain = catalog.addChain("not IFS over TCP", [layer, base]);
  using provider = catalog.open(chain);
  using caller = started(provider);
  const { lpErrno, entry } = caller;
  const s = native().caller_socket(entry.slice(), lpErrno);
  assertEquals(native().caller_created(), 1);
  const info = entry.slice();
  assertEquals(native().caller_duplicate(s, Deno.pid, info, lpErrno), 0);
  assertEquals(native().caller_close(native().caller_socket(info, lpErrno), lpErrno), 0);
  assertEquals(native().caller_close(s, lpErrno), 0);
  assertEquals(native().caller_created(), 0);
  using pair = await connection();
  assertEquals(native().caller_duplicate(pair.server.handle, Deno.pid, info, lpErrno), SOCKET_ERROR);
  assertEquals(lpErrno[0], WSA_ERRORS.WSAENOTSOCK);
});

Deno.test("an exported provider, opened again as a native one, behaves as itself", async () => {
  const provider = new MemoryProvider();
  using exported = exportProvider(provider);
  using opened = openNativeProvider(exported.WSPStartup, provider.protocolInfo, new DescriptorTable());
  using pair = await connection();
  const { handle } = pair.server;
  const blob = opened.duplicateSocket(handle, Deno.pid);
  assertEquals(provider.waiting, 1);
  const s = await opened.socket(blob);
  assertEquals([provider.waiting, opened.descriptors.entryOf(s)], [0, provider.protocolInfo.dwCatalogEntryId]);
  opened.closeSocket(s);
  await assertRejects(() => opened.socket(blob), WinsockError, "WSAEINVAL");
  provider.fail("duplicateSocket", "WSAENETDOWN");
  assertThrows(
    () => opened.duplicateSocket(handle, Deno.pid),
    WinsockError,
    "WSPDuplicateSocket failed with WSAENETDOWN",
  );
});
