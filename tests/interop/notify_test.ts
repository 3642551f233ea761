// sd_notify, to a real local datagram socket in another process.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect } from "@winsock/handoff";
import { notify } from "@winsock/handoff/interop";
import { countDescriptors } from "../kit/descriptors.ts";
import { readText } from "../kit/connections.ts";
import { needs } from "../kit/needs.ts";
import { withManager } from "../kit/service_manager.ts";
import { FFI_GRANT, RUN, within } from "../kit/process.ts";
import { EXAMPLE, EXAMPLE_ENV_GRANT, haveProgram } from "../kit/programs.ts";

const withSystemd = needs("systemd");

const ignore = !haveProgram("python3");

Deno.test("without a manager, nobody is told, which is no error", async () => {
  assertEquals(await notify({ READY: 1 }, { env: new Map() }), false);
  assertEquals(await notify({ READY: 1 }, { env: new Map([["NOTIFY_SOCKET", ""]]) }), false);
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
    await assertRejects(() => notify({ READY: 1 }, to(`/${"x".repeat(200)}`)), RangeError, "the address is too long");
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
  },
});
