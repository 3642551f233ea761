// Takes a listener and answers one connection on it.
import { Listener, receive } from "@winsock/handoff";

for await (const { socket } of receive({ kinds: ["connection", "listener"] })) {
  if (!(socket instanceof Listener)) continue;
  console.log("listening");
  using conn = (await socket.accept()).toConn();
  await conn.write(new TextEncoder().encode(`from ${Deno.pid}`));
  await conn.closeWrite();
  await conn.read(new Uint8Array(1));
  socket.close();
}
