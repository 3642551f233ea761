// Accepts for the first time when no more than so many descriptors can be opened, and again when there is room.
import { listen, type Listener, type Socket, type WinsockError } from "@winsock/handoff";

// Deno opens two descriptors for signals half a second after its start, unless it has them, and panics if it cannot.
Deno.addSignalListener("SIGINT", () => {});
const listener = listen({ hostname: "127.0.0.1", port: 0 });
console.log(listener.addr.port);
const others: Listener[] = [];
try {
  for (;;) others.push(listen({ hostname: "127.0.0.1", port: 0 }));
} catch {
  for (let spare = Number(Deno.args[0]); spare > 0; spare--) others.pop()!.close();
}
let socket: Socket | undefined;
try {
  socket = await listener.accept();
} catch (error) {
  console.log((error as WinsockError).codeName);
}
for (const other of others) other.close();
socket ??= await listener.accept();
console.log(`accepted ${socket.remoteAddr.port}`);
Deno.exit();
