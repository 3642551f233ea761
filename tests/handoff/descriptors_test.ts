// On Unix the descriptor of a socket goes ahead of its OFFER. What a target does if one of the two does not come.
import { assert, assertEquals } from "@std/assert";
import { encodeFrame, encodeOffer, FrameType, OfferedKind } from "../../handoff/protocol.ts";
import { connection, readEnd } from "../kit/connections.ts";
import { type FakeSource, outcome, withFakeSource } from "../kit/handoffs.ts";
import { needs } from "../kit/needs.ts";
import { within } from "../kit/process.ts";

const onUnix = needs("the unix provider");

/** Says HELLO, and waits for READY. */
async function greet(source: FakeSource): Promise<void> {
  await source.writeInput(source.hello());
  assertEquals((await source.next())?.type, FrameType.READY);
  source.channel.established();
}

Deno.test("an OFFER whose descriptor did not come breaks the channel", onUnix, async () => {
  await withFakeSource(async (source, received) => {
    const first = received.next();
    await greet(source);
    using pair = await connection();
    source.say(source.offer(pair.server, 1));
    (await within(5_000, first)).value?.socket.close();
    assertEquals([(await source.next())?.type, (await source.next())?.type], [FrameType.TAKEN, FrameType.DONE]);
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
