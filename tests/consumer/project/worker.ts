// Answers on the connections it is handed.
import { receive } from "@winsock/handoff";

for await (const { socket, data } of receive()) {
  using conn = socket.toConn();
  await conn.write(new TextEncoder().encode(JSON.stringify({ data, answeredBy: Deno.pid })));
}
