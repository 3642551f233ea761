// Takes sockets late, when its source has died.
import { receive } from "@winsock/handoff";

await new Promise((resolve) => setTimeout(resolve, 1_000));
try {
  for await (const { socket } of receive()) socket.close();
  console.log("the loop has ended");
} catch (error) {
  console.log(String(error));
}
