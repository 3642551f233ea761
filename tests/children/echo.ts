// Echoes on every connection it receives, and prints what came along.
import { receive } from "@winsock/handoff";

for await (const { socket, data, initialBytes } of receive()) {
  const conn = socket.toConn();
  console.log(JSON.stringify({ pid: Deno.pid, data: data ?? null, initialBytes: [...initialBytes] }));
  conn.readable.pipeTo(conn.writable).catch(() => {}).finally(() => conn.close());
}
console.log("end");
