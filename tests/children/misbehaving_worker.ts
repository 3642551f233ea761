// One worker of a pool that keeps to the protocol, unless it is the first to start: MARKER MODE.
import { receive } from "@winsock/handoff";
import { encodeFrame, FrameDecoder, FrameType } from "../../handoff/frame.ts";
import { decodeHello, encodeReady } from "../../handoff/payload.ts";
import { adoptStream } from "../../sockets/native_stream.ts";
import { defaultProvider } from "../../spi/default_provider.ts";

const [marker = "", mode] = Deno.args;
if (isFirst()) await misbehave();
else await behave();

function isFirst(): boolean {
  try {
    Deno.openSync(marker, { write: true, createNew: true }).close();
    return true;
  } catch {
    return false;
  }
}

async function behave(): Promise<void> {
  for await (const { socket } of receive()) answer(socket.toConn(), "well");
}

async function answer(conn: Deno.TcpConn, how: string): Promise<void> {
  try {
    await conn.write(new TextEncoder().encode(`${how} ${Deno.pid}`));
  } finally {
    conn.close();
  }
}

async function misbehave(): Promise<void> {
  if (mode === "crash") Deno.exit(3);
  if (mode === "slow") {
    for await (const received of receive({ accept: "manual" })) {
      await new Promise((resolve) => setTimeout(resolve, 150));
      try {
        await received.accept();
        answer(received.socket.toConn(), "slowly");
      } catch {
        // the source has taken it back meanwhile
      }
    }
    return;
  }
  const reader = Deno.stdin.readable.getReader();
  const decoder = new FrameDecoder();
  const frames = async () => [...decoder.push((await reader.read()).value!)];
  const [hello] = await frames();
  const control = adoptStream(await defaultProvider().socket(decodeHello(hello!.payload).control));
  control.on("error", () => {});
  control.write(encodeFrame(FrameType.READY, 0, encodeReady(Deno.pid)));
  if (mode === "lie") {
    for (let seen = 0; seen < 3;) {
      for (const { sequence } of await frames()) {
        seen++;
        control.write(encodeFrame(FrameType.ACCEPT, sequence + 1_000));
      }
    }
  } else if (mode === "flood") {
    const flood = encodeFrame(FrameType.REJECT, 1, new Uint8Array(4_000));
    for (;;) if (!control.write(flood)) await new Promise((resolve) => control.once("drain", resolve));
  }
  // "deaf": never reads again
  await new Promise((resolve) => setTimeout(resolve, 120_000));
}
