// A target that abuses what it shares with its source, on Linux: hostile_target.ts MODE. It has inherited its channel.
import { LIBRARY_PATHS } from "@winsock/handoff";
import { DECISION_SLOTS } from "../../ffi/decisions.ts";
import { duplicateFrom } from "../../ffi/unix/descriptors.ts";
import { sendDescriptors } from "../../ffi/unix/scm_rights.ts";
import { libc } from "../../ffi/unix/libc.ts";
import { stdinInput } from "../../handoff/channel.ts";
import { openTargetChannel } from "../../handoff/spawn.ts";
import {
  decodeHello,
  encodeFrame,
  encodeReady,
  encodeReason,
  type Frame,
  FrameDecoder,
  FrameType,
} from "../../handoff/protocol.ts";

const [mode] = Deno.args;
const TABLE_SIZE = 8192;
const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;

const input = stdinInput();
const [helloFrame] = [...new FrameDecoder().push((await input.read())!)];
const hello = decodeHello(helloFrame!.payload);
const [frames, descriptors, answers, decisions] = hello.descriptors.map((fd) => duplicateFrom(BigInt(fd), 100));
const channel = await openTargetChannel(hello, input);
const say = (type: Frame["type"], sequence: number, ...payload: Uint8Array[]) =>
  channel.answer(encodeFrame(type, sequence, ...payload));
const calls = Deno.dlopen(LIBRARY_PATHS[0]!, {
  ftruncate: { parameters: ["usize", "i64"], result: "i32" },
  fallocate: { parameters: ["usize", "i32", "i64", "i64"], result: "i32" },
  pwrite: { parameters: ["usize", "buffer", "usize", "i64"], result: "i64" },
  mkdirat: { parameters: ["usize", "buffer", "u32"], result: "i32" },
  setsockopt: { parameters: ["usize", "i32", "i32", "buffer", "u32"], result: "i32" },
}).symbols;

const offers: number[] = [];
const decoder = new FrameDecoder();
channel.listen((bytes) => {
  for (const { type, sequence } of decoder.push(bytes)) if (type === FrameType.OFFER) answerOffer(sequence);
}, () => Deno.exit());
say(FrameType.READY, 0, ...encodeReady(Deno.pid, hello.secret));

/** What it does to what it shares, again and again. */
const ABUSES: Record<string, () => void> = {
  scribble: () => calls.pwrite(decisions!, crypto.getRandomValues(new Uint8Array(TABLE_SIZE)), BigInt(TABLE_SIZE), 0n),
  punch: () => calls.fallocate(decisions!, PUNCH_HOLE | KEEP_SIZE, 0n, BigInt(TABLE_SIZE)),
  truncate: () => calls.ftruncate(decisions!, 0n),
  names: () => {
    for (const name of [...Array(DECISION_SLOTS).keys()].flatMap((slot) => [`${slot}`, `${slot}/inside`, `x${slot}`])) {
      calls.mkdirat(decisions!, new TextEncoder().encode(`${name}\0`), 0o700);
    }
  },
};

const abuse = ABUSES[mode!];
if (abuse !== undefined) setInterval(abuse, 1);

/** Says anything that could be an answer. */
function answerOffer(sequence: number): void {
  offers.push(sequence);
  if (abuse !== undefined) {
    if (Math.random() < 0.5) say(FrameType.TAKEN, sequence);
    else say(FrameType.REJECT, sequence, encodeReason("no"));
  } else if (mode === "send") {
    sendBack(channel.takeDescriptor(sequence)!);
  } else if (mode === "close answers") {
    channel.close();
    libc().close(answers!);
    console.log("closed");
  }
}

/** Sends the source what could block it: a descriptor that lingers when it is closed. */
function sendBack(tcp: bigint): void {
  calls.setsockopt(tcp, 1, 13, new Int32Array([1, 8]), 8);
  for (const [name, fd] of [["frames", frames], ["descriptors", descriptors], ["answers", answers]] as const) {
    try {
      console.log(`${name} ${sendDescriptors(fd!, new Uint8Array(1), [tcp]) ? "sent" : "no room"}`);
    } catch (error) {
      console.log(`${name} ${(error as Error).message}`);
    }
  }
}

setTimeout(() => Deno.exit(), 60_000);
