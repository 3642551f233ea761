// A target that waits for sockets in the background, and has nothing else to do once it has called `unref`.
//   never      does not call it
//   before     calls it before HELLO has come
//   between    calls it after its first socket, when the loop waits for the next one
//   again      calls `unref` and then `ref`
import { receive } from "@winsock/handoff";

const [when] = Deno.args;
const received = receive();
if (when === "before" || when === "again") received.unref();
if (when === "again") received.ref();

(async () => {
  for await (const { socket } of received) {
    using conn = socket.toConn();
    await conn.write(new TextEncoder().encode("hello"));
    if (when === "between") received.unref();
  }
})();
