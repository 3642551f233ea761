// Takes connections in a process that may have few descriptors. After the first it has no room for another, for a while.
import { receive } from "@winsock/handoff";
import { systemCalls } from "../../ffi/system.ts";

const SETTLE_MS = 300;
const FULL_MS = 1_000;

// Deno opens two descriptors for signals half a second after its start, unless it has them, and panics if it cannot.
Deno.addSignalListener("SIGINT", () => {});
let first = true;
for await (const { socket } of receive()) {
  socket.close();
  // Later, when what taking it needed is closed too.
  if (first) setTimeout(fill, SETTLE_MS);
  else console.log("received");
  first = false;
}

function fill(): void {
  const calls = systemCalls();
  // A socket takes the last place where a pair does not fit.
  const taken = [...untilFull(() => calls.pair()), ...untilFull(() => [calls.open("0.0.0.0")])];
  console.log("full");
  setTimeout(() => {
    for (const descriptor of taken) calls.close(descriptor);
    console.log("free");
  }, FULL_MS);
}

function untilFull(open: () => readonly bigint[]): bigint[] {
  const opened: bigint[] = [];
  for (;;) {
    try {
      opened.push(...open());
    } catch {
      return opened;
    }
  }
}
