// What a target hears of a source that has died, in processes of their own.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { HandoffError, receive } from "@winsock/handoff";
import { withFakeSource } from "../kit/handoffs.ts";
import { needs } from "../kit/needs.ts";
import { endChild, lines, spawnChild, within } from "../kit/process.ts";

Deno.test("the loop ends quietly if its source died before it began", async () => {
  const source = spawnChild("dying_source.ts", [], ["--allow-run"]);
  try {
    assertEquals(await lines(source)(), "the loop has ended");
    assertEquals((await source.status).success, false);
  } finally {
    await endChild(source);
  }
});

/** HELLO of a source that is not where it says: the last character of the place it names is another. */
async function strayHello(): Promise<Uint8Array> {
  let frame = new Uint8Array(0);
  await withFakeSource((source) => {
    frame = source.hello();
    frame[frame.findLastIndex((byte) => byte !== 0)]! ^= 1;
    return Promise.resolve();
  });
  return frame;
}

for (const [what, then] of [["lives", []], ["says more", [new Uint8Array(1)]]] as const) {
  Deno.test(`a source that is not to be found and ${what} breaks the channel`, needs("the unix provider"), async () => {
    const hello = await strayHello();
    const input = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const chunk of [hello, ...then]) controller.enqueue(chunk);
        if (then.length > 0) controller.close();
      },
    });
    const { outcome, reason } = await within(10_000, assertRejects(() => receive({ input }).next(), HandoffError));
    assertEquals(outcome, "channel-broken");
    assert(/WSAECONNREFUSED|WSAEADDRNOTAVAIL/.test(reason), reason);
  });
}
