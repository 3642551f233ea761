// Greets each connection of a loop over a listener, in a process that may have few descriptors; closes those whose client
// leaves.
import { listen } from "@winsock/handoff";

// Deno opens two descriptors for signals half a second after its start, unless it has them, and panics if it cannot.
Deno.addSignalListener("SIGINT", () => {});
const listener = listen({ hostname: "127.0.0.1", port: 0 });
console.log(listener.addr.port);
for await (const socket of listener) greet(socket.toConn());

async function greet(conn: Deno.TcpConn): Promise<void> {
  await conn.write(new TextEncoder().encode("!"));
  await conn.read(new Uint8Array(1));
  conn.close();
}
