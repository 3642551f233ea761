// The source's side of the protocol: what it offers, when, and who owns a socket at the end. Targets are in this process:
// the library's own, or one that says what the test wants.
//
// Of the rules of a hand-off this file shows: every OFFER has one answer and its decision is not used again before it; the
// decision says who the owner is, and frames are hints of it; what is on its way is bounded; a withdrawal is tried at the
// deadline.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  duplicateSocket,
  type HandoffChild,
  HandoffSource,
  type HandoffStep,
  listen,
  openSocket,
  Socket,
  TRACE_CHANNEL,
} from "@winsock/handoff";
import { observe } from "../../handoff/source.ts";
import { DECISION_SLOTS } from "../../ffi/decisions.ts";
import { INVALID_SOCKET } from "../../ffi/platform.ts";
import type { ChannelHello, SourceChannel } from "../../handoff/channel.ts";
import { Outbox } from "../../handoff/outbox.ts";
import { encodeFrame, encodeReason, type Frame, FrameType } from "../../handoff/protocol.ts";
import diagnostics from "node:diagnostics_channel";
import { connection, readText, writeText } from "../kit/connections.ts";
import { countDescriptors } from "../kit/descriptors.ts";
import { duplicates, fakeChild, isOpen, outcome, withFakeTarget, withInProcessPair } from "../kit/handoffs.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { until, within } from "../kit/process.ts";

/** The steps that are taken in this process from now on. */
function recordSteps(): { readonly steps: HandoffStep[] } & Disposable {
  const steps: HandoffStep[] = [];
  const watch = (message: unknown) => void steps.push(message as HandoffStep);
  diagnostics.subscribe(TRACE_CHANNEL, watch);
  return { steps, [Symbol.dispose]: () => void diagnostics.unsubscribe(TRACE_CHANNEL, watch) };
}

Deno.test("source and target take the documented steps in order", async () => {
  using recorded = recordSteps();
  await withInProcessPair(async (source, received) => {
    using pair = await connection();
    const sending = source.send(pair.server, { data: 1 });
    const { value } = await received.next();
    await sending;
    assertEquals([observe(source).held, source.inFlight], [1, 0]);
    value?.socket.close();
    await until(() => observe(source).held === 0, "the source hears that the socket was closed");
    await source.close();
    assertEquals((await received.next()).done, true);
  });
  const steps = recorded.steps.map(({ step }) => step);
  const setUp = ["hello-sent", "hello-received", "ready-received"];
  assertEquals(steps.slice(0, 6), [...setUp, "offered", "offer-received", "opened"]);
  assertEquals(steps.slice(6), ["taken", "taken-received", "done", "done", "end-received"]);
});

Deno.test("the steps of a shared listener are published on both sides", async () => {
  using recorded = recordSteps();
  await withInProcessPair(async (source, received) => {
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const ended = received.next();
    const share = await source.shareListener(listener);
    await until(() => recorded.steps.at(-1)?.step === "accepting-received", "the source hears that it accepts");
    await share.pause();
    await share.resume();
    await share.stop();
    await source.close();
    assertEquals((await ended).done, true);
  });
  const steps = recorded.steps.map(({ step }) => step);
  const accepting = ["accepting", "accepting-received"];
  const shared = steps.slice(steps.indexOf("accepting"), -1);
  assertEquals(shared, [
    ...accepting,
    ...["paused", "paused-received"],
    ...accepting,
    ...["stopped", "stopped-received"],
  ]);
});

Deno.test("a socket that is passed on takes its initial bytes along", async () => {
  await withInProcessPair(async (source, received) => {
    using pair = await connection();
    const bytes = new TextEncoder().encode("early ");
    const socket = Socket.fromHandle(pair.server.detach(), { initialBytes: bytes });
    const sending = source.send(socket);
    const { value } = await received.next();
    await sending;
    using client = pair.client.toConn();
    assert(value?.socket instanceof Socket);
    using server = value.socket.toConn();
    await writeText(client, "late");
    assertEquals(await readText(server, 10), "early late");
  });
});

Deno.test("a timeout that makes no sense is refused", () => {
  const { child } = fakeChild();
  for (const name of ["startTimeout", "sendTimeout"]) {
    for (const value of [0, -1, 2 ** 31, NaN]) {
      assertThrows(() => new HandoffSource(child, { [name]: value }), RangeError, `Invalid \`${name}\``);
    }
  }
  assertEquals(child.stdin.locked, false);
});

