// Targets in processes of their own that abuse what they share with their source: it stays up, and its other children go
// on. Linux: there it is memory, local sockets and a pipe. What Windows shares, handles of events that can be waited for
// and nothing else, `tests/ffi/decisions_test.ts` shows.
//
// Where a message waits that was sent before its sender closed the socket, as with SOCK_SEQPACKET, nothing is to be shown:
// these are streams, and nothing comes back on them.
//
// That closing a socket which was offered can block is in `untrusted_test.ts`. No test shows that other calls on it can (the
// target may hold its lock): it takes a page fault in another process's system call that is answered by a file system of
// the attacker's own.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { HandoffSource, type HandoffSpawnOptions } from "@winsock/handoff";
import { INVALID_SOCKET } from "../../ffi/platform.ts";
import { UNIX_STREAMS } from "../../ffi/unix/io.ts";
import { newPipe } from "../../ffi/unix/descriptors.ts";
import { closeElsewhere, libc, unixSystem, useUnixSystem } from "../../ffi/unix/libc.ts";
import { connectLocal } from "../../ffi/unix/local_sockets.ts";
import { readableWithin } from "../../ffi/unix/poller.ts";
import { sendDescriptors } from "../../ffi/unix/scm_rights.ts";
import { killProcess, openSourceChannel, spawnWorkerCommand } from "../../handoff/spawn.ts";
import { Attacker, withAttackers } from "../kit/attacker.ts";
import { connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { countDescriptors } from "../kit/descriptors.ts";
import { duplicates, fakeChild, outcome } from "../kit/handoffs.ts";
import { needs } from "../kit/needs.ts";
import { endChild, lines, STYLE, until, within } from "../kit/process.ts";
import { isRunning } from "../kit/process_state.ts";
import { exists } from "../kit/paths.ts";

const onLinux = { ignore: Deno.build.os !== "linux" || !unixSystem().sharedLocks };
const FLAGS = ["--no-check", "--cached-only", ...STYLE];

function spawnTarget(script: string, mode: string, options: HandoffSpawnOptions = {}): Promise<HandoffSource> {
  const url = new URL(`../children/${script}`, import.meta.url);
  return HandoffSource.spawn(url, { denoFlags: FLAGS, args: [mode], sendTimeout: 3_000, ...options });
}

/** Hands one connection to a target that echoes, and sees that it does. */
async function assertServes(source: HandoffSource): Promise<void> {
  using pair = await connection();
  await within(10_000, source.send(pair.server));
  using client = pair.client.toConn();
  await writeText(client, "alive");
  assertEquals(await readText(client, 5), "alive");
  await client.closeWrite();
  assert(await readEnd(client));
}

/** How long this process's event loop stood still at most, in milliseconds, while something was going on. */
async function longestPause(during: () => Promise<void>): Promise<number> {
  let longest = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }, 5);
  try {
    await during();
  } finally {
    clearInterval(timer);
  }
  return longest;
}

for (const mode of ["scribble", "punch", "truncate", "names"]) {
  Deno.test(`a target that abuses the decisions (${mode}) ends its own channel at most`, onLinux, async () => {
    await using good = await spawnTarget("echo.ts", "");
    const system = unixSystem();
    if (mode === "names") useUnixSystem({ ...system, sharedLocks: false });
    const source = await spawnTarget("hostile_target.ts", mode).finally(() => useUnixSystem(system));
    const own = directories();
    try {
      await within(10_000, Promise.all([good.ready, source.ready]));
      using pair = await connection();
      const sockets = await duplicates(pair.server, 200);
      const sent = sockets.map((socket) => source.send(socket).then(() => "sent", () => "returned"));
      for (let count = 0; count < 5; count++) await assertServes(good);
      const ends = await within(20_000, Promise.all(sent));
      // The one or the other, and the socket is where its promise says.
      assertEquals(sockets.map(({ handle }) => handle === INVALID_SOCKET ? "sent" : "returned"), ends);
      // Names that the target has put in the way of all decisions let no offer leave, and so no lie come back.
      if (mode !== "names") {
        const reason = await within(10_000, source.closed);
        assertEquals(reason?.outcome, "channel-broken", reason?.reason);
      }
      for (let count = 0; count < 5; count++) await assertServes(good);
      for (const socket of sockets) socket.close();
    } finally {
      await endTarget(source);
      for (const path of own) await Deno.remove(path, { recursive: true }).catch(() => {});
    }
  });
}

/** The directories that this process has open: tables of names, of which a hostile target may leave something. */
function directories(): string[] {
  return [...Deno.readDirSync("/proc/self/fd")].flatMap(({ name }) => {
    try {
      return [Deno.readLinkSync(`/proc/self/fd/${name}`)];
    } catch {
      return [];
    }
  }).filter((path) => path.startsWith("/tmp/winsock-handoff-"));
}

async function endTarget({ child }: HandoffSource): Promise<void> {
  killProcess(child as Deno.ChildProcess);
  await within(10_000, child.status);
}

