// The target's side of the protocol: what it takes, when, and what it answers. Sources are in this process: the library's
// own, or one that says what the test wants.
//
// Of the rules of a hand-off this file shows: what cannot be opened is rejected and never taken; a socket is taken only
// into a call that waits for it; what is not taken is closed and nothing else is done to it; every OFFER has one answer.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { HandoffError, HandoffSource, listen, receive, type ReceiveOptions, type Socket } from "@winsock/handoff";
import { observe } from "../../handoff/source.ts";
import { INVALID_SOCKET } from "../../ffi/platform.ts";
import { systemCalls } from "../../ffi/system.ts";
import { decodeReason, encodeFrame, encodeOffer, FrameType, OfferedKind } from "../../handoff/protocol.ts";
import { connection, readEnd, readText, writeText } from "../kit/connections.ts";
import {
  duplicates,
  fakeChild,
  type FakeSource,
  isOpen,
  outcome,
  withFakeSource,
  withInProcessPair,
} from "../kit/handoffs.ts";
import { needs } from "../kit/needs.ts";
import { until, within } from "../kit/process.ts";
import { countListeners } from "../kit/signals.ts";

type Received = ReturnType<typeof receive>;

/** Says HELLO, and waits for READY. */
async function greet(source: FakeSource): Promise<void> {
  await source.writeInput(source.hello());
  assertEquals((await source.next())?.type, FrameType.READY);
  source.channel.established();
}

/** The next answer: its type, its number, and the reason of a REJECT. */
async function answer(source: FakeSource): Promise<[type: number | undefined, sequence?: number, reason?: string]> {
  const frame = await source.next();
  if (frame === undefined) return [undefined];
  const { type, sequence, payload } = frame;
  return type === FrameType.REJECT ? [type, sequence, decodeReason(payload)] : [type, sequence];
}

/** A pause in which whatever is going to happen happens. */
const pause = () => new Promise((resolve) => setTimeout(resolve, 100));

Deno.test("nothing is taken ahead of the loop", async () => {
  await withFakeSource(async (source, received) => {
    const first = received.next();
    await greet(source);
    using pair = await connection();
    const copies = await duplicates(pair.server, 3);
    source.say(...copies.map((copy, index) => source.offer(copy, index + 1)));
    (await within(5_000, first)).value?.socket.close();
    assertEquals([await answer(source), await answer(source)], [[FrameType.TAKEN, 1], [FrameType.DONE, 1]]);
    await pause();
    // The program asks for no more, and the source can have them back at any moment.
    assertEquals([source.decide(1), source.decide(2), source.decide(3)], [false, true, true]);
    for (const copy of copies) copy.close();
  });
});

Deno.test("a target that never asks for a socket takes none, and one that was withdrawn is passed over", async () => {
  await withFakeSource(async (source, received) => {
    const first = received.next();
    await greet(source);
    using pair = await connection();
    const copies = await duplicates(pair.server, 4);
    source.say(...copies.map((copy, index) => source.offer(copy, index + 1)));
    (await within(5_000, first)).value?.socket.close();
    // Withdrawn by its decision alone; the frame that hints at it comes late, or never.
    assert(source.decide(2));
    source.say(encodeFrame(FrameType.WITHDRAW, 3));
    assert(source.decide(3));
    const { value } = await within(5_000, received.next());
    const answers = [await answer(source), await answer(source), await answer(source), await answer(source)];
    const withdrawn = answers.filter(([type]) => type === FrameType.REJECT);
    assertEquals(withdrawn.toSorted(), [[FrameType.REJECT, 2, "it was withdrawn"], [
      FrameType.REJECT,
      3,
      "it was withdrawn",
    ]]);
    assertEquals(await answer(source), [FrameType.TAKEN, 4]);
    value?.socket.close();
    // A WITHDRAW that crosses the answer means nothing.
    source.say(encodeFrame(FrameType.WITHDRAW, 2), encodeFrame(FrameType.WITHDRAW, 4));
    assertEquals(await answer(source), [FrameType.DONE, 4]);
    for (const copy of copies) copy.close();
  });
});