Deno.test("a source that cannot begin leaves nothing behind, and the child's stdin free", async () => {
  const { child } = fakeChild();
  child.stdin.getWriter();
  const status = child.status;
  const unpiped: HandoffChild = {
    pid: Deno.pid,
    status,
    get stdin(): HandoffChild["stdin"] {
      throw new TypeError("Cannot get 'stdin': 'stdin' is not piped");
    },
  };
  await assertNothingLeaks(() => {
    assertThrows(() => new HandoffSource(child), TypeError);
    assertThrows(() => new HandoffSource(unpiped), TypeError, "not piped");
  });
});

Deno.test("a source that was closed has not failed, however its child ends", async () => {
  await withFakeTarget(async (source, target) => {
    target.ready();
    const closing = source.close();
    assertEquals((await target.next())?.type, FrameType.END);
    target.exit(3);
    await closing;
    target.say(new Uint8Array(64));
    assertEquals(await source.closed, undefined);
    using pair = await connection();
    assertEquals(await outcome(source.send(pair.server)), ["closed", "the source was closed"]);
  });
});

Deno.test("a source that is closed gives up what is not taken in its time", async () => {
  await withFakeTarget(async (source, target) => {
    target.ready();
    await source.ready;
    using pair = await connection();
    const sending = outcome(source.send(pair.server));
    const closing = source.close();
    await target.drop(await target.offer());
    const [how] = await within(5_000, sending);
    assert(how === "timeout" || how === "closed", how);
    assert(pair.server.remoteAddr.port > 0);
    await within(5_000, closing);
  }, { sendTimeout: 300 });
});

Deno.test("what onRelease throws is reported, and the channel goes on", async () => {
  const reported: unknown[] = [];
  const onError = (event: ErrorEvent) => {
    event.preventDefault();
    reported.push(event.error);
  };
  addEventListener("error", onError);
  const mistake = new Error("a mistake of the program's own");
  const onRelease = () => {
    throw mistake;
  };
  try {
    await withFakeTarget(async (source, target) => {
      target.ready();
      for (let sequence = 1; sequence <= 2; sequence++) {
        using pair = await connection();
        const sending = source.send(pair.server);
        assert(await target.take(await target.offer()));
        await sending;
        target.say(encodeFrame(FrameType.DONE, sequence));
        await until(() => observe(source).held === 0, "the source hears that the socket was closed");
      }
      assert(await isOpen(source));
    }, { onRelease });
  } finally {
    removeEventListener("error", onError);
  }
  assertEquals(reported, [mistake, mistake]);
});

Deno.test("an offer withdrawn at its deadline is the source's, and the channel goes on", async () => {
  await withFakeTarget(async (source, target) => {
    using pair = await connection();
    target.ready();
    const sending = outcome(source.send(pair.server));
    const offer = await target.offer();
    assertEquals(await sending, ["timeout", `process ${Deno.pid} did not take it in 300 ms`]);
    const withdraw = await target.next();
    assertEquals([withdraw?.type, withdraw?.sequence], [FrameType.WITHDRAW, offer.sequence]);
    assertEquals(await target.take(offer), false, "the source has decided");
    const again = source.send(pair.server);
    assert(await target.take(await target.offer()));
    await again;
    assert(await isOpen(source));
  }, { sendTimeout: 300 });
});

Deno.test("what the target has decided is its own at the deadline, with or without an answer", async () => {
  for (const end of ["deadline", "abort", "exit", "end of the answers"]) {
    await withFakeTarget(async (source, target) => {
      using pair = await connection();
      const abort = new AbortController();
      target.ready();
      const sending = source.send(pair.server, { signal: abort.signal });
      const offer = await target.offer();
      assert(target.decide(offer));
      if (end === "abort") abort.abort();
      else if (end === "exit") target.exit(1);
      else if (end === "end of the answers") target.channel.close();
      await within(5_000, sending);
      assertEquals(pair.server.handle, INVALID_SOCKET);
      if (end === "exit" || end === "end of the answers") return;
      assertEquals(observe(source).held, 1);
      await target.drop(offer);
      target.say(encodeFrame(FrameType.TAKEN, offer.sequence), encodeFrame(FrameType.DONE, offer.sequence));
      await until(() => observe(source).held === 0, "the late answer is heard");
      assert(await isOpen(source));
    }, { sendTimeout: 500 });
  }
});

