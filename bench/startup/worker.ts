// A worker that waits for its first connection.
import { receive } from "@winsock/handoff";

for await (const { socket } of receive()) socket.close();
