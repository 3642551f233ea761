/**
 * The child of `channel_source.ts`: closes what it takes.
 *
 * @module
 */
import { receive } from "@winsock/handoff";

for await (const { socket } of receive()) socket.close();
