// Waiting for sockets by the system's own list: what a thread hears of, and what is left in the list.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect, listen, WinsockError } from "@winsock/handoff";
import { Poller } from "../../ffi/poller.ts";
import { Epoll } from "../../ffi/unix/epoll.ts";
import { libc } from "../../ffi/unix/libc.ts";
import { duplicateFrom } from "../../ffi/unix/descriptor_flags.ts";
import { unixSystem } from "../../ffi/unix/system.ts";
import { connection, writeText } from "../kit/connections.ts";
import { until, within } from "../kit/process.ts";

const { epoll } = unixSystem();
const onEpoll = { ignore: Deno.build.os !== "linux" || epoll === undefined };

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

Deno.test("a process with nothing but waits that do not keep it running ends", onEpoll, async () => {
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
