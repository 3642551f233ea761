// Fetches its sockets from the server in its environment, and greets on a listener and on a connection.
import { Listener, type Socket } from "@winsock/handoff";
import { receiveSystemfd } from "@winsock/handoff/interop";

using passed = await receiveSystemfd();
for (let position = 0; position < passed.length; position++) {
  const socket = passed.take(position) as Listener | Socket;
  console.log(socket.constructor.name);
  const [what, connected] = socket instanceof Listener
    ? ["listener", await socket.accept()] as const
    : ["connection", socket] as const;
  using conn = connected.toConn();
  await conn.write(new TextEncoder().encode(`${what} of ${Deno.pid}`));
  socket.close();
}