Deno.test("what was sent while a broken channel is looked into comes back too", async () => {
  await withFakeTarget(async (source, target) => {
    using first = await connection();
    using second = await connection();
    target.ready();
    const sending = outcome(source.send(first.server));
    await target.drop(await target.offer());
    target.channel.close();
    await until(() => source.inFlight === 0, "what was on its way is withdrawn");
    const late = outcome(source.send(second.server));
    const reason = `process ${Deno.pid} closed its end of the channel`;
    assertEquals(await sending, ["channel-broken", reason]);
    assertEquals(await within(5_000, late), ["channel-broken", reason]);
    assertEquals((await source.closed)?.outcome, "channel-broken");
    for (const { server } of [first, second]) assert(server.remoteAddr.port > 0);
  });
});

Deno.test("a signal aborted right after sending takes the socket back", async () => {
  await withInProcessPair(async (source, received) => {
    const loop = received.next();
    await source.ready;
    using pair = await connection();
    const abort = new AbortController();
    const sending = source.send(pair.server, { signal: abort.signal });
    abort.abort(new Error("at once"));
    await assertRejects(() => sending, Error, "at once");
    assert(pair.server.remoteAddr.port > 0);
    await source.close();
    assertEquals((await loop).done, true);
  });
});

Deno.test("a send aborted in the turn in which another begins is not offered", async () => {
  using recorded = recordSteps();
  await withInProcessPair(async (source, received) => {
    const loop = received.next();
    await source.ready;
    using before = await connection();
    using aborted = await connection();
    using sent = await connection();
    const abort = new AbortController();
    // It leaves at once, for nothing else is on its way. What follows waits for the end of the turn.
    const alone = source.send(before.server);
    const first = assertRejects(() => source.send(aborted.server, { signal: abort.signal }), Error, "enough");
    const second = source.send(sent.server);
    abort.abort(new Error("enough"));
    await first;
    (await loop).value?.socket.close();
    (await received.next()).value?.socket.close();
    await Promise.all([alone, second]);
    const next = received.next();
    await source.close();
    assertEquals((await next).done, true, "nothing else arrives");
    assert(aborted.server.remoteAddr.port > 0);
  });
  assertEquals(recorded.steps.filter(({ step }) => step === "offered").length, 2);
});

Deno.test("one signal for more sends than may be on their way takes all of them back", async () => {
  await withInProcessPair(async (source, received) => {
    const loop = received.next();
    await source.ready;
    using pair = await connection();
    const sockets = await duplicates(pair.server, 300);
    const abort = new AbortController();
    const sent = sockets.map((socket) => source.send(socket, { signal: abort.signal }));
    abort.abort(new Error("enough"));
    for (const send of sent) await assertRejects(() => send, Error, "enough");
    assertEquals(source.inFlight, 0);
    await source.close();
    assertEquals((await loop).done, true, "nothing arrives");
    for (const socket of sockets) {
      assert(socket.localAddr.port > 0);
      socket.close();
    }
  });
});

Deno.test("sends that are aborted, or whose socket was closed, make room for those that wait", async () => {
  for (const how of ["aborted", "closed"]) {
    await withFakeTarget(async (source, target) => {
      target.ready();
      await source.ready;
      using first = await connection();
      using pair = await connection();
      const sockets = await duplicates(pair.server, DECISION_SLOTS - 1);
      using waits = await connection();
      const abort = new AbortController();
      const leading = source.send(first.server);
      const sent = Promise.allSettled(sockets.map((socket) => source.send(socket, { signal: abort.signal })));
      const waiting = source.send(waits.server);
      if (how === "aborted") abort.abort();
      else for (const socket of sockets) socket.close();
      // The first was offered at once. As it is not answered, only what is withdrawn makes room.
      for (const offer of [await target.offer(), await within(2_000, target.offer())]) await target.take(offer);
      assert((await sent).every(({ status }) => status === "rejected"));
      await Promise.all([leading, waiting]);
      for (const socket of sockets) socket.close();
    });
  }
});

Deno.test("a connection that came back and was duplicated since is not ended when one of the two is closed", async () => {
  await withInProcessPair(async (source, received) => {
    using pair = await connection();
    const next = received.next();
    const returned = outcome(source.send(pair.server));
    (await next).value?.reject("no");
    assertEquals((await returned)[0], "rejected");
    using duplicate = await openSocket(duplicateSocket(pair.server, Deno.pid), { kind: "connection" });
    pair.server.close();
    using server = duplicate.toConn();
    using client = pair.client.toConn();
    await writeText(server, "alive");
    assertEquals(await readText(client, 5), "alive");
  }, { autoAccept: false });
});

/** Has a target be offered all that may be on its way. */
async function readOffers(target: { offer(): Promise<Frame> }, count: number): Promise<Frame[]> {
  const offers: Frame[] = [];
  while (offers.length < count) offers.push(await target.offer());
  return offers;
}

