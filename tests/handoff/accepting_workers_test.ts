// Workers that accept on a shared listener by themselves, in processes of their own.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { HandoffError, HandoffSource, type HandoffSourceOptions, listen, type Listener } from "@winsock/handoff";
import { observe } from "../../handoff/source.ts";
import { readEnd, readText, writeText } from "../kit/connections.ts";
import { openStreams, settledDescriptors } from "../kit/descriptors.ts";
import { freeze, kill, thaw } from "../kit/faults/acts.ts";
import { outcome } from "../kit/handoffs.ts";
import { endChild, lines, spawnChild, until, within } from "../kit/process.ts";

const WINDOWS = Deno.build.os === "windows";
/** How long nothing is to happen, in milliseconds. */
const QUIET_MS = 300;

interface Worker extends AsyncDisposable {
  readonly source: HandoffSource;
  readonly child: Deno.ChildProcess;
  readonly pid: number;
  readonly line: () => Promise<string | undefined>;
  released: number;
}

async function startWorker(mode = "serve", options: HandoffSourceOptions = {}): Promise<Worker> {
  const child = spawnChild("accepting_worker.ts", [mode]);
  const line = lines(child);
  const source = new HandoffSource(child, { sendTimeout: 10_000, onRelease: () => void worker.released++, ...options });
  const worker: Worker = {
    source,
    child,
    pid: child.pid,
    line,
    released: 0,
    async [Symbol.asyncDispose]() {
      thaw(child.pid);
      await within(20_000, source.close());
      await endChild(child);
    },
  };
  assertEquals(await line(), `${child.pid} started`);
  await within(20_000, source.ready);
  return worker;
}

function listenHere(): Listener {
  return listen({ hostname: "127.0.0.1", port: 0 });
}

async function connectTo(listener: Listener): Promise<Deno.TcpConn> {
  return await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
}

interface Answer {
  readonly pid: number;
  readonly data: unknown;
  readonly address: string;
  readonly bytes: number;
}

async function readAnswer(conn: Deno.Conn): Promise<Answer> {
  let text = "";
  while (!text.endsWith("\n")) {
    const part = await readText(conn, 1);
    if (part === "") throw new Error("The connection ended without an answer");
    text += part;
  }
  return JSON.parse(text);
}

async function ask(conn: Deno.Conn, request = "who"): Promise<Answer> {
  await writeText(conn, request);
  return await readAnswer(conn);
}

/** Asks on so many connections at once, which are closed. Returns who answered each. */
async function askMany(listener: Listener, count: number): Promise<number[]> {
  return await Promise.all(Array.from({ length: count }, async () => {
    using conn = await connectTo(listener);
    return (await ask(conn)).pid;
  }));
}

/** Whether nothing is answered for a while. */
async function staysSilent(conn: Deno.Conn): Promise<{ answer: Promise<Answer> }> {
  const answer = ask(conn);
  answer.catch(() => {});
  let answered = false;
  answer.then(() => answered = true, () => {});
  await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
  assert(!answered, "nothing is accepted");
  return { answer };
}

Deno.test("two workers accept on one listener: all is answered, and the source knows how many each has", async () => {
  using listener = listenHere();
  await using first = await startWorker();
  await using second = await startWorker();
  const shares = await Promise.all(
    [first, second].map(({ source }, index) => source.shareListener(listener, { data: { worker: index } })),
  );
  const workers = [first, second];
  const conns = await Promise.all(Array.from({ length: 60 }, () => connectTo(listener)));
  const answers = await Promise.all(conns.map((conn) => ask(conn)));
  const counts = workers.map(({ pid }) => answers.filter((answer) => answer.pid === pid).length);
  assertEquals(counts[0]! + counts[1]!, 60);
  assert(counts.every((count) => count > 0), `each gets some: ${counts}`);
  for (const { pid, data, address, bytes } of answers) {
    assertEquals([data, address, bytes], [
      { worker: workers.findIndex((worker) => worker.pid === pid) },
      "127.0.0.1",
      0,
    ]);
  }
  await until(() => shares.every(({ accepted }, index) => accepted === counts[index]), "the source knows");
  assertEquals(workers.map(({ source }) => observe(source).held), counts);
  assertEquals(shares.map(({ open }) => open), counts);
  for (const conn of conns) conn.close();
  await until(() => workers.every(({ source }) => observe(source).held === 0), "the source knows that they are closed");
  assertEquals(workers.map(({ released }) => released), counts);
});

