// Shared listeners as the protocol has them: which frames are due when, what a violation is, and that nothing is accepted
// that the program does not get. One side is the library's, the other says what the test wants; both are in this process.
import { observe } from "../../handoff/source.ts";
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  connect,
  HandoffError,
  type HandoffSource,
  type HandoffStep,
  listen,
  type Listener,
  type SharedListener,
  type Socket,
  TRACE_CHANNEL,
} from "@winsock/handoff";
import { concat } from "@std/bytes/concat";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import {
  decodeCounts,
  decodeLimit,
  decodeReason,
  encodeCounts,
  encodeFrame,
  encodeLimit,
  encodeReason,
  type Frame,
  FrameType,
  NO_LIMIT,
  OfferedKind,
} from "../../handoff/protocol.ts";
import { SharedAccepting } from "../../handoff/pool/shared_accepting.ts";
import { connection } from "../kit/connections.ts";
import {
  type FakeSource,
  type FakeTarget,
  outcome,
  withFakeSource,
  withFakeTarget,
  withInProcessPair,
} from "../kit/handoffs.ts";
import { until, within } from "../kit/process.ts";

const { ACCEPT, PAUSE, STOP, ACCEPTING, PAUSED, STOPPED, COUNTS, TAKEN, DONE } = FrameType;

function listenHere(): Listener {
  return listen({ hostname: "127.0.0.1", port: 0 });
}

/** A pause in which whatever is going to happen happens. */
const pause = () => new Promise((resolve) => setTimeout(resolve, 100));

/** A target takes a listener, and has not answered ACCEPT yet. */
async function shareWith(
  source: HandoffSource,
  target: FakeTarget,
  listener: Listener,
  options: Parameters<HandoffSource["shareListener"]>[1] = {},
): Promise<{ share: SharedListener; sequence: number; limit: number }> {
  const sharing = source.shareListener(listener, options);
  const offer = await target.offer();
  assertEquals(new DataView(offer.payload.buffer, offer.payload.byteOffset).getUint32(0, true), OfferedKind.shared);
  assert(await target.take(offer));
  const share = await sharing;
  const frame = (await target.next())!;
  assertEquals([frame.type, frame.sequence], [ACCEPT, offer.sequence]);
  return { share, sequence: offer.sequence, limit: decodeLimit(frame.payload) };
}

function counts(sequence: number, accepted: number, closed: number): Uint8Array {
  return encodeFrame(COUNTS, sequence, encodeCounts(accepted, closed));
}

Deno.test("a source asks in order, and hears of each answer and of each connection", async () => {
  let released = 0;
  await withFakeTarget(async (source, target) => {
    using listener = listenHere();
    target.ready();
    const { share, sequence, limit } = await shareWith(source, target, listener, { limit: 7 });
    assertEquals([limit, share.accepted, observe(source).held], [7, 0, 0]);
    target.say(encodeFrame(ACCEPTING, sequence), counts(sequence, 3, 1));
    await until(() => share.accepted === 3, "it counts");
    assertEquals([share.open, observe(source).held, released], [2, 2, 1]);
    const order: string[] = [];
    const asked = [
      share.pause().then(() => order.push("paused")),
      share.resume({ limit: Infinity }).then(() => order.push("resumed")),
      share.pause().then(() => order.push("paused again")),
    ];
    const frames = [await target.next(), await target.next(), await target.next()] as Frame[];
    assertEquals(frames.map(({ type }) => type), [PAUSE, ACCEPT, PAUSE]);
    assertEquals(decodeLimit(frames[1]!.payload), NO_LIMIT);
    target.say(encodeFrame(PAUSED, sequence), encodeFrame(ACCEPTING, sequence), counts(sequence, 1, 0));
    target.say(encodeFrame(PAUSED, sequence));
    await Promise.all(asked);
    assertEquals(order, ["paused", "resumed", "paused again"]);
    const stopping = share.stop();
    assertEquals((await target.next())?.type, STOP);
    target.say(encodeFrame(STOPPED, sequence));
    await stopping;
    assertEquals([await share.stopped, share.open, observe(source).held], [undefined, 3, 3]);
    target.say(counts(sequence, 0, 3));
    await until(() => observe(source).held === 0, "all are closed");
    assertEquals(released, 4);
    assert(listener.addr.port > 0, "the listener is open here");
  }, { onRelease: () => void released++ });
});

