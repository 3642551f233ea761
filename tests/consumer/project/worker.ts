// Answers a request on each connection it is handed.
import { receive } from "@winsock/handoff";

for await (const { socket, data } of receive()) {
  using conn = socket.toConn();
  // A connection that is closed before all of it was read is reset. The first read may only have the bytes that the
  // source read before it.
  const buffer = new Uint8Array(1024);
  for (let request = ""; !request.endsWith("\r\n\r\n");) {
    const length = await conn.read(buffer);
    if (length === null) break;
    request += new TextDecoder().decode(buffer.subarray(0, length));
  }
  await conn.write(new TextEncoder().encode(JSON.stringify({ data, answeredBy: Deno.pid })));
}
