// A target that breaks the protocol harms its own channel and nothing else: the decision says who owns the socket, and the
// source goes on. Targets are in this process; `hostile_test.ts` has those that need one of their own.
import { assert, assertEquals } from "@std/assert";
import { HandoffSource } from "@winsock/handoff";
import { observe } from "../../handoff/source.ts";
import { INVALID_SOCKET } from "../../ffi/platform.ts";
import { encodeFrame, encodeReady, encodeReason, type Frame, FrameType } from "../../handoff/protocol.ts";
import { connection, readText, writeText } from "../kit/connections.ts";
import {
  duplicates,
  fakeChild,
  type FakeTarget,
  isOpen,
  outcome,
  withFakeTarget,
  withInProcessPair,
} from "../kit/handoffs.ts";
import { until, within } from "../kit/process.ts";

/** A frame as version 1 had it. */
function version1(frame: Uint8Array): Uint8Array {
  frame[4] = 1;
  return frame;
}

type Lie = (target: FakeTarget, offer: Frame) => Uint8Array | Uint8Array[];

/** What a target says of a socket that nobody has decided on, and what the source makes of it. */
const LIES: Record<string, [lie: Lie, reason: string]> = {
  "garbage": [() => new TextEncoder().encode("HTTP/1.1 200 OK\r\n"), "Expected a frame"],
  "a frame of version 1": [
    (_, { sequence }) => version1(encodeFrame(FrameType.TAKEN, sequence)),
    "Expected protocol version 2, got 1",
  ],
  "TAKEN, though it has not decided": [
    (_, { sequence }) => encodeFrame(FrameType.TAKEN, sequence),
    "took a socket that it has not decided on",
  ],
  "an answer to a number nobody used": [() => encodeFrame(FrameType.TAKEN, 99), "No answer is due for socket 99"],
  "an answer to the number of the slot, one round later": [
    (_, { sequence }) => encodeFrame(FrameType.REJECT, sequence + 64, encodeReason("no")),
    "No answer is due for socket 65",
  ],
  "an answer without a number": [() => encodeFrame(FrameType.REJECT, 0), "No answer is due for socket 0"],
  "that it is ready again": [
    ({ hello }) => encodeFrame(FrameType.READY, 0, ...encodeReady(Deno.pid, hello.secret)),
    "READY was received twice",
  ],
  "that it has closed what it never had": [
    (_, { sequence }) => encodeFrame(FrameType.DONE, sequence),
    "DONE is for socket 1, which the target does not have",
  ],
  "a source's frame": [() => encodeFrame(FrameType.END, 0), "Frame type 4 is not an answer"],
  "a payload that is too long": [
    () => encodeFrame(FrameType.REJECT, 1, new Uint8Array(5_000)),
    "A frame announces 5000 bytes, more than 4096",
  ],
  "TAKEN with a payload": [() => encodeFrame(FrameType.TAKEN, 1, new Uint8Array(1)), "has no payload"],
};

for (const [name, [lie, reason]] of Object.entries(LIES)) {
  Deno.test(`a target that says ${name} ends its channel, and the socket stays here`, async () => {
    await withFakeTarget(async (source, target) => {
      using pair = await connection();
      using other = await connection();
      target.ready();
      const sending = outcome(source.send(pair.server));
      const offer = await target.offer();
      const beside = outcome(source.send(other.server));
      await target.drop(await target.offer());
      await target.drop(offer).catch(() => {});
      target.say(...[lie(target, offer)].flat());
      for (const end of [sending, beside]) {
        const [how, why] = await end;
        assertEquals([how, why.includes(reason) || end === beside], ["channel-broken", true], why);
      }
      assertEquals((await within(5_000, source.closed))?.outcome, "channel-broken");
      for (const { server } of [pair, other]) assert(server.remoteAddr.port > 0);
      assertEquals((await outcome(source.send(pair.server)))[0], "channel-broken");
      assertEquals(source.inFlight, 0);
    });
  });
}

