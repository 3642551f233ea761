// Takes a listener and answers every connection on it.
import { Listener, receive } from "@winsock/handoff";

for await (const { socket } of receive({ kinds: ["connection", "listener"] })) {
  if (socket instanceof Listener) answer(socket);
}

async function answer(listener: Listener): Promise<void> {
  for await (const socket of listener) {
    using conn = socket.toConn();
    await conn.write(new TextEncoder().encode("child"));
  }
}
