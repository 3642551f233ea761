// Waiting for sockets, against a `poll` in memory: what is asked of the system, and how often.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { type PollSystem, PollTable, type PollWaker } from "../../ffi/poll_table.ts";
import { Poller } from "../../ffi/poller.ts";
import { type StreamCalls, StreamIo } from "../../ffi/nonblocking_io.ts";
import { nextTurn } from "../../internal/runtime.ts";
import { WinsockError } from "../../ffi/winsock_error.ts";
import { until, within } from "../kit/process.ts";

const [READ, WRITE, HANGUP] = [1, 2, 4];
const WAKER = 99n;

/** One thread that looks, when it is told to. */
class FakePoll implements PollSystem, PollWaker {
  readonly size = 16;
  readonly readable = READ | HANGUP;
  readonly writable = WRITE;
  readonly ended = HANGUP;
  readonly handle = WAKER;
  /** What each socket is ready for. */
  readonly state = new Map<bigint, number>();
  /** Sockets of each look by the thread, and how long it was to take. */
  readonly looks: { sockets: bigint[]; timeout: number }[] = [];
  looksNow = 0;
  /** How many sockets each look by this thread was at. */
  askedNow: number[] = [];
  rests = 0;
  failure: WinsockError | undefined;
  threadFails = false;
  #thread: { fds: Uint8Array<ArrayBuffer>; count: number; done: (ready: number) => void } | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  encode(view: DataView, offset: number, s: bigint, read: boolean, write: boolean): void {
    view.setBigInt64(offset, s);
    view.setInt32(offset + 8, (read ? READ : 0) | (write ? WRITE : 0));
    view.setInt32(offset + 12, 0);
  }

  revents(view: DataView, offset: number): number {
    return view.getInt32(offset + 12);
  }

  poll(fds: Uint8Array<ArrayBuffer>, count: number, timeout: number): Promise<number> {
    const view = new DataView(fds.buffer);
    const sockets = Array.from({ length: count }, (_, index) => view.getBigInt64(index * this.size));
    this.looks.push({ sockets, timeout });
    if (this.threadFails) return Promise.resolve(-1);
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#thread = { fds, count, done: resolve };
    this.#timer = setTimeout(() => this.#finish(0), timeout);
    this.changed();
    return promise;
  }

  pollSync(fds: Uint8Array<ArrayBuffer>, count: number): number {
    this.looksNow++;
    this.askedNow.push(count);
    if (this.failure !== undefined) throw this.failure;
    return this.#mark(fds, count);
  }

  waker(): PollWaker {
    return this;
  }

  wake(): void {
    this.state.set(WAKER, READ);
    this.changed();
  }

  rest(): void {
    this.rests++;
    this.state.delete(WAKER);
  }

  /** The thread sees what has changed. */
  changed(): void {
    if (this.#thread === undefined) return;
    const ready = this.#mark(this.#thread.fds, this.#thread.count);
    if (ready > 0) this.#finish(ready);
  }

  /** The thread returns, a moment later. */
  #finish(ready: number): void {
    clearTimeout(this.#timer);
    const thread = this.#thread;
    this.#thread = undefined;
    if (thread !== undefined) setTimeout(() => thread.done(ready), 1);
  }

  #mark(fds: Uint8Array<ArrayBuffer>, count: number): number {
    const view = new DataView(fds.buffer);
    let ready = 0;
    for (let offset = 0; offset < count * this.size; offset += this.size) {
      const wanted = view.getInt32(offset + 8) | HANGUP;
      const revents = (this.state.get(view.getBigInt64(offset)) ?? 0) & wanted;
      view.setInt32(offset + 12, revents);
      if (revents !== 0) ready++;
    }
    return ready;
  }

  become(s: bigint, state: number): void {
    this.state.set(s, state);
    this.changed();
  }
}

function pollerOf(system: FakePoll): Poller {
  return new Poller(new PollTable(system)).prepare();
}

async function ticks(milliseconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
}

Deno.test("a socket is one entry, whatever it is waited for, and only who is ready goes on", async () => {
  const system = new FakePoll();
  const poller = pollerOf(system);
  const [read, write, other] = [poller.wait(1n, "read"), poller.wait(1n, "write"), poller.wait(2n, "read")];
  let ended = "";
  read.over.then(() => ended += "r");
  write.over.then(() => ended += "w");
  other.over.then(() => ended += "o");
  await until(() => system.looks.at(-1)?.sockets.length === 3, "the thread looks at both");
  assertEquals(system.looks.at(-1)!.sockets.toSorted(), [1n, 2n, WAKER]);
  system.become(1n, WRITE);
  await within(5_000, write.over);
  await ticks(20);
  assertEquals(ended, "w");
  system.become(2n, HANGUP);
  system.become(1n, READ);
  await within(5_000, Promise.all([read.over, other.over]));
});

