// Waiting for sockets by the system's own list: what is heard of, and what is left in the list.
// `without_event_loop_test.ts` runs this once more where a pool thread waits.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect, listen, WinsockError } from "@winsock/handoff";
import { Poller } from "../../ffi/poller.ts";
import { Epoll } from "../../ffi/unix/poller.ts";
import { libc, unixSystem } from "../../ffi/unix/libc.ts";
import { duplicateFrom } from "../../ffi/unix/descriptors.ts";
import { connection, writeText } from "../kit/connections.ts";
import { endChild, lines, RUN, until, within } from "../kit/process.ts";
import { moduleUrl } from "../kit/run.ts";

const { epoll } = unixSystem();
const onEpoll = { ignore: Deno.build.os !== "linux" || epoll === undefined };
const inEventLoop = { ignore: onEpoll.ignore || unixSystem().asyncPoll === undefined };

function newPoller(): Poller {
  return new Poller(new Epoll(epoll!)).prepare();
}

/** The descriptors that are registered with one of this process's lists, of all of them. */
function registered(): number[] {
  const found: number[] = [];
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    try {
      if (Deno.readLinkSync(`/proc/self/fd/${name}`) !== "anon_inode:[eventpoll]") continue;
      const info = Deno.readTextFileSync(`/proc/self/fdinfo/${name}`);
      for (const [, fd] of info.matchAll(/^tfd:\s*(\d+)/gm)) found.push(Number(fd));
    } catch {
      // It was closed meanwhile.
    }
  }
  return found;
}

async function ticks(milliseconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
}

Deno.test("who asks for more than there is is asked when more comes, and not else", onEpoll, async () => {
  const poller = newPoller();
  using pair = await connection();
  using client = pair.client.toConn();
  await writeText(client, "a");
  const ended: boolean[] = [];
  const waiting = poller.wait(pair.server.handle, "read", {
    done: (end) => {
      ended.push(end);
      return end;
    },
  });
  await ticks(200);
  assert(ended.length <= 1, `asked ${ended.length} times of one byte`);
  const before = ended.length;
  for (let time = 1; time <= 3; time++) {
    await writeText(client, "b");
    await until(() => ended.length >= before + time, "it is asked of each");
  }
  assertEquals(new Set(ended), new Set([false]));
  await client.closeWrite();
  await within(5_000, waiting.over);
  assertEquals(ended.at(-1), true);
});

Deno.test("nothing stays in the list of a socket that nobody waits for", onEpoll, async () => {
  const poller = newPoller();
  using pair = await connection();
  const { handle } = pair.server;
  const [first, second] = [poller.wait(handle, "read"), poller.wait(handle, "write")];
  await within(5_000, second.over);
  assert(registered().includes(Number(handle)));
  await poller.cancel(first);
  assert(!registered().includes(Number(handle)));
  for (const end of ["release", "abandon"] as const) {
    const third = poller.wait(handle, "read");
    assert(registered().includes(Number(handle)));
    if (end === "release") poller.release(handle);
    else poller.abandon(third, new Error("enough"));
    assert(!registered().includes(Number(handle)));
    await assertRejects(() => third.over, Error);
  }
});

Deno.test("a socket that is soon waited for again stays in the list until it is released", onEpoll, async () => {
  const poller = newPoller();
  using pair = await connection();
  using client = pair.client.toConn();
  const { handle } = pair.server;
  const wait = () => poller.wait(handle, "read", { repeated: true, outlives: true });
  const other = await connection();
  const elsewhere = poller.wait(other.server.handle, "read");
  for (const end of ["release", "cancel", "both", "a wait that is not repeated"] as const) {
    const first = wait();
    await writeText(client, "a");
    await within(5_000, first.over);
    assert(registered().includes(Number(handle)));
    // What comes while nothing waits is told to what waits next, though something was found of it meanwhile.
    await writeText(client, "b");
    await ticks(5);
    await within(5_000, wait().over);
    assertEquals(await pair.server.read(10), new TextEncoder().encode("ab"));
    const pending = end === "cancel" || end === "both" ? wait() : undefined;
    if (end === "release" || end === "both") poller.release(handle);
    if (pending !== undefined) await poller.cancel(pending);
    if (end === "a wait that is not repeated") await within(5_000, poller.wait(handle, "write").over);
    await pending?.over;
    assert(!registered().includes(Number(handle)), end);
  }
  await poller.cancel(elsewhere);
  other[Symbol.dispose]();
});

Deno.test("a socket that is closed is not heard of, though another descriptor of it is open", onEpoll, async () => {
  const poller = newPoller();
  using pair = await connection();
  using client = pair.client.toConn();
  const copy = duplicateFrom(pair.server.handle, 0);
  let asked = 0;
  const waiting = poller.wait(pair.server.handle, "read", { done: () => ++asked > 0 });
  poller.release(pair.server.handle);
  await assertRejects(() => waiting.over, WinsockError, "WSAENOTSOCK");
  pair.server.close();
  await writeText(client, "hello");
  await ticks(30);
  assertEquals(asked, 0);
  await within(5_000, poller.wait(copy, "read").over);
  libc().close(copy);
});

