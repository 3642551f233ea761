// Source and target in one process, and what either does when the other breaks the protocol.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { concat } from "@std/bytes/concat";
import {
  duplicateSocket,
  type HandoffChild,
  HandoffError,
  HandoffSource,
  type HandoffSourceOptions,
  type HandoffStep,
  openSocket,
  receive,
  type ReceiveOptions,
  Socket,
  TRACE_CHANNEL,
  WinsockError,
} from "@winsock/handoff";
import { systemCalls } from "../../ffi/system.ts";
import { encodeFrame, type Frame, FrameDecoder, FrameType } from "../../handoff/frame.ts";
import { decodeHello, decodeOffer, encodeHello, encodeOffer, encodeReady } from "../../handoff/payload.ts";
import { adoptStream } from "../../sockets/native_stream.ts";
import { defaultProvider } from "@winsock/handoff/spi";
import diagnostics from "node:diagnostics_channel";
import { connection, readEnd, readText, writeText } from "../kit/connections.ts";
import { countDescriptors } from "../kit/descriptors.ts";
import { assertNothingLeaks } from "../kit/leaks.ts";
import { until, within } from "../kit/process.ts";
import { countListeners } from "../kit/signals.ts";

/** A child that is this process: its stdin is a stream, it ends when it is told. */
function fakeChild(): { child: HandoffChild; input: ReadableStream<Uint8Array>; exit: (code: number) => void } {
  const stdin = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>();
  const status = Promise.withResolvers<Deno.CommandStatus>();
  const child = { pid: Deno.pid, stdin: stdin.writable, status: status.promise } as HandoffChild;
  return { child, input: stdin.readable, exit: (code) => status.resolve({ success: code === 0, code, signal: null }) };
}

/** A source and a target in this process. */
async function together(
  test: (source: HandoffSource, received: ReturnType<typeof receive>, exit: (code: number) => void) => Promise<void>,
  options: ReceiveOptions = {},
): Promise<void> {
  const { child, input, exit } = fakeChild();
  const source = new HandoffSource(child, { timeout: 5_000 });
  const received = receive({ ...options, input });
  try {
    await within(20_000, test(source, received, exit));
  } finally {
    exit(0);
    await within(20_000, source.closed);
    await received.return();
  }
}

/** A target that says what the test wants: frames as they come, and a way to answer. */
async function liar(
  test: (
    source: HandoffSource,
    say: (bytes: Uint8Array) => void,
    frames: () => Promise<Frame>,
    exit: (code: number) => void,
  ) => Promise<void>,
  options: HandoffSourceOptions = {},
): Promise<void> {
  const { child, input, exit } = fakeChild();
  const source = new HandoffSource(child, { timeout: 5_000, ...options });
  const frames = readFrames(input);
  const next = async () => (await within(10_000, frames.next())).value as Frame;
  const control = adoptStream(await defaultProvider().socket(decodeHello((await next()).payload).control));
  control.on("error", () => {});
  try {
    await within(20_000, test(source, (bytes) => control.write(bytes), next, exit));
  } finally {
    control.destroy();
    exit(0);
    await within(20_000, source.closed);
  }
}

async function* readFrames(input: ReadableStream<Uint8Array>): AsyncGenerator<Frame, void, void> {
  const decoder = new FrameDecoder();
  for await (const chunk of input) yield* decoder.push(chunk);
}

async function outcome(promise: Promise<unknown>): Promise<[string, string]> {
  const error = await assertRejects(() => promise, HandoffError);
  return [error.outcome, error.reason];
}

const READY = encodeFrame(FrameType.READY, 0, encodeReady(Deno.pid));