Deno.test("what was withdrawn, rejected or never seen does not keep the connection open, nor ends it for others", async () => {
  await withFakeSource(async (source, received) => {
    const first = received.next();
    await greet(source);
    using pair = await connection();
    using client = pair.client.toConn();
    using server = pair.server;
    const copies = await duplicates(server, 3);
    source.say(...copies.map((copy, index) => source.offer(copy, index + 1)));
    for (const copy of copies) copy.close();
    (await within(5_000, first)).value?.reject("no");
    assert(source.decide(2));
    source.say(encodeFrame(FrameType.WITHDRAW, 2));
    await received.return();
    const answers = [await answer(source), await answer(source), await answer(source), await answer(source)];
    const rejected = answers.filter(([type]) => type === FrameType.REJECT).map(([_, sequence]) => sequence);
    assertEquals(rejected.toSorted(), [1, 2, 3]);
    assert(answers.some(([type]) => type === FrameType.LEAVE));
    // It was closed there, and not shut down: this process's own copy goes on.
    using conn = server.toConn();
    await writeText(conn, "alive");
    assertEquals(await readText(client, 5), "alive");
    conn.close();
    assert(await readEnd(client), "there is no other copy");
  }, { autoAccept: false });
});

Deno.test("what is not wanted or cannot be opened is rejected before anybody decides", async () => {
  await withFakeSource(async (source, received) => {
    const taking = received.next();
    await greet(source);
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    using pair = await connection();
    source.say(source.offer(listener, 1, { kind: OfferedKind.listener }));
    assertEquals(await answer(source), [
      FrameType.REJECT,
      1,
      `process ${Deno.pid} cannot take it: it takes no listeners`,
    ]);
    source.say(source.offer(pair.server, 2, { data: new TextEncoder().encode("{") }));
    const [type, sequence, reason] = await answer(source);
    assertEquals([type, sequence, reason?.includes("JSON")], [FrameType.REJECT, 2, true], reason);
    for (const refused of [1, 2]) assert(source.decide(refused), "nobody had decided");
    source.say(source.offer(pair.server, 3));
    (await within(5_000, taking)).value?.socket.close();
    assertEquals(await answer(source), [FrameType.TAKEN, 3]);
  });
});

/** Of one hand-off on Unix: the descriptor goes ahead of its frame. */
const onUnix = needs("the unix provider");

Deno.test("an OFFER whose descriptor did not come breaks the channel", onUnix, async () => {
  await withFakeSource(async (source, received) => {
    const first = received.next();
    await greet(source);
    using pair = await connection();
    source.say(source.offer(pair.server, 1));
    (await within(5_000, first)).value?.socket.close();
    assertEquals([await answer(source), await answer(source)], [[FrameType.TAKEN, 1], [FrameType.DONE, 1]]);
    const next = outcome(received.next());
    // The one that came is another OFFER's.
    source.channel.sendDescriptors([7], [pair.server.handle]);
    const payload = encodeOffer({
      kind: OfferedKind.connection,
      decision: 0n,
      blob: new Uint8Array(0),
      data: new Uint8Array(0),
      initialBytes: new Uint8Array(0),
    });
    source.say(encodeFrame(FrameType.OFFER, 2, ...payload));
    assertEquals(await next, ["channel-broken", "OFFER 2 comes without its descriptor"]);
  });
});

Deno.test("a descriptor whose OFFER never follows is closed when the next comes, and at the end", onUnix, async () => {
  await withFakeSource(async (source, received) => {
    const first = received.next();
    await greet(source);
    using stray = await connection();
    using strayToo = await connection();
    using pair = await connection();
    source.channel.sendDescriptors([40], [stray.server.handle]);
    source.say(source.offer(pair.server, 1));
    const { value } = await within(5_000, first);
    source.channel.sendDescriptors([41], [strayToo.server.handle]);
    value?.socket.close();
    await source.channel.end();
    assertEquals((await within(5_000, received.next())).done, true);
    for (const { client, server } of [stray, strayToo]) {
      server.close();
      using conn = client.toConn();
      assert(await within(5_000, readEnd(conn)), "no other copy keeps it open");
    }
  });
});

