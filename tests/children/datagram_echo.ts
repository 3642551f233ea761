// Answers every datagram on the sockets it receives: who it is, and what was said. Rejects what is no datagram socket.
import { DatagramSocket, receive } from "@winsock/handoff";

const [mode] = Deno.args;
for await (
  const { socket, data } of receive({
    kinds: mode === "connections only" ? ["connection"] : ["connection", "datagram"],
  })
) {
  if (!(socket instanceof DatagramSocket)) continue;
  console.log(JSON.stringify({ pid: Deno.pid, data: data ?? null, addr: socket.addr }));
  answer(socket);
}
console.log("end");

async function answer(socket: DatagramSocket): Promise<void> {
  for await (const [bytes, sender] of socket) {
    const text = new TextDecoder().decode(bytes);
    await socket.send(new TextEncoder().encode(`${Deno.pid} ${text}`), sender);
    if (text === "close") socket.close();
  }
}