Deno.test("a number that was closed behind the library's back is another socket's", onEpoll, async () => {
  const poller = newPoller();
  using pair = await connection();
  const s = pair.server.detach();
  const stale = poller.wait(s, "read");
  libc().close(s);
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  using client = await connect({ port: listener.addr.port });
  using server = await listener.accept();
  const reused = [client, server, listener].find(({ handle }) => handle === s);
  assert(reused !== undefined);
  const fresh = poller.wait(s, reused === listener ? "read" : "write");
  await assertRejects(() => within(5_000, stale.over), WinsockError, "WSAENOTSOCK");
  if (reused === listener) (await connect({ port: listener.addr.port })).close();
  await within(5_000, fresh.over);
  await assertRejects(() => poller.wait(9_999n, "read").over, WinsockError, "WSAENOTSOCK");
});

Deno.test("that ends also what is left to itself otherwise, pending or soon to wait again", onEpoll, async () => {
  for (const pending of [true, false]) {
    const poller = newPoller();
    using pair = await connection();
    using client = pair.client.toConn();
    using other = await connection();
    using peer = other.client.toConn();
    const s = pair.server.detach();
    const stale = poller.wait(s, "read", { outlives: true, repeated: true });
    const ended: Promise<unknown> = pending ? assertRejects(() => stale.over, WinsockError, "WSAENOTSOCK") : stale.over;
    if (!pending) {
      await writeText(client, "a");
      await within<unknown>(5_000, ended);
    }
    libc().close(s);
    const copy = duplicateFrom(other.server.handle, Number(s));
    assertEquals(copy, s);
    const fresh = poller.wait(copy, "read", { outlives: true, repeated: true });
    await within<unknown>(5_000, ended);
    await writeText(peer, "b");
    await within(5_000, fresh.over);
    poller.release(copy);
    libc().close(copy);
  }
});

Deno.test("more sockets than one call tells of are all heard of, and are still to be waited for", onEpoll, async () => {
  const poller = newPoller();
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const pairs = [];
  for (let time = 0; time < 400; time++) {
    pairs.push(await Promise.all([connect({ port: listener.addr.port }), listener.accept()]));
  }
  const reading = pairs.map(([, { handle }]) => poller.wait(handle, "read"));
  for (let round = 0; round < 3; round++) {
    const writing = pairs.map(([, { handle }]) => poller.wait(handle, "write"));
    await within(5_000, Promise.all(writing.map(({ over }) => over)));
  }
  for (const [client] of pairs) client.close();
  await within(5_000, Promise.all(reading.map(({ over }) => over)));
  for (const [, server] of pairs) server.close();
});

Deno.test("a wait that does not keep the process running any more is heard of all the same", onEpoll, async () => {
  const poller = newPoller();
  using pair = await connection();
  using client = pair.client.toConn();
  const waiting = poller.wait(pair.server.handle, "read");
  await ticks(20);
  // The thread that waits returns at once.
  poller.reference(waiting, false);
  await ticks(20);
  await writeText(client, "a");
  await within(5_000, waiting.over);
});

Deno.test("the event loop tells such a wait, too, and no timer asks", inEventLoop, async () => {
  const poller = newPoller();
  using pair = await connection();
  using client = pair.client.toConn();
  // By then it is known that the event loop tells.
  await within(5_000, poller.wait(pair.server.handle, "write").over);
  // The wait itself does not keep this process running.
  const running = setInterval(() => {}, 1_000);
  const { setTimeout } = globalThis;
  let timers = 0;
  globalThis.setTimeout = ((...args: Parameters<typeof setTimeout>) => {
    timers++;
    return setTimeout(...args);
  }) as typeof setTimeout;
  try {
    const waiting = poller.wait(pair.server.handle, "read", { referenced: false });
    await client.write(new Uint8Array(1));
    await waiting.over;
  } finally {
    globalThis.setTimeout = setTimeout;
    clearInterval(running);
  }
  assertEquals(timers, 0);
});

Deno.test("a process runs as long as a wait is to keep it running, and no longer", onEpoll, async () => {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const CASES: readonly (readonly [code: string, heard: boolean])[] = [
    ["poller.wait(s, 'read').over.then(heard);", true],
    ["poller.wait(s, 'read', { referenced: false }).over.then(heard);", false],
    ["const wait = poller.wait(s, 'read'); wait.over.then(heard); poller.reference(wait, false);", false],
    [
      "const wait = poller.wait(s, 'read', { referenced: false }); wait.over.then(heard); poller.reference(wait, true);",
      true,
    ],
    ["poller.wait(s, 'read').over.then(heard); poller.wait(s, 'read', { referenced: false });", true],
    ["const wait = poller.wait(s, 'read'); wait.over.then(heard); await poller.cancel(poller.wait(s, 'read'));", true],
    ["poller.abandon(poller.wait(s, 'read', { referenced: false }), 0);", false],
  ];
  for (const [code, heard] of CASES) {
    const child = new Deno.Command(Deno.execPath(), {
      args: [...RUN, "--allow-all", "-"],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(`
      import { connect } from ${moduleUrl("mod.ts")};
      import { unixPoller } from ${moduleUrl("ffi/unix/poller.ts")};
      const s = (await connect({ port: ${listener.addr.port} })).detach();
      const poller = unixPoller().prepare();
      const heard = () => console.log("heard");
      ${code}
      setTimeout(() => console.log("waiting"), 100);`));
    await writer.close();
    try {
      using server = await within(20_000, listener.accept());
      const line = lines(child);
      assertEquals(await within(20_000, line()), "waiting");
      if (heard) {
        await ticks(100);
        using conn = server.toConn();
        await writeText(conn, "a");
        assertEquals(await within(20_000, line()), "heard", code);
      }
      assertEquals((await within(20_000, child.status)).code, 0);
    } finally {
      await endChild(child);
    }
  }
});