Deno.test("what came before the source's end can still be taken, and is told of as long as anybody listens", async () => {
  for (const manual of [false, true]) {
    await withFakeSource(async (source, received) => {
      const first = received.next();
      await greet(source);
      using pair = await connection();
      using client = pair.client.toConn();
      const copies = await duplicates(pair.server, 3);
      source.say(...copies.map((copy, index) => source.offer(copy, index + 1)));
      const seen = [(await within(5_000, first)).value!];
      // As a source that is killed: no END.
      await source.channel.end();
      source.endInput();
      pair.server.close();
      for (const copy of copies) copy.close();
      await pause();
      for (const _ of [2, 3]) seen.push((await within(5_000, received.next())).value!);
      assertEquals((await within(5_000, received.next())).done, true);
      for (const one of seen) await one.accept();
      // All three are one connection, which an owner's close would end.
      for (const { socket } of seen.slice(1)) systemCalls().close(socket.detach());
      using conn = (seen[0]!.socket as Socket).toConn();
      await writeText(conn, "alive");
      assertEquals(await readText(client, 5), "alive");
    }, { autoAccept: !manual });
  }
});

Deno.test("a socket withdrawn while the program decides is closed there and open here", async () => {
  await withInProcessPair(async (source, received) => {
    using pair = await connection();
    const abort = new AbortController();
    const sending = assertRejects(() => source.send(pair.server, { signal: abort.signal }), Error, "enough");
    const { value } = await received.next();
    abort.abort(new Error("enough"));
    await sending;
    assertEquals(await outcome(value!.accept()), ["timeout", "the source has withdrawn it"]);
    assertEquals(value!.socket.handle, INVALID_SOCKET);
    assert(pair.server.remoteAddr.port > 0);
    assertEquals(await outcome(value!.accept()), ["timeout", "the source has withdrawn it"], "and it stays so");
    value!.reject("late");
    assert(await isOpen(source));
  }, { autoAccept: false });
});

Deno.test("what was accepted cannot be rejected, and what was rejected not accepted", async () => {
  await withInProcessPair(async (source, received) => {
    using pair = await connection();
    const sending = outcome(source.send(pair.server));
    const first = (await received.next()).value!;
    first.reject("no");
    first.reject("no again");
    assertEquals(await sending, ["rejected", "no"]);
    await assertRejects(() => first.accept(), TypeError, "was rejected");
    const again = source.send(pair.server);
    const second = (await received.next()).value!;
    await second.accept();
    await second.accept();
    await again;
    assertThrows(() => second.reject("too late"), TypeError, "it was accepted");
    second.socket.close();
  }, { autoAccept: false });
});

Deno.test("a socket closed right after it was accepted is the target's loss alone", async () => {
  await withInProcessPair(async (source, received) => {
    using pair = await connection();
    const sending = source.send(pair.server);
    const { value } = await received.next();
    const accepting = value!.accept();
    value!.socket.close();
    await Promise.all([sending, accepting]);
    using other = await connection();
    const again = source.send(other.server);
    const next = (await received.next()).value!;
    await next.accept();
    await again;
    next.socket.close();
    await until(() => observe(source).held === 0, "both are done");
  }, { autoAccept: false });
});

Deno.test("a program sees the documented members of what it receives, and no others", async () => {
  await withInProcessPair(async (source, received) => {
    using pair = await connection();
    const sending = source.send(pair.server, { data: [1], initialBytes: Uint8Array.of(5) });
    const { value } = await received.next();
    await sending;
    assertEquals([value!.data, [...value!.initialBytes]], [[1], [5]]);
    const members = [value!, Object.getPrototypeOf(value!)].map((object) => Reflect.ownKeys(object).toSorted());
    assertEquals(members, [[], ["accept", "constructor", "data", "initialBytes", "reject", "socket"]]);
    assertEquals(Object.getPrototypeOf(Object.getPrototypeOf(value!)), Object.prototype);
    value!.socket.close();
  });
});

