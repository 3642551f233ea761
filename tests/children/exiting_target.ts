// Takes one socket and exits with 7, or closes its loop and lives: exiting_target.ts [leave].
import { receive } from "@winsock/handoff";

for await (const { socket } of receive()) {
  socket.close();
  if (Deno.args[0] !== "leave") Deno.exit(7);
  break;
}
console.log("left");
await new Promise((resolve) => setTimeout(resolve, 60_000));
