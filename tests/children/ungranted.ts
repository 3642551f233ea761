// Says what keeps it from receiving.
import { receive } from "@winsock/handoff";

try {
  for await (const { socket } of receive()) socket.close();
} catch (error) {
  console.log((error as Error).name, (error as Error).message);
}