/** What a target says of a listener on which it was told to accept, and has not answered; and what comes of it. */
const LIES: Record<string, [lie: (sequence: number) => Uint8Array[], reason: string]> = {
  "counts of a listener that it has not": [(sequence) => [counts(sequence + 1, 1, 0)], "Listener 2 is not shared"],
  "more closed than accepted": [
    (sequence) => [counts(sequence, 2, 3)],
    "COUNTS reports 3 closed connections, but listener 1 has 2",
  ],
  "counts of nothing": [(sequence) => [counts(sequence, 0, 0)], "COUNTS reports no connections"],
  "counts that are too short": [
    (sequence) => [encodeFrame(COUNTS, sequence, new Uint8Array(3))],
    "Expected COUNTS to have 4 bytes",
  ],
  "that it is paused, and was not asked": [(sequence) => [encodeFrame(PAUSED, sequence)], "Answer 22 is not due"],
  "that it accepts, twice": [
    (sequence) => [encodeFrame(ACCEPTING, sequence), encodeFrame(ACCEPTING, sequence)],
    "Answer 21 is not due",
  ],
  "that it has stopped, twice": [
    (sequence) => [counts(sequence, 1, 0), encodeFrame(STOPPED, sequence), encodeFrame(STOPPED, sequence)],
    "Listener 1 was stopped before",
  ],
  "that it accepted when it had stopped": [
    (sequence) => [counts(sequence, 2, 1), encodeFrame(STOPPED, sequence), counts(sequence, 1, 0)],
    "The target must not accept on listener 1",
  ],
  "something of a listener that is over": [
    (sequence) => [encodeFrame(STOPPED, sequence), encodeFrame(PAUSED, sequence)],
    "Listener 1 is not shared",
  ],
  "that a listener was closed as a connection is": [
    (sequence) => [encodeFrame(DONE, sequence)],
    "DONE is for socket 1",
  ],
  "a source's frame": [(sequence) => [encodeFrame(STOP, sequence)], "Frame type 7 is not an answer"],
};

for (const [name, [lie, reason]] of Object.entries(LIES)) {
  Deno.test(`a target that says ${name} ends its channel`, async () => {
    await withFakeTarget(async (source, target) => {
      using listener = listenHere();
      target.ready();
      const { share, sequence } = await shareWith(source, target, listener, { timeout: 300 });
      target.say(...lie(sequence));
      const failure = await within(5_000, source.closed);
      assertEquals([failure?.outcome, failure?.reason.includes(reason)], ["channel-broken", true], failure?.reason);
      // Whether it accepts is not known before its process has ended.
      const stopping = share.stop();
      if (!lie(sequence).some((frame) => frame[5] === STOPPED)) assertEquals((await outcome(stopping))[0], "timeout");
      target.exit(0);
      await within(5_000, share.stopped);
      await share.stop();
      assertEquals(share.open, 0);
    });
  });
}

Deno.test("a target that accepts while it is paused ends its channel", async () => {
  await withFakeTarget(async (source, target) => {
    using listener = listenHere();
    target.ready();
    const { share, sequence } = await shareWith(source, target, listener);
    const pausing = share.pause();
    target.say(encodeFrame(ACCEPTING, sequence), counts(sequence, 1, 0), encodeFrame(PAUSED, sequence));
    await pausing;
    target.say(counts(sequence, 0, 1), counts(sequence, 1, 0));
    const failure = await within(5_000, source.closed);
    assert(failure?.reason.includes("must not accept on listener"), failure?.reason);
  });
});

Deno.test("a target that stops by itself ends what was asked of it, and says why", async () => {
  await withFakeTarget(async (source, target) => {
    using listener = listenHere();
    target.ready();
    const { share, sequence } = await shareWith(source, target, listener);
    const pausing = share.pause();
    const resuming = outcome(share.resume());
    target.say(encodeFrame(STOPPED, sequence, encodeReason("no more")));
    await pausing;
    assertEquals(await resuming, ["closed", "no more"]);
    assertEquals((await share.stopped)?.reason, "no more");
    await share.stop();
    assertEquals([(await target.next())?.type, (await target.next())?.type], [PAUSE, ACCEPT]);
    const again = await shareWith(source, target, listener);
    assertEquals([again.sequence, observe(source).held], [sequence + 1, 0]);
  });
});