Deno.test("a loop that has ended listens to its signal no more", async () => {
  const { signal } = new AbortController();
  const listeners = countListeners(signal);
  await withInProcessPair(async (source, received) => {
    const ended = received.next();
    assertEquals(listeners(), 1);
    await source.close();
    assertEquals([(await ended).done, listeners()], [true, 0]);
  }, { signal });
});

Deno.test("a signal aborted before the loop begins ends it, and the source hears that nobody takes anything", async () => {
  const { child, input } = fakeChild();
  const stdin = child.stdin.getWriter();
  const written = stdin.write(new Uint8Array(100)).then(() => "read", () => "refused");
  const received = receive({ input, signal: AbortSignal.abort() });
  assertEquals((await within(5_000, received.next())).done, true);
  assertEquals(await within(5_000, written), "refused");
});

/** Ends a loop in each of the ways there are. */
const WAYS: Record<string, (received: Received, abort: AbortController) => void> = {
  "return": (received) => void received.return(),
  "abort": (_, abort) => abort.abort(),
  "throw": (received) => void received.throw(new Error("a mistake")).catch(() => {}),
};

for (const [way, leave] of Object.entries(WAYS)) {
  for (const accept of ["automatic", "manual"] as const) {
    Deno.test(`a loop that is left by ${way} rejects what it has not seen at once, ${accept}`, async () => {
      const abort = new AbortController();
      await withInProcessPair(async (source, received) => {
        using pair = await connection();
        const sockets = await duplicates(pair.server, 100);
        const sent = sockets.map((socket) => source.send(socket).then(() => "taken", ({ outcome }) => outcome));
        const seen = [];
        for (let count = 0; count < 20; count++) {
          const { value } = await within(5_000, received.next());
          if (count < 10) await value!.accept();
          seen.push(value!);
        }
        leave(received, abort);
        assertEquals((await received.next()).done, true);
        // What it has seen before it can decide on later.
        for (const one of seen.slice(10)) await one.accept();
        const outcomes = await within(5_000, Promise.all(sent));
        assertEquals(outcomes.slice(0, 20), Array(20).fill("taken"));
        assertEquals(outcomes.slice(20).filter((end) => end !== "rejected" && end !== "closed"), []);
        assertEquals((await source.closed)?.outcome, "closed");
        // All of them can be sent elsewhere.
        await withInProcessPair(async (other, others) => {
          const again = sockets.slice(20).map((socket) => other.send(socket));
          for (const _ of again) (await within(5_000, others.next())).value?.socket.close();
          await Promise.all(again);
        });
        assertEquals(observe(source).held, 20);
        for (const { socket } of seen) socket.close();
        await until(() => observe(source).held === 0, "a loop that was left still tells what is closed");
      }, { autoAccept: accept === "automatic", signal: abort.signal });
    });
  }
}

Deno.test("return resolves the call that waits, and both at once", async () => {
  await withInProcessPair(async (source, received) => {
    const waiting = received.next();
    const more = received.next();
    await source.ready;
    assertEquals(await within(1_000, received.return()), { done: true, value: undefined });
    assertEquals(await within(1_000, Promise.all([waiting, more])), Array(2).fill({ done: true, value: undefined }));
    assertEquals((await within(1_000, source.closed))?.outcome, "closed");
  });
});

Deno.test("return before HELLO ends the loop, and nothing is read", async () => {
  const { child, input } = fakeChild();
  const received = receive({ input });
  const waiting = received.next();
  await within(1_000, received.return());
  assertEquals((await within(1_000, waiting)).done, true);
  assertEquals(await child.stdin.getWriter().write(new Uint8Array(1)).then(() => "read", () => "refused"), "refused");
});