Deno.test("a target that rejects what it has decided on ends its channel, and owns the socket", async () => {
  await withFakeTarget(async (source, target) => {
    using pair = await connection();
    using other = await connection();
    target.ready();
    const sending = source.send(pair.server);
    const offer = await target.offer();
    const beside = outcome(source.send(other.server));
    await target.drop(await target.offer());
    assert(target.decide(offer));
    target.say(encodeFrame(FrameType.REJECT, offer.sequence, encodeReason("no")));
    await within(5_000, sending);
    assertEquals(pair.server.handle, INVALID_SOCKET);
    const [how] = await beside;
    assertEquals(how, "channel-broken");
    const failure = await within(5_000, source.closed);
    assert(failure?.reason.includes("is not what was decided"), failure?.reason);
  });
});

Deno.test("a target that answers twice ends its channel, and what it owns stays its own", async () => {
  const { TAKEN, REJECT } = FrameType;
  for (const [first, second] of [[TAKEN, TAKEN], [TAKEN, REJECT], [REJECT, REJECT], [REJECT, TAKEN]] as const) {
    await withFakeTarget(async (source, target) => {
      using answered = await connection();
      using returned = await connection();
      target.ready();
      const sending = source.send(answered.server).then(() => "taken", ({ outcome }) => outcome);
      const offer = await target.offer();
      if (first === TAKEN) assert(await target.take(offer));
      else {
        await target.drop(offer);
        target.say(encodeFrame(REJECT, offer.sequence, encodeReason("no")));
      }
      assertEquals(await sending, first === TAKEN ? "taken" : "rejected");
      const other = outcome(source.send(returned.server));
      await target.drop(await target.offer());
      target.say(encodeFrame(second, offer.sequence));
      const [how, why] = await other;
      assertEquals([how, why.includes("No answer is due")], ["channel-broken", true], why);
      assert(returned.server.remoteAddr.port > 0);
      assertEquals(answered.server.handle === INVALID_SOCKET, first === TAKEN);
    });
  }
});

Deno.test("a target that says DONE more often than it has sockets ends its channel", async () => {
  let released = 0;
  await withFakeTarget(async (source, target) => {
    using pair = await connection();
    target.ready();
    const sending = source.send(pair.server);
    const { sequence } = await target.offer().then(async (offer) => (await target.take(offer), offer));
    await sending;
    target.say(...Array.from({ length: 5_000 }, () => encodeFrame(FrameType.DONE, sequence)));
    const failure = await within(5_000, source.closed);
    assert(failure?.reason.includes(`DONE is for socket ${sequence}`), failure?.reason);
    assertEquals([released, observe(source).held], [1, 0]);
  }, { onRelease: () => released++ });
});

Deno.test("an answer to an offer that has not left is not due", async () => {
  await withFakeTarget(async (source, target) => {
    using pair = await connection();
    target.ready();
    await source.ready;
    const sockets = await duplicates(pair.server, 4);
    const data = "x".repeat(1_000_000);
    // The target reads nothing yet: the first of them fills the way.
    const sent = sockets.slice(0, 3).map((socket) => outcome(source.send(socket, { data })));
    await new Promise((resolve) => setTimeout(resolve, 100));
    const last = outcome(source.send(sockets[3]!));
    await new Promise((resolve) => setTimeout(resolve, 20));
    target.say(encodeFrame(FrameType.TAKEN, 4));
    const [how, why] = await last;
    assertEquals([how, why.includes("No answer is due for socket 4")], ["channel-broken", true], why);
    for (const end of sent) assertEquals((await end)[0], "channel-broken");
    for (const socket of sockets) {
      assert(socket.remoteAddr.port > 0);
      socket.close();
    }
  });
});

Deno.test("a target that says LEAVE again, or before READY, has left, and nothing else", async () => {
  for (const ready of [true, false]) {
    await withFakeTarget(async (source, target) => {
      using pair = await connection();
      const sending = outcome(source.send(pair.server));
      if (ready) {
        target.ready();
        await target.drop(await target.offer());
      }
      target.say(encodeFrame(FrameType.LEAVE, 0), encodeFrame(FrameType.LEAVE, 0), encodeFrame(FrameType.LEAVE, 0));
      if (ready) target.say(encodeFrame(FrameType.REJECT, 1, encodeReason("left")));
      assertEquals(
        await sending,
        ready ? ["rejected", "left"] : ["closed", `process ${Deno.pid} takes no more sockets`],
      );
      assertEquals((await within(5_000, source.closed))?.outcome, "closed");
      assert(pair.server.remoteAddr.port > 0);
    });
  }
});