Deno.test("a worker that could not go on accepting gets the listener again, and is not ended for that", async () => {
  await withFakeTarget(async (source, target) => {
    using listener = listenHere();
    target.ready();
    await source.ready;
    const ended: number[] = [];
    const slot = {
      processId: 4242,
      state: "ready" as const,
      share: (...args: Parameters<HandoffSource["shareListener"]>) => source.shareListener(...args),
      endSilent: (processId: number) => void ended.push(processId),
    };
    const accepting = new SharedAccepting(listener, [slot], { data: "each", limit: 7, timeout: 1_000 });
    const takeListener = async () => {
      const offer = await target.offer();
      assert(await target.take(offer));
      assertEquals((await target.next())?.type, ACCEPT);
      return offer.sequence;
    };
    const first = await takeListener();
    target.say(encodeFrame(ACCEPTING, first));
    // The pool asks from time to time, and the worker stops before it has answered.
    assertEquals((await target.next())?.type, ACCEPT);
    target.say(encodeFrame(STOPPED, first, encodeReason("cannot accept")));
    const second = await takeListener();
    target.say(encodeFrame(ACCEPTING, second), counts(second, 2, 0));
    await until(() => observe(source).held === 2, "it accepts again");
    assertEquals(ended, []);
    const stopping = accepting.stop();
    for (let frame = await target.next(); frame?.type !== STOP; frame = await target.next());
    target.say(encodeFrame(STOPPED, second));
    await within(5_000, stopping);
  });
});

Deno.test("an answer that comes late is due all the same", async () => {
  await withFakeTarget(async (source, target) => {
    using listener = listenHere();
    target.ready();
    const { share, sequence } = await shareWith(source, target, listener, { timeout: 50 });
    target.say(encodeFrame(ACCEPTING, sequence));
    assertEquals((await outcome(share.pause()))[0], "timeout");
    assertEquals((await outcome(share.stop()))[0], "timeout");
    target.say(encodeFrame(PAUSED, sequence), encodeFrame(STOPPED, sequence));
    await within(5_000, share.stopped);
    await share.stop();
    assertEquals([(await target.next())?.type, (await target.next())?.type], [PAUSE, STOP], "each is asked once");
  });
});

Deno.test("an aborted signal takes the listener back, and it stays open", async () => {
  await withFakeTarget(async (source, target) => {
    using listener = listenHere();
    target.ready();
    const abort = new AbortController();
    const sharing = source.shareListener(listener, { signal: abort.signal });
    const offer = await target.offer();
    abort.abort(new Error("enough"));
    await assertRejects(() => sharing, Error, "enough");
    assertEquals(await target.take(offer), false);
    assert(listener.addr.port > 0);
    assertEquals(observe(source).held, 0);
  });
});

/** HELLO and READY; then the target has a listener. */
async function offerShared(source: FakeSource, listener: Listener, data?: Uint8Array): Promise<void> {
  await source.writeInput(source.hello());
  assertEquals((await source.next())?.type, FrameType.READY);
  source.channel.established();
  source.say(source.offer(listener, 1, { kind: OfferedKind.shared, ...(data && { data }) }));
  assertEquals((await source.next())?.type, TAKEN);
}

async function answers(source: FakeSource, count: number): Promise<[number, string][]> {
  const found: [number, string][] = [];
  while (found.length < count) {
    const frame = (await source.next())!;
    if (frame === undefined) return found;
    found.push([frame.type, frame.type === STOPPED ? decodeReason(frame.payload) : [...frame.payload].join(" ")]);
  }
  return found;
}

