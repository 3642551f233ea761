// Waits for bytes that never come, on a connection that is not to keep the process running, or is.
import { connect, listen } from "@winsock/handoff";

const [native, kept] = Deno.args;
using listener = listen({ hostname: "127.0.0.1", port: 0 });
const client = (await connect({ port: listener.addr.port })).toConn({ native: native === "true" });
const server = await listener.accept();
client.unref();
if (kept === "true") client.ref();
client.read(new Uint8Array(1)).then(() => {
  console.log("read");
  Deno.exit();
});
console.log("waiting");
// A timer that does not keep the process running either.
Deno.unrefTimer(setTimeout(() => server.toConn().write(new Uint8Array(1)), 300));
