// Processes that are stopped or killed with many sockets on their way.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect, HandoffError, HandoffSource } from "@winsock/handoff";
import { type Connection, connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { settledDescriptors } from "../kit/descriptors.ts";
import { freeze, kill, thaw } from "../kit/faults/acts.ts";
import { endChild, lines, spawnChild, within } from "../kit/process.ts";
import { random } from "../kit/random.ts";

const ECHO = new URL("../children/echo.ts", import.meta.url);
const COUNT = 20;
const TIMEOUT_MS = 4_000;
/** More than a local socket and a pipe have room for. */
const MUCH = new Uint8Array(1024 * 1024);

async function spawnEcho(sendTimeout: number): Promise<HandoffSource> {
  const source = await HandoffSource.spawn(ECHO, { sendTimeout, denoFlags: ["--no-check", "--cached-only"] });
  await source.ready;
  return source;
}

async function connections(count: number): Promise<Connection[]> {
  return await Promise.all(Array.from({ length: count }, () => connection()));
}

async function assertEchoes(conn: Deno.TcpConn): Promise<void> {
  await writeText(conn, "hello");
  assertEquals(await readText(conn, 5), "hello");
}

/** A socket that came back can be used, and ended, as if it had never been offered. */
async function assertIsOwned({ client, server }: Connection): Promise<void> {
  using near = server.toConn();
  using far = client.toConn();
  await writeText(near, "mine");
  assertEquals(await readText(far, 4), "mine");
  near.close();
  assert(await readEnd(far));
}

for (const [what, initialBytes] of [["", new Uint8Array(0)], [" and full buffers", MUCH]] as const) {
  Deno.test(`towards a target that is stopped${what} no send outlives its deadline, and all come back`, async () => {
    // A target that is ready in time is needed first, on whatever machine.
    const source = await spawnEcho(TIMEOUT_MS);
    const { pid, status } = source.child;
    try {
      freeze(pid);
      const pairs = await connections(COUNT);
      const began = performance.now();
      const late = Promise.withResolvers<string>();
      const settled = Promise.all(
        pairs.map(({ server }) => assertRejects(() => source.send(server, { initialBytes }), HandoffError)),
      );
      // A timer of this process that is due after them, so that a slow machine makes both late.
      const timer = setTimeout(() => late.resolve("late"), TIMEOUT_MS + 250);
      const errors = await Promise.race([settled, late.promise]);
      clearTimeout(timer);
      assert(typeof errors !== "string", `sends are pending after ${performance.now() - began} ms`);
      assertEquals(new Set(errors.map(({ outcome }) => outcome)), new Set(["timeout"]));
      for (const pair of pairs) await assertIsOwned(pair);
      thaw(pid);
      const pair = await connection();
      using client = pair.client.toConn();
      await source.send(pair.server);
      await assertEchoes(client);
    } finally {
      kill(pid);
      await status;
      await source.close();
    }
  });
}

Deno.test("no send outlives its deadline where the target is stopped and goes on at random", async () => {
  const next = random(20_261_130);
  const deadline = 1_000;
  const source = await spawnEcho(deadline);
  const { pid, status } = source.child;
  let stopping = true;
  const stop = async () => {
    while (stopping) {
      freeze(pid);
      await new Promise((resolve) => setTimeout(resolve, next() * 1_200));
      thaw(pid);
      await new Promise((resolve) => setTimeout(resolve, next() * 30));
    }
  };
  const stopped = stop();
  const late: number[] = [];
  const sendOne = async () => {
    using pair = await connection();
    const data = "x".repeat(4_096 + next() * 57_344);
    const began = performance.now();
    // Due after the deadline, so that a slow machine makes both late.
    const timer = setTimeout(() => late.push(performance.now() - began), deadline + 250);
    await source.send(pair.server, { data }).catch((error) => assertEquals(error.outcome, "timeout"));
    clearTimeout(timer);
  };
  try {
    const sending = Array.from({ length: 12 }, async () => {
      for (let count = 0; count < 4; count++) await sendOne();
    });
    await within(30_000, Promise.all(sending));
  } finally {
    stopping = false;
    await stopped;
    kill(pid);
    await status;
    await source.close();
  }
  assertEquals(late, []);
});

Deno.test("what arrived before its source was killed is taken, though the target was stopped meanwhile", async () => {
  const source = spawnChild("offering_source.ts", [String(COUNT)], ["--allow-run", "--allow-read"]);
  let target: number | undefined;
  try {
    const line = lines(source);
    const [pid, port] = (await line())!.split(" ").map(Number) as [number, number];
    target = pid;
    freeze(pid);
    const clients = await Promise.all(Array.from({ length: COUNT }, async () => (await connect({ port })).toConn()));
    assertEquals(await line(), "offered");
    kill(source.pid);
    thaw(pid);
    for (const client of clients) {
      await assertEchoes(client);
      client.close();
    }
  } finally {
    await endChild(source);
    if (target !== undefined) kill(target);
  }
});

Deno.test("a target that is killed with offers it has not seen gives all of them back, and no descriptor is left", async () => {
  const round = async () => {
    const source = await spawnEcho(20_000);
    const { pid, status } = source.child;
    freeze(pid);
    const pairs = await connections(COUNT);
    const sent = Promise.all(pairs.map(({ server }) => assertRejects(() => source.send(server), HandoffError)));
    // Another turn of the event loop, by which the OFFERs have left.
    await new Promise((resolve) => setTimeout(resolve, 0));
    kill(pid);
    const errors = await within(15_000, sent);
    assertEquals(new Set(errors.map(({ outcome }) => outcome)), new Set(["target-exited"]));
    for (const pair of pairs) await assertIsOwned(pair);
    await status;
    await source.close();
  };
  await round();
  const [before] = await settledDescriptors(Deno.pid);
  await round();
  const [after] = await settledDescriptors(Deno.pid);
  assert(after! <= before!, `${before} descriptors before, ${after} after`);
});

Deno.test("what is sent when the channel has ended, and the process not yet, comes back too", async () => {
  const child = spawnChild("echo.ts");
  const known = Promise.withResolvers<void>();
  const { pid, stdin } = child;
  const status = child.status.then((status) => known.promise.then(() => status));
  const source = new HandoffSource({ pid, stdin, status } as Deno.ChildProcess);
  await source.ready;
  const pairs = await connections(COUNT);
  kill(pid);
  // Under load it may take a socket before it has ended.
  await child.status;
  const sent: Promise<Error>[] = [];
  // Some before this process has heard the end of the answers, and some after that.
  for (const { server } of pairs) {
    // Windows duplicates for no process that has ended, and may know that before the source does.
    sent.push(assertRejects(() => source.send(server), Deno.build.os === "windows" ? Error : HandoffError));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  known.resolve();
  await within(15_000, Promise.all(sent));
  for (const pair of pairs) await assertIsOwned(pair);
  await source.close();
  await endChild(child);
});