Deno.test("a target accepts from ACCEPT on, counts, and answers in order", async () => {
  await withFakeSource(async (source, received) => {
    using listener = listenHere();
    await offerShared(source, listener, new TextEncoder().encode('{"a":1}'));
    using _first = await connect({ port: listener.addr.port });
    const next = received.next();
    let got = false;
    next.then(() => got = true);
    await pause();
    assert(!got, "it was not told to accept");
    source.say(encodeFrame(ACCEPT, 1, encodeLimit(5)));
    const { value } = await within(5_000, next);
    assertEquals([value?.data, value?.initialBytes.length], [{ a: 1 }, 0]);
    await value!.accept();
    let refused: unknown;
    try {
      value!.reject("no");
    } catch (error) {
      refused = error;
    }
    assert(refused instanceof TypeError);
    assertEquals(await answers(source, 2), [[ACCEPTING, ""], [COUNTS, "1 0 0 0"]]);
    value!.socket.close();
    assertEquals(await answers(source, 1), [[COUNTS, "0 0 1 0"]]);
    source.say(encodeFrame(PAUSE, 1), encodeFrame(ACCEPT, 1, encodeLimit(1)), encodeFrame(PAUSE, 1));
    source.say(encodeFrame(STOP, 1), encodeFrame(PAUSE, 1), encodeFrame(STOP, 1));
    const after = received.next();
    assertEquals((await answers(source, 4)).map(([type]) => type), [PAUSED, ACCEPTING, PAUSED, STOPPED]);
    // What crosses STOPPED means nothing.
    source.say(encodeFrame(ACCEPT, 1, encodeLimit(1)));
    await pause();
    using pair = await connection();
    source.say(source.offer(pair.server, 2));
    (await within(5_000, after)).value!.socket.close();
    assertEquals((await answers(source, 1))[0]![0], TAKEN);
  });
});

Deno.test("what was accepted is counted before PAUSED and STOPPED", async () => {
  await withFakeSource(async (source, received) => {
    using listener = listenHere();
    await offerShared(source, listener);
    for (let round = 0; round < 10; round++) {
      source.say(encodeFrame(ACCEPT, 1, encodeLimit(100)));
      assertEquals(await answers(source, 1), [[ACCEPTING, ""]]);
      using _client = await connect({ port: listener.addr.port });
      const { value } = await within(5_000, received.next());
      source.say(encodeFrame(round < 9 ? PAUSE : STOP, 1));
      assertEquals(await answers(source, 2), [[COUNTS, "1 0 0 0"], [round < 9 ? PAUSED : STOPPED, ""]]);
      value!.socket.close();
      assertEquals(await answers(source, 1), [[COUNTS, "0 0 1 0"]]);
    }
  });
});

// On Windows a channel holds megabytes of answers.
const withSmallChannel = { ignore: Deno.build.os === "windows" };