Deno.test("READY that does not know the secret, or is another process's, ends the channel", async () => {
  const lies: [string, (target: FakeTarget) => Uint8Array[]][] = [
    ["another secret", () => encodeReady(Deno.pid, crypto.getRandomValues(new Uint8Array(16)))],
    ["no secret", () => encodeReady(Deno.pid, new Uint8Array(16))],
    ["another process", ({ hello }) => encodeReady(1, hello.secret)],
  ];
  for (const [name, payload] of lies) {
    await withFakeTarget(async (source, target) => {
      using pair = await connection();
      const sending = outcome(source.send(pair.server));
      const ready = outcome(source.ready);
      target.say(encodeFrame(FrameType.READY, 0, ...payload(target)));
      for (const [how, why] of [await sending, await ready]) {
        assertEquals([how, why.includes("READY comes from process")], ["channel-broken", true], `${name}: ${why}`);
      }
      assert(pair.server.remoteAddr.port > 0);
    });
  }
});

Deno.test("an answer before READY is not due", async () => {
  await withFakeTarget(async (source, target) => {
    using pair = await connection();
    const sending = outcome(source.send(pair.server));
    target.say(encodeFrame(FrameType.TAKEN, 1));
    assertEquals((await sending)[0], "channel-broken");
    assert(pair.server.remoteAddr.port > 0);
  });
});

Deno.test("a target that floods its answers with what means nothing is heard no more after the first", async () => {
  await withFakeTarget(async (source, target) => {
    using pair = await connection();
    target.ready();
    const sending = outcome(source.send(pair.server));
    await target.drop(await target.offer());
    const flood = encodeFrame(FrameType.REJECT, 7, encodeReason("x".repeat(4_000)));
    for (let count = 0; count < 2_000; count++) target.say(flood);
    assertEquals((await sending)[0], "channel-broken");
    // Another channel of this process is not kept from working.
    await withInProcessPair(async (other, received) => {
      const next = received.next();
      const sending = other.send(pair.server);
      (await within(5_000, next)).value?.socket.close();
      await sending;
    });
  });
});

Deno.test("a channel that ends tells who owns what, offer by offer", async () => {
  await withFakeTarget(async (source, target) => {
    using pair = await connection();
    using client = pair.client.toConn();
    target.ready();
    await source.ready;
    const sockets = await duplicates(pair.server, 10);
    const sent = sockets.map((socket) => source.send(socket).then(() => "target", () => "source"));
    for (let count = 0; count < 10; count++) {
      const offer = await target.offer();
      await target.drop(offer);
      if (count % 3 === 0) assert(target.decide(offer));
    }
    target.channel.close();
    const owners = await within(5_000, Promise.all(sent));
    assertEquals(owners, Array.from({ length: 10 }, (_, index) => index % 3 === 0 ? "target" : "source"));
    assertEquals(sockets.map(({ handle }) => handle === INVALID_SOCKET ? "target" : "source"), owners);
    for (const socket of sockets) socket.close();
    using conn = pair.server.toConn();
    await writeText(conn, "alive");
    assertEquals(await readText(client, 5), "alive");
  });
});

Deno.test("a child that never opens its channel ends the wait for it in time, and can do no more", async () => {
  const { child, exit } = fakeChild();
  const source = new HandoffSource(child, { startTimeout: 200 });
  using pair = await connection();
  assertEquals(await outcome(source.send(pair.server)), [
    "timeout",
    `process ${Deno.pid} was not ready after 200 ms`,
  ]);
  assertEquals(await isOpen(source), false);
  assert(pair.server.remoteAddr.port > 0);
  exit(0);
  await until(() => source.inFlight === 0, "nothing is on its way");
});
