// Both ways: messages between a source and its target, and sockets that a target hands back.
//
// One decision for each, as on the way there: who owns a socket, and whether a program has got a message, is known at every
// moment. Both ends are in this process here, or one of them says what the test wants; `migrating_sockets_test.ts` has
// processes.
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  duplicateSocket,
  type HandoffMessage,
  HandoffSource,
  type HandoffStep,
  INVALID_SOCKET,
  listen,
  listenDatagram,
  Listener,
  openSocket,
  receive,
  Socket,
  TRACE_CHANNEL,
} from "@winsock/handoff";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { concat } from "@std/bytes/concat";
import { DECISION_SLOTS, type OfferDecisions } from "../../ffi/decisions.ts";
import { encodeFrame, encodeOffer, type Frame, FrameType, OfferedKind } from "../../handoff/protocol.ts";
import { connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { fakeChild, outcome, withFakeSource, withFakeTarget, withInProcessPair } from "../kit/handoffs.ts";
import { countDescriptors } from "../kit/descriptors.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { until, within } from "../kit/process.ts";

const NO_BYTES = new Uint8Array(0);

/** The next message. */
async function nextOf<Item>(messages: AsyncIterable<Item>): Promise<Item | undefined> {
  const { value } = await within(10_000, messages[Symbol.asyncIterator]().next());
  return value;
}

/** The next socket that is handed back, which is to be a connection. */
async function returned(messages: AsyncIterable<HandoffMessage>): Promise<{ socket: Socket; data: unknown }> {
  const message = await nextOf(messages);
  assert(message?.socket instanceof Socket, "a connection is handed back");
  return { socket: message.socket, data: message.data };
}

/** Hands a connection off and takes it in the target. */
async function give(
  source: HandoffSource,
  received: ReturnType<typeof receive>,
  socket: Socket,
  data?: unknown,
): Promise<Socket> {
  const [taken] = await Promise.all([received.next(), source.send(socket, { data })]);
  return taken.value!.socket as Socket;
}

const VALUES: readonly unknown[] = [null, true, 0, "ü\u0000\n", [1, [2]], { a: { b: [] } }, "x".repeat(1_000_000)];

Deno.test("messages arrive in order, both ways, once each", async () => {
  await withInProcessPair(async (source, received) => {
    for (const [post, messages] of [[source, received.messages], [received, source.messages]] as const) {
      const sent = Promise.all(VALUES.map((value) => post.postMessage(value)));
      for (const value of VALUES) {
        const message = await nextOf<unknown>(messages);
        assertEquals(post === source ? message : (message as HandoffMessage).data, value);
      }
      await sent;
    }
  });
});

Deno.test("messages publish no steps, and sockets do, both ways", async () => {
  const steps: string[] = [];
  const onStep = (message: unknown) => {
    const { step, sequence } = message as HandoffStep;
    if (sequence > 0) steps.push(step);
  };
  subscribe(TRACE_CHANNEL, onStep);
  try {
    await withInProcessPair(async (source, received) => {
      await Promise.all([nextOf<unknown>(received.messages), source.postMessage(1)]);
      await Promise.all([nextOf<unknown>(source.messages), received.postMessage(2)]);
      assertEquals(steps, []);
      const { client, server } = await connection();
      using _client = client;
      const socket = await give(source, received, server);
      await Promise.all([returned(source.messages), received.send(socket)]);
      assertEquals(steps.filter((step) => step === "offered" || step === "taken-received").length, 4);
    });
  } finally {
    unsubscribe(TRACE_CHANNEL, onStep);
  }
});

Deno.test("a message is sent when the other program has got it, and not before", async () => {
  await withInProcessPair(async (source, received) => {
    for (const [post, messages] of [[source, received.messages], [received, source.messages]] as const) {
      let sent = false;
      const sending = post.postMessage("one").then(() => sent = true);
      await new Promise((resolve) => setTimeout(resolve, 100));
      assertEquals(sent, false);
      await nextOf<unknown>(messages);
      await within(5_000, sending);
    }
  });
});

Deno.test("what JSON cannot express, what is too long, and an aborted signal are refused at once", async () => {
  await withInProcessPair(async (source, received) => {
    const loop: Record<string, unknown> = {};
    loop.self = loop;
    for (const post of [source, received]) {
      await assertRejects(() => post.postMessage(() => {}), TypeError, "Invalid `message`: must be a JSON value");
      await assertRejects(() => post.postMessage(1n), TypeError);
      await assertRejects(() => post.postMessage(loop), TypeError);
      await assertRejects(
        () => post.postMessage("x".repeat(1024 * 1024)),
        RangeError,
        "must have at most 1048576 bytes",
      );
      const reason = new Error("not now");
      await assertRejects(() => post.postMessage(1, { signal: AbortSignal.abort(reason) }), Error, "not now");
    }
  });
});

Deno.test("a message that nobody takes comes back: at its deadline, and by its signal", async () => {
  await withInProcessPair(
    async (source, received) => {
      for (const [post, messages] of [[source, received.messages], [received, source.messages]] as const) {
        const [kind, reason] = await outcome(post.postMessage("late"));
        assertEquals([kind, reason], ["timeout", `process ${Deno.pid} did not take it in 300 ms`]);
        const abort = new AbortController();
        const sending = post.postMessage("aborted", { signal: abort.signal });
        setTimeout(() => abort.abort(new Error("changed my mind")), 50);
        await assertRejects(() => sending, Error, "changed my mind");
        // Neither is seen any more.
        const sent = post.postMessage("seen");
        const message = await nextOf<unknown>(messages);
        assertEquals(post === source ? message : (message as HandoffMessage).data, "seen");
        await sent;
      }
    },
    { sendTimeout: 300 },
    { sendTimeout: 300 },
  );
});

Deno.test("messages that nobody takes are bounded, and do not hold up sockets", async () => {
  await withInProcessPair(async (source, received) => {
    const posts = Array.from({ length: 1024 }, (_, index) => source.postMessage(index));
    posts.forEach((post) => post.catch(() => {}));
    assertEquals(await outcome(source.postMessage("one too many")), ["overloaded", "1024 messages wait already"]);
    const large = Array.from({ length: 40 }, () => received.postMessage("x".repeat(500_000)));
    large.forEach((post) => post.catch(() => {}));
    let refused = 0;
    for (const post of large) post.catch(({ outcome }) => outcome === "overloaded" && refused++);
    await new Promise((resolve) => setTimeout(resolve, 200));
    assertEquals(refused, 40 - 33, "16 MiB");
    using pair = await connection();
    using socket = await give(source, received, pair.server);
    assert(socket.handle !== INVALID_SOCKET);
    assertEquals(source.inFlight, 0, "messages are not sockets");
    // All that was posted still arrives.
    let count = 0;
    for await (const message of received.messages) {
      assertEquals(message, count++);
      if (count === 1024) break;
    }
    for (const post of posts) await post;
    for (let index = 0; index < 33; index++) await nextOf(source.messages);
    await Promise.allSettled(large);
  });
});

Deno.test("several loops share the messages, and one that is left takes nothing more", async () => {
  await withInProcessPair(async (source, received) => {
    const [one, other] = [source.messages[Symbol.asyncIterator](), source.messages[Symbol.asyncIterator]()];
    const first = one.next();
    const second = other.next();
    assertEquals(await one.return!(), { done: true, value: undefined });
    assertEquals(await first, { done: true, value: undefined }, "its call ends");
    assertEquals(await one.next(), { done: true, value: undefined });
    await received.postMessage("for the other");
    assertEquals((await second).value, { data: "for the other" });
    const sent = received.postMessage("for a third");
    for await (const { data } of source.messages) {
      assertEquals(data, "for a third");
      break;
    }
    await sent;
  });
});

Deno.test("a connection that is handed back goes on, with what was read ahead and its data", async () => {
  await assertNothingLeaks(async () => {
    await withInProcessPair(async (source, received) => {
      using pair = await connection();
      using client = pair.client.toConn();
      const there = await give(source, received, pair.server);
      await writeText(client, "line\nrest");
      assertEquals((await there.read(5))?.byteLength, 5);
      const ahead = await there.read(2);
      there.unread(ahead!);
      const sending = received.send(there, { data: { room: 7 } });
      const { socket, data } = await returned(source.messages);
      await within(5_000, sending);
      assertEquals([data, there.handle], [{ room: 7 }, INVALID_SOCKET]);
      assertEquals(new TextDecoder().decode(socket.initialBytes), "re");
      using conn = socket.toConn();
      assertEquals(await readText(conn, 4), "rest");
      await writeText(conn, "answer");
      assertEquals(await readText(client, 6), "answer");
      conn.close();
      assert(await readEnd(client), "no other copy is open");
    });
  });
});

Deno.test("a connection that is handed back takes the bytes along that are given for it", async () => {
  await withInProcessPair(async (source, received) => {
    using pair = await connection();
    const there = await give(source, received, pair.server);
    there.unread(new TextEncoder().encode("old"));
    const sending = received.send(there, { initialBytes: new TextEncoder().encode("new") });
    const { socket } = await returned(source.messages);
    await within(5_000, sending);
    assertEquals(new TextDecoder().decode(socket.initialBytes), "new");
    socket.close();
  });
});

Deno.test("listeners and datagram sockets are handed back too, and sockets that never came from the source", async () => {
  await withInProcessPair(async (source, received) => {
    const listener = listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    const sending = received.send(listener, { data: "listener" });
    const message = await nextOf(source.messages);
    await sending;
    assert(message?.socket instanceof Listener);
    using back = message.socket;
    assertEquals([back.addr.port, listener.handle], [port, INVALID_SOCKET]);

    const datagram = listenDatagram({ hostname: "127.0.0.1", port: 0 });
    const address = datagram.addr;
    const sendingOther = received.send(datagram);
    const other = await nextOf(source.messages);
    await sendingOther;
    assertEquals(other?.socket?.constructor.name, "DatagramSocket");
    if (other?.socket !== undefined && "addr" in other.socket) assertEquals(other.socket.addr, address);
    other?.socket?.close();

    using pair = await connection();
    const sendingOwn = received.send(pair.server);
    const { socket } = await returned(source.messages);
    await sendingOwn;
    socket.close();
  });
});

Deno.test("a socket that the source does not take stays with the target, unchanged", async () => {
  await assertNothingLeaks(async () => {
    await withInProcessPair(async (source, received) => {
      using pair = await connection();
      using client = pair.client.toConn();
      using there = await give(source, received, pair.server);
      there.unread(new TextEncoder().encode("kept"));
      for (let round = 0; round < 3; round++) {
        assertEquals((await outcome(received.send(there)))[0], "timeout");
      }
      const abort = new AbortController();
      setTimeout(() => abort.abort(new Error("no")), 10);
      await assertRejects(() => received.send(there, { signal: abort.signal }), Error, "no");
      await writeText(client, " whole");
      using conn = there.toConn();
      assertEquals(await readText(conn, 10), "kept whole");
    }, { sendTimeout: 40 });
  }, 12);
});

Deno.test("a connection goes there and back a hundred times, and nothing is left open", async () => {
  await withInProcessPair(async (source, received) => {
    using pair = await connection();
    using client = pair.client.toConn();
    let socket = pair.server;
    let before = 0;
    // On Windows each of the 64 decisions each way is made when it is first needed.
    for (let round = 0; round < 170; round++) {
      if (round === 70) before = countDescriptors();
      await writeText(client, String(round % 10));
      const there = await give(source, received, socket, round);
      const sending = received.send(there, { data: round });
      const back = await returned(source.messages);
      await sending;
      assertEquals(back.data, round);
      socket = back.socket;
    }
    await until(() => countDescriptors() < before + 20, "all copies are closed");
    using conn = socket.toConn();
    assertEquals(await readText(conn, 170), "0123456789".repeat(17));
  });
});

Deno.test("while a socket is on its way back nothing else can be done with it", async () => {
  await withInProcessPair(async (source, received) => {
    using pair = await connection();
    const there = await give(source, received, pair.server);
    const sending = received.send(there);
    await assertRejects(() => received.send(there), TypeError, "it is being handed off");
    await assertRejects(() => there.read(1), TypeError, "it is being handed off");
    const { socket } = await returned(source.messages);
    await sending;
    socket.close();
    await assertRejects(() => received.send(there), Error, "it was closed, handed off or released before");
  });
});

Deno.test("a source that is closed, and a target that leaves, end the messages of both", async () => {
  for (const first of ["source", "target"]) {
    await withInProcessPair(async (source, received) => {
      using pair = await connection();
      const there = await give(source, received, pair.server);
      const ends = [nextOf<unknown>(source.messages), nextOf(received.messages)];
      if (first === "source") await source.close();
      else await received.return();
      assertEquals((await outcome(received.postMessage("after")))[0], "closed");
      assertEquals((await outcome(received.send(there)))[0], "closed");
      assert(there.handle !== INVALID_SOCKET);
      there.close();
      if (first === "target") await source.closed;
      assertEquals((await outcome(source.postMessage("after")))[0], "closed");
      assertEquals(await ends[1], undefined);
      if (first === "source") assertEquals(await ends[0], undefined);
    });
  }
});

Deno.test("what waits when the source is closed comes back to the target", async () => {
  await withInProcessPair(async (source, received) => {
    using pair = await connection();
    using there = await give(source, received, pair.server);
    const sending = outcome(received.send(there));
    const posting = outcome(received.postMessage("waits"));
    await new Promise((resolve) => setTimeout(resolve, 100));
    await source.close();
    assertEquals([(await sending)[0], (await posting)[0]], ["closed", "closed"]);
    assert(there.handle !== INVALID_SOCKET);
  });
});

Deno.test("the messages of a target that has ended can still be read, and its sockets are not the source's", async () => {
  await withInProcessPair(async (source, received, exit) => {
    const posting = received.postMessage("last words");
    using pair = await connection();
    const there = await give(source, received, pair.server);
    const sending = received.send(there);
    // Both have arrived, and nobody has asked for them.
    await new Promise((resolve) => setTimeout(resolve, 200));
    exit(3);
    assertEquals((await source.closed)?.reason, `process ${Deno.pid} exited with 3`);
    assertEquals(await nextOf(source.messages), { data: "last words" });
    assertEquals(await nextOf(source.messages), undefined);
    await within(5_000, posting.catch(() => {}));
    await sending.then(() => assert(false, "it is not the source's"), () => {});
    there.close();
  });
});

Deno.test("a target that is not trusted sends messages, and no sockets", async () => {
  await withInProcessPair(
    async (source, received) => {
      const posting = received.postMessage({ may: "speak" });
      assertEquals(await nextOf(source.messages), { data: { may: "speak" } });
      await posting;
      using pair = await connection();
      using there = await give(source, received, pair.server);
      const [kind, reason] = await outcome(received.send(there));
      assertEquals([kind, reason], [
        "rejected",
        `process ${Deno.pid} takes no sockets from a target that it does not trust`,
      ]);
      assert(there.handle !== INVALID_SOCKET);
    },
    {},
    { trusted: false },
  );
});

Deno.test("what is sent before the channel is open waits for it", async () => {
  const { child, input, exit } = fakeChild();
  const received = receive({ input });
  const posting = received.postMessage("early");
  const source = new HandoffSource(child);
  try {
    assertEquals(await nextOf(source.messages), { data: "early" });
    await within(5_000, posting);
  } finally {
    exit(0);
    await source.closed;
    await received.return();
  }
});

Deno.test("a target whose source never speaks cannot send", async () => {
  const input = new ReadableStream<Uint8Array>({ start: (controller) => setTimeout(() => controller.close(), 50) });
  const received = receive({ input });
  const reason = new Error("no longer");
  await assertRejects(() => received.postMessage(1, { signal: AbortSignal.abort(reason) }), Error, "no longer");
  const abort = new AbortController();
  setTimeout(() => abort.abort(reason), 10);
  await assertRejects(() => received.postMessage(1, { signal: abort.signal }), Error, "no longer");
  assertEquals((await outcome(received.postMessage("into the void")))[0], "closed");
  await received.return();
});

/** What a target that breaks the rules sends, and what its source says about it. */
const VIOLATIONS: Record<string, [frames: Uint8Array[], reason: string, trusted?: boolean]> = {
  "an offer twice": [[message(1), message(1)], "Socket 1 is offered twice"],
  "more than there are slots": [
    Array.from({ length: 65 }, (_, index) => message(index + 1)),
    "More sockets are offered than there are slots",
  ],
  "more bytes than may wait": [
    Array.from({ length: 6 }, (_, index) => message(index + 1, "x".repeat(900_000))),
    "More than 4194304 bytes are offered and not answered",
  ],
  "a withdrawal of nothing": [[encodeFrame(FrameType.WITHDRAW, 9)], "WITHDRAW is for socket 9, which was not offered"],
  "a message with a blob": [[offer(OfferedKind.message, new Uint8Array(628))], "OFFER of a message has a socket"],
  "a shared listener": [[offer(OfferedKind.shared, new Uint8Array(628))], "An offer of kind 5 is not for this source"],
  "a socket without a blob": [[offer(OfferedKind.connection, NO_BYTES)], "OFFER 1 has no blob"],
  "a socket of a target that is not trusted": [
    [offer(OfferedKind.connection, new Uint8Array(628))],
    "An offer of kind 1 is not for this source",
    false,
  ],
  "a larger message than there may be": [
    [encodeFrame(FrameType.OFFER, 1, new Uint8Array(1024 * 1024 + 21))],
    "A frame announces 1048597 bytes, more than 1048596",
    false,
  ],
  "a hello": [[encodeFrame(FrameType.HELLO, 0, new Uint8Array(52))], "Frame type 1 is not an answer"],
};

function offer(kind: number, blob: Uint8Array, sequence = 1, data = NO_BYTES): Uint8Array {
  return encodeFrame(
    FrameType.OFFER,
    sequence,
    ...encodeOffer({ kind, decision: 0n, blob, data, initialBytes: NO_BYTES }),
  );
}

function message(sequence: number, text = "hi"): Uint8Array {
  return offer(OfferedKind.message, NO_BYTES, sequence, new TextEncoder().encode(JSON.stringify(text)));
}

// On Windows an offer has the handle of a decision, which these do not have.
for (const [what, [frames, reason, trusted = true]] of Object.entries(VIOLATIONS)) {
  Deno.test(`a target that sends ${what} ends its channel`, async () => {
    await assertNothingLeaks(async () => {
      await withFakeTarget(async (source, target) => {
        target.ready();
        await source.ready;
        target.say(...frames);
        const failure = await within(10_000, source.closed);
        assertEquals(failure?.outcome, "channel-broken");
        assert(failure!.reason.includes(reason), failure!.reason);
      }, { trusted });
    }, 6);
  });
}

/** Offers messages and withdraws them until the other side has had enough, and never reads what it answers. */
async function withdrawWithoutEnd(say: (frames: Uint8Array) => void, enough: Promise<unknown>): Promise<void> {
  let over = false;
  enough.then(() => over = true, () => over = true);
  for (let sequence = 1; !over && sequence < 500_000;) {
    const frames: Uint8Array[] = [];
    for (let count = 0; count < 1_000; count++, sequence++) {
      frames.push(message(sequence), encodeFrame(FrameType.WITHDRAW, sequence));
    }
    say(concat(frames));
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

Deno.test("a target that withdraws what it offers, and reads no answers, ends its channel", async () => {
  await withFakeTarget(async (source, target) => {
    target.ready();
    await source.ready;
    await withdrawWithoutEnd((frames) => target.say(frames), source.closed);
    const failure = await within(1_000, source.closed);
    assertEquals(failure?.outcome, "channel-broken");
    assert(failure!.reason.includes("answers have not been read"), failure!.reason);
  }, { trusted: false });
});

Deno.test("a source that withdraws what it offers, and reads no answers, ends its channel", async () => {
  await withFakeSource(async (source, received) => {
    await source.writeInput(source.hello());
    const ended = outcome(received.next());
    await withdrawWithoutEnd((frames) => source.say(frames), ended);
    const [how, why] = await ended;
    assertEquals([how, why.includes("answers have not been read")], ["channel-broken", true], why);
  });
});

/** Offers messages so that all slots are always in use, as a correct process may. */
async function offerAlways(
  count: number,
  decisions: OfferDecisions,
  say: (frames: Uint8Array) => void,
  next: () => Promise<Frame | undefined>,
): Promise<void> {
  const offerNext = (sequence: number) => {
    const decision = decisions.open(sequence % DECISION_SLOTS);
    const data = new TextEncoder().encode(`${sequence}`);
    const parts = encodeOffer({ kind: OfferedKind.message, decision, blob: NO_BYTES, data, initialBytes: NO_BYTES });
    say(encodeFrame(FrameType.OFFER, sequence, ...parts));
  };
  for (let sequence = 1; sequence <= DECISION_SLOTS; sequence++) offerNext(sequence);
  for (let answered = 1; answered <= count; answered++) {
    const frame = await next();
    assertEquals([frame?.type, frame?.sequence], [FrameType.TAKEN, answered]);
    if (answered + DECISION_SLOTS <= count) offerNext(answered + DECISION_SLOTS);
  }
}

Deno.test("a process that always has as many offers on their way as there are slots is not ended, on either side", async () => {
  const COUNT = 5_000;
  const take = async (messages: AsyncIterable<unknown>) => {
    let taken = 0;
    for await (const _ of messages) if (++taken === COUNT) return;
  };
  await withFakeTarget(async (source, target) => {
    target.ready();
    await source.ready;
    const taking = take(source.messages);
    await offerAlways(COUNT, target.channel.decisions.back(), (frame) => target.say(frame), target.next);
    await within(5_000, taking);
  });
  await withFakeSource(async (source, received) => {
    await source.writeInput(source.hello());
    assertEquals((await source.next())?.type, FrameType.READY);
    source.channel.established();
    const taking = take(received.messages);
    await offerAlways(COUNT, source.channel.decisions, (frame) => source.say(frame), source.next);
    await within(5_000, taking);
  });
});

Deno.test("what follows an answer that is not valid is not read, also while the source is being closed", async () => {
  await withFakeTarget(async (source, target) => {
    target.ready();
    await source.ready;
    const next = source.messages[Symbol.asyncIterator]().next();
    // More than the channel holds, so that the end waits for the target to read it.
    const lost = Array.from({ length: 8 }, () => outcome(source.postMessage("x".repeat(1_000_000))));
    const closing = source.close();
    for (const [how] of await Promise.all(lost)) assertEquals(how, "timeout");
    target.say(encodeFrame(FrameType.DONE, 99));
    await new Promise((resolve) => setTimeout(resolve, 100));
    target.channel.decisions.back().open(1);
    target.say(message(1));
    assertEquals((await within(5_000, next)).done, true);
    await within(5_000, closing);
  }, { sendTimeout: 1_000 });
});

Deno.test("a message that is not JSON, and a blob of nothing, are rejected, and the channel goes on", async () => {
  await withFakeTarget(async (source, target) => {
    target.ready();
    await source.ready;
    target.say(offer(OfferedKind.message, NO_BYTES, 1, new TextEncoder().encode("{")));
    const first = await target.next();
    assertEquals([first?.type, first?.sequence], [FrameType.REJECT, 1]);
    target.say(offer(OfferedKind.connection, new Uint8Array(628), 2));
    const second = await target.next();
    assertEquals([second?.type, second?.sequence], [FrameType.REJECT, 2]);
    using pair = await connection();
    const sending = source.send(pair.server);
    assert(await target.take(await target.offer()));
    await sending;
  });
});

Deno.test("a source that takes after the target has withdrawn gets nothing, and the target keeps the socket", async () => {
  await assertNothingLeaks(async () => {
    await withFakeTarget(async (source, target) => {
      target.ready();
      await source.ready;
      using pair = await connection();
      const decisions = target.channel.decisions.back();
      const say = (sequence: number) => {
        const decision = decisions.open(sequence);
        const blob = duplicateSocket(pair.server, Deno.pid);
        const payload = encodeOffer({
          kind: OfferedKind.connection,
          decision,
          blob,
          data: NO_BYTES,
          initialBytes: NO_BYTES,
        });
        target.say(encodeFrame(FrameType.OFFER, sequence, ...payload));
      };
      say(1);
      await new Promise((resolve) => setTimeout(resolve, 100));
      // By its decision alone: no frame hints at it.
      assert(decisions.decide(1));
      say(2);
      const { socket } = await returned(source.messages);
      const answers = [await target.next(), await target.next()].map((frame) => [frame?.type, frame?.sequence]);
      assertEquals(answers, [[FrameType.REJECT, 1], [FrameType.TAKEN, 2]]);
      assertEquals(decisions.decide(2), false, "the source was the first");
      socket.close();
    });
  }, 12);
});

Deno.test("garbage after a message ends the channel, and nothing stays open", async () => {
  await assertNothingLeaks(async () => {
    await withFakeTarget(async (source, target) => {
      target.ready();
      await source.ready;
      using pair = await connection();
      const decision = target.channel.decisions.back().open(1);
      const blob = duplicateSocket(pair.server, Deno.pid);
      const payload = encodeOffer({
        kind: OfferedKind.connection,
        decision,
        blob,
        data: NO_BYTES,
        initialBytes: NO_BYTES,
      });
      target.say(encodeFrame(FrameType.OFFER, 1, ...payload));
      await new Promise((resolve) => setTimeout(resolve, 150));
      target.say(crypto.getRandomValues(new Uint8Array(64)));
      assertEquals((await within(10_000, source.closed))?.outcome, "channel-broken");
      assertEquals(await nextOf(source.messages), undefined);
      // It was closed here and not shut down.
      using copy = await openSocket(duplicateSocket(pair.server, Deno.pid), { kind: "connection" });
      assert(copy.handle !== INVALID_SOCKET);
    });
  }, 12);
});

Deno.test("a thousand messages each way at once arrive once each, in order", async () => {
  await withInProcessPair(async (source, received) => {
    const count = async (messages: AsyncIterable<unknown>) => {
      const got: number[] = [];
      for await (const message of messages) {
        got.push(typeof message === "number" ? message : (message as HandoffMessage).data as number);
        if (got.length === 1_000) return got;
      }
      return got;
    };
    const expected = Array.from({ length: 1_000 }, (_, index) => index);
    const counting = [count(source.messages), count(received.messages)];
    await Promise.all(expected.flatMap((index) => [source.postMessage(index), received.postMessage(index)]));
    for (const got of await Promise.all(counting)) assertEquals(got, expected);
    await until(() => source.inFlight === 0, "nothing is on its way");
  });
});
