// Says where it runs: its other arguments, its directory and a variable. As a `target` it does so in a message, takes
// sockets and closes them, and is silent for as many milliseconds as a message says; as a `version` it refuses to serve.
import { inherit, receive } from "@winsock/handoff";

const [as, ...args] = Deno.args;
const where = { args, cwd: Deno.cwd(), greeting: Deno.env.get("GREETING") };
if (as === "version") {
  await (await inherit()).refuse(JSON.stringify(where));
  Deno.exit(0);
}
const received = receive();
received.postMessage(where).catch(() => {});
(async () => {
  for await (const silence of received.messages) {
    // When it has been said that the message was taken.
    setTimeout(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(silence)), 100);
  }
})();
for await (const { socket } of received) socket.close();