Deno.test("calls that wait get sockets in the order in which both came", async () => {
  await withInProcessPair(async (source, received) => {
    const calls = Array.from({ length: 5 }, () => received.next());
    using pair = await connection();
    const sockets = await duplicates(pair.server, 5);
    await Promise.all(sockets.map((socket, data) => source.send(socket, { data })));
    const values = (await Promise.all(calls)).map(({ value }) => value!);
    assertEquals(values.map(({ data }) => data), [0, 1, 2, 3, 4]);
    for (const { socket } of values) socket.close();
  });
});

Deno.test("an abort in the turn in which a socket came loses nothing: it was taken, or it comes back", async () => {
  let taken = 0;
  for (let turn = 0; turn < 40; turn++) {
    const abort = new AbortController();
    await withInProcessPair(async (source, received) => {
      using pair = await connection();
      const next = received.next();
      await source.ready;
      const sending = source.send(pair.server).then(() => "taken", ({ outcome }) => outcome as string);
      for (let count = 0; count < turn % 8; count++) await new Promise((resolve) => setTimeout(resolve, 0));
      abort.abort();
      const { value } = await within(5_000, next);
      const end = await within(5_000, sending);
      if (value === undefined) {
        assert(end === "rejected" || end === "closed", end);
        assert(pair.server.remoteAddr.port > 0);
      } else {
        assertEquals(end, "taken");
        assertEquals(pair.server.handle, INVALID_SOCKET);
        value.socket.close();
        taken++;
      }
    }, { signal: abort.signal });
  }
  assert(taken > 0 && taken < 40, `${taken} of 40 were taken: the abort came before and after`);
});

Deno.test("a source that breaks off in the middle of a frame ends the loop, and what came whole can be taken", async () => {
  await withFakeSource(async (source, received) => {
    const first = received.next();
    await greet(source);
    using pair = await connection();
    source.say(source.offer(pair.server, 1), source.offer(pair.server, 2).subarray(0, 20));
    await source.channel.end();
    source.endInput();
    (await within(5_000, first)).value?.socket.close();
    assertEquals((await within(5_000, received.next())).done, true);
  });
});

Deno.test("the end of stdin before HELLO ends the loop quietly", async () => {
  await withFakeSource(async (source, received) => {
    const next = received.next();
    source.endInput();
    assertEquals((await within(5_000, next)).done, true);
  });
});

Deno.test("a source that breaks the rules ends the loop with channel-broken, and what was not seen is rejected", async () => {
  const cases: [name: string, frames: (source: FakeSource) => Uint8Array[], reason: string][] = [
    ["garbage", () => [new TextEncoder().encode("hello, are you there?")], "Expected a frame"],
    [
      "version 1",
      () => [Uint8Array.from(encodeFrame(FrameType.END, 0), (b, i) => i === 4 ? 1 : b)],
      "version 2, got 1",
    ],
    ["WITHDRAW for what was not offered", () => [encodeFrame(FrameType.WITHDRAW, 5)], "WITHDRAW is for socket 5"],
    ["WITHDRAW twice", () =>
      [encodeFrame(FrameType.WITHDRAW, 1), encodeFrame(FrameType.WITHDRAW, 1)].concat(
        [encodeFrame(FrameType.WITHDRAW, 1)],
      ), "WITHDRAW is for socket 1, which was not offered"],
    ["an answer to nothing", () => [encodeFrame(FrameType.TAKEN, 1)], "No answer is due for socket 1"],
    ["an answer of a target", () => [encodeFrame(FrameType.DONE, 1)], "Frame type 19 is for a source"],
    ["HELLO again", (source) => [source.hello()], "HELLO was received twice"],
    [
      "an OFFER that is too short",
      () => [encodeFrame(FrameType.OFFER, 9, new Uint8Array(10))],
      "Expected OFFER to have",
    ],
    ["END with a payload", () => [encodeFrame(FrameType.END, 0, new Uint8Array(1))], "has no payload"],
  ];
  for (const [name, frames, reason] of cases) {
    await withFakeSource(async (source, received) => {
      const first = received.next();
      await greet(source);
      using pair = await connection();
      source.say(source.offer(pair.server, 1), source.offer(pair.server, 2));
      const seen = (await within(5_000, first)).value!;
      assertEquals(await answer(source), [FrameType.TAKEN, 1]);
      const offered = source.offer(pair.server, 3);
      source.say(offered);
      await pause();
      source.say(...frames(source));
      const answers = [await answer(source), await answer(source), await answer(source)];
      assertEquals(answers.map(([type, sequence]) => [type, sequence]), [
        [FrameType.REJECT, 2],
        [FrameType.REJECT, 3],
        [undefined, undefined],
      ], name);
      for (const rejected of [2, 3]) assert(source.decide(rejected), "nobody had decided");
      const [how, why] = await outcome(received.next());
      assertEquals([how, why.includes(reason)], ["channel-broken", true], `${name}: ${why}`);
      assertEquals((await received.next()).done, true, "it says so once");
      assert((seen.socket as Socket).remoteAddr.port > 0, "what it has is its own");
      seen.socket.close();
    });
  }
});

