// Calls receive() after so many milliseconds, and asks for a socket after as many more: BEFORE AFTER.
import { receive } from "@winsock/handoff";

const [before, after] = Deno.args.map(Number);
await new Promise((resolve) => setTimeout(resolve, before));
const incoming = receive();
await new Promise((resolve) => setTimeout(resolve, after));
for await (const { socket } of incoming) socket.close();
