// Rejects the first socket, accepts the others by hand and greets the peer.
import { receive } from "@winsock/handoff";

let first = true;
for await (const received of receive({ autoAccept: false })) {
  if (first) {
    first = false;
    received.reject("not today");
    continue;
  }
  await received.accept();
  const conn = received.socket.toConn();
  await conn.write(new TextEncoder().encode("hello"));
  conn.close();
}