Deno.test("a worker that is paused accepts nothing, and the other serves; it goes on when it is resumed", async () => {
  using listener = listenHere();
  await using first = await startWorker();
  await using second = await startWorker();
  const one = await first.source.shareListener(listener);
  const other = await second.source.shareListener(listener);
  await one.pause();
  const before = one.accepted;
  assertEquals(new Set(await askMany(listener, 20)), new Set([second.pid]));
  assertEquals(one.accepted, before);
  await Promise.all([one.resume(), other.pause()]);
  assertEquals(new Set(await askMany(listener, 20)), new Set([first.pid]));
  // While connections come, and again and again.
  let stop = false;
  const asking = (async () => {
    let answered = 0;
    while (!stop) answered += (await askMany(listener, 4)).length;
    return answered;
  })();
  for (let round = 0; round < 10; round++) {
    await Promise.all([other.resume(), one.pause()]);
    await Promise.all([one.resume(), other.pause()]);
  }
  stop = true;
  assert(await within(20_000, asking) > 0);
});

Deno.test("what comes while no worker accepts waits in the backlog, and the next worker has it", async () => {
  using listener = listenHere();
  await using first = await startWorker();
  const share = await first.source.shareListener(listener);
  using kept = await connectTo(listener);
  assertEquals((await ask(kept)).pid, first.pid);
  await share.stop();
  assertEquals(await share.stopped, undefined);
  await share.stop();
  await share.pause();
  await assertRejects(() => share.resume(), HandoffError, "it was stopped");
  const conns = await Promise.all(Array.from({ length: 5 }, () => connectTo(listener)));
  const { answer } = await staysSilent(conns[0]!);
  // What it had accepted is served.
  assertEquals((await ask(kept)).pid, first.pid);
  await using second = await startWorker();
  await second.source.shareListener(listener);
  assertEquals((await answer).pid, second.pid);
  for (const conn of conns.slice(1)) assertEquals((await ask(conn)).pid, second.pid);
  for (const conn of conns) conn.close();
  // The first one can have it again.
  const again = await first.source.shareListener(listener);
  assertEquals((await askMany(listener, 10)).length, 10);
  await again.stop();
});

Deno.test("a worker that is killed takes along what it had accepted, and nothing else", async () => {
  using listener = listenHere();
  await using first = await startWorker();
  await using second = await startWorker();
  const share = await first.source.shareListener(listener);
  await second.source.shareListener(listener);
  const conns = await Promise.all(Array.from({ length: 40 }, () => connectTo(listener)));
  const answers = await Promise.all(conns.map((conn) => ask(conn)));
  kill(first.pid);
  const failure = await within(20_000, share.stopped);
  assertEquals(failure?.outcome, "target-exited");
  await share.stop();
  assertEquals([share.open, observe(first.source).held], [0, 0]);
  for (const [index, conn] of conns.entries()) {
    if (answers[index]!.pid === second.pid) assertEquals((await ask(conn)).pid, second.pid);
    else assert(await readEnd(conn).catch(() => true), "its connections end");
    conn.close();
  }
  assertEquals(new Set(await askMany(listener, 20)), new Set([second.pid]));
});

Deno.test("a worker that is stopped by a signal does not keep others from serving, and is ended if it is to be", async () => {
  using listener = listenHere();
  await using first = await startWorker();
  await using second = await startWorker();
  const share = await first.source.shareListener(listener, { timeout: 1_000 });
  await second.source.shareListener(listener);
  freeze(first.pid);
  // On Windows a thread of a stopped process sits in accept: it keeps one.
  const conns = await Promise.all(Array.from({ length: 20 }, () => connectTo(listener)));
  const answers = conns.map((conn) => ask(conn));
  const served = new Set<number>();
  for (const [index, answer] of answers.entries()) answer.then(() => served.add(index), () => {});
  await until(() => served.size >= (WINDOWS ? 19 : 20), "the other worker serves");
  assertEquals(await outcome(share.stop()), ["timeout", `process ${first.pid} has not answered in 1000 ms`]);
  thaw(first.pid);
  await within(20_000, share.stop());
  const pids = new Set((await Promise.all(answers)).map(({ pid }) => pid));
  pids.delete(first.pid);
  assertEquals(pids, new Set([second.pid]));
  for (const conn of conns) conn.close();
  const last = await first.source.shareListener(listener, { timeout: 500, endIfSilent: true });
  freeze(first.pid);
  await within(20_000, last.pause());
  await within(20_000, first.child.status);
  assertEquals((await last.stopped)?.outcome, "target-exited");
  assertEquals((await askMany(listener, 10)).length, 10);
});

