// Says when it is about to open its channel, and echoes on every connection it receives.
import { receive } from "@winsock/handoff";

console.log("started");
for await (const { socket } of receive()) {
  const conn = socket.toConn();
  conn.readable.pipeTo(conn.writable).catch(() => {}).finally(() => conn.close());
}