for (
  const [bound, count, bytes, left] of [
    ["4 MiB", 60, 100_000, Math.floor(4 * 1024 * 1024 / 100_666)],
    ["64 sockets", 100, 0, DECISION_SLOTS],
    ["one that is larger alone", 5, 1_000_000, 4],
  ] as const
) {
  Deno.test(`for a target that answers nothing no more is kept than ${bound}, and all of it comes back`, async () => {
    using recorded = recordSteps();
    await withFakeTarget(async (source, target) => {
      using pair = await connection();
      target.ready();
      await source.ready;
      const sockets = await duplicates(pair.server, count);
      const data = "x".repeat(bytes);
      const sent = sockets.map((socket) => outcome(source.send(socket, { data })));
      assertEquals(source.inFlight, count);
      const offers = await readOffers(target, left);
      for (const end of sent) assertEquals((await end)[0], "timeout");
      assertEquals(recorded.steps.filter(({ step }) => step === "offered").length, left);
      assertEquals(source.inFlight, 0);
      for (const socket of sockets) socket.close();
      for (const offer of offers) await target.drop(offer);
      for (const _ of offers) assertEquals((await target.next())?.type, FrameType.WITHDRAW);
    }, { sendTimeout: 800 });
  });
}

Deno.test("the decision of an offer is not used again before its answer", async () => {
  await withFakeTarget(async (source, target) => {
    using pair = await connection();
    target.ready();
    await source.ready;
    const abort = new AbortController();
    const sockets = await duplicates(pair.server, DECISION_SLOTS);
    const sent = Promise.allSettled(sockets.map((socket) => source.send(socket, { signal: abort.signal })));
    const offers = await readOffers(target, DECISION_SLOTS);
    for (const offer of offers) await target.drop(offer);
    abort.abort();
    await sent;
    for (const _ of offers) assertEquals((await target.next())?.type, FrameType.WITHDRAW);
    using other = await connection();
    const waiting = source.send(other.server);
    // None of them has an answer, though all have come back: there is nothing to offer the next one by.
    await new Promise((resolve) => setTimeout(resolve, 100));
    for (const offer of offers) assertEquals(target.decide(offer), false);
    const answered = offers[9]!;
    target.say(encodeFrame(FrameType.REJECT, answered.sequence, encodeReason("withdrawn")));
    const offer = await target.offer();
    assertEquals(offer.sequence % DECISION_SLOTS, answered.sequence % DECISION_SLOTS);
    assert(await target.take(offer));
    await waiting;
    for (const socket of sockets) socket.close();
  });
});

/** A channel that leads nowhere: what is offered is only counted. */
function channelToNowhere(): SourceChannel & { readonly offers: number[] } {
  const decided = new Set<number>();
  const offers: number[] = [];
  return {
    offers,
    hello: { kind: 1, means: 1, descriptors: [0, 0, 0, 0] } as unknown as ChannelHello,
    decisions: {
      means: 1,
      descriptor: undefined,
      open: (slot) => (decided.delete(slot), 0n),
      // The target is always the first.
      decide: () => false,
      back: { remember() {}, decide: () => false },
      close() {},
    },
    passesDescriptors: true,
    sendDescriptors: (sequences) => offers.push(...sequences) > 0,
    write: () => undefined,
    end: () => Promise.resolve(),
    listen() {},
    established() {},
    close() {},
  };
}

Deno.test("a connection that is held while the numbers come round again keeps its own", async () => {
  using pair = await connection();
  let released = 0;
  const channel = channelToNowhere();
  const outbox = new Outbox(Deno.pid, { timeout: 5_000, suspect: undefined, countsHeld: true }, channel, {
    released: () => void released++,
    unproven() {},
    silent() {},
    lastHeard: () => 0,
    broken() {},
    exit: () => Promise.resolve(undefined),
  });
  outbox.start();
  const say = (type: Frame["type"], sequence: number) =>
    outbox.takeAnswer({ type, sequence, payload: new Uint8Array(0) });
  const offer = async () => {
    const [socket] = await duplicates(pair.server, 1);
    const outgoing = outbox.add(socket!, new Uint8Array(0), new Uint8Array(0));
    await until(() => channel.offers.length > 0, "it is offered");
    return { outgoing, sequence: channel.offers.shift()! };
  };
  const take = async () => {
    const { outgoing, sequence } = await offer();
    say(FrameType.TAKEN, sequence);
    await outgoing.settled;
    return sequence;
  };
  assertEquals([await take(), await take(), outbox.held], [1, 2, 2]);
  say(FrameType.DONE, 2);
  const unanswered = await offer();
  assertEquals(unanswered.sequence, 3);
  outbox.lastSequence = 0xffff_fffe;
  // 0 is not a number of a socket, 1 is held, and the decision of 3 is still in use.
  assertEquals([await take(), await take(), await take()], [0xffff_ffff, 2, 4]);
  for (const sequence of [1, 2, 4, 0xffff_ffff]) say(FrameType.DONE, sequence);
  assertEquals([released, outbox.held], [5, 0]);
  outbox.withdrawAll();
  await unanswered.outgoing.settled;
  outbox.dispose();
});

