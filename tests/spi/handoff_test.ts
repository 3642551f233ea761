// The hand-off, unchanged, over each provider.
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import {
  connect,
  duplicateSocket,
  HandoffError,
  HandoffSource,
  listen,
  Listener,
  openSocket,
  receive,
  WinsockError,
} from "@winsock/handoff";
import { WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
import {
  defaultProvider,
  LayeredProvider,
  MemoryProvider,
  openNativeProvider,
  ProviderCatalog,
  type ServiceProvider,
  UnsupportedProvider,
  useProvider,
} from "@winsock/handoff/spi";
import { DECISION_SLOTS } from "../../ffi/decisions.ts";
import { connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { withInProcessPair } from "../kit/handoffs.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { native, NATIVE_ENTRY, NATIVE_PATH, slot, withNative } from "../kit/native.ts";
import { endChild, FFI_GRANT, lines, RUN, within } from "../kit/process.ts";
import { openChain, openNamed, type ProviderName } from "../kit/providers.ts";

/** The target, wherever it is. */
interface Far extends AsyncDisposable {
  readonly source: HandoffSource;
  /** What it prints. */
  line(): Promise<string | undefined>;
}

type Script = "echo" | "reject" | "listener";
type Start = (script: Script) => Far;

/** A target in a process of its own. */
function inProcess(provider: ProviderName): Start {
  return (script) => {
    const url = new URL("../children/over.ts", import.meta.url).href;
    const grant = provider === "native" ? "--allow-ffi" : FFI_GRANT;
    const child = new Deno.Command(Deno.execPath(), {
      args: [...RUN, grant, url, provider, script],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const source = new HandoffSource(child, { sendTimeout: 20_000 });
    return {
      source,
      line: lines(child),
      async [Symbol.asyncDispose]() {
        await endChild(child);
        await within(20_000, source.closed);
      },
    };
  };
}

/** A target in this process, for providers that reach no further. */
function here(script: Script): Far {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const ended = Promise.withResolvers<Deno.CommandStatus>();
  const source = new HandoffSource({ pid: Deno.pid, stdin: writable, status: ended.promise }, { sendTimeout: 20_000 });
  const printed: string[] = [];
  const running = SCRIPTS[script](readable, (line) => printed.push(line));
  return {
    source,
    async line() {
      for (let turn = 0; printed.length === 0 && turn < 1000; turn++) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      return printed.shift();
    },
    async [Symbol.asyncDispose]() {
      await source.close();
      await within(20_000, running);
    },
  };
}

/** The scripts of `tests/children` of the same names. */
const SCRIPTS: Record<Script, (input: ReadableStream<Uint8Array>, print: (line: string) => void) => Promise<void>> = {
  async echo(input, print) {
    for await (const { socket, data, initialBytes } of receive({ input })) {
      const conn = socket.toConn();
      print(JSON.stringify({ pid: Deno.pid, data: data ?? null, initialBytes: [...initialBytes] }));
      conn.readable.pipeTo(conn.writable).catch(() => {}).finally(() => conn.close());
    }
  },
  async reject(input) {
    let first = true;
    for await (const received of receive({ input, autoAccept: false })) {
      if (first) received.reject("not today");
      else {
        await received.accept();
        using conn = received.socket.toConn();
        await conn.write(new TextEncoder().encode("hello"));
      }
      first = false;
    }
  },
  async listener(input, print) {
    for await (const { socket } of receive({ input, kinds: ["connection", "listener"] })) {
      if (!(socket instanceof Listener)) continue;
      print("listening");
      using conn = (await socket.accept()).toConn();
      await conn.write(new TextEncoder().encode(`from ${Deno.pid}`));
      socket.close();
    }
  },
};

function openNative(): ServiceProvider {
  native().provider_reset();
  return openNativeProvider(NATIVE_PATH, NATIVE_ENTRY);
}

/** Each provider, and where its target runs. The C provider for Linux shares within one process only. */
const PROVIDERS: Record<string, { open: () => ServiceProvider; start: Start; ignore?: boolean }> = {
  [Deno.build.os === "windows" ? "winsock" : "unix"]: { open: () => openNamed("system"), start: inProcess("system") },
  "native table": {
    open: openNative,
    start: Deno.build.os === "windows" ? inProcess("native") : here,
    ...withNative,
  },
  "two-layer chain": { open: () => openNamed("chain"), start: inProcess("chain") },
  "two layers over a native table": { open: () => openChain(openNative()), start: here, ...withNative },
  "in memory": { open: () => new MemoryProvider(), start: here },
};

for (const [name, { open, start, ignore = false }] of Object.entries(PROVIDERS)) {
  Deno.test(
    `${name}: connections are handed over, with data and initial bytes, many at a time`,
    { ignore },
    async () => {
      using _ = useProvider(open());
      await using far = start("echo");
      const { source } = far;
      using pair = await connection();
      using client = pair.client.toConn();
      const blob = duplicateSocket(pair.server, Deno.pid);
      const { dwCatalogEntryId } = defaultProvider().protocolInfo;
      assertEquals(WSAPROTOCOL_INFOW.decode(blob).dwCatalogEntryId, dwCatalogEntryId, "the provider in use made it");
      (await openSocket(blob)).close();
      await source.send(pair.server, { data: { n: [1, "ü"] }, initialBytes: new TextEncoder().encode("read") });
      const { data, initialBytes } = JSON.parse(await far.line() ?? "");
      assertEquals([data, initialBytes], [{ n: [1, "ü"] }, [...new TextEncoder().encode("read")]]);
      await writeText(client, " and more");
      assertEquals(await readText(client, 13), "read and more");
      await client.closeWrite();
      assert(await readEnd(client));

      const pairs = await Promise.all(Array.from({ length: 24 }, () => connection()));
      await within(20_000, Promise.all(pairs.map(({ server }) => source.send(server))));
      for (const [index, { client }] of pairs.entries()) {
        using conn = client.toConn();
        await writeText(conn, `number ${index}`);
        assertEquals(await readText(conn, `number ${index}`.length), `number ${index}`);
      }
      if (name === "native table") {
        // The channel, the blob above, and one for each connection.
        assertEquals(native().provider_calls(slot("lpWSPDuplicateSocket")), 1 + 1 + 1 + pairs.length);
      }
    },
  );

  Deno.test(`${name}: a rejected socket comes back open, and the next is taken`, { ignore }, async () => {
    using _ = useProvider(open());
    await using far = start("reject");
    const { source } = far;
    using first = await connection();
    const error = await within(20_000, assertRejects(() => source.send(first.server), HandoffError));
    assertEquals([error.outcome, error.reason], ["rejected", "not today"]);
    using server = first.server.toConn();
    using peer = first.client.toConn();
    await writeText(server, "alive");
    assertEquals(await readText(peer, 5), "alive");
    using second = await connection();
    await source.send(second.server);
    using client = second.client.toConn();
    assertEquals(await readText(client, 5), "hello");
    assert(await readEnd(client));
  });

  Deno.test(`${name}: hand-offs leave no descriptor behind`, { ignore }, async () => {
    using _ = useProvider(open());
    await using far = start("echo");
    const { source } = far;
    const handOff = async () => {
      using pair = await connection();
      await source.send(pair.server);
      using client = pair.client.toConn();
      await client.closeWrite();
      assert(await readEnd(client));
    };
    // On Windows each decision is made when it is first needed, and stays.
    for (let slot = 0; slot < DECISION_SLOTS; slot++) await handOff();
    await assertNothingLeaks(handOff);
  });

  Deno.test(`${name}: a listener is handed over with the connection that waits`, { ignore }, async () => {
    using _ = useProvider(open());
    await using far = start("listener");
    const { source } = far;
    const listener = listen({ hostname: "127.0.0.1", port: 0 });
    using client = (await connect({ port: listener.addr.port })).toConn();
    await source.send(listener);
    assertEquals(await far.line(), "listening");
    assertEquals((await readText(client, 6)).slice(0, 5), "from ");
  });
}

Deno.test("a provider that fails in the middle loses nothing: the socket is the sender's again, each time", async () => {
  const provider = new MemoryProvider();
  using _ = useProvider(provider);
  await using far = here("echo");
  const { source } = far;
  await within(20_000, source.ready);
  using pair = await connection();
  for (const code of ["WSAENETDOWN", "WSAEMFILE", "WSAENOBUFS"] as const) {
    provider.fail("duplicateSocket", code);
    const error = await assertRejects(() => source.send(pair.server), WinsockError);
    assertEquals(error.codeName, code);
    provider.fail("socket", code);
    const refused = await within(20_000, assertRejects(() => source.send(pair.server), HandoffError));
    assert(refused.reason.includes(code), refused.reason);
    assertEquals(provider.waiting, 0);
  }
  await source.send(pair.server);
  using client = pair.client.toConn();
  await writeText(client, "echo");
  assertEquals(await readText(client, 4), "echo");
});

for (const end of ["rejected", "timeout", "aborted", "target-exited"]) {
  Deno.test(`a duplicate that cannot be withdrawn (${end}) ends the channel, and the socket is the sender's`, async () => {
    const provider = new MemoryProvider();
    using _ = useProvider(provider);
    await withInProcessPair(
      async (source, received, exit) => {
        using pair = await connection();
        const abort = new AbortController();
        const sending = assertRejects(() => source.send(pair.server, { signal: abort.signal }), Error);
        const { value } = await within(5_000, received.next());
        provider.fail("withdraw", "WSAENETDOWN");
        if (end === "rejected") value!.reject("not today");
        else if (end === "aborted") abort.abort(new Error("aborted"));
        else if (end === "target-exited") exit(1);
        assertStringIncludes((await within(20_000, sending)).message, end);
        await within(20_000, source.closed);
        assertEquals(pair.server.remoteAddr, pair.client.localAddr);
        value!.reject("late");
      },
      { autoAccept: false },
      { sendTimeout: end === "timeout" ? 500 : 5_000 },
    );
  });
}

Deno.test("where the provider shares nothing, as on Windows CE, no source can be made, and nothing is lost", async () => {
  using pair = await connection();
  {
    using _ = useProvider(new UnsupportedProvider());
    const { writable } = new TransformStream<Uint8Array, Uint8Array>();
    const child = { pid: Deno.pid, stdin: writable, status: new Promise<never>(() => {}) };
    const error = assertThrows(() => new HandoffSource(child), WinsockError, "does not support socket sharing");
    assertEquals(error.codeName, "WSASYSCALLFAILURE");
  }
  assertEquals(pair.server.remoteAddr, pair.client.localAddr);
});

Deno.test("over a non-IFS layer no hand-off works, and the error says WSAENOTSOCK", () => {
  const catalog = new ProviderCatalog();
  const base = catalog.addBase(new MemoryProvider());
  const layer = catalog.addLayer("not IFS", (id) => new LayeredProvider(catalog, id), { dwServiceFlags1: 0 });
  using _ = useProvider(catalog.open(catalog.addChain("not IFS over TCP", [layer, base])));
  const { writable } = new TransformStream<Uint8Array, Uint8Array>();
  const child = { pid: Deno.pid, stdin: writable, status: new Promise<never>(() => {}) };
  assertThrows(() => new HandoffSource(child), WinsockError, "WSAENOTSOCK");
});