Deno.test("who comes while the thread looks wakes it, once, and it sleeps again", async () => {
  const system = new FakePoll();
  const poller = pollerOf(system);
  const first = poller.wait(1n, "read");
  await until(() => system.looks.length === 1, "the thread looks");
  const more = [2n, 3n, 4n].map((s) => poller.wait(s, "read"));
  await until(() => system.looks.at(-1)!.sockets.length === 5, "it looks at all");
  await ticks(50);
  assertEquals([system.rests, system.looks.length], [1, 2]);
  for (const s of [1n, 2n, 3n, 4n]) system.become(s, READ);
  await within(5_000, Promise.all([first, ...more].map(({ over }) => over)));
});

Deno.test("a wait that is cancelled is over when the thread has let go of the socket", async () => {
  const system = new FakePoll();
  const poller = pollerOf(system);
  const kept = poller.wait(1n, "read");
  const cancelled = poller.wait(2n, "read");
  await until(() => system.looks.at(-1)?.sockets.includes(2n) === true, "the thread looks");
  let over = false;
  cancelled.over.then(() => over = true);
  const cancelling = poller.cancel(cancelled);
  await Promise.resolve();
  await Promise.resolve();
  assertEquals(over, false);
  await within(5_000, cancelling);
  await until(() => system.looks.at(-1)?.sockets.length === 2, "the thread looks at the other one");
  assert(!system.looks.at(-1)!.sockets.includes(2n));
  system.become(1n, READ);
  await kept.over;
});

Deno.test("an event nobody waits for is not asked for again and again", async () => {
  const system = new FakePoll();
  const poller = pollerOf(system);
  system.state.set(1n, HANGUP);
  const blocked = poller.wait(1n, "write");
  const other = poller.wait(2n, "read");
  await ticks(200);
  // Once every 10 ms at most.
  assert(system.looks.length <= 22, `the thread looked ${system.looks.length} times`);
  assert(system.looks.at(-1)!.sockets.includes(2n) && !system.looks.at(-1)!.sockets.includes(1n));
  system.become(2n, READ);
  await within(5_000, other.over);
  system.become(1n, WRITE | HANGUP);
  await within(5_000, blocked.over);
});

Deno.test("a thread that cannot look is not asked without end, and why is told by this one", async () => {
  const system = new FakePoll();
  const poller = pollerOf(system);
  system.threadFails = true;
  const waiting = poller.wait(1n, "read");
  await ticks(100);
  assert(system.looks.length <= 12, `the thread was asked ${system.looks.length} times`);
  system.failure = new WinsockError(10022, { operation: "wait for 1 sockets", functionName: "poll" });
  assertEquals((await within(5_000, assertRejects(() => waiting.over, WinsockError))).codeName, "WSAEINVAL");
  system.failure = undefined;
  system.threadFails = false;
  system.state.set(1n, READ);
  await within(5_000, poller.wait(1n, "read").over);
});

Deno.test("for who does not keep the process running no thread waits", async () => {
  const system = new FakePoll();
  const poller = pollerOf(system);
  const waiting = poller.wait(1n, "read", { referenced: false });
  await ticks(60);
  assertEquals(system.looks, []);
  assert(system.looksNow > 1 && system.looksNow < 20, `asked ${system.looksNow} times`);
  poller.reference(waiting, true);
  await until(() => system.looks.length === 1, "the thread waits");
  poller.reference(waiting, false);
  system.state.set(1n, READ);
  await within(5_000, waiting.over);
});

Deno.test("a stream that always has something lets the event loop go on, reading and writing", async () => {
  const calls: StreamCalls = {
    receive: (_, buffer) => buffer.byteLength,
    send: (_, bytes) => bytes.byteLength,
    endSending() {},
    close() {},
  };
  const io = new StreamIo(1n, calls, pollerOf(new FakePoll()));
  let turns = 0;
  let counting = true;
  const count = (async () => {
    for (; counting; turns++) await nextTurn();
  })();
  for (let received = 0; received < 2 ** 24;) received += (await io.receive()).byteLength;
  assert(turns >= 10, `${turns} turns while 16 MiB were read`);
  turns = 0;
  await io.send(new Uint8Array(2 ** 24));
  assert(turns >= 10, `${turns} turns while 16 MiB were written at once`);
  turns = 0;
  for (let sent = 0; sent < 2_000; sent++) await io.send(new Uint8Array(1));
  assert(turns >= 10, `${turns} turns while 2 000 bytes were written one by one`);
  counting = false;
  await count;
});

