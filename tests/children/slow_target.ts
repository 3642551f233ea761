// A target that takes one socket, and others when it is told or its source has ended: slow_target.ts COUNT WHEN [ACCEPT].
// Prints `opened` once COUNT have come, `took N` for each it takes, and `end`.
import { type HandoffStep, receive, TRACE_CHANNEL } from "@winsock/handoff";
import diagnostics from "node:diagnostics_channel";

const [count = "1", when, accept = "automatic"] = Deno.args;
const source = Deno.ppid;
const opened = Promise.withResolvers<void>();
let open = 0;
diagnostics.subscribe(TRACE_CHANNEL, (message) => {
  const { step } = message as HandoffStep;
  if (step === "opened" && ++open === Number(count)) opened.resolve();
});

// Keeps the process when its source, and so all that it waits for, is gone.
const alive = setInterval(() => {}, 1_000);
const received = receive({ autoAccept: accept === "automatic" });
const seen = [(await received.next()).value!];
await opened.promise;
console.log("opened");
if (when === "never") await new Promise(() => {});
while (Deno.ppid === source) await new Promise((resolve) => setTimeout(resolve, 10));
// Long enough for the end of the frames to be read.
await new Promise((resolve) => setTimeout(resolve, 200));
for (let next = await received.next(); !next.done; next = await received.next()) seen.push(next.value);
for (const one of seen) {
  await one.accept();
  const conn = one.socket.toConn();
  await conn.write(new TextEncoder().encode(`yours ${one.data}`));
  conn.close();
  console.log(`took ${one.data}`);
}
console.log("end");
clearInterval(alive);
