// A version with two listeners of one name: it says which of them a connection came by. PORTS
import { inherit } from "@winsock/handoff";

const version = await inherit();
// One after the other, and the rest.
const first = version.listen("web", { port: Number(Deno.args[0]) });
const listeners = [first, ...version.takeListeners("web")];
await version.markReady();
await Promise.all(listeners.map(async (listener, index) => {
  for await (const socket of listener) {
    using conn = socket.toConn();
    await conn.write(new TextEncoder().encode(`${Deno.pid} listener ${index}`));
  }
}));