Deno.test("while a source does not read, what is counted for it is added up", withSmallChannel, async () => {
  await withFakeSource(async (source, received) => {
    using listener = listenHere();
    await source.writeInput(source.hello());
    source.say(source.offer(listener, 1, { kind: OfferedKind.shared }));
    // Nothing is read until the end. The target has taken the listener after this.
    await new Promise((resolve) => setTimeout(resolve, 500));
    // More answers than the channel holds.
    const ACCEPTS = 20_000;
    let answered = 0;
    const count = (message: unknown) => void ((message as HandoffStep).step === "accepting" && answered++);
    subscribe(TRACE_CHANNEL, count);
    source.say(concat(Array.from({ length: ACCEPTS }, () => encodeFrame(ACCEPT, 1, encodeLimit(1_000)))));
    await until(() => answered === ACCEPTS, "it has answered");
    unsubscribe(TRACE_CHANNEL, count);
    const ROUNDS = 10;
    for (let round = 0; round < ROUNDS; round++) {
      const next = received.next();
      using _client = await connect({ port: listener.addr.port });
      (await within(20_000, next)).value!.socket.close();
      // Longer than counts wait.
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    source.channel.established();
    const seen = new Map<number, number>();
    let [accepted, closed] = [0, 0];
    while (closed < ROUNDS) {
      const { type, payload } = (await source.next())!;
      seen.set(type, (seen.get(type) ?? 0) + 1);
      if (type !== COUNTS) continue;
      const counts = decodeCounts(payload);
      accepted += counts.accepted;
      closed += counts.closed;
    }
    assertEquals([accepted, closed, seen.get(TAKEN)], [ROUNDS, ROUNDS, 1]);
    assert(seen.get(COUNTS)! <= 4, `they come in ${seen.get(COUNTS)} frames`);
  });
});

Deno.test("a source that breaks the rules of shared listeners ends the loop, and accepting", async () => {
  const cases: [name: string, frames: Uint8Array[], reason: string][] = [
    ["ACCEPT for what is not shared", [encodeFrame(ACCEPT, 9, encodeLimit(1))], "Listener 9 is not shared"],
    ["PAUSE without a number", [encodeFrame(PAUSE, 0)], "Listener 0 is not shared"],
    ["ACCEPT of nothing", [encodeFrame(ACCEPT, 1, encodeLimit(0))], "ACCEPT allows no connection"],
    ["ACCEPT without a limit", [encodeFrame(ACCEPT, 1)], "Expected ACCEPT to have 4 bytes, got 0"],
    ["STOP with a payload", [encodeFrame(STOP, 1, new Uint8Array(1))], "has no payload"],
    ["an answer", [encodeFrame(COUNTS, 1, encodeCounts(1, 0))], "Frame type 24 is for a source"],
  ];
  for (const [name, frames, reason] of cases) {
    await withFakeSource(async (source, received) => {
      using listener = listenHere();
      await offerShared(source, listener);
      source.say(encodeFrame(ACCEPT, 1, encodeLimit(5)));
      const next = received.next();
      assertEquals((await answers(source, 1))[0]![0], ACCEPTING);
      source.say(...frames);
      const [how, why] = await outcome(next);
      assertEquals([how, why.includes(reason)], ["channel-broken", true], `${name}: ${why}`);
      using _client = await connect({ port: listener.addr.port });
      (await within(5_000, listener.accept())).close();
    });
  }
});

Deno.test("garbage among the frames of a shared listener ends a channel or means nothing", async () => {
  const pick = (most: number) => Math.floor(Math.random() * most);
  for (let round = 0; round < 15; round++) {
    const type = [ACCEPT, PAUSE, STOP, ACCEPTING, PAUSED, STOPPED, COUNTS][pick(7)]!;
    const payload = crypto.getRandomValues(new Uint8Array(pick(7)));
    const garbage = encodeFrame(type, pick(3), payload);
    const shown = [...garbage].join(" ");
    await withFakeTarget(async (source, target) => {
      using listener = listenHere();
      target.ready();
      const { share, sequence } = await shareWith(source, target, listener, { timeout: 200 });
      target.say(garbage, garbage, encodeFrame(ACCEPTING, sequence));
      await pause();
      await share.stop().catch((error) => assert(error instanceof HandoffError, shown));
      target.exit(0);
      await within(5_000, share.stopped);
      assertEquals(observe(source).held, 0, shown);
    });
    await withFakeSource(async (source, received) => {
      using listener = listenHere();
      await offerShared(source, listener);
      source.say(garbage, garbage);
      const ended = within(5_000, received.return());
      await ended;
    });
  }
});

Deno.test("an abort in the turn in which a connection came loses nothing: the loop has it, or it waits", async () => {
  let taken = 0;
  for (let turn = 0; turn < 40; turn++) {
    const abort = new AbortController();
    await withInProcessPair(async (source, received) => {
      using listener = listenHere();
      const share = await source.shareListener(listener);
      const next = received.next();
      using client = await connect({ port: listener.addr.port });
      for (let count = 0; count < turn % 8; count++) await new Promise((resolve) => setTimeout(resolve, 0));
      abort.abort();
      const { value } = await within(5_000, next);
      const socket = value === undefined ? await within(5_000, listener.accept()) : value.socket as Socket;
      assertEquals(socket.remoteAddr, client.localAddr);
      socket.close();
      if (value !== undefined) taken++;
      assertEquals((await within(5_000, share.stopped))?.outcome, "closed");
      assertEquals(share.accepted, value === undefined ? 0 : 1, "the count comes before STOPPED");
    }, { signal: abort.signal });
  }
  assert(taken > 0, "some came before the abort");
});

Deno.test("sockets that are handed off and connections that are accepted come to one loop", async () => {
  await withInProcessPair(async (source, received) => {
    using one = listenHere();
    using other = listenHere();
    const shares = [
      await source.shareListener(one, { data: "one" }),
      await source.shareListener(other, { data: "other" }),
    ];
    const clients = [];
    const seen: unknown[] = [];
    for (let round = 0; round < 5; round++) {
      using pair = await connection();
      clients.push(await connect({ port: one.addr.port }), await connect({ port: other.addr.port }));
      const sending = source.send(pair.server, { data: "sent" });
      for (let count = 0; count < 3; count++) {
        const { value } = await within(5_000, received.next());
        seen.push(value!.data);
        value!.socket.close();
      }
      await sending;
    }
    assertEquals(seen.toSorted(), [...Array(5).fill("one"), ...Array(5).fill("other"), ...Array(5).fill("sent")]);
    await Promise.all(shares.map((share) => share.stop()));
    await until(() => observe(source).held === 0, "all are closed");
    for (const client of clients) client.close();
  });
});
