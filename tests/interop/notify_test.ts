// sd_notify, to a real local datagram socket in another process.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { connect, listen, listenDatagram, WinsockError } from "@winsock/handoff";
import { notify, notifyBarrier, type NotifyState, watchdogInterval } from "@winsock/handoff/interop";
import { countDescriptors } from "../kit/descriptors.ts";
import { readText } from "../kit/connections.ts";
import { needs } from "../kit/needs.ts";
import { withManager } from "../kit/service_manager.ts";
import { FFI_GRANT, RUN, within } from "../kit/process.ts";
import { EXAMPLE, EXAMPLE_ENV_GRANT, haveProgram } from "../kit/programs.ts";

const withSystemd = needs("systemd");

const ignore = !haveProgram("python3") || needs("abstract names").ignore;

Deno.test("without a manager, nobody is told, which is no error", async () => {
  assertEquals(await notify({ READY: 1 }, { env: new Map() }), false);
  assertEquals(await notify({ READY: 1 }, { env: new Map([["NOTIFY_SOCKET", ""]]) }), false);
  const all: NotifyState = {
    ...{ FDNAME: "web", FDSTORE: 1, FDSTOREREMOVE: 1, MAINPID: 77, MONOTONIC_USEC: 5n, READY: 1, RELOADING: 1 },
    ...{ STATUS: "x", STOPPING: 1, WATCHDOG: 1 },
  };
  assertEquals(await notify(all, { env: new Map(), sockets: [] }), false);
  assertEquals(await notifyBarrier({ env: new Map(), signal: new AbortController().signal }), false);
});

