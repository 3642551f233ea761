/**
 * The child of `ours_source.ts`: writes the first byte of every connection and ends it.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { receive } from "@winsock/handoff";
import { profiler } from "./profiler.ts";

const BYTE = Buffer.from("!");
/** The profile leaves out the first hand-offs: the compiler is busy with them. */
const WARM = 300;

const profile = profiler("target");
let count = 0;
for await (const { socket } of receive()) {
  const stream = socket.toNodeSocket();
  stream.on("error", () => {});
  stream.write(BYTE);
  stream.destroySoon();
  if (++count === WARM) await profile.toggle();
}
if (count >= WARM) await profile.toggle();
