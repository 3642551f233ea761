// One worker of a pool that keeps to the protocol, unless it is the first to start: MARKER MODE.
import { receive } from "@winsock/handoff";
import { stdinInput } from "../../handoff/channel.ts";
import { openTargetChannel } from "../../handoff/spawn.ts";
import {
  decodeHello,
  encodeFrame,
  encodeOffer,
  encodeReady,
  FrameDecoder,
  FrameType,
  OfferedKind,
} from "../../handoff/protocol.ts";

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
    for await (const received of receive({ autoAccept: false })) {
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
  const input = stdinInput();
  const decoder = new FrameDecoder();
  const [helloFrame] = [...decoder.push((await input.read())!)];
  const hello = decodeHello(helloFrame!.payload);
  const channel = await openTargetChannel(hello, input);
  channel.answer(encodeFrame(FrameType.READY, 0, ...encodeReady(Deno.pid, hello.secret)));
  if (mode === "lie") {
    channel.listen((bytes) => {
      for (const { type, sequence } of decoder.push(bytes)) {
        if (type === FrameType.OFFER) channel.answer(encodeFrame(FrameType.TAKEN, sequence));
      }
    }, () => {});
  } else if (mode === "flood") {
    const flood = encodeFrame(FrameType.REJECT, 1, new Uint8Array(4_000));
    setInterval(() => channel.answer(flood), 0);
  } else if (mode === "withdraw") {
    const none = new Uint8Array(0);
    const message = { kind: OfferedKind.message, decision: 0n, blob: none, data: none, initialBytes: none };
    for (let sequence = 1;;) {
      for (let count = 0; count < 100; count++, sequence++) {
        channel.answer(encodeFrame(FrameType.OFFER, sequence, ...encodeOffer(message)));
        channel.answer(encodeFrame(FrameType.WITHDRAW, sequence));
      }
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  }
  // "deaf": never reads again
  await new Promise((resolve) => setTimeout(resolve, 120_000));
}