Deno.test("a target that leaves gets no more, and answers what it was offered", async () => {
  await withFakeTarget(async (source, target) => {
    using pair = await connection();
    target.ready();
    await source.ready;
    const sockets = await duplicates(pair.server, DECISION_SLOTS + 3);
    const sent = sockets.map((socket) => source.send(socket));
    const offers = await readOffers(target, DECISION_SLOTS);
    target.say(encodeFrame(FrameType.LEAVE, 0));
    const left: [string, string] = ["closed", `process ${Deno.pid} takes no more sockets`];
    for (const waiting of sent.slice(DECISION_SLOTS)) assertEquals(await outcome(waiting), left);
    assertEquals(await outcome(source.send(pair.server)), left);
    assertEquals((await source.closed)?.outcome, "closed");
    assertEquals((await target.next())?.type, FrameType.END);
    const [taken, ...others] = offers;
    assert(await target.take(taken!));
    await sent[0];
    for (const offer of others) {
      await target.drop(offer);
      target.say(encodeFrame(FrameType.REJECT, offer.sequence, encodeReason("it has left")));
    }
    for (const back of sent.slice(1, DECISION_SLOTS)) {
      assertEquals(await outcome(back), ["rejected", "it has left"]);
    }
    assertEquals(observe(source).held, 1);
    target.say(encodeFrame(FrameType.DONE, taken!.sequence));
    await until(() => observe(source).held === 0, "a target that has left still tells what it closes");
    for (const socket of sockets) socket.close();
  });
});

Deno.test("an object of another copy of the library is refused, and is left alone", async () => {
  const copy = await import(`../../sockets/socket.ts?copy=${crypto.randomUUID()}`);
  await withInProcessPair(async (source, received) => {
    const next = received.next();
    await source.ready;
    using pair = await connection();
    const bytes = new TextEncoder().encode("early");
    using foreign = copy.Socket.fromHandle(pair.server.detach(), { initialBytes: bytes }) as Socket;
    await assertRejects(() => source.send(foreign), TypeError, "it is not an object of this copy of @winsock/handoff");
    assertEquals([foreign.initialBytes, source.inFlight], [bytes, 0]);
    using other = await connection();
    const sending = source.send(other.server);
    (await next).value?.socket.close();
    await sending;
  });
});

Deno.test("no way a hand-off ends leaves a descriptor behind", async () => {
  const everyWay = async () => {
    await withInProcessPair(async (source, received) => {
      using taken = await connection();
      const sending = source.send(taken.server);
      (await received.next()).value?.socket.close();
      await sending;
    });
    await withInProcessPair(async (source, received, exit) => {
      using rejected = await connection();
      const sending = outcome(source.send(rejected.server));
      (await received.next()).value?.reject("no");
      await sending;
      using died = await connection();
      const dying = outcome(source.send(died.server));
      const { value } = await received.next();
      exit(1);
      assertEquals(await dying, ["target-exited", `process ${Deno.pid} exited with 1`]);
      // What it has seen it may still decide on, and so it has to.
      value?.reject("too late");
    }, { autoAccept: false });
    await withFakeTarget(async (source, target) => {
      using pair = await connection();
      target.ready();
      const sending = outcome(source.send(pair.server));
      await target.drop(await target.offer());
      target.say(new Uint8Array(64));
      await sending;
    });
    await withFakeTarget(async (source, target) => {
      using pair = await connection();
      const abort = new AbortController();
      target.ready();
      const sending = source.send(pair.server, { signal: abort.signal });
      const offer = await target.offer();
      abort.abort(new Error("enough"));
      await assertRejects(() => sending, Error, "enough");
      assertEquals(await target.take(offer), false);
    });
    await assertRejects(() => openSocket(new Uint8Array(628)), Error);
  };
  await everyWay();
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  const before = countDescriptors();
  for (let round = 0; round < 10; round++) await everyWay();
  await until(() => countDescriptors() <= before, `there are ${before} descriptors again, not ${countDescriptors()}`);
});
