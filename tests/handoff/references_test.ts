// When a target that waits for sockets keeps its process running: `ref` and `unref` of what `receive` returns.
import { assertEquals } from "@std/assert";
import { HandoffSource, listen } from "@winsock/handoff";
import { connection, readText } from "../kit/connections.ts";
import { outcome } from "../kit/handoffs.ts";
import { endChild, spawnChild, within } from "../kit/process.ts";

/** What a process may take to find that it has nothing to do. */
const SOON_MS = 15_000;
/** A time in which a process that has nothing to do has ended. */
const WHILE_MS = 700;

async function withTarget(
  when: string,
  test: (source: HandoffSource, child: Deno.ChildProcess) => Promise<void>,
): Promise<void> {
  const child = spawnChild("unreferenced.ts", [when]);
  const source = new HandoffSource(child);
  try {
    await test(source, child);
  } finally {
    await endChild(child);
    await source.closed;
  }
}

/** Hands a connection off, whose target says hello and closes it. */
async function greet(source: HandoffSource): Promise<void> {
  using pair = await connection();
  await source.send(pair.server);
  using client = pair.client.toConn();
  assertEquals(await within(10_000, readText(client, 5)), "hello");
}

async function runs(child: Deno.ChildProcess): Promise<boolean> {
  return await Promise.race([
    child.status.then(() => false),
    new Promise<boolean>((resolve) => setTimeout(resolve, WHILE_MS, true)),
  ]);
}

for (const when of ["never", "again"]) {
  Deno.test(`a target that waits for sockets runs on by default, and after ref: ${when}`, async () => {
    await withTarget(when, async (source, child) => {
      await within(SOON_MS, source.ready);
      assertEquals(await runs(child), true);
      await greet(source);
      assertEquals(await runs(child), true);
    });
  });
}

Deno.test("a target that has called unref while its loop waits ends by itself, and its source is told how", async () => {
  await withTarget("between", async (source, child) => {
    await greet(source);
    assertEquals(await within(SOON_MS, child.status), { success: true, code: 0, signal: null });
    assertEquals((await within(SOON_MS, source.closed))?.reason, `process ${child.pid} exited with 0`);
    using pair = await connection();
    assertEquals((await outcome(source.send(pair.server)))[0], "target-exited");
  });
});

Deno.test("a target that has called unref before its source spoke to it ends by itself", async () => {
  const child = spawnChild("unreferenced.ts", ["before"]);
  try {
    assertEquals(await within(SOON_MS, child.status), { success: true, code: 0, signal: null });
  } finally {
    await child.stdin.abort().catch(() => {});
    await endChild(child);
  }
});

Deno.test("a shared listener on which an unreferenced target accepts does not keep it running", async () => {
  await withTarget("between", async (source, child) => {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    await within(SOON_MS, source.ready);
    const shared = await source.shareListener(listener);
    assertEquals(await runs(child), true);
    await greet(source);
    assertEquals((await within(SOON_MS, child.status)).code, 0);
    assertEquals((await within(SOON_MS, shared.stopped))?.outcome, "target-exited");
  });
});