Deno.test("what is not HELLO, or not for this process, is refused before anything is opened", async () => {
  const cases: [frames: (source: FakeSource) => Uint8Array<ArrayBuffer>, reason: string][] = [
    [() => new TextEncoder().encode("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "Expected a frame"],
    [() => encodeFrame(FrameType.END, 0), "The first frame is not HELLO"],
    [(source) => source.hello({ targetProcessId: 1 }), "HELLO is for process 1, but this is"],
    [(source) => source.hello({ kind: 9 as 0 }), "a channel of kind 9"],
    [(source) => encodeFrame(FrameType.HELLO, 0, source.hello().subarray(16, 16 + 47)), "Expected HELLO to have"],
  ];
  for (const [frames, reason] of cases) {
    await withFakeSource(async (source, received) => {
      const next = outcome(received.next());
      source.writeInput(frames(source)).catch(() => {});
      const [how, why] = await next;
      assertEquals([how, why.includes(reason)], ["channel-broken", true], why);
    });
  }
});

Deno.test("an error of the channel says that no more can be received", async () => {
  await withFakeSource(async (source, received) => {
    const next = received.next();
    source.writeInput(encodeFrame(FrameType.END, 0)).catch(() => {});
    const { message } = await within(5_000, assertRejects(() => next, HandoffError));
    assertEquals(message, "Cannot receive more sockets (channel-broken): The first frame is not HELLO");
  });
});

Deno.test("options of receive that make no sense are refused before anything is read", () => {
  const { input } = fakeChild();
  const refused = (options: object) => {
    assertThrows(
      () => receive({ input, ...options } as ReceiveOptions),
      TypeError,
      `Invalid \`${Object.keys(options)[0]}\``,
    );
  };
  for (const kinds of [[], ["sockets"], "connection", null]) refused({ kinds });
  for (const autoAccept of ["manual", 0, null]) refused({ autoAccept });
  assertEquals(input.locked, false);
});

Deno.test("only the kinds of sockets that a program names are yielded, with their types", async () => {
  await withInProcessPair(async (source) => {
    const pair = await connection();
    const end = await assertRejects(() => source.send(pair.server), HandoffError);
    assertEquals(end.reason, `process ${Deno.pid} cannot take it: it takes no connections`);
    pair[Symbol.dispose]();
  }, { kinds: ["listener", "datagram"] });
  const { child, input, exit } = fakeChild();
  const source = new HandoffSource(child);
  const received = receive({ input, kinds: ["listener"] });
  const sending = source.send(listen({ hostname: "127.0.0.1", port: 0 }));
  const { value } = await received.next();
  // The type is that of a listener: this would not compile otherwise.
  assert(value!.socket.addr.port > 0);
  value!.socket.close();
  await sending;
  exit(0);
  await source.closed;
  await received.return();
});
