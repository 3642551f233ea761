// What a target hears of a source that has died, in processes of their own.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { duplicateSocket, HandoffError, receive } from "@winsock/handoff";
import { WSAPROTOCOL_INFOW } from "@winsock/handoff/structs";
import { encodeFrame, FrameType } from "../../handoff/frame.ts";
import { encodeHello } from "../../handoff/payload.ts";
import { connection } from "../kit/connections.ts";
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

/** HELLO of a source whose rendezvous nobody listens at. */
async function strayHello(): Promise<Uint8Array> {
  using pair = await connection();
  const info = WSAPROTOCOL_INFOW.decode(duplicateSocket(pair.server, Deno.pid));
  const { szProtocol } = info;
  const control = WSAPROTOCOL_INFOW.encode({ ...info, szProtocol: szProtocol.replace(/.{8}$/, "-------z") });
  const hello = encodeHello({ sourceProcessId: Deno.pid, targetProcessId: Deno.pid, control });
  return encodeFrame(FrameType.HELLO, 0, ...hello);
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
    assert(reason.includes("WSAECONNREFUSED"), reason);
  });
}
