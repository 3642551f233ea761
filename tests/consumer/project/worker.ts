// Answers a request on each connection it is handed.
import { receive } from "@winsock/handoff";

for await (const { socket, data } of receive()) {
  using conn = socket.toConn();
  // A connection that is closed before all of it was read is reset.
  await conn.read(new Uint8Array(1024));
  await conn.write(new TextEncoder().encode(JSON.stringify({ data, answeredBy: Deno.pid })));
}