Deno.test("a worker that leaves its loop accepts no more, and says so", async () => {
  using listener = listenHere();
  await using first = await startWorker("once");
  const share = await first.source.shareListener(listener);
  using conn = await connectTo(listener);
  assertEquals((await ask(conn)).pid, first.pid);
  assertEquals(await first.line(), "left with 1 open");
  const failure = await within(20_000, share.stopped);
  assertEquals([failure?.outcome, failure?.reason], ["closed", "this process takes no more sockets"]);
  assertEquals(share.accepted, 1);
  assertEquals((await first.source.closed)?.outcome, "closed");
  using waiting = await connectTo(listener);
  const { answer } = await staysSilent(waiting);
  assertEquals((await ask(conn)).pid, first.pid);
  await using second = await startWorker();
  await second.source.shareListener(listener);
  assertEquals((await answer).pid, second.pid);
});

Deno.test("an aborted loop accepts no more; what it had accepted is served", async () => {
  using listener = listenHere();
  await using first = await startWorker();
  const share = await first.source.shareListener(listener);
  using conn = await connectTo(listener);
  await ask(conn, "abort");
  assertEquals((await within(20_000, share.stopped))?.outcome, "closed");
  assertEquals(await first.line(), "left with 1 open");
  using waiting = await connectTo(listener);
  await staysSilent(waiting);
  assertEquals((await ask(conn)).pid, first.pid);
  const own = await within(5_000, listener.accept());
  own.close();
});

Deno.test("the end of the source ends accepting, and the loop", async () => {
  using listener = listenHere();
  await using first = await startWorker();
  const share = await first.source.shareListener(listener);
  using conn = await connectTo(listener);
  await ask(conn);
  await within(20_000, first.source.close());
  assertEquals(await share.stopped, undefined);
  assertEquals(await first.line(), "left with 1 open");
  using waiting = await connectTo(listener);
  await staysSilent(waiting);
  assertEquals((await ask(conn)).pid, first.pid);
});

Deno.test("a worker accepts no more than its limit, and nothing that its loop does not ask for", async () => {
  using listener = listenHere();
  await using limited = await startWorker();
  const share = await limited.source.shareListener(listener, { limit: 2 });
  const conns = [await connectTo(listener), await connectTo(listener), await connectTo(listener)];
  await ask(conns[0]!);
  await ask(conns[1]!);
  const { answer } = await staysSilent(conns[2]!);
  conns[0]!.close();
  assertEquals((await within(20_000, answer)).pid, limited.pid);
  await share.resume({ limit: 3 });
  using more = await connectTo(listener);
  assertEquals((await ask(more)).pid, limited.pid);
  await share.stop();
  for (const conn of conns.slice(1)) conn.close();

  await using slow = await startWorker("slow");
  await slow.source.shareListener(listener);
  using first = await connectTo(listener);
  await ask(first);
  using second = await connectTo(listener);
  await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
  using own = (await within(5_000, listener.accept())).toConn();
  await writeText(own, "mine");
  assertEquals(await readText(second, 4), "mine");
});

Deno.test("only a trusted target gets a listener, and one that accepts by hand rejects it", async () => {
  using listener = listenHere();
  await using untrusted = await startWorker("serve", { trusted: false });
  await assertRejects(() => untrusted.source.shareListener(listener), TypeError, "is not trusted");
  await using manual = await startWorker("manual");
  const [how, reason] = await outcome(manual.source.shareListener(listener));
  assertEquals([how, reason], ["rejected", "it accepts sockets by hand and takes no listeners"]);
  for (const options of [{ limit: 0 }, { limit: 1.5 }, { timeout: 0 }]) {
    await assertRejects(() => manual.source.shareListener(listener, options), RangeError);
  }
  assert(listener.addr.port > 0, "it is open here");
});

Deno.test("neither side has more descriptors when accepting is over than before", async () => {
  using listener = listenHere();
  await using first = await startWorker();
  const round = async () => {
    const share = await first.source.shareListener(listener);
    await askMany(listener, 10);
    await share.pause();
    await share.resume();
    await askMany(listener, 5);
    await share.stop();
    await until(() => observe(first.source).held === 0, "all are closed");
  };
  await round();
  // On Windows each hand-off may make the event of its slot.
  const count = async () => {
    const all = await settledDescriptors(Deno.pid, first.pid);
    return WINDOWS ? [Deno.pid, first.pid].map((pid) => openStreams(pid).length) : all;
  };
  const before = await count();
  for (let times = 0; times < 3; times++) await round();
  assertEquals(await count(), before);
});