Deno.test("a target can send its source nothing that would be received, or have to be closed", onLinux, async () => {
  await using program = await spawnHostile("send");
  const { source, line } = program;
  await within(10_000, source.ready);
  using pair = await connection();
  using client = pair.client.toConn();
  // Unread bytes, so that closing the connection has something to wait for.
  await writeText(client, "x".repeat(100_000));
  const longest = await longestPause(async () => {
    const sending = outcome(source.send(pair.server));
    assertStringIncludes(await line() ?? "", "frames Cannot send a message");
    assertStringIncludes(await line() ?? "", "descriptors Cannot send a message");
    // A pipe carries no descriptors.
    assertStringIncludes(await line() ?? "", "answers Cannot send a message");
    assertEquals((await sending)[0], "timeout");
  });
  assert(longest < 2_500, `the event loop stood still for ${longest.toFixed()} ms`);
  assert(pair.server.remoteAddr.port > 0);
});

Deno.test("messages that wait where a target gets its channel do not hold up its source", onLinux, async () => {
  const system = unixSystem();
  // Linux before 6.16, and macOS: the system refuses none of them.
  useUnixSystem({ ...system, SO_PASSRIGHTS: undefined });
  const channel = openSourceChannel(fakeChild().child);
  useUnixSystem(system);
  using pair = await connection();
  pair.server.setOption("SO_LINGER", 3);
  // Its peer reads nothing.
  while (UNIX_STREAMS.send(pair.server.handle, new Uint8Array(1 << 20)) !== undefined);
  const path = new TextDecoder().decode(channel.hello.way);
  const first = connectLocal(path)!;
  const second = connectLocal(path)!;
  try {
    const longest = await longestPause(async () => {
      assert(sendDescriptors(second, new Uint8Array(1), [pair.server.handle]));
      libc().close(pair.server.detach());
      await readableWithin(first, 10_000);
      // The first one gets what there is, and the other one is not accepted any more.
      await until(() => !exists(path), "nobody can connect");
      await new Promise((resolve) => setTimeout(resolve, 300));
    });
    assert(longest < 2_000, `the event loop stood still for ${longest.toFixed()} ms`);
  } finally {
    channel.close();
    for (const s of [first, second]) libc().close(s);
  }
});

for (const refused of [true, false]) {
  const how = refused ? "refused by the system" : "not refused";
  Deno.test(`descriptors that strangers send to where a target connects, ${how}, hold up no other close`, {
    ignore: withAttackers.ignore || refused && needs("sockets that refuse descriptors").ignore,
  }, async () => {
    const system = unixSystem();
    // Linux before 6.16, and macOS.
    if (!refused) useUnixSystem({ ...system, SO_PASSRIGHTS: undefined });
    const channel = openSourceChannel(fakeChild().child);
    const strangers = Array.from({ length: 12 }, () => new Attacker(false));
    try {
      const path = new TextDecoder().decode(channel.hello.way);
      const before = countDescriptors();
      for (const stranger of strangers) {
        assertEquals(stranger.tellNow("connect", path), 0);
        assertEquals(stranger.tellNow("sendLingering", new Uint8Array(1)) !== 0, refused);
      }
      await new Promise((resolve) => setTimeout(resolve, 500));
      assert(countDescriptors() <= before + 8, "the others wait in the backlog");
      for (const end of newPipe("have something to close")) await within(4_000, closeElsewhere(end));
    } finally {
      useUnixSystem(system);
      channel.close();
      for (const stranger of strangers) stranger[Symbol.dispose]();
    }
  });
}

Deno.test("a target that closes its answers, and lives, has no channel any more", onLinux, async () => {
  await using program = await spawnHostile("close answers");
  const { source, line } = program;
  await within(10_000, source.ready);
  using pair = await connection();
  const sockets = await duplicates(pair.server, 70);
  const began = performance.now();
  const sent = sockets.map((socket) => outcome(source.send(socket)));
  assertEquals(await line(), "closed");
  const ends = await within(2_500, Promise.all(sent));
  const reason = `process ${source.child.pid} closed its end of the channel`;
  for (const end of ends) assertEquals(end, ["channel-broken", reason]);
  assert(performance.now() - began < 3_000, "nobody waited for the deadline");
  assert(isRunning(source.child.pid), "nor for the end of the process");
  for (const socket of sockets) {
    assert(socket.remoteAddr.port > 0);
    socket.close();
  }
});

/** A hostile target whose output the test reads. */
async function spawnHostile(
  mode: string,
): Promise<{ source: HandoffSource; line: () => Promise<string | undefined> } & AsyncDisposable> {
  const script = new URL("../children/hostile_target.ts", import.meta.url);
  const child = await spawnWorkerCommand({ script, denoFlags: FLAGS, args: [mode] }, { output: "piped" });
  child.stderr.pipeTo(Deno.stderr.writable, { preventClose: true }).catch(() => {});
  const source = new HandoffSource(child, { sendTimeout: 3_000 });
  return {
    source,
    line: lines(child),
    async [Symbol.asyncDispose]() {
      await endChild(child);
      await within(10_000, source.closed);
    },
  };
}