Deno.test("source and target take the documented steps in order", async () => {
  const steps: string[] = [];
  const watch = (message: unknown) => steps.push((message as HandoffStep).step);
  diagnostics.subscribe(TRACE_CHANNEL, watch);
  try {
    await together(async (source, received) => {
      using pair = await connection();
      const sending = source.send(pair.server, { data: 1 });
      const { value } = await received.next();
      await sending;
      assertEquals([source.held, source.inFlight], [1, 0]);
      value?.socket.close();
      await until(() => source.held === 0, "the source hears that the socket was closed");
    });
  } finally {
    diagnostics.unsubscribe(TRACE_CHANNEL, watch);
  }
  const setUp = ["hello-sent", "hello-received", "ready-received"];
  const offer = ["duplicated", "offered", "offer-received", "claimed", "accepted", "accept-received"];
  assertEquals(steps.slice(0, 9), [...setUp, ...offer]);
  assertEquals(steps.slice(9).toSorted(), ["commit-received", "committed", "done", "done"]);
});

Deno.test("a socket that is passed on takes its initial bytes along", async () => {
  await together(async (source, received) => {
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

Deno.test("a target accepts no further ahead than it was told", async () => {
  await together(async (source, received) => {
    using one = await connection();
    using two = await connection();
    const first = source.send(one.server);
    let secondDone = false;
    const second = source.send(two.server).then(() => secondDone = true);
    const taken = received.next();
    await first;
    (await taken).value?.socket.close();
    await second;
    assert(secondDone);
    using three = await connection();
    await assertRejects(() => source.send(three.server, { signal: AbortSignal.timeout(300) }), DOMException);
    assert(three.server.localAddr.port > 0);
  }, { highWaterMark: 1 });
});

Deno.test("a signal aborted right after sending takes the socket back", async () => {
  await together(async (source, received) => {
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

Deno.test("a loop that is left opens nothing that came with the last frames", async () => {
  const { frame, near } = hello();
  using pair = await connection();
  const offers = Array.from({ length: 20 }, (_, index) => {
    const info = duplicateSocket(pair.server, Deno.pid);
    const payload = encodeOffer({ info, data: new Uint8Array(0), initialBytes: new Uint8Array(0) });
    return { info, frame: encodeFrame(FrameType.OFFER, index + 2, ...payload) };
  });
  const abort = new AbortController();
  const input = new TransformStream<Uint8Array, Uint8Array>();
  const writer = input.writable.getWriter();
  const loop = receive({ input: input.readable, signal: abort.signal }).next();
  await writer.write(concat([frame, encodeFrame(FrameType.END, 0), ...offers.map(({ frame }) => frame)]));
  assertEquals((await within(10_000, loop)).done, true);
  await new Promise((resolve) => setTimeout(resolve, 100));
  for (const { info } of offers) (await openSocket(info)).close();
  systemCalls().close(near);
});

Deno.test("a timeout a blob would not outlive is refused", () => {
  const { child } = fakeChild();
  for (const timeout of [0, 30_001, NaN]) {
    assertThrows(() => new HandoffSource(child, { timeout }), RangeError, `The timeout is ${timeout} ms`);
  }
  assertEquals(child.stdin.locked, false);
});

Deno.test("a source that cannot begin leaves nothing behind, and the child's stdin free", async () => {
  const { child } = fakeChild();
  const writer = child.stdin.getWriter();
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
  writer.releaseLock();
  const gone: HandoffChild = { pid: 0x7ffffff0, stdin: child.stdin, status };
  await assertNothingLeaks(() => {
    assertThrows(() => new HandoffSource(gone), WinsockError, "WSAEINVAL");
    assertEquals(child.stdin.locked, false);
  });
});

Deno.test("a source that was closed has not failed, however its child ends", async () => {
  await liar(async (source, say, frames, exit) => {
    say(READY);
    const closing = source.close();
    assertEquals((await frames()).type, FrameType.END);
    exit(0);
    await closing;
    say(new Uint8Array(64));
    await new Promise((resolve) => setTimeout(resolve, 50));
    assertEquals(source.failure, undefined);
    using pair = await connection();
    assertEquals(await outcome(source.send(pair.server)), ["channel-broken", "the source was closed"]);
  });
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
    await liar(async (source, say, frames) => {
      say(READY);
      for (let sequence = 1; sequence <= 2; sequence++) {
        using pair = await connection();
        const sending = source.send(pair.server);
        await refuse(await frames());
        say(encodeFrame(FrameType.ACCEPT, sequence));
        assertEquals((await frames()).type, FrameType.COMMIT);
        await sending;
        say(encodeFrame(FrameType.DONE, sequence));
        await until(() => source.held === 0, "the source hears that the socket was closed");
      }
      assertEquals(source.failure, undefined);
    }, { onRelease });
  } finally {
    removeEventListener("error", onError);
  }
  assertEquals(reported, [mistake, mistake]);
});

Deno.test("a loop that has ended listens to its signal no more", async () => {
  const { signal } = new AbortController();
  const listeners = countListeners(signal);
  await together(async (source, received) => {
    const ended = received.next();
    assertEquals(listeners(), 1);
    await source.close();
    assertEquals([(await ended).done, listeners()], [true, 0]);
  }, { signal });
});

Deno.test("a socket withdrawn while the target decides is closed there and open here", async () => {
  await together(async (source, received) => {
    using pair = await connection();
    const abort = new AbortController();
    const sending = assertRejects(() => source.send(pair.server, { signal: abort.signal }), Error, "enough");
    const { value } = await received.next();
    abort.abort(new Error("enough"));
    await sending;
    assertEquals((await outcome(value!.accept()))[0], "expired");
    assertEquals(value!.socket.handle, (1n << 64n) - 1n);
    assert(pair.server.remoteAddr.port > 0);
  }, { accept: "manual" });
});

Deno.test("what was accepted cannot be rejected, and what was rejected not accepted", async () => {
  await together(async (source, received) => {
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
    await again;
    let message = "";
    try {
      second.reject("too late");
    } catch (error) {
      message = String(error);
    }
    assert(message.includes("it was accepted"));
    second.socket.close();
  }, { accept: "manual" });
});

Deno.test("leaving the loop gives back what was not accepted", async () => {
  await together(async (source, received) => {
    using pair = await connection();
    const sending = outcome(source.send(pair.server));
    await received.next();
    await received.return();
    assertEquals((await sending)[0], "target-died");
    assert(pair.server.remoteAddr.port > 0);
  }, { accept: "manual" });
});

Deno.test("a target that says nonsense breaks the channel, and the socket stays here", async () => {
  const lies: [string, Uint8Array, string][] = [
    ["garbage", new TextEncoder().encode("HTTP/1.1 200 OK\r\n"), "Expected a frame"],
    ["a sequence number nobody used", encodeFrame(FrameType.ACCEPT, 99), "No answer is due for socket 99"],
    ["no sequence number", encodeFrame(FrameType.REJECT, 0), "No answer is due for socket 0"],
    ["that it is ready again", READY, "READY came twice"],
    [
      "that it has closed what it never had",
      encodeFrame(FrameType.DONE, 1),
      "DONE is for socket 1, which the target has not",
    ],
    ["another process's id", encodeFrame(FrameType.READY, 0, encodeReady(1)), "READY comes from process 1"],
    ["a source's frame", encodeFrame(FrameType.COMMIT, 1), "is no answer"],
    [
      "a payload too long",
      encodeFrame(FrameType.REJECT, 1, new Uint8Array(5_000)),
      "A frame announces 5000 bytes, more than 4096",
    ],
  ];
  for (const [name, lie, reason] of lies) {
    await liar(async (source, say, frames) => {
      using pair = await connection();
      say(READY);
      const sending = outcome(source.send(pair.server));
      assertEquals((await frames()).type, FrameType.OFFER);
      say(lie);
      const [how, why] = await sending;
      assertEquals([how, why.includes(reason)], ["channel-broken", true], `${name}: ${why}`);
      assert(pair.server.remoteAddr.port > 0);
    });
  }
});

Deno.test("a target that accepts after its time gets WITHDRAW, not COMMIT", async () => {
  await liar(async (source, say, frames) => {
    using pair = await connection();
    say(READY);
    const sending = outcome(source.send(pair.server));
    const offer = await frames();
    assertEquals((await sending)[0], "expired");
    assertEquals((await frames()).type, FrameType.WITHDRAW);
    say(encodeFrame(FrameType.ACCEPT, offer.sequence));
    const again = source.send(pair.server);
    const second = await frames();
    assertEquals([second.type, second.sequence], [FrameType.OFFER, offer.sequence + 1]);
    say(encodeFrame(FrameType.ACCEPT, second.sequence));
    assertEquals((await frames()).type, FrameType.COMMIT);
    await again;
  }, { timeout: 300 });
});

Deno.test("a target that answers twice breaks the channel, and what it owns stays its own", async () => {
  for (const second of [FrameType.ACCEPT, FrameType.REJECT]) {
    await liar(async (source, say, frames) => {
      using committed = await connection();
      using returned = await connection();
      say(READY);
      const sending = source.send(committed.server);
      const offer = await frames();
      say(encodeFrame(FrameType.ACCEPT, offer.sequence));
      assertEquals((await frames()).type, FrameType.COMMIT);
      await sending;
      const other = outcome(source.send(returned.server));
      assertEquals((await frames()).type, FrameType.OFFER);
      say(encodeFrame(second, offer.sequence));
      const [how, why] = await other;
      assertEquals([how, why.includes("No answer is due")], ["channel-broken", true]);
      assert(returned.server.remoteAddr.port > 0);
    });
  }
});

/** Closes what an offer brings: on Windows a duplicate is in the target's process, claimed or not. */
async function refuse(offer: Frame): Promise<void> {
  assertEquals(offer.type, FrameType.OFFER);
  await openSocket(decodeOffer(offer.payload).info).then((duplicate) => duplicate.close(), () => {});
}

Deno.test("an offer taken back before it leaves never leaves, and a commit neither", async () => {
  await liar(async (source, say, frames) => {
    using first = await connection();
    using second = await connection();
    using third = await connection();
    say(READY);
    await source.ready;
    const sent = outcome(source.send(first.server));
    const accepted = outcome(source.send(second.server));
    const offers = [await frames(), await frames()];
    for (const offer of offers) await refuse(offer);
    const blocking = outcome(source.send(third.server));
    await new Promise((resolve) => setTimeout(resolve, 50));
    say(encodeFrame(FrameType.ACCEPT, offers[1]!.sequence));
    const abort = new AbortController();
    using fourth = await connection();
    const aborted = assertRejects(() => source.send(fourth.server, { signal: abort.signal }), Error, "enough");
    await new Promise((resolve) => setTimeout(resolve, 50));
    abort.abort(new Error("enough"));
    await aborted;
    for (const end of [sent, accepted, blocking]) assertEquals((await end)[0], "expired");
    await refuse(await frames());
    const left = [await frames(), await frames(), await frames()];
    assertEquals(left.map(({ type }) => type), Array(3).fill(FrameType.WITHDRAW));
    assertEquals(left.map(({ sequence }) => sequence).toSorted(), [1, 2, 3]);
    for (const { server } of [first, second, third, fourth]) assert(server.remoteAddr.port > 0);
  }, { timeout: 800 });
});

Deno.test("a send aborted in the turn in which another begins is not offered", async () => {
  await together(async (source, received) => {
    const loop = received.next();
    await source.ready;
    using aborted = await connection();
    using sent = await connection();
    const abort = new AbortController();
    const first = assertRejects(() => source.send(aborted.server, { signal: abort.signal }), Error, "enough");
    const second = source.send(sent.server);
    abort.abort(new Error("enough"));
    await first;
    (await loop).value?.socket.close();
    await second;
    assert(aborted.server.remoteAddr.port > 0);
    const next = received.next();
    await source.close();
    assertEquals((await next).done, true, "nothing else arrives");
    assert(aborted.server.remoteAddr.port > 0);
  });
});

Deno.test("one signal for more sends than may be on their way takes all of them back", async () => {
  await together(async (source, received) => {
    const loop = received.next();
    await source.ready;
    using pair = await connection();
    const sockets: Socket[] = [];
    for (let count = 0; count < 300; count++) {
      sockets.push(await openSocket(duplicateSocket(pair.server, Deno.pid)) as Socket);
    }
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

Deno.test("a socket closed between accept and commit is the target's loss alone", async () => {
  await together(async (source, received) => {
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
    await until(() => source.held === 0, "both are done");
  }, { accept: "manual" });
});

/** Counts the sockets that are offered from now on. */
function countOffers(): { readonly offers: number } & Disposable {
  let offers = 0;
  const watch = (message: unknown) => void ((message as HandoffStep).step === "offered" && offers++);
  diagnostics.subscribe(TRACE_CHANNEL, watch);
  return {
    get offers() {
      return offers;
    },
    [Symbol.dispose]: () => void diagnostics.unsubscribe(TRACE_CHANNEL, watch),
  };
}

/** So many descriptors of one socket. */
async function duplicates(socket: Socket, count: number): Promise<Socket[]> {
  const sockets: Socket[] = [];
  while (sockets.length < count) sockets.push(await openSocket(duplicateSocket(socket, Deno.pid)) as Socket);
  return sockets;
}

for (
  const [bound, count, bytes, left] of [
    ["4 MiB", 100, 100_000, Math.floor(4 * 1024 * 1024 / 100_650)],
    ["256 sockets", 300, 0, 256],
  ] as const
) {
  Deno.test(`for a target that reads nothing no more is kept than ${bound}, and all of it comes back`, async () => {
    using counter = countOffers();
    await liar(async (source, say, frames) => {
      using pair = await connection();
      say(READY);
      await source.ready;
      const sockets = await duplicates(pair.server, count);
      const data = "x".repeat(bytes);
      const sent = sockets.map((socket) => outcome(source.send(socket, { data })));
      assertEquals(source.inFlight, count);
      await until(() => counter.offers > 0, "the first sockets are offered");
      assertEquals(counter.offers, left);
      for (const end of sent) assertEquals((await end)[0], "expired");
      for (const socket of sockets) socket[Symbol.dispose]();
      assertEquals(source.inFlight, 0);
      for (let count = 0; count < left; count++) await refuse(await frames());
      for (let count = 0; count < left; count++) assertEquals((await frames()).type, FrameType.WITHDRAW);
    }, { timeout: 800 });
  });
}

Deno.test("a target that answers nothing is given up when more than 4096 sockets were taken back from it", async () => {
  await liar(async (source, say, frames) => {
    using pair = await connection();
    say(READY);
    await source.ready;
    const sockets = await duplicates(pair.server, 256);
    const takeBack = async (sockets: Socket[]) => {
      const abort = new AbortController();
      const sent = Promise.allSettled(sockets.map((socket) => source.send(socket, { signal: abort.signal })));
      for (const _ of sockets) await refuse(await frames());
      abort.abort();
      for (const { status } of await sent) assertEquals(status, "rejected");
    };
    for (let round = 0; round < 16; round++) {
      await takeBack(sockets);
      for (const _ of sockets) assertEquals((await frames()).type, FrameType.WITHDRAW);
    }
    assertEquals(source.failure, undefined);
    await takeBack(sockets.slice(0, 1));
    assertEquals(source.failure?.reason, `process ${Deno.pid} answers nothing`);
    for (const socket of sockets) {
      assert(socket.remoteAddr.port > 0);
      socket.close();
    }
  });
});

/** What `receive` makes of the bytes of a source that does not keep to the protocol. */
async function receiveFrom(...parts: Uint8Array[]): Promise<unknown> {
  const input = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const part of parts) controller.enqueue(part);
      controller.close();
    },
  });
  return (await receive({ input }).next()).value;
}

/** A HELLO this process would take, and this side's end of its control socket. */
function hello(targetProcessId = Deno.pid): { frame: Uint8Array; near: bigint } {
  const [near, far] = systemCalls().pair();
  const control = defaultProvider().duplicateSocket(far, Deno.pid);
  systemCalls().close(far);
  const payload = encodeHello({ sourceProcessId: Deno.pid, targetProcessId, control });
  return { frame: encodeFrame(FrameType.HELLO, 0, ...payload), near };
}

Deno.test("a source that says nonsense ends the loop with channel-broken", async () => {
  using pair = await connection();
  const offer = (sequence: number) => {
    const info = duplicateSocket(pair.server, Deno.pid);
    return encodeFrame(
      FrameType.OFFER,
      sequence,
      ...encodeOffer({ info, data: new Uint8Array(0), initialBytes: new Uint8Array(0) }),
    );
  };
  assertEquals(await receiveFrom(), undefined);
  assertEquals(
    (await outcome(receiveFrom(new TextEncoder().encode("hello, are you there?"))))[1].includes("Expected a frame"),
    true,
  );
  assertEquals((await outcome(receiveFrom(offer(1))))[1], "The first frame is not HELLO");
  const wrong = hello(1);
  assertEquals((await outcome(receiveFrom(wrong.frame)))[1].includes("HELLO is for process 1, this is"), true);
  systemCalls().close(wrong.near);
  const cases: [Uint8Array[], string][] = [
    [[offer(1), offer(1)], "Socket 1 is offered twice"],
    [[encodeFrame(FrameType.COMMIT, 5)], "COMMIT is for socket 5, which was not accepted"],
    [[encodeFrame(FrameType.COMMIT, 5, new Uint8Array(1))], "type 3 announces 1 bytes, and has no payload"],
    [[encodeFrame(FrameType.WITHDRAW, 5)], "WITHDRAW is for socket 5, which was not offered"],
    [[encodeFrame(FrameType.ACCEPT, 1)], "Frame type 17 is for a source"],
    [[hello().frame], "HELLO came twice"],
    [[encodeFrame(FrameType.OFFER, 1, new Uint8Array(10))], "Expected OFFER to have"],
  ];
  for (const [frames, reason] of cases) {
    const { frame, near } = hello();
    const [how, why] = await outcome(receiveFrom(frame, ...frames));
    assertEquals([how, why.includes(reason)], ["channel-broken", true], why);
    systemCalls().close(near);
  }
});

Deno.test("a source that breaks off in the middle ends the loop, and the connection with it", async () => {
  const { frame, near } = hello();
  using pair = await connection();
  using client = pair.client.toConn();
  const payload = encodeOffer({
    info: duplicateSocket(pair.server, Deno.pid),
    data: new Uint8Array(0),
    initialBytes: new Uint8Array(0),
  });
  const offer = encodeFrame(FrameType.OFFER, 1, ...payload);
  pair.server.close();
  assertEquals(
    await within(10_000, receiveFrom(frame, offer, encodeFrame(FrameType.COMMIT, 1).subarray(0, 9))),
    undefined,
  );
  assert(await readEnd(client));
  systemCalls().close(near);
});

Deno.test("no way a hand-off ends leaves a descriptor behind", async () => {
  const everyWay = async () => {
    await together(async (source, received) => {
      using committed = await connection();
      const sending = source.send(committed.server);
      (await received.next()).value?.socket.close();
      await sending;
    });
    await together(async (source, received, exit) => {
      using rejected = await connection();
      const sending = outcome(source.send(rejected.server));
      (await received.next()).value?.reject("no");
      await sending;
      using died = await connection();
      const dying = outcome(source.send(died.server));
      await received.next();
      exit(1);
      assertEquals((await dying)[0], "target-died");
    }, { accept: "manual" });
    await liar(async (source, say, frames) => {
      using pair = await connection();
      say(READY);
      const sending = outcome(source.send(pair.server));
      // What a target does not claim stays in it, on Windows until it ends.
      (await openSocket(decodeOffer((await frames()).payload).info)).close();
      say(new Uint8Array(64));
      await sending;
    });
    using pair = await connection();
    await assertRejects(() => openSocket(new Uint8Array(628)), Error);
    const unused = duplicateSocket(pair.server, Deno.pid);
    (await openSocket(unused)).close();
  };
  await everyWay();
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  const before = countDescriptors();
  for (let round = 0; round < 10; round++) await everyWay();
  await until(() => countDescriptors() <= before, `there are ${before} descriptors again, not ${countDescriptors()}`);
});