Deno.test({
  name: "a manager hears what was said, in one datagram, from this process",
  ignore,
  fn: async () => {
    const folder = await Deno.makeTempDir();
    try {
      for (const address of [`@handoff-test-${crypto.randomUUID()}`, `${folder}/notify`]) {
        await withManager(async (env, next) => {
          assert(await notify({ READY: 1, STATUS: "Größe = 3", MAINPID: 77 }, { env }));
          const [pid, text] = await next();
          assertEquals([pid, text], [Deno.pid, "READY=1\nSTATUS=Größe = 3\nMAINPID=77"]);
          await notify({ STOPPING: 1, ERRNO: 2 }, { env });
          assertEquals((await next())[1], "STOPPING=1\nERRNO=2");
          await notify({ WATCHDOG: 1 }, { env });
          assertEquals((await next())[1], "WATCHDOG=1");
        }, address);
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test({
  name: "RELOADING says when, by the system's clock",
  ignore,
  fn: async () => {
    await withManager(async (env, next) => {
      await notify({ READY: 1 }, { env });
      const [, , before] = await next();
      await notify({ RELOADING: 1 }, { env });
      const [, text, after] = await next();
      const [, time] = /^MONOTONIC_USEC=(\d+)\nRELOADING=1$/.exec(text) ?? [];
      assert(Number(time) >= before && Number(time) <= after, `${text} is not between ${before} and ${after}`);
      await notify({ RELOADING: 1, MONOTONIC_USEC: 5n }, { env });
      assertEquals((await next())[1], "MONOTONIC_USEC=5\nRELOADING=1");
    }, `@handoff-test-${crypto.randomUUID()}`);
  },
});

Deno.test({
  name: "the example says that it is ready, and that it ends",
  ignore,
  fn: async () => {
    await withManager(async (env, next) => {
      const child = new Deno.Command(Deno.execPath(), {
        args: [...RUN, EXAMPLE_ENV_GRANT, FFI_GRANT, EXAMPLE],
        env: Object.fromEntries(env),
        stdout: "null",
      }).spawn();
      const [pid, ready] = await next();
      const [, port] = /^READY=1\nSTATUS=Listening on port (\d+)$/.exec(ready) ?? [];
      assertEquals(pid, child.pid);
      using conn = (await connect({ port: Number(port) })).toConn();
      assertEquals(await readText(conn, 1_000), `Hello from process ${pid}, on a listener of its own\n`);
      assertEquals((await next()).slice(0, 2), [pid, "STOPPING=1"]);
      assertEquals((await within(20_000, child.status)).code, 0);
    }, `@handoff-test-${crypto.randomUUID()}`);
  },
});

Deno.test({
  name: "a manager whose queue is full is waited for",
  ignore,
  fn: async () => {
    const before = countDescriptors();
    await withManager(
      async (env, next) => {
        const count = 600;
        const told = Promise.all(Array.from({ length: count }, (_, index) => notify({ STATUS: `${index}` }, { env })));
        const heard = new Set<string>();
        while (heard.size < count) heard.add((await next())[1]);
        await told;
      },
      `@handoff-test-${crypto.randomUUID()}`,
      "0.3",
    );
    assertEquals(countDescriptors(), before);
  },
});

Deno.test({
  name: "the manager gets sockets to keep, and this process has them still",
  ignore,
  fn: async () => {
    const before = countDescriptors();
    await withManager(async (env, next) => {
      using web = listen({ hostname: "127.0.0.1" });
      using dns = listenDatagram({ hostname: "127.0.0.1" });
      const sockets = [web, dns];
      assert(await notify({ FDSTORE: 1, FDNAME: "web" }, { env, sockets }));
      const [, text, , passed] = await next();
      assertEquals(text, "FDSTORE=1\nFDNAME=web");
      assertEquals(passed, sockets.map(({ addr }) => [addr.hostname, addr.port]));
      (await connect({ port: web.addr.port })).close();
      await notify({ FDSTOREREMOVE: 1, FDNAME: "web" }, { env });
      const [, removed, , none] = await next();
      assertEquals([removed, none], ["FDSTOREREMOVE=1\nFDNAME=web", []]);

      await assertRejects(() => notify({ READY: 1 }, { env, sockets }), TypeError, "must be with FDSTORE=1");
      const many = Array.from({ length: 254 }, () => web);
      await assertRejects(() => notify({ FDSTORE: 1 }, { env, sockets: many }), RangeError, "at most 253, got 254");
      await assertRejects(() => notify({ FDSTORE: 1, FDNAME: "a:b" }, { env }), TypeError, "Invalid `FDNAME`");
      web.close();
      await assertRejects(() => notify({ FDSTORE: 1 }, { env, sockets }), WinsockError, "WSAENOTSOCK");
    }, `@handoff-test-${crypto.randomUUID()}`);
    assertEquals(countDescriptors(), before);
  },
});

Deno.test({
  name: "a barrier ends when the manager has heard all that was said before, or its signal is aborted",
  ignore,
  fn: async () => {
    const before = countDescriptors();
    await withManager(
      async (env, next) => {
        for (let count = 0; count < 3; count++) await notify({ STATUS: `${count}` }, { env });
        const aborted = notifyBarrier({ env, signal: AbortSignal.timeout(20) });
        await assertRejects(() => aborted, DOMException, "timeout");
        const heard: string[] = [];
        const listening = (async () => {
          for (let count = 0; count < 5; count++) heard.push((await next())[1]);
        })();
        assert(await within(20_000, notifyBarrier({ env })));
        await within(20_000, listening);
        assertEquals(heard, ["STATUS=0", "STATUS=1", "STATUS=2", "BARRIER=1", "BARRIER=1"]);
      },
      `@handoff-test-${crypto.randomUUID()}`,
      "0.3",
    );
    const nobody = new Map([["NOTIFY_SOCKET", `@handoff-test-${crypto.randomUUID()}`]]);
    await assertRejects(() => notifyBarrier({ env: nobody }), Error, "WSAECONNREFUSED");
    assertEquals(await notifyBarrier({ env: new Map() }), false);
    assertEquals(countDescriptors(), before);
  },
});

Deno.test("the watchdog's time is in milliseconds, and another process's is none", () => {
  const rows: [variables: Record<string, string>, expected: number | undefined][] = [
    [{}, undefined],
    [{ WATCHDOG_USEC: "" }, undefined],
    [{ WATCHDOG_USEC: "30000000" }, 30_000],
    [{ WATCHDOG_USEC: "1500" }, 1.5],
    [{ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "77" }, 30_000],
    [{ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "78" }, undefined],
    [{ WATCHDOG_USEC: "soon", WATCHDOG_PID: "78" }, undefined],
    [{ WATCHDOG_PID: "77" }, undefined],
  ];
  for (const [variables, expected] of rows) {
    const env = new Map(Object.entries(variables));
    assertEquals(watchdogInterval({ env, processId: 77 }), expected, JSON.stringify(variables));
  }
  for (const [name, value] of [["WATCHDOG_USEC", "0"], ["WATCHDOG_USEC", "-1"], ["WATCHDOG_PID", "me"]] as const) {
    const env = new Map([["WATCHDOG_USEC", "1"], [name, value]]);
    assertThrows(() => watchdogInterval({ env }), TypeError, `${name} must be a positive number, got "${value}"`);
  }
});

Deno.test({
  name: "what cannot be said, or not to that address, is a clear error",
  ...withSystemd,
  fn: async () => {
    const before = countDescriptors();
    const to = (address: string) => ({ env: new Map([["NOTIFY_SOCKET", address]]) });
    const nobody = to(`@handoff-test-${crypto.randomUUID()}`);
    await assertRejects(() => notify({ READY: 1 }, nobody), Error, "connect failed with WSAECONNREFUSED");
    await assertRejects(() => notify({ STATUS: "a\nREADY=1" }, nobody), TypeError, 'of "STATUS=a\\nREADY=1"');
    await assertRejects(() => notify({ "X=1\nREADY": 1 }, nobody), TypeError);
    await assertRejects(() => notify({ lower: 1 }, nobody), TypeError);
    await assertRejects(
      () => notify({ READY: 1 }, to(`/${"x".repeat(200)}`)),
      RangeError,
      "Invalid `path`: must have at most",
    );
    await assertRejects(() => notify({ READY: 1 }, to("vsock:2:1234")), Deno.errors.NotSupported, "not a local socket");
    assertEquals(countDescriptors(), before);
  },
});

Deno.test({
  name: "elsewhere than on Linux there is no manager to notify",
  ignore: !withSystemd.ignore,
  fn: async () => {
    const env = new Map([["NOTIFY_SOCKET", "@handoff"]]);
    await assertRejects(() => notify({ READY: 1 }, { env }), Deno.errors.NotSupported);
    await assertRejects(() => notifyBarrier({ env }), Deno.errors.NotSupported);
  },
});