Deno.test("any number wait for one socket, each until it is done", async () => {
  const system = new FakePoll();
  const poller = pollerOf(system);
  let there = 0;
  const until = (least: number) => poller.wait(1n, "read", { done: (ended) => ended || there >= least });
  const [one, two, never] = [until(1), until(2), until(100)];
  there = 1;
  system.become(1n, READ);
  await within(5_000, one.over);
  there = 2;
  await within(5_000, two.over);
  // The peer ends its side: nothing more comes.
  system.become(1n, READ | HANGUP);
  await within(5_000, never.over);
});

Deno.test("who asks for more than there is is asked again after growing pauses, and does not keep others waiting", async () => {
  const system = new FakePoll();
  const poller = pollerOf(system);
  let asked = 0;
  const waiting = poller.wait(1n, "read", { done: () => ++asked > 1_000 });
  system.become(1n, READ);
  const other = poller.wait(2n, "read");
  await ticks(300);
  // After 0, 10, 30, 70, 150 and 310 ms.
  assert(asked >= 2 && asked <= 7, `asked ${asked} times`);
  system.become(2n, READ);
  await within(5_000, other.over);
  await poller.cancel(waiting);
});

Deno.test("a socket that is released ends its waits at once, but for those that end by themselves", async () => {
  const system = new FakePoll();
  const poller = pollerOf(system);
  const waits = [poller.wait(1n, "read", { operation: "look at it" }), poller.wait(1n, "write")];
  const stays = poller.wait(1n, "read", { outlives: true });
  const other = poller.wait(2n, "read");
  await until(() => system.looks.length === 1, "the thread looks");
  poller.release(1n);
  const message = "Cannot look at it: poll failed with WSAENOTSOCK (10038): it was closed or released meanwhile";
  // The thread has not returned: nothing but this turn is needed.
  const errors = await Promise.all(waits.map(({ over }) => over.catch((error: Error) => error.message)));
  assertEquals(errors, [message, message.replace("look at it", "wait for socket 1")]);
  system.become(1n, READ);
  system.become(2n, READ);
  await within(5_000, Promise.all([stays.over, other.over]));
});

Deno.test("what done throws is what the wait throws, and ends nobody else's", async () => {
  const system = new FakePoll();
  const poller = pollerOf(system);
  const failing = poller.wait(1n, "read", {
    done: () => {
      throw new Error("no good");
    },
  });
  const other = poller.wait(1n, "read");
  system.become(1n, READ);
  await within(5_000, assertRejects(() => failing.over, Error, "no good"));
  await within(5_000, other.over);
});

Deno.test("a wait that is abandoned is over at once, and a socket of its number is another one", async () => {
  const system = new FakePoll();
  const poller = pollerOf(system);
  const first = poller.wait(1n, "read");
  await until(() => system.looks.length === 1, "the thread looks");
  poller.abandon(first, new Error("enough"));
  await assertRejects(() => first.over, Error, "enough");
  let asked = 0;
  const second = poller.wait(1n, "read", { done: () => ++asked > 0 });
  await ticks(20);
  assertEquals(asked, 0);
  system.become(1n, READ);
  await within(5_000, second.over);
});

Deno.test("one more of many costs one look at it, and not one at all", async () => {
  const system = new FakePoll();
  const poller = pollerOf(system);
  const many = Array.from({ length: 500 }, (_, index) => poller.wait(BigInt(index + 100), "read"));
  await until(() => system.looks.at(-1)?.sockets.length === 501, "the thread looks at all");
  await ticks(20);
  system.askedNow = [];
  const more = poller.wait(1n, "read");
  await until(() => system.looks.at(-1)!.sockets.length === 502, "the thread looks at one more");
  await ticks(20);
  assert(Math.max(...system.askedNow) <= 1, `${system.askedNow}`);
  for (const { s } of [...many, more]) system.become(s, READ);
  await within(5_000, Promise.all([...many, more].map(({ over }) => over)));
});
